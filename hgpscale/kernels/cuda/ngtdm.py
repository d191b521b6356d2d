"""Grey tone difference: each thread adds up the neighbours of its own voxel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import cuda
from numpy.typing import NDArray

from hgpscale.kernels.cast import Box, level_grid
from hgpscale.kernels.cuda.jit import kernel, launch
from hgpscale.kernels.cuda.memory import put, zeros
from hgpscale.kernels.cuda.stack import Stack, starts, upload
from hgpscale.kernels.offsets import all_offsets


def sum_neighbours(
    flat: NDArray[np.int32], box: Box, distances: tuple[int, ...], across: int | None
) -> NDArray[np.int32]:
    """Return the sum of each voxel's neighbours: `hgpscale.kernels.ngtdm.sum_neighbours` on the GPU."""
    return np.asarray(sum_neighbours_of(put(flat), put(box.voxels), box, distances, across).copy_to_host())


def sum_neighbours_of(flat: Any, voxels: Any, box: Box, distances: tuple[int, ...], across: int | None) -> Any:
    """Return the same of what is on the GPU, there: int32, laid out in the box."""
    steps = put(box.steps(all_offsets(distances, across)))
    total = zeros((box.size,), np.int32)
    launch(_sum, box.voxels.size, flat, voxels, steps, total)
    return total


def count_differences(
    bins: NDArray[np.int32],
    levels: NDArray[np.int64],
    box: Box,
    distances: tuple[int, ...],
    across: int | None,
    n_neighbour: NDArray[np.int32],
) -> NDArray[np.int64]:
    """Add up differences to the neighbours: `hgpscale.kernels.ngtdm.count_differences` on the GPU."""
    return count_differences_of_images([bins], [levels], box, distances, across, n_neighbour)[0]


def count_differences_of_images(
    bins: Sequence[NDArray[np.int32]],
    levels: Sequence[NDArray[np.int64]],
    box: Box,
    distances: tuple[int, ...],
    across: int | None,
    n_neighbour: NDArray[np.int32],
) -> list[NDArray[np.int64]]:
    """Add up differences in several images of one region, as `count_differences` does in one."""
    first = starts([found.size for found in levels])
    stack = upload([level_grid(image, found, box) for image, found in zip(bins, levels, strict=True)])
    differences = count_differences_of(stack, put(n_neighbour), levels, distances, across).copy_to_host()
    return [differences[first[k] : first[k + 1]] for k in range(len(bins))]


def count_differences_of(
    stack: Stack,
    n_neighbour: Any,
    levels: Sequence[NDArray[np.int64]],
    distances: tuple[int, ...],
    across: int | None,
) -> Any:
    """Add up differences in images that are on the GPU.

    Parameters
    ----------
    stack
        The images.
    n_neighbour
        Numbers of neighbours laid out in the box, on the GPU.
    levels
        The levels found in each image.
    distances, across
        As in `count_differences`.

    Returns
    -------
    device array
        int64, shape ``(sum of n_levels, most + 1)``: one image after the other.

    """
    offsets = all_offsets(distances, across)
    first = starts([found.size for found in levels])
    # Of each image the level of rank 0 too, which is 0: so voxels outside add nothing.
    level_of = np.concatenate([np.concatenate([[0], found]) for found in levels]).astype(np.int32)
    differences = zeros((int(first[-1]), len(offsets) + 1), np.int64)
    tables = put(stack.box.steps(offsets)), put(first), put(level_of)
    launch(_add_differences, stack.n_thread, stack.flats, stack.voxels, n_neighbour, *tables, differences)
    return differences


@kernel
def _sum(flat: NDArray[np.int32], voxels: NDArray[np.int64], steps: NDArray[np.int64], total: Any) -> None:
    thread = cuda.grid(1)
    if thread >= voxels.size:
        return
    p, found = voxels[thread], np.int32(0)
    for d in range(steps.size):
        found += flat[p + steps[d]]
    total[p] = found


@kernel
def _add_differences(
    flats: NDArray[np.uint16],
    voxels: NDArray[np.int64],
    n_neighbour: NDArray[np.int32],
    steps: NDArray[np.int64],
    first: NDArray[np.int64],
    level_of: NDArray[np.int32],
    differences: NDArray[np.int64],
) -> None:
    thread = cuda.grid(1)
    if thread >= flats.shape[0] * voxels.size:
        return
    image, p = thread // voxels.size, voxels[thread % voxels.size]
    flat, row = flats[image], first[image] + image
    around = np.int64(0)
    for d in range(steps.size):
        around += level_of[row + flat[p + steps[d]]]
    level, n = np.int64(level_of[row + flat[p]]), np.int64(n_neighbour[p])
    cuda.atomic.add(differences, (first[image] + flat[p] - 1, n), abs(n * level - around))
