"""The only gate to the texture kernels: fixes types, pads, and raises every complaint about shapes.

Kernels behind it check nothing. Levels travel as *ranks*: 1 for the lowest grey level found in the region, 2 for
the next one found, and 0 for every voxel outside, so that no matrix is larger than the levels found and a voxel
outside needs no branch.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

HIGHEST_RANK = int(np.iinfo(np.uint16).max)


class LevelGrid(NamedTuple):
    """The region's ranks in a padded, flattened box.

    Attributes
    ----------
    flat
        Ranks, uint16, shape ``(z * y * x,)`` of the padded box; 0 outside the region.
    voxels
        Positions in `flat` of the region's voxels, int64, shape ``(n_voxel,)``, ascending.
    shape
        Shape ``(z, y, x)`` of the padded box.
    n_levels
        Number of distinct grey levels.

    """

    flat: NDArray[np.uint16]
    voxels: NDArray[np.int64]
    shape: tuple[int, int, int]
    n_levels: int

    def steps(self, offsets: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how far each offset ``(dz, dy, dx)``, shape ``(n, 3)``, moves in `flat`."""
        _, y, x = self.shape
        return np.ascontiguousarray(offsets @ np.array([y * x, x, 1], dtype=np.int64))


def level_grid(ranks: NDArray[Any], mask: NDArray[np.bool_], reach: int) -> LevelGrid:
    """Lay ranks into a box padded by `reach` voxels on every side.

    Parameters
    ----------
    ranks
        Rank of each voxel of the region in raster order, whole numbers from 1, shape ``(n_voxel,)``.
    mask
        The region, shape ``(z, y, x)``.
    reach
        Largest distance in voxels at which a kernel will look for a neighbour.

    Raises
    ------
    ValueError
        The mask is not three-dimensional, does not have as many voxels as `ranks`, or there are more levels than
        a rank can hold.

    """
    if mask.ndim != 3 or ranks.shape != (int(np.count_nonzero(mask)),):
        raise ValueError(f"{ranks.shape} ranks do not fit a mask of shape {mask.shape}")
    n_levels = int(ranks.max()) if ranks.size else 0
    if n_levels > HIGHEST_RANK:
        raise ValueError(f"{n_levels} grey levels, at most {HIGHEST_RANK} fit")
    box = np.zeros([n + 2 * reach for n in mask.shape], dtype=np.uint16)
    inside = box[tuple(slice(reach, reach + n) for n in mask.shape)]
    inside[mask] = ranks
    flat = box.reshape(-1)
    z, y, x = box.shape
    return LevelGrid(flat, np.flatnonzero(flat), (z, y, x), n_levels)
