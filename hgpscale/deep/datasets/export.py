"""Writes a cohort as a data set that other networks are trained on: what `hgpscale deep export` does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hgpscale.cohort import Cohort, open_image, read_image, read_manifest
from hgpscale.cohort.layouts import LeftOut
from hgpscale.cube.lock import Lock
from hgpscale.deep.cases import Case, left_out
from hgpscale.deep.datasets.layouts import Described
from hgpscale.deep.datasets.place import alone, require_alone, require_apart, strays, take_place
from hgpscale.deep.datasets.plan import Classes, Plan, make_plan
from hgpscale.deep.datasets.record import CASES, DESCRIPTION, SPLITS, Entry, Record, digest_of, state_of
from hgpscale.deep.drawing import Drawing, draw
from hgpscale.deep.files import write_json, write_table, write_volume
from hgpscale.errors import DeepError, HgpscaleError, VoxelError
from hgpscale.volume import Geometry, Volume


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
        Scans that are not in it or could not be read again, and folds without a side.
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

    A folder that the same export began is gone on with: label maps are made anew but for those that somebody changed,
    scans are read again where their files are not those that they were made of, and what cannot be read now is kept as
    it was written. `dataset.json` is written last.

    Parameters
    ----------
    cohort
        A manifest's path, or what `read_manifest` returned.
    folder
        Where the tool keeps its raw data; the data set becomes a folder in it, such as ``Dataset101_HGP``.
    layout
        Name of one of `hgpscale.deep.datasets.layouts.LAYOUTS`.
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
        Whether to make everything anew, also where another export made the data set or files were changed since. Only
        files that exports wrote are removed.
    on_progress
        Called with scans done and their total.

    Raises
    ------
    ManifestError, LearnError
        The manifest or the file of splits cannot be used.
    DeepError
        Options do not fit together or the cohort; the place is taken, another export is writing to it, or the cohort
        is read from it; a file cannot be written; or no scan could be used to train on. What is wrong with single scans
        is in `problems` instead.

    """
    known = read_manifest(cohort) if isinstance(cohort, (str, Path)) else cohort
    plan = make_plan(known, Path(folder), layout, number, name, segmentation, classes, splits)
    require_apart(known, plan, splits)
    with alone(plan.folder) as lock:
        return _export(plan, number, lock, force=force, on_progress=on_progress)


def _export(
    plan: Plan, number: int, lock: Lock, *, force: bool, on_progress: Callable[[int, int], None] | None
) -> Exported:
    """Write what is planned, as `export_dataset` has it."""
    record, kept = take_place(plan, number, force=force)
    written: list[Case] = []
    notes, problems = [*plan.notes, *kept], list(plan.problems)
    for done, case in enumerate(plan.cases):
        if on_progress:
            on_progress(done, len(plan.cases))
        try:
            content = _read(plan, record, case)
        except (HgpscaleError, OSError) as error:
            require_alone(lock)
            problem = left_out(case, error)
            if record.is_whole(case.name):
                # What cannot be read now, as a share that is away, is no reason to lose what was made of it.
                problem = replace(problem, reason=f"{problem.reason}; what is written of it already is kept")
                written.append(case)
            else:
                record.remove_case(case.name)
            problems.append(problem)
            continue
        require_alone(lock)
        notes += [f"{case.patient}: {note}" for note in _write(plan, record, case, content)]
        written.append(case)
    if on_progress:
        on_progress(len(plan.cases), len(plan.cases))
    if not any(case.split == "train" for case in written):
        why = f"; {problems[0].file}: {problems[0].reason}" if problems else ""
        raise DeepError(f"{plan.folder}: no scan to train on could be written{why}")
    require_alone(lock)
    problems += _describe(plan, record, written)
    notes += strays(plan, record)
    return Exported(plan.folder, tuple(written), tuple(notes), tuple(problems), plan.layout.next.format(number=number))


class _Content(NamedTuple):
    """What a case is written from; no image where the one that is written is of the same source."""

    drawing: Drawing
    geometry: Geometry
    source: str
    image: Volume | None


def _read(plan: Plan, record: Record, case: Case) -> _Content:
    """Return a case's lesions and, where need be, its scan.

    Raises
    ------
    HgpscaleError, OSError
        Something of it cannot be used, or files are in its place that no export wrote.

    """
    entry = record.cases.get(case.name, Entry())
    for file in plan.layout.files(case):
        if record.is_foreign(entry, file):
            raise DeepError(f"{plan.folder / file}: is there already, and no export wrote it; move it away")
    opened = open_image(case.image)
    source = state_of(opened)  # before voxels are read: what is changed meanwhile is seen the next time
    drawing = draw(case, opened.geometry, with_liver=plan.liver)
    if source == entry.source and (plan.folder / plan.layout.image(case)).is_file():
        return _Content(drawing, opened.geometry, source, None)
    image, _ = read_image(case.image)
    if image.array.dtype.kind == "f" and not np.isfinite(image.array).all():
        raise VoxelError(f"{case.image}: it holds NaN or infinite voxels, which no network can be trained on")
    return _Content(drawing, image.geometry, source, image)


def _write(plan: Plan, record: Record, case: Case, content: _Content) -> list[str]:
    """Write a case's files but for those that somebody changed, and return what a person should know."""
    layout, folder = plan.layout, plan.folder
    before, files = record.cases.get(case.name, Entry()), layout.files(case)
    kept = {file: before.files[file] for file in files if record.is_changed(before, file)}
    # A file without a digest is the export's own: a killed run must not take its half-made case for somebody's work.
    begun: dict[str, str | None] = {**dict.fromkeys(files), **kept}
    record.put(case.name, Entry(begun, before.source if content.image is None else ""))
    if layout.label(case) not in kept:
        write_volume(folder / layout.label(case), Volume(layout.labels(content.drawing), content.geometry))
    if layout.instances and layout.beside(case) not in kept:
        write_json(folder / layout.beside(case), layout.instances(case))
    if content.image is not None:
        write_volume(folder / layout.image(case), content.image)
    drawn = {file: digest_of(folder / file) for file in files if file not in kept and file != layout.image(case)}
    record.put(case.name, Entry({**begun, **drawn}, content.source))
    told = [f"{file} was changed since it was exported, and is kept; --force makes all anew" for file in kept]
    return [*content.drawing.notes, *told]


def _describe(plan: Plan, record: Record, written: Sequence[Case]) -> list[LeftOut]:
    """Write what is said of all cases, `dataset.json` last, and return what is wrong with folds."""
    classes = ("instance", "class") if plan.layout.classed else ()
    rows = [
        (case.name, case.patient, case.split, row.lesion, *((number, plan.classes[value or 0]) if classes else ()))
        for case in written
        for number, (row, value) in enumerate(zip(case.rows, case.classes, strict=True), start=1)
    ]
    write_table(plan.folder / CASES, ("case", "patient", "split", "lesion", *classes), rows)
    problems = _write_folds(plan, record, {case.name for case in written})
    counts = Counter(case.split for case in written)
    about = Described(plan.folder.name, plan.folder.name.partition("_")[2], plan.classes, plan.liver, counts)
    write_json(plan.folder / DESCRIPTION, plan.layout.describe(about))
    return problems


def _write_folds(plan: Plan, record: Record, written: Collection[str]) -> list[LeftOut]:
    """Write the folds of the cases that are there, or remove those of an earlier run, and return what is wrong."""
    path, before = plan.folder / SPLITS, record.splits
    if not plan.folds:
        if before.files and not record.is_changed(before, SPLITS):
            record.remove(SPLITS)
            record.splits = Entry()
            record.save()
        return []
    folds = [fold.of(written) for fold in plan.folds]
    record.splits = Entry({SPLITS: None})
    record.save()
    write_json(path, [{"train": fold.train, "val": fold.val} for fold in folds])
    record.splits = Entry({SPLITS: digest_of(path)})
    record.save()
    return [
        LeftOut("", str(path), f"fold {fold.name}: no scan is left to {'train on' if fold.val else 'validate on'}")
        for fold in folds
        if not (fold.train and fold.val)
    ]
