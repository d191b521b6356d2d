"""Reads a manifest file into columns of text, with the line that each row stands on."""

from __future__ import annotations

import csv
import math
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hgpscale.errors import ManifestError, MissingManifestError

_PARQUET = (".parquet", ".pq")
_ROWS_AT_A_TIME = 65_536
"""Of a Parquet file, as Python's objects."""


@dataclass
class Table:
    """A manifest as text; equal cells are one string, so that a table of many rows takes little memory.

    Attributes
    ----------
    columns
        Names, stripped.
    cells
        All cells of a column by its name, stripped; '' where there is none.
    lines
        Line of each row in the file; the header is line 1 (Parquet: the row's number + 2).
    problems
        Rows that do not fit the header, one sentence each, with their line.
    numeric
        Columns that the file itself declares to be numbers (Parquet).

    """

    columns: list[str]
    cells: dict[str, list[str]]
    lines: array[int]
    problems: list[tuple[int, str]]
    numeric: frozenset[str] = frozenset()

    @property
    def rows(self) -> Iterator[dict[str, str]]:
        """Yield the cells of each row by column."""
        for cells in zip(*self.cells.values(), strict=True):
            yield dict(zip(self.cells, cells, strict=True))


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
    if not table.lines and not table.problems:
        raise ManifestError(f"{path}: it has a header and no rows")
    return table


def _read_csv(path: Path) -> Table:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, None)
            if not header:
                raise ManifestError(f"{path}: the file is empty; expected a header and a row for each lesion")
            found = _Rows(without_empty_end([name.strip() for name in header], 1))
            line = reader.line_num + 1
            for cells in reader:
                # a quoted cell can span lines: the row starts on the line after the last one's end
                found.add([cell.strip() for cell in cells], line)
                line = reader.line_num + 1
            return found.table()
    except UnicodeDecodeError as error:
        raise ManifestError(
            f"{path}: is not UTF-8 text ({error.reason} at byte {error.start}); save it as CSV UTF-8"
        ) from error
    except csv.Error as error:
        raise ManifestError(f"{path}: line {reader.line_num}: is not CSV: {error}") from error


@dataclass
class _Rows:
    """Collects the rows of a table with the columns `names`."""

    names: list[str]
    columns: list[list[str]] = field(init=False)
    lines: array[int] = field(default_factory=lambda: array("q"))
    problems: list[tuple[int, str]] = field(default_factory=list)
    known: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.columns = [[] for _ in self.names]

    def add(self, cells: list[str], line: int) -> None:
        if not any(cells):
            return
        cells = without_empty_end(cells, len(self.names))
        if len(cells) != len(self.names):
            self.problems.append((line, f"it has {len(cells)} cells, the header has {len(self.names)}"))
            return
        for column, cell in zip(self.columns, cells, strict=True):
            column.append(self.known.setdefault(cell, cell))
        self.lines.append(line)

    def table(self, numeric: Iterable[str] = ()) -> Table:
        cells = dict(zip(self.names, self.columns, strict=True))
        return Table(self.names, cells, self.lines, self.problems, frozenset(numeric))


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
    numeric = {
        names[i]
        for i in kept
        if pa.types.is_integer(arrow.schema.types[i]) or pa.types.is_floating(arrow.schema.types[i])
    }
    found = _Rows([names[i] for i in kept])
    line = 2
    for batch in arrow.to_batches(max_chunksize=_ROWS_AT_A_TIME):
        for values in zip(*(batch.column(i).to_pylist() for i in kept), strict=True):
            found.add([text_of(value) for value in values], line)
            line += 1
    return found.table(numeric)


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
