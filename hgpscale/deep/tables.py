"""Tables of what was found: a manifest that features are extracted by, and predictions a lesion and a patient."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hgpscale.catalog import column_problems
from hgpscale.cohort.build import relative_to
from hgpscale.cohort.manifest import PERCENTAGES
from hgpscale.deep.cases import some
from hgpscale.deep.files import write_table
from hgpscale.errors import DeepError
from hgpscale.learn.predictions import patient_table
from hgpscale.learn.targets import PARTS, Target

if TYPE_CHECKING:
    from hgpscale.cohort import Cohort, LesionRow
    from hgpscale.deep.answers import Growth, ScanAnswer

SEGMENTATION = "deep"
"""Who outlines found lesions, in a manifest."""
GROWN = (*PARTS, "p_pure_desmoplastic", "p_majority_desmoplastic", "low", "high", "spread")
"""Columns of a growth."""
_ROW = ("patient", "lesion", "image", "mask", "label", "segmentation", "liver", "liver_roi")
_COMPOSITION = Target("composition", "composition", PARTS)
_NAN = float("nan")


def write_lesions(
    path: Path, answers: Sequence[ScanAnswer], masks: Mapping[str, Path], cohort: Cohort | None = None
) -> None:
    """Write a manifest of the lesions that were found, as ``hgpscale extract`` takes it: ``lesions.csv``.

    Parameters
    ----------
    path
        File to write; paths in it are relative to its folder.
    answers
        The scans; those without lesions have no row.
    masks
        Label map of each case.
    cohort
        What the scans were taken from. Its columns are carried over where no patient has two values of them (centre,
        split, age), but for the growth patterns, which are those of drawn lesions, and columns that are called as one
        of this table; so is the liver, where all lesions of the scan have the same.

    Raises
    ------
    DeepError
        Two lesions have one id, a case has no mask, or the file cannot be written.

    """
    ids = [lesion.lesion for answer in answers for lesion in answer.lesions]
    twice = sorted({name for name in ids if ids.count(name) > 1}) if len(set(ids)) < len(ids) else []
    if twice:
        raise DeepError(f"{path}: lesions {some(twice)} are there twice; give each lesion an id of its own")
    without = [answer.case for answer in answers if answer.lesions and answer.case not in masks]
    if without:
        raise DeepError(f"{path}: cases {some(without)} have lesions and no mask; write their label maps first")
    folder = path.absolute().parent
    own = [*_ROW, "score", "volume", *GROWN]
    known, livers = _of_patients(cohort, own), _livers(cohort)
    rows = [
        {
            "patient": answer.patient,
            "lesion": lesion.lesion,
            "image": relative_to(answer.image, folder),
            "mask": relative_to(masks[answer.case], folder),
            "label": lesion.number,
            "segmentation": SEGMENTATION,
            **_liver(livers.get(answer.image.absolute()), folder),
            "score": lesion.score,
            "volume": lesion.volume,
            **_grown(lesion.growth),
            **{name: cells.get(answer.patient, "") for name, cells in known.items()},
        }
        for answer in answers
        for lesion in answer.lesions
    ]
    kept = [name for name in own if not name.startswith("liver") or any(row[name] for row in rows)]
    names = [*kept, *known]
    write_table(path, names, [[_cell(row[name]) for name in names] for row in rows])


def write_predictions(path: Path, answers: Sequence[ScanAnswer], cohort: Cohort | None = None) -> None:
    """Write `predictions` as CSV: ``predictions.csv``. Errors as of `write_lesions`."""
    table = predictions(answers, cohort)
    write_table(path, list(table.columns), [list(map(_cell, row)) for row in table.itertuples(index=False)])


def predictions(answers: Sequence[ScanAnswer], cohort: Cohort | None = None) -> pd.DataFrame:
    """Return a row a lesion, then a row a patient, with the columns of ``hgpscale predict`` (docs/learning.md).

    `unusual` and `typicality` are not told, and `score` and `spread` come besides: of a patient the highest score of
    its lesions, and the spread of the network's own answer. Where the network tells the growth of a patient, that is
    its row, and `any_non_desmoplastic` is ``1 - P(all growth is desmoplastic)``; else it follows from the lesions as of
    `hgpscale.learn.predictions.patient_table`. `interface_area` is the area of the lesion's surface as of the feature
    SurfaceArea. A patient in whose scans nothing was found has a row too, of empty cells.

    Parameters
    ----------
    answers
        The scans.
    cohort
        What they were taken from; if it has a centre, so have rows.

    """
    centres = _of_patients(cohort, _ROW).get("centre")
    lesions: list[dict[str, Any]] = [
        {
            "level": "lesion",
            "patient": answer.patient,
            "lesion": lesion.lesion,
            "centre": "" if centres is None else centres.get(answer.patient, ""),
            **_grown(lesion.growth),
            "interface_area": area,
            "n_segmentations": 1,
            "score": lesion.score,
        }
        for answer in answers
        for lesion, area in zip(answer.lesions, _areas(answer), strict=True)
    ]
    by_patient: dict[str, list[dict[str, Any]]] = {answer.patient: [] for answer in answers}
    for row in lesions:
        by_patient[row["patient"]].append(row)
    growths = {answer.patient: answer.growth for answer in answers if answer.growth is not None}
    rows = [
        {
            "level": "patient",
            "patient": patient,
            "centre": "" if centres is None else centres.get(patient, ""),
            **_of_patient(of_patient, growths.get(patient)),
        }
        for patient, of_patient in by_patient.items()
    ]
    common = ("interface_area", "n_segmentations", "score", "any_non_desmoplastic", "mean_desmoplastic")
    columns = ["level", "patient", "lesion", *(["centre"] if centres is not None else []), *GROWN, *common]
    return pd.DataFrame([*lesions, *rows], columns=columns)


def _of_patient(lesions: Sequence[Mapping[str, Any]], growth: Growth | None) -> dict[str, Any]:
    """Return the cells of a patient, without its name."""
    told: dict[str, Any] = {"score": max((row["score"] for row in lesions), default=_NAN)}
    grown = pd.DataFrame([row for row in lesions if math.isfinite(row["desmoplastic"])])
    if lesions:
        areas = [row["interface_area"] for row in lesions]
        told |= {"interface_area": float(np.sum(areas)), "n_segmentations": 1}
    if len(grown):
        # What networks do not tell is put in for the table's sake, and not taken out of it.
        (row,) = patient_table(_COMPOSITION, grown.assign(unusual=0, typicality=1.0)).to_dict("records")
        told |= {name: row[name] for name in (*PARTS, "any_non_desmoplastic", "mean_desmoplastic")}
    if growth is not None:
        told |= {**_grown(growth), "any_non_desmoplastic": 1 - growth.pure_desmoplastic}
    return told


def _grown(growth: Growth | None) -> dict[str, float]:
    if growth is None:
        return dict.fromkeys(GROWN, _NAN)
    values = (
        *growth.composition.tolist(), growth.pure_desmoplastic, growth.majority_desmoplastic, growth.low, growth.high,
        growth.spread,
    )  # fmt: skip
    return dict(zip(GROWN, values, strict=True))


def _areas(answer: ScanAnswer) -> list[float]:
    """Return the area of each lesion's surface in mm²."""
    from scipy import ndimage

    # Here, not above: it loads the compiler of the kernels.
    from hgpscale.features.shape import Mesh

    labels, spacing = answer.labels.array, np.array(answer.labels.geometry.spacing)
    boxes = ndimage.find_objects(labels, max_label=max((one.number for one in answer.lesions), default=0) or 1)
    areas = []
    for lesion in answer.lesions:
        box = boxes[lesion.number - 1]
        if box is None:
            raise DeepError(
                f"{answer.image}: no voxel of its label map is {lesion.number}, which is lesion {lesion.lesion}; give "
                "the map that lesions were numbered in"
            )
        areas.append(Mesh(np.pad(labels[box] == lesion.number, 1), spacing).area)
    return areas


def _of_patients(cohort: Cohort | None, taken: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return columns of a cohort of which no patient has two values, and which can stand beside those taken."""
    if cohort is None:
        return {}
    folded = {name.casefold() for name in taken}
    table = cohort.columns.drop(columns=[name for name in PERCENTAGES if name in cohort.columns])
    names = [name for name in table.columns if name.casefold() not in folded and not column_problems([name])]
    groups = table.groupby("patient", sort=False)
    same = [name for name in names if (groups[name].nunique(dropna=False) <= 1).all()]
    return {name: dict(groups[name].first()) for name in same}


def _livers(cohort: Cohort | None) -> dict[Path, LesionRow]:
    """Return for each scan a row that has its liver, where all rows of the scan have the same."""
    rows: dict[Path, list[LesionRow]] = {}
    for row in () if cohort is None else cohort.rows:
        rows.setdefault(row.image.absolute(), []).append(row)
    return {
        image: of_scan[0]
        for image, of_scan in rows.items()
        if of_scan[0].liver is not None and len({(row.liver, row.liver_roi) for row in of_scan}) == 1
    }


def _liver(row: LesionRow | None, folder: Path) -> dict[str, str]:
    if row is None or row.liver is None:
        return {"liver": "", "liver_roi": ""}
    return {"liver": relative_to(row.liver, folder), "liver_roi": row.liver_roi}


def _cell(value: object) -> object:
    """Return a cell as tables of predictions write it: six digits of a number, nothing where there is none."""
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else ""
    return value
