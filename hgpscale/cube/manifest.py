"""What a manifest puts into a cube, and how a second manifest differs from what is there.

Lesions, segmentations, columns and values that were missing are added. What says otherwise than the cube is told; of
rows that have numbers, or of columns, it is taken over only by an update.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import eq
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from hgpscale.catalog import column_problems
from hgpscale.cube import schema
from hgpscale.errors import CubeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hgpscale.cohort.manifest import Cohort
    from hgpscale.cube.head import Head

Row = tuple[str, str]
"""``(lesion, segmentation)``: one row of the manifest."""

_CHUNKS_AT_A_TIME = 16
"""Zarr takes half the time for each that it takes for one alone."""

_REGION = ("requested_label", "roi")
"""Variables that decide which voxels are measured: what differs there makes other numbers."""


@dataclass
class Told:
    """All that the cube shall hold of its manifests, as far as this one speaks of it, and what is new or otherwise.

    Attributes
    ----------
    lesions, segmentations
        Labels, those of the cube first, each with its position.
    columns
        dtype by name, those of the cube first.
    tables
        Values after the manifest was taken over, by variable; `object`, or float64 for columns of numbers.
    changed
        Where `tables` differs from the cube, by variable.
    differences
        One line for each value of the cube that the manifest contradicts, where numbers or columns hang on it.
    stale
        Rows with numbers of which another region is asked now.
    mended
        Rows without numbers whose files or region are other ones now.
    added
        Rows that the cube did not have.

    """

    lesions: dict[str, int]
    segmentations: dict[str, int]
    columns: dict[str, str]
    tables: dict[str, NDArray[Any]] = field(default_factory=dict)
    changed: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)
    stale: set[Row] = field(default_factory=set)
    mended: set[Row] = field(default_factory=set)
    added: int = 0

    def blocks(self) -> Iterator[tuple[str, slice, NDArray[Any]]]:
        """Yield what must be written, some chunks that follow each other at a time: variable, lesions, values."""
        for name, changed in self.changed.items():
            lesions = changed.reshape(changed.shape[0], -1).any(axis=1)
            chunks = np.unique(np.flatnonzero(lesions) // schema.LESION_CHUNK)
            for run in np.split(chunks, np.flatnonzero(np.diff(chunks) > 1) + 1):
                for i in range(0, len(run), _CHUNKS_AT_A_TIME):
                    some = run[i : i + _CHUNKS_AT_A_TIME]
                    where = slice(int(some[0]) * schema.LESION_CHUNK, (int(some[-1]) + 1) * schema.LESION_CHUNK)
                    yield name, where, self.tables[name][where]


def check_names(path: str | Path, cohort: Cohort) -> None:
    """Refuse a cohort with columns that no cube can hold; `read_manifest` has refused those of a file."""
    wrong = column_problems(map(str, cohort.columns.columns))
    if wrong:
        raise CubeError(f"{path}: {cohort.source}: {'; '.join(wrong)}; rename {'it' if len(wrong) == 1 else 'them'}")


def compare(
    path: str | Path,
    cohort: Cohort,
    root: zarr.Group,
    head: Head | None,
    labels: Mapping[str, Mapping[str, int]],
    numbers: NDArray[np.bool_],
) -> Told:
    """Lay a manifest over what a cube holds.

    Parameters
    ----------
    path
        The cube, for messages.
    cohort
        The manifest.
    root, head
        The cube; head is None where it is new.
    labels
        Position of every label of the cube, by dimension; empty where it is new.
    numbers
        Which rows of the cube have numbers, bool, shape ``(lesion, segmentation)``.

    Raises
    ------
    CubeError
        A column holds numbers in the cube and something else in the manifest.

    """
    lesions = cohort.lesions
    own = _own_columns(cohort, lesions)
    stored = {} if head is None else {variable.name: variable for variable in head.variables}
    columns = {} if head is None else dict(head.columns)
    told = Told(
        _extended(labels.get("lesion", {}), lesions),
        _extended(labels.get("segmentation", {}), cohort.segmentations),
        columns | {name: _dtype(values) for name, values in own.items() if name not in columns},
    )
    shape = len(told.lesions), len(told.segmentations)
    wanted = ["image_path", "mask", *_REGION, *told.columns]
    variables = {v.name: v for v in schema.VARIABLES} | {
        name: schema.column_variable(name, dtype) for name, dtype in told.columns.items()
    }
    for name in wanted:
        variable = variables[name]
        size = shape[: len(variable.dims)]
        told.tables[name] = np.full(size, variable.fill_value, float if variable.dtype == "float64" else object)
        told.changed[name] = np.zeros(size, bool)
        if name in stored and head is not None:
            there = root[name][tuple(slice(head.sizes[dim]) for dim in variable.dims)]
            told.tables[name][tuple(slice(n) for n in there.shape)] = there
    had = np.zeros(shape, bool)
    had[tuple(slice(n) for n in numbers.shape)] = numbers
    _lay_rows(told, cohort, had)
    for name, values in own.items():
        _lay_column(path, told, cohort, name, zip(lesions, values, strict=True))
    return told


def _own_columns(cohort: Cohort, lesions: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Return the manifest's own columns, patient first, one value a lesion in the order of `lesions`."""
    table = cohort.columns
    # A look-up by label would leave an index of them all in memory.
    if len(table) != len(lesions) or not all(map(eq, table.index, lesions)):
        table = table.loc[list(lesions)]
    names = sorted(table.columns, key=lambda name: name != "patient")
    return {str(name): schema.column_values(table[name]) for name in names}


def _dtype(values: NDArray[Any]) -> str:
    return "float64" if values.dtype.kind == "f" else "string"


def _extended(known: Mapping[str, int], more: Iterable[str]) -> dict[str, int]:
    """Return the positions of the labels that are known, and of more behind them."""
    positions = dict(known)
    for label in more:
        positions.setdefault(label, len(positions))
    return positions


def _lay_rows(told: Told, cohort: Cohort, had: NDArray[np.bool_]) -> None:
    mask = told.tables["mask"]
    seen = np.zeros(len(told.lesions), bool)
    names = ("lesion", "segmentation", "image_text", "mask_text", "label", "roi")
    for lesion, segmentation, image_text, mask_text, label, roi in cohort.cells(*names):
        cell = told.lesions[lesion], told.segmentations[segmentation]
        if not seen[cell[0]]:  # of a lesion's rows the first one names the image
            seen[cell[0]] = True
            _lay_image(told, lesion, image_text, had[cell[0]])
        wanted = (("mask", mask_text), ("requested_label", label or 0), ("roi", roi))
        if mask[cell] == "":
            told.added += 1
            for name, new in wanted:
                _set(told, name, cell, new)
            continue
        for name, new in wanted:
            old = told.tables[name][cell]
            if old == new:
                continue
            if had[cell]:
                rater = f", segmentation {segmentation!r}"
                told.differences.append(_difference(lesion, name, old, new, rater))
                if name in _REGION:
                    told.stale.add((lesion, segmentation))
            else:
                told.mended.add((lesion, segmentation))
            _set(told, name, cell, new)


def _lay_image(told: Told, lesion: str, new: str, had: NDArray[np.bool_]) -> None:
    """Compare a lesion's image with that of all rows that the cube has of it, also those that the manifest has not."""
    at = told.lesions[lesion]
    old = told.tables["image_path"][at]
    if old == new:
        return
    if had.any():
        told.differences.append(_difference(lesion, "image_path", old, new))
    known = told.tables["mask"][at] != ""
    told.mended.update((lesion, rater) for rater, j in told.segmentations.items() if known[j] and not had[j])
    _set(told, "image_path", (at,), new)


def _difference(lesion: str, name: str, old: Any, new: Any, rater: str = "") -> str:
    return f"lesion {lesion!r}{rater}: {schema.MANIFEST_NAMES.get(name, name)} is {old!r} in the cube, now {new!r}"


def _lay_column(path: str | Path, told: Told, cohort: Cohort, name: str, values: Iterable[tuple[str, Any]]) -> None:
    """Lay one column over the cube's, of which `values` has each lesion with its value."""
    table = told.tables[name]
    for lesion, value in values:
        new = _converted(path, cohort, lesion, name, value, told.columns[name])
        old = table[told.lesions[lesion]]
        if _is_missing(new) or old == new:
            continue
        if not _is_missing(old):
            told.differences.append(_difference(lesion, name, _plain(old), _plain(new)))
        _set(told, name, (told.lesions[lesion],), new)


def _converted(path: str | Path, cohort: Cohort, lesion: str, name: str, value: Any, dtype: str) -> Any:
    """Return a value as a column of `dtype` holds it."""
    if dtype == "string":
        return value if isinstance(value, str) else "" if math.isnan(value) else str(_plain(value))
    if not isinstance(value, str):
        return float(value)
    try:
        return float(value) if value else math.nan
    except ValueError as error:
        raise CubeError(
            f"{path}: column {name!r} holds numbers in the cube, but {value!r} for lesion {lesion!r} in "
            f"{cohort.source}; write a number, or rename the column"
        ) from error


def _is_missing(value: Any) -> bool:
    return bool(value == "" or value != value)


def _plain(value: Any) -> Any:
    """Return a number as people write it: whole ones without a point."""
    if not isinstance(value, float):
        return value
    return int(value) if value.is_integer() else float(value)  # numpy's own would be shown with its type


def _set(told: Told, name: str, cell: tuple[int, ...], value: Any) -> None:
    told.tables[name][cell] = value
    told.changed[name][cell] = True


def rows_of(lesions: Mapping[str, int], segmentations: Mapping[str, int], mask: NDArray[Any]) -> list[Row]:
    """Return the rows of a cube: wherever there is a mask."""
    names, raters = list(lesions), list(segmentations)
    return [(names[i], raters[j]) for i, j in np.argwhere(mask != "")]
