"""Models that learn batch by batch, from more rows than memory holds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.linear_model import SGDClassifier, SGDRegressor
from sklearn.metrics import accuracy_score, r2_score
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.utils import ClassifierTags, RegressorTags, check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_sample_weight,
    _check_y,
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from hgpscale.cube.arrays import has_row, labels_of
from hgpscale.learn.composition import Hurdle, HurdleComposition, simplex
from hgpscale.learn.moments import Moments
from hgpscale.learn.screen import CLASSES, COMPOSITIONS, KINDS, Screen

if TYPE_CHECKING:
    import xarray as xr

Array = NDArray[np.float64]

Batch = tuple[Any, Any, Any]
"""Features ``(row, column)``, their targets, and their weights ``(row,)`` or None."""

Batches = Callable[[int], Iterable[Batch]]
"""Yields all batches, each time that it is called; its argument counts the passes from 0."""

LEARNERS = ("sgd", "mlp")

_PASSES, _MOST_PASSES = 5, 100
_ROWS_SHOWN = 100_000
"""A network makes a step each 200 rows, and takes some hundreds of steps to learn anything."""

_STEP = 0.5
"""Step of the gradient descent times the number of columns, all of which have variance 1."""


def cube_batches(
    cube: xr.Dataset,
    columns: str | Sequence[str],
    target: Callable[[Any], Any],
    *,
    size: int = 1024,
    seed: int = 0,
) -> Batches:
    """Return the batches of a cube, or of a selection of it, for `StreamingModel`.

    Parameters
    ----------
    cube
        What `open_cube` returns, or a part of it.
    columns
        Columns of the manifest that the target is made of; one: `target` gets a Series, several: a DataFrame.
    target
        Makes targets of them, one a row; a row whose target is missing (None or NaN) is left out.
    size
        Rows a batch.
    seed
        Passes but the first one are in a random order, each in another: see `cube.hgp.batches`.

    Returns
    -------
    Batches
        A row's weight is 1 over the number of segmentations that the manifest has of its lesion.

    """
    count = has_row(cube).sum(axis=1)
    weights = None
    if count.size and count.max() > 1:
        weights = pd.Series(1 / np.maximum(count, 1), index=labels_of(cube, "lesion"))
    wanted = columns if isinstance(columns, str) else list(columns)

    def batches(epoch: int) -> Iterator[Batch]:
        for frame, values in cube.hgp.batches(size, wanted, shuffle=seed + epoch if epoch else None):
            y = np.asarray(target(values))
            known = ~(pd.isna(y) if y.ndim == 1 else pd.isna(y).any(axis=1))
            w = None if weights is None else weights.loc[frame.index.get_level_values("lesion")].to_numpy()
            if known.all():
                yield frame, y, w
            elif known.any():
                yield frame[known], y[known], None if w is None else w[known]

    return batches


def _has_probabilities(self: StreamingModel) -> bool:
    return self.kind in CLASSES


def _has_compositions(self: StreamingModel) -> bool:
    return self.kind in COMPOSITIONS


class StreamingModel(BaseEstimator):
    """Scale, screen and learn in passes over batches; only one batch is in memory at a time.

    The first pass finds means and standard deviations of all columns, and which go best with the target. In each
    further pass a learner sees those columns, scaled; what is not known is their mean.

    Parameters
    ----------
    kind
        ``binary``, ``class``, ``number``, ``composition`` (or ``multitask``, the same model).
    learner
        ``sgd``: a linear model by averaged stochastic gradient descent; ``mlp``: a network with hidden layers, by
        Adam. Compositions are learned by a `HurdleComposition` of it.
    n_features
        How many columns are kept; see `Screen`.
    epochs
        Passes of the learner; None: 5, and of ``mlp`` as many more as show it 100 000 rows, 100 at most.
    batch_size
        Rows a batch of `fit`; `fit_batches` takes batches as they come.
    alpha
        L2 penalty of the learner.
    hidden
        Neurons of each hidden layer of ``mlp``.
    clip
        Standard deviations from the mean at which scaled values are cut off, so that no outlier throws the learner.
    random_state
        Of the learner, and of the order of the rows in `fit`.

    Attributes
    ----------
    screen_
        The fitted `Screen`; its sums go on in `update_batches`.
    mean_, scale_
        Mean and standard deviation of each column as the learner knows them: float64, shape ``(column,)``.
    epochs_
        Passes that were made.
    target_mean_, target_scale_
        Mean and standard deviation of the target, which the learner sees scaled; kind ``number`` only.
    kept_
        Positions of the columns that the learner sees: int64.
    learner_
        The fitted learner.
    classes_
        Labels, sorted; kinds ``binary`` and ``class`` only.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Notes
    -----
    Scaling and screening do not depend on the order of the rows but for rounding; gradient descent does.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(600, 20))
    >>> model = StreamingModel("binary", n_features=3).fit(X, X[:, 4] > 0)
    >>> 4 in model.kept_
    True

    """

    screen_: Screen
    classes_: NDArray[Any]

    def __init__(
        self,
        kind: str = "binary",
        learner: str = "sgd",
        *,
        n_features: int = 100,
        epochs: int | None = None,
        batch_size: int = 1024,
        alpha: float = 1e-4,
        hidden: tuple[int, ...] = (32,),
        clip: float = 10.0,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.kind = kind
        self.learner = learner
        self.n_features = n_features
        self.epochs = epochs
        self.batch_size = batch_size
        self.alpha = alpha
        self.hidden = hidden
        self.clip = clip
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Learn from arrays, by `fit_batches` over parts of them in a random order.

        Parameters
        ----------
        X
            Shape ``(row, column)``, finite or NaN.
        y
            Labels or numbers ``(row,)``, or compositions ``(row, 3)``.
        sample_weight
            Shape ``(row,)``, none negative; rows without a weight count for nothing. None: 1 each.

        Raises
        ------
        ValueError
            As `fit_batches`; or no row has a weight.

        """
        self._check_parameters()
        X = validate_data(self, X, reset=True, dtype=np.float64, ensure_all_finite="allow-nan")
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        y = self._target(y)
        check_consistent_length(X, y)
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        if not weight.any():
            raise ValueError("no row has a sample weight above zero")
        some = np.flatnonzero(weight)
        seed = check_random_state(self.random_state).randint(np.iinfo(np.int32).max)

        def slices(epoch: int) -> Iterator[Batch]:
            order = np.random.default_rng([seed, epoch]).permutation(some)
            for start in range(0, order.size, self.batch_size):
                at = order[start : start + self.batch_size]
                yield X[at], y[at], weight[at]

        return self._fit(slices, None, reset=False)

    def fit_batches(self, batches: Batches, classes: Sequence[Any] | None = None) -> Self:
        """Learn from batches, in `epochs_` + 1 passes.

        Parameters
        ----------
        batches
            Called with the number of the pass; pass 0 is for scaling and screening. `cube_batches` makes one.
        classes
            Labels, also those that only a later update has; None: those of the first pass.

        Raises
        ------
        ValueError
            A parameter is none of those that are told; there is no row; no column varies; a target does not fit
            `kind`, or has one class only; or X is infinite somewhere.

        """
        self._check_parameters()
        return self._fit(batches, classes, reset=True)

    def update_batches(self, batches: Batches) -> Self:
        """Go on with new rows only, in as many passes as `fit_batches` made over the old ones.

        The learner's scaling and columns stay; `screen_` counts the new rows too, and `drift` tells how far they are
        from those. Raises as `fit_batches`, also where there is a new class; then nothing has changed.
        """
        check_is_fitted(self, "learner_")
        before = deepcopy(self.screen_)
        try:
            for X, y, weight in batches(0):
                self._count(X, y, weight, reset=False)
            if self.kind in CLASSES:
                self._check_known(self.screen_.classes_)
        except BaseException:
            self.screen_ = before
            raise
        self._learn(batches)
        return self

    def drift(self) -> Array:
        """Return how far the mean of each kept column moved by updates, in its standard deviations; of all rows."""
        check_is_fitted(self, "learner_")
        return np.asarray(((self.screen_.moments_.mean - self.mean_) / self.scale_)[self.kept_])

    def predict(self, X: Any) -> NDArray[Any]:
        """Return labels or numbers, shape ``(row,)``, or compositions ``(row, 3)`` with sum 1."""
        scaled = self._checked(X)
        if self.kind in CLASSES:
            return np.asarray(self.classes_[self.learner_.predict(scaled)])
        found = np.asarray(self.learner_.predict(scaled))
        if self.kind == "number":
            return np.asarray(self.target_mean_ + self.target_scale_ * found)
        return found

    @available_if(_has_probabilities)
    def predict_proba(self, X: Any) -> Array:
        """Return the probability of each class, shape ``(row, class)`` in the order of `classes_`."""
        scaled = self._checked(X)
        return np.asarray(self.learner_.predict_proba(scaled))

    @available_if(_has_compositions)
    def hurdle(self, X: Any) -> Hurdle:
        """Return compositions and probabilities of pure ones; see `HurdleComposition.hurdle`."""
        scaled = self._checked(X)
        found: Hurdle = self.learner_.hurdle(scaled)
        return found

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy of classes, R² of numbers, minus the mean absolute error of the parts of compositions."""
        found = self.predict(X)
        if self.kind in CLASSES:
            return float(accuracy_score(y, found, sample_weight=sample_weight))
        if self.kind == "number":
            return float(r2_score(y, found, sample_weight=sample_weight))
        return -float(np.average(np.abs(found - simplex(y)).mean(axis=1), weights=sample_weight))

    def _check_parameters(self) -> None:
        for name, known in (("kind", KINDS), ("learner", LEARNERS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is one of {', '.join(known)}, not {getattr(self, name)!r}")
        for name in ("n_features", "epochs", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, found {value}")

    def _fit(self, batches: Batches, classes: Sequence[Any] | None, *, reset: bool) -> Self:
        self.screen_ = Screen(self.kind, self.n_features)
        numbers = Moments(1)
        rows = 0
        for X, y, weight in batches(0):
            self._count(X, y, weight, reset=reset)
            rows += len(y)
            reset = False
            if self.kind == "number":
                given = _check_sample_weight(weight, y, dtype=np.float64)
                numbers.add(np.asarray(y, dtype=np.float64).reshape(-1, 1), given)
        if not hasattr(self.screen_, "moments_"):
            raise ValueError("there is no row to learn from")
        if self.kind in CLASSES:
            self.classes_ = np.unique(self.screen_.classes_ if classes is None else np.asarray(classes))
            self._check_known(self.screen_.classes_)
            if self.kind == "binary" and self.classes_.size > 2:
                raise ValueError(
                    "Only binary classification is supported. The type of the target is multiclass: "
                    f"{self.classes_.size} classes; choose the kind 'class'"
                )
            if self.classes_.size < 2:
                raise ValueError("The number of classes has to be greater than one; got 1 class")
        self.kept_ = self.screen_.get_support(indices=True)
        if not self.kept_.size:
            raise ValueError(f"no column varies (n_samples = {rows}), so there is nothing to learn from")
        sums = self.screen_.moments_
        self.mean_, self.scale_ = sums.mean, np.where(sums.deviation > 0, sums.deviation, 1)
        self.pivot_, self.offset_ = sums.pivot.copy(), sums.offset.copy()
        self.target_mean_, self.target_scale_ = float(numbers.mean[0]), float(numbers.deviation[0]) or 1.0
        self.epochs_ = self.epochs or self._passes(rows)
        self.learner_ = self._new_learner()
        self._learn(batches)
        return self

    def _passes(self, rows: int) -> int:
        shown = _ROWS_SHOWN if self.learner == "mlp" else 0
        return int(np.clip(math.ceil(shown / rows), _PASSES, _MOST_PASSES))

    def _count(self, X: Any, y: Any, weight: Any, *, reset: bool) -> None:
        """Take a batch into the statistics."""
        X = validate_data(self, X, reset=reset, dtype=np.float64, ensure_all_finite="allow-nan")
        self.screen_.partial_fit(X, y, weight)

    def _learn(self, batches: Batches) -> None:
        """Let the learner see the batches."""
        for epoch in range(1, self.epochs_ + 1):
            for X, y, weight in batches(epoch):
                scaled = self._checked(X)
                target = self._target(y)
                given = _check_sample_weight(weight, scaled, dtype=np.float64)
                if not given.all():
                    scaled, target, given = (part[given > 0] for part in (scaled, target, given))
                if not given.size:
                    continue
                if self.kind in CLASSES:
                    labels = np.searchsorted(self.classes_, target)
                    classes = np.arange(self.classes_.size)
                    self.learner_.partial_fit(scaled, labels, classes=classes, sample_weight=given)
                    continue
                if self.kind == "number":
                    target = (target - self.target_mean_) / self.target_scale_
                self.learner_.partial_fit(scaled, target, sample_weight=given)

    def _checked(self, X: Any) -> Array:
        """Return what the learner sees: its columns, scaled, and for ``sgd`` one of ones."""
        check_is_fitted(self, "learner_")
        X = validate_data(self, X, reset=False, dtype=np.float64, ensure_all_finite="allow-nan")
        kept = self.kept_
        seen = np.ones((len(X), kept.size + (self.learner == "sgd")))
        scaled = seen[:, : kept.size]
        # The pivot first: what is left of a large mean would be rounded.
        np.subtract(X[:, kept], self.pivot_[kept], out=scaled)
        scaled -= self.offset_[kept]
        scaled /= self.scale_[kept]
        scaled[np.isnan(scaled)] = 0
        np.clip(scaled, -self.clip, self.clip, out=scaled)
        return seen

    def _target(self, y: Any) -> Any:
        """Return a target, checked."""
        if self.kind in COMPOSITIONS:
            return simplex(y)
        if self.kind == "number":
            return np.asarray(_check_y(column_or_1d(y, warn=True), y_numeric=True), dtype=np.float64)
        labels = _check_y(column_or_1d(y, warn=True))
        check_classification_targets(labels)
        return labels

    def _check_known(self, labels: NDArray[Any]) -> None:
        new = np.setdiff1d(labels, self.classes_)
        if new.size:
            raise ValueError(f"class {new[0]!r} is none of those of the model: {', '.join(map(str, self.classes_))}")

    def _new_learner(self) -> Any:
        seed = check_random_state(self.random_state).randint(np.iinfo(np.int32).max)
        if self.learner == "mlp":
            network = MLPRegressor if self.kind == "number" else MLPClassifier
            one = network(hidden_layer_sizes=self.hidden, alpha=self.alpha, random_state=seed)
        else:
            options = {
                "alpha": self.alpha,
                # SGDClassifier forgets its intercept at each partial_fit where it averages (scikit-learn 1.9): a column
                # of ones stands in.
                "average": True,
                "fit_intercept": False,
                "learning_rate": "constant",
                "eta0": _STEP / self.kept_.size,
                "random_state": seed,
            }
            one = SGDRegressor(**options) if self.kind == "number" else SGDClassifier(loss="log_loss", **options)
        return HurdleComposition(one, random_state=seed) if self.kind in COMPOSITIONS else one

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.input_tags.allow_nan = True
        if self.kind in CLASSES:
            tags.estimator_type = "classifier"
            tags.classifier_tags = ClassifierTags(multi_class=self.kind == "class")
        elif self.kind == "number":
            tags.estimator_type, tags.regressor_tags = "regressor", RegressorTags()
        else:
            tags.target_tags.multi_output, tags.target_tags.single_output = True, False
        return tags
