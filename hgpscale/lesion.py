"""One lesion: voxels, region and settings in, features out. Pure: no Dask, no zarr, no files."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from hgpscale.catalog import LESION, ORIGINAL, SHAPE_FAMILIES
from hgpscale.contents import Contents, Key
from hgpscale.errors import Failure, HgpscaleError
from hgpscale.features import CpuRegion, Footprint, Region, compute, on_cpu
from hgpscale.prepare.prepared import Prepared, prepare, prepare_bands

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hgpscale.prepare.cut import Cut
    from hgpscale.settings import Settings

Values = dict[Key, "NDArray[np.float64]"]
Failures = dict[Key, Failure]


def compute_lesion(cut: Cut, settings: Settings) -> tuple[Values, Failures]:
    """Compute the features of all regions on all image types.

    Parameters
    ----------
    cut
        The lesion's voxels, HU for CT, its region, and the grid to resample both to.
    settings
        What to compute.

    Returns
    -------
    values, failures
        Feature vectors and reasons by ``(region, image_type, family)``, as in `record.Record`.

    Raises
    ------
    MaskError
        The lesion is too small, or vanishes on the new grid or between the thresholds of resegmentation. Where only
        a region around it does, that is a failure of its keys.
    VoxelError
        NaN or infinite voxels in the lesion, or where they would spread from.

    """
    values: Values = {}
    failures: Failures = {}
    if LESION in settings.regions:
        _measure(LESION, prepare(cut, settings), settings, values, failures)
    if settings.bands:
        for name, found in prepare_bands(cut, settings).items():
            if isinstance(found, HgpscaleError):
                keys = [key for key in Contents.of(settings).keys if key[0] == name]
                failures.update(dict.fromkeys(keys, Failure.of(found)))
            else:
                _measure(name, found, settings, values, failures)
    return values, failures


def _measure(region: str, prepared: Prepared, settings: Settings, values: Values, failures: Failures) -> None:
    """Compute one region's features on all image types."""
    outline = CpuRegion(Footprint(prepared.shape_mask, prepared.spacing), settings, np.empty(0))
    shapes = [family for family in settings.features if family in SHAPE_FAMILIES]
    _compute(region, shapes, {ORIGINAL: outline}, values, failures)
    textures = [family for family in settings.features if family not in SHAPE_FAMILIES]
    if not textures:
        return
    for batch in on_cpu.batches(prepared, settings):
        for image, found in batch.items():
            if isinstance(found, HgpscaleError):
                failures.update(dict.fromkeys(((region, image, family) for family in textures), Failure.of(found)))
        regions = {image: found for image, found in batch.items() if isinstance(found, Region)}
        _compute(region, textures, regions, values, failures)


def _compute(region: str, families: list[str], regions: dict[str, Region], values: Values, failures: Failures) -> None:
    for family in families:
        for image, found in zip(regions, _family(family, regions), strict=True):
            key = (region, image, family)
            if isinstance(found, HgpscaleError):
                failures[key] = Failure.of(found)
                continue
            undefined = ~np.isfinite(found)
            if undefined.any():
                found[undefined] = np.nan
                names = itertools.compress(regions[image].settings.features[family], undefined)
                n_voxel = int(np.count_nonzero(regions[image].footprint.mask))
                reason = f"{family} {', '.join(names)}: not defined on this region of {n_voxel} voxels"
                failures[key] = Failure("features", reason)
            values[key] = found


def _family(family: str, regions: dict[str, Region]) -> list[NDArray[np.float64] | HgpscaleError]:
    if not regions:
        return []
    names = next(iter(regions.values())).settings.features[family]
    return compute(family, list(regions.values()), names)
