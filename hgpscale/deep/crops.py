"""What a network sees of one lesion, or of a place in the liver: boxes of a prepared scan as small arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hgpscale.deep.prepared import IMAGE, INSTANCES, LIVER
from hgpscale.prepare.regions import signed_distance
from hgpscale.volume import Index, Vector

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hgpscale.deep.prepared import PreparedLesion, PreparedScan

FAR = 30.0
"""mm beyond which a distance from a lesion's surface is not told apart."""


@dataclass(frozen=True)
class Crop:
    """A box of a scan.

    Attributes
    ----------
    image
        float32 ``(z, y, x)``: HU with the window of the recipe as 0 to 1, a little more beyond it.
    lesions, liver
        float32 of the same shape: 1 inside. The liver is NaN where it is not outlined.
    distance
        float32 of the same shape, in mm from the surface of the lesion that the crop is of, negative inside, at most
        `FAR`; None: it is of no lesion.

    """

    image: NDArray[np.float32]
    lesions: NDArray[np.float32]
    liver: NDArray[np.float32]
    distance: NDArray[np.float32] | None = None

    def moved(self, change: Any) -> Crop:
        """Return the crop with all its arrays turned or mirrored alike."""
        distance = None if self.distance is None else change(self.distance)
        return Crop(change(self.image), change(self.lesions), change(self.liver), distance)


def take(
    scan: PreparedScan, start: Index, size: Index, window: tuple[float, float], lesion: PreparedLesion | None = None
) -> Crop:
    """Read a box of a scan, of a lesion in it or of none; what reaches beyond the scan is air."""
    image = windowed(scan.read(IMAGE, start, size), window)
    instances = scan.read(INSTANCES, start, size)
    liver = scan.read(LIVER, start, size).astype(np.float32) if scan.has_liver else np.full_like(image, np.nan)
    distance = None if lesion is None else distance_from(instances == lesion.number, scan.grid.spacing)
    return Crop(image, (instances > 0).astype(np.float32), liver, distance)


def take_lesion(
    scan: PreparedScan,
    lesion: PreparedLesion,
    size: Index,
    window: tuple[float, float],
    shift: Vector | Index = (0, 0, 0),
) -> Crop:
    """Read the box around a lesion, its middle off by `shift` voxels from the lesion's."""
    return take(scan, start_around(lesion.centre, size, shift), size, window, lesion)


def start_around(centre: Vector, size: Index, shift: Vector | Index = (0, 0, 0)) -> Index:
    """Return the first index of the box of this size whose middle is nearest to an index, plus a shift."""
    z, y, x = (round(c - (n - 1) / 2 + s) for c, n, s in zip(centre, size, shift, strict=True))
    return z, y, x


def distance_from(lesion: NDArray[np.bool_], spacing: Vector) -> NDArray[np.float32]:
    """Return the distance in mm from a lesion's surface, as extraction's regions have it, at most `FAR` either way.

    Where a lesion fills the box or is not in it, all of it is far inside, or far outside.
    """
    if lesion.all() or not lesion.any():
        return np.full(lesion.shape, -FAR if lesion.all() else FAR, np.float32)
    return np.clip(signed_distance(lesion, spacing), -FAR, FAR).astype(np.float32)


def windowed(hu: NDArray[Any], window: tuple[float, float]) -> NDArray[np.float32]:
    """Return HU with a window as 0 to 1; what lies beyond is cut off half a window farther out."""
    low, high = window
    return np.asarray(np.clip((hu.astype(np.float32) - low) / (high - low), -0.5, 1.5), np.float32)
