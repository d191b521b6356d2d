"""What a run reports while it goes on; observers such as the progress bar live on these alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from hgpscale.errors import Failure


class RowFailure(NamedTuple):
    """A row of the manifest that has no numbers, or lacks some, and why."""

    lesion: str
    segmentation: str
    failure: Failure

    def __str__(self) -> str:
        rater = "" if self.segmentation == "default" else f" ({self.segmentation})"
        return f"{self.lesion}{rater}: {self.failure}"


@dataclass(frozen=True)
class Summary:
    """How a run ended.

    Attributes
    ----------
    cube
        Where the numbers are.
    total
        Rows of the manifest.
    done_before
        Rows that earlier runs had finished, failed ones included.
    failed_before
        Those of them that failed, wholly or in part, and were not tried again.
    done
        Rows that have numbers since this run.
    failed
        Rows that failed in this run: no numbers at all.
    partial
        Rows that this run has numbers for, except for some feature families; one entry an image and reason. These
        rows are counted in `done` too.
    seconds
        Time from the start of the cluster to the last block written.
    missing
        Feature vectors (one a row, region, image type and family) that the cube lacked of what was asked for.
    computed
        Feature vectors that came of this run, failed ones included.

    """

    cube: str | Path
    total: int
    done_before: int
    failed_before: int
    done: int
    failed: tuple[RowFailure, ...]
    partial: tuple[RowFailure, ...]
    seconds: float
    missing: int
    computed: int

    @property
    def ok(self) -> bool:
        """Whether every row of the manifest has all its numbers."""
        return not (self.failed or self.partial or self.failed_before)


class Work(NamedTuple):
    """When and where one lesion was computed, measured on the worker.

    Attributes
    ----------
    worker, address
        Name and address of the worker that extracted it; names outlive a worker that is started anew.
    reader
        Name of the worker that read its scan.
    start, end
        When the extraction began and ended: seconds since 1970, by the worker's clock.
    read_seconds
        Its share of the time that its scan took to read: that of all lesions of one scan is equal.
    extract_seconds
        What the extraction took, by a clock that nobody sets.
    memory, peak
        What the worker's process used when the extraction ended, and the most that it ever used: bytes.
    crop
        What was kept of its scan for it: bytes.

    """

    worker: str
    address: str
    reader: str
    start: float
    end: float
    read_seconds: float
    extract_seconds: float
    memory: int
    peak: int
    crop: int = 0


@dataclass(frozen=True)
class RunStarted:
    """Manifest, settings and cube are in order; of `pending` of `total` rows something is to be done.

    `missing` feature vectors in all; `notes` say what this run added to the cube, or computes anew, a line each.
    """

    total: int
    pending: int
    missing: int
    notes: tuple[str, ...] = ()
    manifest: str = ""
    cube: str = ""


@dataclass(frozen=True)
class ClusterReady:
    """Workers are about to be given work; `dashboard` is the address of Dask's page of them, empty if there is none."""

    scheduler: str
    dashboard: str = ""


@dataclass(frozen=True)
class WorkersCounted:
    """How many workers and threads there are, told when it is first known and when it has changed."""

    workers: int
    threads: int


@dataclass(frozen=True)
class LesionSubmitted:
    """A lesion's tasks were given to the scheduler; when they begin on a worker, only their end tells (`Work.start`).

    `alone`: for another time, on a worker with nothing else of this run, because one that had it was lost.
    """

    lesion: str
    segmentation: str
    alone: bool = False


@dataclass(frozen=True)
class LesionDone:
    """One row is settled: with all its numbers, without some families (`partial`), or without any (`failed`).

    Attributes
    ----------
    failed, partial
        What went wrong.
    lesion, segmentation
        Which row.
    vectors
        Feature vectors with numbers that came of it.
    work
        When and where; None where no task came to its end: its worker was lost, or the program has an error.
    write_seconds
        What the writer took in this process; it stores many rows at a time, so that most take none.

    """

    failed: RowFailure | None = None
    partial: tuple[RowFailure, ...] = ()
    lesion: str = ""
    segmentation: str = "default"
    vectors: int = 0
    work: Work | None = None
    write_seconds: float = 0.0


@dataclass(frozen=True)
class WorkerLost:
    """A worker went away that was not asked to: it died, its node did, or the network to it.

    Attributes
    ----------
    address
        Where it was.
    when
        When the scheduler noticed: seconds since 1970, by the scheduler's clock.
    lesions
        Lesion and segmentation of the rows whose tasks the scheduler had given to it; any of them may be the cause.

    """

    address: str
    when: float
    lesions: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class SchedulerLost:
    """The scheduler went away; it is waited for at its address, at most so many `seconds`. `ClusterReady` follows."""

    scheduler: str
    reason: str
    seconds: float


@dataclass(frozen=True)
class RunFinished:
    """All rows are settled and written; `write_seconds` is what writing took in this process, the last block too."""

    summary: Summary
    write_seconds: float = field(default=0.0, compare=False)


Event = (
    RunStarted | ClusterReady | WorkersCounted | LesionSubmitted | LesionDone | WorkerLost | SchedulerLost | RunFinished
)
