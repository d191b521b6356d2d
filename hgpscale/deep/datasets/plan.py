"""What an export will write, found out before a voxel is read."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hgpscale.cohort import Cohort
from hgpscale.cohort.layouts import LeftOut
from hgpscale.cohort.manifest import SPLITS
from hgpscale.deep.cases import Case, cases_of, choose_segmentation, some
from hgpscale.deep.datasets.folds import Fold, read_folds
from hgpscale.deep.datasets.layouts import LAYOUTS, DataSetLayout
from hgpscale.errors import DeepError
from hgpscale.learn.targets import PARTS

Classes = Literal["tumour", "hgp"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_MOST = 999


@dataclass(frozen=True)
class Plan:
    """All that is known of a data set before a voxel is read.

    Attributes
    ----------
    layout, folder
        How it is laid out, and where it will be.
    segmentation
        Whose outlines.
    classes
        Names of lesions' classes, by number.
    liver
        Whether label maps hold the liver.
    cases
        What is to be written.
    folds
        What splits make of them.
    notes, problems
        What a person should know, and scans that are left out.

    """

    layout: DataSetLayout
    folder: Path
    segmentation: str
    classes: tuple[str, ...]
    liver: bool
    cases: tuple[Case, ...]
    folds: tuple[Fold, ...]
    notes: tuple[str, ...]
    problems: tuple[LeftOut, ...]

    def folders(self) -> list[Path]:
        """Return where cases are."""
        return [self.folder / name for name in self.layout.folders()]

    def digest(self) -> str:
        """Return one digest of what decides on the files, but for what is in scans and masks."""
        rows = [
            (
                case.name,
                case.split,
                case.classes,
                [(r.lesion, *map(str, (r.image, r.mask, r.liver))) for r in case.rows],
            )
            for case in self.cases
        ]
        which = [[(row.label, row.roi, row.liver_roi) for row in case.rows] for case in self.cases]
        text = json.dumps([self.layout.name, self.segmentation, self.classes, self.liver, rows, which])
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def make_plan(
    cohort: Cohort,
    folder: Path,
    layout: str,
    number: int,
    name: str,
    segmentation: str | None,
    classes: Classes,
    splits: str | Path | None,
) -> Plan:
    """Return what an export will write. Parameters and errors as of `export_dataset`, which come before any work."""
    if layout not in LAYOUTS:
        raise DeepError(f"layout is {layout!r}, expected one of {', '.join(LAYOUTS)}")
    if not 1 <= number <= _MOST or not _NAME.fullmatch(name):
        raise DeepError(
            f"data set {number} {name!r}: expected a number from 1 to {_MOST}, and a name of letters, digits, _ and -"
        )
    shape, by_pattern = LAYOUTS[layout], classes == "hgp"
    if by_pattern and not shape.classed:
        raise DeepError(f"classes hgp: layout {layout} has no class a lesion; give --layout nndetection")
    rater = choose_segmentation(cohort, segmentation)
    every = cases_of(cohort, rater, by_pattern=by_pattern)
    cases = [case for case in every if None not in case.classes]
    problems = [LeftOut(case.patient, str(case.image), _untyped(case)) for case in every if None in case.classes]
    if not any(case.split == "train" for case in cases):
        raise DeepError(f"{cohort.source}: no scan to train on: {_why_none(every, problems)}")
    patients = dict.fromkeys(patient for (patient,) in cohort.cells("patient"))
    folds = read_folds(Path(splits), every, patients) if splits is not None else []
    without = [case.patient for case in cases if any(row.liver is None for row in case.rows)]
    notes = [*_notes_on(cohort, rater, cases, folds)]
    if not shape.classed and without and len(without) < len(cases):
        notes.append(f"label maps are without liver, as the manifest has none of {some(without)}")
    return Plan(
        shape,
        folder / shape.title.format(number=number, name=name),
        rater,
        PARTS if by_pattern else ("tumour",),
        not (shape.classed or without),
        tuple(cases),
        tuple(folds),
        tuple(notes),
        tuple(problems),
    )


def _untyped(case: Case) -> str:
    unknown = [row.lesion for row, value in zip(case.rows, case.classes, strict=True) if value is None]
    which = f"lesion{'s' if len(unknown) > 1 else ''} {some(unknown)}"
    return f"{which}: no growth pattern, or none that is larger than the others; the scan cannot be without its lesion"


def _why_none(cases: Sequence[Case], problems: Sequence[LeftOut]) -> str:
    if problems:
        return f"{problems[0].patient}: {problems[0].reason}"
    return "all are of split external" if cases else "it has no lesion of this segmentation"


def _notes_on(cohort: Cohort, segmentation: str, cases: Sequence[Case], folds: Sequence[Fold]) -> list[str]:
    notes = []
    drawn = {row.lesion for row in cohort.rows if row.segmentation == segmentation}
    missing = [lesion for lesion in cohort.lesions if lesion not in drawn]
    if missing:
        notes.append(f"lesions that {segmentation} does not outline are background: {some(missing)}")
    marks = dict(cohort.columns["split"]) if "split" in cohort.columns else {}
    unmarked = [case.patient for case in cases if marks and marks[case.rows[0].lesion] not in SPLITS]
    if len(unmarked) < len(cases) and unmarked:
        notes.append(f"split is empty of {some(list(dict.fromkeys(unmarked)))}: they are trained on")
    scans = Counter(case.patient for case in cases if case.split == "train")
    several = [patient for patient, count in scans.items() if count > 1]
    if several and not folds:
        notes.append(
            f"patients with several scans ({some(several)}): the tool's own folds are by scan; give --splits, so that "
            "no patient is on both sides"
        )
    named = {name for fold in folds for name in (*fold.train, *fold.val)}
    unnamed = [case.patient for case in cases if case.split == "train" and case.name not in named]
    if folds and unnamed:
        notes.append(f"in no fold: {some(list(dict.fromkeys(unnamed)))}")
    return notes
