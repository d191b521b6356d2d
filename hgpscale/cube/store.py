"""Where a cube lies: from a path to a zarr store, and what keeps a kill or a second run from harming it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from uuid import uuid4

from zarr.storage import LocalStore

from hgpscale.errors import CubeError

try:
    import fcntl
except ImportError:  # Windows: cubes work there, only without a guard against a second run
    fcntl = None  # type: ignore[assignment]

_ROOT_FILE = "zarr.json"
_DRAFT = ".creating"
_PARTIAL = ".partial"  # how zarr's LocalStore names a file that it has not renamed yet
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # two letters at least: C:/ is a drive


def local_path(path: str | Path) -> Path:
    """Return the folder of a cube; `CubeError` for an address such as ``s3://bucket/cube``."""
    if _URL.match(str(path)):
        raise CubeError(f"{path}: a cube must be a local folder in this version; give a path, not an address")
    return Path(path)


def open_store(folder: Path, *, read_only: bool) -> LocalStore:
    """Return the zarr store of a cube's folder: the one place that knows what kind of store it is."""
    return LocalStore(folder, read_only=read_only)


def lock(folder: Path) -> IO[bytes]:
    """Take the right to write to a cube until the returned file is closed or the process ends.

    Two writers of one chunk lose each other's rows in silence, so a second one is refused. The lock is the
    operating system's, on the cube's own root file: nothing is left behind after a kill. File systems that
    know no locks grant it always.

    Raises
    ------
    CubeError
        Another process, or another writer in this one, holds it.
    OSError
        The root file is missing or may not be written.

    """
    handle = (folder / _ROOT_FILE).open("r+b")
    if fcntl is None:
        return handle
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        handle.close()
        raise CubeError(f"{folder}: another run is writing to this cube; wait until it ends, or stop it") from error
    except OSError:  # this file system has no locks
        return handle
    return handle


@contextmanager
def draft(folder: Path) -> Iterator[Path]:
    """Give a new folder beside `folder` to build a cube in; rename it to `folder` when all went well.

    So a cube is there whole or not at all. What a killed run leaves is swept by `sweep_drafts`.
    """
    new = folder.with_name(f".{folder.name}.{uuid4().hex}{_DRAFT}")
    new.mkdir()
    try:
        yield new
        new.rename(folder)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise


def sweep_drafts(folder: Path) -> None:
    """Remove what runs that were killed while they created `folder` left beside it."""
    for left in list(folder.parent.iterdir()):
        if not (left.name.startswith(f".{folder.name}.") and left.name.endswith(_DRAFT)):
            continue
        try:
            lock(left).close()
        except CubeError:  # its creator is alive
            continue
        except FileNotFoundError:  # killed before the first file was there
            pass
        shutil.rmtree(left)


def sweep_partial(folder: Path) -> None:
    """Remove the half-written files of a killed run. Only the holder of the cube's lock may do so."""
    for left in list(folder.rglob(f"*{_PARTIAL}")):
        left.unlink()
