"""How much is in flight at once: enough that no worker waits, no more than the workers' memory holds."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

from distributed import Client

from hgpscale.engine.cluster.workers import GPU
from hgpscale.engine.events import Work, WorkersCounted
from hgpscale.engine.graph import Sizes
from hgpscale.errors import EngineError

TASKS_PER_THREAD = 3
"""One in work, one ready to be, one on its way."""

_RECOUNT_SECONDS = 5.0  # how often the scheduler is asked what workers there are
_SOON_SECONDS = 1.0  # the same, after one was lost
_DECLARED_SECONDS = 10.0  # that workers with a GPU may come later than others, also to a scheduler that is back
_SOME_LESIONS = 0.5  # seconds of lesions of one scan that are one task; Dask takes about 3 ms for a task
_SOME_SCANS = 0.1  # seconds of scans that are: what is lost with a worker shall be little
_MOST_SCANS = 32
_HELD = 0.4  # of the workers' memory may be cut-out scans that wait; Dask spills to the disk from 0.6 on
_FIRST_SECONDS = 0.1  # that a lesion takes, before any is known
_NEWS = 0.05  # what the latest lesion adds to what is known of a lesion


class Window:
    """Knows the workers, and what lesions of this run take.

    Parameters
    ----------
    client
        Whose scheduler is asked.
    on_gpu
        Whether each task takes a GPU, so that workers that declare none do not count.

    """

    def __init__(self, client: Client, *, on_gpu: bool = False) -> None:
        self._client, self._on_gpu = client, on_gpu
        self._seen, self._without = False, float("inf")  # whether any that counts was there; since when only others are
        self._workers: dict[str, dict[str, Any]] = {}
        self._counted = float("-inf")
        self._known = (0, 0)
        self._lesion, self._scan = _FIRST_SECONDS, _SOME_SCANS  # seconds that one takes
        self._bytes = 0.0  # that a scan leaves on the workers until all its lesions are done

    def recounted(self) -> list[WorkersCounted]:
        """Look at the workers if it is time, for clusters grow and shrink; return how many there are if it is news.

        Raises
        ------
        EngineError
            For a while none of those that there are, nor any before them, has declared the GPU that tasks take.

        """
        now = time.monotonic()
        if now - self._counted <= _RECOUNT_SECONDS:
            return []
        found = self._client.scheduler_info(n_workers=-1)["workers"]
        self._workers = {address: worker for address, worker in found.items() if self._places(worker) >= 1}
        self._counted = now
        self._seen = self._seen or bool(self._workers)
        if found and not self._seen:
            self._without = min(self._without, now)
        if now - self._without >= _DECLARED_SECONDS and not self._seen:
            raise EngineError(
                f"device gpu: no worker declares the resource {GPU}, {len(found)} found without: start workers with "
                f"--resources {GPU}=1 --nthreads 1"
            )
        before, self._known = self._known, (len(self._workers), self._threads)
        return [] if self._known == before else [WorkersCounted(*self._known)]

    def lost(self, address: str) -> None:
        """Count a worker no more, and look soon for its successor."""
        self._workers.pop(address, None)
        self._counted = min(self._counted, time.monotonic() - _RECOUNT_SECONDS + _SOON_SECONDS)

    def learn(self, work: Work, lesions: int, *, leaves: bool) -> None:
        """Note what a lesion took; its scan has so many, and waits for them on the workers or not."""
        held = work.crop * lesions if leaves else 0
        self._lesion += _NEWS * (work.extract_seconds - self._lesion)
        self._scan += _NEWS * ((work.read_seconds + work.extract_seconds) * lesions - self._scan)
        self._bytes += _NEWS * (held - self._bytes)

    @property
    def sizes(self) -> Sizes:
        """How much one task shall do."""
        lesions = _SOME_LESIONS / max(self._lesion, 1e-6)
        scans = _SOME_SCANS / max(self._scan, 1e-6)
        return Sizes(max(1, int(lesions)), min(max(1, int(scans)), _MOST_SCANS))

    def room(self, flying: int) -> int:
        """Return how many more scans may start, beside so many (or groups of them); none until a few can together."""
        size = self._size(max(1, self._threads))
        room = size - flying
        return room * self.sizes.scans if room >= max(1, size // TASKS_PER_THREAD) else 0

    def free(self, taken: Collection[str]) -> list[str]:
        """Return the addresses of workers without those that are taken."""
        return [address for address in self._workers if address not in taken]

    @property
    def _threads(self) -> int:
        return sum(map(self._places, self._workers.values()))

    def _places(self, worker: dict[str, Any]) -> int:
        """Return how many tasks a worker does at once."""
        threads: int = worker["nthreads"]
        return min(threads, int(worker["resources"].get(GPU, 0))) if self._on_gpu else threads

    def _size(self, threads: int) -> int:
        size = TASKS_PER_THREAD * threads
        limits = [worker["memory_limit"] for worker in self._workers.values()]
        if self._bytes and limits and all(limits):  # without a limit it is nobody's business
            size = min(size, int(_HELD * sum(limits) / self._bytes))
        return max(size, threads)
