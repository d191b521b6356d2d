"""Grey level dependence: how many neighbours of each voxel have nearly its level."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hgpscale.kernels.cast import LevelGrid
from hgpscale.kernels.jit import kernel


def count_dependence(
    grid: LevelGrid, levels: NDArray[np.int64], offsets: NDArray[np.int64], alpha: int
) -> NDArray[np.int64]:
    """Count voxels by rank and by how many of their neighbours depend on them.

    Parameters
    ----------
    grid
        The region.
    levels
        Grey level of each rank, ascending, shape ``(n_levels,)``.
    offsets
        The neighbours ``(dz, dy, dx)``, shape ``(n_offset, 3)``.
    alpha
        Largest difference of level at which a neighbour is dependent (pyradiomics' ``gldm_a``).

    Returns
    -------
    ndarray
        int64, shape ``(n_levels, n_offset + 1)``: voxels of rank i + 1 with j dependent neighbours.

    """
    box = grid.box
    low, high = dependent_ranks(levels, alpha)
    return _count_dependence(grid.flat, box.spans, box.longest_span, box.steps(offsets), low, high)[1:]


def dependent_ranks(levels: NDArray[np.int64], alpha: int) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Return the lowest and the highest rank whose level is within `alpha` of each rank's, shape ``(n_levels + 1,)``.

    Rank 0 comes first and has only itself.
    """
    low = np.concatenate([[0], np.searchsorted(levels, levels - alpha, side="left") + 1]).astype(np.uint16)
    high = np.concatenate([[0], np.searchsorted(levels, levels + alpha, side="right")]).astype(np.uint16)
    return low, high


@kernel
def _count_dependence(
    flat: NDArray[np.uint16],
    spans: NDArray[np.int64],
    longest: int,
    steps: NDArray[np.int64],
    low: NDArray[np.uint16],
    high: NDArray[np.uint16],
) -> NDArray[np.int64]:
    counts = np.zeros((low.size, steps.size + 1), dtype=np.int64)
    lowest = np.empty(longest, dtype=np.uint16)
    highest = np.empty(longest, dtype=np.uint16)
    dependent = np.empty(longest, dtype=np.uint16)
    for s in range(spans.shape[0]):
        first = np.uint64(spans[s, 0])
        length = np.uint64(spans[s, 1])
        dependent[:] = 0
        for k in range(length):
            rank = flat[first + k]
            lowest[k] = low[rank]
            highest[k] = high[rank]
        for d in range(steps.size):
            there = np.uint64(spans[s, 0] + steps[d])
            for k in range(length):
                other = flat[there + k]
                dependent[k] += np.uint16((other >= lowest[k]) & (other <= highest[k]))
        for k in range(length):
            counts[flat[first + k], dependent[k]] += 1
    return counts
