"""Bring image and region onto the grid that features are computed on, and check the voxels."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hgpscale.errors import HgpscaleError, MaskError, VoxelError
from hgpscale.filters import Source
from hgpscale.filters.source import box_in
from hgpscale.kernels.target import CPU, Target
from hgpscale.prepare.cut import padded
from hgpscale.prepare.regions import region_masks
from hgpscale.prepare.resample import is_cropped, nearest, resample_image
from hgpscale.prepare.resegment import resegment
from hgpscale.prepare.roi import bounding_box, check_size
from hgpscale.prepare.scan import normalise, scales_by_peak
from hgpscale.volume import Box, Geometry, Vector, Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hgpscale.prepare.cut import Cut
    from hgpscale.settings import Settings


class Prepared(NamedTuple):
    """A region and the image around it, ready for filters and features.

    Attributes
    ----------
    source
        The image, with the region in its box.
    shape_mask
        The region whose shape is measured, bool, in the same box: resegmentation may leave it alone.
    spacing
        mm ``(z, y, x)``.

    """

    source: Source
    shape_mask: NDArray[np.bool_]
    spacing: Vector


def prepare(cut: Cut, settings: Settings, on: Target = CPU) -> Prepared:
    """Normalise, resample and resegment the lesion as the settings say; `on` does the resampling.

    Raises
    ------
    MaskError
        The region is too small, or vanishes on the new grid or between the thresholds.
    VoxelError
        NaN or infinite voxels in the region, or where interpolation would spread them from.

    """
    image, frame, roi = _normalised(cut, settings), cut.plan.frame, cut.plan.roi
    if cut.plan.grid is not None:
        image, roi = _resampled(image, roi, cut.plan.grid, settings, on)
        frame = image.box
    return _region(image, roi, frame, cut, settings)


def prepare_bands(cut: Cut, settings: Settings, on: Target = CPU) -> dict[str, Prepared | HgpscaleError]:
    """Do the same for every region besides the lesion itself; one that cannot be measured has the reason instead.

    Its features are those of its own mask on the new grid, or on the image's where nothing is resampled: filters see
    as much around it as they would of a lesion.

    Raises
    ------
    MaskError, VoxelError
        As of `prepare`, for all of them.

    """
    ground = cut.plan.ground
    assert ground is not None, "regions were planned for"
    image, roi, whole = _normalised(cut, settings), cut.plan.roi, ((0, 0, 0), cut.image.geometry.size)
    if ground.grid is not None:
        image, roi = _resampled(image, roi, ground.grid, settings, on)
        whole = image.box
    lesion = np.zeros(ground.blocked.shape, bool)
    lesion[box_in(roi.box, ground.box[0])] = roi.array
    bounding_box(lesion)
    part = image.crop(*ground.box).array
    # Air is told by the voxels themselves, in the image's unit, not by normalised ones.
    voxels = part if not settings.normalize else _denormalised(part, cut, settings)
    masks = region_masks(lesion, image.geometry.spacing, settings.bands, ground.blocked, voxels, settings.airThreshold)
    found: dict[str, Prepared | HgpscaleError] = {}
    for name, mask in masks.items():
        try:
            if not mask.any():
                raise MaskError(
                    f"region {name} has no voxel: nothing of the lesion lies that deep, or other lesions, the liver's "
                    "border or air leave no room around it"
                )
            lower, upper = bounding_box(mask)
            region = Volume(mask, image.geometry, ground.box[0]).crop(*_shifted((lower, upper), ground.box[0]))
            frame = padded(region.box, (settings.padDistance,) * 3, whole) if is_cropped(settings) else whole
            found[name] = _region(image, region, frame, cut, settings)
        except HgpscaleError as error:
            found[name] = error
    return found


def _normalised(cut: Cut, settings: Settings) -> Volume:
    if not settings.normalize:
        return cut.image
    assert cut.scan is not None, "statistics of the scan are there where a setting needs them"
    return replace(cut.image, array=normalise(cut.image.array, cut.scan, settings))


def _denormalised(voxels: NDArray[Any], cut: Cut, settings: Settings) -> NDArray[np.float64]:
    assert cut.scan is not None, "statistics of the scan are there where a setting needs them"
    return voxels / settings.normalizeScale * cut.scan.deviation + cut.scan.mean


def _region(image: Volume, roi: Volume, frame: Box, cut: Cut, settings: Settings) -> Prepared:
    """Check and resegment one region of an image on its grid; `frame` is what filters take for a whole image."""
    lower, upper = bounding_box(roi.array)
    roi = roi.crop(*_shifted((lower, upper), roi.start))
    check_size(roi.array, settings)
    voxels = image.crop(*roi.box).array
    _check_finite(voxels[roi.array])
    kept = resegment(roi.array, voxels, settings)
    lower, upper = bounding_box(kept)
    box = tuple(slice(a, b) for a, b in zip(lower, upper, strict=True))
    mask = np.ascontiguousarray(kept[box])
    check_size(mask, settings)
    held = image.crop(*frame)
    source = Source(
        held.array,
        _less(held.start, frame[0]),
        _less(frame[1], frame[0]),
        image.geometry.spacing,
        _shifted((_less(lower, frame[0]), _less(upper, frame[0])), roi.start),
        mask,
        _peak(held, frame, cut, settings),
    )
    # pyradiomics measures the shape of the whole region, but only inside the resegmented one's box.
    shape_mask = mask if settings.resegmentShape else np.ascontiguousarray(roi.array[box])
    return Prepared(source, shape_mask, image.geometry.spacing)


def _resampled(image: Volume, roi: Volume, grid: Geometry, settings: Settings, on: Target) -> tuple[Volume, Volume]:
    interpolator = settings.interpolator
    assert interpolator is not None, "there is no grid without an interpolator"
    if interpolator != "sitkNearestNeighbor":
        _require_finite(image)
    return resample_image(image, grid, interpolator, on), Volume(nearest(roi, grid), grid)


def _peak(held: Volume, frame: Box, cut: Cut, settings: Settings) -> float:
    """Return the largest magnitude in the frame; 1 where no filter asks for it."""
    if not scales_by_peak(settings):
        return 1.0
    if held.box == frame:
        return float(np.max(np.abs(held.array.astype(np.float64))))
    assert cut.scan is not None, "statistics of the scan are there where a setting needs them"
    extremes = np.array([cut.scan.minimum, cut.scan.maximum])
    return float(np.max(np.abs(normalise(extremes, cut.scan, settings) if settings.normalize else extremes)))


def _shifted(box: Box, by: tuple[int, int, int]) -> Box:
    (z0, y0, x0), (z1, y1, x1) = box
    z, y, x = by
    return (z0 + z, y0 + y, x0 + x), (z1 + z, y1 + y, x1 + x)


def _less(index: tuple[int, int, int], by: tuple[int, int, int]) -> tuple[int, int, int]:
    return index[0] - by[0], index[1] - by[1], index[2] - by[2]


def _require_finite(image: Volume) -> None:
    """Refuse NaN and infinities anywhere that interpolation would spread them from."""
    if image.array.dtype.kind == "f" and not np.isfinite(image.array).all():
        bad = int(np.count_nonzero(~np.isfinite(image.array)))
        raise VoxelError(
            f"{bad} of the {image.array.size} voxels in and around the region are NaN or infinite and would spread "
            "by resampling; replace them (air is -1024 HU)"
        )


def _check_finite(values: NDArray[Any]) -> None:
    bad = values.size - int(np.count_nonzero(np.isfinite(values)))
    if bad:
        raise VoxelError(
            f"{bad} of the region's {values.size} voxels are NaN or infinite; replace them or mask them out"
        )
