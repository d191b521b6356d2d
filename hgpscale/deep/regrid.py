"""Scans on the grid that networks work on, and back: axes nearest to the patient's, one spacing for all scans."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hgpscale.errors import TooLargeError
from hgpscale.limits import bytes_text, memory_limit
from hgpscale.volume import Geometry, Vector, Volume

if TYPE_CHECKING:
    import SimpleITK as sitk
    from numpy.typing import NDArray

AIR = -1024.0
"""HU outside of a scan."""

_BYTES_A_VOXEL = 12
"""Of scan and working grid: what reading, turning and resampling hold at once, image and outlines."""


def working_grid(geometry: Geometry, spacing: Vector) -> Geometry:
    """Return the grid of a scan's field of view with another spacing and its axes turned towards LPS.

    Axes are exchanged and reversed only: a tilted scan stays as tilted as it is. Outer faces of the first voxels
    coincide; those of the last ones are the nearest to the scan's, so that no voxel's centre lies beyond the scan.

    Parameters
    ----------
    geometry
        Of the scan.
    spacing
        ``(z, y, x)`` in mm, of the turned axes.

    Raises
    ------
    TooLargeError
        A scan of this size takes more memory on it than there is.

    """
    direction = np.reshape(geometry.direction, (3, 3))  # a column an axis x, y, z of the scan
    order, signs = _nearest_axes(direction)
    turned = direction[:, order] * signs
    old_size = np.array(geometry.size[::-1])[order]
    old_spacing = np.array(geometry.spacing[::-1])[order]
    new_spacing = np.array(spacing[::-1])
    size = np.maximum(np.ceil(old_size * old_spacing / new_spacing - 0.5 - 1e-6), 1).astype(int)
    _require_memory(geometry, size)
    # The first voxel along a reversed axis is the last one of the scan.
    corner = np.zeros(3)
    corner[order] = np.where(signs < 0, old_size - 1, 0)
    centre = np.array(geometry.point(_vector(corner[::-1])))
    origin = centre + turned @ ((new_spacing - old_spacing) / 2)
    nz, ny, nx = (int(n) for n in size[::-1])
    ox, oy, oz = (float(value) for value in origin)
    return Geometry((nz, ny, nx), spacing, (ox, oy, oz), tuple(float(value) for value in turned.ravel()))


def image_on(grid: Geometry, image: Volume) -> NDArray[np.float32]:
    """Return HU on a grid, linear between voxels and `AIR` outside."""
    import SimpleITK as sitk

    return _resampled(image, grid, sitk.sitkLinear, AIR, sitk.sitkFloat32)


def labels_on(grid: Geometry, labels: Volume) -> NDArray[Any]:
    """Return labels on a grid, in their own type: that of the nearest voxel, 0 outside."""
    import SimpleITK as sitk

    return _resampled(labels, grid, sitk.sitkNearestNeighbor, 0, None)


def share_on(grid: Geometry, region: Volume) -> NDArray[np.float32]:
    """Return how much of a region (bool, or a share from 0 to 1) there is at each voxel of a grid, linear between."""
    import SimpleITK as sitk

    plain = Volume(region.array.astype(np.float32), region.geometry, region.start)
    return _resampled(plain, grid, sitk.sitkLinear, 0, sitk.sitkFloat32)


def part(geometry: Geometry, start: Any, size: Any) -> Geometry:
    """Return the grid of a box of a grid, that begins at an index and has a size, both ``(z, y, x)``."""
    z, y, x = (int(n) for n in size)
    return Geometry((z, y, x), geometry.spacing, geometry.point(_vector(start)), geometry.direction)


def _resampled(volume: Volume, grid: Geometry, interpolator: int, outside: float, kind: int | None) -> NDArray[Any]:
    import SimpleITK as sitk

    image: sitk.Image = volume.to_sitk()
    found = sitk.Resample(
        image,
        grid.size[::-1],
        sitk.Transform(),
        interpolator,
        grid.origin,
        grid.spacing[::-1],
        grid.direction,
        outside,
        image.GetPixelID() if kind is None else kind,
    )
    return np.asarray(sitk.GetArrayFromImage(found))


def _nearest_axes(direction: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return which axis of the scan lies nearest to x, y and z, each once, and whether it is reversed."""
    from scipy.optimize import linear_sum_assignment

    _, order = linear_sum_assignment(-np.abs(direction))
    return order, np.where(direction[np.arange(3), order] < 0, -1.0, 1.0)


def _require_memory(geometry: Geometry, size: NDArray[np.int_]) -> None:
    needed = _BYTES_A_VOXEL * (int(np.prod(geometry.size, dtype=np.int64)) + int(np.prod(size, dtype=np.int64)))
    limit = memory_limit()
    if needed > limit.size:
        raise TooLargeError(f"resampling the scan takes {bytes_text(needed)}, {limit.words}; use a wider spacing")


def _vector(values: Any) -> Vector:
    z, y, x = (float(value) for value in values)
    return z, y, x
