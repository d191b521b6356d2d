"""Hold the lock on a place while a cube is made or opened there, and remove what a kill or a failure left half made."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hgpscale.cube import store
from hgpscale.cube.lock import Lock
from hgpscale.errors import CubeError, CubeWriteError

_CLEAR_SECONDS = 5.0


@contextmanager
def opening(path: str | Path, *, break_lock: bool) -> Iterator[Lock]:
    """Yield the lock on a cube that is being opened or made; it stays taken unless that fails.

    Raises
    ------
    CubeError
        The place cannot be one of a cube, or another run is writing there.
    CubeWriteError
        The storage refuses.

    """
    try:
        place = store.location(path)
        if isinstance(place, Path) and not place.parent.is_dir():
            raise CubeError(f"{path}: the folder {place.parent} does not exist; make it first")
        lock = Lock.take(place, break_lock=break_lock)
        try:
            if lock.was_making:
                store.empty(place)  # what a run left that was killed while it made the cube
                lock.making(False)
            store.sweep_partial(place)
            yield lock
        except BaseException:
            lock.close()
            raise
    except CubeError:
        raise
    except store.storage_errors() as error:
        raise CubeWriteError(f"{path}: cannot make or open the cube: {store.reason(error)}") from error


@contextmanager
def making(path: str | Path, lock: Lock) -> Iterator[None]:
    """Note in the lock that a cube is being made; remove what is there if that fails."""
    lock.making(True)
    try:
        yield
    except BaseException:
        _clear(path)
        raise
    lock.making(False)


def _clear(path: str | Path) -> None:
    """Remove a cube that could not be made; when one write of zarr fails, others are still under way."""
    deadline = time.monotonic() + _CLEAR_SECONDS
    while store.is_there(path):
        try:
            store.empty(path)
        except OSError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.05)
