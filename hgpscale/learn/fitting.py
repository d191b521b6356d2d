"""A named model, fitted on some rows: once by `fit`, in every split by `evaluate`, baselines alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.pipeline import Pipeline

from hgpscale.errors import LearnError
from hgpscale.learn.composition import HurdleComposition
from hgpscale.learn.conformal import half_width
from hgpscale.learn.fusion import Stack, best_weight, blend, blocks
from hgpscale.learn.learners import LEARNERS, outputs
from hgpscale.learn.search import Search
from hgpscale.learn.splits import grouped_folds
from hgpscale.learn.spreading import Each, here
from hgpscale.learn.streaming import StreamingModel
from hgpscale.learn.targets import strata
from hgpscale.learn.workflows import Layout, Recipe, fit_head, fit_tail, head, selected, tail

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hgpscale.learn.splits import Split
    from hgpscale.learn.targets import Kind, Target

STREAMING = ("sgd", "mlp")
"""Models that can go on with new lesions; they take no harmonisation."""

MODELS = ("search", *LEARNERS, *STREAMING)
"""What ``--model`` may be."""

PLAIN, MEAN = "plain", "mean"
"""Models of the baselines: a lightly penalised linear one, and one that says the same of all."""

_CONFORMAL_FOLDS = 5
_PLAIN = Recipe("elastic-net", {"C": 1.0, "l1_ratio": 0.0, "max_iter": 2000}, correlation=1.0)


@dataclass(frozen=True)
class Rows:
    """What a model is fitted on.

    Attributes
    ----------
    X
        float64, shape ``(row, column)``, laid out as a `Layout` says; NaN where not known.
    y
        float64: 0 and 1, positions of classes, numbers, or fractions with shape ``(row, 3)``.
    weight
        float64, shape ``(row,)``: rows of one lesion are one together.
    patient, lesion, segmentation
        Whose the rows are, shape ``(row,)``.
    strata
        What splits are balanced by, int64, shape ``(row,)``.

    """

    X: NDArray[np.float64]
    y: NDArray[np.float64]
    weight: NDArray[np.float64]
    patient: NDArray[Any]
    lesion: NDArray[Any]
    segmentation: NDArray[Any]
    strata: NDArray[np.int64]

    def take(self, rows: Any) -> Self:
        """Return some of the rows."""
        return type(self)(*(getattr(self, field.name)[rows] for field in fields(self)))


@dataclass(frozen=True)
class Options:
    """What models have to know besides the rows.

    Attributes
    ----------
    seed
        Of everything random.
    n_candidates, budget
        Of `Search`.
    coverage
        Of the conformal intervals.
    each
        Of `Search`: where its workflows are tried.

    """

    seed: int = 0
    n_candidates: int = 20
    budget: float | None = None
    coverage: float = 0.9
    each: Each = here


@dataclass(frozen=True)
class Fitted:
    """A fitted model.

    Attributes
    ----------
    name
        Of `MODELS`, or of a baseline.
    kind, n_classes
        Of the target.
    estimator
        What was fitted.
    half_width
        Of the conformal interval of a number, or of the desmoplastic fraction; NaN for classes.

    """

    name: str
    kind: Kind
    n_classes: int
    estimator: Any
    half_width: float = float("nan")

    def outputs(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what it says of rows, shape ``(row, k)``; see `learners.outputs`."""
        return _said(self.estimator, X, self.kind, self.n_classes)

    def selected(self, names: NDArray[Any]) -> dict[str, float]:
        """Return how much each column of the design takes part: the share of workflows whose learner sees it.

        Of two models, one without any weight does not count.
        """
        return _selected(self.estimator, names)


def fit_model(
    name: str, target: Target, layout: Layout, rows: Rows, options: Options, *, interval: bool = True
) -> Fitted:
    """Fit a model on rows.

    Parameters
    ----------
    name
        One of `MODELS`, ``plain`` or ``mean``.
    target
        What `rows.y` is.
    layout
        What the columns of `rows.X` are.
    rows
        Everything that is learned comes from these.
    options
        Seed, size of the search, coverage.
    interval
        Whether a number or a composition gets a conformal interval: one model more for each of five folds, but for
        `search`, whose own folds serve. Two models (`Layout.deep`) need those folds anyway, for their weight.

    Raises
    ------
    LearnError
        There are too few patients, or all are of one class.

    """
    kind, n_classes = target.kind, len(target.classes)
    if kind in ("binary", "class") and name != MEAN and len(np.unique(rows.y)) < 2:
        raise LearnError(f"{target.name}: all lesions to learn from are alike; expected two classes or more")
    wanted = interval and kind in ("number", "composition")
    estimator: Any
    found: NDArray[np.float64] | None = None
    if layout.deep:
        estimator, found = _stacked(name, target, layout, rows, options)
    else:
        make = _maker(name, kind, layout, options)
        estimator = make(rows)
        if wanted:
            found = _held_out(estimator, make, rows, target, options)
    width = float("nan")
    if wanted and found is not None:
        truth = rows.y if kind == "number" else rows.y[:, 0]
        width = half_width(np.abs(truth - found[:, 0]), rows.patient, options.coverage)
    return Fitted(name, kind, n_classes, estimator, width)


def _stacked(
    name: str, target: Target, layout: Layout, rows: Rows, options: Options
) -> tuple[Stack, NDArray[np.float64]]:
    """Fit a model on each of two blocks of columns, and weigh them by what they say of rows that they had not seen.

    Returns
    -------
    Stack
        Both models.
    ndarray of floats with shape ``(row, k)``
        What such models say of each row: neither has seen its patient, and no row of its fold had a say in the weight.

    """
    kind, y, weight = target.kind, rows.y, rows.weight
    estimators, held = [], []
    parts = blocks(layout, layout.deep)
    for part in parts:
        own = replace(rows, X=rows.X[:, part.columns])
        make = _maker(name, kind, part.layout, options)
        estimators.append(make(own))
        held.append(_held_out(estimators[-1], make, own, target, options))
    first, second = held
    found = np.empty_like(first)
    for fold in _folds(rows, options):
        at = fold.train
        of_others = best_weight(kind, y[at], first[at], second[at], weight[at])
        found[fold.test] = blend(first[fold.test], second[fold.test], of_others)
    columns = [tuple(part.columns.tolist()) for part in parts]
    best = best_weight(kind, y, first, second, weight)
    return Stack((columns[0], columns[1]), (estimators[0], estimators[1]), best), found


def _said(estimator: Any, X: NDArray[np.float64], kind: Kind, n_classes: int) -> NDArray[np.float64]:
    if isinstance(estimator, Stack):
        both = zip(estimator.estimators, estimator.columns, strict=True)
        first, second = (_said(one, X[:, list(columns)], kind, n_classes) for one, columns in both)
        return blend(first, second, estimator.weight)
    if isinstance(estimator, Search):
        return _of_all_classes(estimator, estimator.outputs(X), kind, n_classes)
    return outputs(estimator, X, kind, n_classes)


def _of_all_classes(search: Search, found: NDArray[np.float64], kind: Kind, n_classes: int) -> NDArray[np.float64]:
    """Return a search's outputs with a column for each class, also for one that no training row had."""
    if kind != "class":
        return found
    all_classes = np.zeros((len(found), n_classes))
    all_classes[:, search.classes_.astype(int)] = found
    return all_classes


def _selected(estimator: Any, names: NDArray[Any]) -> dict[str, float]:
    if isinstance(estimator, Stack):
        weights = (1 - estimator.weight, estimator.weight)
        both = zip(estimator.estimators, estimator.columns, weights, strict=True)
        parts = [_selected(one, names[list(own)]) for one, own, weight in both if weight > 0]
        return {name: share for part in parts for name, share in part.items()}
    if isinstance(estimator, Search):
        some = [selected(_joined(pipeline), names) for pipeline in estimator.pipelines_]
    elif isinstance(estimator, Pipeline):
        some = [selected(_joined(estimator), names)]
    elif isinstance(estimator, StreamingModel):
        some = [[str(name) for name in names[estimator.kept_]]]
    else:
        some = []
    counts: dict[str, float] = {}
    for columns in some:
        for column in columns:
            counts[column] = counts.get(column, 0.0) + 1 / len(some)
    return counts


def _maker(name: str, kind: Kind, layout: Layout, options: Options) -> Callable[[Rows], Any]:
    """Return a function that fits the model of a name on rows."""
    if name == MEAN:
        return lambda rows: _constant(kind, rows)
    if name == "search":
        return lambda rows: _search(kind, layout, rows, options)
    if name in STREAMING:
        return lambda rows: _streaming(kind, name, rows, options.seed)
    return lambda rows: _workflow(_PLAIN if name == PLAIN else Recipe(name), kind, layout, rows, options.seed)


def _search(kind: Kind, layout: Layout, rows: Rows, options: Options) -> Search:
    made = Search(kind, layout, n_candidates=options.n_candidates, budget=options.budget, random_state=options.seed)
    ids = rows.patient, rows.strata, rows.lesion, rows.segmentation
    return made.fit(rows.X, rows.y, rows.weight, *ids, each=options.each)


def _streaming(kind: Kind, name: str, rows: Rows, seed: int) -> StreamingModel:
    try:
        return StreamingModel(kind, name, random_state=seed).fit(rows.X, rows.y, rows.weight)
    except ValueError as error:
        raise LearnError(str(error)) from error


def _workflow(recipe: Recipe, kind: Kind, layout: Layout, rows: Rows, seed: int) -> Pipeline:
    first = head(layout, recipe)
    X = fit_head(first, rows.X, rows.lesion, rows.segmentation, rows.weight)
    return Pipeline([("head", first), ("tail", fit_tail(tail(layout, recipe, kind, seed), X, rows.y, rows.weight))])


def _constant(kind: Kind, rows: Rows) -> Any:
    if kind == "number":
        return DummyRegressor().fit(rows.X, rows.y, sample_weight=rows.weight)
    prior = DummyClassifier(strategy="prior")
    model = HurdleComposition(prior) if kind == "composition" else prior
    return model.fit(rows.X, rows.y, sample_weight=rows.weight)


def _held_out(
    estimator: Any, make: Callable[[Rows], Any], rows: Rows, target: Target, options: Options
) -> NDArray[np.float64]:
    """Return what models that had not seen its patient say of each row, shape ``(row, k)``.

    A search has asked such models already; for others `make` fits them.
    """
    kind, n_classes = target.kind, len(target.classes)
    if isinstance(estimator, Search):
        return _of_all_classes(estimator, estimator.out_of_fold_, kind, n_classes)
    folds = _folds(rows, options)
    parts = [_said(make(rows.take(fold.train)), rows.X[fold.test], kind, n_classes) for fold in folds]
    found = np.empty((len(rows.X), parts[0].shape[1]))
    for fold, part in zip(folds, parts, strict=True):
        found[fold.test] = part
    return found


def _folds(rows: Rows, options: Options) -> list[Split]:
    return grouped_folds(rows.patient, rows.strata, n_folds=_CONFORMAL_FOLDS, seed=options.seed)


def _joined(pipeline: Pipeline) -> Pipeline:
    return Pipeline([*pipeline["head"].steps, *pipeline["tail"].steps])


def rows_of(
    target: Target,
    X: NDArray[np.float64],
    y: NDArray[np.float64],
    patient: Any,
    lesion: Any,
    segmentation: Any,
    weight: Any,
) -> Rows:
    """Return rows with their strata."""
    return Rows(X, y, weight, patient, lesion, segmentation, strata(target, y))
