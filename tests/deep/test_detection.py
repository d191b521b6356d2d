"""Detection judged on cases that are worked out by hand, and by what must hold of any."""

from __future__ import annotations

import json

import numpy as np
import pytest
from compared import COMPARED, scan
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from hgpscale.deep.detection import (
    RATES,
    Compared,
    average_sensitivity,
    compare,
    detection_summary,
    froc,
    sensitivity_at,
)
from hgpscale.errors import DeepError

SHAPE = (2, 5, 5)
MAPS = arrays(np.uint8, SHAPE, elements=st.integers(0, 4))
SCORES = st.lists(st.sampled_from([0.2, 0.4, 0.5, 0.7, 0.9]), min_size=4, max_size=4)


def row(*numbers: int) -> NDArray[np.uint16]:
    return np.array(numbers, np.uint16).reshape(1, 1, -1)


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_a_scan_by_hand() -> None:
    #            lesion 7: 4 voxels          lesion 9: 5 voxels        lesion 3: 2 voxels
    truth = row(7, 7, 7, 7, 0, 0, 0, 9, 9, 9, 9, 9, 0, 0, 3, 3, 0, 0)
    labels = row(0, 1, 1, 1, 1, 0, 0, 3, 2, 2, 2, 0, 0, 4, 0, 0, 5, 5)
    found = compare(labels, np.array([0.9, 0.8, 0.6, 0.4, 0.3]), truth, spacing=(2.0, 1.0, 0.5))
    assert found.hits.tolist() == [7, 9, 0, 0, 0]  # 3 lies in lesion 9 as well, which 2 has taken
    assert found.truths.tolist() == [3, 7, 9]
    assert found.found.tolist() == [0, 1, 2]
    np.testing.assert_allclose(found.dice, [np.nan, 2 * 3 / 8, 2 * 3 / 8])
    np.testing.assert_allclose(found.true_volumes, [2, 4, 5])
    np.testing.assert_allclose(found.found_volumes, [np.nan, 4, 3])
    assert found.detected.tolist() == [False, True, True]
    # Candidates 1, 2 and 3 count: 8 voxels, 7 of them in lesions, which have 11.
    assert found.scan_dice == pytest.approx(2 * 7 / 19)


def test_the_surer_candidate_has_the_lesion_though_it_fits_worse() -> None:
    truth, labels = row(1, 1, 1, 1, 1, 1), row(2, 2, 2, 2, 1, 1)
    assert compare(labels, np.array([0.9, 0.2]), truth).hits.tolist() == [1, 0]
    assert compare(labels, np.array([0.2, 0.9]), truth).hits.tolist() == [0, 1]
    assert compare(labels, np.array([0.5, 0.5]), truth).hits.tolist() == [1, 0]


def test_one_candidate_over_two_lesions_hits_the_one_that_it_shares_most_with() -> None:
    found = compare(row(1, 1, 1, 1, 1, 1), np.array([0.9]), row(2, 2, 0, 1, 1, 1))
    assert (found.hits.tolist(), found.found.tolist()) == ([1], [1, 0])


@pytest.mark.parametrize(("overlap", "hits"), [(0.25, [1]), (0.2500001, [0])])
def test_a_hit_begins_at_the_overlap(overlap: float, hits: list[int]) -> None:
    found = compare(row(1, 1, 0, 0, 0), np.array([0.9]), row(0, 1, 1, 1, 0), overlap=overlap)
    assert found.hits.tolist() == hits


@given(MAPS, SCORES, MAPS)
def test_dice_and_matches_follow_from_the_voxels(
    labels: NDArray[np.uint8], scores: list[float], truth: NDArray[np.uint8]
) -> None:
    found = compare(labels, np.array(scores), truth, overlap=0.3)
    for number, candidate, value in zip(found.truths, found.found, found.dice, strict=True):
        assert (candidate > 0) == (not np.isnan(value))
        if candidate:
            assert found.hits[candidate - 1] == number
            a, b = labels == candidate, truth == number
            assert value == pytest.approx(dice(a, b))
            assert (a & b).sum() / (a | b).sum() >= 0.3
    assert sorted(found.hits[found.hits > 0]) == sorted(found.truths[found.found > 0])
    counts = np.isin(labels, [n for n, score in enumerate(scores, start=1) if score >= 0.5])
    if truth.any():
        assert found.scan_dice == pytest.approx(dice(counts, truth > 0))
    else:
        assert np.isnan(found.scan_dice)
    # What is surer than a score hits the same, whether others are there or not.
    alone = compare(np.where(counts, labels, 0), np.array(scores), truth, overlap=0.3)
    sure = np.array(scores) >= 0.5
    np.testing.assert_array_equal(alone.hits[sure], found.hits[sure])


def test_froc_by_hand() -> None:
    # Two scans of three lesions. From the surest candidate on: hit, miss, hit and miss of one score, miss, hit.
    compared = [scan([0.9, 0.7, 0.3], [1, 2, 0], 2), scan([0.8, 0.7, 0.2], [0, 0, 1], 1)]
    curve = froc(compared)
    assert curve.scores.tolist() == [np.inf, 0.9, 0.8, 0.7, 0.3, 0.2]
    np.testing.assert_allclose(curve.false_positives, [0, 0, 0.5, 1, 1.5, 1.5])
    np.testing.assert_allclose(curve.sensitivity, [0, 1 / 3, 1 / 3, 2 / 3, 2 / 3, 1])
    assert (curve.scans, curve.lesions) == (2, 3)
    expected = {0: 1 / 3, 0.125: 1 / 3, 0.5: 1 / 3, 0.99: 1 / 3, 1: 2 / 3, 1.4: 2 / 3, 1.5: 1, 8: 1}
    assert {rate: sensitivity_at(curve, rate) for rate in expected} == pytest.approx(expected)
    # 1/8, 1/4, 1/2: one third; 1: two thirds; 2, 4, 8: all.
    assert average_sensitivity(curve) == pytest.approx((3 / 3 + 2 / 3 + 3) / 7)


@given(COMPARED, st.lists(st.floats(0, 10), min_size=2, max_size=10))
def test_sensitivity_never_falls_with_more_false_positives(compared: list[Compared], rates: list[float]) -> None:
    curve = froc(compared)
    found = [sensitivity_at(curve, rate) for rate in sorted(rates)]
    assert found == sorted(found)
    assert (np.diff(curve.false_positives) >= 0).all()
    assert (np.diff(curve.sensitivity) >= 0).all()
    # LUNA16's way between the points of the curve is never below.
    if len(curve.scores) > 1:
        distinct = np.unique(curve.false_positives)
        highest = [curve.sensitivity[curve.false_positives == value].max() for value in distinct]
        assert (np.interp(RATES, distinct, highest) >= [sensitivity_at(curve, rate) - 1e-9 for rate in RATES]).all()


@given(COMPARED)
def test_froc_points_are_what_is_counted_at_each_score(compared: list[Compared]) -> None:
    curve = froc(compared)
    lesions = sum(len(one.truths) for one in compared)
    for score, false, sensitivity in zip(curve.scores, curve.false_positives, curve.sensitivity, strict=True):
        pairs = [pair for one in compared for pair in zip(one.scores, one.hits, strict=True)]
        counted = [hit > 0 for value, hit in pairs if value >= score]
        assert false == pytest.approx(counted.count(False) / len(compared))
        assert sensitivity == pytest.approx(counted.count(True) / lesions)


def test_the_summary_by_hand() -> None:
    compared = [scan([0.9, 0.7, 0.3], [1, 2, 0], 2), scan([0.8, 0.7, 0.2], [0, 0, 1], 1), scan([0.6], [0], 0)]
    told = json.loads(json.dumps(detection_summary(compared, ["A", "A", "B"], seed=3), allow_nan=False))
    counts = {key: told[key] for key in ("patients", "scans", "lesions", "candidates", "detected", "false")}
    assert counts == {"patients": 2, "scans": 3, "lesions": 3, "candidates": 7, "detected": 2, "false": 3}
    assert told["threshold"] == 0.5
    assert told["sensitivity"]["mean"] == pytest.approx(2 / 3)
    assert told["false_positives"]["mean"] == pytest.approx(1)
    assert told["dice_lesions"] == pytest.approx({"mean": 0.75, "low": 0.75, "high": 0.75})
    assert told["dice_scans"]["mean"] == 0.5  # the scan without lesions has none
    assert {key: value["mean"] for key, value in told["sensitivity_at"].items()} == pytest.approx(
        {"0.25": 1 / 3, "1": 2 / 3, "4": 1}
    )
    curve = froc(compared)
    points = list(zip(told["froc"]["false_positives"], told["froc"]["sensitivity"], strict=True))
    assert set(points) <= set(zip(curve.false_positives.tolist(), curve.sensitivity.tolist(), strict=True))
    for rate in RATES:
        assert max(s for f, s in points if f <= rate) == pytest.approx(sensitivity_at(curve, rate))


def test_intervals_hold_the_metric_and_are_of_patients() -> None:
    rng = np.random.default_rng(0)
    compared = [
        scan([float(s) for s in np.sort(rng.uniform(size=4))[::-1]], rng.permutation([0, 0, 1, 2]).tolist(), 3)
        for _ in range(60)
    ]
    told = detection_summary(compared, [str(n) for n in range(60)], seed=1)
    for found in (told["sensitivity"], told["average_sensitivity"], *told["sensitivity_at"].values()):
        assert 0 <= found["low"] <= found["mean"] <= found["high"] <= 1
    # One patient is the same whenever it is drawn.
    one = detection_summary(compared, ["A"] * 60, seed=1)
    for key in ("sensitivity", "false_positives", "average_sensitivity"):
        assert one[key]["low"] == pytest.approx(one[key]["mean"])
        assert one[key]["high"] == pytest.approx(told[key]["mean"])


def test_without_lesions_there_is_no_sensitivity() -> None:
    empty = compare(row(1, 0), np.array([0.9]), row(0, 0))
    told = detection_summary([empty], ["A"], seed=0)
    assert told["sensitivity"] == told["dice_scans"] == {"mean": None, "low": None, "high": None}
    assert told["false_positives"]["mean"] == 1
    assert told["froc"] == {"false_positives": [], "sensitivity": []}


def test_what_does_not_fit_is_told() -> None:
    with pytest.raises(DeepError, match="there is no scan"):
        froc([])
    with pytest.raises(DeepError, match=r"numbered up to 2, of 1"):
        compare(row(1, 2), np.array([0.9]), row(0, 0))
    with pytest.raises(DeepError, match="expected the same"):
        compare(row(1), np.array([0.9]), row(0, 0))
    with pytest.raises(DeepError, match="overlap is 0"):
        compare(row(1), np.array([0.9]), row(0), overlap=0)
    with pytest.raises(DeepError, match="1 scans, 2 patients"):
        detection_summary([scan([], [], 1)], ["A", "B"], seed=0)
    with pytest.raises(DeepError, match="one threshold"):
        detection_summary([scan([], [], 1), scan([], [], 1, threshold=0.4)], ["A", "B"], seed=0)
