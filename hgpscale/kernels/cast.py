"""The only gate to the texture kernels: fixes types, pads, and raises every complaint about shapes.

Kernels behind it check nothing. Levels travel as *ranks*: 1 for the lowest grey level found in the region, 2 for
the next one found, and 0 for every voxel outside, so that no matrix is larger than the levels found and a voxel
outside needs no branch.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hgpscale.kernels.jit import kernel

HIGHEST_RANK = int(np.iinfo(np.uint16).max)


class Box(NamedTuple):
    """Where the region's voxels lie in its box, padded and flattened.

    Attributes
    ----------
    shape
        Shape ``(z, y, x)`` of the padded box.
    voxels
        Positions of the region's voxels, int64, shape ``(n_voxel,)``, ascending.
    spans
        First position and length of the stretch of each plane of constant z that holds all of its voxels, int64,
        shape ``(n_plane, 2)``; planes without any are left out.
    rows
        The same of each row of constant z and y, int64, shape ``(n_row, 2)``.

    """

    shape: tuple[int, int, int]
    voxels: NDArray[np.int64]
    spans: NDArray[np.int64]
    rows: NDArray[np.int64]

    @property
    def size(self) -> int:
        """Voxels of the padded box."""
        z, y, x = self.shape
        return z * y * x

    @property
    def longest_span(self) -> int:
        """Length of the longest span."""
        return int(self.spans[:, 1].max())

    def steps(self, offsets: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how far each offset ``(dz, dy, dx)``, shape ``(n, 3)``, moves in the flattened box."""
        _, y, x = self.shape
        return np.ascontiguousarray(offsets @ np.array([y * x, x, 1], dtype=np.int64))

    def fill(self, places: NDArray[np.int32], table: NDArray[Any]) -> NDArray[Any]:
        """Return the box, flat, with ``table[place]`` at each voxel of the region and 0 elsewhere."""
        flat = np.zeros(self.size, dtype=table.dtype)
        _fill(flat, self.voxels, places, table)
        return flat


class LevelGrid(NamedTuple):
    """The region's ranks in its padded, flattened box.

    Attributes
    ----------
    flat
        Ranks, uint16, shape ``(z * y * x,)`` of the padded box; 0 outside the region.
    box
        Where the voxels lie.
    n_levels
        Number of distinct grey levels.

    """

    flat: NDArray[np.uint16]
    box: Box
    n_levels: int


def padded_box(mask: NDArray[np.bool_], reach: int) -> Box:
    """Pad a region's box by `reach` voxels on every side.

    Parameters
    ----------
    mask
        The region, shape ``(z, y, x)``.
    reach
        Largest distance in voxels at which a kernel will look for a neighbour.

    Raises
    ------
    ValueError
        The mask is not three-dimensional.

    """
    if mask.ndim != 3:
        raise ValueError(f"a mask has three axes, this one has shape {mask.shape}")
    padded = np.pad(mask, reach)
    voxels = np.flatnonzero(padded)
    z, y, x = padded.shape
    return Box((z, y, x), voxels, _stretches(voxels, y * x), _stretches(voxels, x))


def _stretches(voxels: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Return the first position and the extent of the voxels in each piece of `length` positions that has any."""
    piece = voxels // length
    starts = np.flatnonzero(np.append(True, piece[1:] != piece[:-1]))
    ends = np.append(starts[1:], voxels.size) - 1
    return np.stack([voxels[starts], voxels[ends] - voxels[starts] + 1], axis=1)


def level_grid(bins: NDArray[np.int32], levels: NDArray[np.int64], box: Box) -> LevelGrid:
    """Lay ranks into a box.

    Parameters
    ----------
    bins
        Grey level of each voxel of the region in raster order, int32, shape ``(n_voxel,)``.
    levels
        The levels found, ascending, shape ``(n_levels,)``.
    box
        Where the voxels lie.

    Raises
    ------
    ValueError
        The box does not have as many voxels as `bins`, or there are more levels than a rank can hold.

    """
    if bins.shape != box.voxels.shape:
        raise ValueError(f"{bins.size} levels do not fit a mask of {box.voxels.size} voxels")
    if levels.size > HIGHEST_RANK:
        raise ValueError(f"{levels.size} grey levels, at most {HIGHEST_RANK} fit")
    rank_of = np.zeros(int(levels[-1]) + 1, dtype=np.uint16)
    rank_of[levels] = np.arange(1, levels.size + 1)
    return LevelGrid(box.fill(bins, rank_of), box, levels.size)


@kernel
def _fill(flat: NDArray[Any], voxels: NDArray[np.int64], places: NDArray[np.int32], table: NDArray[Any]) -> None:
    for k in range(voxels.size):
        flat[voxels[k]] = table[places[k]]
