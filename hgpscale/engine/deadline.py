"""A deadline that also ends what hangs in a library: its worker process is given up, with a traceback in its log."""

from __future__ import annotations

import faulthandler
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

DEADLINE = 3600.0
"""Seconds that a task may take: far more than any lesion does, far less than a night."""

_ends: dict[object, float] = {}
_lock = threading.Lock()


@contextmanager
def ended_after(seconds: float | None) -> Iterator[None]:
    """End this process, with status 1, if what runs within takes longer; None: it may take for ever.

    A thread of the C library keeps watch, so that loops that never let go of Python's lock end too. Several threads may
    have deadlines: the first one that passes ends the process.
    """
    if seconds is None:
        yield
        return
    mine = object()
    with _lock:
        _ends[mine] = time.monotonic() + seconds
        _watch()
    try:
        yield
    finally:
        with _lock:
            del _ends[mine]
            _watch()


def _watch() -> None:
    """Watch for the deadline that passes first; the lock is held."""
    if _ends:
        faulthandler.dump_traceback_later(max(min(_ends.values()) - time.monotonic(), 1e-3), exit=True)
    else:
        faulthandler.cancel_dump_traceback_later()
