"""Workers that are pods of Kubernetes, through the operator of dask-kubernetes; the scheduler is a pod too."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from distributed import Client

from hgpscale.engine.cluster.file import ClusterFile
from hgpscale.engine.cluster.interrupts import interrupts_deferred
from hgpscale.engine.cluster.workers import prepare_workers
from hgpscale.errors import EngineError

_OURS = {"n_workers", "asynchronous", "loop"}


def check(cluster: ClusterFile) -> None:
    """Refuse a cluster file that could not work from here.

    Raises
    ------
    SettingsError
        dask-kubernetes is missing, an option is ours to give, the manifest is not there, or the file does not say
        that the connections are not encrypted.

    """
    if importlib.util.find_spec("dask_kubernetes") is None:
        raise cluster.refuse(
            "kind kubernetes needs the package dask-kubernetes, which is not installed: "
            "pip install 'hgpscale[kubernetes]'"
        )
    for option in sorted(_OURS & cluster.options.keys()):
        raise cluster.refuse(f"options.{option} is set by hgpscale: leave it out; workers stands beside options")
    if not cluster.insecure:
        raise cluster.refuse(
            "kind kubernetes: dask-kubernetes connects without TLS, and whoever reaches the scheduler can run programs "
            "there: add 'insecure: true' where a network policy keeps others out, or run the job with TLS of "
            "deploy/kubernetes (docs/clusters.md)"
        )
    spec = cluster.options.get("custom_cluster_spec")
    if isinstance(spec, str) and not cluster.beside(spec).is_file():
        raise cluster.refuse(f"options.custom_cluster_spec: expected a file, found none at {cluster.beside(spec)}")


@contextmanager
def kubernetes_client(cluster: ClusterFile) -> Iterator[Client]:
    """Have the operator make a cluster, keep as many workers up as the file says, and delete it at the end.

    Raises
    ------
    EngineError
        Kubernetes or the operator cannot be reached, or refuse.

    """
    with ExitStack() as stack:
        with interrupts_deferred():
            try:
                started = stack.enter_context(_started(cluster))
                _scale(started, cluster)
                client = stack.enter_context(Client(started, set_as_default=False))
            except Exception as error:  # each layer below has exceptions of its own: httpx, kr8s, the operator, Dask
                reason = " ".join(str(error).split()) or type(error).__name__
                raise EngineError(
                    f"{cluster.path}: cannot start a cluster on Kubernetes: {reason}; is the Dask operator installed, "
                    "and does kubectl work here?"
                ) from error
            prepare_workers(client)
        yield client


def cluster_options(cluster: ClusterFile) -> dict[str, Any]:
    """Return what `KubeCluster` is called with."""
    options = {"quiet": True, "n_workers": cluster.workers.minimum, **cluster.options}
    if isinstance(options.get("custom_cluster_spec"), str):
        options["custom_cluster_spec"] = str(cluster.beside(options["custom_cluster_spec"]))
    return options


def _started(cluster: ClusterFile) -> Any:
    from dask_kubernetes.operator import KubeCluster

    before = set(KubeCluster._instances)
    try:
        return KubeCluster(**cluster_options(cluster))
    except Exception:
        # Take back what has been made. dask-kubernetes does so at exit, with a traceback where no Kubernetes answers.
        for left in set(KubeCluster._instances) - before:
            with suppress(Exception):
                left.close(timeout=10)
            left.shutdown_on_close = False
        raise


def _scale(started: Any, cluster: ClusterFile) -> None:
    minimum, maximum = cluster.workers.minimum, cluster.workers.maximum
    if minimum == maximum:
        started.scale(minimum)  # the operator itself replaces pods that end
    else:
        started.adapt(minimum=minimum, maximum=maximum)
