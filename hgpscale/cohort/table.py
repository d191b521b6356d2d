"""Reads a manifest file into rows of text, with the line that each row stands on."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hgpscale.errors import ManifestError, MissingManifestError

_PARQUET = (".parquet", ".pq")


@dataclass
class Table:
    """A manifest as text.

    Attributes
    ----------
    columns
        Names, stripped.
    rows
        Cells of each row by column, stripped; '' where there is none.
    lines
        Line of each row in the file; the header is line 1 (Parquet: the row's number + 2).
    problems
        Rows that do not fit the header, one sentence each, with their line.
    numeric
        Columns that the file itself declares to be numbers (Parquet).

    """

    columns: list[str]
    rows: list[dict[str, str]]
    lines: list[int]
    problems: list[tuple[int, str]]
    numeric: frozenset[str] = frozenset()


def read_table(path: Path) -> Table:
    """Read a CSV or Parquet file.

    Raises
    ------
    MissingManifestError
        There is no such file.
    ManifestError
        The file is empty, of another kind, not decodable, or its header repeats a name or lacks one.

    """
    if path.suffix.lower() not in (".csv", *_PARQUET):
        raise ManifestError(f"{path}: expected a manifest that ends in .csv or .parquet")
    if path.is_dir():
        raise ManifestError(f"{path}: is a folder; expected a manifest, .csv or .parquet")
    try:
        table = _read_parquet(path) if path.suffix.lower() in _PARQUET else _read_csv(path)
    except FileNotFoundError as error:
        raise MissingManifestError(f"{path}: the file is missing; expected a manifest, .csv or .parquet") from error
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read: {error.strerror or error}") from error
    _check_columns(path, table.columns)
    if not table.rows and not table.problems:
        raise ManifestError(f"{path}: it has a header and no rows")
    return table


def _read_csv(path: Path) -> Table:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, None)
            if not header:
                raise ManifestError(f"{path}: the file is empty; expected a header and a row for each lesion")
            table = Table(without_empty_end([name.strip() for name in header], 1), [], [], [])
            line = reader.line_num + 1
            for cells in reader:
                # a quoted cell can span lines: the row starts on the line after the last one's end
                _add_row(table, [cell.strip() for cell in cells], line)
                line = reader.line_num + 1
            return table
    except UnicodeDecodeError as error:
        raise ManifestError(
            f"{path}: is not UTF-8 text ({error.reason} at byte {error.start}); save it as CSV UTF-8"
        ) from error
    except csv.Error as error:
        raise ManifestError(f"{path}: line {reader.line_num}: is not CSV: {error}") from error


def _add_row(table: Table, cells: list[str], line: int) -> None:
    if not any(cells):
        return
    cells = without_empty_end(cells, len(table.columns))
    if len(cells) != len(table.columns):
        table.problems.append((line, f"it has {len(cells)} cells, the header has {len(table.columns)}"))
        return
    table.rows.append(dict(zip(table.columns, cells, strict=True)))
    table.lines.append(line)


def without_empty_end(cells: list[str], keep: int) -> list[str]:
    """Drop empty cells at the end, down to `keep`: spreadsheets write columns that were once touched."""
    while len(cells) > keep and not cells[-1]:
        cells = cells[:-1]
    return cells


def _read_parquet(path: Path) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.stat().st_size == 0:
        raise ManifestError(f"{path}: the file is empty; expected a header and a row for each lesion")
    try:
        arrow = pq.read_table(path)
    except pa.ArrowException as error:
        raise ManifestError(f"{path}: is not a Parquet file: {' '.join(str(error).split())}") from error
    names = [str(name).strip() for name in arrow.column_names]
    # the index that pandas stores beside the columns is not one of them
    kept = [i for i, name in enumerate(names) if not name.startswith("__index_level_")]
    columns = [arrow.column(i).to_pylist() for i in kept]
    numeric = {
        names[i]
        for i in kept
        if pa.types.is_integer(arrow.schema.types[i]) or pa.types.is_floating(arrow.schema.types[i])
    }
    table = Table([names[i] for i in kept], [], [], [], frozenset(numeric))
    for number, values in enumerate(zip(*columns, strict=True)):
        _add_row(table, [text_of(value) for value in values], number + 2)
    return table


def text_of(value: Any) -> str:
    """Return a cell of Parquet as text, '' where it is empty."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)  # whole numbers become floats in pandas where a cell of their column is empty
    return str(value).strip()


def _check_columns(path: Path, columns: list[str]) -> None:
    if "" in columns:
        raise ManifestError(
            f"{path}: column {columns.index('') + 1} has no name; name it, or save the table without its index"
        )
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise ManifestError(f"{path}: column {', '.join(map(repr, twice))} appears twice; keep one")
