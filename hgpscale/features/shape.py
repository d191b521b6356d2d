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

from hgpscale.features.mesh_table import CORNERS, triangles
from hgpscale.features.region import Region
from hgpscale.kernels.distances import longest_distance

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

    """

    mask: NDArray[np.bool_]
    spacing: Array

    @classmethod
    def of(cls, region: Region) -> Mesh:
        """Return the mesh of a region."""
        return cls(np.pad(region.mask, 1), np.array(region.spacing))

    @cached_property
    def n_voxel(self) -> int:
        """Voxels of the region."""
        return int(np.count_nonzero(self.mask))

    @cached_property
    def _cubes(self) -> tuple[NDArray[np.int64], Array]:
        """Number of cubes of each configuration, shape ``(256,)``, and the sum of their positions, ``(256, 3)``."""
        nz, ny, nx = (n - 1 for n in self.mask.shape)
        code = np.zeros((nz, ny, nx), dtype=np.uint8)
        for bit, (z, y, x) in enumerate(CORNERS):
            code |= self.mask[z : z + nz, y : y + ny, x : x + nx].view(np.uint8) << np.uint8(bit)
        mixed = np.nonzero((code != 0) & (code != 255))
        found = code[mixed]
        positions = [np.bincount(found, weights=at, minlength=256) for at in mixed]
        return np.bincount(found, minlength=256), np.stack(positions, axis=1)

    @cached_property
    def area(self) -> float:
        """Area of the mesh in mm2."""
        counts, _ = self._cubes
        return float(counts @ _configurations(*self.spacing)[0])

    @cached_property
    def volume(self) -> float:
        """Volume inside the mesh in mm3: the divergence theorem over its triangles."""
        counts, positions = self._cubes
        _, volumes, normals = _configurations(*self.spacing)
        return float(counts @ volumes + np.sum(positions * self.spacing * normals)) / 6

    @cached_property
    def _vertices(self) -> NDArray[np.int64]:
        """Vertices in half voxels ``(z, y, x)``: one between each two neighbours of which one is in the region."""
        found = []
        for axis in range(3):
            n = self.mask.shape[axis]
            crossing = np.take(self.mask, range(1, n), axis) != np.take(self.mask, range(n - 1), axis)
            at = 2 * np.argwhere(crossing)
            at[:, axis] += 1
            found.append(at)
        return np.concatenate(found)

    def diameter(self, plane_of: int | None = None) -> float:
        """Return the longest distance of two vertices in mm; with `plane_of`, of two at the same place on that axis."""
        points = self._vertices * (self.spacing / 2)
        groups = np.zeros(len(points), dtype=np.int64) if plane_of is None else self._vertices[:, plane_of]
        return longest_distance(points, groups)

    @cached_property
    def axes(self) -> Array:
        """Variances of the voxel centres along the principal axes in mm2, ascending; 0 where rounding went below."""
        points = np.argwhere(self.mask) * self.spacing
        points -= np.mean(points, axis=0)
        points /= np.sqrt(self.n_voxel)
        # pyradiomics' solver, so that the noise of a flat region is the same; rounding can make a pair complex.
        values = np.linalg.eigvals(np.dot(points.T.copy(), points)).real
        values[(values < 0) & (values > -1e-10)] = 0
        values.sort()
        return values


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


_SPHERE = 36 * np.pi
"""A sphere has area**3 = 36 pi volume**2."""

FORMULAS: dict[str, Callable[[Mesh], Any]] = {
    "Compactness1": lambda m: m.volume / (m.area**1.5 * np.sqrt(np.pi)),
    "Compactness2": lambda m: _SPHERE * m.volume**2 / m.area**3,
    "Elongation": lambda m: np.sqrt(m.axes[1] / m.axes[2]),
    "Flatness": lambda m: np.sqrt(m.axes[0] / m.axes[2]),
    "LeastAxisLength": lambda m: 4 * np.sqrt(m.axes[0]),
    "MajorAxisLength": lambda m: 4 * np.sqrt(m.axes[2]),
    "Maximum2DDiameterColumn": lambda m: m.diameter(plane_of=1),
    "Maximum2DDiameterRow": lambda m: m.diameter(plane_of=2),
    "Maximum2DDiameterSlice": lambda m: m.diameter(plane_of=0),
    "Maximum3DDiameter": lambda m: m.diameter(),
    "MeshVolume": lambda m: m.volume,
    "MinorAxisLength": lambda m: 4 * np.sqrt(m.axes[1]),
    "SphericalDisproportion": lambda m: _ratio(m.area, (_SPHERE * m.volume**2) ** (1 / 3)),
    "Sphericity": lambda m: (_SPHERE * m.volume**2) ** (1 / 3) / m.area,
    "SurfaceArea": lambda m: m.area,
    "SurfaceVolumeRatio": lambda m: _ratio(m.area, m.volume),
    "VoxelVolume": lambda m: m.n_voxel * float(np.prod(m.spacing)),
}
