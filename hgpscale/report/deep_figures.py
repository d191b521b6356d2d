"""Figures of networks: what they find over false alarms, and how they were trained."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from hgpscale.report.study_figures import MISS, MODEL, Figure, legend
from hgpscale.report.study_read import Value
from hgpscale.report.study_words import with_interval
from hgpscale.report.svg import FRACTION, INK, Axis, Canvas, Shape, nice_axis

COLOURS = (MODEL, "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#6b7280")
_RATES = {1 / 8: "1/8", 1 / 4: "1/4", 1 / 2: "1/2", 1.0: "1", 2.0: "2", 4.0: "4", 8.0: "8"}
_FEWEST, _MOST = math.log2(1 / 8), math.log2(8)
_POINTS = 400
"""Of a training curve; of more, neighbours are averaged."""


def value_of(told: Mapping[str, float | None]) -> Value:
    """Return a number of a summary with its limits."""
    return Value(mean=told["mean"], low=told["low"], high=told["high"])


def froc_figure(detection: Mapping[str, Any]) -> Figure | None:
    """Draw the FROC curve of `hgpscale.deep.detection.detection_summary`; None where no lesion is true."""
    false, true = detection["froc"]["false_positives"], detection["froc"]["sensitivity"]
    if not true:
        return None
    ticks = {math.log2(rate): words for rate, words in _RATES.items()}
    x = Axis(_FEWEST, _MOST, tuple(ticks), "false positives a scan, on average", lambda tick: ticks[tick])
    canvas = Canvas(x, Axis(0, 1, FRACTION, "sensitivity"), 440, 340)
    # Sensitivity rises at once and holds until the next score: steps, also where nothing more is found.
    xs, ys = [_FEWEST], [max(s for f, s in zip(false, true, strict=True) if f <= 1 / 8)]
    for rate, sensitivity in zip(false, true, strict=True):
        if rate > 1 / 8:
            xs += [_at(rate)] * 2
            ys += [ys[-1], sensitivity]
    canvas.line([*xs, _MOST], [*ys, ys[-1]], MODEL, width=2.5)
    for rate, told in detection["sensitivity_at"].items():
        if told["low"] is not None:
            canvas.line([_at(float(rate))] * 2, [told["low"], told["high"]], MODEL, width=1.5)
        canvas.dot(_at(float(rate)), told["mean"], MODEL, radius=4.5, fade=1)
    entries: list[tuple[str, Shape, str]] = [(MODEL, "line", "all scores"), (MODEL, "circle", "with 95 % interval")]
    at, sensitivity = detection["false_positives"]["mean"], detection["sensitivity"]["mean"]
    canvas.dot(_at(at), sensitivity, MISS, radius=5.5, shape="diamond", fade=1)
    entries.append((MISS, "diamond", f"score {detection['threshold']:g} or more"))
    average = with_interval(value_of(detection["average_sensitivity"]))
    canvas.text(_MOST, 0.05, f"average {average}", anchor="end", bold=True, shift=(-6, 0))
    points = "; ".join(
        f"{with_interval(value_of(told))} at {_RATES.get(float(rate), rate)}"
        for rate, told in detection["sensitivity_at"].items()
    )
    return Figure(
        "froc",
        (canvas.render(f"FROC curve. Sensitivity {points} false positives a scan; average {average}."),),
        "FROC curve: the share of drawn lesions that are found, over how many candidates a scan are none, as the least "
        "score that counts goes down. The average is that at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false positives a scan.",
        legend(*entries),
    )


def _at(rate: float) -> float:
    return math.log2(max(rate, 1 / 8))


def training_curves(records: Iterable[Mapping[str, Any]]) -> list[Figure]:
    """Draw how losses and metrics went while networks were trained.

    Parameters
    ----------
    records
        As a training logs them, a mapping a line: ``step``; ``kind``, ``train`` or ``validation``; ``loss``; and
        whatever else was measured, numbers or mappings of names to numbers (``losses`` by task, ``growth``). Counts and
        clocks (``epoch``, ``seconds``, ``learning_rate``) are not drawn.

    Returns
    -------
    list of Figure
        The loss of both kinds; the losses by task; each other metric with both kinds in it. Those there are records of.

    """
    curves: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for record in records:
        for name, value in _numbers(record):
            curves.setdefault((name, str(record["kind"])), []).append((float(record["step"]), value))
    names = list(dict.fromkeys(name for name, _ in curves))
    drawn = [_curves("loss", ["loss"], curves, "Loss")]
    by_task = [name for name in names if name.startswith("losses ")]
    drawn.append(_curves("losses", by_task, curves, "Losses by task"))
    others = [name for name in names if name != "loss" and name not in by_task]
    drawn += [_curves(name.replace(" ", "-"), [name], curves, name.replace("_", " ").capitalize()) for name in others]
    return [figure for figure in drawn if figure is not None]


_NOT_DRAWN = ("step", "kind", "epoch", "seconds", "learning_rate")


def _numbers(record: Mapping[str, Any]) -> Iterable[tuple[str, float]]:
    for name, value in record.items():
        parts = value.items() if isinstance(value, Mapping) else [("", value)]
        for part, number in parts:
            if name not in _NOT_DRAWN and isinstance(number, (int, float)) and math.isfinite(number):
                yield f"{name} {part}".strip(), float(number)


def _curves(
    name: str, of: Sequence[str], curves: Mapping[tuple[str, str], Sequence[tuple[float, float]]], title: str
) -> Figure | None:
    shown = {key: _thinned(sorted(points)) for key, points in curves.items() if key[0] in of}
    if not shown:
        return None
    steps = [step for points in shown.values() for step, _ in points]
    values = [value for points in shown.values() for _, value in points]
    x = nice_axis(steps, "step", include=[0])
    y = nice_axis(values, title.lower(), include=[0] if min(values) >= 0 else [])
    canvas = Canvas(x, y, 480, 300, left=62, right=26)
    entries: list[tuple[str, Shape, str]] = []
    for (key, kind), points in shown.items():
        colour = COLOURS[of.index(key) % len(COLOURS)] if len(of) > 1 else (INK if kind == "validation" else MODEL)
        steady = kind == "validation"
        xs, ys = [step for step, _ in points], [value for _, value in points]
        dashed = steady and len(of) > 1
        canvas.line(xs, ys, colour, width=2 if steady else 1.5, fade=1 if steady else 0.7, dash="6 3" if dashed else "")
        for step, value in points if steady and len(points) <= 60 else []:
            canvas.dot(step, value, colour, radius=2.6, fade=1)
        words = kind if len(of) == 1 else f"{key.partition(' ')[2]}, {kind}"
        entries.append((colour, "dash" if dashed else "line", words))
    ends = [max(curves[key])[1] for key in shown]
    last = "; ".join(f"{words} {end:.3g}" for (*_, words), end in zip(entries, ends, strict=True))
    return Figure(
        f"training-{name}",
        (canvas.render(f"{title} over steps of training. At the end: {last}."),),
        f"{title} over steps of training; at the end {last}.",
        legend(*entries),
    )


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return points of a curve, neighbours averaged where there are many."""
    size = -(-len(points) // _POINTS)
    edges = [*range(0, len(points), size), len(points)]
    groups = [points[a:b] for a, b in pairwise(edges)]
    return [(sum(s for s, _ in some) / len(some), sum(v for _, v in some) / len(some)) for some in groups]
