"""From probabilities that a voxel belongs to a lesion to lesions, each with a score."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hgpscale.errors import DeepError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hgpscale.volume import Vector

THRESHOLD, WEAK = 0.5, 0.1
MIN_VOLUME = 30.0
"""mm³; a ball of 3.9 mm. Smaller ones are mostly noise and vessels, and nothing can be told of their border."""
SCORED_VOLUME = 65.0
"""mm³ whose probabilities make a score; a ball of 5 mm."""

_TOUCHING = np.ones((3, 3, 3), bool)
_MOST = int(np.iinfo(np.uint16).max)
_ROUNDING = 1e-5
"""How far from 0 and 1 interpolation and sums of 32 bits may lead."""

Slices = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class Instances:
    """Lesions of a scan, numbered from 1 in order of falling score.

    Attributes
    ----------
    labels
        Whole grid ``(z, y, x)``, uint16: 0, and in each lesion its number.
    scores
        From 0 to 1, float64, shape ``(n,)``.
    volumes
        mm³, float64, shape ``(n,)``.

    """

    labels: NDArray[np.uint16]
    scores: NDArray[np.float64]
    volumes: NDArray[np.float64]


def find_instances(
    probability: NDArray[np.float32],
    spacing: Vector,
    *,
    threshold: float = THRESHOLD,
    weak: float = WEAK,
    min_volume: float = MIN_VOLUME,
    region: NDArray[np.bool_] | None = None,
) -> Instances:
    """Return lesions and weak candidates of a scan.

    A lesion is a set of voxels at `threshold` or above that touch by face, edge or corner. A weak candidate is such a
    set at `weak` or above that holds no lesion: nobody would call it one, but without it the sensitivity at many
    false positives could not be told. Both have `min_volume`; where voxels at `threshold` have less, what is around
    them is a weak candidate.

    Parameters
    ----------
    probability
        float32, ``(z, y, x)``.
    spacing
        mm ``(z, y, x)``.
    threshold, weak
        Probabilities above 0, at most 1, `weak` not above `threshold`.
    min_volume
        Smallest volume in mm³.
    region
        Where lesions may be, such as the liver: bool, ``(z, y, x)``; None: everywhere. They are cut off at its border.

    Returns
    -------
    Instances
        The score of one is the mean of its highest probabilities, those of `SCORED_VOLUME`, or of all its voxels where
        they are fewer. The very highest would be that of a single voxel, which noise decides on; the mean of all would
        fall with the size of the blurred border, and so depend on that of the lesion. A fixed volume asks each lesion
        the same: how sure a core of 5 mm is. A weak candidate's score is below `threshold`, a lesion's is not. Of more
        than 65535 those of the lowest scores are left out.

    Raises
    ------
    DeepError
        Shapes or thresholds do not fit, or a probability is no number from 0 to 1.

    """
    if probability.ndim != 3 or (region is not None and region.shape != probability.shape):
        other = "" if region is None else f", the region {region.shape}"
        raise DeepError(f"probabilities have shape {probability.shape}{other}; expected (z, y, x), the same of both")
    if not 0 < weak <= threshold <= 1:
        raise DeepError(f"weak is {weak:g}, threshold {threshold:g}; expected 0 < weak <= threshold <= 1")
    labels = np.zeros(probability.shape, np.uint16)
    lowest, highest = probability.min(initial=0), probability.max(initial=0)
    if not (lowest >= -_ROUNDING and highest <= 1 + _ROUNDING):
        raise DeepError(f"probabilities are from {lowest:g} to {highest:g}; expected numbers from 0 to 1")
    # Numbers of 64 bits: those of Python would be rounded to the 32 of the probabilities, here below them, there above.
    inside = probability >= np.float64(weak)
    if region is not None:
        inside &= region
    box = _box(inside)
    if box is None:
        return Instances(labels, np.zeros(0), np.zeros(0))
    voxel = math.prod(spacing)
    found = _candidates(probability[box], inside[box], np.float64(threshold), min_volume / voxel)
    most = max(1, round(SCORED_VOLUME / voxel))
    scored = [(_score(values, most), len(values), place, mask) for values, place, mask in found]
    # Of equal score the larger one comes first, then the one that was found first.
    scored.sort(key=lambda one: (-one[0], -one[1]))
    scored = scored[:_MOST]
    crop = labels[box]
    for number, (_, _, place, mask) in enumerate(scored, start=1):
        crop[place][mask] = number
    return Instances(
        labels,
        np.array([score for score, *_ in scored], np.float64),
        np.array([size * voxel for _, size, *_ in scored], np.float64),
    )


Candidate = tuple["NDArray[np.float64]", Slices, "NDArray[np.bool_]"]
"""Probabilities of its voxels, the box that they are in, and which voxels of that they are."""


def _candidates(
    probability: NDArray[np.float32], inside: NDArray[np.bool_], threshold: np.float64, smallest: float
) -> Iterator[Candidate]:
    """Yield lesions, then weak candidates, of at least so many voxels."""
    held = np.zeros(probability.shape, bool)
    for place, mask in _parts(inside & (probability >= threshold), smallest):
        held[place] |= mask
        yield probability[place][mask].astype(np.float64), place, mask
    below = np.nextafter(threshold, 0.0)
    for place, mask in _parts(inside, smallest):
        if not held[place][mask].any():
            yield np.minimum(probability[place][mask].astype(np.float64), below), place, mask


def _parts(mask: NDArray[np.bool_], smallest: float) -> Iterator[tuple[Slices, NDArray[np.bool_]]]:
    """Yield the box of each set of touching voxels that is large enough, and the set in it."""
    from scipy import ndimage

    labels, count = ndimage.label(mask, _TOUCHING)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    boxes: Sequence[Slices] = ndimage.find_objects(labels)
    for number, box in enumerate(boxes, start=1):
        # A rounded spacing must not take the last voxel of what just has the volume.
        if sizes[number] >= smallest - _ROUNDING:
            yield box, labels[box] == number


def _score(values: NDArray[np.float64], most: int) -> float:
    if len(values) > most:
        values = np.partition(values, len(values) - most)[-most:]
    # The mean of equal numbers can be rounded off them.
    return float(np.clip(values.mean(), values.min(), min(values.max(), 1.0)))


def _box(mask: NDArray[np.bool_]) -> Slices | None:
    """Return the smallest box that holds all of a mask; None where it is empty."""
    ranges = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        at = np.flatnonzero(mask.any(axis=others))
        if not at.size:
            return None
        ranges.append(slice(int(at[0]), int(at[-1]) + 1))
    return ranges[0], ranges[1], ranges[2]
