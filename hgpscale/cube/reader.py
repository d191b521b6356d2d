"""Open a cube as a lazy xarray dataset; its accessor `.hgp` turns what is selected of it into flat tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from hgpscale.catalog import flat_name
from hgpscale.cube import schema
from hgpscale.record import expected_keys

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PAIR = ("lesion", "segmentation")
_CELL = (*_PAIR, "region", "image_type", "family")


def open_cube(path: str | Path) -> xr.Dataset:
    """Open a cube; features are read when they are used, the manifest's own columns at once.

    Plain ``xarray.open_zarr(path, consolidated=False)`` opens it too. This checks the layout first, orders the
    variables, and gives text as Python strings, because ``where`` and ``reindex`` of xarray have no missing
    value for numpy's own string type. The columns are read at once so that they can select lesions:
    ``cube.where(cube.centre == "A", drop=True)``.

    Returns
    -------
    xarray.Dataset
        Dimensions ``lesion, segmentation, region, image_type, <family>_feature``; one float64 array a family;
        `state`, `error` and what the manifest says. The accessor `.hgp` makes tables (`Tables`).

    Raises
    ------
    CubeError
        Nothing is there, it is not a cube, or it has another layout version.

    """
    root = schema.open_root(path, read_only=True)
    settings = schema.settings_of(root.attrs, path)
    columns = schema.manifest_columns(root)
    dataset = xr.open_zarr(root.store, consolidated=False, zarr_format=3)
    text = {name: array.astype(object) for name, array in dataset.variables.items() if array.dtype.kind == "T"}
    names = [variable.name for variable in schema.variables_of(settings)]
    names[len(schema.VARIABLES) : len(schema.VARIABLES)] = columns
    ordered: xr.Dataset = dataset.assign(text)[names]
    return ordered.assign({name: ordered[name].compute() for name in columns})


@xr.register_dataset_accessor("hgp")  # type: ignore[no-untyped-call]
class Tables:
    """Flat tables of a cube, or of any selection of it by lesion, segmentation, region or image type.

    Examples
    --------
    >>> cube = hgpscale.open_cube("cohort.zarr")  # doctest: +SKIP
    >>> cube.where(cube.centre == "A", drop=True).hgp.to_frame()  # doctest: +SKIP

    """

    def __init__(self, dataset: xr.Dataset) -> None:
        self._dataset = dataset

    def to_frame(self) -> pd.DataFrame:
        """Return one row a lesion: what the manifest says, then the features by pyradiomics' names.

        Columns are ``lesion, patient, image, mask, label, roi`` (roi only where one was given), the
        manifest's other columns, then features such as ``original_glcm_Contrast``. A region other than
        ``lesion``, and a segmentation where there are several, is a prefix, as in
        ``RAD__rim__original_glcm_Contrast``; mask, label and roi carry the segmentation's too. What failed,
        or is pending, is NaN; `failures` says why.
        """
        dataset = self._dataset.drop_vars(["state", "error", "image_digest", "mask_digest"], errors="ignore")
        dataset = dataset.compute()
        lesions = _labels(dataset, "lesion")
        segmentations = _labels(dataset, "segmentation")
        several = len(segmentations) > 1
        columns = {name: _values(dataset, name, ("lesion",)) for name in dataset.attrs[schema.COLUMNS]}
        front: dict[str, Any] = {"lesion": lesions}
        if "patient" in columns:
            front["patient"] = columns.pop("patient")
        front["image"] = _values(dataset, "image_path", ("lesion",))
        asked = _values(dataset, "requested_label", _PAIR)
        for name, values in _by_segmentation(dataset).items():
            for i, segmentation in enumerate(segmentations):
                column = pd.Series(values[:, i])
                if name == "label":  # of a failed row: what the manifest asked for, if anything
                    column = column.where(column != 0, asked[:, i]).astype("Int64")
                    column = column.mask(column == 0)
                front[schema.prefix(segmentation, "lesion", several=several) + name] = column
        names, blocks = self._features(dataset, segmentations)
        features = pd.DataFrame(np.concatenate(blocks, axis=1), columns=names)
        return pd.concat([pd.DataFrame({**front, **columns}), features], axis=1)

    def records(self) -> pd.DataFrame:
        """Return one row per lesion, segmentation, region, image type and family: its state and its error.

        Only rows of the manifest and keys of the settings are listed.
        """
        dataset = self._dataset[["state", "error", "mask"]].compute()
        labels = {dim: _labels(dataset, dim) for dim in _CELL}
        keys = set(expected_keys(schema.settings_of(dataset.attrs)))
        has_key = np.array(
            [[[(r, i, f) in keys for f in labels["family"]] for i in labels["image_type"]] for r in labels["region"]]
        )
        has_row = _values(dataset, "mask", _PAIR) != ""
        cells = np.nonzero(has_row[:, :, None, None, None] & has_key)
        table = {dim: labels[dim][index] for dim, index in zip(_CELL, cells, strict=True)}
        return pd.DataFrame(table | {name: _values(dataset, name, _CELL)[cells] for name in ("state", "error")})

    def failures(self) -> pd.DataFrame:
        """Return those of `records` that failed."""
        records = self.records()
        return records[records["state"] == schema.FAILED].reset_index(drop=True)

    @staticmethod
    def _features(dataset: xr.Dataset, segmentations: NDArray[Any]) -> tuple[list[str], list[NDArray[Any]]]:
        """Return the names of the feature columns, and blocks of values ``(lesion, features of one key)``."""
        names: list[str] = []
        blocks: list[NDArray[Any]] = [np.empty((_labels(dataset, "lesion").size, 0))]
        for segmentation in segmentations:
            for region, image_type, family in expected_keys(schema.settings_of(dataset.attrs)):
                chosen = {"segmentation": segmentation, "region": region, "image_type": image_type}
                if family not in dataset or any(chosen[d] not in _labels(dataset, d) for d in ("region", "image_type")):
                    continue
                dim = f"{family}_feature"
                array = dataset[family]
                array = array.sel({d: label for d, label in chosen.items() if d in array.dims})
                start = schema.prefix(segmentation, region, several=len(segmentations) > 1)
                names += [start + flat_name(image_type, family, name) for name in _labels(dataset, dim)]
                blocks.append(_ordered(array, ("lesion", dim)))
        return names, blocks


def _by_segmentation(dataset: xr.Dataset) -> dict[str, NDArray[Any]]:
    """Return what the manifest says of each segmentation of a lesion, ``(lesion, segmentation)`` each."""
    known = {name: _values(dataset, name, _PAIR) for name in ("mask", "label", "roi")}
    if not (known["roi"] != "").any():
        del known["roi"]
    return known


def _labels(dataset: xr.Dataset, dim: str) -> NDArray[Any]:
    return np.atleast_1d(dataset[dim].values)


def _values(dataset: xr.Dataset, name: str, dims: tuple[str, ...]) -> NDArray[Any]:
    return _ordered(dataset[name], dims)


def _ordered(array: xr.DataArray, dims: tuple[str, ...]) -> NDArray[Any]:
    """Return values with axes `dims`; one along which a single label was selected has length 1."""
    missing = [dim for dim in dims if dim not in array.dims]
    return np.asarray(array.expand_dims(missing).transpose(*dims).values)
