"""Learners, and every model on every kind of target: shapes, ranges, and better than saying the same of all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import numpy as np
import planted
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from hgpscale.errors import LearnError
from hgpscale.learn import fitting, search
from hgpscale.learn.fitting import MEAN, MODELS, PLAIN, Options, fit_model
from hgpscale.learn.learners import COMPOSITION_OUTPUTS, LEARNERS, QuietLogistic, SupportVectors, make_learner, outputs
from hgpscale.learn.targets import Kind
from hgpscale.learn.workflows import Layout, Recipe

_FOLDS = "the sigmoid's folds are other ones where a row is there twice than where its weight is 2"
_SAGA = "scikit-learn's own fails it with this solver: it stops before it has converged, and draws rows at random"

excused = {
    "SupportVectors": {"check_sample_weight_equivalence_on_dense_data": _FOLDS},
    "QuietLogistic": {
        "check_sample_weight_equivalence_on_dense_data": _SAGA,
        "check_sample_weight_equivalence_on_sparse_data": _SAGA,
    },
}
"""Checks of scikit-learn that a learner cannot pass, with the reason."""


@parametrize_with_checks(  # type: ignore[untyped-decorator]
    [SupportVectors(), QuietLogistic(solver="saga", l1_ratio=0.5, max_iter=50)],
    expected_failed_checks=lambda estimator: excused[type(estimator).__name__],
)
def test_scikit_learn_s_checks(estimator: Any, check: Any) -> None:
    check(estimator)


def test_quiet_logistic_is_scikit_learn_s() -> None:
    rows = planted.rows("class")
    X = np.nan_to_num(rows.X, nan=5) / 10.0 ** np.arange(6)
    ours = QuietLogistic(tol=1e-8, max_iter=1000).fit(X, rows.y)
    theirs = LogisticRegression(tol=1e-8, max_iter=1000).fit(X, rows.y)
    np.testing.assert_array_equal(ours.coef_, theirs.coef_)


def test_support_vectors_rank_rows_as_scikit_learn_s_do_and_are_calibrated() -> None:
    random = np.random.default_rng(0)
    X, new = random.normal(size=(200, 2)), random.normal(size=(500, 2))
    y, truth = (((one**2).sum(axis=1) + random.normal(size=len(one)) > 1.5).astype(int) for one in (X, new))
    ours, theirs = SupportVectors().fit(X, y), SVC().fit(X, y)
    p = ours.predict_proba(new)
    order = np.argsort(theirs.decision_function(new))
    assert (np.diff(p[order, 1]) >= -1e-12).all()
    np.testing.assert_allclose(p.sum(axis=1), 1)
    assert p[:, 1].mean() == pytest.approx(truth.mean(), abs=0.06)
    assert log_loss(truth, p) < 0.8 * log_loss(truth, np.full(len(new), y.mean()))


def test_support_vectors_with_one_row_of_a_class() -> None:
    X = np.array([[0.0], [1.0], [2.0], [10.0]])
    model = SupportVectors().fit(X, [0, 0, 0, 1])
    assert model.predict_proba(X).shape == (4, 2)
    with pytest.raises(ValueError, match=r"(?i)weight"):
        model.fit(X, [0, 0, 0, 1], sample_weight=np.zeros(4))


@pytest.mark.parametrize("name", LEARNERS)
def test_parameters_reach_the_learner_of_each_kind(name: str) -> None:
    for kind in get_args(Kind):
        learner: Any = make_learner(name, kind, {}, random_state=7)
        inner = learner.classifier if kind == "composition" else learner
        inner = getattr(inner, "regressor", inner)
        assert inner.get_params().get("random_state", 7) in (7, None)
    assert make_learner("forest", "number", {"n_estimators": 3}).get_params()["n_estimators"] == 3
    assert make_learner("svm", "binary", {"C": 3}).get_params()["C"] == 3


def test_a_class_that_no_row_had_has_probability_zero_at_its_own_place() -> None:
    X = np.array([[0.0], [0.1], [5.0], [5.1]])
    model = LogisticRegression().fit(X, [0.0, 0.0, 2.0, 2.0])
    found = outputs(model, X, "class", 4)
    assert found.shape == (4, 4)
    np.testing.assert_array_equal(found[:, [1, 3]], 0)
    np.testing.assert_array_equal(found[:, [0, 2]], model.predict_proba(X))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make trees few: these tests look at the plumbing."""
    monkeypatch.setattr(search, "_TREES", 5)
    monkeypatch.setattr(fitting, "Recipe", lambda name: _RECIPE(name, _SMALL.get(name, {})))


_RECIPE = Recipe
_SMALL = {"forest": {"n_estimators": 10}, "boosting": {"max_iter": 8}}


def loss(kind: str, y: Any, found: Any) -> float:
    """Return the mean loss of outputs, less is better."""
    if kind == "binary":
        return float(log_loss(y, found[:, 0]))
    if kind == "class":
        return float(log_loss(y, found, labels=[0, 1, 2]))
    if kind == "number":
        return float(((y - found[:, 0]) ** 2).mean())
    return float(np.abs(y - found[:, :3]).mean())


@pytest.mark.parametrize("kind", get_args(Kind))
@pytest.mark.parametrize("model", [*MODELS, PLAIN])
def test_every_model_learns_every_kind_of_target(model: str, kind: str) -> None:
    rows, new = planted.rows(kind), planted.rows(kind, seed=1)
    target = planted.TARGETS[kind]
    options = Options(n_candidates=3)
    quick = kind == "number" and model in ("search", "elastic-net", MEAN)  # an interval is six fits
    fitted = fit_model(model, target, Layout(6), rows, options, interval=quick or model == "search")
    nothing = replace(rows, X=np.zeros((len(rows.X), 1)))
    mean = fit_model(MEAN, target, Layout(1), nothing, options, interval=False).outputs(nothing.X)
    found = fitted.outputs(new.X)
    columns = {"binary": 1, "class": 3, "number": 1, "composition": len(COMPOSITION_OUTPUTS)}[kind]
    assert found.shape == (len(new.X), columns)
    assert np.isfinite(found).all()
    if kind != "number":
        assert ((found >= 0) & (found <= 1)).all()
    if kind in ("class", "composition"):
        np.testing.assert_allclose(found[:, :3].sum(axis=1), 1)
    if kind == "composition":
        assert (found[:, 3] <= found[:, 4] + 1e-12).all()
        assert (found[:, 3] <= found[:, 0] + 1e-12).all()
    least = 0.98 if model in ("sgd", "mlp", "boosting", "svm") else 0.8
    assert loss(kind, new.y, found) < least * loss(kind, new.y, mean)
    if model in ("elastic-net", "forest"):
        again = fit_model(model, target, Layout(6), rows, options, interval=False)
        np.testing.assert_array_equal(again.outputs(new.X), found)
    if np.isfinite(fitted.half_width):
        truth = new.y if kind == "number" else new.y[:, 0]
        assert 0.75 <= (np.abs(truth - found[:, 0]) <= fitted.half_width).mean() <= 1


@pytest.mark.parametrize("model", ["search", "elastic-net", "forest", "sgd", MEAN])
def test_a_class_that_the_training_rows_lack_keeps_the_places_of_the_others(model: str) -> None:
    rows = planted.rows("class")
    some = rows.take(rows.y != 1)
    found = fit_model(model, planted.TARGETS["class"], Layout(6), some, Options(n_candidates=3)).outputs(rows.X)
    assert found.shape == (len(rows.X), 3)
    np.testing.assert_array_equal(found[:, 1], 0)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    if model != MEAN:
        assert (found[rows.y == 0, 0] > 0.5).mean() > 0.8


def test_lesions_that_are_all_alike_are_refused() -> None:
    rows = planted.rows("binary")
    rows = replace(rows, y=np.ones_like(rows.y))
    with pytest.raises(LearnError, match="alike"):
        fit_model("forest", planted.TARGETS["binary"], Layout(6), rows, Options())
