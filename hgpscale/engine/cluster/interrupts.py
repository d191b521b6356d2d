"""Ctrl-C and SIGTERM while workers start and while they work; and workers that import the caller's script."""

from __future__ import annotations

import multiprocessing.resource_tracker
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from hgpscale.errors import EngineError

GUARD = (
    'In a script, call hgpscale.extract below `if __name__ == "__main__":`, because every worker imports the script.'
)


@contextmanager
def interrupts_deferred() -> Iterator[None]:
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
        raise EngineError(f"a starting worker ran the calling script. {GUARD}")


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
