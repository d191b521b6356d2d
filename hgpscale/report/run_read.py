"""The log of a run, read once from its beginning to its end: what is kept of it does not grow with the cohort."""

from __future__ import annotations

import heapq
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from hgpscale.errors import LogError

BINS = 120  # of time, at most
SLOWEST = 20  # lesions that are kept
DETAILED = 3  # runs that are kept with all that follows, the last ones
_RUNS, _REASONS, _WORKERS, _LOSSES, _EXAMPLES = 200, 500, 5000, 50, 3
_LONGEST = 300  # characters of a reason

Row = tuple[str, str]


@dataclass
class Bins:
    """How many lesions were settled over time; when time runs past the last bin, two become one."""

    width: float = 1.0
    done: list[int] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)

    def add(self, seconds: float, *, failed: bool) -> None:
        """Count a lesion so many seconds after the start."""
        while seconds >= self.width * BINS:
            self.width *= 2
            self.done, self.failed = ([sum(some[i : i + 2]) for i in range(0, len(some), 2)] for some in self.pair)
        number = int(seconds / self.width)
        for some in self.pair:
            some.extend([0] * (number + 1 - len(some)))
        self.pair[failed][number] += 1

    @property
    def pair(self) -> tuple[list[int], list[int]]:
        """Both counts."""
        return self.done, self.failed


class Slow(NamedTuple):
    """A lesion that took long; compares by that."""

    seconds: float
    number: int
    row: Row
    read: float
    extract: float
    worker: str
    peak: int


@dataclass
class Reason:
    """Why rows failed, all of one kind: how many, the first of them, and its reason word for word."""

    example: str
    rows: int = 0
    lesions: list[str] = field(default_factory=list)


@dataclass
class WorkerSeen:
    """What one worker did."""

    lesions: int = 0
    read: float = 0.0
    extract: float = 0.0
    peak: int = 0
    lost: int = 0


class LossSeen(NamedTuple):
    """A worker that was lost: seconds after the start, its name or address, the first lesions that it had, how many."""

    seconds: float
    worker: str
    lesions: tuple[str, ...]
    number: int


@dataclass
class Run:
    """What the log says of one run."""

    name: str
    number: int
    started: datetime
    manifest: str
    cube: str
    version: str
    total: int
    pending: int
    last: float = 0.0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("done", "partial", "failed"), 0))
    submitted: int = 0
    again: int = 0
    vectors: int = 0
    measured: int = 0
    read: float = 0.0
    extract: float = 0.0
    write: float = 0.0
    finished: bool = False
    stopped: str = ""
    threads: int = 0
    most_workers: int = 0
    most_threads: int = 0
    thread_seconds: float = 0.0
    first_count: float | None = None
    last_count: float = 0.0
    bins: Bins = field(default_factory=Bins)
    slowest: list[Slow] = field(default_factory=list)
    reasons: dict[tuple[str, str, str], Reason] = field(default_factory=dict)
    other_reasons: int = 0
    workers: dict[str, WorkerSeen] = field(default_factory=dict)
    other_workers: int = 0
    names: dict[str, str] = field(default_factory=dict)
    losses: list[LossSeen] = field(default_factory=list)
    lost: int = 0
    schedulers_lost: int = 0

    @property
    def settled(self) -> int:
        """Rows that were settled in this run."""
        return sum(self.counts.values())

    @property
    def capacity(self) -> float:
        """Seconds that the workers' threads were there, all together; 0 where nobody counted them."""
        return self.thread_seconds + self.threads * max(0.0, self.last - self.last_count)

    def forget(self) -> None:
        """Drop what only the details need."""
        self.bins, self.slowest, self.reasons, self.workers, self.names, self.losses = Bins(), [], {}, {}, {}, []


@dataclass
class Log:
    """All runs of a log.

    Attributes
    ----------
    path
        The file.
    runs
        In the order in which they began; those before the last `DETAILED` without details.
    began
        How many began; more than `runs` where the first ones were dropped.
    unread
        Lines that no run of ours wrote, or that were cut off.

    """

    path: Path
    runs: list[Run] = field(default_factory=list)
    began: int = 0
    unread: int = 0


def read_log(path: str | Path) -> Log:
    """Read the log that ``hgpscale extract --log`` wrote.

    Raises
    ------
    LogError
        It is not there, cannot be read, or holds no run.

    """
    log = Log(Path(path))
    by_name: dict[str, Run] = {}
    try:
        with log.path.open("rb") as lines:
            for line in lines:
                try:
                    _take(log, by_name, _Fields(json.loads(line)))
                except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
                    log.unread += 1
    except OSError as error:
        raise LogError(f"{path}: cannot be read: {error.strerror}; give the log of a run") from error
    if not log.runs:
        raise LogError(f"{path}: expected the log that hgpscale extract --log writes, found no run in it")
    return log


class _Fields:
    """The fields of a line, each of the kind that is asked for; what is not raises ValueError."""

    def __init__(self, line: Any) -> None:
        if not isinstance(line, dict):
            raise TypeError("not an object")
        self.line = line

    def text(self, name: str) -> str:
        value = self.line[name]
        if not isinstance(value, str):
            raise TypeError(name)
        return value

    def number(self, name: str) -> float:
        value = float(self.line[name])
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(name)
        return value

    def count(self, name: str) -> int:
        return int(self.number(name))

    def moment(self, name: str) -> datetime:
        value = datetime.fromisoformat(self.text(name))
        if value.tzinfo is None:
            raise ValueError(name)
        return value


def _take(log: Log, runs: dict[str, Run], line: _Fields) -> None:
    """Add one line to what is known."""
    event, name, time = line.text("event"), line.text("run"), line.moment("time")
    if event == "run_started":
        manifest, cube, version = (line.text(key) for key in ("manifest", "cube", "version"))
        run = Run(name, log.began + 1, time, manifest, cube, version, line.count("total"), line.count("pending"))
        log.began += 1
        runs[name] = run
        log.runs.append(run)
        if len(log.runs) > DETAILED:
            log.runs[-1 - DETAILED].forget()
        if len(log.runs) > _RUNS:
            runs.pop(log.runs.pop(0).name, None)
        return
    run = runs[name]
    seconds = max(0.0, (time - run.started).total_seconds())
    if event in _EVENTS:  # a newer version may tell more
        _EVENTS[event](run, line, seconds)
    run.last = max(run.last, seconds)


def _submitted(run: Run, line: _Fields, seconds: float) -> None:
    run.submitted += 1
    run.again += line.line["alone"] is True


def _counted(run: Run, line: _Fields, seconds: float) -> None:
    workers, threads = line.count("workers"), line.count("threads")
    if run.first_count is None:
        run.first_count = seconds
    run.thread_seconds += run.threads * max(0.0, seconds - run.last_count)
    run.threads, run.last_count = threads, seconds
    run.most_workers, run.most_threads = max(run.most_workers, workers), max(run.most_threads, threads)


def _done(run: Run, line: _Fields, seconds: float) -> None:
    state, row = line.text("state"), (line.text("lesion"), line.text("segmentation"))
    vectors, write = line.count("vectors"), line.number("write_seconds")
    failures = [(f["stage"], f["reason"]) for f in line.line["failures"]]
    if state not in run.counts or not all(isinstance(text, str) for some in failures for text in some):
        raise ValueError(state)
    if "worker" in line.line:
        _worked(run, line, row)
    run.counts[state] += 1
    run.vectors += vectors
    run.write += write
    run.bins.add(seconds, failed=state == "failed")
    for kind in {
        (state, stage, kind_of(reason, partial=state == "partial")): reason for stage, reason in failures
    }.items():
        _add_reason(run, *kind, row)


def _worked(run: Run, line: _Fields, row: Row) -> None:
    """Add when and where a lesion was computed."""
    worker, address, reader = (line.text(name) for name in ("worker", "address", "reader"))
    read, extract, peak = line.number("read_seconds"), line.number("extract_seconds"), line.count("peak")
    run.measured += 1
    run.read += read
    run.extract += extract
    if len(run.names) < _WORKERS:
        run.names[address] = worker
    seen = _worker(run, worker)
    seen.lesions += 1
    seen.extract += extract
    seen.peak = max(seen.peak, peak)
    _worker(run, reader).read += read
    slow = Slow(read + extract, -run.settled, row, read, extract, worker, peak)
    (heapq.heappush if len(run.slowest) < SLOWEST else heapq.heappushpop)(run.slowest, slow)


def _worker(run: Run, name: str) -> WorkerSeen:
    if name not in run.workers and len(run.workers) >= _WORKERS:
        run.other_workers += 1
        return WorkerSeen()
    return run.workers.setdefault(name, WorkerSeen())


def _add_reason(run: Run, kind: tuple[str, str, str], reason: str, row: Row) -> None:
    if kind not in run.reasons and len(run.reasons) >= _REASONS:
        run.other_reasons += 1
        return
    found = run.reasons.setdefault(kind, Reason(reason[:_LONGEST]))
    found.rows += 1
    if len(found.lesions) < _EXAMPLES:
        found.lesions.append(row[0])


def kind_of(reason: str, *, partial: bool = False) -> str:
    """Return a reason without what is of one file or lesion alone, paths and numbers; `partial` keeps the families."""
    head, colon, rest = reason.partition(": ") if partial else ("", "", reason)
    rest = re.sub(r"\S*[/\\]\S*", "…", rest)
    return (head + colon + re.sub(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?", "#", rest))[:_LONGEST]


def _lost(run: Run, line: _Fields, seconds: float) -> None:
    address = line.text("address")
    lesions = [str(row[0]) for row in line.line["lesions"]]
    name = run.names.get(address, address)
    run.lost += 1
    _worker(run, name).lost += 1
    if len(run.losses) < _LOSSES:
        when = max(0.0, (line.moment("when") - run.started).total_seconds())
        run.losses.append(LossSeen(when, name, tuple(lesions[:_EXAMPLES]), len(lesions)))


def _scheduler_lost(run: Run, line: _Fields, seconds: float) -> None:
    run.schedulers_lost += 1


def _finished(run: Run, line: _Fields, seconds: float) -> None:
    run.write = line.number("write_seconds")
    run.finished = True


def _stopped(run: Run, line: _Fields, seconds: float) -> None:
    error, reason = line.text("error"), line.text("reason")
    run.stopped = f"{error}: {reason}" if reason else error


_EVENTS: dict[str, Callable[[Run, _Fields, float], None]] = {
    "lesion_submitted": _submitted,
    "workers_counted": _counted,
    "lesion_done": _done,
    "worker_lost": _lost,
    "scheduler_lost": _scheduler_lost,
    "run_finished": _finished,
    "run_stopped": _stopped,
}
