"""Where the samples of one grid fall on another, to ITK's last bit.

Nearest-neighbour ties and the truncation of integer images hang on the last bit of a continuous index, so the
sums below run in ITK's order: along each output line from the whole grid's first column to the one after its
last. Indices come from whole grids, never from crops.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hgpscale.volume import Geometry, Index


class Samples(NamedTuple):
    """Continuous indices ``(z, y, x)`` on the source grid of every voxel of the target grid.

    Attributes
    ----------
    shape
        Shape ``(z, y, x)`` of the target.
    axes
        One float64 array an axis where the grids are parallel in every bit, else None.
    points
        Shape ``(n_voxel, 3)``, raster order; None where `axes` is given: they would take 24 bytes a voxel.

    """

    shape: Index
    axes: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]] | None
    points: NDArray[np.float64] | None

    def all_points(self) -> NDArray[np.float64]:
        """Return the points, shape ``(n_voxel, 3)``, also where they are stored as axes."""
        if self.points is not None:
            return self.points
        assert self.axes is not None
        return np.stack(np.meshgrid(*self.axes, indexing="ij"), axis=-1).reshape(-1, 3)


def sample(target: Geometry, source: Geometry) -> Samples:
    """Return where the voxels of `target` fall on `source`."""
    nz, ny, nx = target.size
    z, y = np.meshgrid(np.arange(nz, dtype=float), np.arange(ny, dtype=float), indexing="ij")
    first = _to_index(source, *_to_point(target, np.zeros_like(z), y, z))
    after = _to_index(source, *_to_point(target, np.full_like(z, nx), y, z))
    along = np.arange(nx) / float(nx)
    if all(_same(first[axis], after[axis]) for axis in (1, 2)) and _parallel(first, after[0]):
        x_axis = first[0][0, 0] + along * (after[0][0, 0] - first[0][0, 0])
        return Samples(target.size, (first[2][:, 0].copy(), first[1][0].copy(), x_axis), None)
    index = [first[k][..., None] + along * (after[k] - first[k])[..., None] for k in range(3)]
    return Samples(target.size, None, np.stack([index[2], index[1], index[0]], axis=-1).reshape(-1, 3))


def _same(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    return bool(np.array_equal(a, b))


def _parallel(first: tuple[NDArray[np.float64], ...], after_x: NDArray[np.float64]) -> bool:
    """Whether x is the same on every line, y depends on y alone and z on z alone."""
    x, y, z = first
    return bool(
        np.all(x == x[0, 0]) and np.all(after_x == after_x[0, 0]) and np.all(y == y[:1]) and np.all(z == z[:, :1])
    )


def _to_point(
    grid: Geometry, x: NDArray[np.float64], y: NDArray[np.float64], z: NDArray[np.float64]
) -> tuple[NDArray[np.float64], ...]:
    matrix = np.reshape(grid.direction, (3, 3)) * np.array(grid.spacing[::-1])
    return tuple(((grid.origin[r] + matrix[r, 0] * x) + matrix[r, 1] * y) + matrix[r, 2] * z for r in range(3))


def _to_index(
    grid: Geometry, x: NDArray[np.float64], y: NDArray[np.float64], z: NDArray[np.float64]
) -> tuple[NDArray[np.float64], ...]:
    inverse = _inverse(grid.spacing, grid.direction)
    v = (x - grid.origin[0], y - grid.origin[1], z - grid.origin[2])
    return tuple((inverse[r, 0] * v[0] + inverse[r, 1] * v[1]) + inverse[r, 2] * v[2] for r in range(3))


@lru_cache(maxsize=64)
def _inverse(spacing: tuple[float, ...], direction: tuple[float, ...]) -> NDArray[np.float64]:
    """Return ITK's own inverse of the index-to-point matrix: another solver's differs in the last bits."""
    import SimpleITK as sitk

    probe = sitk.Image(1, 1, 1, sitk.sitkUInt8)
    probe.SetSpacing(spacing[::-1])
    probe.SetDirection(direction)
    columns = [probe.TransformPhysicalPointToContinuousIndex(unit) for unit in np.eye(3).tolist()]
    return np.array(columns).T
