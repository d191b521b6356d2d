"""A random search over whole workflows, and the mean of the best of them."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn import config_context
from sklearn.base import BaseEstimator
from sklearn.metrics import accuracy_score, log_loss, r2_score, roc_auc_score
from sklearn.pipeline import Pipeline
from sklearn.utils import ClassifierTags, RegressorTags, Tags, check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
from threadpoolctl import threadpool_limits

from hgpscale.learn.composition import simplex
from hgpscale.learn.learners import outputs
from hgpscale.learn.splits import grouped_folds
from hgpscale.learn.spreading import Each, here
from hgpscale.learn.workflows import Layout, Recipe, fit_head, fit_tail, head, tail

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hgpscale.learn.splits import Split
    from hgpscale.learn.targets import Kind

_CORRELATIONS = (0.8, 0.9, 0.95)
_SELECTIONS = (5, 10, 20, 40, 80, None)
_CLIP = 1e-6
_TREES = 40  # few, as several of the best workflows are averaged anyway


def draw(random: np.random.RandomState, agreement: float = 0.75) -> Recipe:
    """Draw a workflow: learner, its parameters, how many features it sees and how alike those may be."""
    learner = ("elastic-net", "forest", "boosting", "svm")[random.randint(4)]
    params: Mapping[str, Any]
    if learner == "elastic-net":
        params = {"C": _log_uniform(random, 0.003, 3), "l1_ratio": float(random.uniform(0, 1))}
    elif learner == "forest":
        leaf, share = int(random.randint(1, 8)), (0.1, 0.3, "sqrt")[random.randint(3)]
        params = {"n_estimators": _TREES, "min_samples_leaf": leaf, "max_features": share}
    elif learner == "boosting":
        params = {
            "learning_rate": _log_uniform(random, 0.02, 0.3),
            "max_leaf_nodes": int(random.randint(2, 9)),
            "l2_regularization": _log_uniform(random, 0.01, 10),
            "max_iter": int(random.randint(20, 81)),
        }
    else:
        params = {"C": _log_uniform(random, 0.1, 30), "gamma": "scale"}
    return Recipe(
        learner,
        params,
        _CORRELATIONS[random.randint(len(_CORRELATIONS))],
        agreement,
        _SELECTIONS[random.randint(len(_SELECTIONS))],
    )


def _log_uniform(random: np.random.RandomState, low: float, high: float) -> float:
    return float(np.exp(random.uniform(np.log(low), np.log(high))))


def score(kind: Kind, y: NDArray[np.float64], found: NDArray[np.float64], weight: NDArray[np.float64]) -> float:
    """Return how good outputs are on held-out rows, more is better; NaN where that is not defined."""
    if kind == "binary":
        return float(roc_auc_score(y, found[:, 0], sample_weight=weight)) if len(np.unique(y)) > 1 else np.nan
    if kind == "class":
        return -float(log_loss(y, found, sample_weight=weight, labels=np.arange(found.shape[1])))
    if kind == "number":
        return -float(np.average((y - found[:, 0]) ** 2, weights=weight))
    return float(np.average((y * np.log(found[:, :3].clip(_CLIP))).sum(axis=1), weights=weight))


class Search(BaseEstimator):
    """Draw workflows at random, judge each by cross-validation within the training rows, and average the best.

    Parameters
    ----------
    kind
        Of the target.
    layout
        Which columns of X are what; None: all are features.
    n_candidates
        Workflows that are drawn.
    n_ensemble
        How many of the best are fitted on all rows and averaged.
    n_folds
        Of the cross-validation, by group.
    agreement
        Threshold of `AgreementFilter`.
    budget
        Seconds after which no more workflows are tried; None: no limit. With a limit two runs may differ.
    random_state
        Seed of everything.

    Attributes
    ----------
    classes_ : ndarray with shape ``(class,)``
        Of a classifier: what y was, sorted.
    recipes_ : list of Recipe
        The best workflows, best first.
    scores_ : ndarray of floats with shape ``(n_ensemble,)``
        Mean score of each over the folds.
    pipelines_ : list of Pipeline
        The same, fitted.
    out_of_fold_ : ndarray of floats with shape ``(row, k)``
        Mean outputs of the best on each training row with a weight, by fits that had not seen its group.

    """

    def __init__(
        self,
        kind: Kind = "binary",
        layout: Layout | None = None,
        n_candidates: int = 20,
        n_ensemble: int = 6,
        n_folds: int = 5,
        agreement: float = 0.75,
        budget: float | None = None,
        random_state: int | None = 0,
    ) -> None:
        self.kind = kind
        self.layout = layout
        self.n_candidates = n_candidates
        self.n_ensemble = n_ensemble
        self.n_folds = n_folds
        self.agreement = agreement
        self.budget = budget
        self.random_state = random_state

    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        groups: NDArray[Any] | None = None,
        strata: NDArray[np.int64] | None = None,
        lesion: NDArray[Any] | None = None,
        segmentation: NDArray[Any] | None = None,
        each: Each = here,
    ) -> Self:
        """Search and fit.

        Parameters
        ----------
        X
            float64, shape ``(row, column)``; may have NaN.
        y
            Labels, numbers, or fractions with shape ``(row, 3)``.
        sample_weight
            Shape ``(row,)``; None: all 1. Rows without a weight count for nothing.
        groups
            Patients, which no fold splits, shape ``(row,)``; None: each row its own.
        strata
            What the folds are balanced by, shape ``(row,)``; None: a classifier's labels.
        lesion, segmentation
            For `AgreementFilter`.
        each
            Tries the workflows: `spreading.here`, or `spreading.on_workers` of a Dask client.

        Raises
        ------
        ValueError
            There are too few rows, a single class, or values that no learner takes.

        """
        deadline = math.inf if self.budget is None else time.time() + self.budget
        multi = self.kind == "composition"
        X, y = validate_data(
            self,
            X,
            y,
            dtype=np.float64,
            ensure_all_finite="allow-nan",
            ensure_min_samples=2,
            multi_output=multi,
            y_numeric=self.kind in ("number", "composition"),
        )
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64)
        if not weight.any():
            raise ValueError("no row has a sample weight above zero")
        whose = np.arange(len(X)).astype(str) if groups is None else np.asarray(groups)
        if not weight.all():
            # A row without weight is no row: no fold may count it.
            some = np.flatnonzero(weight)
            X, y, weight, whose = X[some], y[some], weight[some], whose[some]
            strata, lesion, segmentation = (
                None if one is None else one[some] for one in (strata, lesion, segmentation)
            )
        if self.kind in ("binary", "class"):
            y = self._encoded(y)
            strata = y if strata is None else strata
        random = check_random_state(self.random_state)
        layout = Layout(X.shape[1]) if self.layout is None else self.layout
        rows = _Rows(X, y, weight, lesion, segmentation, layout, self.kind, self._n_classes)
        recipes = [draw(random, self.agreement) for _ in range(self.n_candidates)]
        drawn = list(zip(recipes, random.randint(2**31 - 1, size=self.n_candidates), strict=True))
        folds = grouped_folds(whose, strata, n_folds=self.n_folds, seed=int(random.randint(2**31 - 1)))
        tries = [(recipe, int(seed), deadline if i else math.inf) for i, (recipe, seed) in enumerate(drawn)]
        # The values were checked above, see `judging.judge`.
        with config_context(assume_finite=True, skip_parameter_validation=True):
            found = each(_tried, (rows, folds), tries)
            tried = {i: one for i, one in enumerate(found) if one is not None}
            best = sorted(tried, key=lambda i: -tried[i][0])[: self.n_ensemble]
            self.recipes_, self.scores_ = [drawn[i][0] for i in best], np.array([tried[i][0] for i in best])
            self.out_of_fold_ = np.mean([tried[i][1] for i in best], axis=0)
            self.pipelines_ = [rows.fit(*tries[i][:2]) for i in best]
        return self

    def outputs(self, X: Any) -> NDArray[np.float64]:
        """Return the mean of what the best workflows say, shape ``(row, k)``; see `learners.outputs`."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, ensure_all_finite="allow-nan", reset=False)
        heads: dict[int, NDArray[np.float64]] = {}
        found = []
        for pipeline in self.pipelines_:
            first, last = pipeline["head"], pipeline["tail"]
            if id(first) not in heads:
                heads[id(first)] = first.transform(X)
            found.append(outputs(last, heads[id(first)], self.kind, self._n_classes))
        return np.mean(found, axis=0)

    @available_if(lambda self: self.kind in ("binary", "class"))
    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the probability of each class, shape ``(row, class)``."""
        found = self.outputs(X)
        return np.column_stack([1 - found, found]) if self.kind == "binary" else found

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable class, the number, or the composition of each row."""
        if self.kind in ("binary", "class"):
            best = self.predict_proba(X).argmax(axis=1)
            return self.classes_[best]
        found = self.outputs(X)
        return found[:, 0] if self.kind == "number" else found[:, :3]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy of classes, R² of numbers, minus the mean absolute error of the parts of compositions."""
        found = self.predict(X)
        if self.kind in ("binary", "class"):
            return float(accuracy_score(y, found, sample_weight=sample_weight))
        if self.kind == "number":
            return float(r2_score(y, found, sample_weight=sample_weight))
        return -float(np.average(np.abs(found - simplex(y)).mean(axis=1), weights=sample_weight))

    @property
    def _n_classes(self) -> int:
        return len(self.classes_) if hasattr(self, "classes_") else 0

    def _encoded(self, y: Any) -> NDArray[np.int64]:
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"a classifier needs samples of at least 2 classes, found 1 class: {self.classes_[0]}")
        if self.kind == "binary" and len(self.classes_) > 2:
            raise ValueError(f"Only binary classification is supported. Found {len(self.classes_)} classes")
        return codes

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.target_tags.required = True
        if self.kind in ("binary", "class"):
            tags.estimator_type = "classifier"
            tags.classifier_tags = ClassifierTags(multi_class=self.kind == "class")
        elif self.kind == "number":
            tags.estimator_type = "regressor"
            tags.regressor_tags = RegressorTags()
        else:
            tags.target_tags.multi_output, tags.target_tags.single_output = True, False
        return tags


def _tried(
    on: tuple[_Rows, list[Split]], workflow: tuple[Recipe, int, float]
) -> tuple[float, NDArray[np.float64]] | None:
    """Return what `_Rows.cross_validate` does, on one thread; None where it is past the workflow's deadline."""
    rows, folds = on
    recipe, seed, deadline = workflow
    if time.time() > deadline:
        return None
    with threadpool_limits(limits=1), config_context(assume_finite=True, skip_parameter_validation=True):
        return rows.cross_validate(recipe, seed, folds)


class _Rows:
    """Training rows, with heads that were fitted on folds of them kept for the workflows that share them."""

    def __init__(
        self,
        X: NDArray[np.float64],
        y: NDArray[np.float64],
        weight: NDArray[np.float64],
        lesion: NDArray[Any] | None,
        segmentation: NDArray[Any] | None,
        layout: Layout,
        kind: Kind,
        n_classes: int,
    ) -> None:
        self.X, self.y, self.weight, self.layout, self.kind = X, y, weight, layout, kind
        self.n_classes = n_classes
        self.lesion, self.segmentation = lesion, segmentation
        self._heads: dict[tuple[Any, ...], tuple[Pipeline, NDArray[np.float64]]] = {}

    def cross_validate(self, recipe: Recipe, seed: int, folds: list[Split]) -> tuple[float, NDArray[np.float64]]:
        """Return a workflow's mean score over the folds, and what it says of each row."""
        scores, parts = [], []
        for fold in folds:
            first, X = self._head(recipe, fold.name, fold.train)
            last = fit_tail(tail(self.layout, recipe, self.kind, seed), X, self.y[fold.train], self.weight[fold.train])
            found = outputs(last, first.transform(self.X[fold.test]), self.kind, self.n_classes)
            parts.append(found)
            scores.append(score(self.kind, self.y[fold.test], found, self.weight[fold.test]))
        out = np.empty((len(self.X), parts[0].shape[1]))
        for fold, part in zip(folds, parts, strict=True):
            out[fold.test] = part
        known = [value for value in scores if not np.isnan(value)]
        return (float(np.mean(known)) if known else -np.inf), out

    def fit(self, recipe: Recipe, seed: int) -> Pipeline:
        """Return a workflow fitted on all rows."""
        first, X = self._head(recipe, "all", np.arange(len(self.X)))
        return Pipeline(
            [("head", first), ("tail", fit_tail(tail(self.layout, recipe, self.kind, seed), X, self.y, self.weight))]
        )

    def _head(self, recipe: Recipe, name: str, train: NDArray[np.int64]) -> tuple[Pipeline, NDArray[np.float64]]:
        key = (name, recipe.correlation, recipe.agreement)
        if key not in self._heads:
            first = head(self.layout, recipe)
            lesion, rater = (None if ids is None else ids[train] for ids in (self.lesion, self.segmentation))
            self._heads[key] = first, fit_head(first, self.X[train], lesion, rater, self.weight[train])
        return self._heads[key]
