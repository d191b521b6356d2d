"""What all workers have in common, wherever they run."""

from __future__ import annotations

import time

from distributed import Client

from hgpscale._version import __version__
from hgpscale.engine.plugin import WorkerSetup
from hgpscale.errors import EngineError

ALLOWED_FAILURES = 0
"""A task whose worker died is given back at once: flow.py then tries it alone."""

# Dask's own 64 KiB make the C library give every freed array back and fetch it anew: a lesion takes twice as long.
ALLOCATOR = {
    "MALLOC_TRIM_THRESHOLD_": 1 << 28,
    "MALLOC_MMAP_THRESHOLD_": 1 << 25,  # the most that glibc takes
}
"""Environment variables that every worker process starts with."""

GPU = "GPU"
"""Dask's resource that a worker with a GPU declares, one of: so it gets one task at a time."""

TCP_TIMEOUT = "2 minutes"
"""How long a connection may be silent before it counts as broken: longer than a network is gone for a moment."""

PAUSE_SECONDS = 1.0
"""Before what failed for a moment is tried again."""

_ATTEMPTS = 3  # how often workers are asked to set themselves up


def prepare_workers(client: Client) -> None:
    """Have the workers that there are set themselves up, and those that come later.

    Raises
    ------
    EngineError
        They cannot, or keep dying while they do.

    """
    for left in reversed(range(_ATTEMPTS)):
        try:
            client.register_plugin(WorkerSetup())
        except OSError as error:  # a worker died meanwhile; its successor sets itself up
            if not left:
                raise EngineError(f"the workers cannot be prepared: {error}; look at their log") from error
            time.sleep(PAUSE_SECONDS)
        except Exception as error:  # whatever a worker raised, often wrapped in a plain Exception
            raise EngineError(
                f"the workers cannot be prepared: {error}; is hgpscale {__version__} installed there?"
            ) from error
        else:
            return
