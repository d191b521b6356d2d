"""Cut one lesion out of a scan: which voxels of image and mask its features need, and no more."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hgpscale.errors import GeometryError, TooLargeError
from hgpscale.filters import FILTERS, Reach
from hgpscale.limits import bytes_text, memory_limit
from hgpscale.prepare.resample import is_cropped, is_resampled, nearest, needed_box, resampling_grid
from hgpscale.prepare.roi import bounding_box, check_inside, choose_label, select
from hgpscale.prepare.scan import ScanStatistics, scales_by_peak
from hgpscale.volume import Box, Geometry, Index, Volume, geometry_differences

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hgpscale.settings import Settings


_SAME_PLACE = 1e-6
"""Tolerance within which the voxel of the same index is the nearest one too."""

_BYTES_A_VOXEL = 24
"""Of the box that features are computed in. Less than any lesion took: 27 to 219, the more image types the more."""


class Surroundings(NamedTuple):
    """What bounds the regions outside of a lesion.

    Attributes
    ----------
    others
        Boxes of the other lesions of the scan, bool, on any grid.
    liver
        Box of the liver, bool, on any grid; None: not known, regions go anywhere.

    """

    others: tuple[Volume, ...] = ()
    liver: Volume | None = None


class Ground(NamedTuple):
    """Where the regions besides the lesion itself are looked for.

    Attributes
    ----------
    grid
        The grid to resample image and lesion to; None: the image's own.
    box
        The part of that grid; all of it where there is one to resample to.
    blocked
        bool, shape of `box`: where no region goes outside of the lesion.

    """

    grid: Geometry | None
    box: Box
    blocked: NDArray[np.bool_]


class Plan(NamedTuple):
    """What one lesion's features need of its scan.

    Attributes
    ----------
    roi
        The region, bool, cropped to its box. It lies on the image's grid unless `grid` is given.
    needed
        Part of the image whose voxels matter.
    frame
        Part of the image that filters take for a whole image; not used where `grid` is given.
    grid
        The grid to resample both to, which filters then take for the whole image; or None.
    label
        The mask value that was used.
    ground
        For the regions besides the lesion itself; None where no setting asks for them.

    """

    roi: Volume
    needed: Box
    frame: Box
    grid: Geometry | None
    label: int
    ground: Ground | None = None


class Cut(NamedTuple):
    """All the voxels that one lesion's features need.

    Attributes
    ----------
    plan
        The region, and where things lie.
    image
        The needed part of the image, in the stored type.
    scan
        Of the whole image; None where no setting asks for it.

    """

    plan: Plan
    image: Volume
    scan: ScanStatistics | None

    @property
    def nbytes(self) -> int:
        """Bytes of the voxels."""
        ground = self.plan.ground
        blocked = 0 if ground is None else ground.blocked.nbytes
        return int(self.plan.roi.array.nbytes + self.image.array.nbytes + blocked)


def plan(
    image: Geometry,
    mask: Volume,
    label: int | None,
    settings: Settings,
    surroundings: Surroundings = Surroundings(),  # noqa: B008 (it cannot change)
) -> Plan:
    """Choose the region and find out what it needs of the image.

    Parameters
    ----------
    image
        Grid of the whole scan.
    mask
        Label map of the whole scan.
    label
        The lesion's value in the mask; None: the only one there is.
    settings
        Decides resampling, filters and regions, and how far the two grids may lie apart.
    surroundings
        What bounds the regions outside of the lesion.

    Raises
    ------
    GeometryError
        The grids differ, although nothing is resampled and `correctMask` is off, or the region reaches outside the
        image.
    MaskError
        The mask does not hold the region.
    TooLargeError
        What the region would take at least is more than this process may use.

    """
    # pyradiomics asks for the tolerance where it does not resample; what it resamples lies where its points say.
    tolerance = _SAME_PLACE if is_resampled(settings) else settings.geometryTolerance
    differences = geometry_differences(image, mask.geometry, tolerance)
    if differences and not settings.correctMask and not is_resampled(settings):
        raise GeometryError(
            f"the mask does not lie on the image's grid: {'; '.join(differences)}; resample the mask, raise "
            "geometryTolerance or set correctMask"
        )
    chosen = choose_label(mask, label)
    roi = select(mask, chosen)
    if differences:
        check_inside(roi, image)
    found = _of_lesion(image, roi, chosen, settings, moved=bool(differences))
    _check_fits(found.roi.geometry if found.grid is None else found.grid, found.roi.box if found.grid is None else None)
    if not settings.bands:
        return found
    ground = _ground(image, found, settings, surroundings)
    needed = found.needed, _needed_by(ground, image, settings)
    return found._replace(needed=_around(*needed), ground=ground)


def _of_lesion(image: Geometry, roi: Volume, chosen: int, settings: Settings, *, moved: bool) -> Plan:
    """Plan for the lesion itself; `moved`: its grid is not the image's."""
    grid = resampling_grid(image, roi, settings)
    whole = (0, 0, 0), image.size
    if grid is not None:
        assert settings.interpolator is not None, "there is no grid without an interpolator"
        return Plan(roi, needed_box(image, grid, settings.interpolator), whole, grid, chosen)
    # Within the tolerance mask voxels are taken by index, as pyradiomics does; beyond it by nearest neighbour.
    roi = _onto(roi, image) if moved else Volume(roi.array, image, roi.start)
    # pyradiomics also crops where the image turns out to have the spacing that was asked for.
    if not is_cropped(settings):
        return Plan(roi, _filtered_from(roi.box, whole, image, settings), whole, None, chosen)
    frame = padded(roi.box, (settings.padDistance,) * 3, whole)
    # The peak of a crop is known only when all of it is held; that of a whole image is measured with the scan.
    needed = frame if scales_by_peak(settings) else _filtered_from(roi.box, frame, image, settings)
    return Plan(roi, needed, frame, None, chosen)


def _ground(image: Geometry, found: Plan, settings: Settings, surroundings: Surroundings) -> Ground:
    """Lay out the ground around a lesion, wide enough for its regions and for the surface's own voxels."""
    roi = found.roi
    steps = [math.ceil(settings.reach / step) + 2 for step in roi.geometry.spacing]
    box = padded(roi.box, (steps[0], steps[1], steps[2]), ((0, 0, 0), roi.geometry.size))
    if found.grid is not None:
        extent = Volume(np.empty([b - a for a, b in zip(*box, strict=True)], bool), roi.geometry, box[0])
        grid = resampling_grid(image, extent, settings)
        assert grid is not None, "the lesion alone is resampled too"
        _check_fits(grid)
        box = (0, 0, 0), grid.size
        return Ground(grid, box, _blocked(grid, surroundings))
    (z, y, x), (end_z, end_y, end_x) = box
    part = replace(image, size=(end_z - z, end_y - y, end_x - x), origin=image.point((z, y, x)))
    return Ground(None, box, _blocked(part, surroundings))


def _check_fits(grid: Geometry, box: Box | None = None) -> None:
    """Raise where a box of a grid, or all of it, takes more than this process may use, whatever is computed of it."""
    size = grid.size if box is None else tuple(end - start for start, end in zip(*box, strict=True))
    least, limit = math.prod(size) * _BYTES_A_VOXEL, memory_limit()
    if least > limit.size:
        voxels, spacing = " x ".join(map(str, size)), " x ".join(f"{step:g}" for step in grid.spacing)
        raise TooLargeError(
            f"the region's box is {voxels} voxels of {spacing} mm (z, y, x), which take {bytes_text(least)} at least; "
            f"{limit.words}: give each worker more, by fewer workers, or set a larger resampledPixelSpacing"
        )


def _blocked(grid: Geometry, surroundings: Surroundings) -> NDArray[np.bool_]:
    blocked = np.zeros(grid.size, bool)
    for other in surroundings.others:
        blocked |= nearest(other, grid)
    if surroundings.liver is not None:
        blocked |= ~nearest(surroundings.liver, grid)
    return blocked


def _needed_by(ground: Ground, image: Geometry, settings: Settings) -> Box:
    if ground.grid is not None:
        assert settings.interpolator is not None, "there is no grid without an interpolator"
        return needed_box(image, ground.grid, settings.interpolator)
    whole = (0, 0, 0), image.size
    if is_cropped(settings):
        return padded(ground.box, (settings.padDistance,) * 3, whole)
    return _filtered_from(ground.box, whole, image, settings)


def _around(one: Box, other: Box) -> Box:
    lower = [min(a, b) for a, b in zip(one[0], other[0], strict=True)]
    upper = [max(a, b) for a, b in zip(one[1], other[1], strict=True)]
    return (lower[0], lower[1], lower[2]), (upper[0], upper[1], upper[2])


def take(image: Volume, plan: Plan, scan: ScanStatistics | None) -> Cut:
    """Take what `plan` needs from an image; `scan` is `scan_statistics` of the whole image."""
    return Cut(plan, image.crop(*plan.needed), scan)


def _onto(roi: Volume, grid: Geometry) -> Volume:
    """Return the region on another grid by nearest neighbour, cropped to its box."""
    array = nearest(roi, grid)
    lower, upper = bounding_box(array)
    return Volume(array, grid).crop(lower, upper)


def _filtered_from(box: Box, frame: Box, image: Geometry, settings: Settings) -> Box:
    """Return the part of `frame` that the filters need for their values in `box`."""
    needed = [
        _reached(box, frame, FILTERS[name].reach(image.spacing, settings.of_image_type(name)))
        for name in settings.image_types
    ]
    lower = tuple(min(part[0][axis] for part in needed) for axis in range(3))
    upper = tuple(max(part[1][axis] for part in needed) for axis in range(3))
    return (lower[0], lower[1], lower[2]), (upper[0], upper[1], upper[2])


def _reached(box: Box, frame: Box, reach: Reach) -> Box:
    lower, upper = (list(corner) for corner in padded(box, reach.margin, frame))
    for axis in range(3):
        inside = lower[axis] == box[0][axis] - reach.margin[axis] and upper[axis] == box[1][axis] + reach.margin[axis]
        if reach.wraps and not inside:
            lower[axis], upper[axis] = frame[0][axis], frame[1][axis]
    return (lower[0], lower[1], lower[2]), (upper[0], upper[1], upper[2])


def padded(box: Box, margin: Index, limit: Box) -> Box:
    """Return a box with a margin, as far as `limit` goes."""
    lower = [max(a - m, low) for a, m, low in zip(box[0], margin, limit[0], strict=True)]
    upper = [min(b + m, high) for b, m, high in zip(box[1], margin, limit[1], strict=True)]
    return (lower[0], lower[1], lower[2]), (upper[0], upper[1], upper[2])
