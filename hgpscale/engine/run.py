"""Run a cohort: what a manifest asks for and a cube lacks is streamed through the workers, and one writer stores it.

What goes wrong with one lesion is inside its record; how a worker's death becomes one, `flow.py` says.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed import CancelledError, Client
from distributed.client import ClosedClientError
from distributed.scheduler import KilledWorker

from hgpscale.cohort import file_digest, image_bytes, read_manifest
from hgpscale.cube import CubeWriter
from hgpscale.cube.schema import LESION_CHUNK
from hgpscale.engine.calls import Settled
from hgpscale.engine.cluster import (
    ClusterFile,
    check_not_importing,
    interrupts_remembered,
    open_client,
    read_cluster,
)
from hgpscale.engine.connection import RETURN_SECONDS, Connection
from hgpscale.engine.deadline import DEADLINE
from hgpscale.engine.events import (
    ClusterReady,
    Event,
    LesionDone,
    RowFailure,
    RunFinished,
    RunStarted,
    SchedulerLost,
    Summary,
)
from hgpscale.engine.flow import Notify, ignore, stream_records
from hgpscale.engine.plan import Row, biggest_first, changed_files, changed_surroundings, lesions_added, plan
from hgpscale.engine.watch import dashboard_link
from hgpscale.engine.where import Where, on_this_machine
from hgpscale.errors import EngineError, Failure, ImageError, SchedulerLostError, SettingsError
from hgpscale.filters import require_packages
from hgpscale.record import Record
from hgpscale.settings import Settings

if TYPE_CHECKING:
    from hgpscale.cohort.manifest import Cohort

__all__ = ["Summary", "extract"]

_FILES_AT_A_TIME = 1000  # whose digests are asked for at once
_IN_VAIN = 3  # losses of the scheduler in a row, without a row stored between them, that end the run
_BEFORE = Failure("features", "some failed in an earlier run and were not tried again; --retry-failed does that")


def extract(
    cohort: Cohort | str | Path,
    cube: str | Path,
    settings: Settings | Mapping[str, Any] | str | Path | None = None,
    client: Client | None = None,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    cluster: str | Path | None = None,
    device: str | None = None,
    retry_failed: bool = False,
    update: bool = False,
    break_lock: bool = False,
    deadline: float | None = DEADLINE,
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
        given; None: one a core, but no more than one a GiB of memory.
    scheduler
        Address of a running Dask scheduler, such as ``tcp://10.0.0.1:8786``. Where it is lost, it is waited for.
    cluster
        Path of a file that names a cluster (SLURM, PBS, LSF, Kubernetes) and how many workers it shall start there;
        ``local``: this machine, as without it.
    device
        Where workers compute: ``cpu``; ``gpu``; or ``auto``, large lesions on GPUs where there are any; None: as the
        settings say, which is the CPU unless they name another. On this machine ``gpu`` starts one worker a GPU, and
        ``auto`` gives some of the workers one. Elsewhere ``gpu`` runs on workers that declare Dask's resource ``GPU``
        alone, and by ``auto`` each worker decides for itself. It decides how long a run takes, never a number: a cube
        does not tell, and any run may go on with it.
    retry_failed
        Try again what failed in an earlier run.
    update
        Compute anew what was made of other files, settings or numeric versions than now. The files behind all rows
        that have numbers are read for that. Without it, such a difference is refused where it is noticed.
    break_lock
        Take the cube from another run, which must be known to be gone.
    deadline
        Seconds that reading a scan or extracting a lesion may take, then its worker process is ended; None: no end.
        What is ended three times is recorded as failed. Workers without a nanny are left alone.
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
        Manifest, settings, cluster file or cube cannot be used, or there is no GPU for ``gpu``; no worker was started.
    CubeWriteError
        The cube's storage refuses a write; all blocks written until then are kept.
    EngineError
        No worker can be started or reached, none declares or can use the GPU that ``gpu`` asks for, or the scheduler
        went away; what had arrived is kept.

    """
    check_not_importing()
    if cluster is not None and str(cluster) == "local":
        cluster = None
    if sum(choice is not None for choice in (client, workers, scheduler, cluster)) > 1:
        raise SettingsError("give one of client, workers, scheduler and cluster, not several: each says where to run")
    chosen = Settings.of(settings).on(device)
    named = None if cluster is None else read_cluster(cluster, chosen.device)
    notify: Notify = on_event or ignore
    require_packages(chosen)
    rows = read_manifest(cohort) if isinstance(cohort, (str, Path)) else cohort
    elsewhere = client is not None or scheduler is not None or named is not None
    where = Where(chosen.device) if elsewhere else on_this_machine(chosen.device, workers)
    began = time.monotonic()
    opened = CubeWriter.open(cube, rows, chosen, update=update, retry_failed=retry_failed, break_lock=break_lock)
    place = Connection(partial(_cluster, client, scheduler, named, where), returns=scheduler is not None)
    with closing(opened) as writer, closing(place):
        notes = writer.notes
        if update and (known := writer.digests()):
            notes += _reset_changed(writer, rows, known, _digests(place.client(), rows, known))
        elif writer.settings is not None and writer.settings.reach:
            notes += tuple(
                f"{image}: {', '.join(lesions)}: new beside lesions whose regions were bounded without; run with "
                "--update to compute those anew"
                for image, lesions in lesions_added(rows, writer.missing, writer.digests()).items()
            )
        missing = writer.missing_keys()
        if missing:
            notes += where.notes
        tally = _Tally(cube, len(rows.rows), writer.missing, writer.failed(), missing)
        notify(RunStarted(tally.total, tally.pending, missing, notes, rows.source, str(cube)))
        write_seconds = _fill(writer, rows, tally, place, where.device, deadline, notify) if missing else 0.0
    summary = tally.summary(time.monotonic() - began)
    notify(RunFinished(summary, write_seconds))
    return summary


def _reset_changed(
    writer: CubeWriter, cohort: Cohort, known: Mapping[Row, tuple[str, str, str]], now: Mapping[str, str]
) -> tuple[str, ...]:
    """Make pending what was made of other files than now; say what it is."""
    changed = changed_files(cohort, known, now)
    elsewhere = changed_surroundings(cohort, known, now) - changed.keys()
    # Rows without numbers first: after a kill in between the others tell again that the file changed.
    writer.reset(changed.keys() - known.keys())
    writer.reset(changed)
    writer.reset(elsewhere)
    notes = tuple(f"{file}: changed, computed anew" for file in sorted(set(chain(*changed.values()))))
    if elsewhere:
        notes += (f"{len(elsewhere)} rows computed anew: their liver mask or other lesions are other ones now",)
    return notes


def _fill(
    writer: CubeWriter,
    cohort: Cohort,
    tally: _Tally,
    place: Connection,
    device: str,
    deadline: float | None,
    notify: Notify,
) -> float:
    """Compute what the cube lacks and store it; return the seconds that storing took in this process."""
    write_seconds = 0.0
    # The writer is left first, whatever happens: what has arrived is kept before the workers are stopped.
    with writer, interrupts_remembered() as check_interrupt:
        for record, work in _settled(writer, cohort, place, device, deadline, notify):
            had_numbers = writer.has_numbers((record.lesion, record.segmentation))
            before = time.perf_counter()
            writer.add(record)
            seconds = time.perf_counter() - before
            write_seconds += seconds
            done = tally.add(record, had_numbers=had_numbers)
            notify(replace(done, vectors=len(record.values), work=work, write_seconds=seconds))
            check_interrupt()
        before = time.perf_counter()
    return write_seconds + time.perf_counter() - before  # the last block


def _settled(
    writer: CubeWriter, cohort: Cohort, place: Connection, device: str, deadline: float | None, notify: Notify
) -> Generator[Settled, None, None]:
    """Yield the record of each row that the cube lacks; where the scheduler is lost and comes back, of those left."""
    assert writer.settings is not None, "a cube that takes records of scans has settings"
    settings = writer.settings.on(device)  # which no cube says
    connected = place.client()
    in_vain = 0
    while True:
        address = connected.scheduler.address
        notify(ClusterReady(address, dashboard_link(connected)))
        planned = plan(cohort, writer.missing, writer.digests(), settings)
        scans = biggest_first(planned, image_bytes, LESION_CHUNK)
        left = len(writer.missing)
        try:
            yield from stream_records(connected, scans, settings, deadline=deadline, on_event=notify)
        except SchedulerLostError as error:
            if not place.returns:
                raise
            writer.flush()  # what is stored is missing no more
            in_vain = in_vain + 1 if len(writer.missing) == left else 0
            if in_vain >= _IN_VAIN:
                raise
            notify(SchedulerLost(address, str(error), RETURN_SECONDS))
            connected = place.again(error)
        else:
            return


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
    client: Client | None, scheduler: str | None, named: ClusterFile | None, where: Where
) -> AbstractContextManager[Client]:
    if client is not None:
        return nullcontext(client)
    return open_client(workers=where.workers, scheduler=scheduler, cluster=named, gpus=where.gpus)


class _Tally:
    """What has become of the rows so far."""

    def __init__(self, cube: str | Path, total: int, pending: Collection[Row], failed: set[Row], missing: int) -> None:
        self.cube, self.total, self.pending, self.missing = cube, total, len(pending), missing
        self.lacking = {row for row in failed if row in pending}
        self.failed_before = len(failed) - len(self.lacking)
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
