"""Reads a manifest: the table that says which lesion lies in which image under which mask."""

from __future__ import annotations

import difflib
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hgpscale.catalog import column_problems
from hgpscale.cohort.rows import Cohort, LesionRow, Rows
from hgpscale.cohort.table import Table, read_table
from hgpscale.errors import ManifestError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Cohort", "LesionRow", "read_manifest"]

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
    return Cohort(str(path), rows, _lesion_columns(table))


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
    table.cells = {names.get(name, name): column for name, column in table.cells.items()}
    if "patient" not in table.columns:
        first: dict[str, str] = {}
        table.cells["patient"] = [
            first.setdefault(image, str(number)) for number, image in enumerate(table.cells["image"], start=1)
        ]
        table.columns.append("patient")
    if "lesion" not in table.columns:
        table.cells["lesion"] = _numbered(table.cells["patient"])
        table.columns.append("lesion")


def _numbered(patients: Sequence[str]) -> list[str]:
    """Return a lesion for each row: the patient, with a number where there are several rows of one."""
    total = Counter(patients)
    seen: Counter[str] = Counter()
    lesions = []
    for patient in patients:
        seen[patient] += 1
        lesions.append(f"{patient}-{seen[patient]}" if total[patient] > 1 else patient)
    return lesions


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
    """Add the cells of `segmentation` and `lesion` where they are not there."""
    if "segmentation" not in table.columns:
        table.cells["segmentation"] = [DEFAULT_SEGMENTATION] * len(table.lines)
    if "lesion" in table.columns:
        return
    patients = table.cells["patient"]
    table.cells["lesion"] = list(patients)
    for i, before in _repeated(patients, table.cells["segmentation"]):
        line, patient, segmentation = table.lines[i], patients[i], table.cells["segmentation"][i]
        if patient:
            table.cells["lesion"][i] = f"{patient} (line {line})"  # so that no other check complains of the same
            problems.append(
                (
                    line,
                    f"patient {patient!r} has another row of segmentation {segmentation!r} on line "
                    f"{table.lines[before]}: add a column 'lesion' that names each lesion, for example '{patient}-1' "
                    f"and '{patient}-2'",
                )
            )


def _repeated(names: Sequence[str], segmentations: Sequence[str]) -> list[tuple[int, int]]:
    """Return the rows whose name was there already with the same segmentation, each with the first such row."""
    first: dict[str, dict[str, int]] = {name: {} for name in set(segmentations)}
    rows = enumerate(zip(names, segmentations, strict=True))
    firsts = (first[rater].setdefault(name, i) for i, (name, rater) in rows)
    return [(i, before) for i, before in enumerate(firsts) if before != i]


def _lesion_rows(path: Path, table: Table, problems: Problems) -> Rows:
    absent = [""] * len(table.lines)
    cells = {name: table.cells.get(name, absent) for name in ("label", "roi", "liver", "liver_roi")}
    labels = {text: _label(text) for text in set(cells["label"])}
    for i in _where(cells["label"], lambda text: labels[text] == 0):
        problems.append((table.lines[i], f"label is {cells['label'][i]!r}, expected a whole number of at least 1"))
    channels = table.cells.get("Label_channel", [])
    for i in _where(channels, lambda text: text not in ("", "0")):
        problems.append(
            (
                table.lines[i],
                f"Label_channel is {channels[i]!r}: expected one for all rows, as setting label_channel",
            )
        )
    columns: dict[str, Sequence[Any]] = {
        "line": table.lines,
        "lesion": table.cells["lesion"],
        "segmentation": table.cells["segmentation"],
        "patient": table.cells["patient"],
        "image_text": table.cells["image"],
        "mask_text": table.cells["mask"],
        "label": [labels[text] for text in cells["label"]],
        "roi": cells["roi"],
        "liver_text": cells["liver"],
        "liver_roi": cells["liver_roi"],
    }
    return Rows(path.absolute().parent, columns)


def _where(cells: Sequence[str], wrong: Callable[[str], bool]) -> list[int]:
    """Return the rows with a wrong cell; each text is looked at once, however often it is there."""
    found = set(filter(wrong, set(cells)))
    return [i for i, text in enumerate(cells) if text in found] if found else []


def _label(text: str) -> int | None:
    """Return the label, None where there is none, 0 where it is wrong; pandas writes 1 as 1.0 beside empty cells."""
    if text == "":
        return None
    return int(text.split(".")[0]) if re.fullmatch(r"\d{1,10}(\.0*)?", text) else 0


def _check_rows(table: Table, problems: Problems) -> None:
    """Check each row on its own, and that no lesion is there twice with the same segmentation."""
    for name in (*REQUIRED, "segmentation", *(["lesion"] if "lesion" in table.columns else [])):
        cells = table.cells[name]
        for i in _where(cells, lambda text: not text or not text.isprintable()):
            what = f"is {cells[i]!r}: it holds a character that cannot be printed" if cells[i] else "is empty"
            problems.append((table.lines[i], f"{name} {what}"))
    lesions, segmentations = table.cells["lesion"], table.cells["segmentation"]
    for i in _where(segmentations, lambda text: "__" in text):
        problems.append((table.lines[i], f"segmentation is {segmentations[i]!r}: '__' is reserved for column names"))
    splits = table.cells.get("split", [])
    for i in _where(splits, lambda text: text not in ("", *SPLITS)):
        problems.append((table.lines[i], f"split is {splits[i]!r}, expected {' or '.join(SPLITS)}, or an empty cell"))
    percentages = [table.cells[name] for name in PERCENTAGES if name in table.cells]
    for line, *cells in zip(table.lines, *percentages, strict=True) if percentages else ():
        problems += [(line, text) for text in _percentage_problems(dict(zip(PERCENTAGES, cells, strict=True)))]
    for i, before in _repeated(lesions, segmentations):
        if lesions[i]:
            problems.append(
                (
                    table.lines[i],
                    f"lesion {lesions[i]!r} with segmentation {segmentations[i]!r} is on line {table.lines[before]} "
                    "already: give each its own id",
                )
            )


def _percentage_problems(cells: Mapping[str, str]) -> list[str]:
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
    keys = table.cells[key]
    first: dict[str, int] = {}
    firsts = (first.setdefault(text, i) for i, text in enumerate(keys))
    later = [(i, before) for i, before in enumerate(firsts) if before != i and keys[i]]
    for name in names:
        if name == key:
            continue
        cells = table.cells[name]
        value: Callable[[str], object] = _as_number if later and _is_numeric(table, name) else str
        problems += [
            (
                table.lines[i],
                f"{name} of {key} {keys[i]!r} is {cells[i]!r}, on line {table.lines[before]} it is {cells[before]!r}",
            )
            for i, before in later
            if cells[i] != cells[before] and value(cells[i]) != value(cells[before])
        ]


def _is_numeric(table: Table, name: str) -> bool:
    """Whether a column holds numbers: all cells do, or are empty, and none is a code such as 007."""
    if name in ("patient", "image", "liver", "liver_roi"):
        return False
    if name in table.numeric or name in PERCENTAGES:
        return True
    cells = set(table.cells[name]) - set(_MISSING)
    return bool(cells) and all(_NUMBER.fullmatch(cell) and not _CODE.fullmatch(cell) for cell in cells)


def _as_number(text: str) -> float | None:
    try:
        return None if text in _MISSING else float(text)
    except ValueError:
        return None  # a percentage that is no number is reported by its row


def _lesion_columns(table: Table) -> pd.DataFrame:
    import pandas as pd

    first: dict[str, int] = {}
    for i, lesion in enumerate(table.cells["lesion"]):
        first.setdefault(lesion, i)
    names = ["patient"] + [name for name in table.columns if name not in (*_ROW_COLUMNS, "patient", "Label_channel")]
    columns = {}
    for name in names:
        cells = [table.cells[name][i] for i in first.values()]
        numeric = _is_numeric(table, name)
        columns[name] = pd.Series(_numbers(cells, name) if numeric else cells, dtype=None if numeric else "str")
    frame = pd.DataFrame(columns)
    frame.index = pd.Index(list(first), name="lesion", dtype="str")
    return frame


def _numbers(cells: list[str], name: str) -> list[int] | list[float]:
    whole = all(re.fullmatch(r"[+-]?\d+", cell) for cell in cells)
    if whole and name not in PERCENTAGES:
        return [int(cell) for cell in cells]
    return [math.nan if cell in _MISSING else float(cell) for cell in cells]
