"""Bring image and region onto the grid that features are computed on, and check the voxels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hgpscale.errors import VoxelError
from hgpscale.filters import Source
from hgpscale.prepare.resample import nearest, resample_image
from hgpscale.prepare.resegment import resegment
from hgpscale.prepare.roi import bounding_box, check_size
from hgpscale.prepare.scan import normalise, scales_by_peak
from hgpscale.volume import Box, Vector, Volume

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


def prepare(cut: Cut, settings: Settings) -> Prepared:
    """Normalise, resample and resegment as the settings say.

    Raises
    ------
    MaskError
        The region is too small, or vanishes on the new grid or between the thresholds.
    VoxelError
        NaN or infinite voxels in the region, or where interpolation would spread them from.

    """
    image, frame, roi = cut.image, cut.plan.frame, cut.plan.roi
    if settings.normalize:
        assert cut.scan is not None, "statistics of the scan are there where a setting needs them"
        image = Volume(normalise(image.array, cut.scan, settings), image.geometry, image.start)
    if cut.plan.grid is not None:
        image, roi = _resampled(image, cut, settings)
        frame = image.box
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


def _resampled(image: Volume, cut: Cut, settings: Settings) -> tuple[Volume, Volume]:
    grid, interpolator = cut.plan.grid, settings.interpolator
    assert grid is not None, "the caller has looked"
    assert interpolator is not None, "there is no grid without an interpolator"
    if interpolator != "sitkNearestNeighbor":
        _require_finite(image)
    return resample_image(image, grid, interpolator), Volume(nearest(cut.plan.roi, grid), grid)


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
