"""The stream of records: scans go out to Dask workers, records come back.

A bounded window of scans is in flight, whatever the cohort's size. The graph carries paths and futures; voxels move
between workers only. Small lesions are one task with the reading of their scan, and of several scans if need be
(`graph.py`).

When a worker process dies, all that it held comes back as suspect, the innocent with the guilty: suspects are tried
again when all else is done, each with a worker to itself, and only one that has cost three workers, two of them alone,
is recorded as failed. A task that hangs is ended by its worker's death.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from typing import Any

from distributed import CancelledError, Client, Future, as_completed
from distributed.client import ClosedClientError
from distributed.scheduler import KilledWorker, NoValidWorkerError, NoWorkerError

from hgpscale._version import __version__
from hgpscale.engine.calls import Calls, Extract, Raised, Read, Settled
from hgpscale.engine.cluster import prepare_workers
from hgpscale.engine.cluster.workers import GPU
from hgpscale.engine.deadline import DEADLINE
from hgpscale.engine.events import Event, LesionSubmitted, WorkerLost
from hgpscale.engine.graph import Flight, Graph
from hgpscale.engine.tasks import LesionTask, ScanTask, extract_prepared, read_scan
from hgpscale.engine.watch import Loss, losses_noticed
from hgpscale.engine.window import Window
from hgpscale.errors import EngineError, Failure, SchedulerLostError, WorkerError
from hgpscale.settings import Settings

logger = logging.getLogger(__name__)

Notify = Callable[[Event], None]

_LOOK_SECONDS = 0.5  # how often workers are looked at while nothing arrives
_ANY = "any"  # in place of a worker's address
_DEATHS_ALONE = 2  # that convict a task; one can be chance, such as the end of a job's time


def ignore(event: Event) -> None:
    """Observe nothing."""


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
        What tasks call, see `Calls`.
    deadline
        Seconds that a task may take, see `extract`.
    on_event
        Called with `WorkersCounted`, `LesionSubmitted` and `WorkerLost`.

    Raises
    ------
    SchedulerLostError
        The scheduler went away, or the client is not connected.
    EngineError
        No worker is left, the workers run another version of hgpscale, or the settings ask for a GPU that none of them
        declares or that one of them cannot use.

    """
    if client.status != "running":
        raise scheduler_lost(f"the Dask client is {client.status}, expected a running one")
    try:
        prepare_workers(client)
    except EngineError as error:
        if client.status != "running":
            raise scheduler_lost(str(error)) from error
        raise
    with losses_noticed(client) as losses:
        flow = _Flow(client, Calls(read, extract, settings, __version__, deadline), losses)
        for part in (flow.together(scans), flow.alone()):
            with closing(part):
                for found in part:
                    if isinstance(found, Settled):
                        yield found
                    else:  # told here, where an observer's error is not taken for one of the cluster
                        on_event(found)


_Story = Generator[Settled | Event, None, None]
"""What becomes of lesions, and what happens beside."""


class _Flow:
    """Keeps the workers fed, and settles what becomes of each task."""

    def __init__(self, client: Client, calls: Calls, losses: Callable[[], list[Loss]]) -> None:
        self.client, self.calls, self.losses = client, calls, losses
        on_gpu = calls.settings.device == "gpu"
        self.takes = {"resources": {GPU: 1}} if on_gpu else {}
        self.window, self.graph = Window(client, on_gpu=on_gpu), Graph(calls)
        self.events: deque[Event] = deque()  # that are to be told
        self.suspects: list[ScanTask] = []  # of one lesion each
        self.deaths: Counter[tuple[str, str]] = Counter()  # of workers that had nothing but this row

    def together(self, scans: Iterable[ScanTask]) -> _Story:
        """Yield the records of all lesions but the suspects, which are put aside."""
        return self._stream(scans, alone=False)

    def alone(self) -> _Story:
        """Yield the suspects' records, each tried on a worker that has nothing else of ours."""
        while self.suspects:
            suspects, self.suspects = self.suspects, []
            yield from self._stream(suspects, alone=True)

    def _stream(self, scans: Iterable[ScanTask], *, alone: bool) -> _Story:
        waiting, more = iter(scans), True
        flying: dict[Future, Flight] = {}
        completed = as_completed(loop=self.client.loop)
        try:
            while more or flying:
                self.events.extend(self.window.recounted())
                self._take_back_stranded(flying)
                places = self._places(flying) if alone else []
                room = len(places) if alone else self.window.room(len({flight.number for flight in flying.values()}))
                next_ones = list(islice(waiting, room)) if more else []
                more = more and len(next_ones) == room
                if next_ones:
                    started = self._submit_alone(next_ones, places) if alone else self._submit(next_ones)
                    flying |= started
                    completed.update(list(started))
                    self._tell_submitted(started.values(), alone=alone)
                    del started  # no name may keep a future: its result would stay on the cluster
                yield from self._told()
                if not flying:  # the last window was just full, and there is no other
                    continue
                batch = _next_batch(completed)
                yield from self._losses(flying)
                batch = [future for future in batch if future in flying]
                results = self.client.gather(dict(enumerate(batch)), errors="skip")
                for index, future in enumerate(batch):
                    flight = flying.pop(future)
                    # None is what `gather` returns for a task that has no result.
                    found = self._failed(future, flight) if results[index] is None else results[index]
                    yield from self._settled(found, flight)
                    del future
                del batch, results
        except (OSError, ClosedClientError) as error:
            raise scheduler_lost(str(error)) from error
        finally:
            if flying and self.client.status == "running":
                self.client.cancel(list(flying))

    def _submit(self, scans: list[ScanTask]) -> dict[Future, Flight]:
        return self._started(self.graph.together(scans, self.window.sizes))

    def _submit_alone(self, scans: list[ScanTask], places: Sequence[str]) -> dict[Future, Flight]:
        """Start each scan on a worker of its own."""
        started: dict[Future, Flight] = {}
        for scan, place in zip(scans, places, strict=False):
            where = {} if place == _ANY else {"workers": [place]}  # no other: there it would not be alone
            started |= self._started(self.graph.alone(scan, place), **where)
        return started

    def _started(self, tasks: Iterable[tuple[Any, Flight]], **where: Any) -> dict[Future, Flight]:
        """Start tasks and return those whose results are records.

        Read tasks are no futures of ours: the workers forget a scan when its last lesion is done. Earlier scans go
        first, within one submission and between them: lesions before more images.
        """
        records, flights = zip(*tasks, strict=True)
        futures = self.client.compute(list(records), fifo_timeout=0, optimize_graph=False, **self.takes, **where)
        return dict(zip(futures, flights, strict=True))

    def _places(self, flying: Mapping[Future, Flight]) -> list[str]:
        """Return the workers that have none of `flying`; where there is none at all, the next that comes will do."""
        taken = {flight.place for flight in flying.values()}
        if _ANY in taken:  # it may be anywhere, and whoever came to it would make both look innocent
            return []
        free = self.window.free(taken)
        return free if free or flying else [_ANY]

    def _tell_submitted(self, flights: Iterable[Flight], *, alone: bool) -> None:
        self.events.extend(
            LesionSubmitted(lesion.lesion, lesion.segmentation, alone)
            for flight in flights
            for _, lesion in flight.lesions
        )

    def _told(self) -> Iterator[Event]:
        while self.events:
            yield self.events.popleft()

    def _losses(self, flying: dict[Future, Flight]) -> _Story:
        """Take back what lost workers had, and yield what has cost too many of them.

        Dask's own count of a task's workers is another one on each scheduler, and knows nothing of who was alone.
        """
        for loss in self.losses():
            read = {key[1] for key in loss.keys if self.graph.is_reading(key)}
            had = {
                future: flight
                for future, flight in flying.items()
                if (future.key in loss.keys or flight.number in read) and future.status != "finished"
            }
            rows = tuple(
                (lesion.lesion, lesion.segmentation) for flight in had.values() for _, lesion in flight.lesions
            )
            yield WorkerLost(loss.address, loss.when, rows)
            self.window.lost(loss.address)
            self._take_back(had, flying)
            for flight in had.values():
                reason = self._why_lost(flight, reading=flight.number in read)
                yield from self._lost(flight, reason, guilty=bool(flight.place) and len(had) == 1)

    def _take_back_stranded(self, flying: dict[Future, Flight]) -> None:
        """Put aside again what waits for a worker that has left: Dask would have it wait, whoever comes."""
        places = {"", _ANY, *self.window.free(())}
        stranded = {future: flight for future, flight in flying.items() if flight.place not in places}
        self._take_back(stranded, flying)
        for flight in stranded.values():
            self._put_aside(flight)

    def _take_back(self, some: Mapping[Future, Flight], flying: dict[Future, Flight]) -> None:
        if some:
            self.client.cancel(list(some), force=True)
        for future in some:
            del flying[future]

    def _settled(self, found: Sequence[Settled | Raised], flight: Flight) -> Iterator[Settled]:
        """Yield what became of a flight's lesions, and learn from it."""
        for (scan, lesion), one in zip(flight.lesions, found, strict=True) if found else ():  # nothing of suspects
            if isinstance(one, Raised):
                yield self._in_program(lesion, one)
                continue
            if one.work is not None:
                self.window.learn(one.work, len(scan.lesions), leaves=flight.leaves and not flight.place)
            yield one

    def _failed(self, future: Future, flight: Flight) -> list[Settled | Raised]:
        """Return the failed records of a task without a result; none where it will be tried again alone."""
        if future.cancelled():
            return list(self._lost(flight, self._cancelled(future), guilty=bool(flight.place)))
        error = future.exception()
        match error:
            case KilledWorker():  # where losses are not told: the client's owner listens to them
                reason = self._why_lost(flight, reading=self.graph.is_reading(error.task))
                return list(self._lost(flight, reason, guilty=bool(flight.place)))
            case EngineError():
                raise error
            case NoWorkerError() | NoValidWorkerError():
                raise EngineError(f"no worker is left to run the tasks: {error}") from error
            case ImportError():
                raise EngineError(f"a worker cannot import what it needs: {error}; install hgpscale there") from error
        return [Raised.of(error, future.traceback())] * len(flight.lesions)

    def _in_program(self, lesion: LesionTask, error: Raised) -> Settled:
        """Return the failed record of a lesion whose task met an error in the program."""
        reason = f"unexpected {error.kind}: {error.message}; this is an error in the program, see the log"
        logger.error("lesion %s, segmentation %s: %s\n%s", lesion.lesion, lesion.segmentation, reason, error.trace)
        return Settled(lesion.failed(Failure("run", " ".join(reason.split())), self.calls.settings))

    def _why_lost(self, flight: Flight, *, reading: bool) -> str:
        scan, _ = flight.lesions[0]
        doing = f"read {scan.image}" if reading else "computed this lesion"
        late = "" if self.calls.deadline is None else f", took longer than the deadline of {self.calls.deadline:g} s"
        return (
            f"three worker processes died while they {doing}, two with nothing else to do: they ran out of "
            f"memory{late} or crashed in a library; give each worker more memory or look at the workers' log"
        )

    def _lost(self, flight: Flight, reason: str, *, guilty: bool) -> Iterator[Settled]:
        """Convict a lesion that was lost too often while it was alone; put all others aside to be tried alone."""
        if guilty:
            ((_, lesion),) = flight.lesions
            row = lesion.lesion, lesion.segmentation
            self.deaths[row] += 1
            if self.deaths[row] >= _DEATHS_ALONE:
                yield Settled(lesion.failed(Failure(WorkerError.stage, reason), self.calls.settings))
                return
        self._put_aside(flight)

    def _put_aside(self, flight: Flight) -> None:
        self.suspects += [scan.only(lesion) for scan, lesion in flight.lesions]

    def _cancelled(self, future: Future) -> str:
        """Say why somebody else took the task away; raise where that was the loss of the scheduler."""
        try:
            future.result()
        except CancelledError as error:
            reason = " ".join(str(error).split())
            if str(getattr(error, "reason", "")).startswith("scheduler") or self.client.status != "running":
                raise scheduler_lost(reason) from error
            return f"the task was taken off the cluster three times: {reason}"
        raise AssertionError(f"{future} is cancelled but has a result")


def scheduler_lost(reason: str) -> SchedulerLostError:
    """Return the error that says why a scheduler counts as lost."""
    return SchedulerLostError(
        f"lost the Dask scheduler: {' '.join(reason.split())}; what had arrived is in the cube, run the same command "
        "again to go on"
    )


def _next_batch(completed: Any) -> list[Future]:
    """Return the futures that are done, as soon as there is one; none after a while, to look at the workers."""
    with completed.thread_condition:
        if completed.queue.empty():
            completed.thread_condition.wait(timeout=_LOOK_SECONDS)
    return list(completed.next_batch(block=False))
