"""Which lesions a model is fitted on and which it is judged on: by patient, always.

A split is positions of rows. Whatever makes it here keeps all lesions of a patient, and all outlines of a lesion, on
one side; stratified splits share out patients, each counted in the stratum that most of its rows have.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hgpscale.errors import LearnError

Positions = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Split:
    """One division of rows: those to fit on and those to judge by.

    Attributes
    ----------
    name
        What the split is called in results, such as ``0``, ``external`` or a centre's name.
    train, test
        Positions of rows: int64, shape ``(row,)``, ascending. Rows on neither side are not used.

    Raises
    ------
    LearnError
        A side is empty or holds a row twice, or a row is on both sides.

    """

    name: str
    train: Positions
    test: Positions

    def __post_init__(self) -> None:
        for side in ("train", "test"):
            rows = np.sort(np.asarray(getattr(self, side), dtype=np.int64))
            if rows.ndim != 1 or not rows.size:
                raise LearnError(f"split {self.name}: no lesion is on the {side} side; expected some on both")
            if (rows[1:] == rows[:-1]).any():
                raise LearnError(f"split {self.name}: a lesion is on the {side} side twice")
            object.__setattr__(self, side, rows)
        if np.intersect1d(self.train, self.test).size:
            raise LearnError(f"split {self.name}: a lesion is on both sides; expected it on one")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Split):
            return NotImplemented
        same = np.array_equal(self.train, other.train) and np.array_equal(self.test, other.test)
        return self.name == other.name and same

    def __hash__(self) -> int:
        return hash((self.name, self.train.tobytes(), self.test.tobytes()))

    def check(self, patient: ArrayLike) -> Split:
        """Return the split itself if no patient is on both sides.

        Parameters
        ----------
        patient
            Ids of patients, shape ``(row,)``.

        Raises
        ------
        LearnError
            A patient is on both sides; the message names some.

        """
        ids = _ids(patient)
        if both := sorted(set(ids[self.train]) & set(ids[self.test])):
            raise LearnError(f"split {self.name}: {_named('patient', both)} on both sides; expected each on one")
        return self


def repeated_splits(
    patient: ArrayLike, strata: ArrayLike | None, *, count: int = 100, test_fraction: float = 0.2, seed: int = 0
) -> list[Split]:
    """Divide patients at random, again and again, a share of each stratum to the test side.

    Parameters
    ----------
    patient
        Ids of patients, shape ``(row,)``.
    strata
        Stratum of each row, ints of shape ``(row,)``; None: all are one. A patient has the stratum that most of its
        rows have, the smallest of equally many. Patients that are alone in a stratum make up one together.
    count
        How many splits; the first ones are the same for any count.
    test_fraction
        Share of patients on the test side. A stratum of two or more patients has at least one on each side, which
        can raise the share; who is alone in the last stratum is on the training side.
    seed
        Equal seeds give equal splits, whatever the order of rows.

    Returns
    -------
    list of Split
        Named ``0``, ``1`` and so on.

    Raises
    ------
    LearnError
        There are fewer than two patients, lengths differ, or `count` or `test_fraction` is out of range.

    """
    if count < 1:
        raise LearnError(f"count is {count}; expected 1 split or more")
    if not 0 < test_fraction < 1:
        raise LearnError(f"test_fraction is {test_fraction}; expected a number between 0 and 1")
    ids, of_row, groups = _strata_of_patients(patient, strata)
    sizes = np.array([len(group) for group in groups])
    tested = _shares(sizes, test_fraction)
    splits = []
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        test = np.zeros(len(ids), dtype=bool)
        for group, n in zip(groups, tested, strict=True):
            test[rng.permutation(group)[:n]] = True
        splits.append(Split(str(index), np.flatnonzero(~test[of_row]), np.flatnonzero(test[of_row])))
    return splits


def grouped_folds(patient: ArrayLike, strata: ArrayLike | None, *, n_folds: int = 5, seed: int = 0) -> list[Split]:
    """Deal patients out to folds for cross-validation, each stratum evenly.

    Parameters
    ----------
    patient, strata, seed
        As in `repeated_splits`.
    n_folds
        How many folds, two or more. They are fewer, but two at least, where a stratum has fewer patients.

    Returns
    -------
    list of Split
        Named ``0``, ``1`` and so on; each row is on the test side of exactly one, on the training side of the others.

    Raises
    ------
    LearnError
        There are fewer than two patients, lengths differ, or `n_folds` is below 2.

    """
    if n_folds < 2:
        raise LearnError(f"n_folds is {n_folds}; expected 2 or more")
    ids, of_row, groups = _strata_of_patients(patient, strata)
    smallest = min((len(group) for group in groups if len(group) > 1), default=2)
    n = max(2, min(n_folds, smallest))
    rng = np.random.default_rng([seed])
    dealt = np.concatenate([rng.permutation(group) for group in groups])
    fold = np.empty(len(ids), dtype=np.int64)
    fold[dealt] = np.arange(len(ids)) % n
    rows = fold[of_row]
    return [Split(str(k), np.flatnonzero(rows != k), np.flatnonzero(rows == k)) for k in range(n)]


def external_split(patient: ArrayLike, split_column: ArrayLike) -> Split:
    """Fit on the rows marked ``train``, judge by those marked ``external``.

    Parameters
    ----------
    patient
        Ids of patients, shape ``(row,)``.
    split_column
        The manifest's column ``split``, shape ``(row,)``: ``train``, ``external``, or empty for rows not used.

    Returns
    -------
    Split
        Named ``external``.

    Raises
    ------
    LearnError
        A mark is missing altogether or is another word, or a patient has both.

    """
    marks = _ids(split_column)
    _same_length(_ids(patient), marks, "split")
    if other := sorted(set(marks) - {"train", "external", ""}):
        raise LearnError(f"column 'split' holds {', '.join(map(repr, other[:3]))}; expected train or external")
    for mark in ("train", "external"):
        if mark not in marks:
            raise LearnError(f"column 'split' marks no lesion as {mark}; an external validation needs both marks")
    return Split("external", np.flatnonzero(marks == "train"), np.flatnonzero(marks == "external")).check(patient)


def centre_splits(patient: ArrayLike, centre: ArrayLike, min_test: int = 1) -> list[Split]:
    """Leave one centre out: judge by each centre what was fitted on all others.

    Parameters
    ----------
    patient
        Ids of patients, shape ``(row,)``.
    centre
        Centre of each row, shape ``(row,)``.
    min_test
        A centre of fewer rows is never judged by, but fitted on.

    Returns
    -------
    list of Split
        Named after the centres, in alphabetical order.

    Raises
    ------
    LearnError
        A row has no centre, there is one centre, a patient is in two, or none has `min_test` rows.

    """
    ids, centres = _ids(patient), _ids(centre)
    _same_length(ids, centres, "centre")
    if missing := int((centres == "").sum()):
        raise LearnError(f"{missing} of {len(centres)} rows have no centre; fill in column 'centre' or drop them")
    names, sizes = np.unique(centres, return_counts=True)
    if len(names) < 2:
        raise LearnError(
            f"all lesions are of centre {names[0]}; leaving one out takes two" if len(names) else "no rows"
        )
    pairs = np.unique(np.stack([ids, centres], axis=1).astype(str), axis=0)
    found, times = np.unique(pairs[:, 0], return_counts=True)
    if (times > 1).any():
        both = [f"{name} ({', '.join(pairs[pairs[:, 0] == name, 1])})" for name in found[times > 1]]
        raise LearnError(f"{_named('patient', both)} in several centres; expected each in one")
    kept = [str(name) for name, size in zip(names, sizes, strict=True) if size >= min_test]
    if not kept:
        raise LearnError(f"no centre has {min_test} rows; lower min_test")
    return [
        Split(name, np.flatnonzero(centres != name), np.flatnonzero(centres == name)).check(patient) for name in kept
    ]


def read_splits(path: str | Path, patients: ArrayLike) -> list[Split]:
    """Read fixed splits in WORC's layout: a column of patients for each side of each split.

    Parameters
    ----------
    path
        CSV with columns ``0_train``, ``0_test``, ``1_train`` and so on, filled up with empty cells; a first column
        without a name, or named ``index``, is skipped. What stands before ``_train`` is the split's name.
    patients
        Ids of patients, shape ``(row,)``.

    Returns
    -------
    list of Split
        In the file's order; all rows of a patient go with it. Patients that a split does not name are not used in it.

    Raises
    ------
    LearnError
        The file cannot be read, a column is unknown, repeated or without its other side, an id is not in `patients`
        (ids match exactly, but for spaces around them), or a patient is on both sides of a split.

    """
    path = Path(path)
    ids = np.array([name.strip() for name in _ids(patients)], dtype=object)
    columns = _columns(path)
    unknown = sorted({cell for cells in columns.values() for cell in cells} - set(ids))
    if unknown:
        have = ", ".join(sorted(set(ids))[:3])
        raise LearnError(f"{path}: {_named('patient', unknown)} not in the cohort, whose ids are like {have}")
    splits = []
    for column in columns:
        name, _, side = column.rpartition("_")
        other = f"{name}_test" if side == "train" else f"{name}_train"
        if other not in columns:
            raise LearnError(f"{path}: column {column!r} is there, {other!r} is missing")
        if side == "train":
            train, test = (np.flatnonzero(np.isin(ids, columns[one])) for one in (column, other))
            try:
                splits.append(Split(name, train, test).check(ids))
            except LearnError as error:
                # A row on both sides says less than the patient that it is of.
                both = sorted(set(columns[column]) & set(columns[other]))
                said = f"split {name}: {_named('patient', both)} on both sides; expected each on one"
                raise LearnError(f"{path}: {said if both else error}") from None
    return splits


def write_splits(path: str | Path, splits: Sequence[Split], patients: ArrayLike) -> None:
    """Write splits in WORC's layout, so that a run can be repeated elsewhere; `read_splits` reads them.

    Parameters
    ----------
    path
        CSV to write or to replace.
    splits
        What to write, with different names.
    patients
        Ids of patients, shape ``(row,)``.

    Raises
    ------
    LearnError
        There is nothing to write, names repeat, a side has some but not all rows of a patient, which this layout
        cannot say, or the file cannot be written.

    """
    path = Path(path)
    ids = _ids(patients)
    if not splits or len({split.name for split in splits}) < len(splits):
        raise LearnError(f"{path}: expected splits of different names, got {[split.name for split in splits][:5]}")
    columns: dict[str, list[str]] = {}
    for split in splits:
        for side, rows in (("train", split.train), ("test", split.test)):
            names = list(dict.fromkeys(ids[rows]))
            if np.isin(ids, names).sum() != len(rows):
                raise LearnError(f"{path}: split {split.name} divides rows of a patient, which cannot be written")
            columns[f"{split.name}_{side}"] = names
    longest = max(map(len, columns.values()))
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["", *columns])
            for k in range(longest):
                writer.writerow([k, *(names[k] if k < len(names) else "" for names in columns.values())])
    except OSError as error:
        raise LearnError(f"{path}: cannot be written: {error.strerror}") from error


def _columns(path: Path) -> dict[str, list[str]]:
    """Return what stands in each named column of a splits file, empty cells left out."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header, *rows = list(csv.reader(file)) or [[]]
    except FileNotFoundError:
        raise LearnError(f"{path}: the file is missing; expected splits in columns 0_train, 0_test, ...") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LearnError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    names = [name.strip() for name in header]
    first = 1 if names and names[0].lower() in ("", "index", "unnamed: 0") else 0
    for name in names[first:]:
        if not name.endswith(("_train", "_test")):
            raise LearnError(f"{path}: column {name!r} is unknown; expected 0_train, 0_test, 1_train, ...")
        if names.count(name) > 1:
            raise LearnError(f"{path}: column {name!r} is there twice")
    if len(names) == first:
        raise LearnError(f"{path}: no column of a split; expected 0_train, 0_test, ...")
    return {
        name: list(dict.fromkeys(cell for row in rows if k < len(row) and (cell := row[k].strip())))
        for k, name in enumerate(names)
        if k >= first
    }


def _strata_of_patients(
    patient: ArrayLike, strata: ArrayLike | None
) -> tuple[NDArray[np.object_], NDArray[np.int64], list[NDArray[np.int64]]]:
    """Return patients, the patient of each row, and the patients of each stratum, all but rows by number."""
    rows = _ids(patient)
    ids, of_row = np.unique(rows, return_inverse=True)
    if len(ids) < 2:
        raise LearnError(f"a split takes two patients or more, not {len(ids)}")
    if strata is None:
        return ids, of_row, [np.arange(len(ids))]
    labels = np.asarray(strata)
    _same_length(rows, labels, "stratum")
    levels, level = np.unique(labels, return_inverse=True)
    counts = np.zeros((len(ids), len(levels)), dtype=np.int64)
    np.add.at(counts, (of_row, level), 1)
    stratum = counts.argmax(axis=1)
    groups = [np.flatnonzero(stratum == k) for k in range(len(levels))]
    several = [group for group in groups if len(group) > 1]
    alone = [group for group in groups if len(group) == 1]
    return ids, of_row, several + ([np.sort(np.concatenate(alone))] if alone else [])


def _shares(sizes: NDArray[np.int64], fraction: float) -> NDArray[np.int64]:
    """Return how many of each stratum are tested: largest remainders, within one and all but one."""
    wanted = sizes * fraction
    least, most = np.where(sizes > 1, 1, 0), sizes - 1
    shares = np.clip(np.floor(wanted).astype(np.int64), least, most)
    missing = round(sizes.sum() * fraction) - shares.sum()
    for k in np.argsort(shares - wanted, kind="stable"):
        if missing > 0 and shares[k] < min(most[k], wanted[k] + 1):
            shares[k] += 1
            missing -= 1
    return shares


def _ids(values: ArrayLike) -> NDArray[np.object_]:
    """Return values as strings, empty for None and NaN."""
    return np.array([_text(value) for value in np.asarray(values, dtype=object).ravel()], dtype=object)


def _text(value: object) -> str:
    return "" if value is None or value != value else str(value)


def _same_length(patient: NDArray[np.object_], values: NDArray[np.generic], name: str) -> None:
    if len(patient) != len(values):
        raise LearnError(f"{len(patient)} rows have a patient, {len(values)} a {name}; expected as many")


def _named(noun: str, names: Sequence[str]) -> str:
    """Return such as ``2 patients (A, B) are``."""
    some = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"{noun} {some} is" if len(names) == 1 else f"{len(names)} {noun}s ({some}) are"
