"""The one writer of a cube: makes it or resumes it, and stores records so that a kill at any moment harms nothing.

Records are buffered and written as whole chunks: features and digests first, errors next, states last. A key
reads ``done`` or ``failed`` only after everything that it speaks of is stored, so whatever a kill interrupts is
still ``pending`` and is done again. The bytes on the disk depend on the records alone, not on the order in
which they came nor on when they were flushed.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

import numpy as np
import zarr

from hgpscale.catalog import SHAPE_FAMILIES
from hgpscale.cube import identity, schema, store
from hgpscale.errors import CubeError, CubeWriteError
from hgpscale.record import Key, Record, expected_keys
from hgpscale.settings import Settings

if TYPE_CHECKING:
    from hgpscale.cohort.manifest import Cohort

Row = tuple[str, str]
"""``(lesion, segmentation)``: one row of the manifest."""


class CubeWriter:
    """Stores records in a cube; made by `open`, used as a context manager.

    Only one can be open on a cube at a time. Leaving the context flushes, also after an exception such as
    KeyboardInterrupt, and lets the cube go.
    """

    def __init__(
        self, path: Path, root: zarr.Group, lock: IO[bytes], *, flush_records: int, flush_seconds: float
    ) -> None:
        self.path = path
        self.settings = schema.settings_of(root.attrs, path)
        self._lock = lock
        self._arrays: dict[str, zarr.Array] = dict(root.arrays())
        self._flush_records = flush_records
        self._flush_seconds = flush_seconds
        self._last_flush = time.monotonic()
        self._buffer: dict[Row, Record] = {}
        self._keys: tuple[Key, ...] = tuple(expected_keys(self.settings))
        self._position = {
            dim: {str(label): i for i, label in enumerate(self._arrays[dim][...])}
            for dim in ("lesion", "segmentation", "region", "image_type", "family")
        }
        self._rows: frozenset[Row] = frozenset(
            identity.pairs_of({dim: self._arrays[dim][...] for dim in ("lesion", "segmentation", "mask")})
        )
        self._pending = self._read_pending()

    @classmethod
    def open(
        cls,
        path: str | Path,
        cohort: Cohort,
        settings: Settings,
        *,
        mended: bool = False,
        flush_records: int = 64,
        flush_seconds: float = 5.0,
    ) -> CubeWriter:
        """Create the cube of a cohort, or open the one that an earlier run began.

        Parameters
        ----------
        path
            Folder of the cube, ``*.zarr`` by custom.
        cohort
            Every row of the manifest; a cube that exists must have been made from the same.
        settings
            What is extracted; a cube that exists must have been made with the same.
        mended
            Whether the manifest may name other files and labels for rows that failed or are pending; the cube
            then takes them over.
        flush_records, flush_seconds
            `add` flushes when so many records wait, or when the last flush is so long ago.

        Raises
        ------
        CubeError
            `path` is something else than a cube, another run is writing to it, or it was made by another
            layout version, with other settings, by other versions of a family, or from another manifest.
        CubeWriteError
            The storage refuses: no permission, no room.

        """
        folder = store.local_path(path)
        if not folder.parent.is_dir():
            raise CubeError(f"{path}: the folder {folder.parent} does not exist; make it first")
        try:
            store.sweep_drafts(folder)
            if not folder.exists():
                _create(folder, cohort, settings)
            root = schema.open_root(folder, read_only=False)
            lock = store.lock(folder)
        except CubeError:
            raise
        except OSError as error:
            raise CubeWriteError(f"{path}: cannot make or open the cube: {_reason(error)}") from error
        try:
            store.sweep_partial(folder)
            identity.check_settings(path, root, settings)
            writer = cls(folder, root, lock, flush_records=flush_records, flush_seconds=flush_seconds)
            identity.check_manifest(path, root, cohort, writer.failed() | writer.pending() if mended else ())
            if mended:
                writer._take_over(cohort)
            return writer
        except OSError as error:
            lock.close()
            raise CubeWriteError(f"{path}: cannot open the cube: {_reason(error)}") from error
        except BaseException:
            lock.close()
            raise

    def pending(self) -> set[Row]:
        """Return the rows of the manifest that lack the state of at least one key."""
        return set(self._pending)

    def failed(self) -> set[Row]:
        """Return the rows that are finished, but of which at least one key failed."""
        return set((self._rows & self._cells_with(schema.FAILED)) - self._pending)

    def _take_over(self, cohort: Cohort) -> None:
        """Write the manifest's files and labels of this run, in the cube's order of rows."""
        tables = identity.manifest_tables(cohort)
        lesions = [list(tables["lesion"]).index(name) for name in self._position["lesion"]]
        segmentations = [list(tables["segmentation"]).index(name) for name in self._position["segmentation"]]
        for name in identity.MENDABLE:
            new = tables[name][lesions]
            new = new[:, segmentations] if new.ndim == 2 else new
            if (self._arrays[name][...] != new).any():
                self._arrays[name][...] = new

    def reset(self, rows: Iterable[Row]) -> None:
        """Make rows pending again, at once: what they hold counts no more.

        Raises
        ------
        CubeWriteError
            The storage refused.

        """
        chosen = set(rows)
        cells: dict[tuple[int, ...], Any] = {
            (*self._cell(row), *self._key_position(key)): schema.PENDING for row in chosen for key in self._keys
        }
        try:
            _update(self._arrays["state"], cells)
        except OSError as error:
            raise CubeWriteError(f"{self.path}: cannot write: {_reason(error)}; make room and try again") from error
        self._pending |= chosen

    def digests(self) -> dict[Row, tuple[str, str]]:
        """Return the digests of image and mask behind every row that has numbers and is not pending.

        A run compares them with the files that it reads for other rows, so that a changed image is noticed.
        """
        done = self._cells_with(schema.DONE)
        image, mask = self._arrays["image_digest"][...], self._arrays["mask_digest"][...]
        cells = {row: self._cell(row) for row in self._rows & done - self._pending}
        return {row: (str(image[cell]), str(mask[cell])) for row, cell in cells.items()}

    def add(self, record: Record) -> None:
        """Take a record, and flush if it is time.

        Raises
        ------
        ValueError
            The record is of no row of the manifest, lacks a key, or has a vector of the wrong length or with
            NaN that no failure explains.
        CubeWriteError
            The flush failed; see `flush`.

        """
        self._check(record)
        self._buffer[record.lesion, record.segmentation] = record
        due = time.monotonic() - self._last_flush >= self._flush_seconds
        if due or len(self._buffer) >= self._flush_records:
            self.flush()

    def flush(self) -> None:
        """Write all records that wait.

        Raises
        ------
        CubeWriteError
            The storage refused. What earlier flushes wrote is safe; the records still wait, and can be
            flushed again.

        """
        try:
            self._write(list(self._buffer.values()))
        except OSError as error:
            stored = len(self._rows) - len(self._pending)
            raise CubeWriteError(
                f"{self.path}: cannot write: {_reason(error)}; {stored} of {len(self._rows)} rows are safely "
                "stored, make room and run the same command again to do the rest"
            ) from error
        self._pending.difference_update(self._buffer)
        self._buffer.clear()
        self._last_flush = time.monotonic()

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

    def _write(self, records: list[Record]) -> None:
        cells: defaultdict[str, dict[tuple[int, ...], Any]] = defaultdict(dict)
        for record in records:
            row = record.lesion, record.segmentation
            here = self._cell(row)
            cells["image_digest"][here] = record.image_digest
            cells["mask_digest"][here] = record.mask_digest
            cells["label"][here] = record.label
            for key in self._keys:
                region, image_type, family = key
                failure = record.failures.get(key)
                where = *here, self._position["region"][region]
                by_image = *where, self._position["image_type"][image_type]
                by_family = *by_image, self._position["family"][family]
                # NaN also where the row failed: an interrupted attempt may have stored numbers.
                cells[family][where if family in SHAPE_FAMILIES else by_image] = record.values.get(key, np.nan)
                cells["error"][by_family] = _storable(str(failure)) if failure else ""
                cells["state"][by_family] = schema.DONE if key in record.values else schema.FAILED
        for name in sorted(cells, key=_stage):
            _update(self._arrays[name], cells[name])

    def _check(self, record: Record) -> None:
        row = f"record of lesion {record.lesion!r}, segmentation {record.segmentation!r}"
        if (record.lesion, record.segmentation) not in self._rows:
            raise ValueError(f"{row}: no such row in the manifest")
        if {*record.values, *record.failures} != set(self._keys):
            raise ValueError(f"{row}: has not each of the settings' keys")
        for key, values in record.values.items():
            expected = (len(self.settings.features[key[-1]]),)
            if np.shape(values) != expected or (np.isnan(values).any() and key not in record.failures):
                raise ValueError(
                    f"{row}: {' '.join(key)} must be {expected[0]} numbers, NaN only with a reason; found {values}"
                )

    def _cell(self, row: Row) -> tuple[int, int]:
        return self._position["lesion"][row[0]], self._position["segmentation"][row[1]]

    def _key_position(self, key: Key) -> tuple[int, int, int]:
        region, image_type, family = key
        position = self._position
        return position["region"][region], position["image_type"][image_type], position["family"][family]

    def _read_pending(self) -> set[Row]:
        return set(self._rows & self._cells_with(schema.PENDING))

    def _cells_with(self, state: str) -> set[Row]:
        """Return the rows of which at least one of the settings' keys has `state`."""
        position = self._position
        states = self._arrays["state"][...]
        hit = np.zeros(states.shape[:2], bool)
        for key in self._keys:
            hit |= states[:, :, *self._key_position(key)] == state
        lesions, segmentations = list(position["lesion"]), list(position["segmentation"])
        return {(lesions[i], segmentations[j]) for i, j in np.argwhere(hit)}


def _create(folder: Path, cohort: Cohort, settings: Settings) -> None:
    identity.check_names(folder, cohort)
    columns = identity.manifest_columns(cohort)
    with store.draft(folder) as new:
        root = schema.create_root(new, settings, columns)
        with store.lock(new):  # so that no other run sweeps it away
            schema.create_arrays(root, settings, identity.manifest_tables(cohort), columns)


def _stage(name: str) -> int:
    """Return when an array is written: numbers and digests, then errors, states last of all."""
    return {"error": 1, "state": 2}.get(name, 0)


def _update(array: zarr.Array, cells: Mapping[tuple[int, ...], Any]) -> None:
    """Set cells of an array, given by their index without the feature axis; each chunk is written once.

    One chunk after the other: when a write fails, no other is under way.
    """
    size = schema.LESION_CHUNK
    chunks: defaultdict[tuple[int, ...], dict[int, Any]] = defaultdict(dict)
    for (lesion, *rest), value in cells.items():
        chunks[lesion // size, *rest][lesion % size] = value
    for (chunk, *rest), rows in sorted(chunks.items()):
        where = (slice(chunk * size, (chunk + 1) * size), *rest)
        block = array[where]
        for row, value in rows.items():
            block[row] = value
        array[where] = block


def _storable(text: str) -> str:
    """Escape what UTF-8 cannot hold: bytes of a file's name that are no text reach Python as lone surrogates."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _reason(error: OSError) -> str:
    return error.strerror or " ".join(str(error).split())
