"""Splitting against a flood fill and distances of all pairs; matching on cases worked out by hand."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hgpscale.cohort.match import dice, match_parts
from hgpscale.cohort.split import Part, part_of, split_region
from hgpscale.volume import Geometry, Volume

Voxel = tuple[int, ...]
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
SPACING = (2.5, 0.8, 1.1)


def volume(array: np.ndarray[Any, Any], direction: tuple[float, ...] = IDENTITY) -> Volume:
    z, y, x = array.shape
    return Volume(array.astype(bool), Geometry((z, y, x), SPACING, (-10.0, 20.0, 5.0), direction))


def voxels(part: Part) -> frozenset[Voxel]:
    return frozenset(tuple(int(i) for i in at) for at in np.argwhere(part.volume.array) + part.volume.start)


def brute_parts(array: np.ndarray[Any, Any], merge_mm: float) -> set[frozenset[Voxel]]:
    """Join voxel by voxel whatever touches or is near, one pair after the other."""
    parts: list[set[Voxel]] = []
    for at in map(tuple, np.argwhere(array).tolist()):

        def near(other: Voxel, at: Voxel = at) -> bool:
            steps = [abs(a - b) for a, b in zip(at, other, strict=True)]
            distance = math.hypot(*(n * mm for n, mm in zip(steps, SPACING, strict=True)))
            return max(steps) <= 1 or (merge_mm > 0 and distance <= merge_mm * (1 + 1e-9))

        joined = [part for part in parts if any(map(near, part))]
        parts = [part for part in parts if part not in joined] + [set().union({at}, *joined)]
    return {frozenset(part) for part in parts}


@settings(max_examples=60, deadline=None)
@given(
    array=arrays.arrays(bool, (4, 5, 6), elements=st.sampled_from([False, False, False, False, True])),
    merge_mm=st.sampled_from([0.0, 0.8, 2.0, 2.2, 2.5, 3.1, 5.0, 100.0]),
)
def test_parts_are_those_of_a_flood_fill(array: np.ndarray[Any, Any], merge_mm: float) -> None:
    parts = split_region(volume(array), merge_mm)
    assert {voxels(part) for part in parts} == brute_parts(array, merge_mm)
    assert [part.place for part in parts] == sorted(part.place for part in parts)
    for part in parts:
        assert part.mm3 == pytest.approx(len(voxels(part)) * math.prod(SPACING))


@settings(max_examples=30, deadline=None)
@given(array=arrays.arrays(bool, (4, 5, 6), elements=st.sampled_from([False, False, False, False, True])))
def test_numbers_follow_the_position_in_the_patient_not_the_order_of_storage(array: np.ndarray[Any, Any]) -> None:
    # The same voxels stored from the other end: found in the other order, at the same points.
    forward = volume(array)
    turned = tuple(-value for value in IDENTITY)
    z, y, x = array.shape
    origin = forward.geometry.point((z - 1, y - 1, x - 1))
    backward = Volume(array[::-1, ::-1, ::-1], Geometry((z, y, x), SPACING, origin, turned))
    here, there = split_region(forward), split_region(backward)
    np.testing.assert_allclose([p.centre for p in here], [p.centre for p in there], atol=1e-9)


def test_a_distance_is_of_voxel_centres_along_the_real_axes() -> None:
    array = np.zeros((5, 1, 9), bool)
    array[0, 0, 0] = array[2, 0, 0] = array[0, 0, 4] = True
    assert len(split_region(volume(array), 4.3)) == 3
    assert len(split_region(volume(array), 4.4)) == 2  # 4 voxels of 1.1 mm
    assert len(split_region(volume(array), 5.0)) == 1  # 2 planes of 2.5 mm


def line(*ranges: tuple[int, int]) -> list[Part]:
    parts = []
    for start, stop in ranges:
        array = np.zeros((1, 1, 40), bool)
        array[0, 0, start:stop] = True
        parts.append(part_of(volume(array)))
    return parts


def lesions(raters: dict[str, list[Part]]) -> list[dict[str, tuple[int, int]]]:
    found = match_parts(raters).lesions
    return [{rater: (part.volume.start[2], part.volume.box[1][2]) for rater, part in by.items()} for by in found]


def test_dice() -> None:
    a, b, c = line((0, 10), (5, 15), (20, 30))
    assert (dice(a, b), dice(a, a), dice(a, c)) == (0.5, 1, 0)


def test_overlapping_lesions_match_and_the_others_are_kept_and_told() -> None:
    raters = {"A": line((0, 10), (20, 30)), "B": line((2, 12), (33, 39))}
    assert lesions(raters) == [{"A": (0, 10), "B": (2, 12)}, {"A": (20, 30)}, {"B": (33, 39)}]
    assert match_parts(raters).notes == (
        "1 of 2 lesions of A match no other rater's: kept on their own",
        "1 of 2 lesions of B match no other rater's: kept on their own",
    )


def test_a_lesion_that_one_rater_splits_goes_with_the_better_half() -> None:
    raters = {"A": line((0, 20)), "B": line((0, 6), (8, 20))}
    assert lesions(raters) == [{"B": (0, 6)}, {"A": (0, 20), "B": (8, 20)}]
    assert "2 lesions of B overlap one of other raters: at most one is matched" in match_parts(raters).notes


def test_two_lesions_that_one_rater_merges() -> None:
    raters = {"A": line((0, 6), (8, 20)), "B": line((0, 20))}
    assert lesions(raters) == [{"A": (0, 6)}, {"A": (8, 20), "B": (0, 20)}]
    (note,) = [note for note in match_parts(raters).notes if "overlaps" in note]
    assert note == "a lesion of B overlaps 2 of other raters: matched with the one that overlaps best"


def test_a_third_rater_matches_what_only_the_second_saw() -> None:
    raters = {"C": line((30, 39)), "A": line((0, 10)), "B": line((30, 38))}
    assert lesions(raters) == [{"A": (0, 10)}, {"B": (30, 38), "C": (30, 39)}]


def test_the_order_of_raters_and_parts_does_not_matter() -> None:
    raters = {"A": line((0, 10), (20, 30)), "B": line((2, 12), (33, 39)), "C": line((21, 31))}
    expected = lesions(raters)
    for names in itertools.permutations(raters):
        assert lesions({name: raters[name][::-1] for name in names}) == expected
