"""What comes before each voxel along a direction: the counts behind co-occurrence (GLCM) and run length (GLRLM).

Walking along a direction, a voxel either continues a run of its own level or follows a voxel of another level (or
one outside, rank 0). One counter for each of these *states* tells both matrices: the states that name another level
are the pairs, and the voxels at which a run reaches length r tell how many runs are that long or longer.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hgpscale.kernels.cast import LevelGrid
from hgpscale.kernels.jit import kernel


class Chains(NamedTuple):
    """Voxels by direction, rank and what comes before.

    Attributes
    ----------
    counts
        int32, shape ``(n_offset, n_levels, n_levels + longest)``, second axis rank - 1. State 0: the voxel before is
        outside the region; 1 to n_levels: it has that other rank; n_levels + r: it has the same rank, and r voxels
        of it come before without a gap.

    """

    counts: NDArray[np.int32]

    @property
    def n_levels(self) -> int:
        """Number of distinct grey levels."""
        return self.counts.shape[1]

    def pairs(self) -> NDArray[np.int64]:
        """Return pairs of voxels by their ranks.

        Returns
        -------
        ndarray
            int64, shape ``(n_offset, n_levels, n_levels)``: voxels of rank i + 1 whose neighbour at the offset has
            rank j + 1.

        """
        n = self.n_levels
        pairs = self.counts[:, :, 1 : n + 1].transpose(0, 2, 1).astype(np.int64)
        same = np.arange(n)
        pairs[:, same, same] = self.counts[:, :, n + 1 :].sum(axis=2)
        return pairs

    def runs(self) -> NDArray[np.int64]:
        """Return runs by rank and length.

        Returns
        -------
        ndarray
            int64, shape ``(n_offset, n_levels, longest)``: runs of rank i + 1 and length j + 1.

        """
        n = self.n_levels
        reached = self.counts[:, :, n:].astype(np.int64)
        reached[:, :, 0] = self.counts[:, :, : n + 1].sum(axis=2)
        reached[:, :, :-1] -= reached[:, :, 1:].copy()
        return reached

    def touching(self) -> NDArray[np.bool_]:
        """Whether any two voxels of the region are neighbours at each offset, shape ``(n_offset,)``."""
        return np.asarray(self.counts[:, :, 1:].any(axis=(1, 2)))


def count_chains(grid: LevelGrid, offsets: NDArray[np.int64], longest: int) -> Chains:
    """Count what comes before each voxel along each offset.

    Parameters
    ----------
    grid
        The region, padded at least as far as the offsets reach.
    offsets
        Offsets ``(dz, dy, dx)`` that lead forward in raster order, shape ``(n_offset, 3)``.
    longest
        Longest run that fits: the longest side of the region's box.

    """
    steps = grid.box.steps(offsets)
    return Chains(_count_chains(grid.flat, grid.box.voxels, steps, grid.n_levels, longest)[:, 1:])


@kernel
def _count_chains(
    flat: NDArray[np.uint16], voxels: NDArray[np.int64], steps: NDArray[np.int64], n_levels: int, longest: int
) -> NDArray[np.int32]:
    n_states = n_levels + longest
    counts = np.zeros((steps.size, n_levels + 1, n_states), dtype=np.int32)
    # How many voxels of its own level come before a voxel; those of the last direction are overwritten in time.
    run = np.zeros(flat.size, dtype=np.uint16)
    for d in range(steps.size):
        table = counts[d].reshape(-1)
        step = steps[d]
        for k in range(voxels.size):
            p = np.uint64(voxels[k])
            q = np.uint64(voxels[k] - step)
            rank = np.int64(flat[p])
            before = np.int64(flat[q])
            # Arithmetic in place of a branch that noise makes unpredictable.
            same = np.int64(rank == before)
            length = same * (np.int64(run[q]) + 1)
            run[p] = length
            state = before + same * (n_levels + length - before)
            table[np.uint64(rank * n_states + state)] += 1
    return counts
