"""Counting loops: they know arrays, never images, files or settings.

Every function here takes what `cast` has checked and returns integers (or, for interpolation, doubles in ITK's
own order of operations); features are formulas over those counts and live in `hgpscale.features`.
"""

from __future__ import annotations


def warm_up() -> None:
    """Compile every kernel, or load it from numba's cache on disk, so that no lesion pays for it."""
    import numpy as np

    from hgpscale.kernels.bspline import interpolate_box, interpolate_points, spline_coefficients
    from hgpscale.kernels.cast import level_grid
    from hgpscale.kernels.digitize import digitize
    from hgpscale.kernels.distances import longest_distance
    from hgpscale.kernels.glcm import count_pairs
    from hgpscale.kernels.glrlm import count_runs
    from hgpscale.kernels.glszm import zones
    from hgpscale.kernels.neighbours import count_neighbours

    mask = np.ones((2, 2, 2), dtype=bool)
    grid = level_grid(np.ones(8, dtype=np.int64), mask, reach=1)
    count_pairs(grid, (1,))
    count_runs(grid)
    zones(grid)
    count_neighbours(grid, np.array([1]), (1,), 0)
    digitize(np.zeros(1), np.array([0.0, 1.0]))
    longest_distance(np.zeros((2, 3)), np.zeros(2, dtype=np.int64))
    at = np.zeros(1)
    interpolate_points(np.ones((2, 2, 2)), (0, 0, 0), (2, 2, 2), np.zeros((1, 3)))
    interpolate_box(spline_coefficients(np.ones((2, 2, 2)), ((0, 2),) * 3), (0, 0, 0), (2, 2, 2), at, at, at, True)
