"""Intervals and tests against the papers' formulas in loops, SciPy, and how often they hold on simulated data."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from hgpscale.errors import LearnError
from hgpscale.learn.intervals import (
    Interval,
    corrected_difference,
    corrected_interval,
    delong,
    delong_difference,
)
from hgpscale.learn.metrics import auc, binary_metrics
from hgpscale.learn.resampling import bootstrap, bootstrap_contenders, bootstrap_difference, permutation_p

Array = NDArray[np.float64]


def test_corrected_interval_by_hand() -> None:
    values = [0.6, 0.7, 0.8, float("nan"), 0.9]
    found = corrected_interval(values, 0.25)
    half = stats.t.ppf(0.975, 3) * math.sqrt((1 / 4 + 0.25) * (0.05 / 3))
    assert found == pytest.approx((0.75, 0.75 - half, 0.75 + half))
    assert corrected_interval(values, 0.25, bounds=(0, 1)) == pytest.approx((0.75, 0.75 - half, 1))
    # Without overlap of training sets it is Student's.
    plain = stats.ttest_1samp([0.6, 0.7, 0.8, 0.9], 0).confidence_interval(0.9)
    assert corrected_interval(values, 0, confidence=0.9)[1:] == pytest.approx((plain.low, plain.high))


def test_corrected_difference_is_the_paired_test_without_overlap() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 12))
    found = corrected_difference([*a, np.nan, 1], [*b, 1, np.nan], 0)
    expected = stats.ttest_rel(a, b)
    limits = expected.confidence_interval()
    assert found == pytest.approx((np.mean(a - b), limits.low, limits.high, expected.pvalue))
    # The correction divides the statistic by sqrt(1 + J n_test / n_train).
    statistic = expected.statistic / math.sqrt(1 + 12 * 0.25)
    assert corrected_difference(a, b, 0.25).p == pytest.approx(2 * stats.t.sf(abs(statistic), 11))


def test_splits_that_do_not_differ() -> None:
    assert corrected_difference([0.1] * 3, [0.1] * 3, 0.25) == (0, 0, 0, 1)
    assert corrected_difference([0.3] * 3, [0.1] * 3, 0.25).p == 0
    mean, *rest = corrected_difference([0.5], [0.25], 0.25)
    assert mean == 0.25
    assert np.isnan(rest).all()
    assert np.isnan(corrected_interval([np.nan, np.nan], 0.25)).all()
    assert corrected_interval([0.1] * 10, 0.25) == pytest.approx((0.1, 0.1, 0.1))


def by_placements(y: list[int], *scores: list[float]) -> tuple[list[float], Array]:
    """Return AUCs and their covariance from every pair of a one and a nought, as DeLong and others print it."""
    ones = [k for k, value in enumerate(y) if value]
    noughts = [k for k, value in enumerate(y) if not value]

    def order(score: list[float], i: int, j: int) -> float:
        return 1.0 if score[i] > score[j] else 0.5 if score[i] == score[j] else 0.0

    v10 = [[sum(order(s, i, j) for j in noughts) / len(noughts) for i in ones] for s in scores]
    v01 = [[sum(order(s, i, j) for i in ones) / len(ones) for j in noughts] for s in scores]
    auc_of = [sum(v) / len(v) for v in v10]
    covariance = np.zeros((len(scores), len(scores)))
    for r, s in itertools.product(range(len(scores)), repeat=2):
        for v in (v10, v01):
            n = len(v[r])
            total = sum((a - auc_of[r]) * (b - auc_of[s]) for a, b in zip(v[r], v[s], strict=True))
            covariance[r, s] += total / (n - 1) / n
    return auc_of, covariance


@settings(max_examples=50)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6), st.integers(0, 6)), min_size=4, max_size=25))
def test_delong_is_the_sum_over_pairs(rows: list[tuple[bool, int, int]]) -> None:
    y = [1, 1, 0, 0, *(int(row[0]) for row in rows)]
    p, q = ([k, 3.0, 2.0, 4.0, *(float(row[k]) for row in rows)] for k in (1, 2))
    (first, second), covariance = by_placements(y, p, q)
    z = stats.norm.ppf(0.975)
    half = z * math.sqrt(covariance[0, 0])
    expected = (first, max(0, first - half), min(1, first + half))
    assert delong(y, p) == pytest.approx(expected, abs=1e-12)
    found = delong_difference(y, p, q)
    error = math.sqrt(max(0, covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]))
    assert found[:3] == pytest.approx(
        (first - second, first - second - z * error, first - second + z * error), abs=1e-7
    )
    if error > 1e-7:
        assert found.p == pytest.approx(2 * stats.norm.sf(abs(first - second) / error), abs=1e-9)


def test_delong_where_it_is_not_defined() -> None:
    y, p = [0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4]
    assert delong(y, p) == (1, 1, 1)
    assert delong_difference(y, p, [2 * v for v in p]) == (0, 0, 0, 1)
    assert np.isnan(delong([1, 1], [0.1, 0.2])).all()
    mean, *rest = delong([0, 0, 1], [0.1, 0.4, 0.3])
    assert mean == 0.5
    assert np.isnan(rest).all()
    assert np.isnan(delong_difference([0, 0, 1], [0.1, 0.4, 0.3], [0.1, 0.2, 0.3])[1:]).all()


def simulated(seed: int, n: int = 300, patients: int = 150) -> tuple[NDArray[np.str_], NDArray[np.int64], Array]:
    rng = np.random.default_rng(seed)
    y = (np.arange(n) % 3 == 0).astype(np.int64)
    return np.array([f"p{k % patients}" for k in range(n)]), y, rng.normal(size=n) + y


def test_bootstrap_is_scipys_where_each_patient_has_one_row() -> None:
    x = np.random.default_rng(1).exponential(size=60)
    found = bootstrap(lambda v: float(v.mean()), np.arange(60), x, resamples=2000)
    peer = stats.bootstrap((x,), np.mean, n_resamples=2000, method="percentile", random_state=2).confidence_interval
    assert found.mean == x.mean()
    assert found[1:] == pytest.approx(tuple(peer), abs=0.02)
    assert bootstrap(lambda v: float(v.mean()), np.arange(60), x) == bootstrap(
        lambda v: float(v.mean()), np.arange(60), x
    )


def test_patients_are_drawn_with_all_of_their_rows() -> None:
    patient = np.array(["b", "a", "b", "c", "b", "a"])
    of = {"a": 2, "b": 3, "c": 1}

    def check(rows: NDArray[np.str_], pairs: NDArray[np.int64]) -> float:
        names, counts = np.unique(rows, return_counts=True)
        assert all(n % of[str(name)] == 0 for name, n in zip(names, counts, strict=True))
        assert sum(n // of[str(name)] for name, n in zip(names, counts, strict=True)) == 3
        assert (pairs[:, 1] == 10 * pairs[:, 0]).all()
        return float(len(rows))

    found = bootstrap(check, patient, patient, np.arange(6)[:, None] * [1, 10], resamples=300)
    assert found == (6, 3, 9)


def test_rows_of_one_patient_do_not_narrow_the_interval() -> None:
    patient, y, p = simulated(0)
    once = bootstrap(auc, patient, y, p, resamples=500)
    thrice = bootstrap(auc, np.tile(patient, 3), np.tile(y, 3), np.tile(p, 3), resamples=500)
    assert thrice == pytest.approx(once)


def test_bootstrap_of_several_metrics_and_undefined_resamples() -> None:
    patient, y, p = simulated(0, n=30, patients=15)
    found = bootstrap(lambda a, b: {"auc": auc(a, b), "rows": float(len(a))}, patient, y, p, resamples=300)
    assert found["auc"] == bootstrap(auc, patient, y, p, resamples=300)
    assert found["rows"] == (30, 30, 30)
    # Two patients, one of each class: only draws of both count.
    assert bootstrap(auc, ["a", "b"], [0, 1], [0.1, 0.2], resamples=50) == (1, 1, 1)
    assert np.isnan(bootstrap(auc, ["a", "b"], [1, 1], [0.1, 0.2], resamples=50)).all()


def test_bootstrap_difference() -> None:
    patient, y, p = simulated(2)
    worse = p + np.random.default_rng(9).normal(size=len(p)) * 2
    found = bootstrap_difference(auc, patient, y, p, worse, resamples=400)
    assert found.mean == auc(y, p) - auc(y, worse)
    assert 0 < found.low < found.mean < found.high
    assert found.p == 2 / 401
    again = bootstrap_difference(auc, patient, y, worse, p, resamples=400)
    assert again == pytest.approx((-found.mean, -found.high, -found.low, found.p))
    assert bootstrap_difference(auc, patient, y, p, p, resamples=50) == (0, 0, 0, 1)
    several = bootstrap_difference(lambda a, b: {"auc": auc(a, b)}, patient, y, p, worse, resamples=400)
    assert several == {"auc": found}


def test_intervals_of_the_auc_agree() -> None:
    patient, y, p = simulated(3)
    np.testing.assert_allclose(bootstrap(auc, patient, y, p, resamples=1000), delong(y, p), atol=0.01)


def test_all_metrics_of_a_test_set_have_intervals() -> None:
    patient, y, p = simulated(4)

    def all_of_them(a: NDArray[np.int64], b: Array) -> Mapping[str, float]:
        return binary_metrics(a, 1 / (1 + np.exp(-b)))

    found = bootstrap(all_of_them, patient, y, p, resamples=400)
    assert all(isinstance(value, Interval) and value.low < value.mean < value.high for value in found.values())


def test_permutations_are_those_of_all_orders() -> None:
    """Of six patients with a lesion each, p comes to the share of the 720 orders that do as well."""
    y = np.array([0, 0, 1, 0, 1, 1])
    p = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    exact = np.mean([auc(y[list(order)], p) >= auc(y, p) for order in itertools.permutations(range(6))])
    found = permutation_p(lambda labels: auc(labels, p), np.arange(6), y, permutations=2000)
    assert found == pytest.approx(exact, abs=0.03)
    brier = permutation_p(
        lambda labels: float(((labels - p) ** 2).mean()), np.arange(6), y, permutations=400, greater=False
    )
    assert brier == pytest.approx(
        np.mean(
            [((y[list(o)] - p) ** 2).mean() <= ((y - p) ** 2).mean() + 1e-9 for o in itertools.permutations(range(6))]
        ),
        abs=0.05,
    )


def test_labels_of_a_patient_stay_together() -> None:
    patient = np.array(["a", "b", "a", "b", "c", "d", "d", "d", "e"])
    labels = np.array([1, 3, 2, 4, 5, 10, 11, 12, 6])
    seen = set()

    def look(found: NDArray[np.int64]) -> float:
        seen.add((tuple(found[[0, 2]]), tuple(found[[1, 3]]), tuple(found[[4, 8]]), frozenset(found[5:8].tolist())))
        return 1.0

    assert permutation_p(look, patient, labels, permutations=200) == 1
    pairs = [((1, 2), (3, 4)), ((3, 4), (1, 2))]
    singles = [(5, 6), (6, 5)]
    # d alone has three rows: its labels stay, in any order.
    assert seen == {(*a, b, frozenset({10, 11, 12})) for a, b in itertools.product(pairs, singles)}


def test_patients_of_unmatched_sizes_share_their_rows() -> None:
    patient, labels = np.array(["a", "b", "b"]), np.array([[1.0, 0], [0, 1], [0, 2]])
    seen = set()

    def look(found: Array) -> float:
        seen.add(tuple(found.ravel()))
        return float(found[0, 0])

    p = permutation_p(look, patient, labels, permutations=600)
    assert len(seen) == 6
    assert p == pytest.approx(1 / 3, abs=0.06)


def test_p_of_labels_that_mean_nothing_is_even() -> None:
    found = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        patient = np.repeat(np.arange(20), 2)
        # Lesions of a patient are alike, in label and in prediction.
        labels, p = np.repeat(rng.integers(0, 2, 20), 2), np.repeat(rng.normal(size=20), 2)
        if 0 < labels.sum() < 40:
            found.append(permutation_p(lambda y, p=p: auc(y, p), patient, labels, permutations=30, seed=seed))  # type: ignore[misc]
    assert stats.kstest(found, "uniform").statistic < 0.16
    assert permutation_p(lambda _: float("nan"), [0, 1], [0, 1]) != permutation_p(lambda _: 1.0, [0, 1], [0, 1])
    assert math.isnan(permutation_p(lambda _: float("nan"), [0, 1], [0, 1]))


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(LearnError, match="test_over_train is -1"):
        corrected_interval([1, 2], -1)
    with pytest.raises(LearnError, match="confidence is 95"):
        corrected_interval([1, 2], 0.25, confidence=95)
    with pytest.raises(LearnError, match="one model has 2 splits, the other 1"):
        corrected_difference([1, 2], [1], 0.25)
    with pytest.raises(LearnError, match="outcomes have shape"):
        delong([0, 1], [0.5])
    with pytest.raises(LearnError, match="other than 0 and 1"):
        delong([0, 2], [0.5, 0.5])
    with pytest.raises(LearnError, match="no lesions"):
        bootstrap(auc, [], [], [])
    with pytest.raises(LearnError, match="2 rows have a patient"):
        bootstrap(auc, ["a", "b"], [1], [0.5])
    with pytest.raises(LearnError, match="resamples is 0"):
        bootstrap(auc, ["a", "b"], [0, 1], [0.5, 0.5], resamples=0)
    with pytest.raises(LearnError, match="permutations is 0"):
        permutation_p(lambda _: 1.0, ["a"], [1], permutations=0)


def test_contenders_are_drawn_as_each_alone_is() -> None:
    rng = np.random.default_rng(4)
    patient, y = np.repeat(np.arange(20), 2), rng.integers(0, 2, 40)
    said = {"a": rng.normal(size=40) + y, "b": rng.normal(size=40), "c": np.zeros(40)}

    def metric(true: Array, predicted: Array) -> dict[str, float]:
        return {"auc": auc(true, predicted), "mean": float(predicted.mean())}

    found, differences = bootstrap_contenders(metric, patient, y, said, resamples=50, seed=3)
    for name, predicted in said.items():
        alone = bootstrap(metric, patient, y, predicted, resamples=50, seed=3)
        assert found[name].keys() == alone.keys()
        for key, interval in alone.items():
            np.testing.assert_array_equal(found[name][key], interval)
    assert list(differences) == ["b", "c"]
    for name, one in differences.items():
        alone_too = bootstrap_difference(metric, patient, y, said["a"], said[name], resamples=50, seed=3)
        for key, difference in alone_too.items():
            np.testing.assert_array_equal(one[key], difference)
