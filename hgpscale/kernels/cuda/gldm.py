"""Grey level dependence: each thread looks at the neighbours of its own voxel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import cuda
from numpy.typing import NDArray

from hgpscale.kernels.cast import LevelGrid
from hgpscale.kernels.cuda.jit import kernel, launch
from hgpscale.kernels.cuda.memory import put, zeros
from hgpscale.kernels.cuda.stack import Stack, starts, upload
from hgpscale.kernels.gldm import dependent_ranks


def count_dependence(
    grid: LevelGrid, levels: NDArray[np.int64], offsets: NDArray[np.int64], alpha: int
) -> NDArray[np.int64]:
    """Count voxels by rank and dependent neighbours: `hgpscale.kernels.gldm.count_dependence` on the GPU."""
    return count_dependence_of_images([grid], [levels], offsets, alpha)[0]


def count_dependence_of_images(
    grids: Sequence[LevelGrid], levels: Sequence[NDArray[np.int64]], offsets: NDArray[np.int64], alpha: int
) -> list[NDArray[np.int64]]:
    """Count several images of one region, as `count_dependence` does one."""
    first = starts([found.size for found in levels])
    counts = count_dependence_of(upload(grids), levels, offsets, alpha).copy_to_host().astype(np.int64)
    return [counts[first[k] : first[k + 1]] for k in range(len(grids))]


def count_dependence_of(
    stack: Stack, levels: Sequence[NDArray[np.int64]], offsets: NDArray[np.int64], alpha: int
) -> Any:
    """Count images that are on the GPU.

    Returns
    -------
    device array
        int32, shape ``(sum of n_levels, n_offset + 1)``: one image after the other.

    """
    first = starts([found.size for found in levels])
    ranges = [dependent_ranks(found, alpha) for found in levels]
    low, high = (put(np.concatenate([pair[end][1:] for pair in ranges])) for end in (0, 1))
    counts = zeros((int(first[-1]), len(offsets) + 1), np.int32)
    steps = put(stack.box.steps(offsets))
    launch(_count, stack.n_thread, stack.flats, stack.voxels, steps, put(first), low, high, counts)
    return counts


@kernel
def _count(
    flats: NDArray[np.uint16],
    voxels: NDArray[np.int64],
    steps: NDArray[np.int64],
    first: NDArray[np.int64],
    low: NDArray[np.uint16],
    high: NDArray[np.uint16],
    counts: NDArray[np.int32],
) -> None:
    thread = cuda.grid(1)
    if thread >= flats.shape[0] * voxels.size:
        return
    image, p = thread // voxels.size, voxels[thread % voxels.size]
    flat = flats[image]
    row = first[image] + flat[p] - 1
    lowest, highest = low[row], high[row]
    dependent = 0
    for d in range(steps.size):
        if lowest <= flat[p + steps[d]] <= highest:
            dependent += 1
    cuda.atomic.add(counts, (row, dependent), 1)
