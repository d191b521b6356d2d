"""What a task measures of itself, on the worker: where it ran, how long, and with how much memory."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from functools import cache
from typing import NamedTuple, TypeVar

import psutil
from distributed import get_worker

from hgpscale.engine.events import Work

T = TypeVar("T")


class Timed(NamedTuple):
    """What a read task returned, how long it took and where."""

    items: list[object]
    seconds: float
    worker: str


def read_timed(read: Callable[[], list[object]]) -> Timed:
    """Call `read` on a worker and measure it."""
    began = time.perf_counter()
    items = read()
    return Timed(items, time.perf_counter() - began, _place()[0])


def extract_timed(extract: Callable[[], T], scan: Timed) -> tuple[T, Work]:
    """Call `extract`, for one lesion of `scan`, on a worker and measure it."""
    began = time.perf_counter()
    found = extract()
    seconds = time.perf_counter() - began
    end = time.time()
    name, address = _place()
    share = scan.seconds / len(scan.items)
    return found, Work(name, address, scan.worker, end - seconds, end, share, seconds, *_memory(os.getpid()))


def _place() -> tuple[str, str]:
    worker = get_worker()
    return str(worker.name), worker.address


def _memory(process: int) -> tuple[int, int]:
    """Return what this process uses now and the most that it has used: bytes."""
    info = _process(process).memory_info()
    peak: int | None = getattr(info, "peak_wset", None)
    if peak is not None:  # Windows, which has no `resource`
        return info.rss, peak
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return info.rss, max(info.rss, unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


@cache
def _process(number: int) -> psutil.Process:
    return psutil.Process(number)
