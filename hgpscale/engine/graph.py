"""What is sent to Dask for some scans: the tasks, and which lesions' records each of them returns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any, NamedTuple
from uuid import uuid4

from dask import delayed

from hgpscale.engine.calls import Calls
from hgpscale.engine.tasks import LesionTask, ScanTask

_READ, _EXTRACT, _SCANS = "read", "extract", "scans"  # how the keys of the tasks begin


class Sizes(NamedTuple):
    """How much one task shall do, so that it is worth what Dask takes for it."""

    lesions: int
    scans: int


@dataclass(frozen=True)
class Flight:
    """A task whose result is records.

    Attributes
    ----------
    number
        Of the scan that it belongs to, or of the scans that it does together; counted in this run.
    lesions
        Whose records it returns, in this order, each with its scan.
    leaves
        Whether its scan waits on the workers until the other lesions of it are done too.
    place
        Address of the worker that it has to itself; empty: it is one among others.

    """

    number: int
    lesions: tuple[tuple[ScanTask, LesionTask], ...]
    leaves: bool = False
    place: str = ""


class Graph:
    """Makes tasks for a run; their keys are new to any scheduler."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._name = uuid4().hex[:8]
        self._numbers = count()
        self._read, self._extract, self._whole = (
            delayed(call, pure=False) for call in (Calls.read_scan, Calls.extract_lesions, Calls.whole_scans)
        )

    def together(self, scans: Iterable[ScanTask], sizes: Sizes) -> Iterator[tuple[Any, Flight]]:
        """Yield tasks of scans, each with what it does: small scans several at a time, big ones in parts."""
        small: list[ScanTask] = []
        for scan in scans:
            if len(scan.lesions) > sizes.lesions:
                yield from self._parts(scan, sizes.lesions)
                continue
            small.append(scan)
            if len(small) == sizes.scans:
                yield self._one(small)
                small = []
        if small:
            yield self._one(small)

    def alone(self, scan: ScanTask, place: str) -> Iterator[tuple[Any, Flight]]:
        """Yield the task of a scan of one lesion; by the keys it is known whether reading or extraction is lost."""
        return self._parts(scan, 1, place)

    def is_reading(self, key: Any) -> bool:
        """Say whether a key is that of a task of ours that only reads."""
        return isinstance(key, tuple) and key[0] == f"{_READ}-{self._name}"

    def _one(self, scans: list[ScanTask]) -> tuple[Any, Flight]:
        number = next(self._numbers)
        task = self._whole(self._calls, tuple(scans), dask_key_name=(f"{_SCANS}-{self._name}", number))
        return task, Flight(number, tuple((scan, lesion) for scan in scans for lesion in scan.lesions))

    def _parts(self, scan: ScanTask, size: int, place: str = "") -> Iterator[tuple[Any, Flight]]:
        number, lesions = next(self._numbers), range(len(scan.lesions))
        timed = self._read(self._calls, scan, dask_key_name=(f"{_READ}-{self._name}", number))
        for start in lesions[::size]:
            some = lesions[start : start + size]
            task = self._extract(self._calls, timed, some, dask_key_name=(f"{_EXTRACT}-{self._name}", number, start))
            yield task, Flight(number, tuple((scan, scan.lesions[index]) for index in some), leaves=True, place=place)
