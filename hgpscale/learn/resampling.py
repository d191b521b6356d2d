"""How sure a metric is, told by drawing patients anew, or by dealing labels out among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hgpscale.errors import LearnError
from hgpscale.learn.intervals import Difference, Interval, check_confidence

Array = NDArray[np.float64]
# Two dimensions or more where a row has several values.
Rows = NDArray[Any]


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
    check_confidence(confidence)
    known = values[~np.isnan(values)]
    if len(known) < 2:
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
