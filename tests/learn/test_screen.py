"""Streaming moments to the last digits, and screening by them: equal to scikit-learn's scores, in any order."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from sklearn.feature_selection import f_classif, r_regression
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from hgpscale.learn.moments import Moments
from hgpscale.learn.screen import Screen

Array = NDArray[np.float64]


def in_batches(X: Array, *, weight: Array | None = None, targets: Array | None = None, size: int = 64) -> Moments:
    weight = np.ones(len(X)) if weight is None else weight
    moments = Moments(X.shape[1], 0 if targets is None else targets.shape[1])
    for start in range(0, len(X), size):
        at = slice(start, start + size)
        moments.add(X[at], weight[at], None if targets is None else targets[at])
    return moments


def test_a_mean_of_a_million_costs_no_digits() -> None:
    X = 1e6 + np.random.default_rng(0).normal(size=(50_000, 3))
    found, exact = in_batches(X, size=512), X.astype(np.longdouble)
    offset = (exact - exact[0]).mean(axis=0)
    np.testing.assert_allclose(found.offset, offset.astype(float), rtol=0, atol=1e-13)
    np.testing.assert_allclose(found.mean, exact.mean(axis=0).astype(float), rtol=0, atol=1.2e-10)  # one unit there
    np.testing.assert_allclose(found.deviation, exact.std(axis=0).astype(float), rtol=0, atol=1e-13)
    scaled = (X - found.pivot - found.offset) / found.deviation
    np.testing.assert_allclose(scaled, ((exact - exact.mean(axis=0)) / exact.std(axis=0)).astype(float), atol=1e-10)


def test_moments_equal_the_scaler_in_memory_with_weights_and_unknown_values() -> None:
    rng = np.random.default_rng(1)
    X = rng.normal(size=(700, 5)) * [1, 10, 100, 1e-6, 1] + [0, 5, 1e3, 1, -7]
    X[rng.random(X.shape) < 0.2] = np.nan
    X[:200, 1] = np.nan  # whole batches without a value, of which scikit-learn's partial_fit makes NaN for good
    X[:, 4] = np.nan
    weight = rng.choice([0.0, 1 / 3, 0.5, 1.0], 700)
    found, theirs = in_batches(X, weight=weight), StandardScaler().fit(X[:, :4], sample_weight=weight)
    np.testing.assert_allclose(found.mean[:4], theirs.mean_, rtol=1e-12)
    np.testing.assert_allclose(found.deviation[:4], theirs.scale_, rtol=1e-10)
    np.testing.assert_allclose(found.weight[:4], theirs.n_samples_seen_)
    assert (np.isnan(found.mean[4]), found.deviation[4], found.weight[4]) == (True, 0, 0)


@settings(deadline=None, max_examples=60)
@given(
    hnp.arrays(np.float64, st.tuples(st.integers(2, 40), st.just(2)), elements=st.floats(-1e3, 1e3, width=32)),
    st.integers(1, 7),
    st.randoms(use_true_random=False),
)
def test_order_and_batches_do_not_matter(X: Array, size: int, random: Any) -> None:
    targets = np.column_stack([np.arange(len(X)) % 3 == 0, np.linspace(-1, 1, len(X))]).astype(float)
    order = random.sample(range(len(X)), len(X))
    one = in_batches(X, targets=targets, size=len(X))
    other = in_batches(X[order], targets=targets[order], size=size)
    scale = max(1.0, float(np.abs(X).max()))
    for name, power in (("mean", 1), ("squares", 2), ("products", 1), ("target_mean", 0), ("target_squares", 0)):
        np.testing.assert_allclose(
            getattr(one, name), getattr(other, name), rtol=1e-9, atol=1e-12 * len(X) * scale**power, err_msg=name
        )


@pytest.mark.parametrize("kind", ["binary", "class", "number", "composition"])
def test_scikit_learn_s_scores(kind: str) -> None:
    rng = np.random.default_rng(2)
    X = rng.normal(size=(500, 6))
    share = np.clip(0.5 + 0.2 * X[:, 1], 0, 1)
    y: Any = {
        "binary": (X[:, 1] + rng.normal(size=500) > 0).astype(int),
        "class": np.digitize(X[:, 1] + rng.normal(size=500), [-0.5, 0.5]),
        "number": 1e5 + X[:, 1] + rng.normal(size=500),
        "composition": np.column_stack([share, (1 - share) * 0.3, (1 - share) * 0.7]),
    }[kind]
    screen = Screen(kind, n_features=2)
    shift = np.array([0, 0, 1e6, 0, -10, 0])  # means that scikit-learn's one-pass sums would lose digits to
    order = np.argsort(y if y.ndim == 1 else y[:, 0], kind="stable")  # each batch lacks most classes
    for some in np.array_split(order, 7):
        screen.partial_fit(X[some] + shift, y[some])
    if kind in ("binary", "class"):
        expected = f_classif(X, y)[0]
    elif kind == "number":
        expected = r_regression(X, y) ** 2
    else:
        expected = np.mean([r_regression(X, part) ** 2 for part in y.T], axis=0)
    np.testing.assert_allclose(screen.scores_, expected, rtol=1e-8)
    assert screen.get_support(indices=True).tolist() == sorted(np.argsort(-expected)[:2].tolist())


def test_a_weight_of_two_is_two_rows() -> None:
    rng = np.random.default_rng(3)
    X, y = rng.normal(size=(40, 3)), rng.integers(0, 2, 40)
    weight = rng.integers(0, 3, 40)
    twice = np.repeat(np.arange(40), weight)
    one, other = Screen().fit(X, y, weight), Screen().fit(X[twice], y[twice])
    np.testing.assert_allclose(one.scores_, other.scores_, rtol=1e-10)


def test_each_column_counts_the_rows_that_have_it() -> None:
    rng = np.random.default_rng(4)
    X, y = rng.normal(size=(80, 2)), rng.integers(0, 3, 80)
    X[rng.random(80) < 0.4, 0] = np.nan
    known = ~np.isnan(X[:, 0])
    assert Screen().fit(X, y).scores_[0] == pytest.approx(f_classif(X[known, :1], y[known])[0][0])


def test_what_does_not_vary_is_never_kept_and_ties_go_by_order() -> None:
    X = np.array([[5.0, 0, np.nan, 0, 1e-14 + 1], [5, 1, np.nan, 1, 1], [5, 0, np.nan, 0, 1], [5, 1, np.nan, 1, 1]])
    screen = Screen(n_features=5).fit(X, [0, 1, 0, 1])
    assert screen.get_support().tolist() == [False, True, False, True, False]
    assert np.isnan(screen.scores_[[0, 2, 4]]).all()
    assert Screen(n_features=1).fit(X, [0, 1, 0, 1]).get_support(indices=True).tolist() == [1]


@pytest.mark.parametrize("kind", ["class", "number"])
def test_scikit_learn_s_checks(kind: str) -> None:
    check_estimator(Screen(kind), on_fail="raise", on_skip=None)


@pytest.mark.parametrize(
    ("options", "y", "said"),
    [
        ({"kind": "patients"}, [0, 1], "kind is one of"),
        ({"n_features": 0}, [0, 1], "at least 1"),
        ({"kind": "composition"}, [[1, 0, 0.2], [0, 1, 0]], "no composition"),
        ({"kind": "class"}, [0.5, 0.7], "Unknown label type"),
        ({"kind": "number"}, [0.5, np.nan], "NaN"),
    ],
)
def test_what_cannot_be_screened_is_told(options: dict[str, Any], y: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Screen(**options).fit([[0.0], [1.0]], y)
