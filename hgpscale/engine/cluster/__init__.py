"""Where the work runs, one module a kind: this machine, a scheduler, a batch system, Kubernetes.

`open_client` is the one way in for a run. A new kind of cluster file is a module with `check`, which refuses what could
not work before anything starts, and a context manager that yields a `distributed.Client`; it is listed in `_KINDS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from distributed import Client

from hgpscale.engine.cluster import jobqueue, kubernetes
from hgpscale.engine.cluster.file import ClusterFile, parse
from hgpscale.engine.cluster.interrupts import check_not_importing, interrupts_remembered
from hgpscale.engine.cluster.local import local_client
from hgpscale.engine.cluster.scheduler import connect
from hgpscale.engine.cluster.workers import prepare_workers

__all__ = [
    "ClusterFile",
    "check_not_importing",
    "connect",
    "interrupts_remembered",
    "local_client",
    "open_client",
    "prepare_workers",
    "read_cluster",
]

_KINDS = {
    **dict.fromkeys(jobqueue.KINDS, (jobqueue.check, jobqueue.jobqueue_client)),
    "kubernetes": (kubernetes.check, kubernetes.kubernetes_client),
}


def read_cluster(path: str | Path, device: str = "cpu") -> ClusterFile:
    """Read a cluster file (docs/clusters.md) and check all of it that can be checked from here.

    Parameters
    ----------
    path
        The file.
    device
        What its workers shall compute on: jobs for ``gpu`` are made to declare one.

    Raises
    ------
    SettingsError
        The file cannot be read or used, its kind needs something that is not installed, or its scheduler would listen
        to other machines without TLS.

    """
    cluster = parse(path)
    if device == "gpu" and cluster.kind in jobqueue.KINDS:
        cluster = jobqueue.declaring_gpu(cluster)
    check, _ = _KINDS[cluster.kind]
    check(cluster)
    return cluster


def open_client(
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    cluster: ClusterFile | None = None,
    gpus: Sequence[str] = (),
) -> AbstractContextManager[Client]:
    """Return what yields a client of the place that one argument names; without any, of workers on this machine.

    Parameters
    ----------
    workers
        Number of worker processes on this machine; None: see `local_client`.
    scheduler
        Address of a running Dask scheduler; left running.
    cluster
        What `read_cluster` returned; started, and stopped at the end.
    gpus
        For workers on this machine: the devices, one a worker; see `local_client`.

    """
    if cluster is not None:
        _, client = _KINDS[cluster.kind]
        return client(cluster)
    return connect(scheduler) if scheduler is not None else local_client(workers, gpus)
