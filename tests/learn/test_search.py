"""The search: equal runs, a plain mean, and out-of-fold outputs by models that had not seen the patient."""

from __future__ import annotations

from typing import Any

import numpy as np
import planted
import pytest
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, log_loss, mean_squared_error, r2_score, roc_auc_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from hgpscale.learn import search, workflows
from hgpscale.learn.fitting import Rows
from hgpscale.learn.learners import outputs
from hgpscale.learn.search import Search, score
from hgpscale.learn.splits import grouped_folds
from hgpscale.learn.targets import Kind
from hgpscale.learn.workflows import Layout, Recipe

excused = {
    "check_sample_weight_equivalence_on_dense_data": "folds are other ones where a row is there twice",
}
"""Checks of scikit-learn that `Search` cannot pass, with the reason."""


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "_TREES", 2)


def linear(random: np.random.RandomState, agreement: float) -> Recipe:
    """Draw a workflow that is fitted fast."""
    return Recipe("elastic-net", {"C": float(random.uniform(0.1, 3))}, 0.95, agreement, None)


@parametrize_with_checks(  # type: ignore[untyped-decorator]
    [Search(kind, n_candidates=2, n_ensemble=1, n_folds=2) for kind in ("binary", "number")],
    expected_failed_checks=lambda _: excused,
)
def test_scikit_learn_s_checks(estimator: Any, check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "draw", linear)
    check(estimator)


def fitted(rows: Rows, kind: Any, **options: Any) -> Search:
    options = {"n_candidates": 3, "n_ensemble": 2, "n_folds": 2, **options}
    made = Search(kind, **options)
    return made.fit(rows.X, rows.y, rows.weight, rows.patient, rows.strata, rows.lesion, rows.segmentation)


@pytest.mark.parametrize("kind", ["binary", "class", "number", "composition"])
def test_two_runs_are_equal_and_the_ensemble_is_the_mean_of_its_pipelines(kind: Kind) -> None:
    rows, new = planted.rows(kind, 24), planted.rows(kind, 24, seed=1)
    one, other = (fitted(rows, kind) for _ in range(2))
    assert planted.state(one) == planted.state(other)
    assert one.recipes_ == other.recipes_
    assert len(one.pipelines_) == len(one.recipes_) == len(one.scores_) == 2
    assert (np.diff(one.scores_) <= 0).all()
    each = [outputs(p["tail"], p["head"].transform(new.X), kind, 3 if kind == "class" else 2) for p in one.pipelines_]
    np.testing.assert_allclose(one.outputs(new.X), np.mean(each, axis=0))
    said = one.predict(new.X)
    if kind in ("binary", "class"):
        p = one.predict_proba(new.X)
        np.testing.assert_allclose(p.sum(axis=1), 1)
        np.testing.assert_array_equal(said, p.argmax(axis=1))
        assert one.score(new.X, new.y) == accuracy_score(new.y, said)
    elif kind == "number":
        np.testing.assert_allclose(said, one.outputs(new.X)[:, 0])
        assert one.score(new.X, new.y) == pytest.approx(r2_score(new.y, said))
    else:
        assert (said >= 0).all()
        np.testing.assert_allclose(said.sum(axis=1), 1)
        assert one.score(new.X, new.y) == pytest.approx(-np.abs(said - new.y).mean())
        assert not hasattr(one, "predict_proba")
    assert planted.state(fitted(rows, kind, random_state=1)) != planted.state(one)


def test_scores_are_scikit_learn_s() -> None:
    random = np.random.default_rng(0)
    p: NDArray[np.float64]
    p, weight = random.dirichlet(np.ones(3), 40), random.random(40)
    y: NDArray[np.float64] = np.resize([0.0, 1.0, 2.0], 40)
    assert score("class", y, p, weight) == pytest.approx(-log_loss(y, p, sample_weight=weight))
    two = (y > 0).astype(float)
    assert score("binary", two, p[:, 1:2], weight) == pytest.approx(roc_auc_score(two, p[:, 1], sample_weight=weight))
    assert np.isnan(score("binary", np.ones(40), p[:, 1:2], weight))
    squares = mean_squared_error(y, p[:, 0], sample_weight=weight)
    assert score("number", y, p[:, :1], weight) == pytest.approx(-squares)
    sure = np.eye(3)[y.astype(int)]
    assert score("composition", sure, p, weight) == pytest.approx(score("class", y, p, weight))


@pytest.mark.parametrize("kind", ["binary", "number", "composition"])
def test_what_is_said_out_of_fold_does_not_depend_on_the_patient_s_own_outcome(kind: str) -> None:
    rows = planted.rows(kind)
    before = fitted(rows, kind, n_candidates=1, n_ensemble=1)
    own = rows.patient == "p7"
    y = rows.y.copy()
    y[own] = np.array([0.0, 0, 1]) if kind == "composition" else y[own] * -50 if kind == "number" else 1 - y[own]
    changed = Rows(rows.X, y, rows.weight, rows.patient, rows.lesion, rows.segmentation, rows.strata)
    after = fitted(changed, kind, n_candidates=1, n_ensemble=1)
    np.testing.assert_array_equal(before.out_of_fold_[own], after.out_of_fold_[own])
    assert not np.array_equal(before.out_of_fold_[~own], after.out_of_fold_[~own])
    assert not np.array_equal(before.outputs(rows.X[own]), after.outputs(rows.X[own]))
    assert before.out_of_fold_.shape == before.outputs(rows.X).shape


def test_a_fold_s_steps_do_not_see_its_test_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the rows of one fold are, its own head and tail are the same to the bit; those of all others are not."""
    seen: list[list[tuple[str, str]]] = []
    real_head, real_tail = workflows.fit_head, workflows.fit_tail

    def noted_head(steps: Any, X: NDArray[np.float64], *who: Any) -> Any:
        found = real_head(steps, X, *who)
        seen[-1].append(("head", planted.state(steps)))
        return found

    def noted_tail(steps: Any, *given: Any) -> Any:
        found = real_tail(steps, *given)
        seen[-1].append(("tail", planted.state(found)))
        return found

    monkeypatch.setattr(search, "fit_head", noted_head)
    monkeypatch.setattr(search, "fit_tail", noted_tail)
    rows = planted.rows("binary")
    random = np.random.RandomState(0)
    search.draw(random)
    random.randint(2**31 - 1, size=1)
    folds = grouped_folds(rows.patient, rows.strata, n_folds=3, seed=int(random.randint(2**31 - 1)))
    for wild in (False, True):
        seen.append([])
        X, y = rows.X.copy(), rows.y.copy()
        lesion, segmentation = rows.lesion.copy(), rows.segmentation.copy()
        if wild:
            test = folds[1].test
            X[test], y[test], lesion[test] = 1e9, 1 - y[test], "another"
            segmentation[test] = np.arange(len(test)).astype(str)
            X[test[::2]] = np.nan
        model = Search("binary", n_candidates=1, n_folds=3)
        model.fit(X, y, rows.weight, rows.patient, rows.strata, lesion, segmentation)
    # Head and tail of each fold, then of all rows.
    assert [name for name, _ in seen[0]] == ["head", "tail"] * 4
    same = [one == other for one, other in zip(*seen, strict=True)]
    assert same == [False, False, True, True, False, False, False, False]


def test_without_any_time_the_first_workflow_is_it() -> None:
    model = fitted(planted.rows("binary"), "binary", n_candidates=50, budget=0.0)
    assert len(model.pipelines_) == 1
    assert model.recipes_ == [search.draw(np.random.RandomState(0))]


def test_classes_that_folds_lack() -> None:
    rows = planted.rows("class")
    y = np.where(np.arange(len(rows.y)) == 4, 5.0, (rows.y > 0) * 2.0)  # classes 0, 2, and 5 of one row
    model = Search("class", n_candidates=4, n_ensemble=2, n_folds=3).fit(rows.X, y, groups=rows.patient)
    np.testing.assert_array_equal(model.classes_, [0, 2, 5])
    assert model.out_of_fold_.shape == (len(y), 3)
    np.testing.assert_allclose(model.out_of_fold_.sum(axis=1), 1)
    assert model.out_of_fold_[4, 2] == 0  # nobody else had it
    assert (model.predict(rows.X) == y).mean() > 0.7


def test_one_patient_of_a_class_leaves_folds_of_one_class() -> None:
    rows = planted.rows("binary")
    y = (rows.patient == "p3").astype(float)
    model = Search("binary", n_candidates=3, n_folds=2).fit(rows.X, y, groups=rows.patient)
    assert np.isfinite(model.outputs(rows.X)).all()
    assert np.isfinite(model.scores_).any()


def test_rows_without_a_weight_are_none() -> None:
    rows = planted.rows("binary")
    weight = np.where(np.arange(len(rows.y)) < 20, 0.0, 1.0)
    whole = Search("binary", n_candidates=2, n_folds=2).fit(
        rows.X, rows.y, weight, rows.patient, rows.strata, rows.lesion, rows.segmentation
    )
    some = rows.take(slice(20, None))
    part = Search("binary", n_candidates=2, n_folds=2).fit(
        some.X, some.y, None, some.patient, some.strata, some.lesion, some.segmentation
    )
    np.testing.assert_array_equal(whole.outputs(rows.X), part.outputs(rows.X))


def test_every_part_of_a_workflow_is_drawn() -> None:
    random = np.random.RandomState(0)
    drawn = [search.draw(random, 0.6) for _ in range(300)]
    assert {recipe.learner for recipe in drawn} == {"elastic-net", "forest", "boosting", "svm"}
    assert {recipe.n_features for recipe in drawn} == {5, 10, 20, 40, 80, None}
    assert {recipe.agreement for recipe in drawn} == {0.6}
    strengths = np.log([recipe.params["C"] for recipe in drawn if recipe.learner == "elastic-net"])
    assert strengths.mean() == pytest.approx(np.log(0.003 * 3) / 2, abs=0.7)


def test_a_layout_with_centres_and_covariates() -> None:
    rows = planted.rows("binary")
    centre = (np.arange(len(rows.X)) // 2 % 2).astype(float)
    X = np.column_stack([rows.X + 100 * centre[:, None], np.arange(len(rows.X)) % 3, centre])
    model = Search("binary", Layout(6, 1, "combat"), n_candidates=3, n_folds=2)
    model.fit(X, rows.y, groups=rows.patient)
    assert roc_auc_score(rows.y, model.out_of_fold_[:, 0]) > 0.7
    X[:, -1] = -1
    assert np.isfinite(model.outputs(X)).all()
