"""Shape features of a region of one slice, in mm. Formulas: pyradiomics.

The outline is a marching-squares polygon at half height: straight lines between the middles of the edges at which
the region ends. What a square of four voxel centres adds to its length and area depends only on which of them belong
to the region; two that lie across from each other stay apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hgpscale.errors import FeatureError
from hgpscale.features.axes import principal_variances
from hgpscale.features.region import Region
from hgpscale.kernels.distances import longest_distance

Array = NDArray[np.float64]

_CORNERS = ((0, 0), (0, 1), (1, 1), (1, 0))
"""Corners of a square (row, column); corner k is bit k of a configuration, 0 to 15."""

_DIAGONALS = np.array([0, 1, 1, 0, 1, 2, 0, 1, 1, 0, 2, 1, 0, 1, 1, 0])
"""How many lines from the middle of an edge to that of the next one a configuration has."""

_AREA = np.array([0, 1, 1, 4, 1, 2, 4, 7, 1, 4, 2, 7, 4, 7, 7, 8]) / 8
"""Share of the square that is inside."""

_ALONG_ROW, _ALONG_COLUMN = [0b0011, 0b1100], [0b0110, 0b1001]
"""Configurations with one line from edge to opposite edge."""


@dataclass(eq=False)
class Outline:
    """A region's slice, padded by one voxel on every side.

    Attributes
    ----------
    mask
        bool, shape ``(row, column)``.
    spacing
        float64, mm, ``(row, column)``.

    """

    mask: NDArray[np.bool_]
    spacing: Array

    @classmethod
    def of(cls, region: Region) -> Outline:
        """Return the outline of a region.

        Raises
        ------
        FeatureError
            The region extends over more than one slice across `force2Ddimension`.

        """
        mask, across = region.footprint.mask, region.settings.force2Ddimension
        if mask.shape[across] > 1:
            raise FeatureError(
                f"shape2D needs a region of one slice across force2Ddimension {across}, this one's box has "
                f"{mask.shape[across]} (shape {mask.shape}, z, y, x)"
            )
        return cls(np.pad(mask.squeeze(axis=across), 1), np.delete(np.array(region.footprint.spacing), across))

    @cached_property
    def _squares(self) -> NDArray[np.int64]:
        """Number of squares of each configuration, shape ``(16,)``."""
        rows, columns = (n - 1 for n in self.mask.shape)
        code = np.zeros((rows, columns), dtype=np.int64)
        for bit, (row, column) in enumerate(_CORNERS):
            code |= self.mask[row : row + rows, column : column + columns].astype(np.int64) << bit
        return np.bincount(code.ravel(), minlength=16)

    @cached_property
    def pixel_surface(self) -> float:
        """Area of the region's voxels in mm2."""
        return int(np.count_nonzero(self.mask)) * float(np.prod(self.spacing))

    @cached_property
    def surface(self) -> float:
        """Area inside the outline in mm2."""
        return float(self._squares @ _AREA) * float(np.prod(self.spacing))

    @cached_property
    def perimeter(self) -> float:
        """Length of the outline in mm."""
        row, column = self.spacing
        diagonals = self._squares @ _DIAGONALS * np.hypot(row, column) / 2
        straight = self._squares[_ALONG_ROW].sum() * column + self._squares[_ALONG_COLUMN].sum() * row
        return float(diagonals + straight)

    @cached_property
    def diameter(self) -> float:
        """Longest distance of two of the outline's corners in mm."""
        found = []
        for axis in range(2):
            at = 2 * np.argwhere(np.diff(self.mask, axis=axis))
            at[:, axis] += 1
            found.append(at)
        corners = np.concatenate(found) * (self.spacing / 2)
        flat = np.pad(corners, ((0, 0), (0, 1)))
        return longest_distance(flat, np.zeros(len(flat), dtype=np.int64))

    @cached_property
    def axes(self) -> Array:
        """Variances of the voxel centres along the principal axes in mm2, ascending."""
        return principal_variances(self.mask, self.spacing)

    @cached_property
    def sphericity(self) -> float:
        """Perimeter of the circle of the same area over the outline's."""
        return float(2 * np.sqrt(np.pi * self.surface) / self.perimeter)


FORMULAS: dict[str, Callable[[Outline], float]] = {
    "Elongation": lambda m: np.sqrt(m.axes[0] / m.axes[1]),
    "MajorAxisLength": lambda m: 4 * np.sqrt(m.axes[1]),
    "MaximumDiameter": lambda m: m.diameter,
    "MeshSurface": lambda m: m.surface,
    "MinorAxisLength": lambda m: 4 * np.sqrt(m.axes[0]),
    "Perimeter": lambda m: m.perimeter,
    "PerimeterSurfaceRatio": lambda m: m.perimeter / m.surface,
    "PixelSurface": lambda m: m.pixel_surface,
    "SphericalDisproportion": lambda m: 1 / m.sphericity,
    "Sphericity": lambda m: m.sphericity,
}
