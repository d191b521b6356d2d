"""A named model, fitted on some rows: once by `fit`, in every split by `evaluate`, baselines alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.pipeline import Pipeline

from hgpscale.errors import LearnError
from hgpscale.learn.composition import HurdleComposition
from hgpscale.learn.conformal import half_width
from hgpscale.learn.learners import LEARNERS, outputs
from hgpscale.learn.search import Search
from hgpscale.learn.splits import grouped_folds
from hgpscale.learn.spreading import Each, here
from hgpscale.learn.streaming import StreamingModel
from hgpscale.learn.targets import strata
from hgpscale.learn.workflows import Layout, Recipe, fit_head, fit_tail, head, selected, tail

if TYPE_CHECKING:
    from numpy.typing import NDArray

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
        if isinstance(self.estimator, Search):
            found = self.estimator.outputs(X)
            if self.kind != "class":
                return found
            # A class that no training row had.
            all_classes = np.zeros((len(X), self.n_classes))
            all_classes[:, self.estimator.classes_.astype(int)] = found
            return all_classes
        return outputs(self.estimator, X, self.kind, self.n_classes)

    def selected(self, names: NDArray[Any]) -> dict[str, float]:
        """Return how much each column of the design takes part: the share of workflows whose learner sees it."""
        if isinstance(self.estimator, Search):
            some = [selected(_joined(pipeline), names) for pipeline in self.estimator.pipelines_]
        elif isinstance(self.estimator, Pipeline):
            some = [selected(_joined(self.estimator), names)]
        elif isinstance(self.estimator, StreamingModel):
            some = [[str(name) for name in names[self.estimator.kept_]]]
        else:
            some = []
        counts: dict[str, float] = {}
        for columns in some:
            for column in columns:
                counts[column] = counts.get(column, 0.0) + 1 / len(some)
        return counts


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
        `search`, whose own folds serve.

    Raises
    ------
    LearnError
        There are too few patients, or all are of one class.

    """
    kind, n_classes = target.kind, len(target.classes)
    if kind in ("binary", "class") and name != MEAN and len(np.unique(rows.y)) < 2:
        raise LearnError(f"{target.name}: all lesions to learn from are alike; expected two classes or more")
    make = _maker(name, kind, layout, options)
    estimator = make(rows)
    width = float("nan")
    if interval and kind in ("number", "composition"):
        found = estimator.out_of_fold_ if isinstance(estimator, Search) else _out_of_fold(make, rows, kind, options)
        truth = rows.y if kind == "number" else rows.y[:, 0]
        width = half_width(np.abs(truth - found[:, 0]), rows.patient, options.coverage)
    return Fitted(name, kind, n_classes, estimator, width)


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


def _out_of_fold(make: Callable[[Rows], Any], rows: Rows, kind: Kind, options: Options) -> NDArray[np.float64]:
    """Return what models that had not seen its patient say of each row."""
    found = np.empty((len(rows.X), 1))
    for fold in grouped_folds(rows.patient, rows.strata, n_folds=_CONFORMAL_FOLDS, seed=options.seed):
        found[fold.test] = outputs(make(rows.take(fold.train)), rows.X[fold.test], kind)[:, :1]
    return found


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
