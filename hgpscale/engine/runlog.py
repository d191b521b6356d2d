"""The log of a run: a line of JSON for each event, appended to a file that any program can read."""

from __future__ import annotations

import json
import os
import warnings
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from hgpscale._version import __version__
from hgpscale.engine.events import (
    ClusterReady,
    Event,
    LesionDone,
    LesionSubmitted,
    RunFinished,
    RunStarted,
    SchedulerLost,
    WorkerLost,
    WorkersCounted,
)
from hgpscale.errors import HgpscaleError, LogError

FORMAT = 1
"""Version of the lines' fields, told by the first line of a run."""


class RunLog:
    """Observer that appends a run's events to a file; a context manager, so that it can say how the run ended.

    Runs one after the other, such as one that goes on where another was stopped, may share a file: each has an id of
    its own, which all its lines carry. Each line is written at once and whole.

    Parameters
    ----------
    path
        The file; made if it is not there. Its folder must be.

    Raises
    ------
    LogError
        It cannot be written to.

    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.run = uuid4().hex[:8]
        self._open = self._finished = False  # whether the run has begun, and is told to have ended
        try:
            self._file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
            self._end_line()
        except OSError as error:
            raise LogError(
                f"{self.path}: cannot write the log of the run: {error.strerror}; give a file in a folder that is "
                "there and may be written to"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None and self._open and not self._finished:
            told = " ".join(str(error).split()) if isinstance(error, (HgpscaleError, OSError)) else ""
            self._write("run_stopped", {"error": type(error).__name__, "reason": told})
        self.close()

    def __call__(self, event: Event) -> None:
        """Write `event`; a log that cannot be written any more is warned of once, and the run goes on."""
        name, fields = line(event)
        if isinstance(event, RunStarted):
            self._open, fields = True, {"format": FORMAT, "version": __version__, **fields}
        self._finished |= isinstance(event, RunFinished)
        self._write(name, fields)

    def close(self) -> None:
        """Close the file; later events are dropped."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _end_line(self) -> None:
        """End the last line of a process that was killed while it wrote: ours begins on one of its own."""
        size = os.lseek(self._file, 0, os.SEEK_END)
        if size and os.lseek(self._file, size - 1, os.SEEK_SET) >= 0 and os.read(self._file, 1) != b"\n":
            os.write(self._file, b"\n")

    def _write(self, name: str, fields: dict[str, Any]) -> None:
        if self._file < 0:
            return
        told = {"event": name, "time": moment(datetime.now(UTC).timestamp()), "run": self.run, **fields}
        left = json.dumps(told, separators=(",", ":")).encode() + b"\n"
        try:
            while left:
                left = left[os.write(self._file, left) :]
        except OSError as error:
            self.close()
            warnings.warn(
                f"{self.path}: cannot write the log of the run any more: {error.strerror}; the run goes on without",
                stacklevel=3,
            )


def moment(seconds: float) -> str:
    """Return seconds since 1970 as ISO 8601 in UTC, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def line(event: Event) -> tuple[str, dict[str, Any]]:
    """Return an event's name in the log and its fields, but for those that every line has."""
    match event:
        case RunStarted():
            return "run_started", {
                "manifest": event.manifest,
                "cube": event.cube,
                "total": event.total,
                "pending": event.pending,
                "missing": event.missing,
                "notes": list(event.notes),
            }
        case ClusterReady():
            return "cluster_ready", {"scheduler": event.scheduler, "dashboard": event.dashboard}
        case WorkersCounted():
            return "workers_counted", {"workers": event.workers, "threads": event.threads}
        case LesionSubmitted():
            return "lesion_submitted", {
                "lesion": event.lesion,
                "segmentation": event.segmentation,
                "alone": event.alone,
            }
        case LesionDone():
            return "lesion_done", _done(event)
        case WorkerLost():
            return "worker_lost", {
                "address": event.address,
                "when": moment(event.when),
                "lesions": [list(row) for row in event.lesions],
            }
        case SchedulerLost():
            return "scheduler_lost", {"scheduler": event.scheduler, "reason": event.reason, "seconds": event.seconds}
        case RunFinished(summary, write_seconds):
            return "run_finished", {
                "done": summary.done,
                "failed": len(summary.failed),
                "partial": len({row[:2] for row in summary.partial}),
                "done_before": summary.done_before,
                "failed_before": summary.failed_before,
                "computed": summary.computed,
                "seconds": round(summary.seconds, 3),
                "write_seconds": round(write_seconds, 6),
            }


def _done(event: LesionDone) -> dict[str, Any]:
    """Return the fields of a settled row; those of its work are missing where no task came to its end."""
    failed = () if event.failed is None else (event.failed,)
    fields: dict[str, Any] = {
        "lesion": event.lesion,
        "segmentation": event.segmentation,
        "state": "failed" if failed else "partial" if event.partial else "done",
        "failures": [{"stage": row.failure.stage, "reason": row.failure.reason} for row in failed or event.partial],
        "vectors": event.vectors,
        "write_seconds": round(event.write_seconds, 6),
    }
    if event.work is not None:
        work = event.work
        fields |= work._asdict()
        fields |= {"start": moment(work.start), "end": moment(work.end)}
        fields |= {name: round(getattr(work, name), 6) for name in ("read_seconds", "extract_seconds")}
    return fields
