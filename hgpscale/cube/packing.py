"""Seal a cube for sharing: the same content in few files, with all metadata in one."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import zarr

from hgpscale.cube import schema, store
from hgpscale.cube.head import Head, open_root
from hgpscale.cube.lock import owner
from hgpscale.cube.making import making, opening
from hgpscale.errors import CubeError, CubeWriteError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SHARD_NUMBERS = 8_000_000
"""Numbers in one file, about: 64 MB before compression, which are held twice while they are written."""


class Packed(NamedTuple):
    """What `pack` did: number of files and bytes of the cube and of its sealed copy."""

    path: str | Path
    packed: str | Path
    files: int
    bytes: int
    packed_files: int
    packed_bytes: int


def pack(
    path: str | Path, packed: str | Path | None = None, *, on_progress: Callable[[int, int], None] | None = None
) -> Packed:
    """Write a sealed copy of a cube: chunks gathered in shards, consolidated metadata; every number is read back.

    The cube itself stays as it is and can grow on; the copy takes no more records. ``xarray.open_zarr`` opens it
    without further arguments.

    Parameters
    ----------
    path
        The cube.
    packed
        Where to write the copy; None: beside the cube, with ``.packed`` before the suffix.
    on_progress
        Called with the number of arrays that are written, and of all.

    Raises
    ------
    CubeError
        There is no cube, it is packed already, a run is writing to it, or `packed` exists.
    CubeWriteError
        The copy cannot be written, or reads otherwise than it was written.

    """
    source, head = open_root(path, read_only=True)
    if head.sealed:
        raise CubeError(f"{path}: is packed already; copy it as it is")
    writing = owner(path)
    if writing is not None:
        raise CubeError(f"{path}: a run is writing to it ({writing}); pack it when that has ended")
    out = store.sibling(path, _packed_name(store.name_of(path))) if packed is None else packed
    with opening(out, break_lock=False) as lock:
        if store.is_there(out):
            raise CubeError(f"{out}: exists already; name another place for the packed cube, or remove it")
        with making(out, lock):
            _write(source, head, out, on_progress or (lambda done, total: None))
        lock.close()
    before, after = store.sizes(path), store.sizes(out)
    return Packed(path, out, len(before), sum(before.values()), len(after), sum(after.values()))


def _packed_name(name: str) -> str:
    stem = name.removesuffix(".zarr")
    return f"{stem}.packed.zarr"


def _write(source: zarr.Group, head: Head, out: str | Path, on_progress: Callable[[int, int], None]) -> None:
    target = store.open_store(out, read_only=False)
    root = zarr.create_group(target)
    for number, variable in enumerate(head.variables):
        _copy(source[variable.name], _create(root, variable, head), out)
        on_progress(number + 1, len(head.variables))
    replace(head, sealed=True).commit(root)
    with warnings.catch_warnings():
        # xarray reads it, and so does every zarr 3; the specification will have it.
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part", category=UserWarning)
        zarr.consolidate_metadata(target)


def _create(root: zarr.Group, variable: schema.Variable, head: Head) -> zarr.Array:
    shape = variable.shape(head.lengths)
    chunks = variable.chunks(shape)
    whole = [math.ceil(max(size, 1) / chunk) * chunk for size, chunk in zip(shape, chunks, strict=True)]
    if variable.dims[0] == "lesion":
        a_chunk = schema.LESION_CHUNK * math.prod(whole[1:])
        whole[0] = min(whole[0], schema.LESION_CHUNK * max(1, _SHARD_NUMBERS // a_chunk))
    return root.create_array(
        variable.name,
        shape=shape,
        chunks=chunks,
        shards=tuple(whole),
        dtype=variable.dtype,
        fill_value=variable.fill_value,
        dimension_names=variable.dims,
        compressors=schema.CODECS,
        attributes={"long_name": variable.long_name, **variable.attributes},
    )


def _copy(source: zarr.Array, target: zarr.Array, out: str | Path) -> None:
    for where in _shards(target):
        values = source[where]
        target[where] = values
        if not _same(values, target[where]):
            raise CubeWriteError(f"{out}: {target.name} reads otherwise than it was written; try another storage")


def _shards(array: zarr.Array) -> Iterator[tuple[slice, ...]]:
    assert array.shards is not None, "`_create` has made it of shards"
    starts = [range(0, size, shard) for size, shard in zip(array.shape, array.shards, strict=True)]
    for first in product(*starts):
        yield tuple(
            slice(start, min(start + shard, size))
            for start, shard, size in zip(first, array.shards, array.shape, strict=True)
        )


def _same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return bool(np.array_equal(one, other, equal_nan=one.dtype.kind == "f"))
