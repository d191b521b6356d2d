"""A cube as tables, some lesions at a time: wide, tidy, or as batches for models that learn piece by piece."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from hgpscale.cube import schema
from hgpscale.cube.arrays import PAIR, blocks, has_row, labels_of, needed_of, numbers_of, ordered
from hgpscale.cube.head import COLUMNS

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

    from hgpscale.cube.tables import Tables

_LESIONS_AT_A_TIME = 16 * schema.LESION_CHUNK
"""Lesions whose features are held twice while a wide table is made."""

_MIXED = 4
"""Tasks of Dask that are mixed where a selection is read in random order."""

_UNTOUCHED = 2
"""Layers of the graph of an array as `open_cube` makes it."""

_NUMBERS_AT_A_TIME = 1_000_000
"""Rows of a tidy table that are made at once."""


def wide(tables: Tables) -> Iterator[pd.DataFrame]:
    """Yield the wide table of `Tables.to_frame`, some lesions at a time."""
    names, front = tables.names(), _front(tables.dataset)
    for where, block in blocks(_features(tables), _LESIONS_AT_A_TIME):
        numbers = numbers_of(block, tables.keys)
        features = pd.DataFrame(numbers.reshape(len(numbers), len(names)), columns=names, copy=False)
        yield pd.concat([front[where].reset_index(drop=True), features], axis=1)


def whole(tables: Tables) -> pd.DataFrame:
    """Return the wide table at once: what `wide` yields, without a second copy of the numbers."""
    names, front = tables.names(), _front(tables.dataset)
    features = np.empty((len(front), len(names)))
    for where, block in blocks(_features(tables), _LESIONS_AT_A_TIME):
        features[where] = numbers_of(block, tables.keys).reshape(features[where].shape)
    return pd.concat([front, pd.DataFrame(features, columns=names, copy=False)], axis=1)


def tidy(tables: Tables) -> Iterator[pd.DataFrame]:
    """Yield the tidy table of `Tables.to_frame`, some lesions at a time."""
    named = [
        (region, image, family, str(feature))
        for region, image, family in tables.keys
        for feature in labels_of(tables.dataset, f"{family}_feature")
    ]
    columns = [pd.Categorical([name[i] for name in named]) for i in range(4)]
    # pandas finds the type of text once, not for each block: it cannot where a block has no row.
    ids = {name: pd.Series(values).array for name, values in _ids(tables.dataset).items()}
    rows = has_row(tables.dataset)
    numbers_a_lesion = len(named) * labels_of(tables.dataset, "segmentation").size
    for where, block in blocks(_features(tables), max(1, _NUMBERS_AT_A_TIME // max(numbers_a_lesion, 1))):
        lesion, rater = np.nonzero(rows[where])
        numbers = numbers_of(block, tables.keys)[lesion, rater]
        at = {"lesion": lesion + where.start, "patient": lesion + where.start, "segmentation": rater}
        table: dict[str, Any] = {name: values.take(np.repeat(at[name], len(named))) for name, values in ids.items()}
        for name, column in zip(("region", "image_type", "family", "feature"), columns, strict=True):
            table[name] = pd.Categorical.from_codes(np.tile(column.codes, len(lesion)), dtype=column.dtype)
        yield pd.DataFrame({**table, "value": numbers.reshape(-1)})


def by_row(tables: Tables) -> Iterator[pd.DataFrame]:
    """Yield pyradiomics' batch layout, some lesions at a time: a row each that the manifest has.

    Columns are ``Patient``, the manifest's other columns, ``Lesion``, ``Segmentation``, ``Image``, ``Mask``, ``Label``,
    then the features, with no prefix but that of a region.
    """
    dataset, names, rows = tables.dataset, tables.names(prefixed=False), has_row(tables.dataset)
    columns = {name: _whole(values) for name, values in _columns(dataset).items()}
    patient = {"Patient": columns.pop("patient")} if "patient" in columns else {}
    ids = _ids(dataset)
    of_lesion = {**patient, **columns, "Lesion": ids["lesion"]}
    image, mask, label = ordered(dataset["image_path"], ("lesion",)), ordered(dataset["mask"], PAIR), _labels(dataset)
    for where, block in blocks(_features(tables), _LESIONS_AT_A_TIME):
        lesion, rater = np.nonzero(rows[where])
        at = lesion + where.start
        front = {name: values[at] for name, values in of_lesion.items()}
        front |= {"Segmentation": ids["segmentation"][rater], "Image": image[at], "Mask": mask[at, rater]}
        front["Label"] = _nullable(label[at, rater])
        features = pd.DataFrame(numbers_of(block, tables.keys)[lesion, rater], columns=names)
        yield pd.concat([pd.DataFrame(front), features], axis=1)


def _features(tables: Tables) -> xr.Dataset:
    """Return what tables are made of; where no family is selected the states, which have a lesion's place too."""
    return tables.dataset[needed_of(tables.dataset, tables.keys) or ["state"]]


def _ids(dataset: xr.Dataset) -> dict[str, NDArray[Any]]:
    patient = {"patient": ordered(dataset["patient"], ("lesion",))} if "patient" in dataset.attrs[COLUMNS] else {}
    return {
        "lesion": labels_of(dataset, "lesion"),
        **patient,
        "segmentation": labels_of(dataset, "segmentation"),
    }


def _columns(dataset: xr.Dataset) -> dict[str, NDArray[Any]]:
    return {name: ordered(dataset[name], ("lesion",)) for name in dataset.attrs[COLUMNS]}


def _front(dataset: xr.Dataset) -> pd.DataFrame:
    """Return the columns of the wide table that come from the manifest."""
    raters = labels_of(dataset, "segmentation")
    columns = _columns(dataset)
    front: dict[str, Any] = {"lesion": labels_of(dataset, "lesion")}
    if "patient" in columns:
        front["patient"] = columns.pop("patient")
    front["image"] = ordered(dataset["image_path"], ("lesion",))
    known = {"mask": ordered(dataset["mask"], PAIR), "label": _labels(dataset), "roi": ordered(dataset["roi"], PAIR)}
    if not (known["roi"] != "").any():
        del known["roi"]
    for name, values in known.items():
        for i, rater in enumerate(raters):
            column = schema.prefix(rater, "lesion", several=len(raters) > 1) + name
            front[column] = _nullable(values[:, i]) if name == "label" else values[:, i]
    return pd.DataFrame({**front, **{name: _whole(values) for name, values in columns.items()}})


def _labels(dataset: xr.Dataset) -> NDArray[Any]:
    """Return the mask values that were measured; of a failed row what the manifest asked for, if anything."""
    used, asked = (np.nan_to_num(ordered(dataset[name], PAIR)) for name in ("label", "requested_label"))
    return np.asarray(np.where(used != 0, used, asked))


def _nullable(label: NDArray[Any]) -> Any:
    return pd.arrays.IntegerArray(label.astype(np.int64), label == 0)


class Piece(NamedTuple):
    """Some rows of a cube.

    Attributes
    ----------
    numbers
        float64, shape ``(row, feature)``.
    lesions, segmentations
        Which rows.
    at
        Positions of the lesions in the dataset.

    """

    numbers: NDArray[np.float64]
    lesions: NDArray[Any]
    segmentations: NDArray[Any]
    at: NDArray[np.int64]

    def take(self, index: Any) -> Piece:
        """Return some of the rows."""
        return Piece(*(part[index] for part in self))


def pieces(tables: Tables, size: int, shuffle: int | None) -> Iterator[Piece]:
    """Yield the rows that have a number, `size` at a time; see `Tables.batches`."""
    parts, is_selected = _parts(_features(tables))
    rng = None if shuffle is None else np.random.default_rng(shuffle)
    if rng is not None:
        parts = [parts[i] for i in rng.permutation(len(parts))]
    there = has_row(tables.dataset)
    held: list[Piece] = []
    while parts:
        group = parts[: 1 if rng is None or not is_selected else _MIXED]
        while len(group) < len(parts) and sum(part.stop - part.start for part in group) < size:
            group.append(parts[len(group)])
        parts = parts[len(group) :]
        if rng is None:
            group = [slice(group[0].start, group[-1].stop)]
        rows = _joined([*held, *(_read(tables, there, part) for part in group)])
        if rng is not None:
            rows = rows.take(rng.permutation(len(rows.numbers)))
        whole = len(rows.numbers) // size * size
        for start in range(0, whole, size):
            yield rows.take(slice(start, start + size))
        held = [rows.take(slice(whole, None))]
    if held and len(held[0].numbers):
        yield held[0]


def _parts(dataset: xr.Dataset) -> tuple[list[slice], bool]:
    """Return the lesions in parts that are read at once, and whether the dataset is a selection.

    Dask hands one slice through to the storage. Of a selection it has whole tasks read, each time that any of a task is
    asked for, so these are the parts. In random order some are mixed, since each is many lesions in a row.
    """
    n_lesion = labels_of(dataset, "lesion").size
    first = next(iter(dataset.data_vars.values())).variable
    lengths: Sequence[int] = [schema.LESION_CHUNK] * math.ceil(n_lesion / schema.LESION_CHUNK)
    is_selected = "lesion" in first.chunksizes and len(first.data.dask.layers) > _UNTOUCHED
    if is_selected:
        lengths = first.chunksizes["lesion"]
    ends = [min(int(end), n_lesion) for end in np.cumsum(lengths)]
    return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False) if end > start], is_selected


def _joined(parts: list[Piece]) -> Piece:
    return parts[0] if len(parts) == 1 else Piece(*(np.concatenate(some) for some in zip(*parts, strict=True)))


def _read(tables: Tables, there: NDArray[np.bool_], where: slice) -> Piece:
    dataset = _features(tables)
    if "lesion" in dataset.dims:
        dataset = dataset.isel(lesion=where)
    dataset = dataset.compute()
    lesion, rater = np.nonzero(there[where])
    numbers = numbers_of(dataset, tables.keys)[lesion, rater]
    some = np.isfinite(numbers).any(axis=1)
    lesion, rater = lesion[some], rater[some]
    at = where.start + lesion
    return Piece(numbers[some], labels_of(dataset, "lesion")[lesion], labels_of(dataset, "segmentation")[rater], at)


def _whole(values: NDArray[Any]) -> Any:
    """Return numbers as whole ones where all are."""
    if values.dtype.kind != "f" or not np.isfinite(values).any():
        return values
    known = values[np.isfinite(values)]
    if (known != np.rint(known)).any() or np.isinf(values).any():
        return values
    return values.astype(np.int64) if len(known) == len(values) else pd.array(values, dtype="Int64")
