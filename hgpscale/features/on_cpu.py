"""Regions whose voxels are counted on a core."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from hgpscale.errors import HgpscaleError, VoxelError
from hgpscale.features.region import ADJACENT, Footprint, Region
from hgpscale.filters import FILTERS
from hgpscale.kernels.cast import Box, LevelGrid, level_grid
from hgpscale.kernels.chains import Chains, count_chains
from hgpscale.kernels.gldm import count_dependence
from hgpscale.kernels.glszm import zones
from hgpscale.kernels.ngtdm import count_differences
from hgpscale.kernels.offsets import all_offsets, half_offsets
from hgpscale.kernels.statistics import Statistics, statistics_of
from hgpscale.prepare.discretise import Discretised, discretise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hgpscale.prepare.prepared import Prepared
    from hgpscale.settings import Settings

_VOXELS_AT_A_TIME = 8_000_000
"""Voxels of filtered images whose features are computed together: all images of a lesion, those of an organ in turn."""


@dataclass(eq=False)
class CpuRegion(Region):
    """One image type of one region of interest.

    Attributes
    ----------
    values
        Voxels of the region in raster order, in the image's own type, finite, shape ``(n_voxel,)``.

    """

    values: NDArray[Any]
    _chains: dict[tuple[int, ...], Chains] = field(default_factory=dict, repr=False)

    @cached_property
    def discretised(self) -> Discretised:
        """Grey levels of the voxels."""
        return discretise(self.values, self.settings)

    @property
    def levels(self) -> NDArray[np.int64]:
        """As `Region` has it."""
        return self.discretised.levels

    @property
    def counts(self) -> NDArray[np.int64]:
        """As `Region` has it."""
        return self.discretised.counts

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
        return level_grid(self.discretised.bins, self.levels, self.box)

    def statistics(self) -> Statistics:
        """As `Region` has it."""
        return statistics_of(self.values.astype(np.float64, copy=False), float(self.settings.voxelArrayShift))

    def chains(self, distances: tuple[int, ...]) -> Chains:
        """As `Region` has it."""
        if distances not in self._chains:
            _count([self], distances)
        return self._chains[distances]

    def zones(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """As `Region` has it."""
        return zones(self.grid, self.across)

    def dependence(self) -> NDArray[np.int64]:
        """As `Region` has it."""
        offsets = all_offsets(self.settings.distances, self.across)
        return count_dependence(self.grid, self.levels, offsets, self.settings.gldm_a)

    def differences(self) -> NDArray[np.int64]:
        """As `Region` has it."""
        self.require_few_levels()
        how = self.settings.distances, self.across
        return count_differences(self.discretised.bins, self.levels, self.box, *how, self.footprint.n_neighbour(*how))

    @classmethod
    def count_together(cls, regions: Sequence[Region], distances: Sequence[tuple[int, ...]]) -> None:
        """As `Region` has it: in about half the time."""
        alike: dict[tuple[int, tuple[int, ...], int | None], list[CpuRegion]] = {}
        for region, own in zip(regions, distances, strict=True):
            assert isinstance(region, CpuRegion), "regions are counted where they are"
            with suppress(VoxelError):
                alike.setdefault((id(region.grid.box), own, region.across), []).append(region)
        for (_, own, _), group in alike.items():
            missing = [region for region in group if own not in region._chains]
            if missing:
                _count(missing, own)


def _count(regions: Sequence[CpuRegion], distances: tuple[int, ...]) -> None:
    """Count the chains of images that lie in the same box and are looked at in the same planes."""
    longest = max(regions[0].footprint.mask.shape) if distances == ADJACENT else None
    offsets = half_offsets(distances, regions[0].across)
    for region, chains in zip(regions, count_chains([r.grid for r in regions], offsets, longest), strict=True):
        region._chains[distances] = chains


def batches(prepared: Prepared, settings: Settings) -> Iterator[dict[str, Region | HgpscaleError]]:
    """Yield the region in every image, or why it has none, by the image's name: as many together as memory allows."""
    images = _filtered(prepared, settings)
    at_a_time = max(1, _VOXELS_AT_A_TIME // int(np.count_nonzero(prepared.source.mask)))
    while batch := dict(islice(images, at_a_time)):
        yield batch


def _filtered(prepared: Prepared, settings: Settings) -> Iterator[tuple[str, Region | HgpscaleError]]:
    source = prepared.source
    footprint = Footprint(source.mask, prepared.spacing)
    for name in settings.image_types:
        own = settings.of_image_type(name)
        for image, found in FILTERS[name].derive(source, own):
            if isinstance(found, HgpscaleError):
                yield image, found
                continue
            values = found[source.mask]
            n_bad = values.size - int(np.count_nonzero(np.isfinite(values)))
            yield image, not_finite(image, n_bad, values.size) if n_bad else CpuRegion(footprint, own, values)


def not_finite(image: str, n_bad: int, n_voxel: int) -> VoxelError:
    """Return the error of an image that has no numbers where the region is."""
    return VoxelError(f"{n_bad} of the region's {n_voxel} voxels are NaN or infinite in image {image}")
