"""Takes the folder of a data set: what is in it is neither a source of the cohort nor anybody else's."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hgpscale.cohort import Cohort
from hgpscale.cube.lock import Lock, owner
from hgpscale.deep.cases import some
from hgpscale.deep.datasets.plan import Plan
from hgpscale.deep.datasets.record import DESCRIPTION, SPLITS, Record
from hgpscale.deep.files import is_partial, remove_partial, writing
from hgpscale.errors import CubeError, DeepError


def require_apart(cohort: Cohort, plan: Plan, splits: str | Path | None) -> None:
    """Make sure that no file of a cohort is in the data set's folder, where an export would replace or remove it.

    Raises
    ------
    DeepError
        One is; the message names it.

    """
    # Links in the folder lead to places that are written to as well.
    roots = {Path(os.path.realpath(place)) for place in (plan.folder, *plan.folders())}
    for path in _sources(cohort, splits):
        real = Path(os.path.realpath(path))
        if not roots.isdisjoint((real, *real.parents)):
            raise DeepError(
                f"{path}: the cohort reads it from the data set's own folder, {plan.folder}, which the export would "
                "replace; give another --dataset or FOLDER"
            )


def _sources(cohort: Cohort, splits: str | Path | None) -> Iterable[str | Path]:
    own = [cohort.source, *([splits] if splits is not None else [])]
    files = (file for row in cohort.cells("image", "mask", "liver") for file in row if file is not None)
    return dict.fromkeys([*own, *files])


@contextmanager
def alone(folder: Path) -> Iterator[Lock]:
    """Hold the right to write to a data set: the lock that cubes have, beside the folder.

    Raises
    ------
    DeepError
        Another export has it, on whatever machine, or the place cannot be written to.

    """
    with writing(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock = Lock.take(folder.absolute())
        except CubeError as error:
            who = owner(folder.absolute())
            raise DeepError(
                f"{folder}: another run is writing to it{f': {who}' if who else ''}; wait until it ends, or stop it"
            ) from error
    with lock:
        yield lock


def require_alone(lock: Lock) -> None:
    """Raise a DeepError where another export took the data set over while this one slept."""
    with writing(Path(lock.path)):
        try:
            lock.check()
        except CubeError as error:
            raise DeepError(str(error)) from error


def take_place(plan: Plan, number: int, *, force: bool) -> tuple[Record, list[str]]:
    """Find the data set that the same export began, or begin one; `dataset.json` goes until the end.

    Returns
    -------
    Record
        Of what is written, saved.
    list of str
        What a person should know of files that are not the export's.

    Raises
    ------
    DeepError
        The number is taken; the folder holds something else; there are folds that no export wrote; or the place
        cannot be written to.

    """
    folder = plan.folder
    taken = plan.layout.title.format(number=number, name="*")
    others = sorted(path.name for path in folder.parent.glob(taken) if path.name != folder.name and path.is_dir())
    if others:
        raise DeepError(f"{folder.parent}: {others[0]} has this number already; give another by --dataset")
    before = _found(folder)
    notes = _check_folds(plan, before, force=force)
    about = {"layout": plan.layout.name, "segmentation": plan.segmentation}
    record = Record(folder, plan.digest(), about)
    if before.digest not in ("", record.digest) and not force:
        raise DeepError(
            f"{folder}: holds what was exported of another manifest or with other options; give --force to "
            "replace it, or another --dataset"
        )
    if force:
        before.remove_all()
    else:
        record.cases, record.splits = before.cases, before.splits
    record.save()
    remove_partial(folder, *plan.folders())
    record.remove(DESCRIPTION)
    return record, notes


def _found(folder: Path) -> Record:
    """Return the record of what is in the folder, with an empty digest where nothing is."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return Record(folder, "", {})
    record = Record.load(folder)
    if record is None:
        raise DeepError(f"{folder}: is there already, and no export has made it; give another --dataset or --name")
    return record


def _check_folds(plan: Plan, before: Record, *, force: bool) -> list[str]:
    """Return a note on folds of somebody else, which are kept; they are an error where there are own ones."""
    foreign = before.is_foreign(before.splits, SPLITS)
    if not foreign and (force or not before.is_changed(before.splits, SPLITS)):
        return []
    said = "no export wrote it" if foreign else "it was changed since it was exported"
    if plan.folds:
        raise DeepError(f"{plan.folder / SPLITS}: {said}; move it away to have the folds of --splits")
    return [f"{SPLITS} is kept: {said}"]


def strays(plan: Plan, record: Record) -> list[str]:
    """Return a note on files among the cases that belong to none: tools take them for cases all the same."""
    known = {file for entry in record.cases.values() for file in entry.files}
    folders = [place for place in plan.folders() if place.is_dir()]
    found = sorted(
        path.relative_to(plan.folder).as_posix()
        for place in folders
        for path in place.iterdir()
        if not is_partial(path)
    )
    unknown = [file for file in found if file not in known]
    return [f"of no case, and by no export: {some(unknown)}; the tool may take them for cases"] if unknown else []
