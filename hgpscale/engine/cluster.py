"""Where the work runs: workers of our own on this machine, or a scheduler that somebody else has started."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing.resource_tracker
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from types import FrameType

import dask
import distributed.comm
from dask.system import CPU_COUNT
from distributed import Client, LocalCluster, Security

from hgpscale._version import __version__
from hgpscale.engine.plugin import WorkerSetup
from hgpscale.errors import EngineError, SettingsError

_CONFIG = {
    # A fork after OpenMP has started kills the child.
    "distributed.worker.multiprocessing-method": "spawn",
    # Tasks that no worker can take end the run instead of waiting for ever. Long, because a worker that is short
    # of memory counts as absent.
    "distributed.scheduler.no-workers-timeout": "10 minutes",
    # So long after a worker's death the cluster looks whether its successor is there, and gives the place up if that
    # one has just died too. Never: a worker that dies is always replaced.
    "distributed.deploy.lost-worker-timeout": "10000 days",
    # Dask's own 64 KiB make the C library give every freed array back and fetch it anew: a lesion takes twice as long.
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": 1 << 28,
    "distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": 1 << 25,  # the most that glibc takes
}
_GUARD = (
    'In a script, call hgpscale.extract below `if __name__ == "__main__":`, because every worker imports the script.'
)
_ATTEMPTS, _PAUSE_SECONDS = 3, 1.0  # how often workers are asked to set themselves up
_ALLOWED_FAILURES = 0  # a task whose worker died is given back at once: run.py then tries it alone


@contextmanager
def local_client(workers: int | None = None) -> Iterator[Client]:
    """Start worker processes of one thread each on this machine and stop them at the end.

    Everything listens on 127.0.0.1 only. Each worker may use its share of the machine's memory; a worker that
    exceeds it is ended and counts as died. Workers end by themselves when this process is killed.

    Parameters
    ----------
    workers
        Number of processes; None: the cores that this process may use.

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
        with _interrupts_deferred():
            cluster = stack.enter_context(_started(CPU_COUNT if workers is None else workers))
            client = stack.enter_context(Client(cluster, set_as_default=False))
            prepare_workers(client)
        yield client


def _started(workers: int) -> LocalCluster:
    """Start a cluster; once more if one of its workers dies on the way."""
    try:
        return _local_cluster(workers)
    except (OSError, RuntimeError):
        time.sleep(_PAUSE_SECONDS)
    try:
        return _local_cluster(workers)
    except (OSError, RuntimeError) as error:
        raise EngineError(f"cannot start workers on this machine: {error} {_GUARD}") from error


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
            time.sleep(_PAUSE_SECONDS)
        except Exception as error:  # whatever a worker raised, often wrapped in a plain Exception
            raise EngineError(
                f"the workers cannot be prepared: {error}; is hgpscale {__version__} installed there?"
            ) from error
        else:
            return


def _local_cluster(workers: int) -> LocalCluster:
    return LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        silence_logs=logging.CRITICAL,
        scheduler_kwargs={
            "allowed_failures": _ALLOWED_FAILURES,
            "dashboard": False,
            "dashboard_address": "127.0.0.1:0",
        },
    )


@contextmanager
def _interrupts_deferred() -> Iterator[None]:
    """Hold back Ctrl-C until the workers are up, and keep it from them for good.

    A terminal sends it to every process. Workers inherit that it is blocked and leave it to the driver, which stops
    them when it has kept what they sent; half-started ones would each print a traceback.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Starting it later would let Ctrl-C through again.
    multiprocessing.resource_tracker.ensure_running()
    noticed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: noticed.append(number))
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        signal.signal(signal.SIGINT, before)
    if noticed:
        raise KeyboardInterrupt


def check_not_importing() -> None:
    """Refuse to go on inside a worker that is importing the caller's script: it would open the cube again.

    Raises
    ------
    EngineError
        The script calls this while it is imported by a worker process that is just starting.

    """
    # The mark that multiprocessing itself sets and reads for the same purpose.
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise EngineError(f"a starting worker ran the calling script. {_GUARD}")


@contextmanager
def connect(address: str, timeout: float = 10) -> Iterator[Client]:
    """Connect to the Dask scheduler at `address`, such as ``tcp://10.0.0.1:8786``; leave it running at the end.

    Raises
    ------
    EngineError
        No scheduler answers there within `timeout` seconds.

    """
    try:
        # In a thread of its own: notebooks have a running loop in this one.
        with ThreadPoolExecutor(1) as pool:
            pool.submit(asyncio.run, _probe(address, timeout)).result()
        client = Client(address, timeout=timeout, set_as_default=False)
    except (OSError, ValueError) as error:
        reason = f" ({' '.join(str(error).split())})" if str(error) else ""
        raise EngineError(
            f"no Dask scheduler answers at {address} within {timeout:g} s{reason}; give the address that the "
            "scheduler logs when it starts, such as tcp://10.0.0.1:8786"
        ) from error
    with client:
        if not client.nthreads():
            warnings.warn(f"the scheduler at {address} has no workers yet; waiting for the first one", stacklevel=2)
        yield client


async def _probe(address: str, timeout: float) -> None:
    """Shake hands with a scheduler; `Client` would wait for ever for a server of another kind to answer."""
    arguments = Security().get_connection_args("client")
    comm = await asyncio.wait_for(distributed.comm.connect(address, **arguments), timeout)
    await comm.close()


@contextmanager
def interrupts_remembered() -> Iterator[Callable[[], None]]:
    """Let Ctrl-C work as ever, and yield a function that raises it again where it was lost.

    An exception that a signal raises inside a destructor, such as that of a Dask future, is dropped by Python; the run
    would go on as if nothing had been pressed.
    """
    noticed: list[int] = []

    def again() -> None:
        if noticed:
            raise KeyboardInterrupt

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    ours = [number for number, handler in handlers.items() if handler is signal.default_int_handler]
    if threading.current_thread() is not threading.main_thread() or not ours:
        yield again
        return

    def remember(number: int, frame: FrameType | None) -> None:
        noticed.append(number)
        signal.default_int_handler(number, frame)

    hook = sys.unraisablehook
    sys.unraisablehook = lambda dropped: None if dropped.exc_type is KeyboardInterrupt else hook(dropped)
    for number in ours:
        signal.signal(number, remember)
    try:
        yield again
    finally:
        sys.unraisablehook = hook
        for number in ours:
            signal.signal(number, signal.default_int_handler)


@contextmanager
def _environment_restored() -> Iterator[None]:
    """Take back the variables that Dask sets here for its workers: they would slow down what the caller does next."""
    before = set(os.environ)
    try:
        yield
    finally:
        for name in set(os.environ) - before:
            del os.environ[name]
