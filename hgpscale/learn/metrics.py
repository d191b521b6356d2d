"""How good predictions of one test set are: numbers, and the points of the curves that a report draws.

Functions of plain arrays, without warnings: where a metric is undefined, as the AUC of a single class, it is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit
from scipy.stats import norm, rankdata

from hgpscale.errors import LearnError

Array = NDArray[np.float64]

PARTS = ("desmoplastic", "replacement", "pushing")

# Probabilities this near to 0 and 1 stand for those in logarithms.
_CLIP = 1e-6


@dataclass(frozen=True)
class Metric:
    """What a report needs to know of a metric.

    Attributes
    ----------
    label
        Its name for a reader.
    greater
        Whether greater is better; None: nearer to `ideal` is.
    kinds
        The kinds of targets it belongs to: ``binary``, ``class``, ``number``, ``composition``, ``multitask``.
    chance
        Value of a prediction that knows nothing, if it has one whatever the data are (of classes: of two).
    ideal
        Its best value, if it has one.

    """

    label: str
    greater: bool | None
    kinds: tuple[str, ...]
    chance: float | None = None
    ideal: float | None = None


_TWO = ("binary", "multitask")
_NUMBERS = ("number", "composition", "multitask")
_COMPOSED = ("composition", "multitask")

METRICS: dict[str, Metric] = {
    "auc": Metric("AUC", True, ("binary", "class", "multitask"), 0.5, 1.0),
    "balanced_accuracy": Metric("Balanced accuracy", True, ("binary", "class", "multitask"), 0.5, 1.0),
    "sensitivity": Metric("Sensitivity", True, _TWO, None, 1.0),
    "specificity": Metric("Specificity", True, _TWO, None, 1.0),
    "brier": Metric("Brier score", False, _TWO, None, 0.0),
    "calibration_slope": Metric("Calibration slope", None, _TWO, None, 1.0),
    "calibration_intercept": Metric("Calibration in the large", None, _TWO, None, 0.0),
    "log_loss": Metric("Log loss", False, ("class",), None, 0.0),
    "mae": Metric("Mean absolute error", False, ("number",), None, 0.0),
    "rmse": Metric("Root mean squared error", False, ("number",), None, 0.0),
    "r2": Metric("R\N{SUPERSCRIPT TWO}", True, ("number",), 0.0, 1.0),
    "spearman": Metric("Spearman correlation", True, ("number",), 0.0, 1.0),
    **{f"mae_{part}": Metric(f"Mean absolute error, {part}", False, _COMPOSED, None, 0.0) for part in PARTS},
    "cross_entropy": Metric("Cross-entropy", False, _COMPOSED),
    "spearman_desmoplastic": Metric("Spearman correlation, desmoplastic", True, _COMPOSED, 0.0, 1.0),
    "interval_coverage": Metric("Coverage of intervals", None, _NUMBERS),
    "interval_width": Metric("Width of intervals", False, _NUMBERS, None, 0.0),
}


def binary_metrics(y: ArrayLike, probability: ArrayLike, weight: ArrayLike | None = None) -> dict[str, float]:
    """Return how good probabilities of a positive outcome are.

    Parameters
    ----------
    y
        Outcomes, 0 or 1, shape ``(row,)``.
    probability
        Of 1, float64, shape ``(row,)``. From 0.5 on the prediction is 1.
    weight
        Weights of rows, shape ``(row,)``; None: all 1.

    Returns
    -------
    dict
        ``auc, balanced_accuracy, sensitivity, specificity, brier, calibration_slope, calibration_intercept``.

    Raises
    ------
    LearnError
        Shapes differ, or `y` is not 0 and 1.

    """
    truth, p, w = _binary(y, probability, weight)
    positive, said = truth == 1, np.where(np.isnan(p), np.nan, p >= 0.5)
    sensitivity = _ratio((w * said)[positive].sum(), w[positive].sum())
    specificity = _ratio((w * (1 - said))[~positive].sum(), w[~positive].sum())
    slope, intercept = calibration(truth, p, w)
    return {
        "auc": auc(truth, p, w),
        "balanced_accuracy": (sensitivity + specificity) / 2,
        "sensitivity": sensitivity,
        "specificity": specificity,
        "brier": _ratio((w * (p - truth) ** 2).sum(), w.sum()),
        "calibration_slope": slope,
        "calibration_intercept": intercept,
    }


def class_metrics(y: ArrayLike, probabilities: ArrayLike) -> dict[str, float]:
    """Return how good probabilities of several classes are.

    Parameters
    ----------
    y
        Indices of classes, shape ``(row,)``.
    probabilities
        float64, shape ``(row, class)``, each row of sum 1. The prediction is the most probable class.

    Returns
    -------
    dict
        ``balanced_accuracy``, over the classes that occur; ``log_loss``; ``auc``, the mean of each class against the
        rest, NaN where a class does not occur.

    Raises
    ------
    LearnError
        Shapes differ, or an index has no column.

    """
    truth = np.asarray(y, dtype=np.int64)
    p = np.asarray(probabilities, dtype=np.float64)
    if p.ndim != 2 or truth.shape != p.shape[:1]:
        raise LearnError(f"classes have shape {truth.shape}, probabilities {p.shape}; expected (row,) and (row, class)")
    if truth.size and not 0 <= truth.min() <= truth.max() < p.shape[1]:
        raise LearnError(f"classes are {truth.min()} to {truth.max()}, probabilities are of {p.shape[1]}")
    if not truth.size:
        return dict.fromkeys(("balanced_accuracy", "log_loss", "auc"), float("nan"))
    right = p.argmax(axis=1) == truth
    of_truth = np.clip(p[np.arange(len(truth)), truth], np.finfo(np.float64).eps, None)
    return {
        "balanced_accuracy": float(np.mean([right[truth == k].mean() for k in np.unique(truth)])),
        "log_loss": float(-np.log(of_truth).mean()) + 0.0,  # not -0.0
        "auc": float(np.mean([auc(truth == k, p[:, k]) for k in range(p.shape[1])])),
    }


def number_metrics(
    y: ArrayLike, value: ArrayLike, low: ArrayLike | None = None, high: ArrayLike | None = None
) -> dict[str, float]:
    """Return how good predictions of a number are.

    Parameters
    ----------
    y, value
        True and predicted, float64, shape ``(row,)``.
    low, high
        Limits of prediction intervals, likewise; None: there are none.

    Returns
    -------
    dict
        ``mae, rmse, r2, spearman``, and with limits ``interval_coverage, interval_width``.

    Raises
    ------
    LearnError
        Shapes differ.

    """
    truth, said = _alike(y, value)
    off = said - truth
    spread = ((truth - truth.mean()) ** 2).sum() if truth.size else 0.0
    return {
        "mae": _mean(np.abs(off)),
        "rmse": float(np.sqrt(_mean(off**2))),
        "r2": 1 - _ratio((off**2).sum(), spread),
        "spearman": spearman(truth, said),
        **_intervals(truth, low, high),
    }


def composition_metrics(
    true: ArrayLike, predicted: ArrayLike, low: ArrayLike | None = None, high: ArrayLike | None = None
) -> dict[str, float]:
    """Return how good predicted shares of the three growth patterns are.

    Parameters
    ----------
    true, predicted
        Fractions desmoplastic, replacement, pushing: float64, shape ``(row, 3)``, each row of sum 1.
    low, high
        Limits of prediction intervals of the desmoplastic fraction, shape ``(row,)``; None: there are none.

    Returns
    -------
    dict
        ``mae_desmoplastic, mae_replacement, mae_pushing, cross_entropy, spearman_desmoplastic``, and with limits
        ``interval_coverage, interval_width``. Predictions below 1e-6 are 1e-6 in the cross-entropy.

    Raises
    ------
    LearnError
        Shapes differ.

    """
    y, p = _alike(true, predicted, columns=3)
    return {
        **{f"mae_{part}": _mean(np.abs(p[:, k] - y[:, k])) for k, part in enumerate(PARTS)},
        "cross_entropy": _mean(-(y * np.log(np.clip(p, _CLIP, None))).sum(axis=1)),
        "spearman_desmoplastic": spearman(y[:, 0], p[:, 0]),
        **_intervals(y[:, 0], low, high),
    }


def auc(y: ArrayLike, score: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Return the area under the ROC curve, ties counted half; NaN where one class has no weight.

    Parameters
    ----------
    y
        0 or 1, shape ``(row,)``.
    score
        Greater for 1, float64, shape ``(row,)``.
    weight
        Weights of rows, shape ``(row,)``; None: all 1.

    Raises
    ------
    LearnError
        Shapes differ, or `y` is not 0 and 1.

    """
    truth, s, w = _binary(y, score, weight)
    if not s.size or np.isnan(s).any():
        return float("nan")
    order = np.argsort(s)
    first = np.flatnonzero(np.append(True, s[order][1:] != s[order][:-1]))
    ones, noughts = (np.add.reduceat((w * (truth == k))[order], first) for k in (1, 0))
    below = np.cumsum(noughts) - noughts / 2
    return _ratio((ones * below).sum(), ones.sum() * noughts.sum())


def spearman(a: ArrayLike, b: ArrayLike) -> float:
    """Return the correlation of ranks of two arrays of shape ``(row,)``; NaN where one of them is constant."""
    first, second = _alike(a, b)
    if len(first) < 2 or np.isnan(first).any() or np.isnan(second).any():
        return float("nan")
    middle = (len(first) + 1) / 2
    first, second = rankdata(first) - middle, rankdata(second) - middle
    return _ratio((first * second).sum(), float(np.sqrt((first**2).sum() * (second**2).sum())))


def calibration(y: ArrayLike, probability: ArrayLike, weight: ArrayLike | None = None) -> tuple[float, float]:
    """Return Cox's calibration slope, and calibration in the large.

    Parameters
    ----------
    y, probability, weight
        As in `binary_metrics`; probabilities are cut off at 1e-6 from 0 and 1.

    Returns
    -------
    slope, intercept
        Slope of the logistic regression, unpenalised, of `y` on the logit of `probability`: below 1 where
        predictions are too extreme. Intercept of the same with the slope fixed at 1: below 0 where they are too high.
        NaN where there is one class; the slope also where a threshold separates the classes or all
        logits are equal up to rounding.

    Raises
    ------
    LearnError
        Shapes differ, or `y` is not 0 and 1.

    Notes
    -----
    Cox 1958, doi:10.1093/biomet/45.3-4.562; Van Calster and others 2019, doi:10.1186/s12916-019-1466-7.

    """
    truth, p, w = _binary(y, probability, weight)
    truth, p, w = truth[w > 0], p[w > 0], w[w > 0]
    if not 0 < truth.sum() < len(truth) or np.isnan(p).any():
        return float("nan"), float("nan")
    x = logit(np.clip(p, _CLIP, 1 - _CLIP))
    # Logits are within 14; the share of ones sets how far the intercept can be from them.
    bound = 15 + abs(float(logit((w * truth).sum() / w.sum())))
    intercept = brentq(lambda a: float((w * (expit(x + a) - truth)).sum()), -bound, bound, xtol=1e-12)
    ones, noughts = x[truth == 1], x[truth == 0]
    # What differs by rounding alone has no slope either.
    if noughts.max() <= ones.min() or ones.max() <= noughts.min() or np.ptp(x) <= 1e-9:
        return float("nan"), float(intercept)
    return _slope(x, truth, w), float(intercept)


def _slope(x: Array, y: Array, w: Array) -> float:
    """Return the slope of a logistic regression with a maximum, by Newton's method, steps halved uphill."""
    centre, scale = x.mean(), x.std()
    design = np.stack([np.ones_like(x), (x - centre) / scale], axis=1)
    beta = np.array([float(logit((w * y).sum() / w.sum())), 0.0])

    def loss(b: Array) -> float:
        eta = design @ b
        return float((w * (np.logaddexp(0, eta) - y * eta)).sum())

    now = loss(beta)
    for _ in range(200):
        p = expit(design @ beta)
        hessian = (design * (w * p * (1 - p))[:, None]).T @ design
        if np.linalg.det(hessian) <= 0:
            return float("nan")
        step = np.linalg.solve(hessian, design.T @ (w * (y - p)))
        size = 1.0
        while (then := loss(beta + size * step)) > now + 1e-12 * abs(now) and size > 1e-6:
            size /= 2
        beta, now = beta + size * step, then
        if np.abs(step).max() < 1e-10 * (1 + np.abs(beta).max()):
            return float(beta[1] / scale)
    return float("nan")


class Roc(NamedTuple):
    """Points of an ROC curve, float64, shape ``(point,)``, from (0, 0) to (1, 1); none where there is one class."""

    false_positive: Array
    true_positive: Array
    threshold: Array


def roc_points(y: ArrayLike, probability: ArrayLike) -> Roc:
    """Return the points of the ROC curve, one a distinct probability, and (0, 0) at an infinite threshold.

    Parameters
    ----------
    y, probability
        As in `binary_metrics`.

    Raises
    ------
    LearnError
        Shapes differ, or `y` is not 0 and 1.

    """
    truth, p, _ = _binary(y, probability)
    if not 0 < truth.sum() < len(truth):
        return Roc(np.zeros(0), np.zeros(0), np.zeros(0))
    order = np.argsort(-p, kind="stable")
    last = np.flatnonzero(np.append(p[order][1:] != p[order][:-1], True))
    true, false = np.cumsum(truth[order])[last], np.cumsum(1 - truth[order])[last]
    return Roc(
        np.concatenate([[0.0], false / false[-1]]),
        np.concatenate([[0.0], true / true[-1]]),
        np.concatenate([[np.inf], p[order][last]]),
    )


class CalibrationPoints(NamedTuple):
    """Bins of predictions, shape ``(bin,)``, none empty.

    Attributes
    ----------
    predicted, observed
        Mean prediction and share of ones, float64.
    n
        Rows, int64.
    low, high
        Wilson's 95 % interval of the share, float64.

    """

    predicted: Array
    observed: Array
    n: NDArray[np.int64]
    low: Array
    high: Array


def calibration_points(y: ArrayLike, probability: ArrayLike, bins: int = 10) -> CalibrationPoints:
    """Return predicted beside observed shares, in bins of about equally many rows.

    Parameters
    ----------
    y, probability
        As in `binary_metrics`.
    bins
        How many bins at most: equal predictions are in one bin.

    Raises
    ------
    LearnError
        Shapes differ, `y` is not 0 and 1, or `bins` is below 1.

    Notes
    -----
    Intervals: Wilson 1927, doi:10.1080/01621459.1927.10502953.

    """
    truth, p, _ = _binary(y, probability)
    if bins < 1:
        raise LearnError(f"bins is {bins}; expected 1 or more")
    if not len(truth):
        return CalibrationPoints(*(np.zeros(0),) * 2, np.zeros(0, dtype=np.int64), *(np.zeros(0),) * 2)
    edges = np.unique(np.quantile(p, np.linspace(0, 1, bins + 1)[1:-1], method="inverted_cdf"))
    _, of_row, n = np.unique(np.searchsorted(edges, p), return_inverse=True, return_counts=True)
    predicted, observed = (np.bincount(of_row, weights=values) / n for values in (p, truth))
    z = float(norm.ppf(0.975))
    middle = (observed + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(observed * (1 - observed) / n + z**2 / (4 * n**2))
    low, high = np.clip(middle - half, 0, 1), np.clip(middle + half, 0, 1)
    return CalibrationPoints(predicted, observed, n.astype(np.int64), low, high)


class DecisionCurve(NamedTuple):
    """Net benefit, float64, shape ``(threshold,)``, of treating by the model and of treating all; of none it is 0."""

    threshold: Array
    model: Array
    treat_all: Array


def decision_curve(y: ArrayLike, probability: ArrayLike, thresholds: ArrayLike) -> DecisionCurve:
    """Return the net benefit of treating those whose probability reaches a threshold.

    Parameters
    ----------
    y, probability
        As in `binary_metrics`.
    thresholds
        Float64, shape ``(threshold,)``, from 0 on, below 1.

    Raises
    ------
    LearnError
        Shapes differ, `y` is not 0 and 1, or a threshold is out of range.

    Notes
    -----
    Vickers and Elkin 2006, doi:10.1177/0272989X06295361: true positives less false ones, the latter weighed by the
    odds of the threshold, as a share of all rows.

    """
    truth, p, _ = _binary(y, probability)
    t = np.asarray(thresholds, dtype=np.float64)
    if t.ndim != 1 or not ((t >= 0) & (t < 1)).all():
        raise LearnError("thresholds are not a list of numbers from 0 on, below 1")
    odds = t / (1 - t)
    if not len(truth):
        return DecisionCurve(t, np.full_like(t, np.nan), np.full_like(t, np.nan))
    treated = p >= t[:, None]
    model = (treated @ truth - odds * (treated @ (1 - truth))) / len(truth)
    return DecisionCurve(t, model, truth.mean() - odds * (1 - truth.mean()))


def _binary(y: ArrayLike, p: ArrayLike, weight: ArrayLike | None = None) -> tuple[Array, Array, Array]:
    """Return outcomes, predictions and weights as floats of one shape."""
    truth, said = _alike(y, p)
    if not ((truth == 0) | (truth == 1)).all():
        raise LearnError("outcomes are other than 0 and 1")
    w = np.ones_like(truth) if weight is None else np.asarray(weight, dtype=np.float64)
    if w.shape != truth.shape:
        raise LearnError(f"outcomes have shape {truth.shape}, weights {w.shape}; expected the same")
    return truth, said, w


def _alike(a: ArrayLike, b: ArrayLike, columns: int | None = None) -> tuple[Array, Array]:
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    shape = first.shape[:1] if columns is None else (*first.shape[:1], columns)
    if not first.ndim or first.shape != shape or second.shape != shape:
        told = "(row,)" if columns is None else f"(row, {columns})"
        raise LearnError(
            f"what is true has shape {first.shape}, what is predicted {second.shape}; expected {told} of both"
        )
    return first, second


def _intervals(y: Array, low: ArrayLike | None, high: ArrayLike | None) -> dict[str, float]:
    if low is None or high is None:
        return {}
    (_, lower), (_, upper) = _alike(y, low), _alike(y, high)
    return {"interval_coverage": _mean((lower <= y) & (y <= upper)), "interval_width": _mean(upper - lower)}


def _mean(values: Array | NDArray[np.bool_]) -> float:
    return float(np.mean(values)) if values.size else float("nan")


def _ratio(above: float, below: float) -> float:
    return float(above / below) if below > 0 else float("nan")
