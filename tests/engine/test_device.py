"""Where a run computes: what is asked for and what is there, one worker a GPU, and cubes that do not tell.

No GPU takes part: devices are played by names, and in processes of their own by numba's simulator.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import fault_table
import numba
import pytest
import SimpleITK as sitk
from distributed import Client, Scheduler, SpecCluster, Worker
from typer.testing import CliRunner

from hgpscale import device, extract_lesion
from hgpscale.cli import app
from hgpscale.engine import calls, extract, where, window
from hgpscale.engine.calls import Settled
from hgpscale.engine.cluster import local_client
from hgpscale.engine.cluster.workers import GPU
from hgpscale.engine.events import Event, RunStarted, WorkersCounted
from hgpscale.engine.flow import stream_records
from hgpscale.engine.where import Where, on_this_machine
from hgpscale.errors import EngineError, SettingsError
from hgpscale.settings import Settings
from hgpscale.testing import sphere

WORTH = "{} a GPU for large lesions"
NO_DRIVER = "CUDA driver library cannot be found."
REFUSED = (
    "device gpu: no GPU can be used here: CUDA driver library cannot be found; hgpscale doctor says more, device auto "
    "goes on without"
)


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return what has this process believe that it sees so many GPUs, which can be used."""
    monkeypatch.delenv(device.VISIBLE, raising=False)

    def there_are(number: int) -> None:
        monkeypatch.setattr(device, "n_gpus", lambda: number)
        monkeypatch.setattr(where, "gpu_problem_elsewhere", lambda: "" if number else NO_DRIVER)

    return there_are


def test_the_devices_are_those_of_the_settings() -> None:
    assert get_args(Settings.model_fields["device"].annotation) == device.DEVICES


@pytest.mark.parametrize(
    ("asked", "simulated", "problem", "found"),
    [
        ("cpu", False, "", "cpu"),
        ("cpu", True, NO_DRIVER, "cpu"),
        ("gpu", False, "", "gpu"),
        ("gpu", False, NO_DRIVER, None),
        ("gpu", True, NO_DRIVER, "gpu"),
        ("auto", False, "", "gpu"),
        ("auto", False, NO_DRIVER, "cpu"),
        ("auto", True, NO_DRIVER, "cpu"),
    ],
)
def test_what_is_asked_for_becomes_what_is_there(
    asked: str, simulated: bool, problem: str, found: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "simulated", lambda: simulated)
    monkeypatch.setattr(device, "gpu_problem", lambda: problem)
    for ask in (None, lambda: problem):
        if found is None:
            with pytest.raises(SettingsError, match=f"^{re.escape(REFUSED)}$"):
                device.resolve(asked, ask)
        else:
            assert device.resolve(asked, ask) == found


def test_what_is_no_device_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="device must be cpu, gpu or auto, found 'tpu'"):
        device.resolve("tpu")
    with pytest.raises(SettingsError, match="setting device: Input should be 'cpu', 'gpu' or 'auto', found 'tpu'"):
        extract(tmp_path / "none.csv", tmp_path / "cube.zarr", device="tpu")


@pytest.mark.parametrize(
    ("visible", "driver", "names"),
    [
        (None, 2, ("0", "1")),
        ("1,3", 2, ("1", "3")),
        ("GPU-5f, GPU-70", 2, ("GPU-5f", "GPU-70")),
        ("0,1,7", 2, ("0", "1")),  # CUDA stops at the first that is not there
        ("MIG-1a,MIG-2b,MIG-3c", 1, ("MIG-1a", "MIG-2b", "MIG-3c")),
        ("MIG-1a,MIG-2b", 0, ()),
        ("", 0, ()),
        (None, 0, ()),
    ],
)
def test_devices_have_the_names_that_the_user_gave(
    visible: str | None, driver: int, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    if visible is None:
        monkeypatch.delenv(device.VISIBLE, raising=False)
    else:
        monkeypatch.setenv(device.VISIBLE, visible)
    monkeypatch.setattr(device, "simulated", lambda: False)
    found = SimpleNamespace(is_available=lambda: driver > 0, gpus=[None] * driver)
    monkeypatch.setattr(numba, "cuda", found, raising=False)
    assert device.n_gpus() == len(names)
    assert device.gpu_names() == names


def test_a_broken_cuda_has_no_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> bool:
        raise OSError("libcuda.so: wrong ELF class")

    monkeypatch.setattr(device, "simulated", lambda: False)
    monkeypatch.setattr(numba, "cuda", SimpleNamespace(is_available=broken), raising=False)
    assert device.n_gpus() == 0
    assert device.try_gpu() == "OSError: libcuda.so: wrong ELF class"


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("print('no driver')", "no driver"),
        ("print()", ""),
        ("import os; os.kill(os.getpid(), 11)", "a process that was to try one did not end well: status -11"),
        ("raise OSError('two\\nlines')", "a process that was to try one did not end well: lines"),
        ("import time; time.sleep(60)", "a process that was to try one did not end well: TimeoutExpired: "),
    ],
)
def test_a_process_of_its_own_tries_the_gpu(program: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "simulated", lambda: False)
    monkeypatch.setattr(device, "_TRY", program)
    monkeypatch.setattr(device, "_TRY_SECONDS", 1.5)
    assert device.gpu_problem_elsewhere().startswith(reason)
    assert bool(device.gpu_problem_elsewhere()) == bool(reason)


def test_the_process_finds_what_this_one_does() -> None:
    assert device.gpu_problem_elsewhere() == device.try_gpu()


@pytest.mark.parametrize(
    ("asked", "there", "workers", "found"),
    [
        ("cpu", 2, 7, Where("cpu", (), 7)),
        ("gpu", 2, None, Where("gpu", ("0", "1"))),
        ("gpu", 2, 1, Where("gpu", ("0",), 1)),
        ("auto", 2, None, Where("auto", ("0", "1"), 3, (WORTH.format("2 of 3 workers have"),))),
        ("auto", 2, 5, Where("auto", ("0", "1"), 5, (WORTH.format("2 of 5 workers have"),))),
        ("auto", 2, 1, Where("auto", ("0",), 1, (WORTH.format("1 of 1 workers has"),))),
        ("auto", 4, None, Where("auto", ("0", "1", "2", "3"), 4, (WORTH.format("4 of 4 workers have"),))),
        ("auto", 0, 7, Where("cpu", (), 7, ("computed on the CPU: CUDA driver library cannot be found",))),
        ("gpu", 2, 4, "a GPU takes one worker: this machine has 2, found --workers 4"),
        ("gpu", 0, None, REFUSED),
    ],
)
def test_workers_of_this_machine(
    asked: str,
    there: int,
    workers: int | None,
    found: Where | str,
    gpus: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpus(there)
    monkeypatch.setattr(where, "default_workers", lambda: 3)
    if isinstance(found, str):
        with pytest.raises(SettingsError, match=f"^{re.escape(found)}$"):
            on_this_machine(asked, workers)
    else:
        assert on_this_machine(asked, workers) == found


def test_the_command_refuses_a_gpu_that_is_not_there_before_anything_starts(
    tmp_path: Path, copy_cohort: Callable[[Path, int], Path], gpus: Callable[[int], None]
) -> None:
    manifest = copy_cohort(tmp_path, 1)
    for there, more, said in ((0, [], REFUSED), (2, ["--workers", "4"], "this machine has 2, found --workers 4")):
        gpus(there)
        found = CliRunner().invoke(app, ["extract", str(manifest), str(tmp_path / "c.zarr"), "--device", "gpu", *more])
        assert (found.exit_code, found.stdout) == (2, "")
        assert found.stderr.startswith("error: ")
        assert found.stderr.endswith(f"{said}\n")
        assert found.stderr.count("\n") == 1
        assert not (tmp_path / "c.zarr").exists()


def test_one_lesion_is_refused_where_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    image, mask = sphere(8.0)
    monkeypatch.setattr(device, "gpu_problem", lambda: NO_DRIVER)
    for settings, asked in ((None, "gpu"), ({"setting": {"device": "gpu"}}, None)):
        with pytest.raises(SettingsError, match=f"^{re.escape(REFUSED)}$"):
            extract_lesion(image, mask, settings, device=asked)
    few = {"featureClass": {"firstorder": ["Mean"]}}
    assert extract_lesion(image, mask, few, device="auto") == extract_lesion(image, mask, few)


def test_a_run_says_that_it_goes_on_without_a_gpu(
    tmp_path: Path, copy_cohort: Callable[[Path, int], Path], gpus: Callable[[int], None]
) -> None:
    gpus(0)
    events: list[Event] = []
    settings = {"setting": {"device": "auto"}, "featureClass": {"firstorder": ["Mean"]}}
    for _ in range(2):  # the second has nothing to compute
        extract(copy_cohort(tmp_path, 1), tmp_path / "cube.zarr", settings, workers=1, on_event=events.append)
    first, second = (event.notes for event in events if isinstance(event, RunStarted))
    assert first == ("computed on the CPU: CUDA driver library cannot be found",)
    assert second == ()


def test_workers_for_which_no_gpu_is_left_see_none() -> None:
    with local_client(2, gpus=("GPU-5f",)) as client:
        found = {name: facts for name, *facts in client.run(_facts).values()}
    assert found[0][0::2] == ["GPU-5f", {GPU: 1}]
    assert found[1][0::2] == ["", {}]


def _facts(dask_worker: Any) -> tuple[int, str, str, dict[str, float], int]:
    state = dask_worker.state
    return dask_worker.name, os.environ[device.VISIBLE], str(os.getpid()), state.total_resources, state.nthreads


def test_each_worker_of_this_machine_has_a_gpu_and_keeps_it(
    gpus: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus(2)
    monkeypatch.setenv(device.VISIBLE, "GPU-5f,GPU-70,GPU-9c")
    names = {0: "GPU-5f", 1: "GPU-70"}
    before = dict(os.environ)
    with local_client(gpus=on_this_machine("gpu", None).gpus) as client:
        first = {name: facts for name, *facts in client.run(_facts).values()}
        assert {name: facts[0] for name, facts in first.items()} == names
        assert [facts[2:] for facts in first.values()] == [[{GPU: 1}, 1]] * 2
        os.kill(int(first[1][1]), signal.SIGKILL)
        ends = time.monotonic() + 60
        again = first
        while again.get(1, first[1])[1] == first[1][1] and time.monotonic() < ends:
            time.sleep(0.2)
            again = {name: facts for name, *facts in client.run(_facts, on_error="ignore").values()}
        assert again[1][1] != first[1][1]
        assert [*again[1][:1], *again[1][2:]] == [names[1], {GPU: 1}, 1]
        assert again[0] == first[0]
    assert dict(os.environ) == before


def test_what_kills_workers_is_told_and_the_rest_is_done_on_their_successors(
    tmp_path: Path, gpus: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus(2)
    monkeypatch.setenv("NUMBA_ENABLE_CUDASIM", "1")  # for the workers; in this process numba has been imported
    with local_client(gpus=on_this_machine("gpu", None).gpus) as client:
        assert {facts[1] for facts in client.run(_facts).values()} == {"0", "1"}
        found, _ = stream(client, tmp_path, [1, 2, 1], "gpu", {"extract s1-0": {1: "exit", 2: "exit", 3: "exit"}})
    failed = {each.record.lesion for each in found if each.record.failure}
    assert (len(found), failed) == (4, {"s1-0"})


def cluster_of(*resources: int) -> SpecCluster:
    """Return a cluster of workers in this process, each with so many GPUs."""
    scheduler = {"cls": Scheduler, "options": {"dashboard": False, "protocol": "inproc://", "allowed_failures": 0}}
    options = [{"nthreads": 2, "resources": {GPU: number} if number else None} for number in resources]
    workers = {name: {"cls": Worker, "options": each} for name, each in enumerate(options)}
    return SpecCluster(workers=workers, scheduler=scheduler)


@pytest.fixture
def mixed() -> Iterator[Client]:
    """Client of three workers, of which the one in the middle declares a GPU."""
    with cluster_of(0, 1, 0) as cluster, Client(cluster, set_as_default=False) as client:
        client.wait_for_workers(3)
        yield client


def stream(
    client: Client, folder: Path, lesions: list[int], asked: str, faults: dict[str, dict[int, str]] | None = None
) -> tuple[list[Settled], list[Event]]:
    events: list[Event] = []
    scans = fault_table.Cohort(folder, lesions, faults).scans
    settings = Settings().on(asked)
    found = stream_records(
        client, scans, settings, read=fault_table.read, extract=fault_table.extract, on_event=events.append
    )
    return list(found), events


def test_tasks_go_to_workers_that_declare_a_gpu_alone(
    mixed: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "resolve", lambda asked: asked)
    found, events = stream(mixed, tmp_path, [9, 9, 1, 1, 1, 1], "gpu")
    assert len(found) == 22
    assert {(each.work.worker, each.work.reader) for each in found if each.work} == {("1", "1")}
    assert [event for event in events if isinstance(event, WorkersCounted)] == [WorkersCounted(1, 1)]


def test_by_auto_every_worker_decides_for_itself(mixed: Client, tmp_path: Path) -> None:
    found, events = stream(mixed, tmp_path, [1] * 60, "auto")
    assert len({each.work.worker for each in found if each.work}) > 1
    assert [event for event in events if isinstance(event, WorkersCounted)] == [WorkersCounted(3, 6)]


def test_a_worker_that_declares_a_gpu_and_can_use_none_ends_the_run(
    mixed: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "gpu_problem", lambda: NO_DRIVER)
    with pytest.raises(EngineError, match=rf"^the worker at inproc://\S+: {REFUSED}$"):
        stream(mixed, tmp_path, [1, 3], "gpu")


def test_workers_of_which_none_declares_a_gpu_are_told_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "_DECLARED_SECONDS", 0.0)
    said = r"^device gpu: no worker declares the resource GPU, 2 found without: start workers with --resources GPU=1 "
    with cluster_of(0, 0) as cluster, Client(cluster, set_as_default=False) as client:
        client.wait_for_workers(2)
        with pytest.raises(EngineError, match=said + "--nthreads 1$"):
            stream(client, tmp_path, [1], "gpu")


SIMULATED = """
import json, sys
from pathlib import Path
from hgpscale import extract, open_cube
from hgpscale.engine.events import RunStarted, WorkersCounted

def run(name, *classes, **options):
    events = []
    settings = {"setting": {"device": options.pop("setting", "cpu")}, "featureClass": dict.fromkeys(classes)}
    extract(sys.argv[1], name, settings, on_event=events.append, **options)
    started, = [event for event in events if isinstance(event, RunStarted)]
    workers = [event.workers for event in events if isinstance(event, WorkersCounted)]
    text = (Path(name) / "zarr.json").read_text()
    return started.missing, started.notes, workers, "device" in text, text

if __name__ == "__main__":
    on_gpu = [
        run("gpu.zarr", "firstorder", setting="gpu"),
        run("gpu.zarr", "firstorder", workers=1, update=True),
        run("gpu.zarr", "firstorder", "shape", workers=1),
    ]
    on_cpu = [
        run("cpu.zarr", "firstorder", workers=1),
        run("cpu.zarr", "firstorder", device="gpu", update=True),
        run("cpu.zarr", "firstorder", "shape", setting="cpu", device="gpu"),
        run("cpu.zarr", "shape", device="auto", workers=1),
    ]
    Path("found.json").write_text(json.dumps([on_gpu, on_cpu]))
"""


@pytest.mark.slow
def test_a_cube_does_not_tell_where_it_was_computed(tmp_path: Path) -> None:
    for name, made in zip(("image", "mask"), sphere(8.0, (2.0, 2.0, 2.0)), strict=True):
        sitk.WriteImage(made, tmp_path / f"{name}.nii.gz")
    manifest = tmp_path / "cohort.csv"
    manifest.write_text("patient,lesion,image,mask\np,l,image.nii.gz,mask.nii.gz\n")
    (tmp_path / "simulated.py").write_text(SIMULATED)
    command = [sys.executable, "simulated.py", str(manifest)]
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=280)
    on_gpu, on_cpu = json.loads((tmp_path / "found.json").read_text())
    missing = on_gpu[0][0]
    assert missing > 0
    # What is missing, what is said, how many workers there were, and whether the cube tells.
    added = [missing, ["feature classes added: shape"]]
    assert [each[:4] for each in on_gpu] == [[missing, [], [1], False], [0, [], [], False], [*added, [1], False]]
    assert [each[:4] for each in on_cpu] == [
        [missing, [], [1], False],
        [0, [], [], False],
        [*added, [1], False],
        [0, [], [], False],
    ]
    assert [each[4] for each in on_gpu] == [each[4] for each in on_cpu[:3]]


def test_numbers_of_both_devices_are_of_the_same_settings() -> None:
    on_gpu: dict[str, Any] = Settings(device="gpu", binWidth=10).to_parameters()
    assert on_gpu == Settings(binWidth=10).to_parameters()
    assert "device" not in str(on_gpu)
