"""The table cases.csv of a data set, which says whose each case is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hgpscale.cohort.table import read_table
from hgpscale.errors import ManifestError

CASES = "cases.csv"
"""A table that says by its columns `case` and `patient` of whom a case is."""
MADE_BY = "hgpscale deep export"
"""What dataset.json and export.json of an own export say."""


def is_export(folder: Path, description: Mapping[str, Any]) -> bool:
    """Whether `hgpscale deep export` made a data set, as its description or the record of the export says."""
    return MADE_BY in (description.get("made_by"), _record_of(folder / "export.json"))


def _record_of(path: Path) -> object:
    """Return what made a data set, as the record of an export says; None where there is no such record."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content.get("made_by") if isinstance(content, dict) else None


def patients_of(path: Path, *, needed: bool) -> tuple[dict[str, str], str]:
    """Return the patient of each case that a table names, and what is to be told where it cannot be used.

    Raises
    ------
    ManifestError
        It is needed and cannot be used.

    """
    if not path.exists() and not needed:
        return {}, ""
    try:
        return _case_table(path), ""
    except ManifestError as error:
        if needed:
            raise ManifestError(
                f"{error}; without it scans of one patient are taken for several: mend it, or export the data set again"
            ) from error
        return {}, f"{error}; it is not used: each case is taken for a patient"


def _case_table(path: Path) -> dict[str, str]:
    table = read_table(path)
    missing = [name for name in ("case", "patient") if name not in table.columns]
    if missing:
        hint = "; cells are separated by ';', expected ','" if ";" in table.columns[0] else ""
        raise ManifestError(f"{path}: column {', '.join(missing)} is missing; found: {', '.join(table.columns)}{hint}")
    problems = list(table.problems)
    patients: dict[str, str] = {}
    for line, row in zip(table.lines, table.rows, strict=True):
        if not (row["case"] and row["patient"]):
            problems.append((line, "its case or patient is empty"))
        elif patients.setdefault(row["case"], row["patient"]) != row["patient"]:
            problems.append((line, "its case is another patient's on an earlier line"))
    if problems:
        line, text = min(problems)
        raise ManifestError(f"{path}: line {line}: {text}")
    return patients
