"""The accessor `.hgp`: flat tables, batches, selections and rater agreement of a cube, or of any part of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from hgpscale.catalog import LESION, ORIGINAL, flat_name
from hgpscale.contents import Key
from hgpscale.cube import batches, schema
from hgpscale.cube.agreement import icc
from hgpscale.cube.arrays import PAIR, are_final, blocks, has_row, labels_of, numbers_of, ordered
from hgpscale.cube.head import COLUMNS, Head
from hgpscale.errors import CubeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CELL = schema.LABELS
_LESIONS_AT_A_TIME = 16 * schema.LESION_CHUNK
"""Lesions whose states are looked at together."""


@xr.register_dataset_accessor("hgp")  # type: ignore[no-untyped-call]
class Tables:
    """Flat tables of a cube, or of any selection of it by lesion, segmentation, region, image type or feature.

    Examples
    --------
    >>> cube = hgpscale.open_cube("cohort.zarr")  # doctest: +SKIP
    >>> cube.hgp.select(centre="A", features="glcm_*").hgp.to_frame()  # doctest: +SKIP

    """

    def __init__(self, dataset: xr.Dataset) -> None:
        self._dataset = dataset

    @cached_property
    def keys(self) -> tuple[Key, ...]:
        """The vectors that are selected, ``(region, image_type, family)``, in pyradiomics' order."""
        labels = {dim: set(labels_of(self._dataset, dim)) for dim in ("region", "image_type", "family")}
        return tuple(
            (region, image, family)
            for region, image, family in Head.of(self._dataset.attrs).contents.keys
            if region in labels["region"]
            and image in labels["image_type"]
            and family in labels["family"]
            and family in self._dataset
        )

    def select(
        self,
        *,
        lesions: str | Iterable[str] | None = None,
        segmentations: str | Iterable[str] | None = None,
        regions: str | Iterable[str] | None = None,
        image_types: str | Iterable[str] | None = None,
        features: str | Iterable[str] | None = None,
        **columns: Any,
    ) -> xr.Dataset:
        """Return a part of the cube.

        Parameters
        ----------
        lesions, segmentations, regions, image_types
            Names, or shell patterns such as ``wavelet-*``; None: all. The cube's order is kept.
        features
            Patterns of ``<family>_<feature>``, such as ``glcm_*`` or ``*_Entropy``. Families without any are left out.
            Units and ids, lists that stand on the names of the features, are cut likewise.
        **columns
            A column of the manifest and the value, or the values, that a lesion may have there: ``centre="A"``.

        Raises
        ------
        CubeError
            A name or pattern selects nothing, there is no such column, or no lesion has such a value.

        """
        dataset = self._dataset
        asked = {"lesion": lesions, "segmentation": segmentations, "region": regions, "image_type": image_types}
        for dim, patterns in asked.items():
            if patterns is not None:
                labels = labels_of(dataset, dim).tolist()
                chosen = _matching(labels, _listed(patterns), dim)
                dataset = _taken(dataset, dim, [label in chosen for label in labels])
        for name, values in columns.items():
            if name not in dataset.attrs[COLUMNS]:
                raise CubeError(f"no column {name!r} in the cube; it has {', '.join(dataset.attrs[COLUMNS])}")
            dataset = _taken(dataset, "lesion", _having(dataset, name, _listed(values)))
        return dataset if features is None else _with_features(dataset, _listed(features))

    def to_frame(self, *, tidy: bool = False) -> pd.DataFrame:
        """Return a flat table.

        Parameters
        ----------
        tidy
            False: one row a lesion. Columns are ``lesion, patient, image, mask, label, roi`` (roi only where one was
            given), the manifest's other columns, then features such as ``original_glcm_Contrast``. A region other than
            ``lesion``, and a segmentation where there are several, is a prefix, as in
            ``RAD__rim__original_glcm_Contrast``; mask, label and roi carry the segmentation's too.
            True: one row a number, with the columns ``lesion, patient, segmentation, region, image_type, family,
            feature, value``; only rows of the manifest.

        What failed, or is pending, is NaN; `failures` says why.
        """
        return pd.concat(list(batches.tidy(self)), ignore_index=True) if tidy else batches.whole(self)

    def batches(
        self, size: int, target: str | Iterable[str] | None = None, *, shuffle: int | None = None
    ) -> Iterator[Any]:
        """Yield tables of at most `size` rows, for models with ``partial_fit``.

        Memory is bounded by the size; of a selection in random order by that of 4096 lesions, where that is more.

        A row is one lesion as one segmentation outlines it, with the index ``(lesion, segmentation)``; columns are
        features by pyradiomics' names, with the region as a prefix as in `to_frame`. Rows without any number are left
        out; single numbers may be NaN.

        Parameters
        ----------
        size
            Rows a table; the last one may have fewer.
        target
            One column of the manifest, or several.
        shuffle
            Seed of a random order; None: the cube's order. Blocks of lesions are drawn, and their rows mixed as far as
            a batch's memory goes: not every order is possible.

        Yields
        ------
        pandas.DataFrame or (DataFrame, Series or DataFrame)
            Features; with `target` also its values, one a row.

        Raises
        ------
        ValueError
            `size` is not positive.
        CubeError
            There is no column `target`.

        """
        if size < 1:
            raise ValueError(f"size must be at least 1, found {size}")
        wanted = [] if target is None else _listed(target)
        for name in wanted:
            if name not in self._dataset.attrs[COLUMNS]:
                raise CubeError(f"no column {name!r} in the cube; it has {', '.join(self._dataset.attrs[COLUMNS])}")
        columns = {name: ordered(self._dataset[name], ("lesion",)) for name in wanted}
        for numbers, lesions, raters, at in batches.pieces(self, size, shuffle):
            index = pd.MultiIndex.from_arrays([lesions, raters], names=list(PAIR))
            frame = pd.DataFrame(numbers, index, self.names(prefixed=False))
            if target is None:
                yield frame
            else:
                values = pd.DataFrame({name: column[at] for name, column in columns.items()}, index)
                yield frame, values[target] if isinstance(target, str) else values

    def records(self) -> pd.DataFrame:
        """Return one row per lesion, segmentation, region, image type and family: its state and its error.

        Only rows of the manifest and keys of the settings are listed.
        """
        return pd.concat(list(self.records_by_block()), ignore_index=True)

    def records_by_block(self) -> Iterator[pd.DataFrame]:
        """Yield the rows of `records`, some lesions at a time."""
        dataset, rows = self._dataset[["state", "error"]], has_row(self._dataset)
        labels = {dim: labels_of(dataset, dim) for dim in _CELL}
        keys = set(self.keys)
        has_key = np.array(
            [[[(r, i, f) in keys for f in labels["family"]] for i in labels["image_type"]] for r in labels["region"]]
        )
        for where, block in blocks(dataset, _LESIONS_AT_A_TIME):
            cells = np.nonzero(rows[where][:, :, None, None, None] & has_key)
            here = {**labels, "lesion": labels_of(block, "lesion")}
            table = {dim: here[dim][index] for dim, index in zip(_CELL, cells, strict=True)}
            yield pd.DataFrame(table | {name: ordered(block[name], _CELL)[cells] for name in ("state", "error")})

    def failures(self) -> pd.DataFrame:
        """Return those of `records` that failed."""
        blocks = [records[records["state"] == schema.FAILED] for records in self.records_by_block()]
        return pd.concat(blocks, ignore_index=True)

    def icc(self, confidence: float = 0.95) -> pd.DataFrame:
        """Return how far the segmentations agree, one row a feature.

        Columns are `n` (lesions that every segmentation has the feature of) and, for each of ICC(1,1), ICC(2,1) and
        ICC(3,1), `icc1`, `icc1_low`, `icc1_high` and so on; see `agreement.icc`.

        Raises
        ------
        CubeError
            There are fewer than two segmentations, or no features.

        """
        raters = labels_of(self._dataset, "segmentation")
        if len(raters) < 2:
            raise CubeError(f"agreement needs at least two segmentations, found {', '.join(raters)}")
        if not self.keys:
            raise CubeError("agreement needs features, and this part of the cube has none; select more of it")
        parts = [icc(self.vectors(key), confidence=confidence) for key in self.keys]
        table = pd.concat([pd.DataFrame(part._asdict()) for part in parts], ignore_index=True)
        return table.set_index(pd.Index(self.names(prefixed=False), name="feature"))

    def volume_spread(self) -> pd.DataFrame:
        """Return how much the segmentations' volumes of each lesion differ, one row a lesion.

        Columns are the volume in mm³ of each segmentation (``original_shape_VoxelVolume`` of the region `lesion`; NaN
        where it is not known), `n` (how many are known) and `spread`, the largest over the smallest (NaN where fewer
        than two are). Dice needs the masks: see `hgpscale check --figures`, and `cohort.raters`.

        Raises
        ------
        CubeError
            The cube, or the selected part of it, has no VoxelVolume of the region `lesion`.

        """
        key = (LESION, ORIGINAL, "shape")
        features = list(labels_of(self._dataset, "shape_feature")) if key in self.keys else []
        if "VoxelVolume" not in features:
            raise CubeError(
                "volumes need original_shape_VoxelVolume of region lesion, which this part of the cube lacks"
            )
        numbers, at = self.vectors(key), features.index("VoxelVolume")
        index = pd.Index(labels_of(self._dataset, "lesion"), name="lesion")
        table = pd.DataFrame(numbers[..., at], index, labels_of(self._dataset, "segmentation"))
        known = table.notna().sum(axis=1)
        return table.assign(n=known, spread=(table.max(axis=1) / table.min(axis=1)).where(known > 1))

    def vectors(self, key: Key) -> NDArray[np.float64]:
        """Return one key's features, shape ``(lesion, segmentation, feature)``."""
        return numbers_of(self._with_states, [key])

    @cached_property
    def _with_states(self) -> xr.Dataset:
        """The dataset with its states read once, where they are needed."""
        dataset = self._dataset
        return dataset if are_final(dataset, self.keys) else dataset.assign(state=dataset["state"].compute())

    def names(self, *, prefixed: bool = True) -> list[str]:
        """Return the names of the feature columns; `prefixed`: of all segmentations, with those as a prefix."""
        raters = labels_of(self._dataset, "segmentation") if prefixed else [""]
        return [
            schema.prefix(rater, region, several=len(raters) > 1) + flat_name(image, family, name)
            for rater in raters
            for region, image, family in self.keys
            for name in labels_of(self._dataset, f"{family}_feature")
        ]

    @property
    def dataset(self) -> xr.Dataset:
        """The cube, or the part of it."""
        return self._dataset


def _with_features(dataset: xr.Dataset, patterns: list[str]) -> xr.Dataset:
    families = dict.fromkeys(family for _, _, family in Tables(dataset).keys)
    names = {family: [f"{family}_{name}" for name in labels_of(dataset, f"{family}_feature")] for family in families}
    chosen = _matching([name for some in names.values() for name in some], patterns, "feature")
    for family in filter(dataset.__contains__, Head.of(dataset.attrs).contents.features):
        dim = f"{family}_feature"
        has = [name in chosen for name in names.get(family, [])]
        if any(has):
            about = {name: _cut(attribute, has) for name, attribute in dataset[dim].attrs.items()}
            dataset = _taken(dataset, dim, has)
            dataset = dataset.assign_coords({dim: dataset[dim].assign_attrs(about)})
        else:
            dataset = dataset.drop_vars([family, dim])
    return _taken(dataset, "family", [family in dataset for family in labels_of(dataset, "family")])


def _cut(attribute: Any, has: list[bool]) -> Any:
    """Return what an attribute says of the chosen features, where it is a list with an entry for each."""
    if not isinstance(attribute, list) or len(attribute) != len(has):
        return attribute
    return [entry for entry, chosen in zip(attribute, has, strict=True) if chosen]


def _matching(labels: list[str], patterns: list[str], what: str) -> set[str]:
    known = set(labels)
    chosen: set[str] = set()
    for pattern in patterns:
        # A name may look like a pattern, and many names are found faster than many patterns.
        found = [pattern] if pattern in known else [label for label in labels if fnmatchcase(label, str(pattern))]
        if not found:
            raise CubeError(f"no {what} matches {pattern!r}; there are {_some(labels)}")
        chosen.update(found)
    if not chosen:
        raise CubeError(f"the list of names of {what} is empty; there are {_some(labels)}")
    return chosen


def _having(dataset: xr.Dataset, column: str, values: list[Any]) -> NDArray[np.bool_]:
    """Return which lesions have one of some values in a column of the manifest."""
    has = pd.Series(ordered(dataset[column], ("lesion",)))
    having = has.isin(values).to_numpy()
    if not having.any():
        known = [repr(value) for value in sorted(has.dropna().unique().tolist())]
        raise CubeError(f"no lesion has {column} {_some([*map(repr, values)])}; there are {_some(known)}")
    return having


def _some(labels: Sequence[str]) -> str:
    return (", ".join(labels[:8]) or "none") + (", ..." if len(labels) > 8 else "")


def _listed(values: Any) -> list[Any]:
    return [values] if isinstance(values, str) or not isinstance(values, Iterable) else list(values)


def _taken(dataset: xr.Dataset, dim: str, chosen: Any) -> xr.Dataset:
    """Return the chosen labels of a dimension; one that is no dimension any more, but a single label, stays."""
    return dataset.isel({dim: _where(chosen)}) if dim in dataset.dims else dataset


def _where(chosen: Any) -> Any:
    """Return a slice where that selects the same: only slices are handed through to the storage."""
    index = np.flatnonzero(chosen)
    if index.size and index[-1] - index[0] + 1 == index.size:
        return slice(int(index[0]), int(index[-1]) + 1)
    return index
