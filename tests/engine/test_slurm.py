"""Real jobs: a SLURM of two nodes on this machine, workers that are cancelled or whose time is up, and equal cubes."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import fault_table
import pytest
import yaml

from hgpscale.cube import store
from hgpscale.engine import extract
from hgpscale.engine.cluster import open_client, read_cluster
from hgpscale.engine.events import Event, LesionDone
from hgpscale.engine.flow import stream_records
from hgpscale.errors import EngineError
from hgpscale.settings import Settings

DEPLOY = Path(__file__).resolve().parents[2] / "deploy" / "slurm"
NEEDED = ("slurmctld", "slurmd", "sbatch", "munged")
IMAGE_TYPES: dict[str, dict[str, Any]] = {"Original": {}, "Wavelet": {}, "LBP3D": {}, "Gradient": {}}
PATH = f"{os.environ['PATH']}{os.pathsep}/usr/sbin"

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.slow,
    pytest.mark.skipif(
        os.getuid() != 0 or not all(shutil.which(command, path=PATH) for command in NEEDED),
        reason="needs root and SLURM: see CONTRIBUTING.md",
    ),
    pytest.mark.skipif(find_spec("dask_jobqueue") is None, reason="dask-jobqueue is not installed"),
]


def free_ports(count: int) -> int:
    """Return the first of as many ports that are free side by side."""
    for port in range(20000, 30000, count):
        sockets = [socket.socket() for _ in range(count)]
        try:
            for number, each in enumerate(sockets):
                each.bind(("127.0.0.1", port + number))
        except OSError:
            continue
        finally:
            for each in sockets:
                each.close()
        return port
    raise AssertionError("no ports are free")


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """SLURM, as the environment of all that is started from here says."""
    folder = tmp_path_factory.mktemp("slurm")
    command = [str(DEPLOY / "start-test-slurm.sh")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        subprocess.run([*command, "start", str(folder), str(free_ports(3))], check=True)
        try:
            yield
        finally:
            subprocess.run([*command, "stop", str(folder)], check=True)


def write_cluster(folder: Path, *prologue: str, **options: Any) -> Path:
    """Write a cluster file of two workers, each a job, like that in deploy/ but for what this SLURM has."""
    content = yaml.safe_load((DEPLOY / "cluster.yaml").read_text())
    repository = DEPLOY.parents[1]
    content["workers"] = {"minimum": 2, "maximum": 2}
    content["options"] |= {
        "queue": "test",
        "cores": 1,
        "memory": "1GB",
        "walltime": "00:05:00",
        "interface": "lo",
        "log_directory": str(folder / "logs"),
        "local_directory": str(folder),
        "shared_temp_directory": str(folder),
        "job_script_prologue": [f"export PYTHONPATH={repository}:{repository / 'tests' / 'engine'}", *prologue],
        **options,
    }
    path = folder / "cluster.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def jobs(state: str) -> list[str]:
    """Return the numbers of the workers' jobs in a state."""
    command = ["squeue", "--noheader", "--name", "dask-worker", "--states", state, "--format", "%i"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def state(job: str) -> str:
    command = ["squeue", "--noheader", "--states", "all", "--jobs", job, "--format", "%T"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def started(folder: Path) -> int:
    """Return how many workers' jobs have run."""
    return len(list((folder / "logs").glob("dask-worker-*.err")))


def eventually(condition: Callable[[], object], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def outcome(
    folder: Path, lesions_a_scan: list[int], cluster: Path, on_record: Callable[[int], None]
) -> fault_table.Cohort:
    """Run stand-in tasks of half a second and hold each lesion to come once, without a failure."""

    def addresses() -> set[str]:  # that a worker and its nanny listen to; in here, because jobs do not import this file
        import psutil

        processes = (psutil.Process(), psutil.Process().parent())
        connections = [each for process in processes if process for each in process.net_connections()]
        return {each.laddr.ip for each in connections if each.status == psutil.CONN_LISTEN}

    lesions = [f"s{scan}-{lesion}" for scan, count in enumerate(lesions_a_scan) for lesion in range(count)]
    slow = {f"extract {lesion}": dict.fromkeys(range(1, 9), "slow") for lesion in lesions}
    cohort, records = fault_table.Cohort(folder, lesions_a_scan, slow), []
    with open_client(cluster=read_cluster(cluster)) as client:
        for record, _ in stream_records(
            client, cohort.scans, Settings(), read=fault_table.read, extract=fault_table.extract
        ):
            records.append(record)
            if len(records) == 1:
                assert client.scheduler.address.startswith("tls://127.0.0.1:")
                assert set().union(*client.run(addresses).values()) == {"127.0.0.1"}
            on_record(len(records))
    assert sorted(record.lesion for record in records) == sorted(lesions)
    assert not any(record.failure for record in records)
    eventually(lambda: not jobs("pending,running"))
    return cohort


def check_done_again(cohort: fault_table.Cohort) -> None:
    """Hold what one worker's end may cost: the task that it was at, lesions of one scan, a second time."""
    anew = {task: calls for task, calls in cohort.calls.items() if task.startswith("extract") and calls > 1}
    assert set(anew.values()) <= {2}
    assert len({task.partition("-")[0] for task in anew}) <= 1


@pytest.mark.usefixtures("slurm")
def test_a_cancelled_job_is_replaced_and_costs_what_it_was_at(tmp_path: Path) -> None:
    def cancel(done: int) -> None:
        if done == 3:
            eventually(lambda: len(jobs("running")) == 2)
            subprocess.run(["scancel", jobs("running")[0]], check=True)
        if done == 8:
            eventually(lambda: started(tmp_path) == 3)

    cohort = outcome(tmp_path, [2] * 10, write_cluster(tmp_path), cancel)
    assert started(tmp_path) == 3
    check_done_again(cohort)


@pytest.mark.usefixtures("slurm")
def test_a_job_that_ends_before_its_worker_is_there_is_told_with_its_last_words(tmp_path: Path) -> None:
    cluster = read_cluster(write_cluster(tmp_path, "echo no module hgpscale here >&2", "exit 1"))
    words = r"ended before its worker .*\.err ends with: no module hgpscale here; is Python"
    with pytest.raises(EngineError, match=words), open_client(cluster=cluster):
        pass
    eventually(lambda: not jobs("pending,running"))


@pytest.mark.usefixtures("slurm")
def test_a_job_that_ends_before_its_worker_is_there_is_replaced(tmp_path: Path) -> None:
    # Of three jobs that begin, the second does nothing.
    counted = f"if ! mkdir {tmp_path / 'one'}; then if mkdir {tmp_path / 'two'}; then exit 1; fi; fi"

    def wait(done: int) -> None:
        if done == 4:
            eventually(lambda: started(tmp_path) == 3 and len(jobs("running")) == 2, 40)

    cohort = outcome(tmp_path, [1] * 12, write_cluster(tmp_path, counted), wait)
    assert set(cohort.calls.values()) == {1}


@pytest.mark.usefixtures("slurm")
def test_a_worker_whose_time_is_up_is_replaced(tmp_path: Path) -> None:
    # One of them, so that what it hands over has somewhere to go: exactly two are there when its time is up.
    once = f"mkdir {tmp_path / 'once'} && LIFETIME=4s || LIFETIME=5m"
    cluster = write_cluster(tmp_path, once, worker_extra_args=["--lifetime", "$LIFETIME"])

    def wait(done: int) -> None:
        if done == 8:
            eventually(lambda: started(tmp_path) == 3)

    cohort = outcome(tmp_path, [2] * 10, cluster, wait)
    assert started(tmp_path) == 3
    check_done_again(cohort)


@pytest.mark.usefixtures("slurm")
def test_a_cube_made_by_jobs_is_that_of_a_local_run(
    tmp_path: Path, copy_cohort: Callable[[Path, int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, settings = copy_cohort(tmp_path / "cohort", 8), tmp_path / "settings.yaml"
    settings.write_text(yaml.safe_dump({"imageType": IMAGE_TYPES}))
    extract(manifest, tmp_path / "local.zarr", settings, workers=2)
    done: list[Event] = []

    def cancel(event: Event) -> None:
        if isinstance(event, LesionDone):
            done.append(event)
            if len(done) == 3:
                subprocess.run(["scancel", jobs("running")[0]], check=True)

    cluster = write_cluster(tmp_path)
    summary = extract(manifest, tmp_path / "jobs.zarr", settings, cluster=cluster, on_event=cancel)
    assert (summary.ok, summary.done, len(done)) == (True, 12, 12)
    assert content(tmp_path / "jobs.zarr") == content(tmp_path / "local.zarr")

    # The driver as a job: the script of deploy/, by its own words.
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "hgpscale").symlink_to(Path(sys.executable).with_name("hgpscale"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONPATH", str(DEPLOY.parents[1]))
    monkeypatch.setenv("HGPSCALE_CLUSTER", str(cluster))
    arguments = [str(manifest), str(tmp_path / "driver.zarr"), "--settings", str(settings)]
    command = ["sbatch", "--parsable", str(DEPLOY / "extract.sbatch"), *arguments]
    job = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path).stdout.strip()
    eventually(lambda: state(job) not in ("PENDING", "RUNNING", "COMPLETING"), 60)
    assert state(job) == "COMPLETED", (tmp_path / f"hgpscale-{job}.log").read_text()
    assert content(tmp_path / "driver.zarr") == content(tmp_path / "local.zarr")


def content(cube: Path) -> dict[str, object]:
    return {key: store.read(cube, key) for key in store.sizes(cube)}
