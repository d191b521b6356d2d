"""Counting loops: they know arrays, never images, files or settings.

Textures are counted from what `cast` has checked, as integers; `reduce` and `statistics` then add up what formulas
need; interpolation and filters give doubles in their reference's own order of operations. Features are formulas over
those sums and live in `hgpscale.features`.
"""

from __future__ import annotations


def warm_up() -> None:
    """Compile every kernel for int16 scans, or load it from numba's cache on disk, so that no lesion pays for it."""
    import numpy as np

    from hgpscale.kernels.bspline import WHOLE, interpolate_box, interpolate_points, spline_coefficients
    from hgpscale.kernels.cast import level_grid, padded_box
    from hgpscale.kernels.chains import count_chains
    from hgpscale.kernels.digitize import digitize
    from hgpscale.kernels.distances import longest_distance
    from hgpscale.kernels.gldm import count_dependence
    from hgpscale.kernels.glszm import zones
    from hgpscale.kernels.gradient import gradient_magnitude
    from hgpscale.kernels.ngtdm import count_differences, sum_neighbours
    from hgpscale.kernels.offsets import all_offsets, half_offsets
    from hgpscale.kernels.pairwise import piece_starts, sum_of_pieces
    from hgpscale.kernels.recursive_gaussian import add_scaled, filter_lines
    from hgpscale.kernels.reduce import occurring, sum_level_pairs, sum_pairs, sum_sizes
    from hgpscale.kernels.statistics import central_sums, deviation_between, order_statistics
    from hgpscale.kernels.surface import corners_by_plane, count_cubes, row_sums, surface_points
    from hgpscale.kernels.surface_distance import crossing_distance
    from hgpscale.kernels.wavelet import convolve

    values, levels, one = np.arange(8.0), np.array([1]), np.ones(1)
    bins, _ = digitize(np.zeros(8), np.array([0.0, 1.0]))
    box = padded_box(np.ones((2, 2, 2), dtype=bool), reach=1)
    grid, offsets = level_grid(bins, levels, box), all_offsets((1,))
    count_chains([grid], half_offsets((1,)), 2)
    zones(grid)
    count_dependence(grid, levels, offsets, 0)
    n_neighbour = sum_neighbours(box.fill(bins, np.ones(2, dtype=np.int32)), box, (1,), None)
    count_differences(bins, levels, box, (1,), None, n_neighbour)
    sum_pairs(np.ones((1, 1, 1)), levels, *occurring(levels))
    sum_sizes(np.ones((1, 1, 1)), one, one)
    sum_level_pairs(one, one, one)
    order_statistics(values, np.array([1]))
    central_sums(values, 0.0, 0.0)
    deviation_between(values, 0.0, 1.0)
    sum_of_pieces(np.ones(piece_starts(1).size - 1), 1)
    mask = np.pad(np.ones((1, 1, 1), dtype=bool), 1)
    row_sums(mask[0])
    count_cubes(mask)
    corners_by_plane(surface_points(mask), 0)
    crossing_distance(np.arange(8.0).reshape(2, 2, 2), 3.5, (1.0, 1.0, 1.0))
    longest_distance(np.zeros((2, 3)), np.zeros(2, dtype=np.int64))
    at = np.zeros(1)
    interpolate_points(np.ones((2, 2, 2)), (0, 0, 0), (2, 2, 2), np.zeros((1, 3)))
    scan = np.ones((2, 2, 2), np.int16)  # other types compile when they are met
    interpolate_box(spline_coefficients(scan, ((0, 2),) * 3), (0, 0, 0), (2, 2, 2), at, at, at, WHOLE)
    convolve(np.zeros((1, 4, 1)), np.zeros(2), 0, 4, np.zeros((1, 3, 1)))
    gradient_magnitude(np.ones((3, 3, 3), np.int16), 1.0, 1.0, 1.0, np.empty((1, 1, 1), np.float32))
    single, weights = np.zeros((1, 4, 1), np.float32), np.zeros((3, 4))
    filter_lines(single, weights, weights, 0, single.copy())
    add_scaled(single, 1.0, single.copy())
