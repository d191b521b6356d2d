"""Open a cube as a lazy xarray dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import xarray as xr
import zarr

from hgpscale.catalog import DEEP
from hgpscale.cube import schema
from hgpscale.cube.head import Head, open_root
from hgpscale.cube.tables import Tables

__all__ = ["Tables", "open_cube"]

_LESIONS_A_TASK = 4 * schema.LESION_CHUNK
"""Lesions that one task of Dask reads, of one family on one image type.

Of a slice of a slice Dask reads whole tasks, so that larger ones make `batches` of a selection slow.
"""


def open_cube(path: str | Path) -> xr.Dataset:
    """Open a cube; whatever is not a label or a column of the manifest is read when it is used.

    Of a cube that is not finished, or has numbers of networks, the states are read at once: what they call done is
    there, whatever a run adds later.

    Plain ``xarray.open_zarr(path, consolidated=False)`` opens it too. This checks the layout first, orders the
    variables, shows of a cube that a run is adding to what it was before, and gives text as Python strings, because
    ``where`` and ``reindex`` of xarray have no missing value for numpy's own string type. The manifest's columns are
    read at once so that they can select lesions: ``cube.hgp.select(centre="A")`` or
    ``cube.where(cube.centre == "A", drop=True)``.

    Parameters
    ----------
    path
        Its folder, or its address ``s3://bucket/key.zarr``.

    Returns
    -------
    xarray.Dataset
        Dimensions ``lesion, segmentation, region, image_type, <family>_feature``; one float64 array a family, lazy
        over Dask; `state`, `error` and what the manifest says. The accessor `.hgp` makes tables (`Tables`).

    Raises
    ------
    CubeError
        Nothing is there, it is not a cube, it has another layout version, or it is damaged.

    """
    root, head = open_root(path, read_only=True)
    variables = {variable.name: _variable(root, variable, head) for variable in head.variables}
    coordinates = {name: v for name, v in variables.items() if v.dims == (name,)}
    data = {name: v for name, v in variables.items() if name not in coordinates}
    return xr.Dataset(data, coordinates, head.attributes())


def _variable(root: zarr.Group, variable: schema.Variable, head: Head) -> xr.Variable:
    array = root[variable.name]
    counts = tuple(slice(size) for size in variable.shape(head.lengths))
    values: Any
    # A run may be writing: states are read before any number, so that what they call done is there.
    is_snapshot = variable.name == "state" and (not head.finished or DEEP in head.contents.features)
    if variable.name in head.columns or len(variable.dims) == 1 or is_snapshot:
        values = array[counts]
    else:
        # Files of which each lesion has one are small: a task reads all.
        lesions = _LESIONS_A_TASK if "region" in variable.dims else -1
        chunks = [lesions, *(-1 if chunk > 1 else 1 for chunk in array.chunks[1:])]
        values = da.from_array(array, chunks=chunks, name=False, inline_array=False, asarray=True)[counts]
    if variable.dtype == "string":
        values = values.astype(object)
    attributes = {"long_name": variable.long_name, **variable.attributes}
    return xr.Variable(variable.dims, values, attributes)
