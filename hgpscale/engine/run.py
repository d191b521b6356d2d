"""Run a cohort: scans go out to Dask workers, records come back, one writer stores them.

The driver holds a bounded window of scans in flight, whatever the cohort's size. The graph carries paths and
futures; voxels move between workers only.

What goes wrong with one lesion is inside its record. When a worker process dies, all that it held comes back as
suspect, the innocent with the guilty: suspects are tried again one at a time when all else is done, and only one
whose worker dies then too is recorded as failed.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

from dask import delayed
from distributed import CancelledError, Client, Future, as_completed
from distributed.client import ClosedClientError
from distributed.scheduler import KilledWorker, NoValidWorkerError, NoWorkerError

from hgpscale._version import __version__
from hgpscale.cohort import file_digest, image_bytes, read_manifest
from hgpscale.cube import CubeWriter
from hgpscale.cube.schema import LESION_CHUNK
from hgpscale.engine.cluster import (
    ClusterFile,
    check_not_importing,
    interrupts_remembered,
    open_client,
    prepare_workers,
    read_cluster,
)
from hgpscale.engine.events import (
    ClusterReady,
    Event,
    LesionDone,
    LesionSubmitted,
    RowFailure,
    RunFinished,
    RunStarted,
    Summary,
    Work,
    WorkerLost,
    WorkersCounted,
)
from hgpscale.engine.measure import Timed, extract_timed, read_timed
from hgpscale.engine.plan import Row, biggest_first, changed_files, changed_surroundings, lesions_added, plan
from hgpscale.engine.tasks import LesionTask, ScanTask, extract_prepared, read_scan
from hgpscale.engine.watch import Loss, dashboard_link, losses_noticed
from hgpscale.errors import EngineError, Failure, ImageError, SettingsError, WorkerError
from hgpscale.filters import require_packages
from hgpscale.record import Record
from hgpscale.settings import Settings

if TYPE_CHECKING:
    from hgpscale.cohort.manifest import Cohort

__all__ = ["Summary", "extract", "stream_records"]

logger = logging.getLogger(__name__)

Read = Callable[[ScanTask, Settings], list[Any]]
Extract = Callable[[Any, Settings], Record]
Notify = Callable[[Event], None]

_READ, _EXTRACT = "read", "extract"  # how the keys of the tasks begin
_SCANS_PER_THREAD = 3  # one in work, one read ahead, one on its way
_FILES_AT_A_TIME = 1000  # whose digests are asked for at once
_BEFORE = Failure("features", "some failed in an earlier run and were not tried again; --retry-failed does that")
_RECOUNT_SECONDS = 5.0  # how often the scheduler is asked how many threads there are


def extract(
    cohort: Cohort | str | Path,
    cube: str | Path,
    settings: Settings | Mapping[str, Any] | str | Path | None = None,
    client: Client | None = None,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    cluster: str | Path | None = None,
    retry_failed: bool = False,
    update: bool = False,
    break_lock: bool = False,
    on_event: Callable[[Event], None] | None = None,
) -> Summary:
    """Extract what a cohort and settings ask for and the cube does not hold yet.

    Stopped at any moment and called again, it does only what is missing. Called with more lesions, segmentations,
    image types or feature classes, it adds them to the cube; what is there besides is left as it is. In a script, call
    it below ``if __name__ == "__main__":``, because worker processes import the script.

    Parameters
    ----------
    cohort
        A manifest's path, or what `read_manifest` returned.
    cube
        Path of the zarr store, or its address ``s3://bucket/key.zarr``; made if it is not there.
    settings
        `Settings`, a pyradiomics parameter mapping, or the path of a parameter file; None: pyradiomics' defaults.
    client
        Run on this Dask client's cluster and leave it open.
    workers
        Number of worker processes to start on this machine, where none of `client`, `scheduler` and `cluster` is
        given; None: one a core.
    scheduler
        Address of a running Dask scheduler, such as ``tcp://10.0.0.1:8786``.
    cluster
        Path of a file that names a cluster (SLURM, PBS, LSF, Kubernetes) and how many workers it shall start there.
    retry_failed
        Try again what failed in an earlier run.
    update
        Compute anew what was made of other files, settings or numeric versions than now. The files behind all rows
        that have numbers are read for that. Without it, such a difference is refused where it is noticed.
    break_lock
        Take the cube from another run, which must be known to be gone.
    on_event
        Called in this thread with each event; `hgpscale.engine.progress.observer` makes one that shows progress,
        `hgpscale.engine.runlog.RunLog` is one that writes a log, `hgpscale.engine.progress.together` joins several.

    Returns
    -------
    Summary
        Counts, and why rows failed.

    Raises
    ------
    ManifestError, SettingsError, CubeError
        Manifest, settings, cluster file or cube cannot be used; no worker was started.
    CubeWriteError
        The cube's storage refuses a write; all blocks written until then are kept.
    EngineError
        No worker can be started or reached, or the scheduler went away; what had arrived is kept.

    """
    check_not_importing()
    if sum(choice is not None for choice in (client, workers, scheduler, cluster)) > 1:
        raise SettingsError("give one of client, workers, scheduler and cluster, not several: each says where to run")
    named = None if cluster is None else read_cluster(cluster)
    notify: Notify = on_event or _ignore
    chosen = Settings.of(settings)
    require_packages(chosen)
    rows = read_manifest(cohort) if isinstance(cohort, (str, Path)) else cohort
    began, write_seconds = time.monotonic(), 0.0
    opened = CubeWriter.open(cube, rows, chosen, update=update, retry_failed=retry_failed, break_lock=break_lock)
    with closing(opened) as writer, ExitStack() as stack:
        connected: Client | None = None
        notes = writer.notes
        if update and (known := writer.digests()):
            connected = stack.enter_context(_cluster(client, workers, scheduler, named))
            now = _digests(connected, rows, known)
            changed = changed_files(rows, known, now)
            elsewhere = changed_surroundings(rows, known, now) - changed.keys()
            # Rows without numbers first: after a kill in between the others tell again that the file changed.
            writer.reset(changed.keys() - known.keys())
            writer.reset(changed)
            writer.reset(elsewhere)
            notes += tuple(f"{file}: changed, computed anew" for file in sorted(set(chain(*changed.values()))))
            if elsewhere:
                notes += (f"{len(elsewhere)} rows computed anew: their liver mask or other lesions are other ones now",)
        elif writer.settings is not None and writer.settings.reach:
            notes += tuple(
                f"{image}: {', '.join(lesions)}: new beside lesions whose regions were bounded without; run with "
                "--update to compute those anew"
                for image, lesions in lesions_added(rows, writer.missing, writer.digests()).items()
            )
        missing = sum(map(len, writer.missing.values()))
        tally = _Tally(cube, len(rows.rows), set(writer.missing), writer.failed(), missing)
        notify(RunStarted(tally.total, tally.pending, missing, notes, rows.source, str(cube)))
        if missing:
            assert writer.settings is not None, "a cube that takes records of scans has settings"
            planned = plan(rows, writer.missing, writer.digests(), writer.settings)
            scans = biggest_first(planned, image_bytes, LESION_CHUNK)
            if connected is None:
                connected = stack.enter_context(_cluster(client, workers, scheduler, named))
            notify(ClusterReady(connected.scheduler.address, dashboard_link(connected)))
            # The writer is left first, whatever happens: what has arrived is kept before the workers are stopped.
            with writer, interrupts_remembered() as check_interrupt:
                for record, work in stream_records(connected, scans, writer.settings, on_event=notify):
                    had_numbers = writer.has_numbers((record.lesion, record.segmentation))
                    before = time.perf_counter()
                    writer.add(record)
                    seconds = time.perf_counter() - before
                    write_seconds += seconds
                    done = tally.add(record, had_numbers=had_numbers)
                    notify(replace(done, vectors=len(record.values), work=work, write_seconds=seconds))
                    check_interrupt()
                before = time.perf_counter()
            write_seconds += time.perf_counter() - before  # the last block
    summary = tally.summary(time.monotonic() - began)
    notify(RunFinished(summary, write_seconds))
    return summary


def _ignore(event: Event) -> None:
    """Observe nothing."""


def _digests(client: Client, cohort: Cohort, rows: Collection[tuple[str, str]]) -> dict[str, str]:
    """Return the digests of the files behind some rows as they are now; a file that cannot be read has none."""
    scans = {row.image for row in cohort.rows if (row.lesion, row.segmentation) in rows}
    chosen = [row for row in cohort.rows if row.image in scans]
    found_in = ((row.image, row.mask, row.liver) for row in chosen)
    files = list(dict.fromkeys(str(file) for some in found_in for file in some if file is not None))
    found: dict[str, str] = {}
    try:
        for start in range(0, len(files), _FILES_AT_A_TIME):
            some = files[start : start + _FILES_AT_A_TIME]
            found |= dict(zip(some, client.gather(client.map(_digest, some, pure=False)), strict=True))
    except (OSError, ClosedClientError, CancelledError, KilledWorker) as error:
        raise EngineError(f"cannot read the files behind the cube's numbers: {error}; try again") from error
    return {file: digest for file, digest in found.items() if digest}


def _digest(file: str) -> str:
    try:
        return file_digest(file)
    except ImageError:
        return ""


def _cluster(
    client: Client | None, workers: int | None, scheduler: str | None, named: ClusterFile | None
) -> AbstractContextManager[Client]:
    if client is not None:
        return nullcontext(client)
    return open_client(workers=workers, scheduler=scheduler, cluster=named)


class _Tally:
    """What has become of the rows so far."""

    def __init__(self, cube: str | Path, total: int, pending: set[Row], failed: set[Row], missing: int) -> None:
        self.cube, self.total, self.pending, self.missing = cube, total, len(pending), missing
        self.failed_before, self.lacking = len(failed - pending), failed & pending
        self.done = self.computed = 0
        self.failed: list[RowFailure] = []
        self.partial: list[RowFailure] = []

    def add(self, record: Record, *, had_numbers: bool) -> LesionDone:
        row = record.lesion, record.segmentation
        self.computed += len({*record.values, *record.failures})
        if record.failure is not None and not had_numbers:
            self.failed.append(RowFailure(*row, record.failure))
            return LesionDone(self.failed[-1], (), *row)
        lacking: dict[tuple[str, str, Failure], list[str]] = {}
        for (region, image, family), failure in record.failures.items():
            if (region, image, family) not in record.values:
                lacking.setdefault((region, image, failure), []).append(family)
        partial = tuple(
            RowFailure(*row, replace(failure, reason=f"{region}/{image}/{','.join(families)}: {failure.reason}"))
            for (region, image, failure), families in lacking.items()
        )
        if row in self.lacking and not partial:
            partial = (RowFailure(*row, _BEFORE),)
        self.done += 1
        self.partial += partial
        return LesionDone(None, partial, *row)

    def summary(self, seconds: float) -> Summary:
        before = self.total - self.pending
        failed, partial = tuple(self.failed), tuple(self.partial)
        return Summary(
            self.cube,
            self.total,
            before,
            self.failed_before,
            self.done,
            failed,
            partial,
            seconds,
            self.missing,
            self.computed,
        )


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
    on_event: Notify = _ignore,
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
        flow = _Flow(client, settings, read, extract, losses)
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
        losses: Callable[[], list[Loss]],
    ) -> None:
        self.client, self.settings, self.read, self.extract = client, settings, read, extract
        self.losses = losses
        self.events: deque[Event] = deque()  # that are to be told
        self.name = uuid4().hex[:8]  # keys must be new to the scheduler
        self.numbers = count()
        self._read, self._extract = delayed(_read, pure=False), delayed(_extract, pure=False)
        self.suspects: dict[tuple[int, LesionTask | None], list[_Flight]] = {}
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
        waiting = deque(scans)
        flying: dict[Future, _Flight] = {}
        left: Counter[int] = Counter()  # lesions in flight, by scan
        completed = as_completed(loop=self.client.loop)
        try:
            while waiting or flying:
                room = (1 if alone else self._window()) - len(left)
                if waiting and room > 0:
                    started = self._submit([waiting.popleft() for _ in range(min(room, len(waiting)))])
                    flying |= started
                    left.update(flight.number for flight in started.values())
                    completed.update(list(started))
                    self.events.extend(
                        LesionSubmitted(flight.lesion.lesion, flight.lesion.segmentation, alone)
                        for flight in started.values()
                    )
                    del started  # no name may keep a future: its result would stay on the cluster
                yield from self._told()
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
        common = {"settings": self.settings, "version": __version__}
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
                reason = (
                    f"the worker process died while it {doing}, also when nothing else ran; it ran out of memory or "
                    "crashed in a library: give each worker more memory or look at the worker's log"
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
        """Convict a task that was lost while it ran alone; put any other aside to be tried alone."""
        if alone and (in_read or len(flight.scan.lesions) == 1):
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
            return f"the task was taken off the cluster twice: {reason}"
        raise AssertionError(f"{future} is cancelled but has a result")

    def _scheduler_lost(self, reason: str) -> EngineError:
        return EngineError(
            f"lost the Dask scheduler: {' '.join(reason.split())}; what had arrived is in the cube, run the same "
            "command again to go on"
        )


def _read(scan: ScanTask, *, read: Read, settings: Settings, version: str) -> Timed:
    _check_version(version)
    return read_timed(lambda: read(scan, settings))


def _extract(scan: Timed, index: int, *, extract: Extract, settings: Settings, version: str) -> Settled:
    _check_version(version)
    return Settled(*extract_timed(lambda: extract(scan.items[index], settings), scan))


def _check_version(version: str) -> None:
    # In the task, not once at the start: workers of a batch system come later, some from another environment.
    if version != __version__:
        raise EngineError(
            f"a worker runs hgpscale {__version__}, this process {version}: install the same version on both"
        )
