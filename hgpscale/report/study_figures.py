"""Figures of every study: results by split, labels by centre, curves of a probability, features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from hgpscale.report.figures import PATTERNS
from hgpscale.report.study_curves import calibration, decisions, roc
from hgpscale.report.study_read import PARTS, Metrics, Study
from hgpscale.report.study_words import (
    MEASURES,
    baseline_name,
    is_fraction,
    title_of,
    with_interval,
)
from hgpscale.report.svg import (
    FRACTION,
    INK,
    SOFT,
    Axis,
    Canvas,
    Shape,
    label_width,
    nice_axis,
    shortened,
    spread,
    swatch,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

MODEL, BASELINE, MISS = "#0072B2", "#7a5c1e", "#D55E00"
_CLASSES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#6b7280")


@dataclass(frozen=True)
class Figure:
    """One or more drawings with a caption.

    Attributes
    ----------
    name
        Its id in the page.
    drawings
        SVG.
    caption
        What to see.
    legend
        Swatch and words.
    wide
        Whether its drawings stand side by side over the page's width.

    """

    name: str
    drawings: tuple[Markup, ...]
    caption: str
    legend: tuple[tuple[Markup, str], ...] = ()
    wide: bool = False


def legend(*entries: tuple[str, Shape, str]) -> tuple[tuple[Markup, str], ...]:
    """Return entries of a legend from colour, shape and words."""
    return tuple((swatch(colour, shape), words) for colour, shape, words in entries)


def by_split(metrics: Metrics, name: str) -> Figure | None:
    """Draw one metric of the model and of each baseline: every split, quartiles, mean with its interval."""
    percent = is_fraction(name, metrics.kind)
    values = {f"model ({metrics.model})": metrics.metrics.get(name)}
    values |= {baseline_name(key): found.metrics.get(name) for key, found in metrics.baselines.items()}
    drawn = {label: value for label, value in values.items() if value is not None and value.mean is not None}
    if not drawn:
        return None
    scale = 100 if percent else 1
    points = {key: [scale * v for v in value.per_split if v is not None] for key, value in drawn.items()}
    ends = [scale * v for value in drawn.values() for v in (value.mean, value.low, value.high) if v is not None]
    everything = [*ends, *(v for some in points.values() for v in some)]
    axis = nice_axis(everything, title_of(name, metrics.kind), include=[0.5] if name == "auc" else [])
    several = any(len(some) > 1 for some in points.values())
    row = 68 if several else 40
    canvas = Canvas(axis, None, 480, row * len(drawn) + 56, left=14, right=20, top=4)
    if name == "auc":
        canvas.rule(0.5)
    for i, (label, value) in enumerate(drawn.items()):
        top, colour = 4 + row * i, MODEL if i == 0 else BASELINE
        canvas.text(axis.low, top + 14, shortened(label, 50), bold=True, colour=colour)
        at = below = top + (33.0 if several else 27.0)
        if len(points[label]) > 1:
            q1, q2, q3 = np.percentile(points[label], (25, 50, 75))
            for k, v in enumerate(points[label]):
                canvas.dot(v, at + 18 * spread(k), colour, radius=2.2, fade=0.4)
            canvas.box(q1, at - 9, q3, at + 9, "none", edge=INK)
            canvas.line([q2, q2], [at - 9, at + 9], INK, width=1.5)
        if several:
            below = at + 19
        if value.low is not None and value.high is not None:
            canvas.line([scale * value.low, scale * value.high], [below, below], colour, width=3)
        canvas.dot(scale * (value.mean or 0), below, colour, radius=5, shape="diamond", fade=1)
    entries: list[tuple[str, Shape, str]] = [(MODEL, "diamond", "mean" if several else "value")]
    if any(value.low is not None for value in drawn.values()):
        entries.append((MODEL, "line", "95 % interval"))
    if several:
        entries.append((MODEL, "circle", "one split (box: quartiles and median)"))
    if name == "auc":
        entries.append((SOFT, "dash", "0.5: chance"))
    told = "; ".join(f"{label} {with_interval(value, percent=percent)}" for label, value in drawn.items())
    better = MEASURES[name].better
    way = f"{'Further right' if better == 'higher' else 'Further left'} is better. " if isinstance(better, str) else ""
    rest = (
        "The dots show how much one split differs from another. The interval is of the mean; whether the model is "
        "better is "
        "told by the interval of the difference, in the table."
        if several
        else "There is one test set, so each predictor has one value."
    )
    return Figure(
        f"by-split-{name}",
        (canvas.render(f"{title_of(name, metrics.kind)} of the model and the baselines: {told}."),),
        f"{title_of(name, metrics.kind)} of the model and of each baseline in the same test sets. {way}{rest}",
        legend(*entries),
    )


def labels_by_centre(metrics: Metrics) -> Figure | None:
    """Draw the share of each label, or the mean of each growth pattern, by centre; None for numbers."""
    labels = metrics.cohort.by_centre
    means = metrics.has_composition
    keys = list(PARTS) if means else list(dict.fromkeys(key for counts in labels.values() for key in counts))
    if not labels or metrics.kind == "number" or not keys or len(keys) > len(_CLASSES):
        return None
    colours = {key: PATTERNS.get(key, _CLASSES[i]) for i, key in enumerate(keys)}
    row = 44
    axis = Axis(0, 100, (0, 25, 50, 75, 100), "mean share of the interface, %" if means else "share of lesions, %")
    canvas = Canvas(axis, None, 440, row * len(labels) + 54, left=14, right=18, top=4)
    told = []
    for i, (centre, counts) in enumerate(labels.items()):
        whole = sum(counts.get(key) or 0 for key in keys)
        y, start = 4 + row * i + 19, 0.0
        count = metrics.cohort.lesions_of(centre)
        canvas.text(0, y - 5, f"{shortened(centre, 40)}{f', n = {count}' if count else ''}")
        said = []
        for key in keys:
            value = counts.get(key) or 0
            share = 100 * value / whole if whole else 0
            if share:
                canvas.box(start, y, start + share, y + 21, colours[key], fade=0.85, edge="#fff")
            if share > 7:
                words = f"{share:.0f}" if means else f"{value:.0f}"
                canvas.text(start + share / 2, y + 15, words, anchor="middle", bold=True)
            said.append(f"{key} {share:.0f} %" if means else f"{key} {value:.0f}")
            start += share
        told.append(f"{centre}: {', '.join(said)}")
    what = "Mean growth pattern composition" if means else "Lesions of each label"
    entries: list[tuple[str, Shape, str]] = [(colours[key], "square", key) for key in keys]
    return Figure(
        "labels",
        (canvas.render(f"{what} by centre. {'; '.join(told)}."),),
        f"{what} by centre; n is the number of lesions. Where the shares differ much between centres, a model can "
        "gain by "
        "telling the centres apart.",
        legend(*entries),
    )


def _square(x: str, y: str) -> Canvas:
    return Canvas(Axis(0, 1, FRACTION, x), Axis(0, 1, FRACTION, y), 440, 420)


def roc_figure(study: Study) -> Figure | None:
    """Draw the ROC curve: the mean over the splits with a band, or that of the one test set."""
    curve = roc(study.events)
    if curve is None:
        return None
    canvas = _square("1 \N{MINUS SIGN} specificity (false alarms)", "sensitivity")
    canvas.line([0, 1], [0, 1], SOFT, width=1.2, dash="5 4")
    if curve.low is not None and curve.high is not None:
        canvas.band(curve.x.tolist(), curve.low.tolist(), curve.high.tolist(), MODEL)
    canvas.line(curve.x.tolist(), curve.y.tolist(), MODEL, width=2.5)
    auc = with_interval(study.metrics.metrics.get("auc"))
    several = curve.used > 1
    canvas.text(0.98, 0.06, f"AUC {auc}", anchor="end", bold=True)
    skipped = f" {curve.skipped} with one class only are left out." if curve.skipped else ""
    caption = (
        f"ROC curve, the mean of {curve.used} splits; the band holds the middle 80 % of the splits.{skipped} "
        if several
        else "ROC curve in the one test set. "
    ) + "A curve nearer the upper left corner separates better; the dashed diagonal is chance."
    entries: list[tuple[str, Shape, str]] = [(MODEL, "line", "mean of the splits" if several else "test set")]
    return Figure(
        "roc", (canvas.render(f"ROC curve, AUC {auc}."),), caption, legend(*entries, (SOFT, "dash", "chance"))
    )


def calibration_figure(study: Study) -> Figure | None:
    """Draw the share of positive lesions over the predicted probability."""
    bins = calibration(study.events)
    if not bins:
        return None
    canvas = _square("predicted probability", "share that was positive")
    canvas.line([0, 1], [0, 1], SOFT, width=1.2, dash="5 4")
    for one in bins:
        canvas.line([one.predicted, one.predicted], [one.low, one.high], MODEL, width=1.5)
    canvas.line([one.predicted for one in bins], [one.observed for one in bins], MODEL, width=1.5, fade=0.45)
    for one in bins:
        canvas.dot(one.predicted, one.observed, MODEL, radius=4.5, fade=1)
    metrics = study.metrics.metrics
    slope, intercept = metrics.get("calibration_slope"), metrics.get("calibration_intercept")
    canvas.text(0.98, 0.12, f"slope {with_interval(slope)}", anchor="end")
    canvas.text(0.98, 0.05, f"intercept {with_interval(intercept)}", anchor="end")
    told = "; ".join(f"predicted {one.predicted:.2f}, observed {one.observed:.2f}" for one in bins)
    return Figure(
        "calibration",
        (canvas.render(f"Calibration in {len(bins)} groups: {told}."),),
        "Calibration: test predictions in groups of equal size, and the share of each that was positive (95 % "
        "interval of "
        "Wilson; a lesion counts once a group). On the dashed diagonal, probabilities mean what they say; a line "
        "flatter "
        "than it is too sure of itself.",
        legend((MODEL, "circle", "group of lesions"), (SOFT, "dash", "perfect")),
    )


def decision_figure(study: Study) -> Figure | None:
    """Draw net benefit over the threshold of acting."""
    curve = decisions(study.events)
    if curve is None:
        return None
    top = max(curve.prevalence, float(curve.model.max())) * 1.1
    low = -0.25 * top
    y = nice_axis([low, top], "net benefit", include=[0])
    canvas = Canvas(Axis(0, 1, FRACTION, "threshold probability"), y, 440, 420)
    shown = curve.everyone >= y.low
    canvas.line(curve.threshold[shown].tolist(), curve.everyone[shown].tolist(), BASELINE, width=2, dash="7 4")
    canvas.line([0, 1], [0, 0], INK, width=1.5)
    for a, b in _runs(curve.model >= y.low):
        canvas.line(curve.threshold[a:b].tolist(), curve.model[a:b].tolist(), MODEL, width=2.5)
    # The model helps where it is above both others.
    gain = (curve.model > np.maximum(curve.everyone, 0) + 1e-9) & (curve.model > 1e-9)
    where = _ranges(curve.threshold, gain)
    told = f"It is above both at thresholds {where}." if where else "It is above both at no threshold."
    event = study.metrics.events[1]
    return Figure(
        "decision",
        (canvas.render(f"Decision curve; {told}"),),
        f"Decision curve: what acting on the model is worth, in true positives ({event}) a lesion, beside acting on "
        "all "
        f"lesions and on none. {told} It tells more where probabilities are calibrated.",
        legend((MODEL, "line", "model"), (BASELINE, "dash", "act on all"), (INK, "line", "act on none")),
    )


def _runs(inside: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return first and one past the last of every run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], inside.astype(int), [0]])))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _ranges(threshold: NDArray[np.float64], inside: NDArray[np.bool_]) -> str:
    """Return ranges of thresholds in words; those narrower than 0.02 are noise."""
    pairs = [(threshold[a], threshold[b - 1]) for a, b in _runs(inside) if b - a > 2]
    return ", ".join(f"{a:.2f} to {b:.2f}" for a, b in pairs[:4]) + (" and others" if len(pairs) > 4 else "")


def shares_figure(name: str, shares: Sequence[tuple[str, float]], caption: str, label: str) -> Figure | None:
    """Draw bars of shares (0..1), one a name."""
    if not shares:
        return None
    names = [shortened(words, 24) for words, _ in shares]
    axis = nice_axis([100 * value for _, value in shares], label, include=[0])
    row = 26
    canvas = Canvas(axis, None, 440, row * len(shares) + 54, left=label_width(names), right=44, top=4)
    for i, (_, value) in enumerate(shares):
        y = 4 + row * i + 3
        canvas.box(0, y, 100 * value, y + row - 8, MODEL, fade=0.8)
        canvas.text(0, y + 9, names[i], anchor="end", shift=(-8, 4))
        canvas.text(100 * value, y + 9, f"{100 * value:.0f} %", shift=(6, 4))
    told = "; ".join(f"{words} {100 * value:.0f} %" for words, value in shares)
    return Figure(name, (canvas.render(f"{label}: {told}."),), caption)


def number_figure(study: Study) -> Figure | None:
    """Draw predicted over true values, with the prediction intervals where there are any."""
    table = study.lesions
    table = table[table["target"].notna() & table["prediction"].notna()]
    if table.empty:
        return None
    target = study.metrics.target
    low, high = (table[name] if name in table else table["prediction"] for name in ("low", "high"))
    everything = [*table["target"], *table["prediction"], *low.dropna(), *high.dropna()]
    x, y = nice_axis(everything, f"true {target}"), nice_axis(everything, f"predicted {target}")
    canvas = Canvas(x, y, 440, 420)
    canvas.line([x.low, x.high], [x.low, x.high], SOFT, width=1.2, dash="5 4")
    for t, p, a, b in zip(table["target"], table["prediction"], low, high, strict=True):
        if a < b:
            canvas.line([t, t], [a, b], MODEL, width=1, fade=0.35)
        canvas.dot(t, p, MODEL, radius=3, fade=0.7)
    found = study.metrics.metrics
    told = f"mean absolute error {with_interval(found.get('mae'))}"
    return Figure(
        "number",
        (canvas.render(f"Predicted over true {target} of {len(table)} lesions; {told}."),),
        f"Predicted over true {target}, one dot a lesion (mean of the splits that tested it), with its 90 % prediction "
        "interval. On the dashed diagonal, predictions are right; a cloud flatter than it pulls towards the mean.",
        legend((MODEL, "circle", "lesion"), (SOFT, "dash", "right")),
    )
