"""The triangles of marching cubes, as data.

Which triangles separate the corners of a cube that belong to a region from those that do not: Lorensen & Cline,
SIGGRAPH 1987, in the table that P. Bourke published in "Polygonising a scalar field" (1994), in the choice of
diagonals that pyradiomics uses. A surface's area depends on that choice, so the table must be the same.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CORNERS = ((0, 0, 0), (0, 0, 1), (0, 1, 1), (0, 1, 0), (1, 0, 0), (1, 0, 1), (1, 1, 1), (1, 1, 0))
"""Corners of a cube ``(z, y, x)``; corner k is bit k of a configuration."""

EDGES = ((0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4), (0, 4), (1, 5), (2, 6), (3, 7))
"""Corners that each edge joins; a vertex lies halfway."""

# One word a configuration, 0 to 127; each three digits are the edges (a = 10, b = 11) of a triangle's corners.
# Configuration 255 - k has the triangles of k, turned round.
_TRIANGLES = """
    - 083 190 183198 12a 08312a 92a029 2832a8a98 b23 b2008b 190b23 b2119b98b 3a1ba3 a1008a8ba 9033b9ba9
    98aba8 478 043473 190478 194147173 12a478 34730412a 92a902478 2a9297273479 478b23 b47b24204
    190478b23 47b94bb29192 3a1ba3478 ba114b10447b 4789033b9ba9 47b4b99ba 954 954083 054015 854835315
    12a954 08312a954 2a5542240 2a5325354834 954b23 b2008b954 054015b23 215258b28548 3a1ba3954
    549a1008a8ba 54050ba5bb03 548a58ba8 789579 309539357 780017715 157173 78957912a 12a309395357
    0288258572a5 2a5253357 579789b23 579972209b27 b23018178157 21b17b157 7895793a1ba3 5705097b0a10ba0
    ba003ba50078570 ba557b 65a 08365a 19065a 18319865a 165126 165126083 965906026 598582526832 b2365a
    b2008b65a 190b2365a b2119b98b65a 63b653513 08b0b50515b6 63b036065059 65969bb98 47865a 04347365a
    19047865a 19414717365a 478165126 043473165126 478965906026 739479329596269 b2347865a b47b2420465a
    190b2347865a 47b94bb2919265a 47863b653513 51b5b610b47b04b 47863b036065059 65969b4797b9 a4964a
    a4964a083 01aa60640 18316886461a 149124264 149124264083 024426 832824426 b23a4964a b2008ba4964a
    b2301aa60640 64161a148b2118b 964369139b63 18b081b61149641 63b036640 86468b 67a78a89a 67a0a709a073
    67a1a7178018 67a1a7173 126168189678 269129679309739 078706602 273267 b2367a78a89a 207b2709767a9a7
    67a1a7178018b23 b2117ba61167 896678169b63136 09167b 07870603bb60 67b
""".split()  # noqa: SIM905 (a list of 128 literals is not easier to read)


def triangles(configuration: int) -> NDArray[np.float64]:
    """Return the corners of a configuration's triangles in units of a voxel.

    Parameters
    ----------
    configuration
        Sum of ``2 ** k`` over the cube's corners k that belong to the region, 0 to 255.

    Returns
    -------
    ndarray
        float64, shape ``(n_triangle, 3, 3)``: triangle, its corner, ``(z, y, x)``. All triangles turn the same way
        round seen from inside the region.

    """
    word = _TRIANGLES[min(configuration, 255 - configuration)].strip("-")
    edges = [int(digit, 12) for digit in word]
    middles = np.array(CORNERS, dtype=np.float64)[np.array(EDGES)].mean(axis=1)
    found = middles[edges].reshape(-1, 3, 3)
    return found if configuration < 128 else found[:, ::-1]
