"""What some settings need to know of a whole image, and the normalisation made from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hgpscale.errors import VoxelError
from hgpscale.filters import SCALED_BY_PEAK
from hgpscale.prepare.resample import is_cropped

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hgpscale.settings import Settings


class ScanStatistics(NamedTuple):
    """Statistics of all voxels of an image, in its unit (HU for CT).

    Attributes
    ----------
    minimum, maximum
        Extremes.
    mean
        Arithmetic mean.
    deviation
        Standard deviation of the sample (n - 1).

    """

    minimum: float
    maximum: float
    mean: float
    deviation: float


def scan_statistics(voxels: NDArray[Any], settings: Settings) -> ScanStatistics | None:
    """Return the statistics of a whole image ``(z, y, x)``, or None where no setting asks for them.

    They are ITK's (``itk::StatisticsImageFilter``), as in pyradiomics.

    Raises
    ------
    VoxelError
        A voxel is NaN or infinite.

    """
    if not needs_scan(settings):
        return None
    import SimpleITK as sitk

    if not np.isfinite(voxels).all():
        raise VoxelError(
            "the image has NaN or infinite voxels, so that it has no mean and no maximum to scale by; replace them "
            "(air is -1024 HU), or switch off normalize and the image types that scale by the maximum"
        )
    found = sitk.StatisticsImageFilter()
    found.Execute(sitk.GetImageFromArray(voxels))
    return ScanStatistics(found.GetMinimum(), found.GetMaximum(), found.GetMean(), found.GetSigma())


def needs_scan(settings: Settings) -> bool:
    """Whether a setting needs statistics of the whole image."""
    return settings.normalize or (scales_by_peak(settings) and not is_cropped(settings))


def scales_by_peak(settings: Settings) -> bool:
    """Whether an enabled image type is scaled by the largest magnitude of what filters see."""
    return not SCALED_BY_PEAK.isdisjoint(settings.image_types)


def normalise(voxels: NDArray[Any], scan: ScanStatistics, settings: Settings) -> NDArray[np.float64]:
    """Return voxels with the whole image's mean moved to 0 and its deviation to `normalizeScale`.

    float64, in ITK's order of operations (``itk::NormalizeImageFilter``); values more than `removeOutliers`
    deviations away move to that limit.

    Raises
    ------
    VoxelError
        All voxels of the image are equal.

    """
    if scan.deviation == 0:
        raise VoxelError(f"all voxels of the image are {scan.mean:g}: it cannot be normalised; switch off normalize")
    normal = (voxels.astype(np.float64) - scan.mean) * (1.0 / scan.deviation)
    if settings.removeOutliers is not None:
        normal[normal > settings.removeOutliers] = settings.removeOutliers
        normal[normal < -settings.removeOutliers] = -settings.removeOutliers
    return normal * settings.normalizeScale
