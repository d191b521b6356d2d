"""Which neighbours a distance means."""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
from numpy.typing import NDArray


@cache
def half_offsets(distances: tuple[int, ...], across: int | None = None) -> NDArray[np.int64]:
    """Return the offsets ``(dz, dy, dx)`` at the given Chebyshev distances, one of each opposite pair.

    Shape ``(n, 3)``: 13 for distance 1, 49 more for distance 2. The first non-zero component is positive, so the
    neighbour comes later in raster order; pyradiomics lists them in the same order. With `across`, only those in the
    plane at right angles to that axis: 4 for distance 1.
    """
    far = max(distances)
    steps = range(far, -far - 1, -1)
    found = [o for o in product(steps, steps, steps) if o > (0, 0, 0) and max(map(abs, o)) in distances]
    return np.array([o for o in found if across is None or o[across] == 0], dtype=np.int64)


@cache
def all_offsets(distances: tuple[int, ...], across: int | None = None) -> NDArray[np.int64]:
    """Return the offsets at the given distances in both directions, shape ``(2 n, 3)``."""
    half = half_offsets(distances, across)
    return np.concatenate([half, -half])
