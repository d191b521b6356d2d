"""The page of a prediction by networks: one HTML file that needs nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import pandas as pd

from hgpscale._version import __version__
from hgpscale.deep.files import write_whole
from hgpscale.deep.tables import predictions
from hgpscale.errors import ReportError
from hgpscale.learn.targets import PARTS
from hgpscale.report.deep_figures import froc_figure, value_of
from hgpscale.report.deep_pictures import AGAINST, FOR, LEVEL, WIDTH, Picture, picture
from hgpscale.report.figures import PATTERNS
from hgpscale.report.rendering import template
from hgpscale.report.study_tables import Cell, Table
from hgpscale.report.study_words import with_interval
from hgpscale.report.tables import count_of

if TYPE_CHECKING:
    from hgpscale.deep.answers import FoundLesion, Saliency, ScanAnswer

PAGE = "predictions.html"
MARK = '<meta name="generator" content="hgpscale deep predict">'
"""By which a page of ours is known, which may be written anew."""
_LIMITS = (
    "For research only. This is no medical device, and nothing here may decide on a patient.",
    "The networks know the scans that they were trained on: other phases, scanners, doses and diseases can make them "
    "wrong without any sign of it. Cysts, abscesses and other tumours may be taken for metastases.",
    "A score orders lesions by how sure it is that there is one. It is no probability that was checked against truth.",
)
_OF_GROWTH = (
    "An interval holds the desmoplastic fraction as often as it says for lesions like those that it was made with, on "
    "average; for a single kind of lesion it can be too narrow.",
    "The spread tells how much networks disagree; that they agree does not mean that they are right.",
)


@dataclass(frozen=True)
class PredictionRun:
    """What the page says of a run beside its answers.

    Attributes
    ----------
    title
        What was predicted, such as the manifest's name.
    networks
        How many answered together.
    settings
        Name and value of each.
    notes
        What a person should know of this run.
    problems
        Scans without an answer: which, and why.
    created
        When, as people read it; '' where it is not told.

    """

    title: str
    networks: int
    settings: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()
    problems: Sequence[tuple[str, str]] = ()
    created: str = ""


def write_page(
    output: str | Path,
    answers: Sequence[ScanAnswer],
    run: PredictionRun,
    *,
    pictures: Mapping[str, Saliency] | None = None,
    detection: Mapping[str, Any] | None = None,
) -> Path:
    """Write the page of a prediction.

    Parameters
    ----------
    output
        File to write. An older page is replaced, any other file is refused.
    answers, run
        What was found, and how.
    pictures
        By the id of the lesion; `Saliency.shown` of each is enough. Lesions without one are listed all the same.
    detection
        What `hgpscale.deep.detection.detection_summary` says, where lesions were drawn.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ReportError
        `output` is a folder.
    FileExistsError
        It is something else.
    DeepError
        It cannot be written.

    """
    output = Path(output)
    if output.is_dir():
        raise ReportError(f"{output}: expected a file to write the page to, found a folder; name a file in it")
    if output.exists() and MARK not in output.read_text("utf-8", errors="replace"):
        raise FileExistsError(f"{output}: is a file of something else; choose another for the page")
    html = page(answers, run, pictures=pictures, detection=detection)
    write_whole(output, lambda partial: partial.write_text(html, encoding="utf-8"))
    return output


def page(
    answers: Sequence[ScanAnswer],
    run: PredictionRun,
    *,
    pictures: Mapping[str, Saliency] | None = None,
    detection: Mapping[str, Any] | None = None,
) -> str:
    """Return the page as HTML; whatever comes from files is escaped. Parameters as of `write_page`."""
    table = predictions(answers)
    lesions = _lesions(answers, pictures or {})
    patients = _patients(table[table["level"] == "patient"], lesions)
    typed = any(growth is not None for growth in [row.growth for row in lesions] + [row.growth for row in patients])
    html: str = template("predictions.html").render(
        mark=MARK,
        more_style="predictions.css",
        facts=_facts(answers, run),
        run=run,
        summary=_summary(answers, detection),
        typed=typed,
        patterns=PATTERNS,
        froc=None if detection is None else froc_figure(detection),
        detection=None if detection is None else detection_table(detection),
        patients=patients,
        lesions=lesions,
        of_patients=_told(patients),
        of_lesions=_told(lesions),
        shares=any(row.picture is not None and row.picture.scale is not None for row in lesions),
        window=f"level {LEVEL}, width {WIDTH} HU",
        colours=(AGAINST, FOR),
        limits=(*_LIMITS, *(_OF_GROWTH if typed else ())),
        settings=[*run.settings, ("hgpscale", __version__)],
    )
    return html


@dataclass(frozen=True)
class _Shown:
    """A growth as the page has it: fractions by pattern, probabilities, interval and spread, None where not told."""

    parts: dict[str, float]
    pure: float | None
    majority: float | None
    interval: tuple[float, float] | None
    spread: float | None


@dataclass(frozen=True)
class _Lesion:
    """A row of the table of lesions, and what is below it."""

    number: int
    lesion: str
    patient: str
    score: float
    volume: float
    growth: _Shown | None
    picture: Picture | None


@dataclass(frozen=True)
class _Patient:
    """A row of the table of patients."""

    patient: str
    lesions: int
    volume: float
    growth: _Shown | None


def _lesions(answers: Sequence[ScanAnswer], pictures: Mapping[str, Saliency]) -> list[_Lesion]:
    found = [(answer, lesion) for answer in answers for lesion in answer.lesions]
    return [
        _Lesion(
            at,
            lesion.lesion,
            answer.patient,
            lesion.score,
            lesion.volume / 1000,
            _growth_of(lesion),
            picture(pictures[lesion.lesion], lesion.lesion, f"scan-{at}") if lesion.lesion in pictures else None,
        )
        for at, (answer, lesion) in enumerate(found, start=1)
    ]


def _growth_of(lesion: FoundLesion) -> _Shown | None:
    growth = lesion.growth
    if growth is None:
        return None
    return _shown(
        dict(zip(PARTS, growth.composition.tolist(), strict=True)), growth.pure_desmoplastic,
        growth.majority_desmoplastic, growth.low, growth.high, growth.spread,
    )  # fmt: skip


def _shown(
    parts: dict[str, float], pure: float, majority: float, low: float, high: float, spread: float
) -> _Shown | None:
    if not all(map(math.isfinite, parts.values())):
        return None
    interval = (low, high) if math.isfinite(low) and math.isfinite(high) else None
    return _Shown(parts, _known(pure), _known(majority), interval, _known(spread))


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _patients(table: pd.DataFrame, lesions: Sequence[_Lesion]) -> list[_Patient]:
    """Return the rows of `predictions`, so that the page and the table say the same."""
    own: dict[str, list[_Lesion]] = {}
    for lesion in lesions:
        own.setdefault(lesion.patient, []).append(lesion)
    return [
        _Patient(
            row["patient"],
            len(own.get(row["patient"], ())),
            math.fsum(lesion.volume for lesion in own.get(row["patient"], ())),
            _shown(
                {part: row[part] for part in PARTS}, 1 - row["any_non_desmoplastic"], row["p_majority_desmoplastic"],
                row["low"], row["high"], row["spread"],
            ),
        )
        for row in table.to_dict("records")
    ]  # fmt: skip


def _told(rows: Sequence[_Lesion] | Sequence[_Patient]) -> dict[str, bool]:
    """Return what any row of a table has."""
    return {
        name: any(row.growth is not None and getattr(row.growth, name) is not None for row in rows)
        for name in ("interval", "majority", "spread")
    }


def _facts(answers: Sequence[ScanAnswer], run: PredictionRun) -> list[tuple[str, str]]:
    return [
        ("Patients", str(len({answer.patient for answer in answers}))),
        ("Scans", str(len(answers))),
        ("Lesions found", str(sum(len(answer.lesions) for answer in answers))),
        ("Networks", str(run.networks)),
        *([("Made", run.created)] if run.created else []),
    ]


def _summary(answers: Sequence[ScanAnswer], detection: Mapping[str, Any] | None) -> list[str]:
    counts: dict[str, int] = {}
    for answer in answers:
        counts[answer.patient] = counts.get(answer.patient, 0) + len(answer.lesions)
    if not counts:
        return ["No scan has an answer."]
    lesions, least, most = sum(counts.values()), min(counts.values()), max(counts.values())
    found = count_of(lesions, "lesion") if lesions else "No lesion"
    each = f": {least} to {most} a patient, median {median(counts.values()):g}" if len(counts) > 1 and lesions else ""
    told = [f"{found} found in {count_of(len(answers), 'scan')} of {count_of(len(counts), 'patient')}{each}."]
    none = list(counts.values()).count(0)
    if none and lesions:
        told[0] += f" In {count_of(none, 'patient')} nothing was found."
    if detection is not None and detection["sensitivity"]["mean"] is not None:
        true, false = (with_interval(value_of(detection[key])) for key in ("sensitivity", "false_positives"))
        told.append(
            f"Of {count_of(detection['lesions'], 'drawn lesion')}, {detection['detected']} are found with a score of "
            f"{detection['threshold']:g} or more: a sensitivity of {true} at {false} false positives a scan."
        )
    return told


_MEASURES = (
    ("sensitivity", "Sensitivity", "drawn lesions that are found"),
    ("false_positives", "False positives a scan", "candidates that are no drawn lesion, or its second one"),
    ("dice_lesions", "Dice of lesions", "mean of those that are found"),
    ("dice_scans", "Dice of scans", "mean of scans with lesions, all their voxels together"),
)


def detection_table(detection: Mapping[str, Any]) -> Table:
    """Return the numbers of `hgpscale.deep.detection.detection_summary` with their intervals."""
    rows = [
        (f"Sensitivity at {rate} false positives a scan", detection["sensitivity_at"][rate], "")
        for rate in detection["sensitivity_at"]
    ]
    rows.append(("Average sensitivity", detection["average_sensitivity"], "at 1/8 to 8 false positives a scan"))
    at = f"score {detection['threshold']:g} or more"
    rows += [(f"{title}, {at}", detection[key], words) for key, title, words in _MEASURES]
    counts = ("patient", "scan", "lesion", "candidate")
    told = [count_of(detection[f"{name}s"], f"drawn {name}" if name == "lesion" else name) for name in counts]
    return Table(
        "detection",
        f"Found beside drawn lesions: {', '.join(told)}. Brackets hold 95 % intervals; patients were drawn anew.",
        (("measure", "text"), ("value", "number")),
        tuple(
            (Cell(title, title, (words,) if words else ()), Cell(with_interval(value_of(told)), told["mean"]))
            for title, told, words in rows
        ),
    )
