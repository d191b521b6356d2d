"""Shape features of the region's mask in mm. Formulas: pyradiomics, IBSI ids in the catalogue.

The surface is a marching-cubes mesh at half height. A cube's triangles depend only on which of its corners belong
to the region, so the sweep counts cubes by configuration and adds up their positions, both whole numbers; area
and volume are sums over 256 configurations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hgpscale.features.axes import principal_variances
from hgpscale.features.mesh_table import triangles
from hgpscale.features.region import Region
from hgpscale.kernels.distances import longest_distance
from hgpscale.kernels.surface import corners_by_plane
from hgpscale.kernels.target import CPU, Target

Array = NDArray[np.float64]


@dataclass(eq=False)
class Mesh:
    """A region's mask, padded by one voxel on every side.

    Attributes
    ----------
    mask
        bool, shape ``(z, y, x)``.
    spacing
        float64, mm, ``(z, y, x)``.
    on
        Where the surface is looked for.

    """

    mask: NDArray[np.bool_]
    spacing: Array
    on: Target = CPU

    @classmethod
    def of(cls, region: Region) -> Mesh:
        """Return the mesh of a region."""
        return cls(np.pad(region.footprint.mask, 1), np.array(region.footprint.spacing), region.footprint.on)

    @cached_property
    def n_voxel(self) -> int:
        """Voxels of the region."""
        return int(np.count_nonzero(self.mask))

    @cached_property
    def _cubes(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Number of cubes of each configuration, shape ``(256,)``, and the sum of their positions, ``(256, 3)``."""
        counts, positions = self.on.count_cubes(self.mask)
        return counts, positions

    @cached_property
    def area(self) -> float:
        """Area of the mesh in mm2."""
        counts, _ = self._cubes
        return float(counts @ _configurations(*self.spacing)[0])

    @cached_property
    def volume(self) -> float:
        """Volume inside the mesh in mm3: the divergence theorem over its triangles. What is left of rounding is 0."""
        counts, positions = self._cubes
        _, volumes, normals = _configurations(*self.spacing)
        own, moved = counts * volumes, positions * self.spacing * normals
        total = float(own.sum() + moved.sum()) / 6
        return total if abs(total) > _ROUNDING * float(np.abs(own).sum() + np.abs(moved).sum()) else 0.0

    @cached_property
    def _vertices(self) -> NDArray[np.int16]:
        """Vertices in half voxels ``(z, y, x)``: one between each two neighbours of which one is in the region."""
        points: NDArray[np.int16] = self.on.surface_points(self.mask)
        return points

    @cached_property
    def _corners(self) -> tuple[NDArray[np.int64], ...]:
        """Vertices that can be ends of the longest distance in their plane, for the planes across each axis."""
        z, y, x = (corners_by_plane(self._vertices, axis) for axis in range(3))
        return z, y, x

    @cached_property
    def diameter(self) -> float:
        """Longest distance of two vertices in mm."""
        z, y, x = self._corners
        corners = self._vertices[np.intersect1d(np.intersect1d(z, y, assume_unique=True), x, assume_unique=True)]
        return longest_distance(corners * (self.spacing / 2), np.zeros(len(corners), dtype=np.int64))

    def diameter_in_planes(self, axis: int) -> float:
        """Return the longest distance in mm of two vertices at the same place on an axis."""
        corners = self._vertices[self._corners[axis]]
        return longest_distance(corners * (self.spacing / 2), corners[:, axis].astype(np.int64))

    @cached_property
    def axes(self) -> Array:
        """Variances of the voxel centres along the principal axes in mm2, ascending; 0 where rounding went below."""
        return principal_variances(self.mask, self.spacing)


@lru_cache(maxsize=64)
def _configurations(z: float, y: float, x: float) -> tuple[Array, Array, Array]:
    """Return, for each configuration: its area, six times its volume about its own origin, and its triangles' normals.

    For a triangle (a, b, c) moved by o the determinant is det(a, b, c) + o . (a x b + b x c + c x a).
    """
    area, volume, normal = np.zeros(256), np.zeros(256), np.zeros((256, 3))
    for configuration in range(1, 255):
        corners = triangles(configuration) * np.array([z, y, x])
        a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
        area[configuration] = 0.5 * np.sqrt((np.cross(a - c, b - c) ** 2).sum(axis=1)).sum()
        volume[configuration] = (np.cross(a, b) * c).sum()
        normal[configuration] = (np.cross(a, b) + np.cross(b, c) + np.cross(c, a)).sum(axis=0)
    return area, volume, normal


def _ratio(above: float, below: float) -> float:
    # A few voxels that touch only by edges or corners can enclose no volume in this mesh.
    return above / below if below else float("nan")


_ROUNDING = 1e-13
"""Part of the terms of a sum that may be left where they cancel."""

_SPHERE = 36 * np.pi
"""A sphere has area**3 = 36 pi volume**2."""

FORMULAS: dict[str, Callable[[Mesh], Any]] = {
    "Compactness1": lambda m: m.volume / (m.area**1.5 * np.sqrt(np.pi)),
    "Compactness2": lambda m: _SPHERE * m.volume**2 / m.area**3,
    "Elongation": lambda m: np.sqrt(m.axes[1] / m.axes[2]),
    "Flatness": lambda m: np.sqrt(m.axes[0] / m.axes[2]),
    "LeastAxisLength": lambda m: 4 * np.sqrt(m.axes[0]),
    "MajorAxisLength": lambda m: 4 * np.sqrt(m.axes[2]),
    "Maximum2DDiameterColumn": lambda m: m.diameter_in_planes(1),
    "Maximum2DDiameterRow": lambda m: m.diameter_in_planes(2),
    "Maximum2DDiameterSlice": lambda m: m.diameter_in_planes(0),
    "Maximum3DDiameter": lambda m: m.diameter,
    "MeshVolume": lambda m: m.volume,
    "MinorAxisLength": lambda m: 4 * np.sqrt(m.axes[1]),
    "SphericalDisproportion": lambda m: _ratio(m.area, (_SPHERE * m.volume**2) ** (1 / 3)),
    "Sphericity": lambda m: (_SPHERE * m.volume**2) ** (1 / 3) / m.area,
    "SurfaceArea": lambda m: m.area,
    "SurfaceVolumeRatio": lambda m: _ratio(m.area, m.volume),
    "VoxelVolume": lambda m: m.n_voxel * float(np.prod(m.spacing)),
}
