"""Deals the patients of a prepared cohort out to folds, and keeps those that networks were trained by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hgpscale.deep.ensemble import FILE, NAME, SPLITS, UNSEEN
from hgpscale.deep.files import writing
from hgpscale.errors import DeepError, LearnError
from hgpscale.learn.splits import Split, grouped_folds, read_splits, write_splits

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hgpscale.deep.prepared import PreparedCohort, PreparedScan

Patients = dict[str, list["PreparedScan"]]

ALL = "all"
"""Name of the only network that is trained on all patients."""


class Fold(NamedTuple):
    """Positions of the patients that one network is trained on, and of those that it is not to see."""

    name: str
    train: NDArray[np.int64]
    test: NDArray[np.int64]


def patients_of(cohort: PreparedCohort) -> Patients:
    """Return the scans of each patient that may be trained on: none of them is of split ``external``.

    Raises
    ------
    DeepError
        There is none.

    """
    found = {name: scans for name, scans in cohort.patients.items() if all(s.split != "external" for s in scans)}
    if not found:
        raise DeepError(f"{cohort.path}: no patient to train on: all are of split external")
    return found


def deal(patients: Patients, others: Sequence[str], n_folds: int, splits: str | Path | None, seed: int) -> list[Fold]:
    """Return folds as positions of patients, balanced by whether they grow desmoplastically.

    Parameters
    ----------
    patients
        Those to train on.
    others
        Those of the cohort that are kept for testing: a file may have them on the test side of a split.
    n_folds
        How many; 1: one network of all.
    splits
        A file of splits instead, see `read_splits`.
    seed
        Of the dealing.

    Raises
    ------
    DeepError
        A split trains on a patient that is kept for testing, or has a name that no folder can have.
    LearnError
        As of `read_splits` and `grouped_folds`.

    """
    names = list(patients)
    if splits is None and n_folds == 1:
        return [Fold(ALL, np.arange(len(names)), np.zeros(0, np.int64))]
    if splits is None:
        found = grouped_folds(names, _strata(patients, n_folds), n_folds=n_folds, seed=seed)
        return [Fold(split.name, split.train, split.test) for split in found]
    folds = []
    for split in read_splits(splits, [*names, *others]):
        kept = [others[at - len(names)] for at in split.train if at >= len(names)]
        if kept:
            raise DeepError(
                f"{splits}: split {split.name} trains on patient {kept[0]}, whose split is external in the cohort; "
                "leave it out, or empty its cell in column 'split' and prepare the cohort again"
            )
        if not NAME.fullmatch(split.name):
            raise DeepError(f"{splits}: split {split.name!r}: expected a name of letters, digits, _, - and .")
        folds.append(Fold(split.name, split.train, split.test[split.test < len(names)]))
    return folds


def keep(folder: Path, folds: Sequence[Fold], names: Sequence[str], *, force: bool) -> None:
    """Write the folds, or make sure that they are those of the networks that are there.

    Raises
    ------
    DeepError
        They are others and not `force`, or the folder cannot be written to.

    """
    path = folder / SPLITS
    if not force and (path.exists() or (folder / FILE).exists()):
        if not _are_there(path, folds, names):
            raise DeepError(
                f"{folder}: the networks here have other folds; give --force to begin anew or another folder"
            )
        return
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for file in (FILE, SPLITS, UNSEEN):
            (folder / file).unlink(missing_ok=True)
    if kept := [Split(*fold) for fold in folds if fold.test.size]:
        write_splits(path, kept, names)


def _are_there(path: Path, folds: Sequence[Fold], names: Sequence[str]) -> bool:
    """Whether a file has these folds; those without a patient to test are in no file."""
    told = [fold for fold in folds if fold.test.size]
    if not path.exists():
        return not told
    try:
        before = read_splits(path, names)
    except LearnError:
        return False
    return len(before) == len(told) and all(
        a.name == b.name and set(a.train) == set(b.train) and set(a.test) == set(b.test)
        for a, b in zip(before, told, strict=True)
    )


def shuffled(patients: Patients, seed: int) -> Patients:
    """Return the patients with the growth of all their lesions dealt out anew."""
    growth = [lesion.growth for scans in patients.values() for scan in scans for lesion in scan.lesions]
    order = iter(np.random.default_rng([seed, 1]).permutation(len(growth)))
    return {
        name: [
            replace(scan, lesions=tuple(replace(lesion, growth=growth[next(order)]) for lesion in scan.lesions))
            for scan in scans
        ]
        for name, scans in patients.items()
    }


def _strata(patients: Mapping[str, Sequence[PreparedScan]], n_folds: int) -> NDArray[np.int64]:
    """Return 0 where growth is not known, else 1 to 3: no lesion is desmoplastic, some in part, all purely.

    A stratum of fewer patients than folds goes to the largest one: it would make the folds fewer.
    """
    found = np.zeros(len(patients), np.int64)
    for at, scans in enumerate(patients.values()):
        d = np.array([lesion.growth[0] for scan in scans for lesion in scan.lesions if lesion.growth is not None])
        if d.size:
            found[at] = 1 + int((d > 0).any()) + int((d == 1).all())
    counts = np.bincount(found)
    return np.where(counts[found] < n_folds, counts.argmax(), found)
