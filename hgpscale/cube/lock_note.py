"""Who holds the lock of a cube, as noted in it, and whether that process still lives."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Self
from uuid import uuid4

import psutil

_DEAD_SECONDS = 60.0
_NOTE_BYTES = 1024  # every note has this size, so that one write replaces another whole


@dataclass(frozen=True)
class Owner:
    """Who writes to a cube; `started` is when its process began, for people."""

    host: str
    pid: int
    started: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, started {self.started}"


@dataclass(frozen=True)
class Note(Owner):
    """The content of a lock."""

    space: str  # see `_space`
    start_mark: str  # see `_start_mark`
    token: str  # tells one holder from every other, also of the same process
    making: bool = False
    beat: int = 0  # so that each heartbeat is another content: S3 knows versions only by what is in them

    @classmethod
    def own(cls) -> Self:
        """Return the note of this process, with a new token."""
        process = psutil.Process()
        started = datetime.fromtimestamp(process.create_time()).astimezone().isoformat(timespec="seconds")
        mark = _start_mark(process.pid)
        assert mark is not None  # this process runs
        return cls(_host(), process.pid, started, _space(), mark, uuid4().hex)

    @classmethod
    def load(cls, data: bytes) -> Self | None:
        """Return the note in the content of a lock; None where there is none."""
        try:
            return cls(**json.loads(data))
        except (ValueError, TypeError):  # not written by us, or not to its end
            return None

    def dump(self) -> bytes:
        """Return the content of a lock."""
        return json.dumps(asdict(self)).encode().ljust(_NOTE_BYTES)


def why_dead(note: Note | None, age: Callable[[], float]) -> str | None:
    """Return why the owner that left a note lives no more; None while it lives. `age` is asked only if need be."""
    if note and (note.host, note.space) == (_host(), _space()):
        return None if _start_mark(note.pid) == note.start_mark else "that process has ended"
    seconds = age()  # negative after a clock was set back: fresh
    return f"no sign of life for {seconds:.0f} s" if seconds > _DEAD_SECONDS else None


def _host() -> str:
    return socket.gethostname()


def _space() -> str:
    """Return within what a pid means the same process: this boot of this machine, and this container.

    Machines of the same name, and containers on one machine, must not take each other's processes for dead.
    """
    if sys.platform != "linux":
        return ""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # a sandbox that hides them: the name of the machine must do
        return ""


def _start_mark(pid: int) -> str | None:
    """Return what tells a process from a later one with its pid; None where none runs, or only a zombie."""
    if sys.platform == "linux":
        try:
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        return None if fields[0] in b"ZX" else fields[19].decode()  # ticks since boot: no clock to set back
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else str(process.create_time())
    except psutil.NoSuchProcess:
        return None
