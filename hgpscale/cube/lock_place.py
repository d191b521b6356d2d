"""Where the lock of a cube lies: a small file or object beside it that two runs cannot both take.

On disk it is held by the operating system's lock too (``flock``), which ends with the process, also by a kill. Worker
processes do not keep it: Python opens files close-on-exec, and workers are spawned, never forked. On S3 each write is
conditional on the version that was read. The content is the business of `hgpscale.cube.lock`.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

from hgpscale.cube import store
from hgpscale.errors import CubeError

if TYPE_CHECKING:
    from obstore.store import S3Store

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_SETTLE_SECONDS = 1.0  # without flock nothing keeps two runs apart: the last to write within this time has the lock


class Seen(NamedTuple):
    """A lock as it was found.

    Attributes
    ----------
    data
        The content.
    stamp
        When it was written, by the storage's clock.
    version
        What S3 calls this content.
    held
        Whether a running process holds it; None where only the content can tell.

    """

    data: bytes
    stamp: float
    version: str | None = None
    held: bool | None = None


class FilePlace:
    """A lock on disk; `descriptor` is open, and flocked where that works, while it is ours."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._descriptor: int | None = None

    def look(self) -> Seen | None:
        """Return what is there; None where there is nothing."""
        try:
            with self.file.open("rb") as file:
                return Seen(file.read(), os.fstat(file.fileno()).st_mtime)
        except FileNotFoundError:
            return None

    def create(self, data: bytes) -> Seen | None:
        """Store `data` and return None where there is nothing; return what is there otherwise."""
        self.let_go()
        while True:
            descriptor, new = _open(self.file)
            flocked = _flock(descriptor)
            if not _is_at(descriptor, self.file):  # let go, or broken, since it was opened
                os.close(descriptor)
                continue
            if flocked or (new and flocked is None):
                self._descriptor = descriptor
            found = os.read(descriptor, 1 << 20)
            seen = Seen(found, os.fstat(descriptor).st_mtime, held=None if flocked is None else not flocked)
            if self._descriptor is None:
                os.close(descriptor)
            elif not found.strip():  # new, or its maker was killed before it could write
                _overwrite(descriptor, data)
                return None
            return seen

    def replace(self, data: bytes, seen: Seen) -> bool:
        """Store `data` in place of what was seen; False where another run was faster."""
        if self._descriptor is not None:
            _overwrite(self._descriptor, data)
            return True
        # A new file by a rename: its old owner, if it lives, keeps hold of the old one only.
        draft = self.file.with_name(f"{self.file.name}.{uuid4().hex}")
        try:
            draft.write_bytes(data)
            self._descriptor = os.open(draft, os.O_RDWR)
            flocked = _flock(self._descriptor)
            if not flocked:
                self.let_go()  # Windows renames no open file
            draft.replace(self.file)
        except BaseException:
            self.let_go()
            draft.unlink(missing_ok=True)
            raise
        if flocked:
            return True
        time.sleep(_SETTLE_SECONDS)
        now = self.look()
        if now is None or now.data != data:
            return False
        self._descriptor = os.open(self.file, os.O_RDWR)
        return True

    def remove(self) -> None:
        """Remove the lock, which is ours."""
        if fcntl is None:  # Windows removes no open file; elsewhere nobody must take it before it is gone
            self.let_go()
        self.file.unlink(missing_ok=True)
        self.let_go()

    def let_go(self) -> None:
        """Close what is open."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def time(self) -> float:
        """Return the time by the clock that stamps the lock: the file server's where the cube is on one."""
        with TemporaryFile(dir=self.file.parent) as probe:
            return os.fstat(probe.fileno()).st_mtime


class ObjectPlace:
    """A lock on S3; what its methods do is said at `FilePlace`."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._client: S3Store
        self._client, self._key = store.object_at(address)

    def look(self) -> Seen | None:
        """Return what is there."""
        import obstore

        try:
            found = obstore.get(self._client, self._key)
        except FileNotFoundError:
            return None
        return Seen(bytes(found.bytes()), found.meta["last_modified"].timestamp(), found.meta["e_tag"])

    def create(self, data: bytes) -> Seen | None:
        """Store `data` where there is nothing; CubeError where the server stores against its conditions too."""
        while not self._put(data, None):
            if seen := self.look():
                return seen
        if self._put(data, None) or self._put(data, '"0"'):
            self.remove()
            raise CubeError(
                f"{self.address}: this S3 server ignores If-None-Match or If-Match, so nothing keeps two runs from "
                "writing to one cube; put the cube on another storage"
            )
        return None

    def replace(self, data: bytes, seen: Seen) -> bool:
        """Store `data` in place of what was seen."""
        return self._put(data, seen.version)

    def remove(self) -> None:
        """Remove the lock."""
        import obstore

        obstore.delete(self._client, self._key)

    def let_go(self) -> None:
        """Nothing is open."""

    def time(self) -> float:
        """Return the time by the server's clock, from an object that is stored for it."""
        import obstore

        probe = f"{self._key}.{uuid4().hex}"
        obstore.put(self._client, probe, b"")
        try:
            return obstore.head(self._client, probe)["last_modified"].timestamp()
        finally:
            obstore.delete(self._client, probe)

    def _put(self, data: bytes, version: str | None) -> bool:
        """Store `data` if the object has that version, or is not there where None; return whether it did."""
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        try:
            obstore.put(self._client, self._key, data, mode={"e_tag": version} if version else "create")
        except (AlreadyExistsError, PreconditionError):
            return False
        return True


def lock_place(path: str | Path) -> FilePlace | ObjectPlace:
    """Return where the lock of a cube lies: beside it, so it can be held before the cube is there."""
    place = store.sibling(path, f"{store.name_of(path)}.lock")
    return ObjectPlace(place) if isinstance(place, str) else FilePlace(place)


def _open(file: Path) -> tuple[int, bool]:
    """Return a descriptor of a lock file, and whether the file is new."""
    while True:
        try:
            return os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), True
        except FileExistsError:
            pass
        try:
            return os.open(file, os.O_RDWR), False
        except FileNotFoundError:  # let go just now
            continue


def _flock(descriptor: int) -> bool | None:
    """Return whether the operating system's lock on a file is ours now; None where the file system has none."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is_at(descriptor: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except FileNotFoundError:
        return False


def _overwrite(descriptor: int, data: bytes) -> None:
    """Replace the content of a file; one write, which no kill cuts in two, if the size stays the same."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, data)
    os.ftruncate(descriptor, len(data))
    os.fsync(descriptor)  # a file server stamps it now, not when the cache is written back
