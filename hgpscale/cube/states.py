"""The states of all vectors of a cube, read and written by blocks of lesions, so that memory does not grow with it.

A chunk is 65 536 strings, which take zarr 10 ms to read and 25 ms to write. Most chunks are the same to the byte, so
here each is decoded and encoded once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from zarr.buffer import default_buffer_prototype

from hgpscale.contents import Key
from hgpscale.cube import schema
from hgpscale.cube.together import together

if TYPE_CHECKING:
    import zarr
    from numpy.typing import NDArray
    from zarr.abc.buffer import Buffer

Labels = Mapping[str, Mapping[str, int]]
"""Position of every label, by dimension."""

Where = tuple[slice, int, int]
"""Lesions of one block, a segmentation and a region: what one chunk holds, or a few if there are many image types."""

CODES = {schema.PENDING: 0, schema.DONE: 1, schema.FAILED: 2}
"""The states as int8. What is none of them, in a damaged cube, counts as pending."""

_NAMES = np.array(list(CODES), object)
_BLOCKS_AT_A_TIME = 16
_REMEMBERED = 256
"""Different chunks, of 25 kB."""


class States:
    """Looks at the array `state` of a cube, as `CODES`.

    Parameters
    ----------
    array
        The array, shape ``(lesion, segmentation, region, image_type, family)``.
    labels
        Positions of the labels that count; the array may be longer.

    """

    def __init__(self, array: zarr.Array, labels: Labels) -> None:
        self._array, self._labels = array, labels
        self.shape = len(labels["lesion"]), len(labels["segmentation"])
        self._cells = len(labels["image_type"]), len(labels["family"])
        self._decoded: dict[Any, NDArray[np.int8]] = {}
        self._encoded: dict[Any, Buffer | None] = {}

    def read(self, wheres: Sequence[Where]) -> list[NDArray[np.int8]]:
        """Return the states of some chunks, each of shape ``(lesion, image_type, family)``."""
        found = [np.empty((lesions.stop - lesions.start, *self._cells), np.int8) for lesions, _, _ in wheres]
        chunks, parts = self._split(wheres, found)
        stored = together([self._load(chunk) for chunk in chunks])
        contents = [
            (part.shape, None if data is None else data.to_bytes()) for part, data in zip(parts, stored, strict=True)
        ]
        new = {content: chunk for content, chunk in zip(contents, chunks, strict=True) if content not in self._decoded}
        if len(self._decoded) + len(new) > _REMEMBERED:
            self._decoded.clear()
            new = dict(zip(contents, chunks, strict=True))
        names = together([self._array.async_array.getitem(chunk) for chunk in new.values()])
        self._decoded |= {content: _codes(some) for content, some in zip(new, names, strict=True)}
        for part, content in zip(parts, contents, strict=True):
            part[...] = self._decoded[content]
        return found

    def write(self, wheres: Sequence[Where], states: Sequence[NDArray[np.int8]]) -> None:
        """Write what `read` returns."""
        chunks, parts = self._split(wheres, states)
        contents = [(part.shape, part.tobytes()) for part in parts]
        if len(self._encoded) > _REMEMBERED:
            self._encoded.clear()
        new: dict[Any, int] = {}
        for i, content in enumerate(contents):
            if content not in self._encoded:
                new.setdefault(content, i)
        together([self._array.async_array.setitem(chunks[i], _NAMES[parts[i]]) for i in new.values()])
        self._encoded |= zip(new, together([self._load(chunks[i]) for i in new.values()]), strict=True)
        same = set(range(len(chunks))) - set(new.values())
        together([self._store(chunks[i], self._encoded[contents[i]]) for i in sorted(same)])

    def update(self, wheres: Sequence[Where], states: Sequence[NDArray[np.int8]]) -> None:
        """Write states, of which those that are pending mean that the cube's stay."""
        partly = [i for i, some in enumerate(states) if not some.all()]
        whole = list(states)
        for i, old in zip(partly, self.read([wheres[i] for i in partly]), strict=True):
            whole[i] = np.where(states[i] != CODES[schema.PENDING], states[i], old)
        self.write(wheres, whole)

    def blocks(self, keys: Sequence[Key]) -> Iterator[tuple[slice, NDArray[np.int8]]]:
        """Yield block by block its lesions, and the states of some keys, shape ``(lesion, segmentation, key)``."""
        regions, images, families = self._where(keys)
        wanted = list(product(range(self.shape[1]), range(len(self._labels["region"]))))
        blocks = self._lesions()
        for first in range(0, len(blocks), _BLOCKS_AT_A_TIME):
            some = blocks[first : first + _BLOCKS_AT_A_TIME]
            found = iter(self.read([(lesions, *where) for lesions in some for where in wanted]))
            for lesions in some:
                states = np.stack([next(found) for _ in wanted], axis=1)
                states = states.reshape(len(states), self.shape[1], -1, *self._cells)
                yield lesions, states[:, :, regions, images, families]

    def rows_with(self, state: str, keys: Sequence[Key]) -> NDArray[np.bool_]:
        """Return which rows have `state` for at least one of the keys, shape ``(lesion, segmentation)``."""
        found = np.zeros(self.shape, bool)
        for lesions, states in self.blocks(keys):
            found[lesions] = (states == CODES[state]).any(axis=2)
        return found

    def reset(self, keys: Collection[Key], rows: NDArray[np.bool_], only: str | None = None) -> None:
        """Make keys of the rows in `rows`, shape ``(lesion, segmentation)``, pending; of state `only` if given."""
        regions, images, families = self._where(tuple(keys))
        for lesions in self._lesions():
            raters = np.flatnonzero(rows[lesions].any(axis=0))
            wheres = [(lesions, int(rater), int(region)) for rater in raters for region in np.unique(regions)]
            changed = []
            for where, states in zip(wheres, self.read(wheres), strict=True):
                chosen = np.zeros(states.shape, bool)
                own = regions == where[2]
                chosen[:, images[own], families[own]] = rows[lesions, where[1], None]
                chosen &= states != CODES[schema.PENDING] if only is None else states == CODES[only]
                if chosen.any():
                    states[chosen] = CODES[schema.PENDING]
                    changed.append((where, states))
            self.write([where for where, _ in changed], [states for _, states in changed])

    def _lesions(self) -> list[slice]:
        starts = range(0, self.shape[0], schema.LESION_CHUNK)
        return [slice(start, min(start + schema.LESION_CHUNK, self.shape[0])) for start in starts]

    def _split(
        self, wheres: Sequence[Where], states: Sequence[NDArray[np.int8]]
    ) -> tuple[list[tuple[Any, ...]], list[NDArray[np.int8]]]:
        """Return the chunks, as indices of the array, and views of the states in each."""
        starts = product(*(range(0, size, schema.LABEL_CHUNK) for size in self._cells))
        corners = [tuple(slice(start, start + schema.LABEL_CHUNK) for start in corner) for corner in starts]
        chunks = [(*where, *corner) for where in wheres for corner in corners]
        return chunks, [some[:, *corner] for some in states for corner in corners]

    async def _load(self, chunk: tuple[Any, ...]) -> Buffer | None:
        return await self._array.store.get(self._key(chunk), default_buffer_prototype())

    async def _store(self, chunk: tuple[Any, ...], data: Buffer | None) -> None:
        """Store a chunk as zarr encoded another one of the same content: None where all is pending."""
        if data is None:
            await self._array.store.delete(self._key(chunk))
        else:
            await self._array.store.set(self._key(chunk), data)

    def _key(self, chunk: tuple[Any, ...]) -> str:
        first = [part.start if isinstance(part, slice) else part for part in chunk]
        at = tuple(start // size for start, size in zip(first, self._array.chunks, strict=True))
        return f"{self._array.path}/{self._array.metadata.encode_chunk_key(at)}"

    def _where(self, keys: Sequence[Key]) -> tuple[NDArray[np.int64], ...]:
        dims = ("region", "image_type", "family")
        return tuple(
            np.array([self._labels[dim][key[axis]] for key in keys], np.int64) for axis, dim in enumerate(dims)
        )


def _codes(names: NDArray[Any]) -> NDArray[np.int8]:
    codes = np.zeros(names.shape, np.int8)
    for name, code in CODES.items():
        codes[names == name] = code
    return codes
