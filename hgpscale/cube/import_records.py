"""What an imported table puts into a cube: its rows as a cohort, its numbers as records."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hgpscale.cohort.manifest import DEFAULT_SEGMENTATION, Cohort, LesionRow
from hgpscale.cube.import_columns import Columns, Place, column_name
from hgpscale.cube.import_read import TableFile
from hgpscale.errors import Failure, ManifestError
from hgpscale.record import Record

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hgpscale.contents import Contents, Key

STAGE = "table"
"""Of a failure: the table has no such number."""

_SHOWN = 5
"""Names that a message lists before it says how many more there are."""


def cohort_of(source: TableFile, columns: Columns, lesions: Sequence[str], patients: Sequence[str]) -> Cohort:
    """Return a table's rows as those of a manifest; the table stands for image and mask."""
    file = _file(source)
    rows = tuple(
        LesionRow(
            line=line,
            lesion=lesion,
            segmentation=DEFAULT_SEGMENTATION,
            patient=patient,
            image=source.path,
            mask=source.path,
            image_text=file,
            mask_text=file,
            label=None,
            roi="",
        )
        for line, lesion, patient in zip(source.lines, lesions, patients, strict=True)
    )
    own: dict[str, Any] = {"patient": pd.Series(patients, dtype="str")}
    for column, name in columns.carried.items():
        own[name] = source.numbers(column).values if is_numeric(source, column) else source.texts(column)
    table = pd.DataFrame(own)
    table.index = pd.Index(list(lesions), name="lesion", dtype="str")
    return Cohort(str(source.path), rows, table)


def is_numeric(source: TableFile, column: str) -> bool:
    """Whether a column that is no feature holds quantities: cells of numbers, or empty ones beside them."""
    return not source.is_empty(column) and not source.is_code(column) and source.numbers(column).wrong is None


@dataclass(frozen=True)
class Vectors:
    """One key's vectors of all rows.

    Attributes
    ----------
    columns
        The column of each feature; '' where the table has none.
    values
        float64, shape ``(row, feature)``; NaN and infinite where the table has no number.
    lacks
        What to say of features without a column; empty where each has one.
    region
        What to say of the region; empty where there is only one.

    """

    columns: tuple[str, ...]
    values: NDArray[np.float64]
    lacks: str
    region: str


def vectors_of(source: TableFile, columns: Columns, contents: Contents) -> dict[Key, Vectors]:
    """Gather a table's numbers by key.

    Raises
    ------
    ManifestError
        In the column of a feature stands something else than a number.

    """
    there = {place: column for column, place in columns.places.items()}
    vectors: dict[Key, Vectors] = {}
    for key in contents.keys:
        places = [Place(*key, feature) for feature in contents.features[key[2]]]
        absent = [column_name(columns.named.prefixes, place) for place in places if place not in there]
        region = f" in region {key[0]}" if len(contents.regions) > 1 else ""
        if len(absent) == len(places):
            lacks = f"{_file(source)} has no column of this family on this image type{region}"
        else:
            lacks = f"{_file(source)} has no column {listed(absent)}" if absent else ""
        values = np.full((len(source.lines), len(places)), math.nan)
        for i, place in enumerate(places):
            if place in there:
                values[:, i] = _numbers(source, there[place], place)
        vectors[key] = Vectors(tuple(there.get(place, "") for place in places), values, lacks, region)
    return vectors


def _numbers(source: TableFile, column: str, place: Place) -> NDArray[np.float64]:
    found = source.numbers(column)
    if found.wrong is None:
        return found.values
    cell = source.texts(column)[found.wrong]
    raise ManifestError(
        f"{source.path}: line {source.lines[found.wrong]}: expected a number such as 0.5 in column {column!r}, found "
        f"{cell!r}; mend or empty the cell, or rename the column if it is not {place.family} {place.feature}"
    )


def records(source: TableFile, lesions: Sequence[str], vectors: Mapping[Key, Vectors]) -> Iterator[Record]:
    """Yield the record of each row."""
    digest = source.digest
    finite = {key: np.isfinite(some.values) for key, some in vectors.items()}
    for row, lesion in enumerate(lesions):
        values: dict[Key, NDArray[np.float64]] = {}
        failures: dict[Key, Failure] = {}
        for key, some in vectors.items():
            known = finite[key][row]
            if known.any():
                values[key] = np.where(known, some.values[row], math.nan)
            if not known.all():
                failures[key] = Failure(STAGE, _reason(some, row, f"{_file(source)} line {source.lines[row]}"))
        yield Record(lesion, DEFAULT_SEGMENTATION, digest, digest, 0, values, failures)


def _reason(vectors: Vectors, row: int, line: str) -> str:
    """Say why numbers of one row are missing; `line` says which."""
    numbers = vectors.values[row]
    if not any(vectors.columns):
        return vectors.lacks
    if not np.isfinite(numbers).any():
        return f"{line} has no number in the columns of this family on this image type{vectors.region}"
    cells = list(zip(vectors.columns, numbers, strict=True))
    empty = [column for column, number in cells if column and math.isnan(number)]
    infinite = [column for column, number in cells if math.isinf(number)]
    parts = [vectors.lacks] if vectors.lacks else []
    parts += [f"{line} is empty in {listed(empty)}"] if empty else []
    return "; ".join([*parts, *([f"{line} is infinite in {listed(infinite)}"] if infinite else [])])


def _file(source: TableFile) -> str:
    """Return the table's name; bytes of it that are no text are escaped, as UTF-8 cannot hold them."""
    return source.path.name.encode("utf-8", "backslashreplace").decode("utf-8")


def listed(names: Sequence[Any], by: str = ", ") -> str:
    """Return names on one line, many of them shortened."""
    more = f"{by}and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return by.join(map(str, names[:_SHOWN])) + more
