"""The images of one region on the GPU; the only gate to the kernels there, as `cast` is on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hgpscale.kernels.cast import Box, LevelGrid
from hgpscale.kernels.cuda.memory import empty, put

MOST_THREADS = np.iinfo(np.int32).max


class Stack(NamedTuple):
    """Ranks of one region's voxels in several images, on the GPU.

    Attributes
    ----------
    flats
        Ranks, uint16, shape ``(n_image, size of the padded box)``; 0 outside the region.
    voxels
        Positions of the region's voxels, int64, shape ``(n_voxel,)``.
    box
        Where the voxels lie, on the host.

    """

    flats: Any
    voxels: Any
    box: Box

    @property
    def n_thread(self) -> int:
        """Threads that have one voxel of one image each."""
        return int(self.flats.shape[0] * self.voxels.shape[0])


def upload(grids: Sequence[LevelGrid]) -> Stack:
    """Copy the images of one region to the GPU.

    Raises
    ------
    ValueError
        The images do not lie in one box, or have more than 2**31 - 1 voxels together.

    """
    box = grids[0].box
    if any(grid.flat.size != box.size or grid.box.voxels.size != box.voxels.size for grid in grids):
        raise ValueError("images that are counted together lie in one box")
    if len(grids) * box.voxels.size > MOST_THREADS:
        raise ValueError(f"{len(grids)} images of {box.voxels.size} voxels are more than {MOST_THREADS} threads")
    flats = empty((len(grids), box.size), np.uint16)
    for image, grid in enumerate(grids):  # one after the other: stacking on the host would copy them once more
        flats[image].copy_to_device(grid.flat)
    return Stack(flats, put(box.voxels), box)


def starts(sizes: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where each image's part begins in an array that holds all, and where the last ends: ``(n_image + 1,)``."""
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
