"""Leave voxels out of the region by their value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hgpscale.errors import MaskError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from hgpscale.settings import Settings


def _relative(values: NDArray[Any], threshold: float) -> Any:
    """Return a threshold times the maximum: in the type of floats, but not in that of integers, which overflows."""
    top = np.max(values)
    return (top.item() if values.dtype.kind in "iu" else top) * threshold


# From a threshold as the setting gives it to one in the image's unit, by `resegmentMode`. numpy's own types are kept:
# pyradiomics compares in them.
_THRESHOLDS: dict[str, Callable[[NDArray[Any], float], Any]] = {
    "absolute": lambda values, threshold: threshold,
    "relative": _relative,
    "sigma": lambda values, threshold: np.mean(values) + np.std(values) * threshold,
}


def resegment(mask: NDArray[np.bool_], voxels: NDArray[Any], settings: Settings) -> NDArray[np.bool_]:
    """Return the region's voxels whose value lies between the thresholds, ends included.

    Parameters
    ----------
    mask
        The region, shape ``(z, y, x)``.
    voxels
        The image in the same box, HU for CT.
    settings
        `resegmentRange` and `resegmentMode`; one threshold is a lower one.

    Raises
    ------
    MaskError
        At most one voxel is left.

    """
    if settings.resegmentRange is None:
        return mask
    values = voxels[mask]
    limits = [_THRESHOLDS[settings.resegmentMode](values, threshold) for threshold in sorted(settings.resegmentRange)]
    kept = values >= limits[0]
    if len(limits) == 2:
        kept &= values <= limits[1]
    if np.count_nonzero(kept) <= 1:
        shown = " to ".join(f"{float(limit):g}" for limit in limits)
        raise MaskError(
            f"resegmentRange {shown} keeps {np.count_nonzero(kept)} of the region's {values.size} voxels, from "
            f"{values.min():g} to {values.max():g}; at least 2 are needed"
        )
    resegmented = mask.copy()
    resegmented[mask] = kept
    return resegmented
