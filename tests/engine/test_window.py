"""How much is in flight at once, by hand."""

from types import SimpleNamespace
from typing import Any

import pytest

from hgpscale.engine.events import Work, WorkersCounted
from hgpscale.engine.window import Window
from hgpscale.errors import EngineError

GIB = 1 << 30


def workers(count: int, *, threads: int = 1, memory: int = GIB) -> dict[str, dict[str, int]]:
    return {f"tcp://w{number}": {"nthreads": threads, "memory_limit": memory} for number in range(count)}


def window_of(known: dict[str, dict[str, int]]) -> Window:
    client: Any = SimpleNamespace(scheduler_info=lambda n_workers: {"workers": dict(known)})
    made = Window(client)
    made.recounted()
    return made


def work(seconds: float, *, read: float = 0.0, crop: int = 0) -> Work:
    return Work("0", "tcp://w0", "0", 0.0, seconds, read, seconds, 0, 0, crop)


def learn(made: Window, one: Work, lesions: int, *, leaves: bool) -> None:
    for _ in range(400):
        made.learn(one, lesions, leaves=leaves)


def test_each_thread_has_a_task_and_two_more() -> None:
    made = window_of(workers(4, threads=2))
    assert made.room(0) == 3 * 8
    assert made.room(3 * 8 - 8) == 8  # as soon as there is one for each thread
    assert made.room(3 * 8 - 7) == 0  # sooner they would be sent one by one
    assert window_of({}).room(0) == 3  # the first worker finds something to do


# A scan of two lesions leaves 2 x 100 MiB on the workers: 0.4 of 4 GiB are 8 such scans.
@pytest.mark.parametrize(("count", "memory", "room"), [(4, GIB, 8), (4, 2 * GIB, 12), (8, GIB, 16), (4, 0, 12)])
def test_scans_that_wait_on_the_workers_fit_into_their_memory(count: int, memory: int, room: int) -> None:
    made = window_of(workers(count, memory=memory))
    learn(made, work(10.0, crop=100 << 20), 2, leaves=True)
    assert made.room(0) == room


def test_no_thread_is_without_a_task_however_large_the_scans() -> None:
    made = window_of(workers(4))
    learn(made, work(10.0, crop=8 * GIB), 2, leaves=True)
    assert made.room(0) == 4
    assert made.room(3) == 1  # nobody waits for the last of the four


def test_scans_that_one_task_does_wait_nowhere() -> None:
    made = window_of(workers(4))
    learn(made, work(10.0, crop=8 * GIB), 2, leaves=False)
    assert made.room(0) == 12


def test_tasks_are_worth_what_dask_takes_for_them() -> None:
    made = window_of(workers(1))
    learn(made, work(0.0099, read=0.0099), 1, leaves=False)
    assert made.sizes == (50, 5)  # half a second of lesions of one scan, a tenth of scans
    assert made.room(0) == 3 * 5
    learn(made, work(2.0), 3, leaves=True)
    assert made.sizes == (1, 1)
    learn(made, work(0.0), 1, leaves=False)
    assert made.sizes.scans == 32  # what is lost with a worker shall be little, whatever the clock says


def test_workers_are_looked_at_now_and_then_and_soon_after_a_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    known = workers(2)
    client: Any = SimpleNamespace(scheduler_info=lambda n_workers: {"workers": dict(known)})
    made = Window(client)
    assert made.recounted() == [WorkersCounted(2, 2)]
    known |= workers(3)
    now += 4
    assert made.recounted() == []
    made.lost("tcp://w0")
    assert made.free({"tcp://w1"}) == []
    now += 1.1
    assert made.recounted() == [WorkersCounted(3, 3)]
    assert made.free({"tcp://w1"}) == ["tcp://w0", "tcp://w2"]
    now += 6
    assert made.recounted() == []  # no news


def test_workers_with_a_gpu_may_come_later_than_others(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    known: dict[str, dict[str, Any]] = {
        address: {**worker, "resources": {}} for address, worker in workers(3, threads=4).items()
    }
    client: Any = SimpleNamespace(scheduler_info=lambda n_workers: {"workers": dict(known)})
    made = Window(client, on_gpu=True)
    assert made.recounted() == []
    now += 6
    assert made.recounted() == []
    known["tcp://gpu"] = {**known["tcp://w0"], "resources": {"GPU": 1.0}}
    now += 6
    assert made.recounted() == [WorkersCounted(1, 1)]
    assert made.free(()) == ["tcp://gpu"]
    del known["tcp://gpu"]  # its process is started anew
    now += 60
    assert made.recounted() == [WorkersCounted(0, 0)]
    late = Window(client, on_gpu=True)
    late.recounted()
    now += 11
    with pytest.raises(EngineError, match="no worker declares the resource GPU, 3 found without"):
        late.recounted()
