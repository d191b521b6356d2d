"""Tables of a study: results beside the baselines, classes, strata, raters, features, and the flow of lesions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import pandas as pd

from hgpscale.catalog import DEEP, FAMILIES, LESION, deep_feature
from hgpscale.report.study_composition import coverage_by_truth
from hgpscale.report.study_read import NAMES, PARTS, Chosen, Group, Metrics, Study, Value
from hgpscale.report.study_words import (
    MINUS,
    TO,
    UNDEFINED,
    baseline_name,
    better_words,
    first_metric,
    is_fraction,
    p_value,
    title_of,
    verdict,
    with_interval,
    with_sign,
)
from hgpscale.report.tables import count_of

Head = tuple[str, Literal["text", "number"]]
"""Title of a column and what it is sorted as."""


def _number_heads(titles: Iterable[str]) -> list[Head]:
    return [(title, "number") for title in titles]


@dataclass(frozen=True)
class Cell:
    """What stands in a cell, what it is sorted by (None: last), and lines in small print.

    Attributes
    ----------
    bar
        0..1: a bar is drawn behind the text.

    """

    text: str
    key: float | str | None = None
    notes: tuple[str, ...] = ()
    bar: float | None = None


@dataclass(frozen=True)
class Table:
    """A table whose columns sort on click.

    Attributes
    ----------
    name
        Its id in the page.
    caption
        What it shows.
    heads
        Title of each column, and whether it is text or numbers.
    rows
        Cells in the order of the heads; the first names the row.
    notes
        Lines below.

    """

    name: str
    caption: str
    heads: tuple[Head, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()


def _text(value: object) -> Cell:
    return Cell(str(value), str(value))


def _count(value: float) -> Cell:
    return Cell(f"{value:g}", float(value))


def _value(name: str, metrics: Metrics, value: Value | None, notes: tuple[str, ...] = ()) -> Cell:
    key = None if value is None else value.mean
    return Cell(with_interval(value, percent=is_fraction(name, metrics.kind)), key, notes)


def first_table(metrics: Metrics, name: str) -> Table:
    """Return one metric of the model and the baselines, with the differences and their p-values."""
    percent = is_fraction(name, metrics.kind)
    rows = [
        (
            _text(f"model ({metrics.model})"),
            _value(name, metrics, metrics.metrics.get(name)),
            Cell(""),
            Cell(""),
            Cell(""),
        )
    ]
    words = {"better": "model better", "worse": "model worse", "not shown": "not clear of zero", "unknown": UNDEFINED}
    for key, baseline in metrics.baselines.items():
        found = baseline.difference.get(name)
        rows.append(
            (
                _text(baseline_name(key)),
                _value(name, metrics, baseline.metrics.get(name)),
                Cell(with_interval(found, percent=percent, signed=True), found.mean if found else None),
                Cell(p_value(found.p if found else None), found.p if found else None),
                _text(words[verdict(name, found)]),
            )
        )
    title = title_of(name, metrics.kind)
    return Table(
        f"first-{name}",
        f"{title}: the model beside each baseline. The difference is model minus baseline; {better_words(name)}.",
        (
            ("predictor", "text"),
            (f"{title}, 95 % interval", "number"),
            ("difference, 95 % interval", "number"),
            ("p", "number"),
            ("the interval says", "text"),
        ),
        tuple(rows),
    )


def results_table(metrics: Metrics) -> Table:
    """Return all metrics of the model and the baselines, differences with p on a second line."""
    rows = []
    for name in (name for name in NAMES if name in metrics.metrics):
        percent = is_fraction(name, metrics.kind)
        cells = [
            Cell(title_of(name, metrics.kind), title_of(name, metrics.kind), (better_words(name),)),
            _value(name, metrics, metrics.metrics[name]),
        ]  # fmt: skip
        for baseline in metrics.baselines.values():
            found, note = baseline.difference.get(name), []
            if found is not None and found.mean is not None:
                note = [with_interval(found, percent=percent, signed=True), *filter(None, [with_sign(found.p)])]
            cells.append(_value(name, metrics, baseline.metrics.get(name), tuple(note)))
        rows.append(tuple(cells))
    heads = _number_heads([f"model ({metrics.model})", *map(baseline_name, metrics.baselines)])
    return Table(
        "results",
        "All metrics with 95 % intervals; in small print below a baseline's value the difference, model minus "
        "baseline.",
        (("metric", "text"), *heads),
        tuple(rows),
    )


def confusion_table(study: Study) -> Table | None:
    """Return predicted by true class over all test predictions, in percent of the true class."""
    metrics, table = study.metrics, study.predictions
    if metrics.kind == "class":
        truth, guess = table["target"].replace("", None), table["prediction"].replace("", None)
        names = list(metrics.classes) or sorted({*truth.dropna(), *guess.dropna()})
    elif metrics.has_probability:
        names = list(metrics.events)
        events = study.events
        truth = (events["y"] > 0.5).map({False: names[0], True: names[1]})
        guess = (events["p"] >= 0.5).map({False: names[0], True: names[1]})
        table = table.loc[table.index[: len(events)]].assign(lesion=events["lesion"].to_numpy())
    else:
        return None
    counts = pd.crosstab(truth, guess).reindex(index=names, columns=names, fill_value=0)
    table_of_counts = counts.to_numpy(float)
    if not table_of_counts.sum():
        return None
    rows = []
    for name in names:
        row = table_of_counts[names.index(name)]
        whole = row.sum()
        shares = [100 * float(count) / whole if whole else None for count in row]
        lesions = table.loc[(truth == name).to_numpy()]["lesion"].nunique()
        cells = [
            Cell(UNDEFINED) if share is None else Cell(f"{share:.0f} %", share, bar=share / 100) for share in shares
        ]
        rows.append((_text(name), *cells, _count(lesions)))
    how = "the most probable class" if metrics.kind == "class" else "a threshold of 0.5"
    return Table(
        "confusion",
        f"Predicted class ({how}) by true class, in percent of the test predictions of each true class.",
        (("true class", "text"), *_number_heads(f"predicted {name}" for name in names), ("lesions", "number")),
        tuple(rows),
    )


def _shown_metrics(metrics: Metrics, groups: Iterable[Group]) -> list[str]:
    present = {name for group in groups for name in group.metrics}
    wanted = [first_metric(metrics), *NAMES]
    return [name for name in dict.fromkeys(wanted) if name in present][:5]


def _group_rows(metrics: Metrics, groups: Mapping[str, Group], names: Iterable[str]) -> list[tuple[Cell, ...]]:
    return [
        (_text(key), _count(group.lesions), *(_value(name, metrics, group.metrics.get(name)) for name in names))
        for key, group in groups.items()
    ]


def strata_table(metrics: Metrics) -> Table | None:
    """Return the metrics of the lesions with each value of a covariate."""
    groups = {f"{covariate} = {value}": g for covariate, parts in metrics.strata.items() for value, g in parts.items()}
    if not groups:
        return None
    names = _shown_metrics(metrics, groups.values())
    return Table(
        "strata",
        "Metrics within each stratum, with 95 % intervals. Small strata have wide intervals; two strata differ "
        "only where "
        "their intervals lie well apart.",
        (("stratum", "text"), ("lesions", "number"), *_number_heads(title_of(name, metrics.kind) for name in names)),
        tuple(_group_rows(metrics, groups, names)),
    )


def raters_table(metrics: Metrics) -> Table | None:
    """Return the metrics of the outlines of each rater alone."""
    if not metrics.raters:
        return None
    names = _shown_metrics(metrics, metrics.raters.values())
    return Table(
        "raters",
        "Metrics where only the outlines of one rater are predicted, with 95 % intervals.",
        (("rater", "text"), ("lesions", "number"), *_number_heads(title_of(name, metrics.kind) for name in names)),
        tuple(_group_rows(metrics, metrics.raters, names)),
    )


class Named(NamedTuple):
    """What a feature's name tells: region, image type, family and the feature itself; a covariate has only the last."""

    region: str
    image: str
    family: str
    feature: str


def read_name(name: str) -> Named:
    """Take a name such as ``RAD__rim__original_glcm_Contrast`` apart."""
    *prefixes, flat = name.split("__")
    words = flat.split("_")
    for i, word in enumerate(words[1:-1], start=1):
        if word in FAMILIES:
            return Named(prefixes[-1] if prefixes else LESION, "_".join(words[:i]), word, "_".join(words[i + 1 :]))
    if (feature := deep_feature(flat)) is not None:
        return Named(LESION, "", DEEP, feature)
    return Named("", "", "covariate", name)


SHOWN_FEATURES = 25


def features_table(metrics: Metrics) -> Table | None:
    """Return the features that were selected most often."""
    if not metrics.features:
        return None
    rows = []
    for chosen in metrics.features[:SHOWN_FEATURES]:
        named = read_name(chosen.name)
        rows.append(
            (
                _text(named.feature),
                _text(named.region),
                _text(named.image),
                _text(named.family),
                Cell(f"{100 * chosen.frequency:.0f} %", chosen.frequency, bar=chosen.frequency),
            )
        )
    more = len(metrics.features) - SHOWN_FEATURES
    return Table(
        "features",
        "Features by the share of splits in which they were selected"
        + (f"; the {SHOWN_FEATURES} most frequent of {len(metrics.features)}." if more > 0 else "."),
        (
            ("feature", "text"), ("region", "text"), ("image", "text"), ("family", "text"), ("selected in", "number"),
        ),
        tuple(rows),
    )  # fmt: skip


def feature_shares(features: Iterable[Chosen], by: Literal["region", "family"]) -> list[tuple[str, float]]:
    """Return the share of all selections that fall on each region or family, most first."""
    sums: dict[str, float] = {}
    for chosen in features:
        named = read_name(chosen.name)
        key = (named.region or "covariate") if by == "region" else named.family
        sums[key] = sums.get(key, 0) + chosen.frequency
    whole = sum(sums.values())
    if not whole:
        return []
    return sorted(((key, value / whole) for key, value in sums.items()), key=lambda item: -item[1])


def coverage_table(study: Study) -> Table | None:
    """Return coverage and width of the intervals by the true desmoplastic part."""
    rows = coverage_by_truth(study)
    if not rows:
        return None
    return Table(
        "coverage",
        "Conformal 90 % intervals by the true desmoplastic part. Coverage is promised for all lesions together, "
        "not for "
        "each group.",
        (("lesions with", "text"), ("lesions", "number"), ("coverage, %", "number"), ("mean width, points", "number")),
        tuple(
            (_text(name), _count(lesions), Cell(f"{100 * held:.0f}", held), Cell(f"{100 * width:.0f}", width))
            for name, lesions, held, width in rows
        ),
    )


def labels_table(metrics: Metrics) -> Table | None:
    """Return what `labels_by_centre` draws, as numbers."""
    labels = metrics.cohort.labels
    # The evaluation counts the lesions among the labels of numbers and compositions.
    keys = [key for key in dict.fromkeys(key for counts in labels.values() for key in counts) if key != "lesions"]
    if not keys:
        return None
    means = metrics.has_composition
    rows = []
    for centre, counts in labels.items():
        cells = []
        for key in keys:
            value = counts.get(key)
            if value is None:
                cells.append(Cell(""))
            else:
                cells.append(Cell(f"{100 * value:.0f} %" if means and key in PARTS else f"{value:.4g}", value))
        lesions = metrics.cohort.lesions_of(centre)
        rows.append((_text(centre), Cell("") if lesions is None else _count(lesions), *cells))
    what = (
        "mean share of each growth pattern"
        if means
        else "true values"
        if metrics.kind == "number"
        else "lesions of each label"
    )
    return Table(
        "labels-table",
        f"Lesions by centre, and {what}.",
        (("centre", "text"), ("lesions", "number"), *_number_heads(keys)),
        tuple(rows),
    )


@dataclass(frozen=True)
class Step:
    """A box of the flow: a number, what it counts, lines below, and whether it leads out of the study."""

    number: str
    words: str
    lines: tuple[str, ...] = ()
    out: bool = False


def flow(metrics: Metrics) -> list[Step]:
    """Return the way from all lesions to training and test."""
    people, splits = metrics.cohort, metrics.splits
    left = sum(entry.lesions for entry in people.excluded)
    steps = [Step(str(people.lesions + left), "lesions in the cube")]
    if left:
        reasons = tuple(f"{entry.lesions}: {entry.reason}" for entry in people.excluded)
        steps.append(Step(f"{MINUS}{left}", "left out", reasons, out=True))
    who = ", ".join(
        [
            count_of(people.patients, "patient"),
            *([count_of(len(people.centres), "centre")] if people.centres else []),
        ]
    )
    raters = f"outlined by {', '.join(people.segmentations)}" if len(people.segmentations) > 1 else "one outline each"
    steps.append(
        Step(str(people.lesions), "lesions analysed", (who, raters, f"{people.features} features"))
    )  # fmt: skip
    if splits.sizes:
        train, test = (sorted(size[i] for size in splits.sizes) for i in (0, 1))
        each = " of each split" if len(splits.sizes) > 1 else ""
        steps.append(Step(_range(train), f"lesions in training{each}"))
        steps.append(Step(_range(test), f"lesions in test{each}"))
    return steps


def _range(sizes: list[int]) -> str:
    return str(sizes[0]) if sizes[0] == sizes[-1] else f"{sizes[0]}{TO}{sizes[-1]}"
