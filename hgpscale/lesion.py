"""One lesion: voxels, region and settings in, features out. Pure: no Dask, no zarr, no files."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from hgpscale.catalog import IMAGE_TYPES, REGIONS
from hgpscale.errors import Failure, HgpscaleError, VoxelError
from hgpscale.features import Region, compute
from hgpscale.prepare.resample import nearest, resample_image
from hgpscale.prepare.roi import bounding_box, check_size
from hgpscale.record import Key
from hgpscale.volume import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hgpscale.prepare.cut import Cut
    from hgpscale.settings import Settings

logger = logging.getLogger(__name__)


def compute_lesion(cut: Cut, settings: Settings) -> tuple[dict[Key, NDArray[np.float64]], dict[Key, Failure]]:
    """Compute the features of one region.

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
        The region is too small or vanishes on the new grid.
    VoxelError
        NaN or infinite voxels in the region, or more grey levels than can be counted.

    """
    region = prepare_region(cut, settings)
    values: dict[Key, NDArray[np.float64]] = {}
    failures: dict[Key, Failure] = {}
    for family, names in settings.features.items():
        key = (REGIONS[0], IMAGE_TYPES[0], family)
        try:
            numbers = compute(family, region, names)
        except HgpscaleError as error:
            failures[key] = Failure.of(error)
            continue
        values[key] = np.where(np.isfinite(numbers), numbers, np.nan)
        undefined = [name for name, number in zip(names, numbers, strict=True) if not np.isfinite(number)]
        if undefined:
            reason = f"{family} {', '.join(undefined)}: not defined on this region of {region.values.size} voxels"
            failures[key] = Failure("features", reason)
    return values, failures


def prepare_region(cut: Cut, settings: Settings) -> Region:
    """Bring image and region onto the grid that features are computed on, and check the voxels.

    Parameters, errors: as `compute_lesion`.
    """
    image, roi, grid, _ = cut
    if grid is not None:
        assert settings.interpolator is not None, "there is no grid without an interpolator"
        if settings.interpolator != "sitkNearestNeighbor":
            _require_finite(image)
        image = resample_image(image, grid, settings.interpolator)
        roi = Volume(nearest(roi, grid), grid)
    lower, upper = bounding_box(roi.array)
    box = tuple(slice(a, b) for a, b in zip(lower, upper, strict=True))
    mask = np.ascontiguousarray(roi.array[box])
    check_size(mask, settings)
    first = [a + s for a, s in zip(lower, roi.start, strict=True)]
    voxels = image.crop(
        (first[0], first[1], first[2]),
        (first[0] + mask.shape[0], first[1] + mask.shape[1], first[2] + mask.shape[2]),
    ).array
    values = voxels[mask]
    _check_finite(values)
    return Region(mask, values, image.geometry.spacing, settings)


def _require_finite(image: Volume) -> None:
    """Refuse NaN and infinities anywhere that interpolation would spread them from."""
    if image.array.dtype.kind == "f" and not np.isfinite(image.array).all():
        bad = int(np.count_nonzero(~np.isfinite(image.array)))
        raise VoxelError(
            f"{bad} of the {image.array.size} voxels in and around the region are NaN or infinite and would spread "
            "by resampling; replace them (air is -1024 HU)"
        )


def _check_finite(values: NDArray[np.generic]) -> None:
    bad = values.size - int(np.count_nonzero(np.isfinite(values)))
    if bad:
        raise VoxelError(
            f"{bad} of the region's {values.size} voxels are NaN or infinite; replace them or mask them out"
        )
