"""Reads a table of features that another program wrote: CSV, gzipped or not, or Parquet.

Cells are kept as text, compactly, until a column is asked for: what is a number and what is a code is for the caller
to say, and an id such as 007 stays what it is.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import math
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hgpscale.cohort.table import text_of, without_empty_end
from hgpscale.errors import ManifestError, MissingManifestError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PARQUET = (".parquet", ".pq")
_CSV = (".csv", ".gz")
_EXPECTED = "expected a table that ends in .csv, .csv.gz, .gz or .parquet"
_GZIP = b"\x1f\x8b"
_ROWS_AT_A_TIME = 1000

MISSING = (
    *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A"),
    *("NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
)
"""What stands for no number in a column of numbers: what pandas takes for it. In a column of text it is text."""

_NUMBER = r"^[+-]?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?|(?i:inf|infinity))$"
_ZEROS = r"^[+-]?0\d+$"
_WHOLE = r"^[+-]?\d+$"
_LONG = r"^[+-]?\d{16,}$"
_EXACT = 2**53

UNNAMED = re.compile(r"Unnamed: \d+(\.\d+)*|__index_level_\d+__")
"""How pandas calls a column without a name, and the index that it stores in Parquet."""


@dataclass(frozen=True)
class Numbers:
    """A column as numbers.

    Attributes
    ----------
    values
        float64, NaN where there is none.
    wrong
        The first row with something else than a number; None: all is well.

    """

    values: NDArray[np.float64]
    wrong: int | None


@dataclass(frozen=True)
class TableFile:
    """A table's cells, column by column.

    Attributes
    ----------
    path
        The file.
    lines
        Line of each row in the file; the header is line 1 (Parquet: the row's number + 2).
    columns
        Cells by name, in the file's order: numbers where Parquet declares them, stripped text elsewhere.
    digest
        Of the file's bytes.

    """

    path: Path
    lines: list[int]
    columns: dict[str, Any]
    digest: str

    def texts(self, name: str) -> list[str]:
        """Return a column as it is written; '' where it is empty."""
        column = self.columns[name]
        return column.to_pylist() if column.type == pa.string() else [text_of(cell) for cell in column.to_pylist()]

    def numbers(self, name: str) -> Numbers:
        """Return a column as numbers; infinite ones stay."""
        column = self.columns[name]
        if column.type != pa.string():
            return Numbers(_floats(column), None)
        is_number = _matches(column, _NUMBER)
        values = np.full(len(column), math.nan)
        values[is_number] = [float(cell) for cell in column.filter(pa.array(is_number)).to_pylist()]
        wrong = np.flatnonzero(~is_number & ~_true(pc.is_in(column, pa.array(MISSING, pa.string()))))
        return Numbers(values, int(wrong[0]) if wrong.size else None)

    def is_empty(self, name: str) -> bool:
        """Whether a column has no cell that says anything."""
        column = self.columns[name]
        if column.type != pa.string():
            return bool(np.isnan(_floats(column)).all())
        return bool(_true(pc.is_in(column, pa.array(MISSING, pa.string()))).all())

    def is_code(self, name: str) -> bool:
        """Whether a column's digits are no quantity: with zeros in front, or more of them than a float64 holds."""
        column = self.columns[name]
        if pa.types.is_integer(column.type):
            return bool((np.abs(_floats(column)) > _EXACT).any())
        if column.type != pa.string():
            return False
        given = column.filter(pc.invert(pc.is_in(column, pa.array(MISSING, pa.string()))))
        if _matches(given, _ZEROS).any():
            return True
        return bool(_matches(given, _WHOLE).all() and _matches(given, _LONG).any())


def read_table_file(path: Path) -> TableFile:
    """Read a table; cells are separated by commas and encoded in UTF-8.

    A column without a name is called as pandas calls it, ``Unnamed: 0`` where it is the first one.

    Raises
    ------
    MissingManifestError
        There is no such file.
    ManifestError
        It is of another kind, cannot be read or decoded, has no row, a row that does not fit the header, or two columns
        of one name.

    """
    suffix = path.suffix.lower()
    if suffix not in (*_CSV, *_PARQUET):
        raise ManifestError(f"{path}: {_EXPECTED}")
    if path.is_dir():
        raise ManifestError(f"{path}: is a folder; {_EXPECTED}")
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
        header, lines, columns = _read_parquet(path) if suffix in _PARQUET else _read_csv(path)
    except FileNotFoundError as error:
        raise MissingManifestError(f"{path}: the file is missing; {_EXPECTED}") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ManifestError(
            f"{path}: is not whole, its compressed text ends early or is broken; copy it again"
        ) from error
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read: {error.strerror or error}") from error
    twice = [f"{name!r} {times} times" for name, times in Counter(header).items() if name and times > 1]
    if twice:
        raise ManifestError(
            f"{path}: line 1: expected columns of different names, found {', '.join(twice[:5])}; rename or drop them"
        )
    if not lines:
        raise ManifestError(f"{path}: it has a header and no rows")
    names = [name or _unnamed(i, header) for i, name in enumerate(header)]
    return TableFile(path, lines, dict(zip(names, columns, strict=True)), digest)


def _unnamed(at: int, header: list[str]) -> str:
    name = f"Unnamed: {at}"
    while name in header:  # of a table that pandas read and wrote before
        name += ".1"
    return name


@contextmanager
def _opened(path: Path) -> Iterator[IO[str]]:
    """Open text that may be gzipped, whatever the file's suffix says."""
    with path.open("rb") as raw:
        packed = raw.read(2) == _GZIP
        raw.seek(0)
        stream: Any = gzip.GzipFile(fileobj=raw) if packed else raw
        with io.TextIOWrapper(stream, encoding="utf-8-sig", newline="") as text:
            yield text


def _read_csv(path: Path) -> tuple[list[str], list[int], list[Any]]:
    lines: list[int] = []
    blocks: list[list[Any]] = []
    with _opened(path) as file:
        reader = csv.reader(file, strict=True)
        try:
            header = without_empty_end([name.strip() for name in next(reader, [])], 1)
            if not any(header):
                raise ManifestError(f"{path}: line 1: expected a header, found nothing; give a table with a header")
            rows = _rows(path, reader, len(header))
            while block := list(islice(rows, _ROWS_AT_A_TIME)):
                lines += [line for line, _ in block]
                cells = zip(*(cells for _, cells in block), strict=True)
                blocks.append([pa.array(column, pa.string()) for column in cells])
        except UnicodeDecodeError as error:
            raise ManifestError(
                f"{path}: is not UTF-8 text ({error.reason} after line {reader.line_num}); save it as CSV UTF-8"
            ) from error
        except csv.Error as error:
            raise ManifestError(f"{path}: line {reader.line_num}: is not CSV: {error}") from error
    return header, lines, [pa.chunked_array(list(column)) for column in zip(*blocks, strict=True)]


def _rows(path: Path, reader: Any, width: int) -> Iterator[tuple[int, list[str]]]:
    """Yield line and stripped cells of each row that is not blank."""
    line = reader.line_num + 1
    for raw in reader:
        cells = [cell.strip() for cell in raw]
        if any(cells):
            cells = without_empty_end(cells, width)
            if len(cells) != width:
                raise ManifestError(
                    f"{path}: line {line}: expected {width} cells, as in the header, found {len(cells)}; mend the row"
                )
            yield line, cells
        line = reader.line_num + 1  # a quoted cell can span lines: the next row starts after its end


def _read_parquet(path: Path) -> tuple[list[str], list[int], list[Any]]:
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            table = file.read()
    except pa.ArrowException as error:
        raise ManifestError(f"{path}: is not a Parquet file: {' '.join(str(error).split())}") from error
    names = [str(name).strip() for name in table.column_names]
    return names, list(range(2, table.num_rows + 2)), [_column(column) for column in table.columns]


def _column(column: Any) -> Any:
    """Return a column of Parquet as numbers or as text."""
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return column
    return pa.chunked_array([pa.array([text_of(cell) for cell in column.to_pylist()], pa.string())])


def _floats(column: Any) -> NDArray[np.float64]:
    floats: NDArray[np.float64] = column.cast(pa.float64(), safe=False).to_numpy()
    return floats


def _matches(column: Any, pattern: str) -> NDArray[np.bool_]:
    return _true(pc.match_substring_regex(column, pattern))


def _true(column: Any) -> NDArray[np.bool_]:
    return np.asarray(column.to_numpy(), bool) if len(column) else np.zeros(0, bool)
