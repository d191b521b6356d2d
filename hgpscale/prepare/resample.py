"""Image and region on a new grid around the region: pyradiomics' grid, ITK's bits."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hgpscale.kernels.bspline import EXACT, MARGIN, SINGLE, WHOLE, Range, interpolate_points
from hgpscale.kernels.target import CPU, Target
from hgpscale.prepare.grid import Samples, sample
from hgpscale.volume import Geometry, Index, Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hgpscale.settings import Settings

# Interpolators that need only a margin around the region. The others read the whole scan, through SimpleITK.
_MARGINS = {"sitkBSpline": MARGIN + 3, "sitkNearestNeighbor": 2}


def is_resampled(settings: Settings) -> bool:
    """Whether a new spacing is asked for, be it the one that the image has."""
    return settings.resampledPixelSpacing is not None and settings.interpolator is not None


def is_cropped(settings: Settings) -> bool:
    """Whether filters see a crop around the region, on the image's grid or a new one, and not the whole image."""
    return settings.preCrop or is_resampled(settings)


def resampling_grid(image: Geometry, roi: Volume, settings: Settings) -> Geometry | None:
    """Return the grid to resample image and region to; None: features are computed on the image's own grid.

    That is so where no spacing or no interpolator is set, or the image has that spacing already.
    """
    spacing = _target_spacing(image, roi, settings)
    return None if spacing is None else _target_grid(roi, spacing, settings.padDistance)


def _target_spacing(image: Geometry, roi: Volume, settings: Settings) -> tuple[float, float, float] | None:
    """Return the spacing ``(z, y, x)`` to resample to, or None.

    An axis of 0, and one along which the region is a single slice, keeps the mask's spacing.
    """
    if settings.resampledPixelSpacing is None or not is_resampled(settings):
        return None
    asked = settings.resampledPixelSpacing[::-1]
    z, y, x = (
        own if step == 0 or n == 1 else step
        for step, own, n in zip(asked, roi.geometry.spacing, roi.array.shape, strict=True)
    )
    return None if np.allclose(image.spacing, (z, y, x)) else (z, y, x)


def _target_grid(roi: Volume, spacing: tuple[float, float, float], pad: int) -> Geometry:
    """Return the grid that pyradiomics resamples to.

    It covers the region's box and `pad` voxels more, but not more than the mask's own box, and is aligned so that
    the corners, not the centres, of the first voxels of the mask's and the whole new grid coincide.

    Parameters
    ----------
    roi
        Region cropped to its box, with the geometry of the whole mask.
    spacing
        New spacing ``(z, y, x)`` in mm.
    pad
        Voxels of the new grid around the box.

    """
    old = roi.geometry
    ratio = np.array(old.spacing) / np.array(spacing)
    lower = np.floor((np.array(roi.start) - 0.5) * ratio - pad)
    upper = np.ceil((np.array(roi.start) + np.array(roi.array.shape) - 0.5) * ratio + pad)
    last = np.ceil(np.array(old.size) * ratio) - 1
    lower = np.where(lower < 0, 0, lower)
    upper = np.where(upper > last, last, upper)
    size = (upper - lower + 1).astype(int)
    first = 0.5 * (np.array(spacing) - np.array(old.spacing)) / np.array(old.spacing) + lower / ratio
    return Geometry((int(size[0]), int(size[1]), int(size[2])), spacing, _point(old, first), old.direction)


def _point(grid: Geometry, index: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the physical point of a continuous index ``(z, y, x)``, summed in ITK's order."""
    z, y, x = index
    matrix = np.reshape(grid.direction, (3, 3)) * np.array(grid.spacing[::-1])
    a, b, c = (float(((matrix[r, 0] * x + matrix[r, 1] * y) + matrix[r, 2] * z) + grid.origin[r]) for r in range(3))
    return a, b, c


def needed_box(image: Geometry, target: Geometry, interpolator: str) -> tuple[Index, Index]:
    """Return the box of the image ``(lower, upper)`` that resampling to `target` reads."""
    if interpolator not in _MARGINS:
        return (0, 0, 0), image.size
    lower, upper = _extent(sample(_corners_only(target), image), image.size, _MARGINS[interpolator])
    return lower, upper


def _corners_only(grid: Geometry) -> Geometry:
    """Return the grid's eight corner voxels as a grid of their own."""
    stretch = [max(n - 1, 1) for n in grid.size]
    z, y, x = (s * k for s, k in zip(grid.spacing, stretch, strict=True))
    nz, ny, nx = (min(n, 2) for n in grid.size)
    return replace(grid, size=(nz, ny, nx), spacing=(z, y, x))


def _extent(samples: Samples, size: Index, margin: int) -> tuple[Index, Index]:
    if samples.axes is not None:
        low, high = [float(a.min()) for a in samples.axes], [float(a.max()) for a in samples.axes]
    else:
        points = samples.all_points()
        low, high = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    lower = [min(max(int(np.floor(v)) - margin, 0), n - 1) for v, n in zip(low, size, strict=True)]
    upper = [max(min(int(np.ceil(v)) + margin + 1, n), 1) for v, n in zip(high, size, strict=True)]
    return (lower[0], lower[1], lower[2]), (upper[0], upper[1], upper[2])


def resample_image(image: Volume, target: Geometry, interpolator: str, on: Target = CPU) -> Volume:
    """Interpolate the image on `target`.

    The voxel type stays: an integer image is cut toward zero, as ITK does. A voxel outside the scan becomes 0.
    `image` must hold at least `needed_box`. B-splines between parallel grids are computed where `on` says, everything
    else on the host; either way the samples come back to it.
    """
    if interpolator == "sitkNearestNeighbor":
        return Volume(nearest(image, target), target)
    if interpolator != "sitkBSpline":
        return Volume(_through_sitk(image, target, interpolator), target)
    samples = sample(target, image.geometry)
    size = image.geometry.size
    lower, upper = _extent(samples, size, 3)
    held: list[Range] = [(low - s, high - s) for low, high, s in zip(lower, upper, image.start, strict=True)]
    if samples.axes is None:  # any points: only the host has a kernel for them
        on = CPU
    coefficients = on.spline_coefficients(image.array, (held[0], held[1], held[2]))
    if samples.axes is not None:
        kind = image.array.dtype
        rounding = WHOLE if kind.kind in "iu" else SINGLE if kind == np.float32 else EXACT
        values = on.interpolate_box(coefficients, lower, size, *samples.axes, rounding)
    else:
        values = interpolate_points(coefficients, lower, size, samples.all_points()).reshape(samples.shape)
    return Volume(_cast(values, image.array.dtype), target)


def _cast(values: NDArray[np.float64], dtype: np.dtype[Any]) -> NDArray[Any]:
    if dtype.kind == "f":
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    return np.clip(values, limits.min, limits.max).astype(dtype)


def nearest(volume: Volume, target: Geometry) -> NDArray[Any]:
    """Return the nearest voxel of `volume` for every voxel of `target`; 0 outside what is held.

    Ties go up, as in ITK: the index is ``floor(c + 0.5)``.
    """
    samples = sample(target, volume.geometry)
    size, start, shape = volume.geometry.size, volume.start, volume.array.shape
    if samples.axes is not None:
        picks = [_pick(samples.axes[k], size[k], start[k], shape[k]) for k in range(3)]
        chosen = volume.array
        for axis, (at, ok) in enumerate(picks):
            chosen = chosen.take(np.where(ok, at, 0), axis)
        (_, z), (_, y), (_, x) = picks
        chosen[~(z[:, None, None] & y[:, None] & x)] = 0
        return chosen
    points = samples.all_points()
    columns = [_pick(points[:, k], size[k], start[k], shape[k]) for k in range(3)]
    inside = np.logical_and.reduce([ok for _, ok in columns])
    out = np.zeros(inside.shape, dtype=volume.array.dtype)
    out[inside] = volume.array[tuple(at[inside] for at, _ in columns)]
    return out.reshape(samples.shape)


def _pick(index: NDArray[np.float64], size: int, start: int, held: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    at = np.floor(index + 0.5).astype(np.int64) - start
    return at, (index >= -0.5) & (index < size - 0.5) & (at >= 0) & (at < held)


def _through_sitk(image: Volume, target: Geometry, interpolator: str) -> NDArray[Any]:
    import SimpleITK as sitk

    resampler = sitk.ResampleImageFilter()
    resampler.SetInterpolator(getattr(sitk, interpolator))
    resampler.SetOutputSpacing(target.spacing[::-1])
    resampler.SetOutputDirection(target.direction)
    resampler.SetOutputOrigin(target.origin)
    resampler.SetSize(target.size[::-1])
    return sitk.GetArrayFromImage(resampler.Execute(image.to_sitk()))
