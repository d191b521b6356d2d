"""What phantoms are made of: tissues, growth patterns, lesions and scanners; numbers only, no voxels."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi, prod
from typing import Any

from hgpscale.volume import Geometry, Vector

AIR, FAT, MUSCLE, BOWEL, BONE, AORTA, VESSEL = -1000.0, -100.0, 55.0, 20.0, 250.0, 150.0, 165.0
LIVER, CORE, NECROSIS, CAPSULE, COMPRESSED = 110.0, 65.0, 45.0, 145.0, 130.0
"""Mean HU of the tissues, portal venous phase."""

FIELD_OF_VIEW: Vector = (132.0, 224.0, 224.0)
"""Edges ``(z, y, x)`` in mm of the box that is scanned."""


@dataclass(frozen=True)
class GrowthPattern:
    """Fractions of a lesion's interface that grow in each way; they sum to 1."""

    desmoplastic: float = 0.0
    replacement: float = 0.0
    pushing: float = 0.0

    def __post_init__(self) -> None:
        if min(self.fractions) < 0 or abs(sum(self.fractions) - 1) > 1e-9:
            raise ValueError(f"fractions of the interface must be >= 0 and sum to 1, found {self.fractions}")

    @property
    def fractions(self) -> tuple[float, float, float]:
        """Desmoplastic, replacement and pushing, in this order."""
        return self.desmoplastic, self.replacement, self.pushing


@dataclass(frozen=True)
class Appearance:
    """How a lesion's middle and its interface look, which differs from lesion to lesion.

    The default is a lesion that shows its pattern plainly.

    Attributes
    ----------
    core, necrosis
        Mean HU of the tumour, and of what is dead more than 6 mm inside.
    texture
        Standard deviation in HU of the tumour's own texture.
    capsule, capsule_mm
        HU of the desmoplastic rim, and how far it reaches inside and outside of the surface.
    infiltration_mm
        Standard deviation by which a replacement border is displaced.
    blurred_mm
        Width of a replacement border.
    compression, compressed_mm
        HU by which a pushing border's liver is denser at the surface, and the distance over which that fades.

    """

    core: float = CORE
    necrosis: float = NECROSIS
    texture: float = 6.0
    capsule: float = CAPSULE
    capsule_mm: tuple[float, float] = (2.5, 0.0)
    infiltration_mm: float = 2.5
    blurred_mm: float = 1.0
    compression: float = COMPRESSED - LIVER
    compressed_mm: float = 4.0


@dataclass(frozen=True)
class LesionModel:
    """An ellipsoid whose axes are the scan's.

    Attributes
    ----------
    centre
        ``(z, y, x)`` in mm from the scanned box's corner.
    radii
        Semi-axes ``(z, y, x)`` in mm.
    pattern
        How its interface grows.
    appearance
        How clearly that shows.

    """

    centre: Vector
    radii: Vector
    pattern: GrowthPattern
    appearance: Appearance = Appearance()

    @property
    def volume(self) -> float:
        """Volume in mm3."""
        return ellipsoid_volume(self.radii)


@dataclass(frozen=True)
class Scanner:
    """How a centre scans and reconstructs.

    Attributes
    ----------
    spacing
        Distance of voxel centres ``(z, y, x)`` in mm.
    noise
        Standard deviation of the noise in HU.
    kernel
        Full width at half maximum in mm of the reconstruction kernel: it blurs the anatomy and correlates the noise;
        0: neither.

    """

    spacing: Vector = (2.5, 1.4, 1.4)
    noise: float = 9.0
    kernel: float = 2.0

    @property
    def geometry(self) -> Geometry:
        """Grid that covers `FIELD_OF_VIEW`."""
        return self.grid(FIELD_OF_VIEW)

    def grid(self, edges: Vector) -> Geometry:
        """Return the grid that covers a box of these edges ``(z, y, x)`` in mm."""
        size: Any = tuple(round(edge / step) for edge, step in zip(edges, self.spacing, strict=True))
        z, y, x = (step / 2 for step in self.spacing)
        return Geometry(size, self.spacing, (x, y, z), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))


def ellipsoid_volume(radii: Vector) -> float:
    """Return ``4/3 pi a b c``."""
    return 4 / 3 * pi * prod(radii)
