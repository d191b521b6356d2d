"""What extraction needs of a machine, each tried in earnest; what is not there raises."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hgpscale
from hgpscale.doctor.found import Kernels, Pool, Resources, Scratch, SelfTest, Started

_LESION_MM = 20.0


def resources() -> Resources:
    """Say what this process may use, as Dask sees it."""
    import psutil
    from dask.system import CPU_COUNT
    from distributed.system import MEMORY_LIMIT

    from hgpscale.engine.cluster.local import default_workers

    return Resources(int(CPU_COUNT), int(MEMORY_LIMIT), psutil.virtual_memory().available, default_workers())


def scratch() -> Scratch:
    """Write a temporary file where workers do, or where they would make that folder."""
    import dask

    folder = Path(dask.config.get("temporary-directory", None) or tempfile.gettempdir()).absolute()
    there = next(place for place in (folder, *folder.parents) if place.exists())
    with tempfile.TemporaryFile(dir=there):
        return Scratch(str(folder), shutil.disk_usage(there).free)


def kernels() -> Kernels:
    """Load the kernels, or compile them."""
    import llvmlite.binding as llvm

    from hgpscale.kernels import warm_up

    began = time.perf_counter()
    warm_up()
    seconds = time.perf_counter() - began
    stats, processor = list(_statistics()), llvm.get_host_cpu_name()
    if not stats:
        return Kernels("", "", 0, 0, seconds, processor)
    return Kernels(
        stats[0].cache_path,
        _origin(Path(stats[0].cache_path)),
        sum(sum(one.cache_hits.values()) for one in stats),
        sum(sum(one.cache_misses.values()) for one in stats),
        seconds,
        processor,
    )


def _statistics() -> Iterator[Any]:
    """Yield what numba counted for each kernel that is imported."""
    from numba.core.dispatcher import Dispatcher

    modules = [module for name, module in sorted(sys.modules.items()) if name.startswith("hgpscale.kernels.")]
    for kernel in {value for module in modules for value in vars(module).values() if isinstance(value, Dispatcher)}:
        yield kernel.stats


def _origin(folder: Path) -> str:
    from numba import config

    if config.CACHE_DIR and folder.is_relative_to(Path(config.CACHE_DIR).absolute()):
        return "NUMBA_CACHE_DIR"
    return "beside the package" if folder.is_relative_to(Path(hgpscale.__file__).parent) else "the user's cache"


def self_test() -> SelfTest:
    """Extract a synthetic lesion in this process."""
    import numpy as np

    from hgpscale.single import extract_lesion
    from hgpscale.testing import sphere

    image, mask = sphere(_LESION_MM)
    extract_lesion(image, mask)  # imports, and loads what float images need
    began = time.perf_counter()
    values = extract_lesion(image, mask)
    seconds = time.perf_counter() - began
    wrong = [name for name, value in values.items() if not np.isfinite(value)]
    if wrong or not values:
        raise ArithmeticError(f"{len(wrong)} of {len(values)} features are not finite, such as {wrong[:1]}")
    return SelfTest(_LESION_MM, len(values), seconds)


def worker() -> Started:
    """Start a worker process, ask it for something, and stop it."""
    from hgpscale.engine.cluster import check_not_importing, local_client

    check_not_importing()
    began = time.perf_counter()
    with local_client(1) as client:
        client.submit(os.getpid).result(timeout=60)
        seconds = time.perf_counter() - began
    return Started(seconds)


def threads() -> tuple[Pool, ...]:
    """List the libraries loaded so far that start threads."""
    from threadpoolctl import threadpool_info

    return tuple(sorted({Pool(p["internal_api"], p["num_threads"]) for p in threadpool_info()}, key=str))
