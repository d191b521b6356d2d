"""Univariate screening of columns in one pass over batches."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.feature_selection import SelectorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_sample_weight,
    _check_y,
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from hgpscale.learn.composition import simplex
from hgpscale.learn.moments import Moments

Array = NDArray[np.float64]

CLASSES = ("binary", "class")
COMPOSITIONS = ("composition", "multitask")
KINDS = (*CLASSES, "number", *COMPOSITIONS)
"""Kinds of a target."""

_CONSTANT = 1e-13
"""Standard deviation, as part of the mean, that may be rounding of one value."""


class Screen(SelectorMixin, BaseEstimator):
    """Keep the columns that go best with a target, one by one, by running sums.

    Parameters
    ----------
    kind
        ``binary`` or ``class``: columns are ranked by F of a one-way analysis of variance; ``number``: by the squared
        correlation; ``composition`` or ``multitask``: by the mean of the squared correlations with the three parts.
    n_features
        How many columns are kept; fewer where fewer vary. Of columns with equal scores the first ones are kept.

    Attributes
    ----------
    scores_
        float64, shape ``(column,)``; NaN where a column does not vary.
    moments_
        The running sums.
    classes_
        Labels seen so far, sorted; kinds ``binary`` and ``class`` only.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Notes
    -----
    NaN is a value that is not known: each column counts the rows that have it. A row of weight 2 counts as two rows, so
    that rows of several raters may share one lesion's weight. Scores equal `sklearn.feature_selection.f_classif`, and
    the square of `r_regression`, where all is known and weights are 1. A column is constant where its standard
    deviation is below 1e-13 of its mean. Batches may come in any order, and classes turn up in any of them.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[0.0, 5.0, 1.0], [1.0, 5.0, 0.0], [2.0, 5.0, 1.0], [3.0, 5.0, 0.1]])
    >>> Screen("number", n_features=1).fit(X, [0.0, 1.0, 2.0, 3.0]).get_support()
    array([ True, False, False])

    """

    moments_: Moments
    classes_: NDArray[Any]

    def __init__(self, kind: str = "class", n_features: int = 100) -> None:
        self.kind = kind
        self.n_features = n_features

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Take in all rows.

        Parameters
        ----------
        X
            Shape ``(row, column)``, finite or NaN.
        y
            The target: labels or numbers, shape ``(row,)``, or compositions, shape ``(row, 3)``.
        sample_weight
            Shape ``(row,)``, none negative; None: 1 each.

        Raises
        ------
        ValueError
            `kind` is not one of those, `n_features` is not positive, or the target is of another kind.

        """
        for name in ("moments_", "classes_"):
            if hasattr(self, name):
                delattr(self, name)
        return self.partial_fit(X, y, sample_weight)

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Take in more rows, as `fit` has them."""
        if self.kind not in KINDS:
            raise ValueError(f"kind is one of {', '.join(KINDS)}, not {self.kind!r}")
        if self.n_features < 1:
            raise ValueError(f"n_features must be at least 1, found {self.n_features}")
        fresh = not hasattr(self, "moments_")
        X = validate_data(self, X, reset=fresh, dtype=np.float64, ensure_all_finite="allow-nan")
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        targets = self._targets(y, fresh=fresh)
        check_consistent_length(X, targets)
        if fresh:
            self.moments_ = Moments(X.shape[1], targets.shape[1])
        self.moments_.add(X, weight, targets)
        return self

    @property
    def scores_(self) -> Array:
        """How well each column goes with the target; see the class."""
        check_is_fitted(self, "moments_")
        sums = self.moments_
        varies = sums.deviation > _CONSTANT * np.abs(np.where(sums.weight > 0, sums.mean, 0))
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            if self.kind in CLASSES:
                each = sums.target_mean * sums.weight
                between = np.where(each > 0, sums.products**2 / each, 0).sum(axis=0)
                within = np.maximum(sums.squares - between, 0)
                groups = (each > 0).sum(axis=0)
                freedom = np.maximum(sums.weight - groups, np.finfo(np.float64).tiny)
                scores = np.where(groups > 1, between / (groups - 1) / (within / freedom), 0)
            else:
                squared = sums.products**2 / (sums.squares * sums.target_squares)
                scores = np.where(sums.target_squares > 0, squared, 0).mean(axis=0)
        return np.asarray(np.where(varies, np.where(np.isnan(scores), 0, scores), np.nan))

    def _get_support_mask(self) -> NDArray[np.bool_]:
        scores = self.scores_
        best = np.argsort(-np.where(np.isnan(scores), -np.inf, scores), kind="stable")[: self.n_features]
        kept = np.zeros(scores.size, dtype=bool)
        kept[best] = True
        return kept & ~np.isnan(scores)

    def _targets(self, y: Any, *, fresh: bool) -> Array:
        """Return what columns are correlated with, shape ``(row, target)``: numbers, or an indicator of each class."""
        if self.kind in COMPOSITIONS:
            return simplex(y)
        if self.kind == "number":
            numbers = np.asarray(_check_y(column_or_1d(y, warn=True), y_numeric=True), dtype=np.float64)
            if fresh:
                self.pivot_ = float(numbers[0])
            return numbers[:, None] - self.pivot_
        labels = _check_y(column_or_1d(y, warn=True))
        check_classification_targets(labels)
        known = np.unique(labels) if fresh else np.union1d(self.classes_, labels)
        if not fresh and known.size > self.classes_.size:
            self.moments_.widen(np.searchsorted(known, self.classes_), known.size)
        self.classes_ = known
        return np.asarray(labels[:, None] == known, dtype=np.float64)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.input_tags.allow_nan = True
        if self.kind in COMPOSITIONS:
            tags.target_tags.multi_output, tags.target_tags.single_output = True, False
        return tags
