"""The stream of records: scans go out to Dask workers, records come back.

A bounded window of scans is in flight, whatever the cohort's size. The graph carries paths and futures; voxels move
between workers only.

When a worker process dies, all that it held comes back as suspect, the innocent with the guilty: suspects are tried
again one at a time when all else is done, and only one that has cost three workers, two of them alone, is recorded as
failed. A task that hangs is ended by its worker's death.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import count, islice
from typing import Any, NamedTuple
from uuid import uuid4

from dask import delayed
from distributed import CancelledError, Client, Future, as_completed, get_worker
from distributed.client import ClosedClientError
from distributed.scheduler import KilledWorker, NoValidWorkerError, NoWorkerError

from hgpscale._version import __version__
from hgpscale.engine.cluster import prepare_workers
from hgpscale.engine.deadline import DEADLINE, ended_after
from hgpscale.engine.events import Event, LesionSubmitted, Work, WorkerLost, WorkersCounted
from hgpscale.engine.measure import Timed, extract_timed, read_timed
from hgpscale.engine.tasks import LesionTask, ScanTask, extract_prepared, read_scan
from hgpscale.engine.watch import Loss, losses_noticed
from hgpscale.errors import EngineError, Failure, WorkerError
from hgpscale.record import Record
from hgpscale.settings import Settings

logger = logging.getLogger(__name__)

Read = Callable[[ScanTask, Settings], list[Any]]
Extract = Callable[[Any, Settings], Record]
Notify = Callable[[Event], None]

_READ, _EXTRACT = "read", "extract"  # how the keys of the tasks begin
_SCANS_PER_THREAD = 3  # one in work, one read ahead, one on its way
_DEATHS_ALONE = 2  # that convict a task; one can be chance, such as the end of a job's time
_RECOUNT_SECONDS = 5.0  # how often the scheduler is asked how many threads there are


def ignore(event: Event) -> None:
    """Observe nothing."""


class Settled(NamedTuple):
    """What became of a lesion, and when and where; `work` is None where no task came to its end."""

    record: Record
    work: Work | None = None


def stream_records(
    client: Client,
    scans: Iterable[ScanTask],
    settings: Settings,
    *,
    read: Read = read_scan,
    extract: Extract = extract_prepared,
    deadline: float | None = DEADLINE,
    on_event: Notify = ignore,
) -> Generator[Settled, None, None]:
    """Yield the record of every lesion of `scans`, in the order in which the workers finish.

    Parameters
    ----------
    client
        Any cluster; its workers are prepared by `WorkerSetup`.
    scans, settings
        What to do.
    read, extract
        What the two kinds of task call: ``read(scan, settings)`` returns a list with one item a lesion,
        ``extract(item, settings)`` a record.
    deadline
        Seconds that a task may take, see `extract`.
    on_event
        Called with `WorkersCounted`, `LesionSubmitted` and `WorkerLost`.

    Raises
    ------
    EngineError
        The scheduler went away, no worker is left, or the workers run another version of hgpscale.

    """
    if client.status != "running":
        raise EngineError(f"the Dask client is {client.status}, expected a running one; connect it again")
    prepare_workers(client)
    with losses_noticed(client) as losses:
        flow = _Flow(client, settings, read, extract, deadline, losses)
        for part in (flow.together(scans), flow.alone()):
            with closing(part):
                for found in part:
                    if isinstance(found, Settled):
                        yield found
                    else:  # told here, where an observer's error is not taken for one of the cluster
                        on_event(found)


@dataclass(frozen=True)
class _Flight:
    """One lesion's extraction task and the scan that it belongs to."""

    number: int  # of the scan, in this run
    scan: ScanTask
    lesion: LesionTask


_Story = Generator[Settled | Event, None, None]
"""What becomes of lesions, and what happens beside."""


class _Flow:
    """Keeps the workers fed, and settles what becomes of each task."""

    def __init__(
        self,
        client: Client,
        settings: Settings,
        read: Read,
        extract: Extract,
        deadline: float | None,
        losses: Callable[[], list[Loss]],
    ) -> None:
        self.client, self.settings, self.read, self.extract = client, settings, read, extract
        self.deadline, self.losses = deadline, losses
        self.events: deque[Event] = deque()  # that are to be told
        self.name = uuid4().hex[:8]  # keys must be new to the scheduler
        self.numbers = count()
        self._read, self._extract = delayed(_read, pure=False), delayed(_extract, pure=False)
        self.suspects: dict[tuple[int, LesionTask | None], list[_Flight]] = {}
        self.deaths: Counter[tuple[str, str]] = Counter()  # of workers that had nothing but this row
        self.workers = self.threads = 0
        self.counted = float("-inf")

    def together(self, scans: Iterable[ScanTask]) -> _Story:
        """Yield the records of all lesions but the suspects, which are put aside."""
        return self._stream(scans, alone=False)

    def alone(self) -> _Story:
        """Yield the suspects' records, each tried with nothing else of ours on the cluster."""
        while self.suspects:
            suspects, self.suspects = self.suspects, {}
            lesions = {key: tuple(flight.lesion for flight in flights) for key, flights in suspects.items()}
            yield from self._stream(
                [replace(flights[0].scan, lesions=lesions[key]) for key, flights in suspects.items()], alone=True
            )

    def _stream(self, scans: Iterable[ScanTask], *, alone: bool) -> _Story:
        waiting, more = iter(scans), True
        flying: dict[Future, _Flight] = {}
        left: Counter[int] = Counter()  # lesions in flight, by scan
        completed = as_completed(loop=self.client.loop)
        try:
            while more or flying:
                room = max((1 if alone else self._window()) - len(left), 0)
                next_ones = list(islice(waiting, room)) if more else []
                more = more and len(next_ones) == room
                if next_ones:
                    started = self._submit(next_ones)
                    flying |= started
                    left.update(flight.number for flight in started.values())
                    completed.update(list(started))
                    self.events.extend(
                        LesionSubmitted(flight.lesion.lesion, flight.lesion.segmentation, alone)
                        for flight in started.values()
                    )
                    del started  # no name may keep a future: its result would stay on the cluster
                yield from self._told()
                if not flying:  # the last window was just full, and there is no other
                    continue
                batch = completed.next_batch()
                self._note_losses(flying)
                yield from self._told()
                results = self.client.gather(dict(enumerate(batch)), errors="skip")
                for index, future in enumerate(batch):
                    flight = flying.pop(future)
                    left[flight.number] -= 1
                    if not left[flight.number]:
                        del left[flight.number]
                    # None is what `gather` returns for a task that has no result.
                    settled = results[index] if results[index] is not None else self._settle(future, flight, alone)
                    if settled is not None:
                        yield settled
                del batch, future, results
        except (OSError, ClosedClientError) as error:
            raise self._scheduler_lost(str(error)) from error
        finally:
            if flying and self.client.status == "running":
                self.client.cancel(list(flying))

    def _window(self) -> int:
        """Return how many scans may be in flight; clusters grow and shrink."""
        now = time.monotonic()
        if now - self.counted > _RECOUNT_SECONDS:
            threads = self.client.nthreads()
            known, self.counted = (self.workers, self.threads), now
            self.workers, self.threads = len(threads), sum(threads.values())
            if (self.workers, self.threads) != known:
                self.events.append(WorkersCounted(self.workers, self.threads))
        return _SCANS_PER_THREAD * max(1, self.threads)

    def _submit(self, scans: list[ScanTask]) -> dict[Future, _Flight]:
        """Start the tasks of `scans` and return those whose results are records.

        Read tasks are no futures of ours: the workers forget a scan when its last lesion is done.
        """
        common = {"settings": self.settings, "version": __version__, "deadline": self.deadline}
        flights: list[_Flight] = []
        records = []
        for scan in scans:
            number = next(self.numbers)
            items = self._read(scan, read=self.read, dask_key_name=(f"{_READ}-{self.name}", number), **common)
            for index, lesion in enumerate(scan.lesions):
                key = (f"{_EXTRACT}-{self.name}", number, index)
                records.append(self._extract(items, index, extract=self.extract, dask_key_name=key, **common))
                flights.append(_Flight(number, scan, lesion))
        # Earlier scans go first, within one submission and between them: lesions before more images.
        futures = self.client.compute(records, fifo_timeout=0, optimize_graph=False)
        return dict(zip(futures, flights, strict=True))

    def _told(self) -> Iterator[Event]:
        while self.events:
            yield self.events.popleft()

    def _note_losses(self, flying: Mapping[Future, _Flight]) -> None:
        """Note the workers that were lost, and which lesions they had."""
        for loss in self.losses():
            scans = {key[1] for key in loss.keys if key[0] == f"{_READ}-{self.name}"}
            lesions = tuple(
                (flight.lesion.lesion, flight.lesion.segmentation)
                for future, flight in flying.items()
                if future.key in loss.keys or flight.number in scans
            )
            self.events.append(WorkerLost(loss.address, loss.when, lesions))

    def _settle(self, future: Future, flight: _Flight, alone: bool) -> Settled | None:
        """Return the failed record of a task without a result, or None where it will be tried again alone."""
        if future.cancelled():
            return self._lost(flight, alone, self._cancelled(future), in_read=False)
        error = future.exception()
        match error:
            case KilledWorker():
                in_read = str(error.task[0]).startswith(_READ)
                doing = f"read {flight.scan.image}" if in_read else "computed this lesion"
                late = "" if self.deadline is None else f", took longer than the deadline of {self.deadline:g} s"
                reason = (
                    f"three worker processes died while they {doing}, two with nothing else to do: they ran out of "
                    f"memory{late} or crashed in a library; give each worker more memory or look at the workers' log"
                )
                return self._lost(flight, alone, reason, in_read=in_read)
            case EngineError():
                raise error
            case NoWorkerError() | NoValidWorkerError():
                raise EngineError(f"no worker is left to run the tasks: {error}") from error
            case ImportError():
                raise EngineError(f"a worker cannot import what it needs: {error}; install hgpscale there") from error
        reason = f"unexpected {type(error).__name__}: {error}; this is an error in the program, see the log"
        row = flight.lesion.lesion, flight.lesion.segmentation
        logger.error("lesion %s, segmentation %s: %s", *row, reason, exc_info=(type(error), error, future.traceback()))
        return Settled(flight.lesion.failed(Failure("run", " ".join(reason.split())), self.settings))

    def _lost(self, flight: _Flight, alone: bool, reason: str, *, in_read: bool) -> Settled | None:
        """Convict a task that was lost too often while it ran alone; put any other aside to be tried alone."""
        if alone and (in_read or len(flight.scan.lesions) == 1):
            row = flight.lesion.lesion, flight.lesion.segmentation
            self.deaths[row] += 1
            if self.deaths[row] >= _DEATHS_ALONE:
                return Settled(flight.lesion.failed(Failure(WorkerError.stage, reason), self.settings))
        # Lesions whose read task was lost stay one scan: it is read once more for all of them.
        self.suspects.setdefault((flight.number, None if in_read else flight.lesion), []).append(flight)
        return None

    def _cancelled(self, future: Future) -> str:
        """Say why somebody else took the task away; raise where that was the loss of the scheduler."""
        try:
            future.result()
        except CancelledError as error:
            reason = " ".join(str(error).split())
            if str(getattr(error, "reason", "")).startswith("scheduler") or self.client.status != "running":
                raise self._scheduler_lost(reason) from error
            return f"the task was taken off the cluster three times: {reason}"
        raise AssertionError(f"{future} is cancelled but has a result")

    def _scheduler_lost(self, reason: str) -> EngineError:
        return EngineError(
            f"lost the Dask scheduler: {' '.join(reason.split())}; what had arrived is in the cube, run the same "
            "command again to go on"
        )


def _read(scan: ScanTask, *, read: Read, settings: Settings, version: str, deadline: float | None) -> Timed:
    _check_version(version)
    with ended_after(_enforceable(deadline)):
        return read_timed(lambda: read(scan, settings))


def _extract(
    scan: Timed, index: int, *, extract: Extract, settings: Settings, version: str, deadline: float | None
) -> Settled:
    _check_version(version)
    with ended_after(_enforceable(deadline)):
        return Settled(*extract_timed(lambda: extract(scan.items[index], settings), scan))


def _enforceable(deadline: float | None) -> float | None:
    """Return the deadline where a nanny will start another process; one without may be the caller's own."""
    return deadline if get_worker().nanny is not None else None


def _check_version(version: str) -> None:
    # In the task, not once at the start: workers of a batch system come later, some from another environment.
    if version != __version__:
        raise EngineError(
            f"a worker runs hgpscale {__version__}, this process {version}: install the same version on both"
        )
