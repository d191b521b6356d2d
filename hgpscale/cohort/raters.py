"""How well raters agree on one lesion: overlap and volume of their masks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from hgpscale.volume import Volume


@dataclass(frozen=True)
class RaterAgreement:
    """Agreement of the raters of one lesion.

    Attributes
    ----------
    volumes
        Volume in mm³ by rater.
    dice
        Dice coefficient by pair of raters; empty for a single rater.

    """

    volumes: dict[str, float]
    dice: dict[tuple[str, str], float]

    @property
    def worst_dice(self) -> float | None:
        """The lowest Dice of all pairs; None for a single rater."""
        return min(self.dice.values(), default=None)

    @property
    def mean_dice(self) -> float | None:
        """The mean Dice over all pairs; None for a single rater."""
        return sum(self.dice.values()) / len(self.dice) if self.dice else None

    @property
    def spread(self) -> float | None:
        """The largest volume divided by the smallest; None for a single rater or where a mask is empty."""
        return volume_spread(list(self.volumes.values()))


def dice(a: Volume, b: Volume) -> float:
    """Return twice the shared voxels over the sum of both masks' voxels; NaN where both are empty.

    Parameters
    ----------
    a, b
        Boolean boxes ``(z, y, x)`` of one grid; they may start and end anywhere.

    Raises
    ------
    ValueError
        The grids differ in size.

    """
    if a.geometry.size != b.geometry.size:
        raise ValueError(f"masks must be on one grid, found sizes {a.geometry.size} and {b.geometry.size} (z, y, x)")
    total = int(a.array.sum()) + int(b.array.sum())
    return 2 * shared_voxels(a, b) / total if total else float("nan")


def shared_voxels(a: Volume, b: Volume) -> int:
    """Return how many voxels are in both of two boolean boxes ``(z, y, x)`` of one grid."""
    lower, upper = np.maximum(a.start, b.start), np.minimum(a.box[1], b.box[1])
    if (lower >= upper).any():
        return 0
    parts = [
        mask.array[tuple(slice(lo - s, up - s) for lo, up, s in zip(lower, upper, mask.start, strict=True))]
        for mask in (a, b)
    ]
    return int(np.count_nonzero(parts[0] & parts[1]))


def mask_volume(mask: Volume) -> float:
    """Return the volume of a boolean box ``(z, y, x)`` in mm³: voxels counted, no mesh."""
    return float(np.count_nonzero(mask.array) * np.prod(mask.geometry.spacing))


def volume_spread(volumes: list[float]) -> float | None:
    """Return the largest of some volumes over the smallest; None for fewer than two, or where one is 0."""
    if len(volumes) < 2 or min(volumes) <= 0:
        return None
    return max(volumes) / min(volumes)


def rater_agreement(masks: Mapping[str, Volume]) -> RaterAgreement:
    """Compare the masks of one lesion, boolean boxes ``(z, y, x)`` of one grid by rater.

    Raises
    ------
    ValueError
        As of `dice`.

    """
    pairs = {(a, b): dice(masks[a], masks[b]) for a, b in combinations(masks, 2)}
    return RaterAgreement({rater: mask_volume(mask) for rater, mask in masks.items()}, pairs)
