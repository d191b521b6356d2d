"""Grey level zones: labels spread between voxels that touch until each zone has the label of its first voxel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import cuda
from numpy.typing import NDArray

from hgpscale.kernels.cast import LevelGrid
from hgpscale.kernels.cuda.jit import device, kernel, launch
from hgpscale.kernels.cuda.memory import empty, put, zeros
from hgpscale.kernels.cuda.stack import Stack, upload
from hgpscale.kernels.offsets import half_offsets

Zones = tuple[NDArray[np.int64], NDArray[np.int64]]


def zones(grid: LevelGrid, across: int | None = None) -> Zones:
    """Find all zones: `hgpscale.kernels.glszm.zones` on the GPU, in the same order."""
    return zones_of_images([grid], across)[0]


def zones_of_images(grids: Sequence[LevelGrid], across: int | None = None) -> list[Zones]:
    """Find the zones of several images of one region, as `zones` does of one."""
    return [_in_order(*(part.copy_to_host() for part in found)) for found in zones_of(upload(grids), across)]


def _in_order(first: NDArray[np.int32], ranks: NDArray[np.uint16], sizes: NDArray[np.int32]) -> Zones:
    """Sort zones by their first voxels, last first: threads have written them in the order in which they came by."""
    order = np.argsort(first)[::-1]
    return ranks[order].astype(np.int64), sizes[order].astype(np.int64)


def zones_of(stack: Stack, across: int | None) -> list[tuple[Any, Any, Any]]:
    """Find the zones of images that are on the GPU.

    Returns
    -------
    list of tuples of device arrays
        For each image, in no order: position of each zone's first voxel in the flattened box, int32, rank, uint16,
        and size, int32, shape ``(n_zone,)``.

    """
    n_thread = stack.n_thread
    n_image, n_voxel = stack.flats.shape[0], stack.voxels.shape[0]
    steps = put(stack.box.steps(half_offsets((1,), across)))
    label = empty(tuple(stack.flats.shape), np.int32)
    size_at = empty(tuple(stack.flats.shape), np.int32)
    launch(_begin, n_thread, stack.voxels, label, size_at)
    launch(_spread, n_thread, stack.flats, stack.voxels, steps, label)
    launch(_measure, n_thread, stack.voxels, label, size_at)
    n_found = zeros((n_image,), np.int32)
    first, ranks, sizes = (empty((n_image, n_voxel), dtype) for dtype in (np.int32, np.uint16, np.int32))
    launch(_collect, n_thread, stack.flats, stack.voxels, label, size_at, n_found, first, ranks, sizes)
    return [(first[k, :n], ranks[k, :n], sizes[k, :n]) for k, n in enumerate(n_found.copy_to_host().tolist())]


@kernel
def _begin(voxels: NDArray[np.int64], label: NDArray[np.int32], size_at: NDArray[np.int32]) -> None:
    """Give each voxel its own position as label."""
    thread = cuda.grid(1)
    if thread < label.shape[0] * voxels.size:
        image, p = thread // voxels.size, voxels[thread % voxels.size]
        label[image, p] = p
        size_at[image, p] = 0


@kernel
def _spread(flats: NDArray[np.uint16], voxels: NDArray[np.int64], steps: NDArray[np.int64], label: Any) -> None:
    """Unite each voxel with those before it that have its rank."""
    thread = cuda.grid(1)
    if thread < flats.shape[0] * voxels.size:
        image, p = thread // voxels.size, voxels[thread % voxels.size]
        for d in range(steps.size):
            if flats[image, p - steps[d]] == flats[image, p]:
                _unite(label[image], p, p - steps[d])


@device
def _first(label: NDArray[np.int32], p: int) -> int:
    """Follow labels to a voxel that has its own. One read late names a voxel of the zone too, only a later one."""
    while label[p] != p:
        p = label[p]
    return p


@device
def _unite(label: NDArray[np.int32], a: int, b: int) -> None:
    """Give the later of two zones' first voxels the earlier as label, once more if another thread was sooner."""
    while True:
        a, b = _first(label, a), _first(label, b)
        if a == b:
            return
        later, earlier = max(a, b), min(a, b)
        old = cuda.atomic.min(label, later, earlier)
        if old == later:
            return
        # `later` had another label already: whichever is the smaller was kept, so the two of them remain to unite.
        a, b = old, earlier


@kernel
def _measure(voxels: NDArray[np.int64], label: NDArray[np.int32], size_at: Any) -> None:
    """Count each zone's voxels at its first voxel; labels do not change any more."""
    thread = cuda.grid(1)
    if thread < label.shape[0] * voxels.size:
        image, p = thread // voxels.size, voxels[thread % voxels.size]
        cuda.atomic.add(size_at, (image, _first(label[image], p)), 1)


@kernel
def _collect(
    flats: NDArray[np.uint16],
    voxels: NDArray[np.int64],
    label: NDArray[np.int32],
    size_at: NDArray[np.int32],
    n_found: Any,
    first: NDArray[np.int32],
    ranks: NDArray[np.uint16],
    sizes: NDArray[np.int32],
) -> None:
    """List the zones of each image."""
    thread = cuda.grid(1)
    if thread < label.shape[0] * voxels.size:
        image, p = thread // voxels.size, voxels[thread % voxels.size]
        if label[image, p] == p:
            place = cuda.atomic.add(n_found, image, 1)
            first[image, place] = p
            ranks[image, place] = flats[image, p]
            sizes[image, place] = size_at[image, p]
