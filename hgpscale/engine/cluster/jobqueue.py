"""Workers that are jobs of a batch system, through dask-jobqueue; the scheduler lives in this process."""

from __future__ import annotations

import importlib.util
import re
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import dask
from distributed import Client, Security

from hgpscale.engine.cluster.file import ClusterFile
from hgpscale.engine.cluster.interrupts import interrupts_deferred
from hgpscale.engine.cluster.jobs import await_first, ended_replaced, give_up
from hgpscale.engine.cluster.security import encrypted, on_loopback, security_of
from hgpscale.engine.cluster.workers import ALLOCATOR, ALLOWED_FAILURES, GPU, TCP_TIMEOUT, prepare_workers
from hgpscale.errors import EngineError

KINDS = {"slurm": ("SLURMCluster", "sbatch"), "pbs": ("PBSCluster", "qsub"), "lsf": ("LSFCluster", "bsub")}
"""dask-jobqueue's class of each kind, and the command that it submits jobs with."""

_OURS = {"n_workers", "security", "protocol", "asynchronous", "loop", "job_cls", "scheduler_cls"}
_OF_CLUSTER = {"shared_temp_directory", "scheduler_options", "silence_logs", "name"}  # not of single jobs
_LOOPBACK = "127.0.0.1:0"
_IDLE_CHECKS = 60  # this many seconds without work before a worker above the minimum is sent home


def check(cluster: ClusterFile) -> None:
    """Refuse a cluster file that could not work from here.

    Raises
    ------
    SettingsError
        dask-jobqueue or the batch system's commands are missing, an option is ours to give, or what is
        started would listen to other machines without TLS.

    """
    name, command = KINDS[cluster.kind]
    for option in sorted(_OURS & cluster.options.keys()):
        raise cluster.refuse(f"options.{option} is set by hgpscale: leave it out; workers and tls stand beside options")
    needed = ["dask_jobqueue", *(["cryptography"] if cluster.tls and cluster.tls.temporary else [])]
    for package in needed:
        if importlib.util.find_spec(package) is None:
            package = package.replace("_", "-")
            raise cluster.refuse(
                f"kind {cluster.kind} needs the package {package}, which is not installed: "
                "pip install 'hgpscale[jobqueue]'"
            )
    if shutil.which(command) is None:
        raise cluster.refuse(
            f"kind {cluster.kind} submits jobs with {command}, which is not found on PATH: run this where it is"
        )
    secret = encrypted(cluster)
    alone = on_loopback(_scheduler_options(cluster)) and on_loopback({"interface": _interface(cluster)})
    if not (secret or cluster.insecure or alone):
        raise cluster.refuse(
            "scheduler and workers would listen to other machines without TLS, and whoever reaches them can run "
            "programs as you: add 'tls: temporary' or certificates (docs/clusters.md), or 'insecure: true' where "
            "nobody else reaches these machines"
        )
    try:
        job_script(cluster)
    except (OSError, TypeError, ValueError) as error:
        reason = re.sub(r"^\w+\.__init__\(\) got an ", "", " ".join(str(error).split()))
        raise cluster.refuse(f"options: dask-jobqueue's {name} cannot be made of them: {reason}") from error


def declaring_gpu(cluster: ClusterFile) -> ClusterFile:
    """Return the file with workers that declare a GPU, as tasks for one ask for, unless it has `--resources` itself.

    Raises
    ------
    SettingsError
        A job has several workers, which would share its GPUs.

    """
    processes = cluster.options.get("processes", cluster.options.get("cores", 1))
    if processes != 1:
        raise cluster.refuse(
            f"device gpu: a GPU takes one worker, and a job is one worker then: give options.processes: 1, found "
            f"{processes} (without it one a core)"
        )
    arguments = list(map(str, cluster.options.get("worker_extra_args") or ()))
    if any(argument.startswith("--resources") for argument in arguments):
        return cluster
    options = {**cluster.options, "worker_extra_args": ["--resources", f"{GPU}=1", *arguments]}
    return cluster.model_copy(update={"options": options})


@contextmanager
def jobqueue_client(cluster: ClusterFile) -> Iterator[Client]:
    """Submit jobs that are workers, keep as many up as the file says, and cancel them at the end.

    Raises
    ------
    EngineError
        The batch system refuses the first jobs, all of them ended before a worker was there, or dask-jobqueue refuses
        an option.

    """
    with dask.config.set(_config(cluster)), ExitStack() as stack:
        with interrupts_deferred():
            shared = Path(cluster.options.get("shared_temp_directory", ".")).expanduser().absolute()
            security = stack.enter_context(security_of(cluster, shared))
            started = stack.enter_context(_started(cluster, security))
            client = stack.enter_context(Client(started, set_as_default=False))
            prepare_workers(client)
            _submit(started, cluster)
        # Also for a fixed number: `scale` alone does not replace a worker whose job has ended. One at least: while the
        # first one waits in the queue there is no task that would keep it.
        least = max(1, cluster.workers.minimum)
        started.adapt(minimum=least, maximum=cluster.workers.maximum, wait_count=_IDLE_CHECKS)
        await_first(started, cluster)  # hours, where the queue is long: Ctrl-C counts again
        stack.enter_context(ended_replaced(started, cluster.kind))
        yield client


def _config(cluster: ClusterFile) -> dict[str, Any]:
    return {
        # Jobs wait in a queue: an empty cluster is no error for a long time.
        "distributed.scheduler.no-workers-timeout": cluster.wait,
        # So soon after a worker's loss its job counts as ended, and adaptive scaling asks for another one; until then
        # the lost one counts as there.
        "distributed.deploy.lost-worker-timeout": "1s",
        "distributed.comm.timeouts.tcp": TCP_TIMEOUT,
    }


def _scheduler_options(cluster: ClusterFile) -> dict[str, Any]:
    configured = dask.config.get(f"jobqueue.{cluster.kind}", None) or {}
    given = cluster.options.get("scheduler_options") or configured.get("scheduler-options") or {}
    options = {"dashboard": False, "dashboard_address": _LOOPBACK, "allowed_failures": ALLOWED_FAILURES, **given}
    interface = _interface(cluster)
    # As dask-jobqueue does it, which shall find nothing left to choose.
    if "host" not in options and "interface" not in options and interface:
        options["interface"] = interface
    return options


def _interface(cluster: ClusterFile) -> Any:
    return cluster.options.get("interface") or dask.config.get(f"jobqueue.{cluster.kind}.interface", None)


def job_options(cluster: ClusterFile) -> dict[str, Any]:
    """Return what dask-jobqueue's class is called with: the file's options over our own."""
    # What becomes of a lost worker's tasks the run itself tells; Dask would call them failed.
    options: dict[str, Any] = {"cores": 1, "silence_logs": "critical", **cluster.options}
    options.setdefault("processes", options["cores"])  # one thread a process
    options["scheduler_options"] = _scheduler_options(cluster)
    arguments = list(map(str, options.get("worker_extra_args") or ()))
    if not any(argument.startswith(("--dashboard-address", "--no-dashboard")) for argument in arguments):
        # Its page would listen on every interface; --no-dashboard only takes the page away.
        arguments = ["--dashboard-address", _LOOPBACK, *arguments]
    options["worker_extra_args"] = arguments
    variables = {**ALLOCATOR, "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": f"'{TCP_TIMEOUT}'"}
    exports = [f"export {name}={value}" for name, value in variables.items()]
    options["job_script_prologue"] = [*exports, *(options.get("job_script_prologue") or ())]
    return options


def job_script(cluster: ClusterFile) -> str:
    """Return the script of a worker's job, as far as it is known before there is a scheduler."""
    options = {name: value for name, value in job_options(cluster).items() if name not in _OF_CLUSTER}
    job = _class(cluster).job_cls("tcp://scheduler:8786", name="worker", **options)
    return str(job.job_script())


def _class(cluster: ClusterFile) -> Any:
    # The import takes Ctrl-C for itself, to end the process at once and with status 0.
    handler = signal.getsignal(signal.SIGINT)
    import dask_jobqueue

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, handler)
    return getattr(dask_jobqueue, KINDS[cluster.kind][0])


def _started(cluster: ClusterFile, security: Security | None) -> Any:
    try:
        return _class(cluster)(security=security, **job_options(cluster))
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise EngineError(f"{cluster.path}: cannot start the scheduler of the jobs: {reason}") from error


def _submit(started: Any, cluster: ClusterFile) -> None:
    """Submit the first job here, where a refusal can be told: adaptive scaling would ask for ever, in silence."""

    async def submitted() -> None:
        started.worker_spec.update(started.new_worker_spec())  # what `scale` does, which would only log the refusal
        await started

    try:
        started.sync(submitted)
    except (OSError, RuntimeError, ValueError) as error:
        give_up(started)
        _, command = KINDS[cluster.kind]
        reason = " ".join(str(error).split())
        raise EngineError(f"{cluster.path}: {command} does not take the job: {reason}") from error
