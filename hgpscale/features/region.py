"""The region of interest as the formulas see it, wherever its voxels are and are counted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from hgpscale.errors import FeatureError, VoxelError
from hgpscale.kernels.cast import Box, padded_box
from hgpscale.kernels.ngtdm import sum_neighbours
from hgpscale.kernels.target import CPU, Target

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hgpscale.kernels.chains import Chains
    from hgpscale.kernels.statistics import Statistics
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
    on
        Where its surface is looked for.

    """

    mask: NDArray[np.bool_]
    spacing: Vector
    on: Target = CPU
    _boxes: dict[int, Box] = field(default_factory=dict, repr=False)
    _neighbours: dict[tuple[tuple[int, ...], int | None], NDArray[np.int32]] = field(default_factory=dict, repr=False)

    @cached_property
    def n_voxel(self) -> int:
        """Voxels of the region."""
        return int(np.count_nonzero(self.mask))

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
class Region(ABC):
    """One image type of one region of interest; what several families need is computed once.

    Attributes
    ----------
    footprint
        Where the voxels are.
    settings
        Decides bins, distances and so on; those of the image type.

    """

    footprint: Footprint
    settings: Settings

    @property
    @abstractmethod
    def levels(self) -> NDArray[np.int64]:
        """The grey levels found, ascending, shape ``(n_levels,)``; raises `VoxelError` as `discretise` does."""

    @property
    @abstractmethod
    def counts(self) -> NDArray[np.int64]:
        """Voxels at each of the levels, shape ``(n_levels,)``; raises as `levels`."""

    @abstractmethod
    def statistics(self) -> Statistics:
        """Return sums and percentiles of the values."""

    @abstractmethod
    def chains(self, distances: tuple[int, ...]) -> Chains:
        """Return what comes before each voxel along the directions of some distances; runs only for `ADJACENT`."""

    @abstractmethod
    def zones(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return rank and size of each zone, in any order: see `hgpscale.kernels.glszm.zones`."""

    @abstractmethod
    def dependence(self) -> NDArray[np.int64]:
        """Return voxels by rank and dependent neighbours: see `hgpscale.kernels.gldm.count_dependence`."""

    @abstractmethod
    def differences(self) -> NDArray[np.int64]:
        """Return differences to the neighbours: see `hgpscale.kernels.ngtdm.count_differences`."""

    @classmethod
    def count_together(cls, regions: Sequence[Region], distances: Sequence[tuple[int, ...]]) -> None:
        """Count the chains of several images of a region at once, where that is faster than one after the other.

        Parameters
        ----------
        regions
            The images. One whose grey levels cannot be counted is left out: its own `chains` says why.
        distances
            Which chains, by image.

        """
        return

    @property
    def across(self) -> int | None:
        """The axis across the slices that neighbours are looked for in; None: in all directions."""
        return self.settings.force2Ddimension if self.settings.force2D else None

    def require_few_levels(self) -> None:
        """Refuse a region with more grey levels than texture matrices are made of.

        Raises
        ------
        VoxelError
            There are more than `MAX_LEVELS`.

        """
        found = self.levels.size
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
