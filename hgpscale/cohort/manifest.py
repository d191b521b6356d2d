"""Reads a manifest: the table that says which lesion lies in which image under which mask."""

from __future__ import annotations

import difflib
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hgpscale.catalog import column_problems
from hgpscale.cohort.table import Table, read_table
from hgpscale.errors import ManifestError

if TYPE_CHECKING:
    import pandas as pd

REQUIRED = ("patient", "image", "mask")
PERCENTAGES = ("hgp_desmoplastic", "hgp_replacement", "hgp_pushing")
SPLITS = ("train", "external")
DEFAULT_SEGMENTATION = "default"

_ROW_COLUMNS = ("lesion", "segmentation", "image", "mask", "label", "roi")
"""Columns of one row; every other one is of the lesion, and the same in all of its rows."""

_PYRADIOMICS = {"Image": "image", "Mask": "mask", "Label": "label"}
_PATIENT_NAMES = ("patient", "patientid", "patient_id", "id", "subject", "subjectid", "case", "caseid")
_MISSING = ("", "NA", "NaN", "nan")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_CODE = re.compile(r"[+-]?(0\d+|\d{16,})")
_SHOWN = 5
_SUM_TOLERANCE = 0.5

Problems = list[tuple[int, str]]


@dataclass(frozen=True)
class LesionRow:
    """One lesion as one segmentation outlines it: one row of a manifest.

    Attributes
    ----------
    line
        Line in the manifest; the header is line 1 (Parquet: the row's number + 2).
    lesion, segmentation, patient
        Its ids; `segmentation` is the rater or method, ``default`` where the manifest has no such column.
    image, mask
        The files, absolute; relative ones start at the manifest's folder.
    image_text, mask_text
        The files as the manifest writes them.
    label
        Value of the region in the mask; None: the mask's only non-zero value.
    roi
        Name, number or pattern of the segments that make the region, see `Outlines.region`; '' where the manifest has
        none.
    liver
        Mask of the liver, absolute; None where the manifest has none.
    liver_roi
        Which segments of that file, or which value, see `Outlines.organ`.

    """

    line: int
    lesion: str
    segmentation: str
    patient: str
    image: Path
    mask: Path
    image_text: str
    mask_text: str
    label: int | None
    roi: str
    liver: Path | None = None
    liver_roi: str = ""


@dataclass(frozen=True, eq=False)
class Cohort:
    """All lesions of a manifest.

    Attributes
    ----------
    source
        The manifest's path, for messages.
    rows
        In the order of the manifest.
    columns
        What the manifest says of each lesion: index `lesion` in order of first appearance, column `patient` and
        every other one that is not of a single row. Numbers are int64 or float64 (NaN where empty), the rest text
        ('' where empty).

    """

    source: str
    rows: tuple[LesionRow, ...]
    columns: pd.DataFrame

    @property
    def lesions(self) -> tuple[str, ...]:
        """Ids of the lesions, in order of first appearance."""
        return tuple(dict.fromkeys(row.lesion for row in self.rows))

    @property
    def segmentations(self) -> tuple[str, ...]:
        """Ids of the segmentations, in order of first appearance."""
        return tuple(dict.fromkeys(row.segmentation for row in self.rows))


def read_manifest(path: str | Path) -> Cohort:
    """Read a manifest from a CSV (comma, UTF-8) or Parquet file.

    One row is one lesion seen by one segmentation. Columns `patient`, `image` and `mask` are required. `lesion`
    defaults to the patient where each patient has one row a segmentation; `segmentation` to ``default``; `label` to
    the mask's only non-zero value. `roi`, `liver`, `liver_roi`, `centre`, `split` (``train``, ``external``, or empty:
    not known) and `hgp_desmoplastic`, `hgp_replacement`, `hgp_pushing` (percent, all three or none) are optional. Every
    other column is carried along as a covariate: as numbers where all its cells are numbers, empty or NA, but as text
    where one is a code with a leading zero or too long for a float. `catalog.column_problems` says which names it
    cannot have.

    A batch file of pyradiomics, known by its columns `Image` and `Mask`, is read as pyradiomics reads it: every row is
    a case of its own. The patient is the first of the columns Patient, PatientID, ID, Subject or Case (in any
    spelling of case); without one, rows of the same image are one patient, named by the first one's number from 1.
    The lesion is the patient, or ``<patient>-<n>`` with n from 1 where the patient has several rows.

    Parameters
    ----------
    path
        The manifest. Relative paths in it start at its folder.

    Raises
    ------
    MissingManifestError
        There is no such file.
    ManifestError
        The file cannot be read, a column is missing, repeated or has a name that no cube can hold, or rows are wrong:
        then the message counts all problems and shows the first five with their lines, and a note of the exception
        lists all.

    """
    path = Path(path)
    table = read_table(path)
    from_pyradiomics = {"Image", "Mask"} <= set(table.columns) and not {"image", "mask"} & set(table.columns)
    if from_pyradiomics:
        _adopt_pyradiomics(table)
    _check_names(path, table.columns)
    problems: Problems = list(table.problems)
    _fill_ids(table, problems)
    rows = _lesion_rows(path, table, problems)
    _check_rows(table, problems)
    _check_same(table, "lesion", [name for name in table.columns if name not in _ROW_COLUMNS] + ["image"], problems)
    _check_same(table, "patient", [name for name in ("split",) if name in table.columns], problems)
    if problems:
        raise _manifest_error(path, problems)
    return Cohort(str(path), tuple(rows), _lesion_columns(table))


def _manifest_error(path: Path, problems: Problems) -> ManifestError:
    texts = [f"line {line}: {text}" for line, text in sorted(problems)]
    more = f"; and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    count = f"{len(texts)} problem{'s' if len(texts) > 1 else ''}"
    error = ManifestError(f"{path}: {count}: {'; '.join(texts[:_SHOWN])}{more}")
    if more:
        error.add_note("\n".join(texts))
    return error


def _adopt_pyradiomics(table: Table) -> None:
    """Rename pyradiomics' columns and give every row a patient and a lesion."""
    lower = {name.lower(): name for name in reversed(table.columns)}
    patient = next((lower[name] for name in _PATIENT_NAMES if name in lower), None)
    renamed = {**_PYRADIOMICS, **({patient: "patient"} if patient else {})}
    names = {old: new for old, new in renamed.items() if new not in table.columns}
    table.columns = [names.get(name, name) for name in table.columns]
    table.rows = [{names.get(name, name): cell for name, cell in row.items()} for row in table.rows]
    if "patient" not in table.columns:
        first: dict[str, str] = {}
        for number, row in enumerate(table.rows, start=1):
            row["patient"] = first.setdefault(row["image"], str(number))
        table.columns.append("patient")
    if "lesion" not in table.columns:
        _number_lesions(table.rows)
        table.columns.append("lesion")


def _number_lesions(rows: list[dict[str, str]]) -> None:
    total = Counter(row["patient"] for row in rows)
    seen: Counter[str] = Counter()
    for row in rows:
        patient = row["patient"]
        seen[patient] += 1
        row["lesion"] = f"{patient}-{seen[patient]}" if total[patient] > 1 else patient


def _check_names(path: Path, columns: list[str]) -> None:
    missing = [name for name in REQUIRED if name not in columns]
    found = [name for name in PERCENTAGES if name in columns]
    if found:
        missing += [name for name in PERCENTAGES if name not in columns]
    if missing:
        close = {name: difflib.get_close_matches(name, [c.lower() for c in columns], n=1) for name in missing}
        lower = {name.lower(): name for name in columns}
        hints = [f"rename {lower[near[0]]!r} to {name!r}?" for name, near in close.items() if near]
        hints += [
            f"cells are separated by {mark!r}, expected ',' (in Excel: save as CSV UTF-8, comma delimited)"
            for mark in ";\t"
            if mark in columns[0]
        ][:1]
        raise ManifestError(
            f"{path}: column {', '.join(map(repr, missing))} is missing; found: {', '.join(columns)}"
            + "".join(f"; {hint}" for hint in hints)
        )
    wrong = column_problems(name for name in columns if name not in _ROW_COLUMNS)
    if wrong:
        raise ManifestError(f"{path}: {'; '.join(wrong)}; rename {'it' if len(wrong) == 1 else 'them'}")


def _fill_ids(table: Table, problems: Problems) -> None:
    """Add the columns `segmentation` and `lesion` where they are not there."""
    if "segmentation" not in table.columns:
        for row in table.rows:
            row["segmentation"] = DEFAULT_SEGMENTATION
    if "lesion" in table.columns:
        return
    first: dict[tuple[str, str], int] = {}
    for line, row in zip(table.lines, table.rows, strict=True):
        patient, segmentation = row["patient"], row["segmentation"]
        row["lesion"] = patient
        before = first.setdefault((patient, segmentation), line)
        if before != line and patient:
            row["lesion"] = f"{patient} (line {line})"  # so that no other check complains of the same
            problems.append(
                (
                    line,
                    f"patient {patient!r} has another row of segmentation {segmentation!r} on line {before}: add a "
                    f"column 'lesion' that names each lesion, for example '{patient}-1' and '{patient}-2'",
                )
            )


def _lesion_rows(path: Path, table: Table, problems: Problems) -> list[LesionRow]:
    folder = path.absolute().parent
    rows = []
    for line, row in zip(table.lines, table.rows, strict=True):
        label = _label(row.get("label", ""))
        if label == 0:
            problems.append((line, f"label is {row['label']!r}, expected a whole number of at least 1"))
        if row.get("Label_channel", "0") not in ("", "0"):
            problems.append(
                (
                    line,
                    f"Label_channel is {row['Label_channel']!r}: expected one for all rows, as setting label_channel",
                )
            )
        rows.append(
            LesionRow(
                line,
                row["lesion"],
                row["segmentation"],
                row["patient"],
                folder / row["image"],
                folder / row["mask"],
                row["image"],
                row["mask"],
                label,
                row.get("roi", ""),
                folder / row["liver"] if row.get("liver") else None,
                row.get("liver_roi", ""),
            )
        )
    return rows


def _label(text: str) -> int | None:
    """Return the label, None where there is none, 0 where it is wrong; pandas writes 1 as 1.0 beside empty cells."""
    if text == "":
        return None
    return int(text.split(".")[0]) if re.fullmatch(r"\d{1,10}(\.0*)?", text) else 0


def _check_rows(table: Table, problems: Problems) -> None:
    """Check each row on its own, and that no lesion is there twice with the same segmentation."""
    names = [*REQUIRED, "segmentation", *(["lesion"] if "lesion" in table.columns else [])]
    first: dict[tuple[str, str], int] = {}
    for line, row in zip(table.lines, table.rows, strict=True):
        for name in names:
            if not row[name]:
                problems.append((line, f"{name} is empty"))
            elif not row[name].isprintable():
                problems.append((line, f"{name} is {row[name]!r}: it holds a character that cannot be printed"))
        if "__" in row["segmentation"]:
            problems.append((line, f"segmentation is {row['segmentation']!r}: '__' is reserved for column names"))
        if row.get("split", "") not in ("", *SPLITS):
            problems.append((line, f"split is {row['split']!r}, expected {' or '.join(SPLITS)}, or an empty cell"))
        problems += [(line, text) for text in _percentage_problems(row)]
        key = row["lesion"], row["segmentation"]
        before = first.setdefault(key, line)
        if before != line and row["lesion"]:
            problems.append(
                (
                    line,
                    f"lesion {key[0]!r} with segmentation {key[1]!r} is on line {before} already: give each its own id",
                )
            )


def _percentage_problems(row: Mapping[str, str]) -> list[str]:
    cells = {name: row[name] for name in PERCENTAGES if name in row}
    given = {name: text for name, text in cells.items() if text not in _MISSING}
    wrong = [name for name, text in given.items() if not (_NUMBER.fullmatch(text) and 0 <= float(text) <= 100)]
    if wrong:
        return [f"{name} is {given[name]!r}, expected a percentage from 0 to 100" for name in wrong]
    if given and len(given) < len(cells):
        return [
            f"{', '.join(name for name in cells if name not in given)} is empty: give all three percentages or none"
        ]
    total = math.fsum(float(text) for text in given.values())
    if given and abs(total - 100) > _SUM_TOLERANCE:
        return [f"{' + '.join(given)} is {' + '.join(given.values())} = {total:g}, expected 100"]
    return []


def _check_same(table: Table, key: str, names: Iterable[str], problems: Problems) -> None:
    """Report columns that differ between rows of the same lesion (or patient, as `key` says)."""
    first: dict[str, tuple[int, dict[str, str]]] = {}
    same: dict[str, Callable[[str], object]] = {
        name: _as_number if _is_numeric(table, name) else str for name in names if name != key
    }
    for line, row in zip(table.lines, table.rows, strict=True):
        before, other = first.setdefault(row[key], (line, row))
        problems += [
            (line, f"{name} of {key} {row[key]!r} is {row[name]!r}, on line {before} it is {other[name]!r}")
            for name, value in same.items()
            if row[key] and value(row[name]) != value(other[name])
        ]


def _is_numeric(table: Table, name: str) -> bool:
    """Whether a column holds numbers: all cells do, or are empty, and none is a code such as 007."""
    if name in ("patient", "image", "liver", "liver_roi"):
        return False
    if name in table.numeric or name in PERCENTAGES:
        return True
    cells = {row[name] for row in table.rows} - set(_MISSING)
    return bool(cells) and all(_NUMBER.fullmatch(cell) and not _CODE.fullmatch(cell) for cell in cells)


def _as_number(text: str) -> float | None:
    try:
        return None if text in _MISSING else float(text)
    except ValueError:
        return None  # a percentage that is no number is reported by its row


def _lesion_columns(table: Table) -> pd.DataFrame:
    import pandas as pd

    rows: dict[str, dict[str, str]] = {}
    for row in table.rows:
        rows.setdefault(row["lesion"], row)
    names = ["patient"] + [name for name in table.columns if name not in (*_ROW_COLUMNS, "patient", "Label_channel")]
    columns = {}
    for name in names:
        cells = [row[name] for row in rows.values()]
        numeric = _is_numeric(table, name)
        columns[name] = pd.Series(_numbers(cells, name) if numeric else cells, dtype=None if numeric else "str")
    frame = pd.DataFrame(columns)
    frame.index = pd.Index(list(rows), name="lesion", dtype="str")
    return frame


def _numbers(cells: list[str], name: str) -> list[int] | list[float]:
    whole = all(re.fullmatch(r"[+-]?\d+", cell) for cell in cells)
    if whole and name not in PERCENTAGES:
        return [int(cell) for cell in cells]
    return [math.nan if cell in _MISSING else float(cell) for cell in cells]
