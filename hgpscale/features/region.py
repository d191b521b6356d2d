"""The region of interest as the formulas see it; what several families need is computed once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from hgpscale.errors import FeatureError, VoxelError
from hgpscale.kernels.cast import Box, LevelGrid, level_grid, padded_box
from hgpscale.kernels.chains import Chains, count_chains
from hgpscale.kernels.ngtdm import sum_neighbours
from hgpscale.kernels.offsets import half_offsets
from hgpscale.prepare.discretise import Discretised, discretise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hgpscale.settings import Settings
    from hgpscale.volume import Vector

MAX_LEVELS = 2048
"""13 co-occurrence matrices of this side take 0.4 GiB, and formulas several copies."""


ADJACENT = (1,)
"""The distance that runs are of, whatever `distances` says."""


@dataclass(eq=False)
class Footprint:
    """Where the region's voxels are: what all image types share.

    Attributes
    ----------
    mask
        bool, shape ``(z, y, x)``, cropped to the region's box.
    spacing
        Voxel spacing ``(z, y, x)`` in mm.

    """

    mask: NDArray[np.bool_]
    spacing: Vector
    _boxes: dict[int, Box] = field(default_factory=dict, repr=False)
    _neighbours: dict[tuple[tuple[int, ...], int | None], NDArray[np.int32]] = field(default_factory=dict, repr=False)

    def box(self, reach: int) -> Box:
        """Return the box padded so that neighbours up to `reach` voxels away can be looked for."""
        if reach not in self._boxes:
            self._boxes[reach] = padded_box(self.mask, reach)
        return self._boxes[reach]

    def n_neighbour(self, distances: tuple[int, ...], across: int | None) -> NDArray[np.int32]:
        """Return each voxel's number of neighbours in the region, laid out as in `sum_neighbours`."""
        key = distances, across
        if key not in self._neighbours:
            box = self.box(max(distances))
            inside = box.fill(np.zeros(box.voxels.size, dtype=np.int32), np.ones(1, dtype=np.int32))
            self._neighbours[key] = sum_neighbours(inside, box, distances, across)
        return self._neighbours[key]


@dataclass(eq=False)
class Region:
    """One image type of one region of interest.

    Attributes
    ----------
    footprint
        Where the voxels are.
    values
        Voxels of the region in raster order, in the image's own type, finite, shape ``(n_voxel,)``.
    settings
        Decides bins, distances and so on; those of the image type.

    """

    footprint: Footprint
    values: NDArray[Any]
    settings: Settings
    _chains: dict[tuple[int, ...], Chains] = field(default_factory=dict, repr=False)

    @cached_property
    def discretised(self) -> Discretised:
        """Grey levels of the voxels."""
        return discretise(self.values, self.settings)

    @property
    def across(self) -> int | None:
        """The axis across the slices that neighbours are looked for in; None: in all directions."""
        return self.settings.force2Ddimension if self.settings.force2D else None

    @cached_property
    def box(self) -> Box:
        """The voxels' places, padded as far as any neighbour is looked for."""
        return self.footprint.box(max(self.settings.distances))

    @cached_property
    def grid(self) -> LevelGrid:
        """The levels' ranks where the voxels lie.

        Raises
        ------
        VoxelError
            More grey levels than texture matrices are made of.

        """
        self.require_few_levels()
        return level_grid(self.discretised.bins, self.discretised.levels, self.box)

    def chains(self, distances: tuple[int, ...]) -> Chains:
        """Return what comes before each voxel along the directions of some distances; runs only for `ADJACENT`."""
        if distances not in self._chains:
            _count([self], distances)
        return self._chains[distances]

    def require_few_levels(self) -> None:
        """Refuse a region with more grey levels than texture matrices are made of.

        Raises
        ------
        VoxelError
            There are more than `MAX_LEVELS`.

        """
        found = self.discretised.levels.size
        if found > MAX_LEVELS:
            raise VoxelError(
                f"the region has {found} grey levels, at most {MAX_LEVELS} are counted; choose a wider binWidth"
            )

    def require_room(self, distances: tuple[int, ...]) -> None:
        """Refuse a region whose box is too small for any neighbour.

        Raises
        ------
        FeatureError
            No two of its voxels can be neighbours at these distances.

        """
        shape = self.footprint.mask.shape
        planes = "" if self.across is None else f" in its planes across {'zyx'[self.across]}"
        if min(distances) >= max(n for axis, n in enumerate(shape) if axis != self.across):
            raise FeatureError(
                f"the region's box of {shape} voxels (z, y, x) has no room for a neighbour at distance "
                f"{distances}{planes}"
            )


def count_together(regions: Sequence[Region], distances: Sequence[tuple[int, ...]]) -> None:
    """Count the chains of several images of a region at once, in about half the time of one after the other.

    Parameters
    ----------
    regions
        The images. One whose grey levels cannot be counted is left out: its own `Region.chains` says why.
    distances
        Which chains, by image.

    """
    alike: dict[tuple[int, tuple[int, ...], int | None], list[Region]] = {}
    for region, own in zip(regions, distances, strict=True):
        with suppress(VoxelError):
            alike.setdefault((id(region.grid.box), own, region.across), []).append(region)
    for (_, own, _), group in alike.items():
        missing = [region for region in group if own not in region._chains]
        if missing:
            _count(missing, own)


def _count(regions: Sequence[Region], distances: tuple[int, ...]) -> None:
    """Count the chains of images that lie in the same box and are looked at in the same planes."""
    longest = max(regions[0].footprint.mask.shape) if distances == ADJACENT else None
    offsets = half_offsets(distances, regions[0].across)
    for region, chains in zip(regions, count_chains([r.grid for r in regions], offsets, longest), strict=True):
        region._chains[distances] = chains
