"""Writes a cohort as a data set that other networks are trained on: what `hgpscale deep export` does."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hgpscale._version import __version__
from hgpscale.cohort import Cohort, open_image, read_image, read_manifest
from hgpscale.cohort.layouts import LeftOut
from hgpscale.deep.cases import Case
from hgpscale.deep.drawing import Drawing, draw
from hgpscale.deep.files import remove_partial, write_json, write_table, write_volume
from hgpscale.deep.layouts import MADE_BY, Described
from hgpscale.deep.plan import Classes, Plan, make_plan
from hgpscale.errors import DeepError, HgpscaleError, VoxelError
from hgpscale.volume import Volume

_DESCRIPTION, _RECORD, _CASES, _SPLITS = "dataset.json", "export.json", "cases.csv", "splits_final.json"


@dataclass(frozen=True)
class Exported:
    """A data set that was written.

    Attributes
    ----------
    folder
        Of the data set.
    cases
        Those that are in it.
    notes
        What a person should know.
    problems
        Scans that are not in it, and folds without a side.
    next
        The command of the tool that comes next.

    """

    folder: Path
    cases: tuple[Case, ...]
    notes: tuple[str, ...]
    problems: tuple[LeftOut, ...]
    next: str

    @property
    def counts(self) -> Counter[str]:
        """Number of scans by `split`."""
        return Counter(case.split for case in self.cases)


def export_dataset(
    cohort: Cohort | str | Path,
    folder: str | Path,
    layout: str,
    *,
    number: int = 101,
    name: str = "HGP",
    segmentation: str | None = None,
    classes: Classes = "tumour",
    splits: str | Path | None = None,
    force: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> Exported:
    """Write the scans and lesions of a cohort as a data set of another tool, one scan at a time.

    A folder that the same export began is gone on with: label maps are made anew, and scans that are there are kept
    unless their source is newer. `dataset.json` is written last.

    Parameters
    ----------
    cohort
        A manifest's path, or what `read_manifest` returned.
    folder
        Where the tool keeps its raw data; the data set becomes a folder in it, such as ``Dataset101_HGP``.
    layout
        Name of one of `hgpscale.deep.layouts.LAYOUTS`.
    number, name
        Of the data set: 1 to 999; letters, digits, ``_`` and ``-``.
    segmentation
        Whose outlines; None: the only ones.
    classes
        ``tumour``: one class; ``hgp``: the dominant growth pattern of each lesion, where the layout has classes. Scans
        with a lesion of which it is not known are left out and listed.
    splits
        Splits of patients, see `read_splits`, to write as folds.
    force
        Whether to replace a data set that another export made.
    on_progress
        Called with scans done and their total.

    Raises
    ------
    ManifestError, LearnError
        The manifest or the file of splits cannot be used.
    DeepError
        Options do not fit together or the cohort; the place is taken; a file cannot be written; or no scan could be
        used to train on. What is wrong with single scans is in `problems` instead.

    """
    known = read_manifest(cohort) if isinstance(cohort, (str, Path)) else cohort
    plan = make_plan(known, Path(folder), layout, number, name, segmentation, classes, splits)
    _take_place(plan, number, force=force)
    written: list[Case] = []
    notes, problems = list(plan.notes), list(plan.problems)
    for done, case in enumerate(plan.cases):
        if on_progress:
            on_progress(done, len(plan.cases))
        try:
            drawing, image = _read(plan, case)
        except (HgpscaleError, OSError) as error:
            _remove(plan, case)
            problems.append(_left_out(case, error))
            continue
        _write(plan, case, drawing, image)
        notes += [f"{case.patient}: {note}" for note in drawing.notes]
        written.append(case)
    if on_progress:
        on_progress(len(plan.cases), len(plan.cases))
    if not any(case.split == "train" for case in written):
        why = f"; {problems[0].file}: {problems[0].reason}" if problems else ""
        raise DeepError(f"{plan.folder}: no scan to train on could be written{why}")
    problems += _describe(plan, written)
    return Exported(plan.folder, tuple(written), tuple(notes), tuple(problems), plan.layout.next.format(number=number))


def _take_place(plan: Plan, number: int, *, force: bool) -> None:
    """Make the data set's folder, or find the one that the same export began; `dataset.json` goes until the end."""
    folder = plan.folder
    record = {
        "made_by": MADE_BY,
        "version": __version__,
        "layout": plan.layout.name,
        "segmentation": plan.segmentation,
        "cases": len(plan.cases),
        "digest": plan.digest(),
    }
    taken = plan.layout.title.format(number=number, name="*")
    others = sorted(path.name for path in folder.parent.glob(taken) if path.name != folder.name)
    if others:
        raise DeepError(f"{folder.parent}: {others[0]} has this number already; give another by --dataset")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        before = _record_of(folder)
        if before.get("made_by") != MADE_BY:
            raise DeepError(f"{folder}: is there already, and no export has made it; give another --dataset or --name")
        if before.get("digest") != record["digest"]:
            if not force:
                raise DeepError(
                    f"{folder}: holds what was exported of another manifest or with other options; give --force to "
                    "replace it, or another --dataset"
                )
            shutil.rmtree(folder)
        elif force:
            shutil.rmtree(folder)
    write_json(folder / _RECORD, record)
    (folder / _DESCRIPTION).unlink(missing_ok=True)
    remove_partial(folder)


def _record_of(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _read(plan: Plan, case: Case) -> tuple[Drawing, Volume | None]:
    """Return a case's lesions and its scan; no scan where one is written that is not older than its source.

    Raises
    ------
    HgpscaleError, OSError
        Something of it cannot be used.

    """
    drawing = draw(case, open_image(case.image).geometry, with_liver=plan.liver)
    there = plan.folder / plan.layout.image(case)
    if there.is_file() and there.stat().st_mtime >= _newest(case.image):
        return drawing, None
    image, _ = read_image(case.image)
    if image.array.dtype.kind == "f" and not np.isfinite(image.array).all():
        raise VoxelError(f"{case.image}: it holds NaN or infinite voxels, which no network can be trained on")
    return drawing, image


def _newest(image: Path) -> float:
    """Return when a scan, or a file of its folder, was last changed."""
    files = [image, *(image.iterdir() if image.is_dir() else ())]
    return max(float(path.stat().st_mtime) for path in files)


def _write(plan: Plan, case: Case, drawing: Drawing, image: Volume | None) -> None:
    """Write a case's files, the scan last: where it is there, the others are."""
    layout, folder = plan.layout, plan.folder
    geometry = open_image(case.image).geometry if image is None else image.geometry
    write_volume(folder / layout.label(case), Volume(layout.labels(drawing), geometry))
    if layout.instances:
        write_json(folder / layout.beside(case), layout.instances(case))
    if image is not None:
        write_volume(folder / layout.image(case), image)


def _remove(plan: Plan, case: Case) -> None:
    """Remove what an earlier run wrote of a case that cannot be used any more."""
    for name in (plan.layout.image(case), plan.layout.label(case), plan.layout.beside(case)):
        (plan.folder / name).unlink(missing_ok=True)


def _left_out(case: Case, error: HgpscaleError | OSError) -> LeftOut:
    # A missing file is both kinds, and says so itself.
    reason = str(error) if isinstance(error, HgpscaleError) else f"cannot be read: {error.strerror or error}"
    files = [str(case.image), *(str(path) for row in case.rows for path in (row.mask, row.liver))]
    file = next((file for file in files if reason.startswith(f"{file}: ")), files[0])
    return LeftOut(case.patient, file, reason)


def _describe(plan: Plan, written: Sequence[Case]) -> list[LeftOut]:
    """Write what is said of all cases, `dataset.json` last, and return what is wrong with folds."""
    classes = ("instance", "class") if plan.layout.classed else ()
    rows = [
        (case.name, case.patient, case.split, row.lesion, *((number, plan.classes[value or 0]) if classes else ()))
        for case in written
        for number, (row, value) in enumerate(zip(case.rows, case.classes, strict=True), start=1)
    ]
    write_table(plan.folder / _CASES, ("case", "patient", "split", "lesion", *classes), rows)
    problems = []
    path = plan.folder / _SPLITS
    path.unlink(missing_ok=True)
    if plan.folds:
        folds = [fold.of({case.name for case in written}) for fold in plan.folds]
        write_json(path, [{"train": fold.train, "val": fold.val} for fold in folds])
        problems = [
            LeftOut("", str(path), f"fold {fold.name}: no scan is left to {'train on' if fold.val else 'validate on'}")
            for fold in folds
            if not (fold.train and fold.val)
        ]
    counts = Counter(case.split for case in written)
    about = Described(plan.folder.name, plan.folder.name.partition("_")[2], plan.classes, plan.liver, counts)
    write_json(plan.folder / _DESCRIPTION, plan.layout.describe(about))
    return problems
