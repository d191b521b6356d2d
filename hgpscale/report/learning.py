"""What evaluate, fit and predict print."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hgpscale.learn.metrics import METRICS
from hgpscale.report.tables import count_of, print_line, print_table

if TYPE_CHECKING:
    from hgpscale.learn.predicting import Predicted
    from hgpscale.learn.training import FitReport


def print_evaluation(found: Mapping[str, Any], folder: Path) -> None:
    """Print metrics with intervals, the model's beside each baseline's."""
    cohort = found["cohort"]
    for excluded in cohort["excluded"]:
        print_line(f"left out: {count_of(excluded['lesions'], 'lesion')}: {excluded['reason']}")
    baselines = found["baselines"]
    metrics = [name for name in METRICS if name in found]
    rows = [
        (METRICS[name].label, _interval(found[name]), *(_interval(baseline[name]) for baseline in baselines.values()))
        for name in metrics
    ]
    first = metrics[0]
    differences = [_difference(baseline["difference"][first]) for baseline in baselines.values()]
    rows.append((f"{METRICS[first].label}, model minus baseline", "", *differences))
    splits = found["splits"]
    title = (
        f"{found['target']}, {count_of(cohort['patients'], 'patient')}, {count_of(cohort['lesions'], 'lesion')}, "
        f"{count_of(cohort['features'], 'feature')}; {count_of(splits['count'], 'split')} ({splits['scheme']})"
    )
    print_table(("", found["model"], *baselines), rows, title=title)
    permutation = found["permutation"]
    if permutation["p"] is not None and math.isfinite(permutation["p"]):
        label = METRICS[permutation["metric"]].label
        print_line(f"labels dealt out at random do as well with p = {permutation['p']:.3g} ({label})")
    files = "metrics.json, predictions.csv, splits.csv"
    print_line(f"{folder}: {files} in {found['seconds']:.0f} s; next: hgpscale report {folder}")


def print_fit(report: FitReport, *, updated: bool) -> None:
    """Print what a model was fitted on."""
    for reason, lesions in report.excluded:
        print_line(f"left out: {count_of(lesions, 'lesion')}: {reason}")
    if updated and not report.lesions:
        print_line(f"{report.model}: has seen every lesion of the cube, nothing to do")
        return
    verb = "went on with" if updated else "fitted on"
    what = f"{count_of(report.lesions, 'lesion')} of {count_of(report.patients, 'patient')}"
    print_line(f"{report.model}: {verb} {what}, {count_of(report.features, 'feature')}")
    if report.drift:
        moved = ", ".join(f"{name} by {shift:.2f}" for name, shift in report.drift)
        print_line(f"means moved most, in standard deviations: {moved}")


def print_predictions(found: Predicted, table: Path, *, quiet: bool) -> None:
    """Print where predictions are and what stands out; `quiet`: only lesions without any."""
    if found.missing:
        print_table(("lesion", "not predicted"), [(lesion, "no features in the cube") for lesion in found.missing])
    if quiet:
        return
    lesions = found.table[found.table["level"] == "lesion"]
    print_line(f"{table}: {count_of(len(lesions), 'lesion')} of {count_of(lesions['patient'].nunique(), 'patient')}")
    unusual = int(lesions["unusual"].sum())
    if unusual:
        print_line(f"{count_of(unusual, 'lesion')} unlike the training data (column unusual): trust those less")
    if found.seen:
        print_line(f"{count_of(found.seen, 'lesion')} of these the model was fitted on: too good for those")


def _interval(metric: Mapping[str, Any]) -> str:
    return f"{_number(metric['mean'])} ({_number(metric['low'])} to {_number(metric['high'])})"


def _difference(found: Mapping[str, Any]) -> str:
    text = f"{_number(found['mean'])} ({_number(found['low'])} to {_number(found['high'])})"
    return text if found["p"] is None or not math.isfinite(found["p"]) else f"{text}, p {found['p']:.2g}"


def _number(value: float | None) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:.3f}"
