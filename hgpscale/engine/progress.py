"""Observers that show a run's progress: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import IO, TYPE_CHECKING, Protocol, Self

from hgpscale.engine.events import ClusterReady, Event, LesionDone, RowFailure, RunFinished, RunStarted, SchedulerLost

if TYPE_CHECKING:
    from rich.console import Console

_LINE_SECONDS = 5.0


class Observer(Protocol):
    """A context manager that takes a run's events."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def __call__(self, event: Event) -> None:
        """Show `event`."""


def observer(console: Console) -> Observer:
    """Return what suits `console`: a bar where it is a terminal, else plain lines on its file."""
    return ProgressBar(console) if console.is_terminal else PlainLines(console.file)


def together(*observers: Callable[[Event], None]) -> Callable[[Event], None]:
    """Return one observer that passes each event on to all of `observers`, in their order."""

    def pass_on(event: Event) -> None:
        for observe in observers:
            observe(event)

    return pass_on


class ProgressBar:
    """Rows done, failures, rate and time left, redrawn in place; failures scroll by above it."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("lesions, {task.fields[failed]} failed, {task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
        )
        self._task = self._progress.add_task("", start=False, failed=0, rate="starting workers", visible=False)
        self._failed = 0

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, event: Event) -> None:
        """Show `event`."""
        match event:
            case RunStarted(total, pending, _, notes):
                for note in notes:
                    self._progress.console.print(note, markup=False, highlight=False, soft_wrap=True)
                self._progress.reset(self._task, total=total, completed=total - pending, visible=True)
            case ClusterReady(_, dashboard) if dashboard:
                self._progress.console.print(f"dashboard: {dashboard}", markup=False, highlight=False, soft_wrap=True)
            case SchedulerLost():
                self._progress.console.print(waiting(event), markup=False, highlight=False, soft_wrap=True)
            case LesionDone():
                for row in failures(event):
                    self._progress.console.print(str(row), markup=False, highlight=False, soft_wrap=True)
                self._failed += event.failed is not None
                speed = self._progress.tasks[0].speed
                rate = "" if speed is None else f"{speed:.1f}/s"
                self._progress.update(self._task, advance=1, failed=self._failed, rate=rate)


class PlainLines:
    """A line every few seconds, one for each failure as it comes, and a last one; for logs."""

    def __init__(self, stream: IO[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock = stream, clock
        self._total = self._before = self._done = self._failed = 0
        self._began = self._shown = clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    def __call__(self, event: Event) -> None:
        """Write the lines that `event` calls for."""
        now = self._clock()
        match event:
            case RunStarted(total, pending, _, notes):
                for note in notes:
                    self._print(note)
                self._total, self._before = total, total - pending
                self._began = self._shown = now
            case ClusterReady(_, dashboard) if dashboard:
                self._print(f"dashboard: {dashboard}")
            case SchedulerLost():
                self._print(waiting(event))
            case LesionDone():
                self._done += 1
                self._failed += event.failed is not None
                for row in failures(event):
                    self._print(str(row))
                if now - self._shown >= _LINE_SECONDS:
                    self._shown = now
                    self._print(self._line(now))
            case RunFinished():
                self._print(self._line(now))

    def _line(self, now: float) -> str:
        seconds = now - self._began
        line = f"{self._before + self._done}/{self._total} lesions, {self._failed} failed"
        if not self._done or seconds <= 0:
            return line
        rate = self._done / seconds
        left = (self._total - self._before - self._done) / rate
        return f"{line}, {rate:.2g}/s, {duration(left)} left" if left else f"{line}, {rate:.2g}/s"

    def _print(self, line: str) -> None:
        print(line, file=self._stream, flush=True)


def failures(event: LesionDone) -> list[RowFailure]:
    """Return all that went wrong with the row."""
    return [event.failed] if event.failed else list(event.partial)


def waiting(event: SchedulerLost) -> str:
    """Return what is told while a scheduler is waited for."""
    return f"lost the Dask scheduler at {event.scheduler}: waiting up to {duration(event.seconds)} for it to come back"


def duration(seconds: float) -> str:
    """Return a time for people: ``40 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
