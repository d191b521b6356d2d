"""Selection and the steps before and around a learner, against scikit-learn's own steps put together by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import planted
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.feature_selection import SelectKBest, f_classif, r_regression
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import RobustScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from hgpscale.learn.combat import ComBat
from hgpscale.learn.fitting import Options, fit_model
from hgpscale.learn.workflows import Layout, Recipe, Selection, fit_head, fit_tail, head, selected, tail


@parametrize_with_checks([Selection("class", n_features=3), Selection("number", n_features=3)])  # type: ignore[untyped-decorator]
def test_scikit_learn_s_checks(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.parametrize("kind", ["binary", "class", "number"])
def test_selection_is_that_of_the_best_scores(kind: str) -> None:
    random = np.random.default_rng(0)
    X = random.normal(size=(80, 12))
    y: Any = X[:, 3] + X[:, 7] + random.normal(size=80)
    if kind != "number":
        y = np.digitize(y, [0] if kind == "binary" else [-1, 1])
    best = SelectKBest(f_classif if kind != "number" else lambda X, y: r_regression(X, y) ** 2, k=4).fit(X, y)
    np.testing.assert_array_equal(Selection(kind, 4).fit(X, y).get_support(), best.get_support())
    X[:, -1] = 1  # a covariate, which says nothing
    support = Selection(kind, 4, always=1).fit(X, y).get_support()
    assert support[-1]
    assert support.sum() == 5


def test_selection_of_compositions_finds_the_planted_columns() -> None:
    rows = planted.rows("composition")
    X = np.nan_to_num(rows.X, nan=5)
    assert Selection("composition", 1).fit(X, rows.y).get_support()[0]


def test_a_weight_of_two_is_two_rows() -> None:
    random = np.random.default_rng(3)
    X, y = random.normal(size=(30, 8)), random.integers(0, 2, 30)
    weight = random.integers(1, 4, 30)
    twice = Selection("binary", 3).fit(np.repeat(X, weight, axis=0), np.repeat(y, weight))
    np.testing.assert_array_equal(
        Selection("binary", 3).fit(X, y, sample_weight=weight.astype(float)).get_support(), twice.get_support()
    )


def test_the_head_is_its_steps_one_after_the_other() -> None:
    rows = planted.rows("binary")
    random = np.random.default_rng(0)
    covariate, centre = random.integers(0, 2, len(rows.X)).astype(float), np.arange(len(rows.X)) % 2.0
    X = np.column_stack([rows.X, rows.X[:, 0] + 1e-9, covariate, centre])
    layout = Layout(7, 1, "combat")
    steps = head(layout, Recipe(correlation=0.9))
    found = fit_head(steps, X, rows.lesion, rows.segmentation)
    expected = ComBat(batch=8, covariates=(7,)).fit_transform(X)
    assert list(steps.named_steps) == ["combat", "impute", "scale", "variance", "agreement", "correlation"]
    expected = SimpleImputer(strategy="median").fit_transform(expected)
    scaled = np.clip(RobustScaler(unit_variance=True).fit(expected).transform(expected), -6, 6)
    np.testing.assert_allclose(found[:, :6], scaled[:, :6])  # the seventh is the first again
    assert found.shape[1] == 7
    names = np.array([*"abcdefg", "sex=m", "centre"], object)
    last = fit_tail(tail(layout, Recipe(n_features=2), "binary", 0), found, rows.y, rows.weight)
    kept = selected(type(steps)([*steps.steps, *last.steps]), names)
    assert kept[0] == "a"
    assert len(kept) == 3
    assert kept[-1] == "sex=m"


def test_a_centre_that_was_not_seen_keeps_its_features() -> None:
    X = planted.rows("binary").X[:, :2]
    steps = head(Layout(2, 0, "combat"), Recipe(correlation=1.0))
    fit_head(steps, np.column_stack([X, np.arange(len(X)) % 2]), None, None)
    new = np.array([[7.0, -3.0]])
    for code in (-1.0, 17.0, np.nan):
        np.testing.assert_array_equal(steps["combat"].transform(np.column_stack([new, [[code]]])), new)
    assert not np.array_equal(steps["combat"].transform(np.column_stack([new, [[0.0]]])), new)


def test_raters_of_a_lesion_are_one_lesion_to_a_centre() -> None:
    rows = planted.rows("binary")
    X = np.column_stack([rows.X, np.arange(len(rows.X)) % 2])
    once, thrice = head(Layout(6, 0, "combat"), Recipe()), head(Layout(6, 0, "combat"), Recipe())
    fit_head(once, X, None, None)
    times = np.where(np.arange(len(X)) < 20, 3, 1)
    fit_head(thrice, np.repeat(X, times, axis=0), None, None, np.repeat(1 / times, times))
    np.testing.assert_allclose(thrice["combat"].gamma_, once["combat"].gamma_, rtol=1e-9)
    np.testing.assert_allclose(thrice["combat"].delta_, once["combat"].delta_, rtol=1e-9)


def test_the_tail_is_the_learner_with_the_weights() -> None:
    rows = planted.rows("binary")
    X = np.nan_to_num(rows.X, nan=5) / 10.0 ** np.arange(6)
    weight = np.random.default_rng(0).random(len(X))
    recipe = Recipe("elastic-net", {"C": 0.5, "l1_ratio": 0.0, "tol": 1e-8, "max_iter": 5000})
    last = fit_tail(tail(Layout(6), recipe, "binary", 0), X, rows.y, weight)
    theirs = LogisticRegression(C=0.5, tol=1e-10, max_iter=5000).fit(X, rows.y, weight)
    np.testing.assert_allclose(last[-1].coef_, theirs.coef_, atol=1e-4)
    same = fit_tail(tail(Layout(6), recipe, "binary", 0), X, np.ones(len(X)), weight)
    assert isinstance(same[-1], DummyClassifier)
    np.testing.assert_array_equal(same.predict(X), 1)


def test_no_feature_that_varies_leaves_the_covariates() -> None:
    X = np.column_stack([np.ones((20, 2)), np.full(20, np.nan), np.arange(20.0)])
    found = fit_head(head(Layout(3, 1), Recipe()), X, None, None)
    assert found.shape == (20, 1)
    last = fit_tail(tail(Layout(3, 1), Recipe(n_features=2), "binary", 0), found, X[:, 3] > 9, None)
    np.testing.assert_array_equal(last.predict(found), X[:, 3] > 9)
    found = fit_head(head(Layout(3), Recipe()), X[:, :3], None, None)
    np.testing.assert_array_equal(found, np.zeros((20, 3)))  # a learner needs some


@pytest.mark.parametrize("model", ["elastic-net", "plain"])
def test_the_columns_that_a_model_says_it_sees_are_those_that_change_what_it_says(model: str) -> None:
    rows = planted.rows("number")
    fitted = fit_model(model, planted.TARGETS["number"], Layout(6), rows, Options(), interval=False)
    names = np.array(list("abcdef"), object)
    assert fitted.selected(names) == dict.fromkeys("abcdef", 1.0)
