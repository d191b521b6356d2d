"""What comes before each voxel along a direction, for GLCM and GLRLM: each thread walks back along its own run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import cuda
from numpy.typing import NDArray

from hgpscale.kernels.cast import LevelGrid
from hgpscale.kernels.chains import Chains, n_states, refuse_too_many_states
from hgpscale.kernels.cuda.jit import device, kernel, launch
from hgpscale.kernels.cuda.memory import put, zeros
from hgpscale.kernels.cuda.stack import Stack, starts, upload


def count_chains(grids: Sequence[LevelGrid], offsets: NDArray[np.int64], longest: int | None) -> list[Chains]:
    """Count what comes before each voxel along each offset: `hgpscale.kernels.chains.count_chains` on the GPU.

    All images are counted in one launch; their counters must fit into the GPU's memory together.
    """
    refuse_too_many_states(grids, longest)
    levels = np.array([grid.n_levels for grid in grids])
    widths = np.array([n_states(grid, longest) for grid in grids])
    first = starts(levels * widths)
    counts = count_chains_of(upload(grids), levels, widths, offsets, longest is not None).copy_to_host()
    return [
        Chains(counts[:, first[k] : first[k + 1]].reshape(len(offsets), levels[k], widths[k]))
        for k in range(len(grids))
    ]


def count_chains_of(
    stack: Stack, levels: NDArray[np.int64], widths: NDArray[np.int64], offsets: NDArray[np.int64], follow: bool
) -> Any:
    """Count images that are on the GPU.

    Parameters
    ----------
    stack
        The images.
    levels, widths
        Grey levels and states of each, shape ``(n_image,)``.
    offsets
        Offsets that lead forward in raster order, shape ``(n_offset, 3)``.
    follow
        Whether runs are followed beyond the voxel before.

    Returns
    -------
    device array
        int32, shape ``(n_offset, sum of levels * widths)``: the counters of one image after the other.

    """
    first = starts(levels * widths)
    counts = zeros((len(offsets), int(first[-1])), np.int32)
    steps = put(stack.box.steps(offsets))
    per_image = [put(part.astype(np.int64)) for part in (levels, widths, first)]
    launch(_count, stack.n_thread, stack.flats, stack.voxels, steps, *per_image, follow, counts)
    return counts


@kernel
def _count(
    flats: NDArray[np.uint16],
    voxels: NDArray[np.int64],
    steps: NDArray[np.int64],
    levels: NDArray[np.int64],
    widths: NDArray[np.int64],
    first: NDArray[np.int64],
    follow: bool,
    counts: NDArray[np.int32],
) -> None:
    thread = cuda.grid(1)
    if thread >= flats.shape[0] * voxels.size:
        return
    image, p = thread // voxels.size, voxels[thread % voxels.size]
    flat = flats[image]
    row = first[image] + (flat[p] - 1) * widths[image]
    for d in range(steps.size):
        state = _state(flat, p, steps[d], levels[image], follow)
        cuda.atomic.add(counts, (d, row + state), 1)


@device
def _state(flat: NDArray[np.uint16], p: int, step: int, n_levels: int, follow: bool) -> int:
    """Return the state of a voxel, see `Chains`. The padding ends every walk, as its rank is no voxel's."""
    rank = flat[p]
    before = flat[p - step]
    if before != rank:
        return int(before)
    run = 1
    if follow:
        while flat[p - (run + 1) * step] == rank:
            run += 1
    return n_levels + run
