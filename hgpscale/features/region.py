"""The region of interest as the formulas see it; what several families need is computed once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from hgpscale.errors import FeatureError, VoxelError
from hgpscale.kernels.cast import LevelGrid, level_grid
from hgpscale.kernels.neighbours import NeighbourCounts, count_neighbours
from hgpscale.prepare.discretise import Discretised, discretise

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hgpscale.settings import Settings
    from hgpscale.volume import Vector

MAX_LEVELS = 2048
"""13 co-occurrence matrices of this side take 0.4 GiB, and formulas several copies."""

EPS = 2.220446049250313e-16
"""Added inside logarithms, as pyradiomics does: ``numpy.spacing(1)``."""


@dataclass(eq=False)
class Region:
    """One region of interest of one image type.

    Attributes
    ----------
    mask
        bool, shape ``(z, y, x)``, cropped to the region's box.
    values
        Voxels of the region in raster order, in the image's own type, finite, shape ``(n_voxel,)``.
    spacing
        Voxel spacing ``(z, y, x)`` in mm.
    settings
        Decides bins, distances and so on.

    """

    mask: NDArray[np.bool_]
    values: NDArray[Any]
    spacing: Vector
    settings: Settings

    @cached_property
    def discretised(self) -> Discretised:
        """Grey levels of the voxels."""
        return discretise(self.values, self.settings)

    @cached_property
    def grid(self) -> LevelGrid:
        """The levels' ranks where the voxels lie, padded as far as any neighbour is looked for.

        Raises
        ------
        VoxelError
            More grey levels than texture matrices are made of.

        """
        found = self.discretised.levels.size
        if found > MAX_LEVELS:
            raise VoxelError(
                f"the region has {found} grey levels, at most {MAX_LEVELS} are counted; choose a wider binWidth"
            )
        return level_grid(self.discretised.ranks, self.mask, reach=max(1, *self.settings.distances))

    @cached_property
    def neighbours(self) -> NeighbourCounts:
        """Counts over neighbours, for gldm and ngtdm.

        Raises
        ------
        FeatureError
            The region's box is too small for any neighbour.

        """
        settings = self.settings
        if min(settings.distances) >= max(self.mask.shape):
            raise FeatureError(
                f"the region's box of {self.mask.shape} voxels (z, y, x) has no room for a neighbour at distance "
                f"{settings.distances}"
            )
        return count_neighbours(self.grid, self.discretised.levels, settings.distances, settings.gldm_a)
