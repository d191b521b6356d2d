"""Parts of a lesion and of what surrounds it, by the distance from its surface in mm.

The surface lies between the centres of voxels inside and outside. Where on the line between two such centres is
estimated from the voxels around, so that a staircase of voxels counts as the smooth surface that it stands for: the
mask is averaged over 3 x 3 x 3 voxels with weights 1, 2, 1 along each axis, and the surface is where the average
crosses 1/2. From voxel centres to the points where grid lines cross that surface distances are exact. On a sphere of
20 mm and a grid of 1 mm a margin of 4 mm has the volume of the formula within 1 %; counted from voxel centres it would
lack 9 %.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from hgpscale.kernels.surface_distance import crossing_distance

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hgpscale.bands import Band
    from hgpscale.volume import Vector

_WEIGHTS = (0.25, 0.5, 0.25)
_SURFACE = 0.5
_HELD = 0.02
"""A voxel inside keeps a level at least this far above the surface's, one outside this far below."""


def surface_level(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return a smooth field ``(z, y, x)`` that is above 1/2 inside `mask` and below outside."""
    from scipy.ndimage import correlate1d

    level = mask.astype(np.float64)
    for axis in range(3):
        level = correlate1d(level, _WEIGHTS, axis=axis, mode="nearest")
    inside, outside = np.maximum(level, _SURFACE + _HELD), np.minimum(level, _SURFACE - _HELD)
    return np.where(mask, inside, outside)


def signed_distance(mask: NDArray[np.bool_], spacing: Vector) -> NDArray[np.float64]:
    """Return every voxel's distance in mm from the surface of a region, negative inside.

    Parameters
    ----------
    mask
        The region, shape ``(z, y, x)``. Where it touches the array's border it has no surface: it may go on there.
    spacing
        mm ``(z, y, x)``.

    """
    distance = crossing_distance(surface_level(mask), _SURFACE, spacing)
    distance[mask] *= -1
    return distance


def region_masks(
    lesion: NDArray[np.bool_],
    spacing: Vector,
    bands: Mapping[str, Band],
    blocked: NDArray[np.bool_] | None = None,
    voxels: NDArray[Any] | None = None,
    air: float | None = None,
) -> dict[str, NDArray[np.bool_]]:
    """Return the voxels of each band.

    Parameters
    ----------
    lesion
        The lesion, shape ``(z, y, x)``, with room around it for the widest band.
    spacing
        mm ``(z, y, x)``.
    bands
        By the region's name.
    blocked
        Where no band goes outside of the lesion: other lesions, and what is not liver.
    voxels, air
        The image, and the value in its unit (HU) below which no band goes outside of the lesion.

    Returns
    -------
    dict
        bool masks of the lesion's shape, by the region's name; one can be empty.

    """
    distance = signed_distance(lesion, spacing)
    open_ = ~lesion
    if blocked is not None:
        open_ &= ~blocked
    if voxels is not None and air is not None:
        open_ &= voxels >= air
    masks = {}
    for name, band in bands.items():
        inside = lesion & (distance >= band.lower) if band.lower < 0 else np.zeros_like(lesion)
        # The lesion's own voxels lie at a distance below 0, those around it above.
        masks[name] = (inside & (distance <= band.upper)) | (open_ & (distance > band.lower) & (distance <= band.upper))
    return masks
