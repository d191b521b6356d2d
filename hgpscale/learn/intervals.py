"""How sure a metric is: intervals and tests over repeated splits, over patients, and of the AUC of one test set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm, rankdata
from scipy.stats import t as student

from hgpscale.errors import LearnError

Array = NDArray[np.float64]
# Two dimensions or more where a row has several values.
Rows = NDArray[Any]


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


@overload
def bootstrap(
    metric: Callable[..., float],
    patient: ArrayLike,
    *arrays: ArrayLike,
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval: ...


@overload
def bootstrap(
    metric: Callable[..., Mapping[str, float]],
    patient: ArrayLike,
    *arrays: ArrayLike,
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[str, Interval]: ...


def bootstrap(
    metric: Callable[..., float] | Callable[..., Mapping[str, float]],
    patient: ArrayLike,
    *arrays: ArrayLike,
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval | dict[str, Interval]:
    """Return a metric of one test set with its percentile interval, patients drawn with all of their rows.

    Parameters
    ----------
    metric
        Function of `arrays` to a number, or to a dict of several.
    patient
        Ids of patients, shape ``(row,)``.
    *arrays
        Whatever the metric takes, each of shape ``(row, ...)``.
    resamples
        How often as many patients are drawn as there are, with replacement.
    seed
        Equal seeds give equal intervals.
    confidence
        Share of resamples between the limits, between 0 and 1.

    Returns
    -------
    Interval or dict of Interval
        The metric of all rows, and limits; resamples in which it is NaN are left out.

    Raises
    ------
    LearnError
        Lengths differ, there are no rows, or `resamples` or `confidence` is out of range.

    Notes
    -----
    Efron 1979, doi:10.1214/aos/1176344552; of clusters, Field and Welsh 2007, doi:10.1111/j.1467-9868.2007.00593.x.

    """
    whole, drawn = _resampled(metric, patient, arrays, resamples, seed)
    found = {name: Interval(whole[name], *_percentiles(values, confidence)) for name, values in drawn.items()}
    return found[""] if list(found) == [""] else found


@overload
def bootstrap_difference(
    metric: Callable[..., float],
    patient: ArrayLike,
    y: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    *,
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Difference: ...


@overload
def bootstrap_difference(
    metric: Callable[..., Mapping[str, float]],
    patient: ArrayLike,
    y: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    *,
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[str, Difference]: ...


def bootstrap_difference(
    metric: Callable[..., float] | Callable[..., Mapping[str, float]],
    patient: ArrayLike,
    y: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    *,
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Difference | dict[str, Difference]:
    """Return by how much ``metric(y, first)`` exceeds ``metric(y, second)`` on the same rows.

    Parameters
    ----------
    metric
        Function of what is true and what is predicted to a number, or to a dict of several.
    patient, resamples, seed, confidence
        As in `bootstrap`.
    y, first, second
        What is true and what two models predict, each of shape ``(row, ...)``.

    Returns
    -------
    Difference or dict of Difference
        p is twice the smaller share of resamples on either side of 0, those at 0 on both, the data counted as one
        resample on each, at most 1.

    Raises
    ------
    LearnError
        As in `bootstrap`.

    Notes
    -----
    As in `bootstrap`; p as Davison and Hinkley 1997, doi:10.1017/CBO9780511802843, section 4.4.

    """

    def difference(true: Rows, a: Rows, b: Rows) -> dict[str, float]:
        of_a, of_b = _as_dict(metric(true, a)), _as_dict(metric(true, b))
        return {name: of_a[name] - of_b[name] for name in of_a}

    whole, drawn = _resampled(difference, patient, (y, first, second), resamples, seed)
    found = {name: _difference(whole[name], values, confidence) for name, values in drawn.items()}
    return found[""] if list(found) == [""] else found


def bootstrap_contenders(
    metric: Callable[..., Mapping[str, float]],
    patient: ArrayLike,
    y: ArrayLike,
    said: Mapping[str, ArrayLike],
    *,
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> tuple[dict[str, dict[str, Interval]], dict[str, dict[str, Difference]]]:
    """Return `bootstrap` of each contender and `bootstrap_difference` of the first from each other, drawn once for all.

    Parameters
    ----------
    metric
        Function of what is true and what is predicted to a dict of numbers.
    patient, resamples, seed, confidence
        As in `bootstrap`.
    y
        What is true, shape ``(row, ...)``.
    said
        What each contender predicts, by name, the one that the others are compared with first.

    Returns
    -------
    intervals, differences
        By contender, then by metric; the first contender has no differences.

    Raises
    ------
    LearnError
        As in `bootstrap`.

    """

    def of_all(true: Rows, *predicted: Rows) -> dict[str, float]:
        found = (metric(true, one) for one in predicted)
        return {f"{i} {name}": value for i, values in enumerate(found) for name, value in values.items()}

    whole, drawn = _resampled(of_all, patient, (y, *said.values()), resamples, seed)
    metrics = [key.partition(" ")[2] for key in whole if key.startswith("0 ")]
    intervals: dict[str, dict[str, Interval]] = {}
    differences: dict[str, dict[str, Difference]] = {}
    for i, contender in enumerate(said):
        keys = {name: f"{i} {name}" for name in metrics}
        intervals[contender] = {
            name: Interval(whole[key], *_percentiles(drawn[key], confidence)) for name, key in keys.items()
        }
        if i:
            differences[contender] = {
                name: _difference(whole[f"0 {name}"] - whole[key], drawn[f"0 {name}"] - drawn[key], confidence)
                for name, key in keys.items()
            }
    return intervals, differences


def permutation_p(
    metric_of_labels: Callable[[Rows], float],
    patient: ArrayLike,
    labels: ArrayLike,
    permutations: int = 1000,
    seed: int = 0,
    *,
    greater: bool = True,
) -> float:
    """Return how often labels dealt out at random do as well as the true ones.

    Parameters
    ----------
    metric_of_labels
        Function of labels, in the order of rows, to a number.
    patient
        Ids of patients, shape ``(row,)``.
    labels
        What is true, shape ``(row, ...)``.
    permutations
        How often labels are dealt out.
    seed
        Equal seeds give equal p.
    greater
        Whether greater is better.

    Returns
    -------
    float
        One more than the number of permutations at least as good, divided by one more than their number (those
        where the metric is NaN left out); NaN where the metric of the true labels is NaN.

    Raises
    ------
    LearnError
        Lengths differ, there are no rows, or `permutations` is below 1.

    Notes
    -----
    Lesions of one patient resemble each other, so labels of a patient stay together: they go, in their order, to a
    patient with as many rows. Labels of patients with a number of rows that nobody else has are dealt out among all
    rows of such patients; their lesions are taken as independent, which makes p somewhat small where most are such.

    Phipson and Smyth 2010, doi:10.2202/1544-6115.1585, on counting the true labels as one permutation; Winkler and
    others 2015, doi:10.1016/j.neuroimage.2015.05.092, on exchanging whole blocks of equal size.

    """
    labels = np.asarray(labels)
    order, starts, sizes = _blocks(patient, labels)
    if permutations < 1:
        raise LearnError(f"permutations is {permutations}; expected 1 or more")
    true = float(metric_of_labels(labels))
    if np.isnan(true):
        return float("nan")
    several: list[NDArray[np.int64]] = []
    alone: list[NDArray[np.int64]] = []
    for size in np.unique(sizes):
        rows = order[starts[sizes == size][:, None] + np.arange(size)]
        (several if len(rows) > 1 else alone).append(rows)
    if alone:
        several.append(np.concatenate([rows.ravel() for rows in alone])[:, None])
    rng = np.random.default_rng([seed])
    # Sums in another order are as good, not better or worse.
    slack = 1e-12 * max(1.0, abs(true))
    good = known = 0
    for _ in range(permutations):
        source = np.arange(len(labels))
        for rows in several:
            source[rows] = rng.permutation(rows)
        value = float(metric_of_labels(labels[source]))
        known += not np.isnan(value)
        good += value >= true - slack if greater else value <= true + slack
    return (1 + good) / (1 + known)


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
    _check(confidence)
    return float(student.ppf((1 + confidence) / 2, freedom)) if freedom > 0 else float("nan")


def _normal(confidence: float) -> float:
    _check(confidence)
    return float(norm.ppf((1 + confidence) / 2))


def _check(confidence: float) -> None:
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


def _blocks(patient: ArrayLike, *arrays: Rows) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return rows ordered by patient, and where in that order each patient starts and how many rows it has."""
    ids = np.asarray(patient).astype(str)
    if not ids.size:
        raise LearnError("there are no lesions to judge by")
    if any(len(array) != len(ids) for array in arrays):
        raise LearnError(f"{len(ids)} rows have a patient, {[len(array) for array in arrays]} a value")
    _, of_row, sizes = np.unique(ids, return_inverse=True, return_counts=True)
    return np.argsort(of_row, kind="stable"), np.cumsum(sizes) - sizes, sizes


def _difference(whole: float, drawn: Array, confidence: float) -> Difference:
    """Return a difference of all rows with limits and p from that of each resample."""
    known = drawn[~np.isnan(drawn)]
    p = 2 * (1 + min((known <= 0).sum(), (known >= 0).sum())) / (1 + len(known)) if len(known) > 1 else np.nan
    return Difference(whole, *_percentiles(drawn, confidence), float(np.minimum(p, 1)))


def _as_dict(value: float | Mapping[str, float]) -> Mapping[str, float]:
    return value if isinstance(value, Mapping) else {"": float(value)}


def _resampled(
    metric: Callable[..., float | Mapping[str, float]],
    patient: ArrayLike,
    values: tuple[ArrayLike, ...],
    resamples: int,
    seed: int,
) -> tuple[Mapping[str, float], dict[str, Array]]:
    """Return metrics of all rows, and of each resample of patients."""
    arrays = [np.asarray(value) for value in values]
    order, starts, sizes = _blocks(patient, *arrays)
    if resamples < 1:
        raise LearnError(f"resamples is {resamples}; expected 1 or more")
    whole = _as_dict(metric(*arrays))
    drawn = {name: np.empty(resamples) for name in whole}
    rng = np.random.default_rng([seed])
    for k in range(resamples):
        chosen = rng.integers(len(sizes), size=len(sizes))
        size = sizes[chosen]
        within = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
        rows = order[np.repeat(starts[chosen], size) + within]
        for name, value in _as_dict(metric(*(array[rows] for array in arrays))).items():
            drawn[name][k] = value
    return whole, drawn


def _percentiles(values: Array, confidence: float) -> tuple[float, float]:
    _check(confidence)
    known = values[~np.isnan(values)]
    if len(known) < 2:
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
