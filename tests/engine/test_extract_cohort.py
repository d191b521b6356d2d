"""`extract` from manifest to cube, with tasks that do nothing but count and fail as told."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import dask
import fault_table
import psutil
import pytest
from distributed import Client, LocalCluster

from hgpscale.cube import CubeWriter, status
from hgpscale.engine import connection, run
from hgpscale.engine.cluster import local_client
from hgpscale.engine.events import (
    ClusterReady,
    Event,
    LesionDone,
    LesionSubmitted,
    RunFinished,
    RunStarted,
    SchedulerLost,
    WorkersCounted,
)
from hgpscale.engine.flow import stream_records
from hgpscale.engine.run import extract
from hgpscale.errors import (
    CubeError,
    CubeWriteError,
    EngineError,
    Failure,
    ManifestError,
    SchedulerLostError,
    SettingsError,
)
from hgpscale.record import Record
from hgpscale.settings import Settings

LESIONS_A_SCAN = [2, 1, 2, 1]


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with local_client(2) as client:
        yield client


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = partial(stream_records, read=fault_table.read, extract=fault_table.extract)
    monkeypatch.setattr(run, "stream_records", fake)


@pytest.fixture
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**places: object) -> None:
        raise AssertionError("a cluster was started")

    monkeypatch.setattr(run, "open_client", refuse)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return fault_table.write_manifest(tmp_path, LESIONS_A_SCAN)


@pytest.fixture
def cube(tmp_path: Path) -> Path:
    return tmp_path / "cube.zarr"


def test_run_tells_its_story_and_ends_with_a_summary(
    fakes: None, client: Client, manifest: Path, cube: Path, tmp_path: Path
) -> None:
    fault_table.Cohort(tmp_path, LESIONS_A_SCAN, {"extract s2-1": {1: "bug"}})
    events: list[Event] = []
    summary = extract(manifest, cube, client=client, on_event=events.append)
    assert events[0] == RunStarted(6, 6, 42, (), str(manifest), str(cube))
    assert events[-1] == RunFinished(summary)
    assert Counter(type(event) for event in events) == {
        RunStarted: 1, ClusterReady: 1, WorkersCounted: 1, LesionSubmitted: 6, LesionDone: 6, RunFinished: 1,
    }  # fmt: skip
    (failed,) = summary.failed
    assert (failed.lesion, failed.segmentation, failed.failure.stage) == ("s2-1", "default", "run")
    assert (summary.total, summary.done_before, summary.done, summary.partial, summary.ok) == (6, 0, 5, (), False)
    held = status(cube)
    assert (held.rows, held.done, held.failed, held.pending) == (6, 5, 1, 0)


def test_families_without_values_are_partial(
    fakes: None, client: Client, manifest: Path, cube: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault_table.Cohort(tmp_path, LESIONS_A_SCAN, {"extract s0-0": {1: "no glcm"}})
    summary = extract(manifest, cube, client=client)
    (row,) = summary.partial
    assert (row.lesion, row.failure) == ("s0-0", Failure("features", "lesion/original/glcm: one grey level"))
    assert (summary.done, summary.failed, summary.ok) == (6, (), False)
    assert status(cube).partial == 1


def test_interrupted_run_keeps_what_arrived_and_the_next_does_the_rest_only(
    fakes: None, client: Client, manifest: Path, cube: Path, tmp_path: Path
) -> None:
    cohort = fault_table.Cohort(tmp_path, LESIONS_A_SCAN)
    seen = []

    def interrupt(event: Event) -> None:
        seen.append(isinstance(event, LesionDone))
        if sum(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(manifest, cube, client=client, on_event=interrupt)
    assert status(cube).done == 3
    before = cohort.calls
    summary = extract(manifest, cube, client=client)
    assert (summary.done_before, summary.done, summary.ok) == (3, 3, True)
    assert sum((cohort.calls - before)[f"extract {lesion}"] for lesion in cohort.lesions) == 3
    assert status(cube).done == 6


def test_failed_rows_stay_failed_until_they_are_tried_again(
    fakes: None, client: Client, manifest: Path, cube: Path, tmp_path: Path
) -> None:
    cohort = fault_table.Cohort(tmp_path, LESIONS_A_SCAN, {"extract s2-1": {1: "bug"}})
    extract(manifest, cube, client=client)
    left = extract(manifest, cube, client=client)
    assert (left.done_before, left.failed_before, left.done, left.ok) == (6, 1, 0, False)
    before = cohort.calls
    again = extract(manifest, cube, client=client, retry_failed=True)
    assert {name for name in cohort.calls - before if name.startswith("extract")} == {"extract s2-1"}
    assert (again.failed_before, again.done, again.ok) == (0, 1, True)
    assert (status(cube).done, status(cube).failed) == (6, 0)


def test_nothing_pending_starts_no_cluster(
    fakes: None, client: Client, manifest: Path, cube: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    fault_table.Cohort(tmp_path, LESIONS_A_SCAN)
    extract(manifest, cube, client=client)
    request.getfixturevalue("no_cluster")
    summary = extract(manifest, cube)
    assert (summary.total, summary.done_before, summary.done, summary.ok) == (6, 6, 0, True)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        pytest.param({"cohort": "missing.csv"}, ManifestError, id="manifest"),
        pytest.param({"settings": {"setting": {"binwidth": 1}}}, SettingsError, id="settings"),
        pytest.param({"cube": "no/such/folder/cube.zarr"}, CubeError, id="cube"),
        pytest.param({"workers": 1, "scheduler": "tcp://127.0.0.1:1"}, SettingsError, id="two places to run"),
    ],
)
def test_what_cannot_be_used_is_refused_before_a_cluster_is_started(
    no_cluster: None, manifest: Path, cube: Path, tmp_path: Path, change: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        extract(**({"cohort": manifest, "cube": cube} | change))


def test_storage_that_refuses_stops_the_run(
    fakes: None, client: Client, manifest: Path, cube: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault_table.Cohort(tmp_path, LESIONS_A_SCAN)

    def full(writer: CubeWriter, record: Record) -> None:
        raise CubeWriteError("no room")

    monkeypatch.setattr(CubeWriter, "add", full)
    with pytest.raises(CubeWriteError, match="no room"):
        extract(manifest, cube, client=client)
    assert status(cube).pending == 6


@pytest.mark.slow
def test_own_workers_end_with_the_run(fakes: None, manifest: Path, cube: Path, tmp_path: Path) -> None:
    fault_table.Cohort(tmp_path, LESIONS_A_SCAN)
    before = set(psutil.Process().children(recursive=True))
    seen = []

    def look(event: Event) -> None:
        if isinstance(event, LesionDone):
            seen.append(set(psutil.Process().children(recursive=True)) - before)

    assert extract(manifest, cube, workers=2, on_event=look).ok
    workers = [child for child in seen[0] if "spawn_main" in " ".join(_command(child))]
    assert not any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers)
    assert len(seen[0]) >= 2


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


@pytest.mark.parametrize("workers", [None, 1])
def test_this_machine_has_a_name_among_the_clusters(
    fakes: None, manifest: Path, cube: Path, tmp_path: Path, workers: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault_table.Cohort(tmp_path, LESIONS_A_SCAN)
    asked: list[int | None] = []

    def opened(workers: int | None, scheduler: None, cluster: None, gpus: tuple[str, ...]) -> Any:
        asked.append(workers)
        assert gpus == ()
        return local_client(1)

    monkeypatch.setattr(run, "open_client", opened)
    assert extract(manifest, cube, cluster="local", workers=workers).done == 6
    assert asked == [workers]


def test_no_worker_left_is_said(tmp_path: Path) -> None:
    cohort = fault_table.Cohort(tmp_path, [1])
    options = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    with (
        dask.config.set({"distributed.scheduler.no-workers-timeout": "500ms"}),
        LocalCluster(n_workers=0, threads_per_worker=1, processes=True, **options) as cluster,
        Client(cluster) as client,
        pytest.raises(EngineError, match="no worker is left"),
    ):
        list(stream_records(client, cohort.scans, Settings()))


CLUSTER = """
import sys, time
from distributed import Client, LocalCluster
if __name__ == "__main__":
    options = {"n_workers": 1, "threads_per_worker": 1, "host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    with LocalCluster(scheduler_port=int(sys.argv[1]), scheduler_kwargs={"allowed_failures": 0}, **options) as cluster:
        print(cluster.scheduler_address, flush=True)
        time.sleep(600)
"""


class Elsewhere:
    """A scheduler with a worker, both another process, which can be killed and started at the same address."""

    def __init__(self, folder: Path) -> None:
        (folder / "cluster.py").write_text(CLUSTER)
        self.command = [sys.executable, str(folder / "cluster.py")]
        self.port = "0"
        self.start()

    def start(self) -> None:
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
        self.process = subprocess.Popen([*self.command, self.port], stdout=subprocess.PIPE, text=True, env=environment)
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()
        self.port = self.address.rpartition(":")[2]

    def end(self, how: signal.Signals = signal.SIGKILL) -> None:
        self.process.send_signal(how)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Elsewhere]:
    cluster = Elsewhere(tmp_path)
    yield cluster
    cluster.end()


SLOW = {f"read s{number}": {1: "slow"} for number in range(4)}


def test_a_scheduler_that_is_lost_for_good_ends_the_run_and_nothing_that_arrived_is_lost(
    fakes: None, manifest: Path, cube: Path, tmp_path: Path, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault_table.Cohort(tmp_path, LESIONS_A_SCAN, SLOW)
    monkeypatch.setattr(connection, "RETURN_SECONDS", 0.5)
    events: list[Event] = []

    def kill(event: Event) -> None:
        events.append(event)
        if isinstance(event, LesionDone) and sum(isinstance(one, LesionDone) for one in events) == 2:
            elsewhere.end()

    with pytest.raises(SchedulerLostError, match="lost the Dask scheduler"):
        extract(manifest, cube, scheduler=elsewhere.address, on_event=kill)
    assert isinstance(events[-1], SchedulerLost)
    assert 2 <= status(cube).done < 6


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "ended in order"])
def test_a_scheduler_that_comes_back_gets_what_is_missing_and_nothing_else(
    fakes: None, manifest: Path, cube: Path, tmp_path: Path, elsewhere: Elsewhere, how: signal.Signals
) -> None:
    cohort = fault_table.Cohort(tmp_path, LESIONS_A_SCAN, SLOW)
    done: list[LesionDone] = []
    lost: list[SchedulerLost] = []

    def restart(event: Event) -> None:
        if isinstance(event, LesionDone):
            done.append(event)
            if len(done) == 2:
                elsewhere.end(how)
        if isinstance(event, SchedulerLost):
            lost.append(event)
            elsewhere.start()

    summary = extract(manifest, cube, scheduler=elsewhere.address, on_event=restart)
    assert (summary.ok, summary.done, status(cube).done) == (True, 6, 6)
    assert [event.scheduler for event in lost] == [elsewhere.address]
    # One worker: what it was at, one scan of at most two lesions, is done again, and what arrived is not.
    extractions = {task[8:]: count for task, count in cohort.calls.items() if task.startswith("extract")}
    assert sorted(event.lesion for event in done) == sorted(extractions)
    assert sum(extractions.values()) <= 6 + 2
    assert all(extractions[event.lesion] == 1 for event in done[:2])


DRIVER = """
import sys
from functools import partial
import fault_table
from hgpscale.engine import connection, run
run.stream_records = partial(run.stream_records, read=fault_table.read, extract=fault_table.extract)
run.extract(sys.argv[1], sys.argv[2], workers=2, on_event=lambda event: print(type(event).__name__, flush=True))
"""


@pytest.mark.slow
@pytest.mark.parametrize("to_group", [True, False], ids=["Ctrl-C on a terminal", "signal to the driver"])
def test_ctrl_c_keeps_what_arrived_and_stops_quietly(
    manifest: Path, cube: Path, tmp_path: Path, to_group: bool
) -> None:
    fault_table.Cohort(tmp_path, LESIONS_A_SCAN, {f"extract s{number}-0": {1: "slow"} for number in range(4)})
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(manifest), str(cube)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    ) as driver:
        assert driver.stdout is not None
        for line in driver.stdout:
            if line.strip() == "LesionDone":
                break
        workers = psutil.Process(driver.pid).children(recursive=True)
        began = time.monotonic()
        (os.killpg if to_group else os.kill)(driver.pid, signal.SIGINT)
        _, messages = driver.communicate(timeout=30)
    assert time.monotonic() - began < 15
    assert driver.returncode == -signal.SIGINT, messages
    # One traceback, the driver's own: workers and cluster are silent.
    assert messages.count("Traceback") == 1
    assert messages.rstrip().endswith("KeyboardInterrupt")
    _, alive = psutil.wait_procs(workers, timeout=5)
    assert not alive
    assert status(cube).done >= 1


def test_script_without_a_main_guard_is_told_so(manifest: Path, cube: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        f"from hgpscale.engine.run import extract\nextract({str(manifest)!r}, {str(cube)!r}, workers=1)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "EngineError: cannot start workers" in done.stderr
    assert '`if __name__ == "__main__":`' in done.stderr.splitlines()[-1]
