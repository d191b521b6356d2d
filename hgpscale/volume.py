"""Voxels and where they lie: the two types that all steps from reader to kernel pass on.

Conventions, held to everywhere in hgpscale: voxel arrays, sizes, indices and spacing are ordered
``(z, y, x)`` and spacing is in mm; physical points (`Geometry.origin`) and the direction matrix are ITK's, in
``(x, y, z)`` order, LPS, mm. CT voxels are Hounsfield units as stored.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import SimpleITK as sitk
    from numpy.typing import NDArray

Index = tuple[int, int, int]
Box = tuple[Index, Index]
"""First index, and index after the last, ``(z, y, x)``."""
Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Geometry:
    """The grid of a whole scan.

    Attributes
    ----------
    size
        Number of voxels ``(z, y, x)``.
    spacing
        Distance of voxel centres in mm ``(z, y, x)``.
    origin
        Physical point ``(x, y, z)`` in mm of the centre of voxel 0.
    direction
        Nine direction cosines, row by row, as SimpleITK's `GetDirection`.
    references
        DICOM's UIDs of the frame of reference that points are given in, and of the series; empty where the format has
        none. Grids of different UIDs can still be equal.

    """

    size: Index
    spacing: Vector
    origin: Vector
    direction: tuple[float, ...]
    references: tuple[str, ...] = field(default=(), compare=False, repr=False)

    @classmethod
    def of(cls, image: sitk.Image | sitk.ImageFileReader) -> Geometry:
        """Return the geometry of a 3D SimpleITK image, or of a reader that has read its header."""
        sz, sy, sx = reversed(image.GetSize())
        dz, dy, dx = reversed(image.GetSpacing())
        ox, oy, oz = image.GetOrigin()
        return cls((sz, sy, sx), (dz, dy, dx), (ox, oy, oz), tuple(image.GetDirection()))

    def point(self, index: Vector | Index) -> Vector:
        """Return the physical point ``(x, y, z)`` of a (continuous) index ``(z, y, x)``."""
        scaled = np.array([i * s for i, s in zip(index, self.spacing, strict=True)])[::-1]
        x, y, z = np.reshape(self.direction, (3, 3)) @ scaled + np.array(self.origin)
        return float(x), float(y), float(z)


@dataclass(frozen=True)
class Volume:
    """A box of a scan's voxels, with the geometry of the whole scan.

    Attributes
    ----------
    array
        Voxels ``(z, y, x)`` in the type that they are stored in.
    geometry
        Grid of the whole scan, also where `array` is a crop.
    start
        Index ``(z, y, x)`` of ``array[0, 0, 0]`` in the whole scan.

    """

    array: NDArray[Any]
    geometry: Geometry
    start: Index = (0, 0, 0)

    @classmethod
    def of(cls, image: sitk.Image) -> Volume:
        """Return the whole of a 3D SimpleITK image; the voxels are copied."""
        import SimpleITK as sitk

        return cls(sitk.GetArrayFromImage(image), Geometry.of(image))

    @property
    def box(self) -> Box:
        """Where the voxels lie in the whole scan."""
        z, y, x = (start + n for start, n in zip(self.start, self.array.shape, strict=True))
        return self.start, (z, y, x)

    def crop(self, lower: Index, upper: Index) -> Volume:
        """Return the voxels from index `lower` up to, not including, `upper`, clipped to what is held.

        Both are indices ``(z, y, x)`` of the whole scan. The voxels are copied, so the rest can be freed.
        """
        start = [max(a, s) for a, s in zip(lower, self.start, strict=True)]
        stop = [min(b, s + n) for b, s, n in zip(upper, self.start, self.array.shape, strict=True)]
        box = tuple(slice(a - s, b - s) for a, b, s in zip(start, stop, self.start, strict=True))
        return Volume(self.array[box].copy(), self.geometry, (start[0], start[1], start[2]))

    def to_sitk(self) -> sitk.Image:
        """Return the box as a SimpleITK image whose origin is the physical point of its first voxel."""
        import SimpleITK as sitk

        image = sitk.GetImageFromArray(self.array)
        image.SetSpacing(self.geometry.spacing[::-1])
        image.SetDirection(self.geometry.direction)
        image.SetOrigin(self.geometry.point(self.start))
        return image


def geometry_differences(image: Geometry, mask: Geometry, tolerance: float) -> list[str]:
    """Say how two grids differ: one sentence for each of size, spacing, origin and direction that does.

    `tolerance` is ITK's: a fraction of the image's spacing along x for spacing and origin, absolute for the
    direction cosines (``itk::ImageToImageFilterCommon``; pyradiomics' `geometryTolerance`).
    """
    length = abs(tolerance * image.spacing[2])
    checks: tuple[tuple[str, tuple[float, ...], tuple[float, ...], float, str], ...] = (
        ("size", image.size, mask.size, 0.0, "voxels (z, y, x)"),
        ("spacing", image.spacing, mask.spacing, length, "mm (z, y, x)"),
        ("origin", image.origin, mask.origin, length, "mm (x, y, z)"),
        ("direction", image.direction, mask.direction, tolerance, "cosines"),
    )
    return [
        f"{name} is {_show(a)} in the image and {_show(b)} in the mask [{unit}]"
        for name, a, b, allowed, unit in checks
        if np.max(np.abs(np.subtract(a, b))) > allowed
    ]


def _show(values: tuple[float, ...]) -> str:
    # Adding 0 makes a -0 of a direction matrix a plain 0.
    return "(" + ", ".join(f"{value + 0:.9g}" for value in values) + ")"
