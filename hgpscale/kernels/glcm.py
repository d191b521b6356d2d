"""Grey level co-occurrence: pairs of levels, by direction."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hgpscale.kernels.cast import LevelGrid
from hgpscale.kernels.jit import kernel
from hgpscale.kernels.offsets import half_offsets


def count_pairs(grid: LevelGrid, distances: tuple[int, ...]) -> NDArray[np.int64]:
    """Count pairs of neighbouring voxels by their ranks.

    Returns
    -------
    ndarray
        int64, shape ``(n_offset, n_levels, n_levels)``: voxels of rank i + 1 whose neighbour at the offset (see
        `half_offsets`) has rank j + 1.

    """
    steps = grid.steps(half_offsets(distances))
    return _count_pairs(grid.flat, grid.voxels, steps, grid.n_levels)[:, 1:, 1:]


@kernel
def _count_pairs(
    flat: NDArray[np.uint16], voxels: NDArray[np.int64], steps: NDArray[np.int64], n_levels: int
) -> NDArray[np.int64]:
    side = n_levels + 1
    counts = np.zeros((steps.size, side, side), dtype=np.int64)
    for d in range(steps.size):
        step = steps[d]
        table = counts[d].reshape(-1)
        for k in range(voxels.size):
            p = voxels[k]
            table[np.uint64(flat[p]) * np.uint64(side) + np.uint64(flat[p + step])] += 1
    return counts
