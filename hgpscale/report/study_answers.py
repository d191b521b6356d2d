"""What a run can say itself to the items of the checklists, from its metrics.json; empty where it cannot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hgpscale.report.study_read import Metrics
from hgpscale.report.study_tables import feature_shares, read_name
from hgpscale.report.study_words import (
    MEASURES,
    baseline_name,
    first_metric,
    interval_words,
    is_fraction,
    scheme_words,
    target_words,
    with_interval,
    with_sign,
)
from hgpscale.report.tables import count_of


def _setting(metrics: Metrics, *names: str) -> str:
    """Return the first of these options that the run has and that says something."""
    for name in names:
        value = metrics.settings.get(name)
        if value not in (None, "", [], {}, False):
            return words_of(value)
    return ""


def words_of(value: Any) -> str:
    """Return an option as people read it."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {words_of(entry)}" for key, entry in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(words_of, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None or value == "" else str(value)


def _aim(m: Metrics) -> str:
    what = (
        "Development and external evaluation"
        if m.splits.scheme == "external"
        else "Development with internal evaluation"
    )
    return f"{what} of a model for {target_words(m)}."


def _centres(m: Metrics) -> str:
    if not m.cohort.centres:
        return ""
    told = ", ".join(f"{name} ({lesions})" for name, lesions in m.cohort.centres.items())
    return f"{count_of(len(m.cohort.centres), 'centre')}, lesions of each: {told}."


def _exclusion(m: Metrics) -> str:
    return "; ".join(f"{entry.lesions} left out: {entry.reason}" for entry in m.cohort.excluded)


def _covariates(m: Metrics) -> str:
    told = _setting(m, "covariates")
    strata = ", ".join(m.strata)
    parts = [f"In the model: {told}." if told else "", f"Results by stratum: {strata}." if strata else ""]
    return " ".join(filter(None, parts))


def _preparation(m: Metrics) -> str:
    ending = f"; harmonised between centres ({m.harmonised})" if m.harmonised else "; not harmonised between centres"
    return f"Imputed, scaled and filtered within each training set{ending}."


def _outcome(m: Metrics) -> str:
    positive = f" Positive: {m.positive}." if m.positive else ""
    cutoff = _setting(m, "cutoff")
    return f"{target_words(m).capitalize()}.{positive}{f' Cut-off: {cutoff}.' if cutoff else ''}"


def _features(m: Metrics) -> str:
    return f"{m.cohort.features} features of each outline (settings {m.settings_digest or 'not told'})."


def _candidates(m: Metrics) -> str:
    patterns = _setting(m, "features")
    patterns = "" if patterns == "*" else patterns
    return (
        f"{m.cohort.features} candidates{f' that match {patterns}' if patterns else ''}; selected within each "
        "training set."
    )


def _raters(m: Metrics) -> str:
    names = m.cohort.segmentations
    return f"Outlines of {', '.join(names)}; who they are is for the author." if len(names) > 1 else ""


def _missing(m: Metrics) -> str:
    return "Missing feature values are imputed from the training set; lesions without a label are left out and counted."


def _splits(m: Metrics) -> str:
    seed = "" if m.splits.seed is None else f", seed {m.splits.seed}"
    return f"{scheme_words(m).capitalize()}{seed}; all lesions and outlines of a patient on one side."


def _model(m: Metrics) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in m.versions.items())
    two = (
        ", one of radiomics and one of networks, weighed by training patients"
        if m.settings.get("fusion") == "stack"
        else ""
    )
    return f"“{m.model}”{two}, every step fitted in the training set only{f' ({versions})' if versions else ''}."


def _heterogeneity(m: Metrics) -> str:
    if m.splits.scheme == "leave-centre-out":
        return "Each centre is a test set of its own; the figure by split shows them."
    return "Labels by centre are shown." if len(m.cohort.centres) > 1 else ""


def _measures(m: Metrics) -> str:
    return f"{', '.join(MEASURES[name].title for name in m.metrics)}; the first is {MEASURES[first_metric(m)].title}."


def _predictions(m: Metrics) -> str:
    return "predictions.csv has every test prediction."


def _imbalance(m: Metrics) -> str:
    if m.kind not in ("binary", "class"):
        return ""
    told = ", ".join(f"{label} {count:.0f}" for label, count in m.cohort.totals.items())
    return f"Lesions: {told}. Balanced accuracy is given." if told and "balanced_accuracy" in m.metrics else ""


def _fairness(m: Metrics) -> str:
    people = [name for name in m.strata if name.lower() in ("age", "sex", "gender", "ethnicity", "race")]
    return f"Results by stratum of {', '.join(people)}." if people else ""


def _strata(m: Metrics) -> str:
    return f"Results by stratum of {', '.join(m.strata)}." if m.strata else ""


def _output(m: Metrics) -> str:
    outputs = {
        "binary": f"A probability of {m.events[1]}; classes at 0.5.",
        "class": f"A probability of each class ({', '.join(m.classes)}); the largest is predicted.",
        "number": "A number with a 90 % conformal interval.",
        "composition": "Fractions of the growth patterns, a 90 % conformal interval of the desmoplastic one, probabilities of 100 % and of more than 50 %.",  # noqa: E501
        "multitask": "Fractions of the growth patterns, a 90 % conformal interval of the desmoplastic one, probabilities of 100 % and of more than 50 %.",  # noqa: E501
    }
    return f"{outputs[m.kind]} A flag marks input unlike the training data."


def _external(m: Metrics) -> str:
    if m.splits.scheme != "external" or not m.splits.sizes:
        return ""
    train, test = m.splits.sizes[0]
    return f"External test set: {count_of(test, 'lesion')}, trained on {train}."


def _code(m: Metrics) -> str:
    return f"hgpscale {m.versions['hgpscale']}." if "hgpscale" in m.versions else ""


def _flow(m: Metrics) -> str:
    left = sum(entry.lesions for entry in m.cohort.excluded)
    return (
        f"{m.cohort.lesions + left} lesions, {left} left out, {m.cohort.lesions} of {m.cohort.patients} patients "
        "analysed."
    )


def _labels(m: Metrics) -> str:
    return "Labels by centre are shown; other characteristics are for the author." if m.cohort.labels else ""


def _numbers(m: Metrics) -> str:
    sizes = m.splits.sizes
    tests = f"; {min(s[1] for s in sizes)} to {max(s[1] for s in sizes)} lesions in a test set" if sizes else ""
    events = _imbalance(m)
    return f"{m.cohort.patients} patients, {m.cohort.lesions} lesions{tests}. {events}".strip()


def _stored(m: Metrics) -> str:
    return "hgpscale fit stores the whole model with its features and settings."


def _performance(m: Metrics) -> str:
    name = first_metric(m)
    percent = is_fraction(name, m.kind)
    return (
        f"{MEASURES[name].title} {with_interval(m.metrics.get(name), percent=percent)}; all others in the table of "
        "results."
    )


def _limits(m: Metrics) -> str:
    return "Those that show in the numbers are listed under Limits."


def _unusual(m: Metrics) -> str:
    return "Missing feature values are imputed; lesions unlike the training data are flagged."


def _lists(m: Metrics) -> str:
    return "TRIPOD+AI, CLEAR and METRICS, as far as the run answers them here."


def _settings(m: Metrics) -> str:
    return f"Stored in the cube, digest {m.settings_digest}." if m.settings_digest else ""


def _images(m: Metrics) -> str:
    found = dict.fromkeys(read_name(f.name).image for f in m.features)
    found.pop("", None)
    return f"Among the selected: {', '.join(found)}." if found else ""


def _families(m: Metrics) -> str:
    shares = feature_shares(m.features, "family")
    return f"Among the selected: {', '.join(name for name, _ in shares)}." if shares else ""


def _software(m: Metrics) -> str:
    version = m.versions.get("hgpscale", "")
    return f"hgpscale {version}, whose features are compared with pyradiomics and IBSI's phantom.".replace("  ", " ")


def _robustness(m: Metrics) -> str:
    spread = m.rater_spread
    if spread is None or spread.mean is None:
        return ""
    return (
        f"Predictions of the raters of one lesion differ by {spread.mean:.2f} on average, at most "
        f"{spread.max or 0:.2f}."
    )


def _scaling(m: Metrics) -> str:
    return _preparation(m)


def _selection(m: Metrics) -> str:
    return "Features are selected within each training set; how often each is, is listed." if m.features else ""


def _tuning(m: Metrics) -> str:
    return "A random search within each training set; the best workflows are averaged." if m.model == "search" else ""


def _testing(m: Metrics) -> str:
    return f"{'External' if m.splits.scheme == 'external' else 'Internal'}: {scheme_words(m)}."


def _uncertainty(m: Metrics) -> str:
    return "" if all(value.interval == "none" for value in m.metrics.values()) else interval_words(m)


def _comparison(m: Metrics) -> str:
    name, told = first_metric(m), []
    percent = is_fraction(name, m.kind)
    for key, baseline in m.baselines.items():
        found = baseline.difference.get(name)
        if found is not None and found.mean is not None:
            p = with_sign(found.p)
            told.append(
                f"{baseline_name(key)} {with_interval(found, percent=percent, signed=True)}{', ' + p if p else ''}"
            )
    return f"Differences of {MEASURES[name].short} from {'; '.join(told)}." if told else ""


def _selected(m: Metrics) -> str:
    return "Features by how often they were selected, with region and family." if m.features else ""


def _dimension(m: Metrics) -> str:
    return f"{m.cohort.features} candidates for {m.cohort.lesions} lesions; selection is nested."


def _calibration(m: Metrics) -> str:
    found = [name for name in ("calibration_slope", "calibration_intercept", "brier") if name in m.metrics]
    return "; ".join(f"{MEASURES[name].title} {with_interval(m.metrics[name])}" for name in found)


def _internal(m: Metrics) -> str:
    return "" if m.splits.scheme == "external" else _testing(m)


ANSWERS: Mapping[str, Callable[[Metrics], str]] = {
    "aim": _aim, "calibration": _calibration, "candidates": _candidates, "centres": _centres, "code": _code,
    "comparison": _comparison, "covariates": _covariates, "dimension": _dimension, "exclusion": _exclusion,
    "external": _external, "fairness": _fairness, "families": _families, "features": _features, "flow": _flow,
    "heterogeneity": _heterogeneity, "images": _images, "imbalance": _imbalance, "internal": _internal,
    "labels": _labels, "limits": _limits, "lists": _lists, "measures": _measures, "missing": _missing, "model": _model,
    "numbers": _numbers, "outcome": _outcome, "output": _output, "performance": _performance,
    "predictions": _predictions, "preparation": _preparation, "raters": _raters,
    "robustness": _robustness, "scaling": _scaling, "selected": _selected, "selection": _selection,
    "settings": _settings, "software": _software, "splits": _splits, "stored": _stored, "strata": _strata,
    "testing": _testing, "tuning": _tuning, "uncertainty": _uncertainty, "unusual": _unusual,
}  # fmt: skip
"""By the names that the lists of items use."""
