"""One lesion: voxels, region and settings in, features out. Pure: no Dask, no zarr, no files."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hgpscale.catalog import LESION, ORIGINAL, SHAPE_FAMILIES
from hgpscale.contents import Contents, Key, image_names
from hgpscale.device import resolve
from hgpscale.errors import Failure, HgpscaleError
from hgpscale.features import CpuRegion, Footprint, Region, compute, on_cpu
from hgpscale.kernels.target import CPU, Target
from hgpscale.prepare.prepared import Prepared, prepare, prepare_bands

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hgpscale.prepare.cut import Cut
    from hgpscale.settings import Settings

Values = dict[Key, "NDArray[np.float64]"]
Failures = dict[Key, Failure]

_WORTH_A_GPU = 400_000
"""Values of a region in all its images from which on a GPU counts faster than a core does (docs/gpu.md)."""


class _Place(NamedTuple):
    """Where a lesion is computed.

    Attributes
    ----------
    on
        Makes images, and finds surfaces.
    batches
        From a region and settings to its images, some at a time, see `on_cpu.batches`.
    one_lesion
        What a lesion is computed in, which gives errors of the place their names.

    """

    on: Target
    batches: Callable[[Prepared, Settings], Iterator[dict[str, Region | HgpscaleError]]]
    one_lesion: Callable[[], AbstractContextManager[None]] = nullcontext


_CPU = _Place(CPU, on_cpu.batches)


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
    SettingsError
        The settings ask for a GPU, and there is none.
    GpuLostError
        The GPU failed, and this process can use it no more.

    """
    if takes_gpu(cut, settings):
        try:
            return _compute_lesion(cut, settings, _gpu())
        except HgpscaleError:
            raise
        except MemoryError as error:
            warnings.warn(f"{error}: computed on the CPU", UserWarning, stacklevel=2)
    return _compute_lesion(cut, settings, _CPU)


def takes_gpu(cut: Cut, settings: Settings) -> bool:
    """Say whether a lesion is computed on a GPU.

    Raises
    ------
    SettingsError
        The settings ask for one, and there is none.

    """
    if settings.device == "auto":
        region, grid = cut.plan.roi, cut.plan.grid
        finer = 1.0 if grid is None else math.prod(region.geometry.spacing) / math.prod(grid.spacing)
        n_value = finer * np.count_nonzero(region.array) * len(image_names(settings))
        return bool(n_value >= _WORTH_A_GPU) and resolve("auto") == "gpu"
    return resolve(settings.device) == "gpu"


def _gpu() -> _Place:
    from hgpscale.features import on_gpu  # numba's CUDA target is for those who want it
    from hgpscale.kernels.cuda.memory import one_lesion
    from hgpscale.kernels.cuda.target import GPU

    return _Place(GPU, on_gpu.batches, one_lesion)


def _compute_lesion(cut: Cut, settings: Settings, place: _Place) -> tuple[Values, Failures]:
    values: Values = {}
    failures: Failures = {}
    with place.one_lesion():
        if LESION in settings.regions:
            _measure(LESION, prepare(cut, settings, place.on), settings, place, values, failures)
        if settings.bands:
            for name, found in prepare_bands(cut, settings, place.on).items():
                if isinstance(found, HgpscaleError):
                    keys = [key for key in Contents.of(settings).keys if key[0] == name]
                    failures.update(dict.fromkeys(keys, Failure.of(found)))
                else:
                    _measure(name, found, settings, place, values, failures)
    return values, failures


def _measure(
    region: str, prepared: Prepared, settings: Settings, place: _Place, values: Values, failures: Failures
) -> None:
    """Compute one region's features on all image types."""
    outline = CpuRegion(Footprint(prepared.shape_mask, prepared.spacing, place.on), settings, np.empty(0))
    shapes = [family for family in settings.features if family in SHAPE_FAMILIES]
    _compute(region, shapes, {ORIGINAL: outline}, values, failures)
    textures = [family for family in settings.features if family not in SHAPE_FAMILIES]
    if not textures:
        return
    for batch in place.batches(prepared, settings):
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
