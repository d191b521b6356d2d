"""Cut one lesion out of a scan: which voxels of image and mask its features need, and no more."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from hgpscale.errors import GeometryError
from hgpscale.prepare.resample import nearest, needed_box, resampling_grid
from hgpscale.prepare.roi import bounding_box, check_inside, choose_label, select
from hgpscale.volume import Geometry, Volume, geometry_differences

if TYPE_CHECKING:
    from hgpscale.settings import Settings


class Cut(NamedTuple):
    """All the voxels that one lesion's features need.

    Attributes
    ----------
    image
        A crop of the image, in the stored type.
    roi
        The region, bool, cropped to its box. It lies on the image's grid unless `grid` is given.
    grid
        The grid to resample both to, or None.
    label
        The mask value that was used.

    """

    image: Volume
    roi: Volume
    grid: Geometry | None
    label: int


def cut(image: Volume, mask: Volume, label: int | None, settings: Settings) -> Cut:
    """Choose the region and crop the image to what it needs.

    Parameters
    ----------
    image, mask
        Whole scans; the mask is a label map.
    label
        The lesion's value in the mask; None: the only one there is.
    settings
        Decides resampling, and how far the two grids may lie apart.

    Raises
    ------
    GeometryError
        The grids differ and `correctMask` is off, or the region reaches outside the image.
    MaskError
        The mask does not hold the region.

    """
    differences = geometry_differences(image.geometry, mask.geometry, settings.geometryTolerance)
    if differences and not settings.correctMask:
        raise GeometryError(
            f"the mask does not lie on the image's grid: {'; '.join(differences)}; resample the mask, raise "
            "geometryTolerance or set correctMask"
        )
    chosen = choose_label(mask, label)
    roi = select(mask, chosen)
    if differences:
        check_inside(roi, image.geometry)
    grid = resampling_grid(image.geometry, roi, settings)
    if grid is None:
        # Within the tolerance mask voxels are taken by index, as pyradiomics does; beyond it by nearest neighbour.
        roi = _onto(roi, image.geometry) if differences else Volume(roi.array, image.geometry, roi.start)
        z, y, x = (start + n for start, n in zip(roi.start, roi.array.shape, strict=True))
        return Cut(image.crop(roi.start, (z, y, x)), roi, None, chosen)
    assert settings.interpolator is not None, "there is no grid without an interpolator"
    return Cut(image.crop(*needed_box(image.geometry, grid, settings.interpolator)), roi, grid, chosen)


def _onto(roi: Volume, grid: Geometry) -> Volume:
    """Return the region on another grid by nearest neighbour, cropped to its box."""
    array = nearest(roi, grid)
    lower, upper = bounding_box(array)
    return Volume(array, grid).crop(lower, upper)
