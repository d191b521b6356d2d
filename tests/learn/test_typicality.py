"""Typicality: even over rows like the training rows, least for rows far off, whatever the order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import kstest
from sklearn.utils.estimator_checks import parametrize_with_checks

from hgpscale.learn.typicality import Typicality


@parametrize_with_checks([Typicality()])  # type: ignore[untyped-decorator]
def test_scikit_learn_s_checks(estimator: Any, check: Any) -> None:
    check(estimator)


def factors(n: int, seed: int) -> NDArray[np.float64]:
    """Return rows of 30 columns that four factors and a little noise make."""
    loadings = np.random.default_rng(100).normal(size=(4, 30))
    random = np.random.default_rng(seed)
    return random.normal(size=(n, 4)) @ loadings + 0.3 * random.normal(size=(n, 30))


@pytest.mark.parametrize("n_components", [2, 4, 10])
def test_rows_like_the_training_rows_have_even_scores(n_components: int) -> None:
    model = Typicality(n_components).fit(factors(800, 0))
    scores = model.score_samples(factors(4000, 1))
    assert (scores < 0.1).mean() == pytest.approx(0.1, abs=0.035)
    assert (scores < 0.01).mean() < 0.025
    assert kstest(scores, "uniform").statistic < 0.07


def test_rows_far_off_have_the_least_score_within_the_components_and_off_them() -> None:
    X = factors(200, 0)
    model = Typicality(4).fit(X)
    inside = X.mean(axis=0) + 30 * np.linalg.svd(X - X.mean(axis=0))[2][0] * X.std()
    outside = X.mean(axis=0) + 30 * np.linalg.svd(X - X.mean(axis=0))[2][-1]
    np.testing.assert_array_equal(model.score_samples([inside, outside, inside + 1e9]), np.full(3, 1 / 201))
    assert model.score_samples(X.mean(axis=0, keepdims=True)) > 0.9


def test_the_order_of_rows_and_the_names_of_patients_do_not_matter() -> None:
    X, new = factors(90, 0), factors(50, 1)
    patients = np.repeat([f"p{i:02d}" for i in range(30)], 3)
    order = np.random.default_rng(0).permutation(90)
    one = Typicality().fit(X, groups=patients).score_samples(new)
    other = Typicality().fit(X[order], groups=np.char.add("x", patients)[order]).score_samples(new[::-1])[::-1]
    np.testing.assert_allclose(one, other)


def test_outlines_of_one_lesion_do_not_make_each_other_typical() -> None:
    # Each row is there three times: judged by their own copies all would lie in the plane of the model.
    X = np.random.default_rng(2).normal(size=(20, 40))
    patients = np.repeat(np.arange(20), 3)
    scores = (
        Typicality()
        .fit(np.repeat(X, 3, axis=0), groups=patients)
        .score_samples(np.random.default_rng(3).normal(size=(300, 40)))
    )
    assert (scores < 0.1).mean() < 0.3
    alone = Typicality().fit(np.repeat(X, 3, axis=0)).score_samples(np.random.default_rng(3).normal(size=(300, 40)))
    assert (scores < 0.1).mean() < (alone < 0.1).mean()


def test_two_rows_and_one_patient_are_enough_to_fit() -> None:
    for groups in (None, ["a", "a"], ["a", "b"]):
        scores = Typicality().fit([[0.0, 1.0], [1.0, 0.0]], groups=groups).score_samples([[0.5, 0.5], [1e6, 3.0]])
        assert ((scores > 0) & (scores <= 1)).all()
