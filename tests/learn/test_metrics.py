"""Metrics against scikit-learn, SciPy and cases worked by hand, and where they are undefined."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from scipy.special import logit
from sklearn import metrics as peer
from sklearn.linear_model import LogisticRegression

from hgpscale.errors import LearnError
from hgpscale.learn.metrics import (
    METRICS,
    auc,
    binary_metrics,
    calibration,
    calibration_points,
    class_metrics,
    composition_metrics,
    decision_curve,
    number_metrics,
    roc_points,
    spearman,
)

Array = NDArray[np.float64]


def outcomes(seed: int, n: int = 80) -> tuple[NDArray[np.int64], Array, Array]:
    """Return outcomes, probabilities with ties that know something of them, and weights."""
    rng = np.random.default_rng(seed)
    p = rng.beta(1, 1, size=n).round(2)
    y = (rng.random(n) < 0.2 + 0.6 * p).astype(np.int64)
    return y, p, rng.integers(1, 4, size=n) / 3


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("weighted", [False, True])
def test_binary_metrics_are_scikit_learns(seed: int, weighted: bool) -> None:
    y, p, w = outcomes(seed)
    weight = w if weighted else None
    found = binary_metrics(y, p, weight)
    said = p >= 0.5
    expected = {
        "auc": peer.roc_auc_score(y, p, sample_weight=weight),
        "balanced_accuracy": peer.balanced_accuracy_score(y, said, sample_weight=weight),
        "sensitivity": peer.recall_score(y, said, sample_weight=weight),
        "specificity": peer.recall_score(y, said, pos_label=0, sample_weight=weight),
        "brier": peer.brier_score_loss(y, p, sample_weight=weight),
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-12), name
    x = logit(np.clip(p, 1e-6, 1 - 1e-6))[:, None]
    model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(x, y, sample_weight=weight)
    assert found["calibration_slope"] == pytest.approx(model.coef_[0, 0], rel=1e-4)


def test_calibration_of_made_predictions() -> None:
    """Logits that are doubled have half the slope; those that are shifted, the shift as the intercept."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=200_000)
    y = (rng.random(len(x)) < 1 / (1 + np.exp(-x))).astype(int)
    slope, intercept = calibration(y, 1 / (1 + np.exp(-2 * x)))
    assert slope == pytest.approx(0.5, abs=0.01)
    slope, intercept = calibration(y, 1 / (1 + np.exp(-x - 0.7)))
    assert slope == pytest.approx(1, abs=0.02)
    assert intercept == pytest.approx(-0.7, abs=0.02)


def test_calibration_by_hand() -> None:
    # At p = 1/4 two of four are ones, at 3/4 three of four: a saturated model meets both shares.
    p = np.repeat([0.25, 0.75], 4)
    y = np.array([1, 1, 0, 0, 1, 1, 1, 0])
    slope, intercept = calibration(y, p)
    assert slope == pytest.approx(math.log(3) / (2 * math.log(3)))
    # The intercept a solves expit(a - l) + expit(a + l) = 5/4 with l = log 3; then e^a is a root of a quadratic.
    # With u = e^a: u / (u + 3) + 3u / (3u + 1) = 5/4.
    roots = np.roots([2 * 3 * 4 - 5 * 3, 10 * 4 - 5 * 10, -5 * 3])
    assert intercept == pytest.approx(math.log(max(roots)))


def test_calibration_where_it_is_not_defined() -> None:
    p = np.array([0.1, 0.4, 0.6, 0.9])
    for y in ([0, 0, 0, 0], [1, 1, 1, 1]):
        assert np.isnan(calibration(y, p)).all()
    for y in ([0, 0, 1, 1], [1, 1, 0, 0]):
        slope, intercept = calibration(y, p)
        assert math.isnan(slope)
        assert intercept == pytest.approx(0)
    # A value that both classes have, and that otherwise separates them.
    assert math.isnan(calibration([0, 0, 1, 1], [0.1, 0.4, 0.4, 0.9])[0])
    # Nothing is predicted.
    slope, intercept = calibration([0, 0, 0, 1], np.full(4, 0.5))
    assert math.isnan(slope)
    assert intercept == pytest.approx(-math.log(3))
    # Probabilities of exactly 0 and 1 are cut off.
    assert np.isfinite(calibration([0, 1, 0, 1], [0.0, 0.0, 1.0, 1.0])).all()


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.integers(0, 2)), min_size=1, max_size=30))
def test_auc_is_the_share_of_pairs_in_order(rows: list[tuple[bool, int, int]]) -> None:
    above = below = 0.0
    for one, score, weight in rows:
        for other, least, w in rows:
            if one and not other:
                above += weight * w * ((score > least) + (score == least) / 2)
                below += weight * w
    found = auc(*np.array(rows, dtype=float).T)
    assert found == pytest.approx(above / below) if below else math.isnan(found)


def test_one_class_and_no_rows_are_undefined() -> None:
    found = binary_metrics([1, 1], [0.2, 0.7])
    assert {name for name, value in found.items() if not math.isnan(value)} == {"sensitivity", "brier"}
    assert found["sensitivity"] == 0.5
    assert all(map(math.isnan, binary_metrics([0, 1, 0, 1], [math.nan, 0.5, 0.2, math.nan]).values()))
    assert auc([0, 0, 1, 1], [-math.inf, 2, 2, math.inf]) == 0.875
    for found in (binary_metrics([], []), class_metrics([], np.zeros((0, 3))), number_metrics([], [], [], [])):
        assert all(map(math.isnan, found.values()))
    assert all(map(math.isnan, composition_metrics(np.zeros((0, 3)), np.zeros((0, 3))).values()))


@pytest.mark.parametrize("seed", range(3))
def test_class_metrics_are_scikit_learns(seed: int) -> None:
    rng = np.random.default_rng(seed)
    p = rng.dirichlet([1, 2, 1, 1], size=60)
    y = np.array([rng.choice(4, p=row) for row in p])
    found = class_metrics(y, p)
    assert found["auc"] == pytest.approx(peer.roc_auc_score(y, p, multi_class="ovr"))
    assert found["log_loss"] == pytest.approx(peer.log_loss(y, p, labels=range(4)))
    assert found["balanced_accuracy"] == pytest.approx(peer.balanced_accuracy_score(y, p.argmax(axis=1)))


def test_a_class_that_does_not_occur() -> None:
    found = class_metrics([0, 0, 1], [[0.2, 0.0, 0.8], [0.9, 0.1, 0.0], [0.0, 1.0, 0.0]])
    assert math.isnan(found["auc"])
    assert found["balanced_accuracy"] == 0.75
    assert found["log_loss"] == pytest.approx(-math.log(0.2 * 0.9) / 3)


@pytest.mark.parametrize("seed", range(3))
def test_number_metrics_are_scikit_learns(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y, value = rng.normal(size=(2, 50)).round(1)
    found = number_metrics(y, value, value - 1, value + 1.5)
    assert found["mae"] == pytest.approx(peer.mean_absolute_error(y, value))
    assert found["rmse"] == pytest.approx(peer.root_mean_squared_error(y, value))
    assert found["r2"] == pytest.approx(peer.r2_score(y, value))
    assert found["spearman"] == pytest.approx(stats.spearmanr(y, value).statistic)
    assert found["interval_coverage"] == ((value - 1 <= y) & (y <= value + 1.5)).mean()
    assert found["interval_width"] == pytest.approx(2.5)


def test_constant_predictions_have_no_ranks() -> None:
    assert math.isnan(spearman([1, 2, 3], [0.1, 0.1, 0.1]))
    assert math.isnan(number_metrics([2, 2], [1, 3])["r2"])
    assert set(number_metrics([1, 2], [1, 3])) == {"mae", "rmse", "r2", "spearman"}


def test_composition_by_hand() -> None:
    true = np.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]])
    predicted = np.array([[0.8, 0.2, 0.0], [0.25, 0.25, 0.5]])
    found = composition_metrics(true, predicted, [0.5, 0.0], [1.0, 0.4])
    assert found == pytest.approx(
        {
            "mae_desmoplastic": (0.2 + 0.25) / 2,
            "mae_replacement": (0.2 + 0.25) / 2,
            "mae_pushing": 0.25,
            "cross_entropy": -(math.log(0.8) + math.log(0.25)) / 2,
            "spearman_desmoplastic": 1,
            "interval_coverage": 0.5,
            "interval_width": 0.45,
        }
    )
    assert composition_metrics([[1, 0, 0]], [[0, 1, 0]])["cross_entropy"] == pytest.approx(-math.log(1e-6))


@pytest.mark.parametrize("seed", range(3))
def test_roc_points_are_scikit_learns(seed: int) -> None:
    y, p, _ = outcomes(seed)
    found = roc_points(y, p)
    for ours, theirs in zip(found, peer.roc_curve(y, p, drop_intermediate=False), strict=True):
        np.testing.assert_allclose(ours, theirs)
    assert np.trapezoid(found.true_positive, found.false_positive) == pytest.approx(auc(y, p))
    assert [len(points) for points in roc_points([1, 1], [0.2, 0.4])] == [0, 0, 0]


def test_calibration_points() -> None:
    y, p, _ = outcomes(1, n=1000)
    found = calibration_points(y, p)
    assert found.n.sum() == 1000
    assert 80 <= found.n.min() <= found.n.max() <= 120
    assert (np.diff(found.predicted) > 0).all()
    np.testing.assert_allclose(found.predicted @ found.n, p.sum())
    np.testing.assert_allclose(found.observed @ found.n, y.sum())
    for k, n in enumerate(found.n):
        interval = stats.binomtest(round(found.observed[k] * n), n).proportion_ci(method="wilson")
        assert (found.low[k], found.high[k]) == pytest.approx((interval.low, interval.high))


def test_equal_predictions_are_one_bin() -> None:
    found = calibration_points([0, 1, 1, 0, 1], [0.3, 0.3, 0.3, 0.3, 0.9], bins=5)
    assert found.n.tolist() == [4, 1]
    assert found.predicted.tolist() == pytest.approx([0.3, 0.9])
    assert found.observed.tolist() == [0.5, 1]
    assert calibration_points([], []).n.tolist() == []


def test_decision_curve_by_hand() -> None:
    found = decision_curve([1, 1, 0, 0, 0], [0.9, 0.2, 0.5, 0.2, 0.1], [0, 0.2, 0.5])
    assert found.model.tolist() == pytest.approx([2 / 5, 2 / 5 - 2 / 5 / 4, 1 / 5 - 1 / 5])
    assert found.treat_all.tolist() == pytest.approx([2 / 5, 2 / 5 - 3 / 5 / 4, 2 / 5 - 3 / 5])


def test_the_table_names_what_is_returned() -> None:
    one = [0.5]
    parts = [[1, 0, 0]]
    returned = {
        "binary": set(binary_metrics([1], one)),
        "class": set(class_metrics([0], [[0.5, 0.5]])),
        "number": set(number_metrics(one, one, one, one)),
        "composition": set(composition_metrics(parts, parts, one, one)),
    }
    returned["multitask"] = returned["binary"] | returned["composition"]
    for kind, names in returned.items():
        assert {name for name, metric in METRICS.items() if kind in metric.kinds} == names, kind


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(LearnError, match=r"true has shape \(2,\), what is predicted \(1,\)"):
        binary_metrics([0, 1], [0.5])
    with pytest.raises(LearnError, match="other than 0 and 1"):
        binary_metrics([0, 2], [0.5, 0.5])
    with pytest.raises(LearnError, match=r"weights \(1,\)"):
        binary_metrics([0, 1], [0.5, 0.5], [1])
    with pytest.raises(LearnError, match=r"expected \(row, 3\) of both"):
        composition_metrics([[1, 0]], [[1, 0]])
    with pytest.raises(LearnError, match="classes are 0 to 2, probabilities are of 2"):
        class_metrics([0, 2], [[0.5, 0.5], [1.0, 0.0]])
    with pytest.raises(LearnError, match=r"expected \(row,\) and \(row, class\)"):
        class_metrics([0, 1], [0.5, 0.5])
    with pytest.raises(LearnError, match="bins is 0"):
        calibration_points([0], [0.5], bins=0)
    with pytest.raises(LearnError, match="from 0 on, below 1"):
        decision_curve([0], [0.5], [1.0])


def test_probabilities_that_differ_by_rounding_alone_have_no_slope() -> None:
    y = np.array([0, 1, 0, 1, 1, 0])
    p = 0.3 + np.array([0, 1, 2, -1, 0, 1]) * 1e-16
    assert len(np.unique(p)) > 1
    slope, intercept = calibration(y, p)
    assert np.isnan(slope)
    assert intercept == pytest.approx(np.log(0.5 / 0.5) - np.log(0.3 / 0.7))
