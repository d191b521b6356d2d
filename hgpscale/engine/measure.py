"""What a task can tell of the worker process that it runs in."""

from __future__ import annotations

import os
import sys
from functools import cache

import psutil
from distributed import get_worker


def place() -> tuple[str, str]:
    """Return the worker's name and its address; names outlive a worker that is started anew."""
    worker = get_worker()
    return str(worker.name), worker.address


def memory() -> tuple[int, int]:
    """Return what this process uses now and the most that it has used: bytes."""
    info = _process(os.getpid()).memory_info()
    peak: int | None = getattr(info, "peak_wset", None)
    if peak is not None:  # Windows, which has no `resource`
        return info.rss, peak
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return info.rss, max(info.rss, unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


@cache
def _process(number: int) -> psutil.Process:
    return psutil.Process(number)
