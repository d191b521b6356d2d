"""Grey level zones: labels spread between voxels that touch until each zone has the label of its first voxel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import cuda
from numpy.typing import NDArray

from hgpscale.kernels.cast import LevelGrid
from hgpscale.kernels.cuda.jit import device, kernel, launch
from hgpscale.kernels.cuda.stack import Stack, upload, zeros
from hgpscale.kernels.offsets import half_offsets

Zones = tuple[NDArray[np.int64], NDArray[np.int64]]


def zones(grid: LevelGrid, across: int | None = None) -> Zones:
    """Find all zones: `hgpscale.kernels.glszm.zones` on the GPU, in the same order."""
    return zones_of_images([grid], across)[0]


def zones_of_images(grids: Sequence[LevelGrid], across: int | None = None) -> list[Zones]:
    """Find the zones of several images of one region, as `zones` does of one."""
    found, sizes = zones_of(upload(grids), across)
    # Threads have written zones in the order in which they came by; by first voxel it is the same every time.
    order = np.argsort(found)
    found, n_voxel = found[order], sizes[order].astype(np.int64)
    n = grids[0].flat.size
    ends = np.searchsorted(found, n * np.arange(len(grids) + 1))
    parts = [slice(ends[k], ends[k + 1]) for k in range(len(grids))]
    return [
        (grid.flat[found[part][::-1] - k * n].astype(np.int64), n_voxel[part][::-1].copy())
        for k, (grid, part) in enumerate(zip(grids, parts, strict=True))
    ]


def zones_of(stack: Stack, across: int | None) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Find the zones of images that are on the GPU.

    Returns
    -------
    tuple of ndarrays
        First voxel of each zone, int64, counted through all images' boxes, and its size, int32, shape ``(n_zone,)``,
        in no order.

    """
    n = stack.n_thread
    steps = cuda.to_device(stack.box.steps(half_offsets((1,), across)))
    label = cuda.device_array(stack.flats.shape, dtype=np.int32)
    size_at = cuda.device_array(stack.flats.shape, dtype=np.int32)
    launch(_begin, n, stack.voxels, label, size_at)
    launch(_spread, n, stack.flats, stack.voxels, steps, label)
    launch(_measure, n, stack.voxels, label, size_at)
    n_found = zeros(1, np.int32)
    found, sizes = cuda.device_array(n, dtype=np.int64), cuda.device_array(n, dtype=np.int32)
    launch(_collect, n, stack.voxels, label, size_at, n_found, found, sizes)
    n_zone = int(n_found.copy_to_host()[0])
    return found[:n_zone].copy_to_host(), sizes[:n_zone].copy_to_host()


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
    voxels: NDArray[np.int64],
    label: NDArray[np.int32],
    size_at: NDArray[np.int32],
    n_found: Any,
    found: NDArray[np.int64],
    sizes: NDArray[np.int32],
) -> None:
    """List the zones."""
    thread = cuda.grid(1)
    if thread < label.shape[0] * voxels.size:
        image, p = thread // voxels.size, voxels[thread % voxels.size]
        if label[image, p] == p:
            place = cuda.atomic.add(n_found, 0, 1)
            found[place] = image * label.shape[1] + p
            sizes[place] = size_at[image, p]
