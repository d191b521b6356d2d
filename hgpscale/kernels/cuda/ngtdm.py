"""Grey tone difference: each thread adds up the neighbours of its own voxel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import cuda
from numpy.typing import NDArray

from hgpscale.kernels.cast import Box
from hgpscale.kernels.cuda.jit import device, kernel, launch
from hgpscale.kernels.cuda.stack import starts, zeros
from hgpscale.kernels.offsets import all_offsets


def sum_neighbours(
    flat: NDArray[np.int32], box: Box, distances: tuple[int, ...], across: int | None
) -> NDArray[np.int32]:
    """Return the sum of each voxel's neighbours: `hgpscale.kernels.ngtdm.sum_neighbours` on the GPU."""
    steps = cuda.to_device(box.steps(all_offsets(distances, across)))
    total = zeros(box.size, np.int32)
    launch(_sum, box.voxels.size, cuda.to_device(flat), cuda.to_device(box.voxels), steps, total)
    return np.asarray(total.copy_to_host())


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
    on_device = cuda.to_device(np.stack(bins)), cuda.to_device(box.voxels), cuda.to_device(n_neighbour)
    differences = count_differences_of(*on_device, levels, box, distances, across).copy_to_host()
    return [differences[first[k] : first[k + 1]] for k in range(len(bins))]


def count_differences_of(
    bins: Any,
    voxels: Any,
    n_neighbour: Any,
    levels: Sequence[NDArray[np.int64]],
    box: Box,
    distances: tuple[int, ...],
    across: int | None,
) -> Any:
    """Add up differences in images that are on the GPU.

    Parameters
    ----------
    bins
        Grey levels, int32 on the GPU, shape ``(n_image, n_voxel)``.
    voxels, n_neighbour
        Positions of the region's voxels, and the numbers of neighbours laid out in the box, on the GPU.
    levels
        The levels found in each image.
    box, distances, across
        As in `count_differences`.

    Returns
    -------
    device array
        int64, shape ``(sum of n_levels, most + 1)``: one image after the other.

    """
    offsets = all_offsets(distances, across)
    first = starts([found.size for found in levels])
    first_entry = starts([int(found[-1]) + 1 for found in levels])
    row_of = np.zeros(int(first_entry[-1]), dtype=np.int64)
    for k, found in enumerate(levels):
        row_of[first_entry[k] + found] = first[k] + np.arange(found.size)
    flats = zeros((bins.shape[0], box.size), np.int32)
    differences = zeros((int(first[-1]), len(offsets) + 1), np.int64)
    tables = cuda.to_device(box.steps(offsets)), cuda.to_device(first_entry), cuda.to_device(row_of)
    n = bins.shape[0] * bins.shape[1]
    launch(_lay, n, bins, voxels, flats)
    launch(_add_differences, n, flats, voxels, n_neighbour, *tables, differences)
    return differences


@device
def _around(flat: NDArray[np.int32], p: int, steps: NDArray[np.int64]) -> np.int32:
    total = np.int32(0)
    for d in range(steps.size):
        total += flat[p + steps[d]]
    return total


@kernel
def _sum(flat: NDArray[np.int32], voxels: NDArray[np.int64], steps: NDArray[np.int64], total: Any) -> None:
    thread = cuda.grid(1)
    if thread < voxels.size:
        total[voxels[thread]] = _around(flat, voxels[thread], steps)


@kernel
def _lay(bins: NDArray[np.int32], voxels: NDArray[np.int64], flats: NDArray[np.int32]) -> None:
    thread = cuda.grid(1)
    if thread < bins.shape[0] * voxels.size:
        image, k = thread // voxels.size, thread % voxels.size
        flats[image, voxels[k]] = bins[image, k]


@kernel
def _add_differences(
    flats: NDArray[np.int32],
    voxels: NDArray[np.int64],
    n_neighbour: NDArray[np.int32],
    steps: NDArray[np.int64],
    first_entry: NDArray[np.int64],
    row_of: NDArray[np.int64],
    differences: NDArray[np.int64],
) -> None:
    thread = cuda.grid(1)
    if thread >= flats.shape[0] * voxels.size:
        return
    image, p = thread // voxels.size, voxels[thread % voxels.size]
    flat = flats[image]
    level, n = np.int64(flat[p]), np.int64(n_neighbour[p])
    difference = abs(n * level - np.int64(_around(flat, p, steps)))
    cuda.atomic.add(differences, (row_of[first_entry[image] + level], n), difference)
