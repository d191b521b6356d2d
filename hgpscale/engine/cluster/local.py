"""Workers of our own on this machine."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import dask
from dask.system import CPU_COUNT
from distributed import Client, LocalCluster, Nanny
from distributed.system import MEMORY_LIMIT

from hgpscale.device import VISIBLE
from hgpscale.engine.cluster.interrupts import GUARD, interrupts_deferred
from hgpscale.engine.cluster.workers import ALLOCATOR, ALLOWED_FAILURES, GPU, PAUSE_SECONDS, prepare_workers
from hgpscale.errors import EngineError, SettingsError

_CONFIG = {
    # A fork after OpenMP has started kills the child.
    "distributed.worker.multiprocessing-method": "spawn",
    # Nobody sees the profile of workers without a page.
    "distributed.worker.profile.enabled": False,
    # Tasks that no worker can take end the run instead of waiting for ever. Long, because a worker that is short
    # of memory counts as absent.
    "distributed.scheduler.no-workers-timeout": "10 minutes",
    # So long after a worker's death the cluster looks whether its successor is there, and gives the place up if that
    # one has just died too. Never: a worker that dies is always replaced.
    "distributed.deploy.lost-worker-timeout": "10000 days",
    **{f"distributed.nanny.pre-spawn-environ.{name}": value for name, value in ALLOCATOR.items()},
}

_LEAST = 1 << 30
"""Bytes that a worker needs: 0.2 GiB for itself, and a large lesion with all image types (benchmarks/README.md)."""


@contextmanager
def local_client(workers: int | None = None, gpus: Sequence[str] = ()) -> Iterator[Client]:
    """Start worker processes of one thread each on this machine and stop them at the end.

    Everything listens on 127.0.0.1 only. Each worker may use its share of the machine's memory; a worker that
    exceeds it is ended and counts as died. Workers end by themselves when this process is killed.

    Parameters
    ----------
    workers
        Number of processes; None: one for each of `gpus`, without any `default_workers`.
    gpus
        Devices, as ``CUDA_VISIBLE_DEVICES`` has them: each worker sees one of them alone, also when its process is
        started anew, and declares the resource ``GPU``; workers for which there is none left see none.

    Raises
    ------
    SettingsError
        `workers` is below 1.
    EngineError
        The workers do not start.

    """
    if workers is not None and workers < 1:
        raise SettingsError(f"workers must be at least 1, found {workers}")
    with dask.config.set(_CONFIG), _environment_restored(), ExitStack() as stack:
        with interrupts_deferred():
            number = (len(gpus) or default_workers()) if workers is None else workers
            cluster = stack.enter_context(_started(number, gpus))
            client = stack.enter_context(Client(cluster, set_as_default=False))
            prepare_workers(client)
        yield client


def default_workers() -> int:
    """Return one a core that this process may use, but no more than have `_LEAST` bytes of its memory each."""
    return max(1, min(int(CPU_COUNT), int(MEMORY_LIMIT) // _LEAST))


def _started(workers: int, gpus: Sequence[str]) -> LocalCluster:
    """Start a cluster; once more if one of its workers dies on the way."""
    try:
        return _local_cluster(workers, gpus)
    except (OSError, RuntimeError):
        time.sleep(PAUSE_SECONDS)
    try:
        return _local_cluster(workers, gpus)
    except (OSError, RuntimeError) as error:
        raise EngineError(f"cannot start workers on this machine: {error} {GUARD}") from error


class _OnGpu(Nanny):  # type: ignore[misc] # distributed has no types
    """Starts a worker, and its successors, that see one device alone, or none.

    That at the place that is the worker's name.

    Without dask-cuda, whose other half, memory pools and transfers of Dask's own arrays, is of no use here.
    """

    def __init__(self, *arguments: Any, name: int, gpus: Sequence[str], **options: Any) -> None:
        own = gpus[name] if name < len(gpus) else ""
        super().__init__(*arguments, name=name, env={VISIBLE: own}, resources={GPU: 1} if own else {}, **options)


def _local_cluster(workers: int, gpus: Sequence[str]) -> LocalCluster:
    on_gpus = {"worker_class": _OnGpu, "gpus": gpus} if gpus else {}
    return LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        silence_logs=logging.CRITICAL,
        scheduler_kwargs={
            "allowed_failures": ALLOWED_FAILURES,
            "dashboard": False,
            "dashboard_address": "127.0.0.1:0",
        },
        **on_gpus,
    )


@contextmanager
def _environment_restored() -> Iterator[None]:
    """Take back the variables that Dask sets here for its workers: they would slow down what the caller does next."""
    before = set(os.environ)
    try:
        yield
    finally:
        for name in set(os.environ) - before:
            del os.environ[name]
