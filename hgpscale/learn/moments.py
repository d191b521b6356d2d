"""Weighted means, variances and covariances with targets, in one pass over batches."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Moments:
    """Running weighted moments of columns, and of targets where each column is known.

    Batches are merged by the pairwise formulas of Chan, Golub and LeVeque (1983, doi:10.1080/00031305.1983.10483115),
    relative to the first value of each column: a mean a million times the standard deviation costs no digits, and the
    order of the rows matters to rounding only. scikit-learn's `StandardScaler.partial_fit` is no such thing: it loses
    digits to large means, and a batch without any value of a column makes its variance NaN for good.

    Parameters
    ----------
    n_columns, n_targets
        How many.

    Attributes
    ----------
    weight
        Sum of the weights of the rows that have a value: float64, shape ``(column,)``.
    pivot, offset
        A column's first value, NaN where there was none, and its mean less that: float64, shape ``(column,)``.
    squares
        Weighted sum of squared deviations from the mean: float64, shape ``(column,)``.
    target_mean, target_squares
        The same of each target over the rows where the column is known: float64, shape ``(target, column)``.
    products
        Weighted sums of products of deviations: float64, shape ``(target, column)``.

    """

    def __init__(self, n_columns: int, n_targets: int = 0) -> None:
        self.weight: Array = np.zeros(n_columns)
        self.pivot: Array = np.full(n_columns, np.nan)
        self.offset: Array = np.zeros(n_columns)
        self.squares: Array = np.zeros(n_columns)
        self.target_mean: Array = np.zeros((n_targets, n_columns))
        self.target_squares: Array = np.zeros((n_targets, n_columns))
        self.products: Array = np.zeros((n_targets, n_columns))

    def add(self, X: Array, weight: Array, targets: Array | None = None) -> None:
        """Take in rows.

        Parameters
        ----------
        X
            float64, shape ``(row, column)``; NaN is a value that is not known.
        weight
            float64, shape ``(row,)``; none negative.
        targets
            float64, shape ``(row, target)``, finite.

        """
        if not weight.any():
            return
        if not weight.all():
            some_weight = weight > 0
            X, weight = X[some_weight], weight[some_weight]
            targets = None if targets is None else targets[some_weight]
        there = ~np.isnan(X)
        new = np.isnan(self.pivot) & there.any(axis=0)
        self.pivot[new] = X[there[:, new].argmax(axis=0), np.flatnonzero(new)]
        deviation = X - self.pivot
        deviation[~there] = 0
        known = there.astype(np.float64)
        here = weight @ known
        some = np.where(here > 0, here, 1)
        mean = weight @ deviation / some
        deviation -= mean
        deviation *= known
        rest = weight @ deviation / some  # what rounding left of the mean
        squares = np.maximum(weight @ deviation**2 - here * rest**2, 0)
        mean += rest
        total = self.weight + here
        share = here / np.where(total > 0, total, 1)
        both = self.weight * share
        step = mean - self.offset
        if targets is not None:
            middle = weight @ targets / weight.sum()
            apart = (targets - middle).T
            sums = (weight * apart) @ known / some
            target_step = middle[:, None] + sums - self.target_mean
            self.products += (weight * apart) @ deviation + target_step * step * both
            own = np.maximum((weight * apart**2) @ known - here * sums**2, 0)
            self.target_squares += own + target_step**2 * both
            self.target_mean += target_step * share
        self.squares += squares + step**2 * both
        self.offset += step * share
        self.weight = total

    def widen(self, at: Any, n_targets: int) -> None:
        """Make room for targets that were zero in all rows so far; those that there were go to positions `at`."""
        for name in ("target_mean", "target_squares", "products"):
            wide = np.zeros((n_targets, self.weight.size))
            wide[at] = getattr(self, name)
            setattr(self, name, wide)

    @property
    def mean(self) -> Array:
        """Means, shape ``(column,)``; NaN where nothing is known."""
        return self.pivot + self.offset

    @property
    def deviation(self) -> Array:
        """Standard deviations, as those of a population, shape ``(column,)``; 0 where nothing is known."""
        return np.asarray(np.sqrt(self.squares / np.where(self.weight > 0, self.weight, 1)))
