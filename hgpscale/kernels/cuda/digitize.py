"""From values to bins, and from bins to ranks in a padded box, of many images at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import cuda
from numpy.typing import NDArray

from hgpscale.kernels.cast import Box
from hgpscale.kernels.cuda.jit import device, kernel, launch, product
from hgpscale.kernels.cuda.memory import empty, put, zeros
from hgpscale.kernels.cuda.stack import Stack, starts
from hgpscale.kernels.digitize import bin_among

_bin_among = device(bin_among)


def digitize_of(values: Any, edges: Sequence[NDArray[np.float64]]) -> tuple[Any, list[NDArray[np.int64]]]:
    """Sort values into bins: `hgpscale.kernels.digitize.digitize` on the GPU, of all images.

    Parameters
    ----------
    values
        Finite float64 on the GPU, shape ``(n_image, n_voxel)``.
    edges
        Of each image, float64, ascending; an image without any is left out.

    Returns
    -------
    bins
        int32 on the GPU, shape ``(n_image, n_voxel)``.
    counts
        Of each image: int64, shape ``(n_edge + 1,)``, on the host; empty where the image is left out.

    """
    n_image, n_voxel = values.shape
    n_edge = np.array([own.size for own in edges])
    first_edge, first_count = starts(n_edge), starts(np.where(n_edge > 0, n_edge + 1, 0))
    bins = empty((n_image, n_voxel), np.int32)
    counts = zeros((max(int(first_count[-1]), 1),), np.int32)
    joined = np.concatenate([*edges, np.zeros(1)])  # a GPU has no empty arrays
    launch(_digitize, n_image * n_voxel, values, put(joined), put(first_edge), put(first_count), bins, counts)
    found = counts.copy_to_host().astype(np.int64)
    return bins, [found[first_count[k] : first_count[k + 1]] for k in range(n_image)]


def lay_ranks(bins: Any, images: Sequence[int], levels: Sequence[NDArray[np.int64]], box: Box) -> Stack:
    """Lay the ranks of some images into a box, as `hgpscale.kernels.cast.level_grid` does.

    Parameters
    ----------
    bins
        int32 on the GPU, shape ``(n_image, n_voxel)``.
    images
        Which of them.
    levels
        The levels found in each of those, ascending.
    box
        Where the voxels lie.

    """
    first = starts([int(found[-1]) + 1 for found in levels])
    rank_of = np.zeros(int(first[-1]), dtype=np.uint16)
    for k, found in enumerate(levels):
        rank_of[first[k] + found] = np.arange(1, found.size + 1)
    flats, voxels = zeros((len(images), box.size), np.uint16), put(box.voxels)
    tables = put(np.array(images, np.int64)), put(first), put(rank_of)
    launch(_lay_ranks, len(images) * box.voxels.size, bins, voxels, *tables, flats)
    return Stack(flats, voxels, box)


@kernel
def _digitize(
    values: NDArray[np.float64],
    edges: NDArray[np.float64],
    first_edge: NDArray[np.int64],
    first_count: NDArray[np.int64],
    bins: NDArray[np.int32],
    counts: Any,
) -> None:
    thread = cuda.grid(1)
    if thread >= values.shape[0] * values.shape[1]:
        return
    image, k = thread // values.shape[1], thread % values.shape[1]
    if first_edge[image] == first_edge[image + 1]:
        bins[image, k] = 0
        return
    own = edges[first_edge[image] : first_edge[image + 1]]
    scale = (own.size - 1) / (own[own.size - 1] - own[0])
    bin_ = _bin_among(values[image, k], own, int(product(values[image, k] - own[0], scale)))
    bins[image, k] = bin_
    cuda.atomic.add(counts, first_count[image] + bin_, 1)


@kernel
def _lay_ranks(
    bins: NDArray[np.int32],
    voxels: NDArray[np.int64],
    images: NDArray[np.int64],
    first: NDArray[np.int64],
    rank_of: NDArray[np.uint16],
    flats: NDArray[np.uint16],
) -> None:
    thread = cuda.grid(1)
    if thread < images.size * voxels.size:
        place, k = thread // voxels.size, thread % voxels.size
        flats[place, voxels[k]] = rank_of[first[place] + bins[images[place], k]]
