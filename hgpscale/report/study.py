"""The report of an evaluation: one HTML file that needs nothing else, from metrics.json and predictions.csv."""

from __future__ import annotations

from pathlib import Path

from hgpscale.errors import ReportError
from hgpscale.report.rendering import template
from hgpscale.report.study_answers import words_of
from hgpscale.report.study_composition import interval_figure, ternary_figure
from hgpscale.report.study_figures import (
    by_split,
    calibration_figure,
    decision_figure,
    labels_by_centre,
    number_figure,
    roc_figure,
    shares_figure,
)
from hgpscale.report.study_items import checklists
from hgpscale.report.study_limits import limits, undefined_notes
from hgpscale.report.study_pictures import Picture, typical
from hgpscale.report.study_read import Study, read_study
from hgpscale.report.study_tables import (
    confusion_table,
    coverage_table,
    feature_shares,
    features_table,
    first_table,
    flow,
    labels_table,
    raters_table,
    results_table,
    strata_table,
)
from hgpscale.report.study_words import (
    KIND_WORDS,
    MEASURES,
    between,
    first_metrics,
    interval_words,
    number,
    scheme_words,
    summary,
    target_words,
    with_article,
    with_sign,
)
from hgpscale.report.tables import count_of

REPORT = "report.html"
MARK = '<meta name="generator" content="hgpscale report">'
"""By which a page of ours is known, which may be written anew."""


def write_report(
    folder: str | Path, output: Path | None = None, *, cube: Path | None = None, inputs: Path | None = None
) -> Path:
    """Write the report of an evaluation.

    Parameters
    ----------
    folder
        Holds ``metrics.json`` and ``predictions.csv``, as ``hgpscale evaluate --out`` leaves them.
    output
        File to write; default: ``report.html`` in `folder`. An older report is replaced, any other file is refused.
    cube
        Where the cube is now, for pictures of lesions; default: where it was when it was evaluated.
    inputs
        Folder that the paths of scans and masks start from; default: the cube's.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ReportError
        A file of the evaluation is not there or damaged.
    FileExistsError
        `output` is something else.
    OSError
        It cannot be written.

    """
    study = read_study(folder)
    output = Path(folder) / REPORT if output is None else Path(output)
    if output.is_dir():
        raise ReportError(f"{output}: expected a file to write the report to, found a folder; name a file in it")
    if output.exists() and MARK not in output.read_text("utf-8", errors="replace"):
        raise FileExistsError(f"{output}: is a file of something else; choose another for the report")
    output.write_text(page(study, cube, inputs), encoding="utf-8")
    return output


def page(study: Study, cube: Path | None = None, inputs: Path | None = None) -> str:
    """Return the report as HTML; whatever comes from files is escaped."""
    metrics = study.metrics
    names = first_metrics(metrics)
    most, least = typical(study, cube, inputs)
    regions, families = (feature_shares(metrics.features, by) for by in ("region", "family"))
    curves = (roc_figure(study), calibration_figure(study), decision_figure(study))
    html: str = template("study.html").render(
        mark=MARK,
        m=metrics,
        target=target_words(metrics),
        kind=KIND_WORDS[metrics.kind],
        scheme=scheme_words(metrics),
        facts=_facts(study),
        summary=[summary(metrics, name) for name in names],
        shuffled=bool(metrics.settings.get("shuffle_labels")),
        flow=flow(metrics),
        labels_figure=labels_by_centre(metrics),
        labels=labels_table(metrics),
        first=[first_table(metrics, name) for name in names],
        splits=[figure for name in names if (figure := by_split(metrics, name)) is not None],
        results=results_table(metrics),
        intervals=interval_words(metrics),
        undefined=undefined_notes(metrics),
        permutation=_permutation(study),
        delong=_delong(study),
        curves=[figure for figure in curves if figure is not None],
        confusion=confusion_table(study),
        ternary=ternary_figure(study) if metrics.has_composition else None,
        composition=interval_figure(study) if metrics.has_composition else None,
        coverage=coverage_table(study) if metrics.has_composition else None,
        numbers=number_figure(study) if metrics.kind == "number" else None,
        strata=strata_table(metrics),
        raters=raters_table(metrics),
        rater_spread=_rater_spread(study),
        features=features_table(metrics),
        shares=[
            figure
            for figure in (
                shares_figure(
                    "regions", regions, "Share of all selections by region of the lesion.", "share of selections, %"
                ),
                shares_figure(
                    "families", families, "Share of all selections by feature family.", "share of selections, %"
                ),
            )
            if figure is not None
        ],
        most=most,
        least=least,
        no_pictures=_shared_reason([*most, *least]),
        limits=limits(metrics),
        checklists=checklists(metrics),
        settings=[
            (key, "all" if key == "features" and not value else words_of(value))
            for key, value in metrics.settings.items()
        ],
    )
    return html


def _facts(study: Study) -> list[tuple[str, str]]:
    metrics = study.metrics
    people = metrics.cohort
    centres = f", {count_of(len(people.centres), 'centre')}" if people.centres else ""
    return [
        ("Target", metrics.target if metrics.has_composition else f"{metrics.target} ({KIND_WORDS[metrics.kind]})"),
        ("Model", metrics.model),
        ("Cohort", f"{count_of(people.patients, 'patient')}, {count_of(people.lesions, 'lesion')}{centres}"),
        ("Test", scheme_words(metrics)),
        ("Date", metrics.created[:10] or "not told"),
    ]


def _shared_reason(pictures: list[Picture]) -> str:
    """Return why no lesion has a picture, where it is the same for all."""
    reasons = {picture.reason for picture in pictures}
    return reasons.pop() if len(reasons) == 1 else ""


def _permutation(study: Study) -> str:
    found = study.metrics.permutation
    if found is None or found.p is None:
        return ""
    name = f"a value of {found.metric}" if found.metric not in MEASURES else with_article(MEASURES[found.metric].short)
    return (
        f"Permutation test: labels shuffled {found.permutations} times give {name} as good as this with "
        f"{with_sign(found.p)}."
    )


def _delong(study: Study) -> str:
    found = study.metrics.delong
    if found is None:
        return ""
    return (
        f"By DeLong's variance the AUC is {number(found.auc)} ({between(found.low, found.high)}); it takes lesions as "
        "independent, the bootstrap keeps a patient's lesions together."
    )


def _rater_spread(study: Study) -> str:
    found = study.metrics.rater_spread
    if found is None or found.mean is None:
        return ""
    scale, unit = (1.0, "") if study.metrics.kind == "number" else (100.0, " percentage points")
    form = "{:.3g}" if study.metrics.kind == "number" else "{:.0f}"
    most = "" if found.max is None else f", and by {form.format(scale * found.max)}{unit} at most"
    return (
        f"Predictions of the raters of one lesion differ by {form.format(scale * found.mean)}{unit} on average{most}."
    )
