"""Joins columns of a table, such as growth patterns, to the rows of a manifest."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from hgpscale.cohort.table import read_table
from hgpscale.errors import ManifestError

By = Literal["patient", "lesion"]
MANIFEST_COLUMNS = ("patient", "lesion", "segmentation", "image", "mask", "label", "roi", "liver", "liver_roi")

_KEYS: dict[By, tuple[str, ...]] = {
    "patient": ("patient", "patientid", "tciaid", "subject", "subjectid", "case", "caseid", "id"),
    "lesion": ("lesion", "lesionid"),
}
_PERSON = re.compile(
    r"(patients?)?(name|surname|firstname|lastname|birthdate|dateofbirth|birthday|dob|accession(number|no)?|mrn|ssn"
    r"|address|phone|telephone|email|medicalrecordnumber|otherpatientids)"
)
_SHOWN = 5


@dataclass(frozen=True)
class LabelTable:
    """Columns by patient or by lesion.

    Attributes
    ----------
    source
        The file, for messages.
    by
        What `cells` are keyed by.
    columns
        Names, without the key and without what tells who a person is.
    cells
        For each patient or lesion its cells by column; '' where the value is missing.
    dropped
        Names of columns that tell who a person is.
    taken
        Names of columns that a manifest has itself, left out too.

    """

    source: str
    by: By
    columns: tuple[str, ...]
    cells: dict[str, dict[str, str]]
    dropped: tuple[str, ...]
    taken: tuple[str, ...] = ()

    def without(self, tells: Callable[[str], bool]) -> LabelTable:
        """Return the table without columns that have a cell that tells who a person is."""
        told = {name for cells in self.cells.values() for name, cell in cells.items() if tells(cell)}
        dropped = (*self.dropped, *(name for name in self.columns if name in told))
        return replace(self._less(told), dropped=dropped)

    def beside(self, own: Collection[str]) -> LabelTable:
        """Return the table without columns that the manifest has itself."""
        taken = (*self.taken, *(name for name in self.columns if name in own))
        return replace(self._less(own), taken=taken)

    def _less(self, names: Collection[str]) -> LabelTable:
        cells = {
            key: {name: cell for name, cell in row.items() if name not in names} for key, row in self.cells.items()
        }
        return replace(self, columns=tuple(name for name in self.columns if name not in names), cells=cells)


def read_label_table(
    path: str | Path,
    by: By = "patient",
    *,
    missing: Sequence[str] = (),
    tidy: bool = False,
    shown: Callable[[str], str] = str,
) -> LabelTable:
    """Read a table of labels, CSV or Parquet with a row for each patient or lesion.

    Parameters
    ----------
    path
        The table. Its key is the column ``patient``, ``Patient-ID``, ``TCIA_ID``, ``subject``, ``case`` or ``id``, or
        ``lesion`` and ``lesion_id``, in any spelling of case.
    by
        Which of both.
    missing
        Cells that stand for a missing value, such as ``999`` (then ``999.00`` too).
    tidy
        Whether names become lower case, and what is no letter or digit in them an underscore: for tables of archives.
    shown
        How messages name a patient or lesion.

    Raises
    ------
    ManifestError
        The table cannot be read, has no such column, or says two things of one patient or lesion.

    """
    path = Path(path)
    table = read_table(path)
    if table.problems:
        line, text = table.problems[0]
        raise ManifestError(f"{path}: line {line}: {text}")
    plain = {_plain(name): name for name in reversed(table.columns)}
    key = next((plain[name] for name in _KEYS[by] if name in plain), None)
    if key is None:
        raise ManifestError(f"{path}: no column names the {by}; found: {', '.join(table.columns)}; expected '{by}'")
    dropped = tuple(name for name in table.columns if name != key and _PERSON.fullmatch(_plain(name)))
    taken = tuple(name for name in table.columns if name not in (key, *dropped) and name.lower() in MANIFEST_COLUMNS)
    names = {
        name: re.sub(r"\W+|__+", "_", name.lower()).strip("_") if tidy else name
        for name in table.columns
        if name not in (key, *dropped, *taken)
    }
    cells: dict[str, dict[str, str]] = {}
    for line, row in zip(table.lines, table.rows, strict=True):
        values = {new: "" if _is_one_of(row[old], missing) else row[old] for old, new in names.items()}
        if cells.setdefault(row[key], values) != values:
            hint = "; give --by lesion if its rows are lesions" if by == "patient" else ""
            name = shown(row[key])
            raise ManifestError(f"{path}: line {line}: {by} {name!r} has other values on an earlier line{hint}")
    return LabelTable(str(path), by, tuple(names.values()), cells, dropped, taken)


def join_labels(rows: Sequence[dict[str, str]], table: LabelTable, *, shown: Callable[[str], str] = str) -> list[str]:
    """Add the table's columns to the rows, empty where it does not know them, and say what did not fit.

    `shown` says how sentences name a patient or lesion.

    Raises
    ------
    ManifestError
        None of the patients or lesions is in the table, or a column is there already.

    """
    twice = sorted({name for row in rows for name in table.columns if name in row})
    if twice:
        raise ManifestError(f"{table.source}: column {', '.join(map(repr, twice))} is there from another table; rename")
    found = list(dict.fromkeys(row[table.by] for row in rows))
    known = [name for name in found if name in table.cells]
    if found and not known:
        raise ManifestError(
            f"{table.source}: it has none of the {len(found)} {table.by}s; it names {_some(list(table.cells), shown)}, "
            f"the archive {_some(found, shown)}"
        )
    empty = dict.fromkeys(table.columns, "")
    for row in rows:
        row.update(table.cells.get(row[table.by], empty))
    notes = [
        f"{table.source}: {', '.join(table.columns) or 'no column'} joined to {len(known)} of {len(found)} {table.by}s"
    ]
    without = [name for name in found if name not in table.cells]
    beyond = [name for name in table.cells if name not in set(found)]
    if without:
        notes.append(f"{table.source}: without labels: {_some(without, shown)}")
    if beyond:
        notes.append(f"{table.source}: labels of what is not in the archive: {_some(beyond, shown)}")
    if table.dropped:
        notes.append(f"{table.source}: left out, as they tell who a person is: {', '.join(table.dropped)}")
    if table.taken:
        notes.append(f"{table.source}: left out, as the manifest has its own: {', '.join(table.taken)}")
    return notes


def _is_one_of(cell: str, missing: Sequence[str]) -> bool:
    """Whether a cell is one of some texts; 999.00 is 999."""
    return cell in missing or re.sub(r"\.0+$", "", cell) in missing


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.lower())


def _some(names: Sequence[str], shown: Callable[[str], str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(shown, names[:_SHOWN])) + more
