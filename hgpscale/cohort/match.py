"""Matches the lesions that several raters outlined, by overlap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hgpscale.cohort.split import Part

MIN_DICE = 0.1
"""Least Dice coefficient of two outlines of one lesion: low, as raters differ by a lot on small ones."""


@dataclass(frozen=True, eq=False)
class Matched:
    """What belongs together.

    Attributes
    ----------
    lesions
        For each lesion the part of each rater that saw it, ordered by the position of the first rater's part.
    notes
        Sentences on parts that no other rater has, and on parts that one rater splits and another does not.

    """

    lesions: tuple[Mapping[str, Part], ...]
    notes: tuple[str, ...]


def intersection(a: Part, b: Part) -> int:
    """Return how many voxels two parts on the same grid share."""
    lower = np.maximum(a.volume.start, b.volume.start)
    upper = np.minimum(a.volume.box[1], b.volume.box[1])
    if np.any(lower >= upper):
        return 0
    box = (int(lower[0]), int(lower[1]), int(lower[2])), (int(upper[0]), int(upper[1]), int(upper[2]))
    return int(np.count_nonzero(a.volume.crop(*box).array & b.volume.crop(*box).array))


def dice(a: Part, b: Part) -> float:
    """Return the Dice coefficient of two parts on the same grid, 0 to 1."""
    total = np.count_nonzero(a.volume.array) + np.count_nonzero(b.volume.array)
    return float(2 * intersection(a, b) / total)


def match_parts(raters: Mapping[str, Sequence[Part]]) -> Matched:
    """Match the parts of several raters, one to one, so that the sum of Dice coefficients is greatest.

    Raters come in order of their names. Each one's parts are matched with the lesions so far, by the best Dice
    coefficient with any outline of the lesion; below `MIN_DICE` nothing matches, and the part is a lesion of its own.
    """
    from scipy.optimize import linear_sum_assignment

    lesions: list[dict[str, Part]] = []
    notes: list[str] = []
    for rater in sorted(raters):
        parts = sorted(raters[rater], key=lambda part: part.place)
        overlap = np.array(
            [[max(dice(part, other) for other in lesion.values()) for lesion in lesions] for part in parts]
        ).reshape(len(parts), len(lesions))
        rows, columns = linear_sum_assignment(-overlap)
        mates = {int(r): int(c) for r, c in zip(rows, columns, strict=True) if overlap[r, c] >= MIN_DICE}
        notes += _split_notes(rater, overlap, mates)
        fresh = [part for number, part in enumerate(parts) if number not in mates]
        for number, at in mates.items():
            lesions[at][rater] = parts[number]
        lesions += [{rater: part} for part in fresh]
    lesions.sort(key=lambda lesion: lesion[min(lesion)].place)
    if len(raters) > 1:
        notes += [
            f"{len(alone)} of {len(raters[rater])} lesions of {rater} match no other rater's: kept on their own"
            for rater in sorted(raters)
            if (alone := [lesion for lesion in lesions if set(lesion) == {rater}])
        ]
    return Matched(tuple(lesions), tuple(notes))


def _split_notes(rater: str, overlap: NDArray[np.float64], mates: Mapping[int, int]) -> list[str]:
    """Say where one part overlaps several lesions, or one lesion several parts, matched or not."""
    notes = []
    for number, row in enumerate(overlap):
        if np.count_nonzero(row) > 1:
            end = "matched with the one that overlaps best" if number in mates else "matched with none"
            notes.append(f"a lesion of {rater} overlaps {np.count_nonzero(row)} of other raters: {end}")
    several = [n for n in np.count_nonzero(overlap, axis=0) if n > 1]
    return notes + [f"{n} lesions of {rater} overlap one of other raters: at most one is matched" for n in several]


def check_named(parts: Mapping[tuple[str, str], Part]) -> tuple[set[tuple[str, str]], list[str]]:
    """Check the lesions that files name, across raters.

    Parameters
    ----------
    parts
        By lesion and rater.

    Returns
    -------
    set of (str, str)
        Lesions and raters that overlap another rater's outline of the same lesion.
    list of str
        Sentences on those that do not, and on raters that seem to number their lesions otherwise.

    """
    by_lesion: dict[str, list[str]] = {}
    for lesion, rater in sorted(parts):
        by_lesion.setdefault(lesion, []).append(rater)
    matched = {
        (lesion, rater)
        for lesion, raters in by_lesion.items()
        for rater in raters
        if any(dice(parts[lesion, rater], parts[lesion, o]) >= MIN_DICE for o in raters if o != rater)
    }
    notes = [
        f"lesion {lesion} of {rater} is not where {', '.join(others)} {'has' if len(others) == 1 else 'have'} it "
        f"(Dice below {MIN_DICE:g}): kept as named, counted as unmatched"
        for lesion, raters in by_lesion.items()
        for rater in raters
        if (lesion, rater) not in matched and (others := [o for o in raters if o != rater])
    ]
    told: set[frozenset[tuple[str, str]]] = set()
    for rater in sorted({rater for _, rater in parts}):
        notes += _numbered_otherwise(rater, parts, matched, told)
    return matched, notes


def _numbered_otherwise(
    rater: str,
    parts: Mapping[tuple[str, str], Part],
    matched: set[tuple[str, str]],
    told: set[frozenset[tuple[str, str]]],
) -> list[str]:
    """Say which unmatched lesions of a rater lie where others have another number; `told` grows by these pairs."""
    from scipy.optimize import linear_sum_assignment

    strange = [key for key in sorted(parts) if key[1] == rater and key not in matched]
    others = [key for key in sorted(parts) if key[1] != rater]
    lesions = sorted({lesion for lesion, _ in others})
    if not (strange and others):
        return []
    best = {
        (key, lesion): max((dice(parts[key], parts[o]), o[1]) for o in others if o[0] == lesion)
        for key in strange
        for lesion in lesions
    }
    rows, columns = linear_sum_assignment([[-best[key, lesion][0] for lesion in lesions] for key in strange])
    places = []
    for row, column in zip(rows, columns, strict=True):
        key, lesion = strange[row], lesions[column]
        overlap, other = best[key, lesion]
        pair = frozenset({key, (lesion, other)})
        if overlap >= MIN_DICE and lesion != key[0] and pair not in told:
            told.add(pair)
            places.append(f"its {key[0]} is where {other} has {lesion}")
    return [f"{rater} seems to number lesions otherwise: {', '.join(places)}: kept as named"] if places else []
