"""What Dask calls on a worker: read a scan, extract some of its lesions, or both; measured, within a deadline."""

from __future__ import annotations

import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple, NoReturn

from distributed import get_worker

from hgpscale._version import __version__
from hgpscale.device import resolve
from hgpscale.engine.deadline import ended_after
from hgpscale.engine.events import Work
from hgpscale.engine.measure import memory, place
from hgpscale.engine.tasks import ScanTask
from hgpscale.errors import EngineError, GpuLostError, SettingsError
from hgpscale.record import Record
from hgpscale.settings import Settings

logger = logging.getLogger(__name__)

Read = Callable[[ScanTask, Settings], list[Any]]
Extract = Callable[[Any, Settings], Record]


class Settled(NamedTuple):
    """What became of a lesion, and when and where; `work` is None where no task came to its end."""

    record: Record
    work: Work | None = None


class Raised(NamedTuple):
    """What an error in the program said of one lesion; the error itself could perhaps not be sent."""

    kind: str
    message: str
    trace: str

    @classmethod
    def of(cls, error: BaseException, trace: TracebackType | None) -> Raised:
        """Return what an error says."""
        return cls(type(error).__name__, str(error), "".join(traceback.format_exception(type(error), error, trace)))


class Timed(NamedTuple):
    """What reading returned, an item a lesion, how long it took and where."""

    items: list[Any]
    seconds: float
    worker: str


@dataclass(frozen=True)
class Calls:
    """What all tasks of a run have in common.

    Attributes
    ----------
    read, extract
        ``read(scan, settings)`` returns a list with one item a lesion, ``extract(item, settings)`` a record.
    settings
        What to extract.
    version
        Of hgpscale in the process that made the tasks.
    deadline
        Seconds that reading, and each lesion, may take; None: no end.

    """

    read: Read
    extract: Extract
    settings: Settings
    version: str
    deadline: float | None

    def read_scan(self, scan: ScanTask) -> Timed:
        """Read a scan; what it raises fails the task."""
        self._check_worker()
        began = time.perf_counter()
        with ended_after(self._enforceable()):
            items = self.read(scan, self.settings)
        if len(items) != len(scan.lesions):
            raise ValueError(f"reading returned {len(items)} items for {len(scan.lesions)} lesions")
        return Timed(items, time.perf_counter() - began, place()[0])

    def extract_lesions(self, scan: Timed, indices: Sequence[int]) -> list[Settled | Raised]:
        """Compute some lesions of a scan; an error in the program takes none of the others with it."""
        self._check_worker()
        return [self._extract_one(scan, index) for index in indices]

    def whole_scans(self, scans: Sequence[ScanTask]) -> list[Settled | Raised]:
        """Read scans, one after the other, and compute all their lesions."""
        found: list[Settled | Raised] = []
        for scan in scans:
            try:
                timed = self.read_scan(scan)
            except (EngineError, ImportError):  # would befall every scan: they end the run
                raise
            except Exception as error:  # noqa: BLE001 (whatever it is, the lesions' records tell of it)
                found += [Raised.of(error, error.__traceback__)] * len(scan.lesions)
            else:
                found += self.extract_lesions(timed, range(len(timed.items)))
                del timed  # or two scans were there while the next one is read
        return found

    def _extract_one(self, scan: Timed, index: int) -> Settled | Raised:
        item = scan.items[index]
        began = time.perf_counter()
        try:
            with ended_after(self._enforceable()):
                record = self.extract(item, self.settings)
        except (EngineError, ImportError):  # would befall every lesion: they end the run
            raise
        except GpuLostError as error:
            if get_worker().nanny is not None:
                _end_process(error)
            return Raised.of(error, error.__traceback__)
        except Exception as error:  # noqa: BLE001 (whatever it is, the lesion's record tells of it)
            return Raised.of(error, error.__traceback__)
        seconds = time.perf_counter() - began
        end = time.time()
        share = scan.seconds / len(scan.items)
        name, address = place()
        crop = sys.getsizeof(item)
        return Settled(record, Work(name, address, scan.worker, end - seconds, end, share, seconds, *memory(), crop))

    def _enforceable(self) -> float | None:
        """Return the deadline where a nanny will start another process; one without may be the caller's own."""
        return self.deadline if get_worker().nanny is not None else None

    def _check_worker(self) -> None:
        # In the task, not once at the start: workers of a batch system come later, some from another environment.
        if self.version != __version__:
            raise EngineError(
                f"a worker runs hgpscale {__version__}, this process {self.version}: install the same version on both"
            )
        if self.settings.device == "gpu":
            try:
                resolve("gpu")  # tries it once in each process
            except SettingsError as error:
                raise EngineError(f"the worker at {place()[1]}: {error}") from error


def _end_process(error: GpuLostError) -> NoReturn:
    """End the worker: its nanny starts another one, which has the GPU anew, and the lesion is tried again alone."""
    logger.critical("this worker ends: %s", error)
    os._exit(1)
