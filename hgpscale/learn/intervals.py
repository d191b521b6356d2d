"""How sure a metric is: intervals and tests over repeated splits, and of the AUC of one test set."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm, rankdata
from scipy.stats import t as student

from hgpscale.errors import LearnError

Array = NDArray[np.float64]


class Interval(NamedTuple):
    """A value and its confidence limits; NaN where undefined."""

    mean: float
    low: float
    high: float


class Difference(NamedTuple):
    """A difference, its confidence limits and its two-sided p-value; NaN where undefined."""

    mean: float
    low: float
    high: float
    p: float


def corrected_interval(
    values: ArrayLike, test_over_train: float, confidence: float = 0.95, bounds: tuple[float, float] | None = None
) -> Interval:
    """Return the mean over repeated splits, with an interval that knows that training sets overlap.

    Parameters
    ----------
    values
        A metric of each split, float64, shape ``(split,)``; NaN are left out.
    test_over_train
        Rows of a test set, divided by those of its training set.
    confidence
        Probability that the interval holds the mean, between 0 and 1.
    bounds
        What limits are cut off at, such as ``(0, 1)``; None: nothing.

    Returns
    -------
    Interval
        Its limits are NaN with fewer than two values.

    Raises
    ------
    LearnError
        `confidence` is out of range, or `test_over_train` is negative.

    Notes
    -----
    Nadeau and Bengio 2003, doi:10.1023/A:1024068626366: the variance of the mean of J values of variance s2 is taken
    as (1 / J + `test_over_train`) s2, with Student's t of J - 1 degrees of freedom.

    """
    mean, error, freedom = _corrected(values, test_over_train)
    half = _student(confidence, freedom) * error
    low, high = (mean - half, mean + half) if bounds is None else np.clip((mean - half, mean + half), *bounds)
    return Interval(mean, float(low), float(high))


def corrected_difference(a: ArrayLike, b: ArrayLike, test_over_train: float, confidence: float = 0.95) -> Difference:
    """Return by how much `a` exceeds `b` over the same splits, with the corrected t test.

    Parameters
    ----------
    a, b
        A metric of two models in each split, float64, shape ``(split,)``; where one is NaN the split is left out.
    test_over_train, confidence
        As in `corrected_interval`.

    Returns
    -------
    Difference
        Limits and p are NaN with fewer than two splits. Where all differences are equal, p is 1 if they are 0, else 0.

    Raises
    ------
    LearnError
        Lengths differ, `confidence` is out of range, or `test_over_train` is negative.

    Notes
    -----
    As in `corrected_interval`.

    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape:
        raise LearnError(f"one model has {first.size} splits, the other {second.size}; expected the same")
    mean, error, freedom = _corrected(first - second, test_over_train)
    half = _student(confidence, freedom) * error
    p = 2 * float(student.sf(_statistic(mean, error), freedom)) if freedom > 0 else float("nan")
    return Difference(mean, mean - half, mean + half, p)


def delong(y: ArrayLike, probability: ArrayLike, confidence: float = 0.95) -> Interval:
    """Return the AUC of one test set with its interval; rows are taken as independent.

    Parameters
    ----------
    y
        0 or 1, shape ``(row,)``.
    probability
        Greater for 1, float64, shape ``(row,)``.
    confidence
        Probability that the interval holds the AUC, between 0 and 1.

    Returns
    -------
    Interval
        Limits are cut off at 0 and 1, and NaN with fewer than two rows of a class; all NaN without one.

    Raises
    ------
    LearnError
        Shapes differ, `y` is not 0 and 1, or `confidence` is out of range.

    Notes
    -----
    DeLong, DeLong and Clarke-Pearson 1988, doi:10.2307/2531595, by midranks as Sun and Xu 2014,
    doi:10.1109/LSP.2014.2337313.

    """
    (auc,), ((variance,),) = _placements(y, probability)
    half = _normal(confidence) * float(np.sqrt(variance))
    low, high = np.clip((auc - half, auc + half), 0, 1)
    return Interval(float(auc), float(low), float(high))


def delong_difference(y: ArrayLike, probability: ArrayLike, other: ArrayLike, confidence: float = 0.95) -> Difference:
    """Return by how much the AUC of `probability` exceeds that of `other` on the same rows.

    Parameters
    ----------
    y
        0 or 1, shape ``(row,)``.
    probability, other
        Predictions of two models, float64, shape ``(row,)``.
    confidence
        As in `delong`.

    Returns
    -------
    Difference
        Limits and p are NaN with fewer than two rows of a class.

    Raises
    ------
    LearnError
        Shapes differ, `y` is not 0 and 1, or `confidence` is out of range.

    Notes
    -----
    As in `delong`.

    """
    (first, second), covariance = _placements(y, probability, other)
    mean = float(first - second)
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    # What rounding leaves of the variance between predictions of one order.
    error = float(np.sqrt(variance if not variance <= 1e-15 else 0.0))
    half = _normal(confidence) * error
    return Difference(mean, mean - half, mean + half, 2 * float(norm.sf(_statistic(mean, error))))


def _corrected(values: ArrayLike, test_over_train: float) -> tuple[float, float, int]:
    """Return mean, its corrected standard error and degrees of freedom of the values that are known."""
    if not test_over_train >= 0:
        raise LearnError(f"test_over_train is {test_over_train}; expected 0 or more")
    known = np.asarray(values, dtype=np.float64).ravel()
    known = known[~np.isnan(known)]
    n = len(known)
    mean = float(known.mean()) if n else float("nan")
    if n < 2:
        return mean, float("nan"), 0
    error = float(np.sqrt((1 / n + test_over_train) * known.var(ddof=1)))
    # Equal values have a mean that differs from them by rounding.
    return mean, 0.0 if np.ptp(known) == 0 else error, n - 1


def _statistic(mean: float, error: float) -> float:
    """Return the absolute value of a test statistic; without an error it is infinite, unless the mean is 0."""
    if error == 0:
        return 0.0 if mean == 0 else float("inf")
    return abs(mean) / error


def _student(confidence: float, freedom: int) -> float:
    check_confidence(confidence)
    return float(student.ppf((1 + confidence) / 2, freedom)) if freedom > 0 else float("nan")


def _normal(confidence: float) -> float:
    check_confidence(confidence)
    return float(norm.ppf((1 + confidence) / 2))


def check_confidence(confidence: float) -> None:
    """Raise `LearnError` unless it lies between 0 and 1."""
    if not 0 < confidence < 1:
        raise LearnError(f"confidence is {confidence}; expected a number between 0 and 1")


def _placements(y: ArrayLike, *predictions: ArrayLike) -> tuple[Array, Array]:
    """Return AUCs of models, shape ``(model,)``, and their covariance, shape ``(model, model)``."""
    outcome = np.asarray(y, dtype=np.float64)
    scores = [np.asarray(p, dtype=np.float64) for p in predictions]
    if outcome.ndim != 1 or any(p.shape != outcome.shape for p in scores):
        raise LearnError(f"outcomes have shape {outcome.shape}, predictions {[p.shape for p in scores]}")
    if not ((outcome == 0) | (outcome == 1)).all():
        raise LearnError("outcomes are other than 0 and 1")
    ones, noughts = outcome == 1, outcome == 0
    m, n = int(ones.sum()), int(noughts.sum())
    k = len(scores)
    if not (m and n) or any(np.isnan(p).any() for p in scores):
        return np.full(k, np.nan), np.full((k, k), np.nan)
    ranks = [(rankdata(p), rankdata(p[ones]), rankdata(p[noughts])) for p in scores]
    # Of each one the share of noughts below it, of each nought the share of ones above it.
    above = np.stack([(every[ones] - among) / n for every, among, _ in ranks])
    below = np.stack([1 - (every[noughts] - among) / m for every, _, among in ranks])
    auc = above.mean(axis=1)
    if m < 2 or n < 2:
        return auc, np.full((k, k), np.nan)
    return auc, np.cov(above).reshape(k, k) / m + np.cov(below).reshape(k, k) / n
