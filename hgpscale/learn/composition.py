"""The composition of a growth pattern: a hurdle before pure lesions, soft labels for what is mixed."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import LogisticRegression
from sklearn.utils import check_random_state, get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import (
    _check_sample_weight,
    check_array,
    check_consistent_length,
    check_is_fitted,
    validate_data,
)

Array = NDArray[np.float64]

TOLERANCE = 1e-6
"""How far parts may be from adding up to one, or from 0 and 1 to be those."""

_FEWEST_ROWS = 5
"""Rows from which on a classifier learns; below, a constant stands in."""

_ONE_ROW = 0.25
"""The largest variance that a fraction can have: what one row without a prediction adds to sums of them."""

OTHER, MIXED, DESMOPLASTIC = range(3)
"""Classes of the gate."""


class Hurdle(NamedTuple):
    """What is predicted of each row.

    Attributes
    ----------
    composition
        Expected fractions desmoplastic, replacement, pushing: float64, shape ``(row, 3)``, with sum 1.
    pure_desmoplastic, pure_other
        P(d = 1) and P(d = 0): float64, shape ``(row,)``.
    majority_desmoplastic
        P(d > 0.5), at least P(d = 1): float64, shape ``(row,)``.

    """

    composition: Array
    pure_desmoplastic: Array
    pure_other: Array
    majority_desmoplastic: Array


class SoftClassifier(BaseEstimator):
    """Learn class probabilities from soft labels, by any classifier that takes weights.

    Each row is given once for each class, with its share of that class as its weight: the log loss of a classifier is
    then the cross-entropy between shares and probabilities. A classifier learns where there are at least five rows
    and two classes; otherwise each class has the weight that it has in the rows, plus 1, of all.

    Parameters
    ----------
    classifier
        An estimator with ``predict_proba`` whose ``fit`` takes ``sample_weight``.

    Attributes
    ----------
    classifier_
        The fitted classifier; None where the rows are too few.
    mass_
        Weight of each class in all rows so far: float64, shape ``(class,)``.
    rows_
        How many rows with a weight there were.

    """

    def __init__(self, classifier: Any) -> None:
        self.classifier = classifier

    classifier_: Any
    mass_: Array
    rows_: int

    def fit(self, X: Array, shares: Array, sample_weight: Array) -> Self:
        """Learn from rows; `shares` has shape ``(row, class)``, each row with any sum."""
        self._count(shares * sample_weight[:, None], fresh=True)
        self.classifier_ = None
        if self._is_ready():
            rows, label, weight = _given(shares * sample_weight[:, None])
            self.classifier_ = clone(self.classifier).fit(X[rows], label, sample_weight=weight)
        return self

    def partial_fit(self, X: Array, shares: Array, sample_weight: Array) -> Self:
        """Learn from more rows; any of them may lack classes."""
        fresh = not hasattr(self, "mass_")
        self._count(shares * sample_weight[:, None], fresh=fresh)
        if fresh or self.classifier_ is None:
            self.classifier_ = clone(self.classifier)
        rows, label, weight = _given(shares * sample_weight[:, None])
        if rows.size:
            self.classifier_.partial_fit(X[rows], label, classes=np.arange(shares.shape[1]), sample_weight=weight)
        return self

    def predict_proba(self, X: Array) -> Array:
        """Return probabilities, shape ``(row, class)``."""
        if not self._is_ready():
            return np.tile((self.mass_ + 1) / (self.mass_.sum() + self.mass_.size), (len(X), 1))
        found = np.zeros((len(X), self.mass_.size))
        found[:, self.classifier_.classes_] = self.classifier_.predict_proba(X)
        return found

    def _count(self, weights: Array, *, fresh: bool) -> None:
        mass, rows = weights.sum(axis=0), int((weights > 0).any(axis=1).sum())
        self.mass_, self.rows_ = (mass, rows) if fresh else (self.mass_ + mass, self.rows_ + rows)

    def _is_ready(self) -> bool:
        return bool(self.rows_ >= _FEWEST_ROWS and (self.mass_ > 0).sum() > 1)


def _given(weights: Array) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
    """Return rows, classes and weights of all that has a weight."""
    rows, label = np.nonzero(weights > 0)
    return rows, label, weights[rows, label]


def _can_go_on(self: HurdleComposition) -> bool:
    return hasattr(self._chosen(), "partial_fit")


class HurdleComposition(BaseEstimator):
    """Predict fractions desmoplastic d, replacement r and pushing p, of which many are exactly 0 or 1.

    A *gate* tells pure desmoplastic (d = 1), pure other (d = 0) and mixed lesions apart; *between* predicts d of mixed
    ones, *rest* how r and p share what is left, both from soft labels by cross-entropy. Together the three are the
    likelihood of the composition with atoms at d = 0 and d = 1, factor by factor: zeros need no special treatment,
    unlike in a Dirichlet model.

    Parameters
    ----------
    classifier
        A scikit-learn classifier with ``predict_proba`` whose ``fit`` takes ``sample_weight``, for all three; default
        `LogisticRegression`. For `partial_fit` it needs that too: ``SGDClassifier(loss="log_loss")``, `MLPClassifier`.
    random_state
        Of the classifiers; None: theirs.

    Attributes
    ----------
    gate_, between_, rest_
        Fitted `SoftClassifier`.
    spread_
        Two sums over mixed training rows: squared residuals of d, and d's largest possible variance m (1 - m) at its
        prediction m. float64, shape ``(2,)``.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Notes
    -----
    P(d > 0.5) takes d of mixed lesions as Beta distributed with the predicted mean and one precision, found by
    moments: Var d = m (1 - m) / (1 + precision). Residuals are those of training rows, in `partial_fit` of each batch
    after it was learned; one row that is uniformly distributed is added, so that few rows do not claim certainty.
    A lesion is pure where d is within 1e-6 of 0 or 1.

    ``SGDClassifier(average=True)`` forgets its intercept at each `partial_fit`, in scikit-learn 1.9 at least: use it
    with ``fit_intercept=False`` and a column of ones.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.arange(40.0)[:, None] / 40
    >>> d = np.clip(X[:, 0] * 2 - 0.5, 0, 1)
    >>> model = HurdleComposition().fit(X, np.column_stack([d, 1 - d, 0 * d]))
    >>> model.predict(X).shape
    (40, 3)

    """

    def __init__(self, classifier: Any = None, *, random_state: int | np.random.RandomState | None = None) -> None:
        self.classifier = classifier
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Learn from all rows.

        Parameters
        ----------
        X
            Shape ``(row, column)``; NaN where the classifier takes it.
        y
            Fractions d, r, p: shape ``(row, 3)``.
        sample_weight
            Shape ``(row,)``, none negative; rows without a weight count for nothing. None: 1 each.

        Raises
        ------
        ValueError
            A row of `y` has not three parts, none negative, that sum to 1 within 1e-6; or no row has a weight.

        """
        rows = self._checked(X, y, sample_weight, fresh=True)
        self._start()
        return self._learn(*rows, how="fit")

    @available_if(_can_go_on)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Learn from more rows, as `fit` has them; a batch may lack pure lesions, or mixed ones."""
        fresh = not hasattr(self, "gate_")
        rows = self._checked(X, y, sample_weight, fresh=fresh)
        if fresh:
            self._start()
        return self._learn(*rows, how="partial_fit")

    def predict(self, X: Any) -> Array:
        """Return the expected composition, shape ``(row, 3)``: fractions d, r, p whose sum is exactly 1."""
        return self.hurdle(X).composition

    def hurdle(self, X: Any) -> Hurdle:
        """Return the expected composition, and the probabilities that it is pure or mostly desmoplastic."""
        check_is_fitted(self, "gate_")
        X = self._columns(X, reset=False)
        gate = self.gate_.predict_proba(X)
        between, rest = (piece.predict_proba(X)[:, 1] for piece in (self.between_, self.rest_))
        desmoplastic = np.minimum(gate[:, DESMOPLASTIC] + gate[:, MIXED] * between, 1)
        replacement = np.minimum((1 - desmoplastic) * rest, 1 - desmoplastic)
        # 1 - s, rounded, adds up with s to 1 exactly.
        pushing = 1 - (desmoplastic + replacement)
        return Hurdle(
            np.column_stack([desmoplastic, replacement, pushing]),
            gate[:, DESMOPLASTIC],
            gate[:, OTHER],
            np.minimum(gate[:, DESMOPLASTIC] + gate[:, MIXED] * self._more_than_half(between), 1),
        )

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return minus the mean absolute error of the parts."""
        error = np.abs(self.predict(X) - simplex(y)).mean(axis=1)
        return -float(np.average(error, weights=sample_weight))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = False
        tags.input_tags.allow_nan = get_tags(self._chosen()).input_tags.allow_nan
        return tags

    def _chosen(self) -> Any:
        return LogisticRegression(max_iter=1000) if self.classifier is None else self.classifier

    def _start(self) -> None:
        """Begin anew: three pieces that have seen nothing."""
        random = check_random_state(self.random_state)
        pieces = []
        for _ in range(3):
            classifier = clone(self._chosen())
            if self.random_state is not None and "random_state" in classifier.get_params():
                classifier.set_params(random_state=random.randint(np.iinfo(np.int32).max))
            pieces.append(SoftClassifier(classifier))
        self.gate_, self.between_, self.rest_ = pieces
        self.spread_ = np.zeros(2)

    def _columns(self, X: Any, *, reset: bool) -> Array:
        finite = "allow-nan" if self.__sklearn_tags__().input_tags.allow_nan else True
        return np.asarray(validate_data(self, X, reset=reset, dtype=np.float64, ensure_all_finite=finite))

    def _checked(self, X: Any, y: Any, sample_weight: Any, *, fresh: bool) -> tuple[Array, Array, Array]:
        """Return the rows that have a weight."""
        X = self._columns(X, reset=fresh)
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        parts = simplex(y)
        check_consistent_length(X, parts)
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        there = weight > 0
        if not there.any():
            raise ValueError("no row has a sample weight above zero")
        return (X, parts, weight) if there.all() else (X[there], parts[there], weight[there])

    def _learn(self, X: Array, y: Array, weight: Array, *, how: str) -> Self:
        desmoplastic = y[:, 0]
        kind = np.where(desmoplastic >= 1 - TOLERANCE, DESMOPLASTIC, MIXED)
        kind[desmoplastic <= TOLERANCE] = OTHER
        getattr(self.gate_, how)(X, np.eye(3)[kind], weight)
        mixed, some = kind == MIXED, kind != DESMOPLASTIC
        halves = np.column_stack([1 - desmoplastic, desmoplastic])
        getattr(self.between_, how)(X[mixed], halves[mixed], weight[mixed])
        getattr(self.rest_, how)(X[some], y[some][:, [2, 1]], weight[some])
        if mixed.any():
            mean = self.between_.predict_proba(X[mixed])[:, 1]
            of_rows = np.stack([(desmoplastic[mixed] - mean) ** 2, mean * (1 - mean)])
            self.spread_ = self.spread_ + of_rows @ weight[mixed]
        return self

    @property
    def precision(self) -> float:
        """The precision, alpha + beta, of the Beta distribution of d in mixed lesions."""
        residual, possible = self.spread_ + np.array([_ONE_ROW / 3, _ONE_ROW])
        share = float(np.clip(residual / max(possible, TOLERANCE), TOLERANCE, 1 - TOLERANCE))
        return 1 / share - 1

    def _more_than_half(self, mean: Array) -> Array:
        """Return P(d > 0.5) of mixed lesions with mean d."""
        mean = np.clip(mean, TOLERANCE, 1 - TOLERANCE)
        # By symmetry, so that small probabilities are not lost in 1 - p.
        return np.asarray(betainc((1 - mean) * self.precision, mean * self.precision, 0.5))


def simplex(y: Any) -> Array:
    """Return compositions, checked: float64, shape ``(row, 3)``, none negative, with sum 1.

    Raises
    ------
    ValueError
        A row has not three finite parts, has one below -1e-6, or a sum that is further than 1e-6 from 1.

    """
    parts = check_array(y, dtype=np.float64, input_name="y", ensure_min_samples=0)
    if parts.shape[1] != 3:
        raise ValueError(f"a composition has three parts, desmoplastic, replacement and pushing, not {parts.shape[1]}")
    wrong = np.flatnonzero((parts < -TOLERANCE).any(axis=1) | (np.abs(parts.sum(axis=1) - 1) > TOLERANCE))
    if wrong.size:
        raise ValueError(
            f"row {wrong[0]} is no composition: expected three fractions with sum 1, found "
            f"{', '.join(f'{part:g}' for part in parts[wrong[0]])}; divide percentages by 100"
        )
    parts = np.maximum(parts, 0)
    return np.asarray(parts / parts.sum(axis=1, keepdims=True))
