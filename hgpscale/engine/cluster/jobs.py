"""What becomes of jobs that are to be workers: dask-jobqueue itself never asks the batch system again.

Only SLURM is asked here. A job of PBS or LSF that ends before its worker is there is waited for.
"""

from __future__ import annotations

import logging
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distributed.core import Status

from hgpscale.engine.cluster.file import ClusterFile
from hgpscale.errors import EngineError

_KNOWN = {"slurm": ("squeue", "--noheader", "--format", "%i", "--jobs")}
"""The command that prints which of some jobs, joined by commas, wait or run; others than SLURM are not asked."""

_POLL_SECONDS = 0.2  # how often the scheduler is asked for the first worker
_ASK_SECONDS = 5.0  # how often the batch system is asked
_SLOW_SECONDS = 10.0  # that it may take to answer

logger = logging.getLogger(__name__)


def await_first(started: Any, cluster: ClusterFile) -> None:
    """Wait until a worker is there; a job that ended before would be waited for in vain, and in silence.

    Parameters
    ----------
    started
        dask-jobqueue's cluster.
    cluster
        The file that it was made by.

    Raises
    ------
    EngineError
        All jobs have ended.

    """
    asked = time.monotonic()
    try:
        while not started.scheduler_info["workers"]:
            time.sleep(_POLL_SECONDS)
            if time.monotonic() - asked < _ASK_SECONDS:
                continue
            asked = time.monotonic()
            jobs = list(started.workers.values())
            if jobs and _ended(started, cluster.kind) >= started.workers.keys():
                raise EngineError(
                    f"{cluster.path}: job {', '.join(str(job.job_id) for job in jobs)} ended before its worker reached "
                    f"this process{_last_words(jobs[0])}; is Python found there, and does the network let it through?"
                )
    except BaseException:
        give_up(started)
        raise


def give_up(started: Any) -> None:
    """Let closing the cluster not stumble over jobs that it does not expect in their state."""
    for job in started.workers.values():
        job.status = Status.failed


@contextmanager
def ended_replaced(started: Any, kind: str) -> Iterator[None]:
    """Have other jobs submitted for those that end before their worker is there, such as pre-empted ones."""
    stop = threading.Event()

    def watch() -> None:
        before: set[str] = set()
        while not stop.wait(_ASK_SECONDS):
            try:
                now = _ended(started, kind)
                if gone := now & before:  # twice, as a worker that has just left is Dask's own to replace
                    started.sync(_forget, started, gone)
                before = now
            except Exception:  # whatever it is, the next time it may be over
                logger.warning("cannot look after the jobs, trying again", exc_info=True)

    thread = threading.Thread(target=watch, name="hgpscale-jobs", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(_SLOW_SECONDS)


async def _forget(started: Any, names: set[str]) -> None:
    """Take jobs for lost, as Dask does with workers that were there: adaptive scaling then asks for others."""
    for name in names & started.workers.keys():
        started.workers.pop(name).status = Status.failed


def _ended(started: Any, kind: str) -> set[str]:
    """Return the names of jobs that the batch system does not know any more and that have no worker."""
    jobs = {name: str(job.job_id) for name, job in dict(started.workers).items() if job.job_id}
    workers = [str(worker["name"]) for worker in list(started.scheduler_info["workers"].values())]
    missing = {name: job for name, job in jobs.items() if not any(f"{one}-".startswith(f"{name}-") for one in workers)}
    if not missing or kind not in _KNOWN:
        return set()
    command = [*_KNOWN[kind], ",".join(missing.values())]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SLOW_SECONDS)  # noqa: S603 (ours)
    except (OSError, subprocess.TimeoutExpired):
        return set()
    if found.returncode != 0 and "Invalid job id" not in found.stderr:  # it cannot tell now
        return set()
    known = set(found.stdout.split())
    return {name for name, job in missing.items() if job not in known}


def _last_words(job: Any) -> str:
    """Return the last line of a job's log, and where it is."""
    log = Path(job.log_directory or ".") / f"{job.job_name or 'worker'}-{job.job_id}.err"
    if not log.is_file():
        return ""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f"; {log} ends with: {lines[-1]}" if lines else f"; {log} is empty"
