"""How much memory may be used: what is too large is told before it is tried."""

from __future__ import annotations

from typing import NamedTuple

import psutil


class MemoryLimit(NamedTuple):
    """What a process may use.

    Attributes
    ----------
    size
        Bytes.
    words
        The same for messages, such as ``this machine has 16.0 GiB of memory``.

    """

    size: int
    words: str


_worker: int | None = None


def set_memory_limit(size: int | None) -> None:
    """Say how many bytes this worker process may use; None: as many as the machine has."""
    global _worker
    _worker = size


def memory_limit() -> MemoryLimit:
    """Return what this process may use: its share as a worker, else all that the machine has."""
    if _worker is not None:
        return MemoryLimit(_worker, f"this worker may use {bytes_text(_worker)} of memory")
    total = psutil.virtual_memory().total
    return MemoryLimit(total, f"this machine has {bytes_text(total)} of memory")


def bytes_text(count: float) -> str:
    """Return a number of bytes for people: ``512 bytes``, ``4.3 KiB``."""
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":
            break
        count /= 1024
    return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
