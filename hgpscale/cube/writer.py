"""The one writer of a cube: makes it, resumes it or has it grow, and stores records so that no kill harms anything.

Records are buffered and written as whole chunks: features and digests first, errors next, states last. A key
reads ``done`` or ``failed`` only after everything that it speaks of is stored, so whatever a kill interrupts is
still ``pending`` and is done again. The bytes on the disk depend on the records alone, not on the order in
which they came nor on when they were flushed.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np

from hgpscale.catalog import FAMILIES
from hgpscale.contents import Contents, Key
from hgpscale.cube import grow, manifest, patches, schema, store
from hgpscale.cube.by_row import Digests, Missing, cell_of, mask_of, rows_at
from hgpscale.cube.lock import Lock
from hgpscale.cube.making import making, opening
from hgpscale.cube.states import CODES, States
from hgpscale.cube.together import together
from hgpscale.errors import CubeError, CubeWriteError
from hgpscale.record import Record
from hgpscale.settings import Settings

if TYPE_CHECKING:
    import zarr
    from numpy.typing import NDArray

    from hgpscale.cohort.manifest import Cohort
    from hgpscale.cube.manifest import Row


_LESIONS_AT_A_TIME = 256 * schema.LESION_CHUNK
"""Whose masks' names are in memory together."""


class CubeWriter:
    """Stores records in a cube; made by `open`, or by `attach.put_family`; used as a context manager.

    Only one can be open on a cube at a time. Leaving the context flushes, also after an exception such as
    KeyboardInterrupt, and lets the cube go.

    Attributes
    ----------
    path
        The cube.
    settings
        What the cube holds, all that is asked for among it; None where a table is imported.
    contents
        The same as vectors.
    notes
        What this run added to the cube, or computes anew, a line each.

    """

    def __init__(
        self,
        path: str | Path,
        grown: grow.Grown,
        rows: Iterable[Row],
        keys: Collection[Key],
        lock: Lock,
        *,
        flush_records: int,
        flush_seconds: float,
    ) -> None:
        self.path = path
        self.notes = grown.notes
        self.settings, self.contents = grown.head.settings, grown.head.contents
        self._lock = lock
        self._root, self._head = grown.root, grown.head
        self._arrays: dict[str, zarr.Array] = {v.name: grown.root[v.name] for v in grown.head.variables}
        self._flush_records = flush_records
        self._flush_seconds = flush_seconds
        self._last_flush = time.monotonic()
        self._buffer: dict[Row, patches.Row] = {}
        self._labels = grown.labels
        self._states = States(self._arrays["state"], self._labels)
        wanted = set(keys)
        self._keys = tuple(key for key in self.contents.keys if key in wanted)
        self._patcher = patches.Patcher(self._keys, self.contents.features, self._labels)
        self._ours = mask_of(self._labels, rows, self._states.shape)
        self._survey()

    @classmethod
    def open(
        cls,
        path: str | Path,
        cohort: Cohort,
        settings: Settings,
        *,
        update: bool = False,
        retry_failed: bool = False,
        break_lock: bool = False,
        flush_records: int = schema.LESION_CHUNK,
        flush_seconds: float = 5.0,
    ) -> CubeWriter:
        """Create the cube of a cohort, or open the one that is there and have it grow by what is new.

        Parameters
        ----------
        path
            Folder of the cube, ``*.zarr`` by custom, or its address, ``s3://bucket/key.zarr``.
        cohort
            Rows to be done. Those that the cube has besides are left as they are.
        settings
            What to extract. What the cube has besides is left as it is.
        update
            Make pending what was made of other settings, of another version of a family or of another region of the
            mask, and take over what the manifest says otherwise than the cube.
        retry_failed
            Make pending what failed.
        break_lock
            Take the cube from another run, which must be known to be gone.
        flush_records, flush_seconds
            `add` flushes when so many records wait, or when the last flush is so long ago.

        Raises
        ------
        CubeError
            `path` is something else than a cube, another run is writing to it, or it holds numbers that were made
            otherwise and `update` is off.
        CubeWriteError
            The storage refuses: no permission, no room.

        """
        with opening(path, break_lock=break_lock) as lock:
            manifest.check_names(path, cohort)
            if store.is_there(path):
                grown = grow.grow(path, cohort, settings, update=update)
            else:
                versions = {family: FAMILIES[family].version for family in settings.features}
                with making(path, lock):
                    grown = grow.make(path, cohort, Contents.of(settings), settings, versions)
            keys = Contents.of(settings).keys
            times = {"flush_records": flush_records, "flush_seconds": flush_seconds}
            writer = cls(path, grown, _rows(cohort), keys, lock, **times)  # type: ignore[arg-type]
            if retry_failed:
                writer.reset(writer.failed(), only=schema.FAILED)
            writer._say_finished(not writer.missing and not writer._others)  # a kill may have come before it was said
            return writer

    @classmethod
    @contextmanager
    def create(cls, path: str | Path, cohort: Cohort, contents: Contents) -> Iterator[Self]:
        """Create a cube that settings do not describe, such as one of an imported table, in one go.

        A context manager: the cube is there when it is left, with all records that were added. Nothing is there where
        what it surrounds fails; what a kill leaves is no cube, and the next run removes it. Errors as of `open`.
        """
        with opening(path, break_lock=False) as lock:
            manifest.check_names(path, cohort)
            if store.is_there(path):
                raise CubeError(f"{path}: exists already; give another path, or remove it")
            with making(path, lock):
                grown = grow.make(path, cohort, contents, None, {}, commit=False)
                times = {"flush_records": schema.LESION_CHUNK, "flush_seconds": math.inf}
                writer = cls(path, grown, _rows(cohort), contents.keys, lock, **times)  # type: ignore[arg-type]
                yield writer
                writer.flush()
                writer._head.commit(grown.root)
            lock.close()

    def _survey(self) -> None:
        """Read what is missing, failed and done."""
        self._missing = Missing(self._labels, self._states.shape, self._keys)
        self._has_failed = np.zeros(self._states.shape, bool)
        self._others = False  # whether anything is pending that is not asked for, but could be extracted
        self._has_numbers = np.zeros(self._states.shape, bool)
        chosen, extracted = set(self._keys), set(self.contents.extracted)
        asked = np.array([key in chosen for key in self.contents.keys], bool)
        of_scan = np.array([key in extracted for key in self.contents.keys], bool)
        has_row = self._has_row()
        for block, states in self._states.blocks(self.contents.keys):
            self._has_numbers[block] = ((states == CODES[schema.DONE]) & of_scan).any(axis=2)
            ours = self._ours[block][..., None]
            others = has_row[block][..., None] & ~(ours & asked) & of_scan
            self._others |= bool((others & (states == CODES[schema.PENDING])).any())
            states = states[:, :, asked]
            self._missing.note(block, ours & (states == CODES[schema.PENDING]))
            self._has_failed[block] = (ours & (states == CODES[schema.FAILED])).any(axis=2)

    def _has_row(self) -> NDArray[np.bool_]:
        """Return which rows the cube has, shape ``(lesion, segmentation)``: those with a mask."""
        found = np.zeros(self._states.shape, bool)
        for first in range(0, len(found), _LESIONS_AT_A_TIME):
            some = slice(first, first + _LESIONS_AT_A_TIME)
            found[some] = self._arrays["mask"][some] != ""
        return found

    @property
    def missing(self) -> Mapping[Row, tuple[Key, ...]]:
        """The keys that each row of the manifest lacks of those that are asked for, in the order of `Contents.keys`.

        It stays true while records are added, until `reset`.
        """
        return self._missing

    def missing_keys(self) -> int:
        """Return how many keys all rows together lack."""
        return self._missing.total()

    def failed(self) -> set[Row]:
        """Return the rows of the manifest of which at least one key that is asked for failed."""
        return set(rows_at(self._labels, self._has_failed))

    def has_numbers(self, row: Row) -> bool:
        """Whether the cube has numbers of a row's scan, of the keys that are asked for or of others."""
        return bool(self._has_numbers[cell_of(self._labels, row)])

    def reset(self, rows: Iterable[Row], *, only: str | None = None) -> None:
        """Make rows pending again, at once: what they hold counts no more.

        Parameters
        ----------
        rows
            Rows of the manifest. All their keys are meant, those that are not asked for among them.
        only
            Just the keys that have this state.

        Raises
        ------
        CubeWriteError
            The storage refused.

        """
        mask = mask_of(self._labels, rows, self._states.shape)
        if not mask.any():
            return
        try:
            self._say_finished(False)
            if only is None:
                grow.make_pending(self._root, self._states, self._labels, self.contents.keys, mask)
            else:
                self._states.reset(self._keys, mask, only)
                # Without numbers of its own a row is held to no file, so networks may have seen another one.
                self._reset_own(mask & ~self._has_numbers)
        except store.storage_errors() as error:
            raise CubeWriteError(
                f"{self.path}: cannot write: {store.reason(error)}; make room and try again"
            ) from error
        self._survey()

    def _reset_own(self, mask: NDArray[np.bool_]) -> None:
        extracted = set(self.contents.extracted)
        own = [key for key in self.contents.keys if key not in extracted]
        if own and mask.any():
            grow.make_pending(self._root, self._states, self._labels, own, mask)

    def digests(self) -> Mapping[Row, tuple[str, str, str]]:
        """Return the digests of image, mask and surroundings behind every row of the manifest that has numbers.

        A run compares them with the files that it reads, so that numbers of two versions of a file never mix.
        """
        having = self._has_numbers & self._ours
        if not having.any():
            return {}
        names = ("image_digest", "mask_digest", "surroundings_digest")
        return Digests(self._labels, having, (self._arrays[name][...] for name in names))

    def add(self, record: Record) -> None:
        """Take a record, and flush if it is time.

        Raises
        ------
        ValueError
            The record is of no row of the manifest, has not just the keys that the row lacks, or has a vector of the
            wrong length or with NaN that no failure explains.
        CubeWriteError
            The flush failed; see `flush`.

        """
        self._buffer[record.lesion, record.segmentation] = self._checked(record)
        due = time.monotonic() - self._last_flush >= self._flush_seconds
        if due or len(self._buffer) >= self._flush_records:
            self.flush()

    def flush(self) -> None:
        """Write all records that wait.

        Raises
        ------
        CubeWriteError
            The storage refused, or another run has taken the cube. What earlier flushes wrote is safe; the records
            still wait, and can be flushed again.

        """
        if not self._buffer:
            return
        try:
            self._lock.check()
            found = list(self._patches())
            together([self._apply(patch) for one in found for patch in one.numbers])
            together([self._apply(patch) for one in found for patch in one.errors])
            self._states.update(*zip(*(part for one in found for part in one.states), strict=True))
            # What a finished cube has pending, networks make: it is finished without.
            done = not self._others and self._missing.keys() <= self._buffer.keys()
            self._say_finished(self._head.finished or done)
        except store.storage_errors() as error:
            if isinstance(error, CubeWriteError):
                raise
            total = int(self._ours.sum())
            raise CubeWriteError(
                f"{self.path}: cannot write: {store.reason(error)}; {total - len(self._missing)} of {total} rows are "
                "safely stored, make room and run the same command again to do the rest"
            ) from error
        for row, laid in self._buffer.items():
            cell = cell_of(self._labels, row)
            self._missing.forget(row)
            self._has_numbers[cell] |= laid.has_numbers
            self._has_failed[cell] |= laid.has_failed
        self._buffer.clear()
        self._last_flush = time.monotonic()

    def _say_finished(self, finished: bool) -> None:
        if self._head.finished != finished:
            self._head = replace(self._head, finished=finished)
            self._head.commit(self._root)

    def close(self) -> None:
        """Let the cube go, without a flush."""
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if not isinstance(error, CubeWriteError):  # would only fail again
                self.flush()
        finally:
            self.close()

    def _checked(self, record: Record) -> patches.Row:
        name = f"record of lesion {record.lesion!r}, segmentation {record.segmentation!r}"
        row = record.lesion, record.segmentation
        if not self._is_ours(row):
            raise ValueError(f"{name}: no such row in the manifest")
        if {*record.values, *record.failures} != set(self._missing.get(row, ())):
            raise ValueError(f"{name}: has not just the keys that the cube lacks")
        try:
            return self._patcher.row(record)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error

    def _patches(self) -> Iterator[patches.Patches]:
        """Yield what the records that wait fill, by block of lesions and segmentation."""
        groups: defaultdict[tuple[int, int], dict[int, patches.Row]] = defaultdict(dict)
        for row, laid in self._buffer.items():
            lesion, rater = cell_of(self._labels, row)
            groups[lesion // schema.LESION_CHUNK, rater][lesion % schema.LESION_CHUNK] = laid
        for (block, rater), rows in sorted(groups.items()):
            first = block * schema.LESION_CHUNK
            lesions = slice(first, min(first + schema.LESION_CHUNK, self._states.shape[0]))
            yield self._patcher.patches(rows, self._has_numbers[lesions, rater], lesions, rater)

    async def _apply(self, patch: patches.Patch) -> None:
        """Write a part of one chunk."""
        array, mask, values = self._arrays[patch.name].async_array, patch.mask, patch.values
        if patch.name != "error" and mask.all():
            await array.setitem(patch.where, values.reshape(*mask.shape, *values.shape[1:]))
            return
        block = await array.getitem(patch.where)
        if patch.name == "error" and (block[mask] == values).all():
            return  # nothing failed, then or now
        block[mask] = values
        await array.setitem(patch.where, block)

    def _is_ours(self, row: Row) -> bool:
        try:
            return bool(self._ours[cell_of(self._labels, row)])
        except KeyError:
            return False


def _rows(cohort: Cohort) -> Iterable[Row]:
    return ((lesion, segmentation) for lesion, segmentation in cohort.cells("lesion", "segmentation"))
