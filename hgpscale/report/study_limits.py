"""What a reader should hold against a run, and why some of its numbers are missing: both from the run itself."""

from __future__ import annotations

from collections.abc import Iterator

from hgpscale.report.study_read import Metrics
from hgpscale.report.study_words import MEASURES, UNDEFINED, baseline_name, first_metric, number
from hgpscale.report.tables import count_of


def limits(metrics: Metrics) -> list[str]:
    """Return what a reader should hold against this run, found in its own numbers."""
    return list(_limits(metrics))


def _limits(metrics: Metrics) -> Iterator[str]:
    people, splits = metrics.cohort, metrics.splits
    if people.patients < 200:
        few = "fewer than a hundred" if people.patients < 100 else "fewer than two hundred"
        yield (
            f"Few patients: {people.patients} ({few}) with {people.features} candidate features. Selection and tuning "
            "are unstable at this size, and chance can pass for skill."
        )
    if len(people.centres) <= 1:
        yield "One centre, or none named: nothing here says that the result holds on other scanners and protocols."
    elif splits.scheme in ("repeated", "file"):
        yield (
            f"The {len(people.centres)} centres are mixed in training and test: the result holds for new patients "
            "of the "
            "same centres. Leaving a centre out, or an external set, tests more."
        )
    if splits.scheme != "external":
        yield "No external test set: all numbers come from the data that the model was developed on."
    yield from _of_results(metrics)
    if metrics.has_probability:
        yield from _imbalance(metrics)
    if len(people.centres) > 1 and not metrics.harmonised:
        yield "Features were not harmonised between centres; differences of scanners may help or hide the signal."
    if len(people.segmentations) <= 1:
        yield "One outline a lesion: how far predictions depend on who outlines is not known."
    elif metrics.rater_spread is not None and (metrics.rater_spread.mean or 0) > 0.1:
        yield (
            "Predictions depend on the outline: raters of one lesion differ by "
            f"{100 * (metrics.rater_spread.mean or 0):.0f} "
            "percentage points on average."
        )
    if sum(entry.lesions for entry in people.excluded):
        left = sum(entry.lesions for entry in people.excluded)
        yield (
            f"{count_of(left, 'lesion')} of {left + people.lesions} left out, for the reasons given; the rest may "
            "be a selection."
        )
    if metrics.delong is not None and people.lesions > people.patients:
        yield "DeLong's interval takes lesions as independent; several of a patient are not, so it is too narrow."
    yield (
        "Several comparisons are made (baselines, metrics, strata) and their p-values are not adjusted for their "
        "number."
    )
    yield (
        "Not a medical device: a research result on past scans. It has not been tested in care, and must not guide "
        "treatment."
    )


def _of_results(metrics: Metrics) -> Iterator[str]:
    name = first_metric(metrics)
    value, measure = metrics.metrics.get(name), MEASURES[name]
    if value is None or value.mean is None:
        return
    if value.low is None or value.high is None:
        yield f"The {measure.short} has no interval: how far it would vary is not known."
    elif name in ("auc", "balanced_accuracy") and value.high - value.low > 0.2:
        yield (
            f"Wide interval: the {measure.short} may be anything from {number(value.low)} to {number(value.high)}; "
            "more patients would narrow it."
        )
    if value.low is not None and name == "auc" and value.low <= 0.5:
        yield "The interval of the AUC includes 0.5: chance is not ruled out."
    dropped = sum(entry is None for entry in value.per_split)
    if dropped:
        yield (
            f"The {measure.short} is defined in {len(value.per_split) - dropped} of {len(value.per_split)} splits only "
            f"({measure.missing}); the mean is over those."
        )
    slope = metrics.metrics.get("calibration_slope")
    if slope is not None and slope.mean is not None and not 0.8 <= slope.mean <= 1.25:
        way = "too extreme" if slope.mean < 1 else "too timid"
        yield f"Probabilities are {way} (calibration slope {number(slope.mean)}, right is 1); read them as a ranking."
    coverage = metrics.metrics.get("interval_coverage")
    if coverage is not None and coverage.mean is not None and coverage.mean < 0.87:
        yield f"The 90 % prediction intervals hold {100 * coverage.mean:.0f} % of the true values: they are too narrow."


def _imbalance(metrics: Metrics) -> Iterator[str]:
    totals = metrics.cohort.totals
    if metrics.kind == "multitask":
        pure, whole = totals.get("pure desmoplastic"), totals.get("lesions")
        if pure is None or whole is None:
            return
        totals = {metrics.events[1]: pure, metrics.events[0]: whole - pure}
    whole = sum(totals.values())
    if len(totals) == 2 and whole > 3 and min(totals.values()) < 0.3 * whole:
        rare = min(totals, key=lambda label: totals[label])
        yield (
            f"Classes are unbalanced: {totals[rare]:.0f} of {whole:.0f} lesions are “{rare}”. Accuracy alone would "
            "mislead; "
            "few cases decide the numbers of that class."
        )


def undefined_notes(metrics: Metrics) -> list[str]:
    """Return why numbers of the tables are not defined, one line a metric."""
    holders = {"the model": metrics.metrics} | {baseline_name(k): b.metrics for k, b in metrics.baselines.items()}
    holders |= {f"{k} = {v}": group.metrics for k, parts in metrics.strata.items() for v, group in parts.items()}
    holders |= {rater: group.metrics for rater, group in metrics.raters.items()}
    notes = []
    for name, measure in MEASURES.items():
        lacking = [who for who, found in holders.items() if name in found and found[name].mean is None]
        if lacking:
            some = ", ".join(lacking[:6]) + (f" and {len(lacking) - 6} more" if len(lacking) > 6 else "")
            notes.append(f"{measure.title} is {UNDEFINED} for {some}: {measure.missing}.")
    return notes
