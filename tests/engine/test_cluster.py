import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import dask
import psutil
import pytest
from distributed import Client, LocalCluster

from hgpscale.engine.cluster import connect, interrupts_remembered, local, local_client, prepare_workers
from hgpscale.errors import EngineError, SettingsError
from hgpscale.limits import memory_limit


def _process_facts() -> dict[str, Any]:
    import SimpleITK as sitk
    import threadpoolctl

    return {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "itk": sitk.ProcessObject.GetGlobalDefaultNumberOfThreads(),
        "pools": [pool["num_threads"] for pool in threadpoolctl.threadpool_info()],
    }


def test_an_interrupt_that_a_destructor_drops_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    class Dropping:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    reported: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", reported.append)
    with interrupts_remembered() as again:
        again()
        Dropping()
        assert not reported
        with pytest.raises(KeyboardInterrupt):
            again()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_local_workers_listen_on_loopback_only_and_leave_no_trace(tmp_path: Path) -> None:
    environment, config = dict(os.environ), dask.config.config.copy()
    with dask.config.set(temporary_directory=str(tmp_path)), local_client(2) as client:
        facts = list(client.run(_process_facts).values())
        assert {fact["parent"] for fact in facts} == {os.getpid()}
        assert len({fact["pid"] for fact in facts}) == 2
        assert set(client.nthreads().values()) == {1}
        processes = [psutil.Process(), *(psutil.Process(fact["pid"]) for fact in facts)]
        listening = {
            connection.laddr.ip
            for process in processes
            for connection in process.net_connections()
            if connection.status == psutil.CONN_LISTEN
        }
        assert listening == {"127.0.0.1"}
        assert list(tmp_path.rglob("worker-*"))
    assert not list(tmp_path.rglob("worker-*"))
    assert not any(psutil.pid_exists(fact["pid"]) for fact in facts)
    assert dict(os.environ) == environment
    assert dask.config.config == config


def test_prepared_workers_use_one_thread_a_library() -> None:
    from hgpscale.engine.plugin import WorkerSetup

    with local_client(1) as client:
        client.register_plugin(WorkerSetup())
        first = client.submit(_process_facts).result()
        client.restart()
        second = client.submit(_process_facts, pure=False).result()
    for facts in (first, second):
        assert facts["itk"] == 1
        assert facts["pools"]
        assert set(facts["pools"]) == {1}
    assert first["pid"] != second["pid"]


def test_workers_know_how_much_memory_they_may_use() -> None:
    with local_client(2) as client:
        told = client.run(memory_limit)
        given = {address: facts["memory_limit"] for address, facts in client.scheduler_info()["workers"].items()}
    assert {address: limit.size for address, limit in told.items()} == given
    assert all(limit.words.startswith("this worker may use") for limit in told.values())
    assert memory_limit().words.startswith("this machine has")


def test_a_worker_in_this_process_leaves_no_limit_behind() -> None:
    options = {"n_workers": 1, "processes": False, "dashboard_address": None, "memory_limit": "1 GiB"}
    with LocalCluster(**options) as cluster, Client(cluster) as client:
        prepare_workers(client)
        assert client.submit(memory_limit).result().size == 1 << 30
    assert memory_limit().words.startswith("this machine has")


@pytest.mark.parametrize(("cores", "memory", "count"), [(8, 16 << 30, 8), (64, 16 << 30, 16), (4, 1 << 29, 1)])
def test_there_are_no_more_workers_than_memory_for_them(
    cores: int, memory: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "CPU_COUNT", cores)
    monkeypatch.setattr(local, "MEMORY_LIMIT", memory)
    assert local.default_workers() == count


@pytest.mark.parametrize("workers", [0, -1])
def test_number_of_workers_must_be_positive(workers: int) -> None:
    with pytest.raises(SettingsError, match=f"at least 1, found {workers}"), local_client(workers):
        pass


def test_workers_that_cannot_start_are_an_engine_error(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    with (
        dask.config.set(temporary_directory=str(blocked)),
        pytest.raises(EngineError, match="cannot start workers"),
        local_client(1),
    ):
        pass


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:{free}", "nothing://here:1", "tcp://127.0.0.1:{silent}"])
def test_unreachable_scheduler_is_said_soon(address: str) -> None:
    with socket.socket() as free, socket.socket() as silent:
        free.bind(("127.0.0.1", 0))
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = address.format(free=free.getsockname()[1], silent=silent.getsockname()[1])
        began = time.monotonic()
        with pytest.raises(EngineError, match=f"no Dask scheduler answers at {address}"), connect(address, timeout=1):
            pass
        assert time.monotonic() - began < 8


def test_connecting_leaves_the_cluster_running() -> None:
    with local_client(1) as client:
        with connect(client.scheduler.address) as other:
            assert other.submit(sum, [1, 2]).result() == 3
        assert client.submit(sum, [1, 3]).result() == 4


DRIVER = """
import sys, time
from hgpscale.engine.cluster import local_client
with local_client(2) as client:
    print(*client.run(__import__("os").getpid).values(), flush=True)
    busy = client.map(time.sleep, [600, 601])
    time.sleep(600)
"""


def test_workers_end_when_their_driver_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", DRIVER], stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        workers = [psutil.Process(int(pid)) for pid in driver.stdout.readline().split()]
        assert len(workers) == 2
        time.sleep(1)
        assert all(worker.is_running() for worker in workers)
        driver.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive


def _allocator() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("MALLOC_")}


def test_workers_keep_memory_that_they_will_need_again() -> None:
    before = _allocator()
    with local_client(1) as client:
        (found,) = client.run(_allocator).values()
    assert int(found["MALLOC_TRIM_THRESHOLD_"]) >= 1 << 28
    assert _allocator() == before
