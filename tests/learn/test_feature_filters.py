"""Scaling and filters against scikit-learn's, NumPy's, and a published table of ratings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from sklearn.feature_selection import VarianceThreshold
from sklearn.preprocessing import RobustScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from hgpscale.learn.filters import AgreementFilter, CorrelationFilter, RobustScaling, VarianceFilter

Array = NDArray[np.float64]

RATINGS = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float)
"""Six targets by four judges, table 2 of Shrout and Fleiss (1979), who give ICC(2,1) = 0.29."""


@parametrize_with_checks([RobustScaling(), VarianceFilter(), CorrelationFilter(), AgreementFilter()])  # type: ignore[untyped-decorator]
def test_scikit_learn_s_checks(estimator: Any, check: Any) -> None:
    check(estimator)


def test_robust_scaling_is_scikit_learn_s_within_its_limit() -> None:
    random = np.random.default_rng(0)
    X = random.normal(size=(101, 5)) * [1, 100, 1e-6, 3, 1] + [0, 1e4, 0, -5, 2]
    theirs = RobustScaler(unit_variance=True).fit(X)
    ours = RobustScaling().fit(X)
    np.testing.assert_allclose(ours.center_, theirs.center_)
    np.testing.assert_allclose(ours.scale_, theirs.scale_)
    wild = random.standard_cauchy(size=(50, 5)) * 1e5
    np.testing.assert_allclose(ours.transform(wild), np.clip(theirs.transform(wild), -6, 6))


def test_columns_without_a_range_or_without_any_spread() -> None:
    mostly = np.r_[np.zeros(18), 1.0, 1.0]
    constant = np.full(20, 0.1 + 0.2)
    nearly = constant + np.tile([0, 5e-17], 10)
    scaling = RobustScaling().fit(np.column_stack([mostly, constant, nearly]))
    np.testing.assert_allclose(scaling.scale_, [mostly.std(), 1, 1])
    assert np.isfinite(scaling.transform([[1e300, -1e300, 1e300]])).all()


@settings(max_examples=25)
@given(hnp.arrays(np.float64, (12, 5), elements=st.integers(-3, 3).map(float)), st.sampled_from([1e-8, 0.5, 2]))
def test_variance_filter_is_scikit_learn_s(X: Array, threshold: float) -> None:
    expected = X.var(axis=0) > threshold
    found = VarianceFilter(threshold).fit(X).get_support()
    if expected.any():
        np.testing.assert_array_equal(found, VarianceThreshold(threshold).fit(X).get_support())
    else:
        assert found.all()  # a learner needs some


@settings(max_examples=25)
@given(hnp.arrays(np.float64, (9, 6), elements=st.integers(-2, 2).map(float)), st.sampled_from([0.3, 0.7, 0.95]))
def test_no_two_kept_columns_are_alike_and_each_dropped_one_is_like_a_kept_one_before_it(
    X: Array, threshold: float
) -> None:
    kept = CorrelationFilter(threshold).fit(X).get_support()
    with np.errstate(invalid="ignore", divide="ignore"):
        alike = np.nan_to_num(np.abs(np.corrcoef(X.T)))
    near = np.abs(alike - threshold) < 1e-9  # rounding decides
    for i in range(6):
        above = (alike[i, :i] > threshold) & kept[:i]
        if not near[i, :i].any():
            assert kept[i] == (not above.any())


@pytest.mark.parametrize("make", [VarianceFilter, CorrelationFilter, AgreementFilter])
def test_covariates_stay_whatever_they_are(make: Any) -> None:
    X = np.random.default_rng(0).normal(size=(20, 3))
    X = np.column_stack([X, X[:, 0], np.ones(20), X[:, 0]])
    support = make(always=2).fit(X).get_support()
    assert support[-2:].all()
    assert support[:3].all()
    assert support[3] == (make is not CorrelationFilter)
    only = make(always=2).fit(X[:, -2:])
    assert only.get_support().all()
    names = make(always=2).fit(X).get_feature_names_out(np.array(list("abcdef"), object))
    assert list(names[-2:]) == ["e", "f"]


def outlines(tables: Array) -> tuple[Array, NDArray[Any], NDArray[Any]]:
    """Return rows, lesions and raters of ratings with shape ``(lesion, rater, column)``, shuffled."""
    n, k, _ = tables.shape
    lesion, rater = np.repeat(np.arange(n), k), np.tile(np.arange(k), n)
    order = np.random.default_rng(0).permutation(n * k)
    names = np.array([f"l{i}" for i in lesion], object), np.array([f"r{i}" for i in rater], object)
    return tables.reshape(n * k, -1)[order], names[0][order], names[1][order]


@pytest.mark.parametrize(("threshold", "stays"), [(0.28, True), (0.3, False)])
def test_the_agreement_of_shrout_and_fleiss(threshold: float, stays: bool) -> None:
    same = np.repeat(np.arange(6.0)[:, None], 4, axis=1)
    X, lesion, rater = outlines(np.stack([RATINGS, same], axis=2))
    support = AgreementFilter(threshold).fit(X, lesion=lesion, segmentation=rater).get_support()
    np.testing.assert_array_equal(support, [stays, True])


def test_two_raters_by_hand() -> None:
    # Lesion means 1.5 to 5.5 (mean square 5), raters 3 and 4 (2.5), no rest: ICC(2,1) = 5 / (5 + 2 x 2.5 / 5) = 5/6.
    first = np.array([1.0, 2, 3, 4, 5])
    table = np.stack([first, first + 1], axis=1)[:, :, None]
    for threshold, lowest in ((5 / 6 - 1e-9, True), (5 / 6 + 1e-9, False)):
        X, lesion, rater = outlines(np.concatenate([table, np.stack([first, first], 1)[:, :, None]], axis=2))
        support = AgreementFilter(threshold).fit(X, lesion=lesion, segmentation=rater).get_support()
        np.testing.assert_array_equal(support, [lowest, True])


def quarrel(n: int) -> tuple[Array, NDArray[Any], NDArray[Any]]:
    """Return two raters who agree on the first column and not on the second."""
    random = np.random.default_rng(1)
    table = random.normal(size=(n, 2, 2))
    table[:, 1, 0] = table[:, 0, 0]
    return outlines(table)


@pytest.mark.parametrize(("n", "dropped"), [(4, False), (5, True), (30, True)])
def test_agreement_needs_five_lesions(n: int, dropped: bool) -> None:
    X, lesion, rater = quarrel(n)
    support = AgreementFilter().fit(X, lesion=lesion, segmentation=rater).get_support()
    np.testing.assert_array_equal(support, [True, not dropped])
    assert AgreementFilter().fit(X).get_support().all()
    alone = AgreementFilter().fit(X, lesion=np.arange(len(X)), segmentation=rater)
    assert alone.get_support().all()


def test_raters_with_few_lesions_do_not_spoil_it() -> None:
    X, lesion, rater = quarrel(30)
    more = np.random.default_rng(2).normal(size=(42, 2))
    X = np.vstack([X, more])
    lesion = np.r_[lesion, ["l0", "l1"], [f"other{i}" for i in range(40)]]
    rater = np.r_[rater, ["student", "student"], np.full(40, "registrar")]
    support = AgreementFilter().fit(X, lesion=lesion, segmentation=rater).get_support()
    np.testing.assert_array_equal(support, [True, False])


def test_features_that_nobody_differs_on_are_left_to_others() -> None:
    X, lesion, rater = quarrel(10)
    support = AgreementFilter().fit(np.column_stack([X, np.ones(20)]), lesion=lesion, segmentation=rater).get_support()
    np.testing.assert_array_equal(support, [True, False, True])


def test_a_rater_with_most_lesions_who_shares_none_does_not_spoil_it() -> None:
    X, lesion, rater = quarrel(8)
    alone = np.random.default_rng(3).normal(size=(12, 2))
    X = np.vstack([X, alone])
    lesion, rater = np.r_[lesion, [f"other{i}" for i in range(12)]], np.r_[rater, np.full(12, "r2")]
    # r2 has the most lesions, and shares none with the others.
    support = AgreementFilter().fit(X, lesion=lesion, segmentation=rater).get_support()
    np.testing.assert_array_equal(support, [True, False])
