"""Names and numbers of a study as people read them, and the summary in two sentences."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from hgpscale.report.study_read import Difference, Kind, Metrics, Value
from hgpscale.report.tables import count_of

UNDEFINED = "not defined"
NOT_GIVEN = "not given"
MINUS = "\N{MINUS SIGN}"
TO = "\N{EN DASH}"


@dataclass(frozen=True)
class Measure:
    """How one metric is written.

    Attributes
    ----------
    title
        Name in tables.
    short
        Name in a sentence.
    better
        Which way is better; a number: the value that is right.
    missing
        Why it can be undefined.
    percent
        Whether the fraction is written as percent (or percentage points).

    """

    title: str
    short: str
    better: Literal["higher", "lower"] | float
    missing: str
    percent: bool = False


_BOTH = "a test set holds only one of both classes"
_STILL = "predictions or true values are all the same"
MEASURES = {
    "auc": Measure("AUC", "AUC", "higher", _BOTH),
    "balanced_accuracy": Measure("Balanced accuracy", "balanced accuracy", "higher", _BOTH),
    "sensitivity": Measure("Sensitivity at 0.5", "sensitivity", "higher", "no positive lesion was tested"),
    "specificity": Measure("Specificity at 0.5", "specificity", "higher", "no negative lesion was tested"),
    "brier": Measure("Brier score", "Brier score", "lower", "no lesion was tested"),
    "calibration_slope": Measure(
        "Calibration slope", "calibration slope", 1.0, "predictions are constant, or separate the classes without "
        "overlap"
    ),
    "calibration_intercept": Measure("Calibration intercept", "calibration intercept", 0.0, _BOTH),
    "log_loss": Measure("Log loss", "log loss", "lower", "no lesion was tested"),
    "mae": Measure("Mean absolute error", "mean absolute error", "lower", "no lesion was tested"),
    "rmse": Measure("Root mean squared error", "root mean squared error", "lower", "no lesion was tested"),
    "r2": Measure("R²", "R²", "higher", "true values are all the same"),
    "spearman": Measure("Spearman correlation", "Spearman correlation", "higher", _STILL),
    "mae_desmoplastic": Measure(
        "Mean absolute error, desmoplastic", "mean absolute error of the desmoplastic part", "lower", "no lesion "
        "was tested",
        percent=True,
    ),
    "mae_replacement": Measure(
        "Mean absolute error, replacement", "mean absolute error of the replacement part", "lower", "no lesion was "
        "tested",
        percent=True,
    ),
    "mae_pushing": Measure(
        "Mean absolute error, pushing", "mean absolute error of the pushing part", "lower", "no lesion was tested",
        percent=True,
    ),
    "cross_entropy": Measure("Cross-entropy", "cross-entropy", "lower", "no lesion was tested"),
    "spearman_desmoplastic": Measure(
        "Spearman correlation, desmoplastic", "Spearman correlation of the desmoplastic part", "higher", _STILL
    ),
    "interval_coverage": Measure(
        "Coverage of the 90 % intervals", "coverage", 0.9, "the predictor gives no intervals", percent=True
    ),
    "interval_width": Measure(
        "Width of the 90 % intervals", "interval width", "lower", "the predictor gives no intervals"
    ),
}  # fmt: skip

_FIRST: dict[Kind, tuple[str, ...]] = {
    "binary": ("auc", "balanced_accuracy"),
    "class": ("balanced_accuracy", "auc", "log_loss"),
    "number": ("mae", "rmse", "spearman"),
    "composition": ("mae_desmoplastic", "cross_entropy"),
    "multitask": ("mae_desmoplastic", "cross_entropy", "auc"),
}

KIND_WORDS: dict[Kind, str] = {
    "binary": "two classes",
    "class": "classes",
    "number": "a number",
    "composition": "growth patterns as fractions",
    "multitask": "growth patterns as fractions, and P(100 % desmoplastic)",
}

BASELINES = {
    "mean": "mean predictor",
    "volume": "volume only",
    "covariates": "covariates only",
    "lesion region": "lesion region only",
    "radiomics": "radiomics only",
    "deep": "networks only",
}


def baseline_name(name: str) -> str:
    """Return what a baseline is called in the report."""
    return BASELINES.get(name, name)


def first_metric(metrics: Metrics) -> str:
    """Return the metric that the summary is about: the target's usual one, else another that is defined."""
    for name in (*_FIRST[metrics.kind], *metrics.metrics):
        if name in metrics.metrics and metrics.metrics[name].mean is not None:
            return name
    return _FIRST[metrics.kind][0]


def first_metrics(metrics: Metrics) -> list[str]:
    """Return the first metric; of a model with two tasks also that of the other one."""
    first = first_metric(metrics)
    found = metrics.metrics.get("auc")
    two = metrics.kind == "multitask" and first != "auc" and found is not None and found.mean is not None
    return [first, "auc"] if two else [first]


def is_fraction(name: str, kind: Kind) -> bool:
    """Return whether a metric is written in percent; the width of an interval is, where fractions are predicted."""
    return MEASURES[name].percent or (name == "interval_width" and kind in ("composition", "multitask"))


def title_of(name: str, kind: Kind) -> str:
    """Return a metric's name with its unit."""
    measure = MEASURES[name]
    if name == "interval_coverage":
        return f"{measure.title}, %"
    return f"{measure.title} (percentage points)" if is_fraction(name, kind) else measure.title


def better_words(name: str) -> str:
    """Return which way is better, for a table."""
    better = MEASURES[name].better
    if isinstance(better, str):
        return f"{better} is better"
    return f"right is {100 * better:.0f} %" if MEASURES[name].percent else f"right is {better:g}"


def number(value: float | None, *, percent: bool = False, signed: bool = False) -> str:
    """Return a number for people: two decimals, or one of percent, or three digits where it is large."""
    if value is None or not math.isfinite(value):
        return UNDEFINED
    size = 100 * abs(value) if percent else abs(value)
    text = f"{size:.{1 if percent else 2 if size < 100 else 0}f}"
    zero = not text.strip("0.")
    sign = MINUS if value < 0 and not zero else ("+" if signed and not zero else "")
    return sign + text


def between(low: float | None, high: float | None, *, percent: bool = False) -> str:
    """Return an interval; empty where there is none."""
    if low is None or high is None:
        return ""
    a, b = number(low, percent=percent), number(high, percent=percent)
    return f"{a} to {b}" if low < 0 else f"{a}{TO}{b}"


def with_interval(value: Value | Difference | None, *, percent: bool = False, signed: bool = False) -> str:
    """Return a value with its interval: ``0.71 (0.58-0.83)``, the minus a dash."""
    if value is None:
        return NOT_GIVEN
    if value.mean is None:
        return UNDEFINED
    interval = between(value.low, value.high, percent=percent)
    text = number(value.mean, percent=percent, signed=signed)
    return f"{text} ({interval})" if interval else text


def p_value(p: float | None) -> str:
    """Return a p-value as it is written: no more digits than are worth it."""
    if p is None or not math.isfinite(p):
        return UNDEFINED
    return "< 0.001" if p < 0.001 else (f"{p:.3f}" if p < 0.0995 else f"{p:.2f}")


def with_sign(p: float | None) -> str:
    """Return ``p = 0.03`` or ``p < 0.001``; empty where there is none."""
    text = p_value(p)
    return "" if text == UNDEFINED else f"p {text}" if text.startswith("<") else f"p = {text}"


def with_article(words: str) -> str:
    """Return ``an AUC``, ``a mean absolute error``."""
    return f"{'an' if words[0] in 'AR' or words.startswith('i') else 'a'} {words}"


def target_words(metrics: Metrics) -> str:
    """Return what is predicted."""
    words = {
        "pure": "pure desmoplastic growth against other growth",
        "composition": "growth pattern composition",
        "multitask": "growth pattern composition and pure desmoplastic growth",
    }
    return words.get(metrics.target, metrics.target)


def scheme_words(metrics: Metrics) -> str:
    """Return how the test lesions were set apart."""
    splits = metrics.splits
    if splits.scheme == "external":
        return "one external test set"
    if splits.scheme == "leave-centre-out":
        return f"leaving one of {count_of(splits.count, 'centre')} out at a time"
    if splits.scheme == "file":
        return f"{count_of(splits.count, 'split')} given in a file"
    share = f" {1 - splits.test_fraction:.0%} / {splits.test_fraction:.0%}" if splits.test_fraction else ""
    return f"{splits.count} random{share.replace('%', ' %')} {'split' if splits.count == 1 else 'splits'} by patient"


def best_baseline(metrics: Metrics, name: str) -> str | None:
    """Return the baseline that does best by one metric; None where none has a value."""
    found = {
        key: baseline.metrics[name].mean
        for key, baseline in metrics.baselines.items()
        if name in baseline.metrics and baseline.metrics[name].mean is not None
    }
    ranked = sorted(found, key=lambda key: _goodness(name, found[key]), reverse=True)
    return ranked[0] if ranked else None


def _goodness(name: str, value: float | None) -> float:
    better = MEASURES[name].better
    if value is None:
        return -math.inf
    return value if better == "higher" else -value if better == "lower" else -abs(value - better)


Verdict = Literal["better", "worse", "not shown", "unknown"]


def verdict(name: str, difference: Difference | None) -> Verdict:
    """Return what the interval of a difference says: clear of zero one way, the other, or not clear of it."""
    if difference is None or difference.low is None or difference.high is None or difference.mean is None:
        return "unknown"
    if difference.low <= 0 <= difference.high:
        return "not shown"
    good = (difference.mean > 0) == (MEASURES[name].better == "higher")
    return "better" if good else "worse"


def summary(metrics: Metrics, name: str) -> tuple[str, str]:
    """Return two sentences: one metric beside the best baseline, and whether the difference is clear of zero."""
    measure, value = MEASURES[name], metrics.metrics.get(name)
    percent = is_fraction(name, metrics.kind)
    unit = " percentage points" if percent else ""
    where = {"external": "In ", "leave-centre-out": "By "}.get(metrics.splits.scheme, "Over ")
    if value is None or value.mean is None:
        return (
            f"{where}{scheme_words(metrics)}, the {measure.short} of the model is not defined: {measure.missing}.",
            "This run says nothing about how well the model predicts.",
        )
    over = metrics.splits.count > 1 and not measure.short.startswith("mean")
    what = with_article(f"mean {measure.short}" if over else measure.short)
    if metrics.kind == "multitask" and name == "auc":
        what += " for pure desmoplastic growth"
    first = (
        f"{where}{scheme_words(metrics)}, the model “{metrics.model}” reached {what} of {_said(value, percent, unit)}"
    )
    best = best_baseline(metrics, name)
    if best is None:
        return f"{first}.", "No baseline was evaluated beside it, so nothing is said about what it adds."
    label = baseline_name(best)
    first += f"; the best baseline, {label}, reached {_said(metrics.baselines[best].metrics[name], percent, unit)}."
    return first, _difference(metrics, name, best, percent, unit)


def _said(value: Value | Difference, percent: bool, unit: str, *, signed: bool = False) -> str:
    interval = between(value.low, value.high, percent=percent)
    said = f"{number(value.mean, percent=percent, signed=signed)}{unit}"
    return f"{said} (95 % interval {interval})" if interval else f"{said} (no interval)"


def _difference(metrics: Metrics, name: str, best: str, percent: bool, unit: str) -> str:
    label = baseline_name(best)
    found = metrics.baselines[best].difference.get(name)
    said = verdict(name, found)
    if found is None or said == "unknown":
        return f"Their difference has no interval, so the model is not shown to be better than {label}."
    p = with_sign(found.p)
    told = f"The difference of {_said(found, percent, unit)[:-1]}{', ' + p if p else ''})"
    if said == "better":
        return f"{told} is clear of zero: in these data the model predicts better than {label}."
    if said == "worse":
        return f"{told} is clear of zero the other way: the model is worse than {label}."
    ahead = _goodness(name, metrics.metrics[name].mean) > _goodness(name, metrics.baselines[best].metrics[name].mean)
    if ahead:
        return f"{told} is not clear of zero: the model is not shown to be better than {label}."
    return f"{told} is not clear of zero: the model is not better than {label}."


def interval_words(metrics: Metrics) -> str:
    """Return how the intervals were made."""
    kinds = {value.interval for value in metrics.metrics.values()}
    if "nadeau-bengio" in kinds:
        return (
            "Intervals (95 %) and p-values are corrected for the overlap of the splits' training sets "
            "(Nadeau and Bengio 2003)."
        )
    if "bootstrap" in kinds:
        return "Intervals (95 %) come from resampling patients with all their lesions (bootstrap)."
    return "There are no intervals: a single split does not tell how far its numbers vary."
