"""One writer at a time: a note beside the cube says who writes to it, a heartbeat says that it still does.

Two writers of one chunk lose each other's rows in silence, so a second one is refused. An owner on this machine is
dead when its process is gone; one elsewhere when its heartbeat is older than a minute, by the clock of the storage,
which stamps both sides. `lock_note` says who is dead, `lock_place` keeps two runs apart that want one free or dead
lock. A run that was taken over while it slept finds out by `Lock.check`, before it writes again.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from hgpscale.cube import store
from hgpscale.cube.lock_note import Note, Owner, why_dead
from hgpscale.cube.lock_place import Seen, lock_place
from hgpscale.errors import CubeError, CubeWriteError

logger = logging.getLogger(__name__)

_BEAT_SECONDS = 15.0


class Lock:
    """The right to write to a cube, from `take` to `close`; a context manager.

    Attributes
    ----------
    was_making
        Whether the owner that this lock was taken over from had noted that it was making the cube. The note stays
        in the lock, so that another kill does not lose it, until `making` is called with False.

    """

    was_making: bool = False

    def __init__(self, path: str | Path) -> None:
        self.path = path
        self._place = lock_place(path)
        self._note = Note.own()
        self._turn = threading.Lock()  # the heartbeat has its own thread
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._beat, name=f"heartbeat of {path}", daemon=True)

    @classmethod
    def take(cls, path: str | Path, *, break_lock: bool = False) -> Self:
        """Take the lock of a cube, whether the cube is there or not.

        One warning is logged when it is taken over from another owner.

        Parameters
        ----------
        path
            The cube's folder or address.
        break_lock
            Take it also from an owner that lives, whose `check` then fails.

        Raises
        ------
        CubeError
            Another run, on whatever machine, is writing to the cube; the path is none of a cube; or the S3 server
            has no conditional writes.
        OSError, obstore's BaseError
            The storage refuses; see `store.storage_errors`.

        """
        lock = cls(path)
        try:
            while not lock._seize(break_lock):
                pass  # another run was faster: look who
        except BaseException:
            lock._place.let_go()
            raise
        lock._heart.start()
        return lock

    def making(self, value: bool) -> None:
        """Note in the lock that the cube is being made, or that it is made.

        Raises
        ------
        CubeWriteError
            As `check`.

        """
        with self._turn:
            self._store(replace(self._note, making=value))

    def check(self) -> None:
        """Make sure that the lock is still ours, by one small read; to be called before each write.

        Raises
        ------
        CubeWriteError
            Another run has taken the cube over, or somebody removed the lock.

        """
        with self._turn:
            self._seen()

    def close(self) -> None:
        """Let the cube go: remove the lock if it is still ours. A second call does nothing."""
        if self._ended.is_set():
            return
        self._ended.set()
        self._heart.join()
        try:
            seen = self._place.look()
            if seen and self._is_ours(seen):
                self._place.remove()
        finally:
            self._place.let_go()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _seize(self, break_lock: bool) -> bool:
        """Take the lock; False where another run came in between."""
        self._adopt(None)
        seen = self._place.create(self._note.dump())
        if seen is None:
            return True
        found = Note.load(seen.data)
        if self._is_ours(seen):  # S3 had stored it, but its answer was lost and we asked again
            self._adopt(found)
            return True
        if found is None and seen.held is False:
            dead: str | None = "nobody holds it"
        else:
            dead = why_dead(found, lambda: self._place.time() - seen.stamp)
        if (seen.held or dead is None) and not break_lock:
            # A dead owner's note in a lock that is held: somebody is about to take it over.
            who = f": {found}" if found and dead is None else ""
            raise CubeError(
                f"{self.path}: another run is writing to this cube{who}; wait until it ends, or stop it, or give "
                "--break-lock if you are sure that it is gone"
            )
        self._adopt(found)
        if not self._place.replace(self._note.dump(), seen):
            return False
        why = "--break-lock" if seen.held or dead is None else dead
        logger.warning("%s: lock taken over from %s: %s", self.path, found or "an unknown run", why)
        return True

    def _adopt(self, found: Note | None) -> None:
        """Carry over into our note what the last owner was about."""
        self.was_making = found is not None and found.making
        self._note = replace(self._note, making=self.was_making)

    def _beat(self) -> None:
        failing = False
        while not self._ended.wait(_BEAT_SECONDS):
            try:
                with self._turn:
                    self._store(self._note)
                failing = False
            except CubeWriteError:  # ours no more: `check` says so where it matters
                return
            except store.storage_errors() as error:
                if not failing:  # once, not each time
                    logger.warning("%s: cannot renew the lock: %s", self.path, store.reason(error))
                failing = True

    def _store(self, note: Note) -> None:
        """Write a note of ours over the last one."""
        seen = self._seen()
        note = replace(note, beat=note.beat + 1)
        if not self._place.replace(note.dump(), seen):
            self._seen()  # either ours no more, or stored while the answer was lost
        self._note = note

    def _seen(self) -> Seen:
        """Return the lock as it is; CubeWriteError where it is not ours."""
        seen = self._place.look()
        if seen and self._is_ours(seen):
            return seen
        found = Note.load(seen.data) if seen else None
        what = f"was taken over by {found}" if found else "is gone or broken"
        raise CubeWriteError(f"{self.path}: the lock of this run {what}; it stops, so as not to mix two runs")

    def _is_ours(self, seen: Seen) -> bool:
        note = Note.load(seen.data)
        return note is not None and note.token == self._note.token


def owner(path: str | Path) -> Owner | None:
    """Return who writes to a cube, without taking the lock; None where it is free or its owner is dead.

    Raises
    ------
    CubeError
        The path is none of a cube.
    OSError, obstore's BaseError
        The storage cannot be read.

    """
    place = lock_place(path)
    seen = place.look()
    note = Note.load(seen.data) if seen else None
    if seen is None or note is None:
        return None
    try:
        now = place.time()
    except store.storage_errors():  # a reader may not write a probe; to tell it, this machine's clock will do
        now = time.time()
    if why_dead(note, lambda: now - seen.stamp):
        return None
    return Owner(note.host, note.pid, note.started)
