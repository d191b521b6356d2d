"""Figures of growth patterns as fractions: triangles of true and predicted, and the intervals of the first part."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd
from markupsafe import Markup

from hgpscale.report.figures import PATTERNS
from hgpscale.report.study_figures import MISS, MODEL, Figure, legend
from hgpscale.report.study_read import PARTS, Study
from hgpscale.report.svg import GRID, SOFT, Axis, Canvas, Shape, spread

MOST = 600
"""Lesions that a figure shows; of more, every n-th."""
SHAPES: dict[str, Shape] = {"desmoplastic": "circle", "replacement": "square", "pushing": "triangle"}
_SIDE, _LEFT, _TOP = 300.0, 60.0, 46.0
_FAN = 15.0
"""Units that the largest cluster of equal lesions reaches."""
_HEIGHT = _SIDE * math.sqrt(3) / 2
_PERCENT = (0.0, 25.0, 50.0, 75.0, 100.0)
_EDGE = 1e-9


def shown(table: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Return at most `MOST` rows, evenly, and what a caption says of it."""
    step = -(-len(table) // MOST)
    if step <= 1:
        return table, ""
    return table.iloc[::step], f" Of {len(table)} lesions every {step}th is drawn."


def ternary_figure(study: Study) -> Figure | None:
    """Draw the true and the predicted composition of each lesion, coloured by the largest true part."""
    columns = [f"true_{part}" for part in PARTS]
    table = study.lesions.dropna(subset=[*columns, *PARTS])
    if table.empty:
        return None
    some, thinned = shown(table)
    true, predicted = some[columns].to_numpy(float), some[list(PARTS)].to_numpy(float)
    largest = [PARTS[i] for i in true.argmax(axis=1)]
    pure = sum(int((table[column] > 1 - _EDGE).sum()) for column in columns)
    drawings = (
        _triangle(true, largest, "true", f"True composition of {len(some)} lesions, {pure} of them pure."),
        _triangle(
            predicted,
            largest,
            "predicted",
            "Predicted composition of the same lesions; mean "
            + ", ".join(f"{part} {100 * table[part].mean():.0f} %" for part in PARTS)
            + ".",
        ),
    )
    entries: list[tuple[str, Shape, str]] = [
        (PATTERNS[part], SHAPES[part], f"mostly {part} in truth ({largest.count(part)})") for part in PARTS
    ]
    return Figure(
        "ternary",
        drawings,
        "True and predicted composition. A corner is a lesion of one pattern only, the middle an even mix; colour "
        "and shape "
        "are the largest true part in both. Lesions of equal composition are fanned out around their place, so a large "
        "cluster at a corner is many pure lesions. Predictions that keep to the middle mean that the model seldom "
        "dares a "
        f"pure pattern.{thinned}",
        legend(*entries),
        wide=True,
    )


def _place(parts: Sequence[float]) -> tuple[float, float]:
    d, _, p = parts
    return _LEFT + _SIDE * (p + d / 2), _TOP + _HEIGHT * (1 - d)


def _triangle(
    points: np.ndarray[tuple[int, int], np.dtype[np.float64]], largest: Sequence[str], title: str, alternative: str
) -> Markup:
    canvas = Canvas(width=2 * _LEFT + _SIDE, height=_TOP + _HEIGHT + 50)
    for share in (0.25, 0.5, 0.75):
        rest = 1 - share
        for a, b in (
            ((share, rest, 0), (share, 0, rest)),
            ((rest, share, 0), (0, share, rest)),
            ((rest, 0, share), (0, rest, share)),
        ):
            (x0, y0), (x1, y1) = _place(a), _place(b)
            canvas.line([x0, x1], [y0, y1], GRID, width=1)
    corners = [_place(corner) for corner in ((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 0))]
    canvas.line([x for x, _ in corners], [y for _, y in corners], SOFT, width=1.2)
    for (x, y), part, shift in zip(corners, PARTS, ((0, -24), (0, 36), (0, 36)), strict=False):
        canvas.text(x, y, part, anchor="middle", shift=shift, bold=True)
    canvas.text(8, 20, title, bold=True, size=13)
    places = [tuple(np.round(parts, 3).tolist()) for parts in points]
    step = min(2.4, _FAN / math.sqrt(max(Counter(places).values())))
    seen: Counter[tuple[float, ...]] = Counter()
    for parts, part, key in zip(points, largest, places, strict=True):
        nth = seen[key]
        seen[key] += 1
        radius, angle = step * math.sqrt(nth), nth * 2.399963
        x, y = _place(parts.tolist())
        canvas.dot(
            x, y, PATTERNS[part], radius=3.2, shape=SHAPES[part], fade=0.75,
            shift=(radius * math.cos(angle), radius * math.sin(angle)),
        )  # fmt: skip
    return canvas.render(alternative)


_BLOCKS = {"none": (54.0, 164.0), "some": (184.0, 354.0), "all": (374.0, 484.0)}
"""Units that lesions without, with some and with only desmoplastic growth stand between."""


def interval_figure(study: Study) -> Figure | None:
    """Draw the predicted desmoplastic part with its interval beside the true one; pure lesions stand side by side."""
    table = study.lesions.dropna(subset=["true_desmoplastic", "desmoplastic"])
    if table.empty:
        return None
    some, thinned = shown(table.sort_values("desmoplastic", kind="stable"))
    has = {"low", "high"} <= set(some.columns)
    y = Axis(0, 100, _PERCENT, "predicted desmoplastic part, %")
    canvas = Canvas(None, y, 496, 380, right=12, bottom=56)
    truth = 100 * some["true_desmoplastic"].to_numpy(float)
    kind = np.where(truth < _EDGE, "none", np.where(truth > 100 - _EDGE, "all", "some"))
    for name, (left, right) in _BLOCKS.items():
        line = {"none": (0, 0), "some": (0, 100), "all": (100, 100)}[name]
        canvas.line([left, right], line, SOFT, width=1.6, dash="5 4")
        words = {"none": "truth: 0 %", "some": "truth: mixed, 0 to 100 %", "all": "truth: 100 %"}[name]
        canvas.text((left + right) / 2, 0, words, anchor="middle", shift=(0, 20), colour=SOFT)
        canvas.text((left + right) / 2, 0, f"{int((kind == name).sum())} lesions", anchor="middle", shift=(0, 38))
    places = np.zeros(len(some))
    for name, (left, right) in _BLOCKS.items():
        mine = np.flatnonzero(kind == name)
        if name == "some":
            # Scores come in steps of five or ten percent: a little apart, their lines can be told.
            apart = np.array([4.0 * spread(i) for i in range(len(mine))])
            places[mine] = left + (right - left) * (truth[mine] + apart) / 100
        else:
            places[mine] = left + (right - left) * (np.arange(len(mine)) + 0.5) / max(len(mine), 1)
    guess = 100 * some["desmoplastic"].to_numpy(float)
    low = 100 * some["low"].to_numpy(float) if has else np.full(len(some), np.nan)
    high = 100 * some["high"].to_numpy(float) if has else np.full(len(some), np.nan)
    missed = (truth < low - _EDGE) | (truth > high + _EDGE)
    for i in np.argsort(missed, kind="stable"):
        colour = MISS if missed[i] else MODEL
        if np.isfinite(low[i]) and np.isfinite(high[i]):
            canvas.line([places[i]] * 2, [low[i], high[i]], colour, width=1, fade=0.6 if missed[i] else 0.25)
        canvas.dot(
            places[i], guess[i], colour, radius=2.6, shape="diamond" if missed[i] else "circle", fade=0.85
        )  # fmt: skip
    found = study.metrics.metrics.get("interval_coverage")
    covered = "" if found is None or found.mean is None else f" They hold {100 * found.mean:.0f} % of the true values."
    entries: list[tuple[str, Shape, str]] = [(MODEL, "circle", "lesion, interval holds the truth" if has else "lesion")]
    if has:
        entries.append((MISS, "diamond", "interval misses the truth"))
    return Figure(
        "intervals",
        (canvas.render(f"Predicted beside true desmoplastic part of {len(some)} lesions.{covered if has else ''}"),),
        "Predicted desmoplastic part of each lesion (mean of the splits that tested it), with its 90 % conformal "
        "interval."
        f"{covered if has else ''} Lesions without and with only desmoplastic growth stand side by side, from the "
        "lowest to "
        "the highest prediction; mixed ones stand at their true value, a little apart where it is the same. On the "
        "dashed lines, predictions are right; "
        "long "
        f"intervals mean that the model does not know.{thinned}",
        legend(*entries, (SOFT, "dash", "truth")),
    )


def coverage_by_truth(study: Study) -> list[tuple[str, int, float, float]]:
    """Return for lesions without, with some and with only desmoplastic growth: name, predictions, coverage and width.

    Every test prediction counts, as in the coverage of the metrics.
    """
    table = study.predictions
    if not {"low", "high", "true_desmoplastic"} <= set(table.columns):
        return []
    table = table.dropna(subset=["low", "high", "true_desmoplastic"])
    truth = table["true_desmoplastic"]
    held = (truth >= table["low"] - _EDGE) & (truth <= table["high"] + _EDGE)
    width = table["high"] - table["low"]
    groups = {
        "0 % desmoplastic": truth < _EDGE,
        "mixed": (truth >= _EDGE) & (truth <= 1 - _EDGE),
        "100 % desmoplastic": truth > 1 - _EDGE,
    }
    return [
        (name, int(table.loc[chosen, "lesion"].nunique()), float(held[chosen].mean()), float(width[chosen].mean()))
        for name, chosen in groups.items()
        if chosen.any()
    ]
