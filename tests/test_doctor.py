"""What doctor tells of a machine: that it survives whatever is broken there, and says what to do."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask
import numba
import pytest
from typer.testing import CliRunner

import hgpscale
from hgpscale import device as device_module
from hgpscale.cli import app
from hgpscale.device import Device
from hgpscale.doctor import _CHECKS, diagnose
from hgpscale.doctor import gpu as gpu_module
from hgpscale.doctor.found import (
    Diagnosis,
    Extra,
    Gpu,
    Kernels,
    Package,
    Pool,
    Problem,
    Resources,
    Scratch,
    SelfTest,
    Software,
    Started,
)
from hgpscale.doctor.gpu import find_gpus
from hgpscale.doctor.software import EXTRAS, NEEDED
from hgpscale.errors import EngineError
from hgpscale.limits import bytes_text
from hgpscale.report.doctor import print_diagnosis, print_diagnosis_json

ROOT = Path(__file__).resolve().parents[1]

EVERYTHING = Diagnosis(
    Software(
        "7.8.9", "/opt/hgpscale", "3.99.1", "Minix-3.2.1", "Transmeta Crusoe",
        (Package("numpy", "2.71.8"), Package("zarr", None)),
        (Extra("s3", "cubes on S3", (Package("obstore", None),), "pip install 'hgpscale[s3]'"),),
    ),
    Resources(37, 41 << 30, 23 << 30, 29),
    Scratch("/scratch", 17 << 30),
    Kernels("/opt/kernels", "beside the package", 83, 97, 1.9, "crusoe"),
    SelfTest(20.0, 107, 0.061),
    Started(7.3),
    (Pool("blis", 59), Pool("openmp", 61)),
    Gpu((Device("NVIDIA H200", "9.0", 131 << 30, 139 << 30),), "580.65.06", "0.30.4", "no PTX"),
    ("slow here",),
    (Problem("zarr is not installed", "pip install zarr"),),
)  # fmt: skip


def nothing(gpu: Gpu, problems: tuple[Problem, ...] = ()) -> Diagnosis:
    return Diagnosis(EVERYTHING.software, None, None, None, None, None, None, gpu, (), problems)


def doctor(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hgpscale", "doctor", *arguments]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=280, check=False
    )


def cuda(**parts: Any) -> SimpleNamespace:
    """Return a stand-in for numba's CUDA target that has one device, with other `parts`."""

    class Handle:
        name, compute_capability = b"NVIDIA H200", (9, 0)

        def __enter__(self) -> None:
            pass

        def __exit__(self, *_: object) -> None:
            pass

    context = SimpleNamespace(get_memory_info=lambda: (3, 5))
    whole = {"is_available": lambda: True, "gpus": [Handle()], "current_context": lambda: context}
    return SimpleNamespace(**{**whole, **parts})


def raising(error: Exception) -> Any:
    def function(*_: object) -> None:
        raise error

    return function


@pytest.fixture
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save the second that a worker takes, where something else is looked at."""
    check = _CHECKS["worker"]
    monkeypatch.setitem(_CHECKS, "worker", check._replace(look=lambda: Started(0.0)))


def test_a_machine_that_runs_the_tests_is_ready() -> None:
    steps: list[tuple[int, int]] = []
    found = diagnose(lambda done, total: steps.append((done, total)))
    assert found.ok
    assert found.software.folder == str(Path(hgpscale.__file__).parent)
    assert all(package.version for package in found.software.packages)
    assert found.resources
    assert 1 <= found.resources.workers <= found.resources.cores
    assert found.self_test
    assert found.self_test.features == 107
    assert found.worker
    assert found.worker.seconds > 0
    assert found.scratch
    assert found.scratch.free > 0
    assert found.kernels
    assert found.kernels.loaded + found.kernels.compiled > 20 or numba.config.DISABLE_JIT
    assert found.gpu.devices or found.gpu.reason
    assert steps == [(done, len(steps)) for done in range(len(steps))]


def test_the_command_prints_it_as_text_and_as_json() -> None:
    text, as_json = doctor(), doctor("--json")
    assert (text.returncode, as_json.returncode) == (0, 0), text.stderr
    assert text.stdout.splitlines()[-1] == "extraction can run here"
    assert (text.stderr, as_json.stderr) == ("", "")
    found = json.loads(as_json.stdout)
    assert found["ok"]
    assert found["problems"] == []
    assert f"hgpscale\t{found['software']['version']} in {found['software']['folder']}" in text.stdout
    assert "self test\ta lesion of 20 mm in " in text.stdout


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from leaves(one)
    else:
        yield value


def test_json_and_text_have_the_same_content(capsys: pytest.CaptureFixture[str]) -> None:
    print_diagnosis_json(EVERYTHING)
    values = list(leaves(json.loads(capsys.readouterr().out)))
    print_diagnosis(EVERYTHING)
    text = capsys.readouterr().out
    words = {None: "missing", False: "cannot run here", 0.061: "61 ms", 20.0: "20 mm"}
    for value in values:
        large = isinstance(value, int) and value > 1 << 20
        assert (bytes_text(value) if large else words.get(value, str(value))) in text, value
    assert len(values) > 40


def test_what_was_not_reached_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    print_diagnosis(nothing(EVERYTHING.gpu, EVERYTHING.problems))
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.endswith("\tno, see below") for line in lines) == 9
    assert lines[-2:] == [
        "problem: zarr is not installed; pip install zarr",
        "extraction cannot run here, 1 problem",
    ]


def test_packages_and_extras_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    def names(requirements: list[str]) -> set[str]:
        return {re.split(r"[<>=\[]", requirement)[0] for requirement in requirements}

    assert set(NEEDED) == names(project["dependencies"]) | {"llvmlite"}
    (all_extras,) = [one for one in project["optional-dependencies"]["test"] if one.startswith("hgpscale[")]
    assert set(EXTRAS) == set(all_extras.removeprefix("hgpscale[").rstrip("]").split(","))
    for extra, (_, packages) in EXTRAS.items():
        assert set(packages) == names(project["optional-dependencies"][extra])


@pytest.mark.usefixtures("no_worker")
@pytest.mark.parametrize(
    ("name", "problems"), [("obstore", []), ("zarr", [Problem("zarr is not installed", "pip install zarr")])]
)
def test_a_missing_package(name: str, problems: list[Problem], monkeypatch: pytest.MonkeyPatch) -> None:
    version = metadata.version

    def without(asked: str) -> str:
        if asked == name:
            raise metadata.PackageNotFoundError(asked)
        return version(asked)

    monkeypatch.setattr(metadata, "version", without)
    found = diagnose()
    assert list(found.problems) == problems
    installs = {extra.name: extra.install for extra in found.software.extras}
    assert installs["s3"] == ("pip install 'hgpscale[s3]'" if name == "obstore" else "")
    assert installs["lbp"] == ""


def test_without_numba_s_cuda_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(numba, "cuda", raising=False)
    monkeypatch.setitem(sys.modules, "numba.cuda", None)
    found = find_gpus()
    assert found.devices == ()
    assert found.reason.startswith(("ImportError: ", "ModuleNotFoundError: "))


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"is_available": raising(OSError("libcuda.so:\n  wrong ELF class"))}, "OSError: libcuda.so: wrong ELF class"),
        ({"is_available": raising(AttributeError(""))}, "AttributeError"),
        ({"is_available": bool, "cuda_error": lambda: "\nNo driver.\nInstall one.\n"}, "No driver. Install one."),
        ({"is_available": bool, "cuda_error": lambda: None}, "no device, or no CUDA toolkit that fits the driver"),
        ({"gpus": [], "cuda_error": lambda: None}, "no device, or no CUDA toolkit that fits the driver"),
        ({"current_context": raising(RuntimeError("out of memory"))}, "RuntimeError: out of memory"),
    ],
)  # fmt: skip
def test_a_broken_cuda_is_told_in_one_line(
    broken: dict[str, Any], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numba, "cuda", cuda(**broken))
    found = find_gpus()
    assert (found.devices, found.reason) == ((), reason)


@pytest.mark.parametrize("reason", ["", "RuntimeError: unsupported PTX"])
def test_a_device_is_described_and_tried(
    reason: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(numba, "cuda", cuda())
    tried = raising(RuntimeError("unsupported PTX")) if reason else bool
    monkeypatch.setattr(device_module, "_count_there", tried)
    found = find_gpus()
    assert (found.devices, found.reason) == ((Device("NVIDIA H200", "9.0", 3, 5),), reason)
    print_diagnosis(nothing(found))
    but = f", but no kernel runs: {reason}" if reason else " (extraction uses it with --device gpu or auto)"
    expected = f"GPU\tNVIDIA H200, compute capability 9.0, 3 bytes of 5 bytes free{but}"
    assert expected in capsys.readouterr().out.splitlines()


def test_the_driver_s_version_is_read_of_either_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_module, "_DRIVER", tmp_path / "version")
    assert find_gpus().driver is None
    for kind in ("UNIX x86_64 Kernel Module", "UNIX Open Kernel Module for x86_64"):
        (tmp_path / "version").write_text(f"NVRM version: NVIDIA {kind}  580.65.06  Sun Jul 27 2025\nGCC 12.2.0\n")
        assert find_gpus().driver == "580.65.06"


def test_a_kernel_cache_that_cannot_be_written_to_is_noted(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    folder = str(tmp_path / "file" / "kernels")
    found = json.loads(doctor("--json", NUMBA_CACHE_DIR=folder, NUMBA_DISABLE_JIT="0").stdout)
    assert found["notes"] == [f"NUMBA_CACHE_DIR={folder} cannot be written to and is passed over"]
    assert found["kernels"]["origin"] in {"beside the package", "the user's cache"}


def test_kernels_as_plain_python_are_noted() -> None:
    found = json.loads(doctor("--json", NUMBA_DISABLE_JIT="1").stdout)
    assert found["notes"] == ["NUMBA_DISABLE_JIT is set: kernels run as plain Python, hundreds of times slower"]
    assert found["ok"]


def test_kernels_that_can_be_kept_nowhere_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hgpscale.kernels.warm_up", raising(RuntimeError("cannot cache function: no locator")))
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    problem, end = result.stdout.splitlines()[-2:]
    assert problem.startswith("problem: the kernels cannot be compiled or kept: RuntimeError: cannot cache function")
    assert "NUMBA_CACHE_DIR" in problem
    assert end == "extraction cannot run here, 1 problem"


@pytest.mark.usefixtures("no_worker")
def test_a_folder_for_temporary_files_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with dask.config.set({"temporary-directory": str(tmp_path / "file")}):
        found = diagnose()
    assert (found.scratch, found.worker) == (None, None)
    (problem,) = found.problems
    assert problem.what.startswith("workers cannot write temporary files: NotADirectoryError: ")
    with dask.config.set({"temporary-directory": str(tmp_path / "not" / "there")}):
        assert diagnose().ok


def test_workers_that_do_not_start_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hgpscale.engine.cluster.local_client", raising(EngineError("cannot start workers")))
    found = diagnose()
    assert [problem.what for problem in found.problems] == ["no worker starts: cannot start workers"]
    assert found.self_test


@pytest.mark.usefixtures("no_worker")
def test_features_that_are_not_finite_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hgpscale.single.extract_lesion", lambda *_: {"a": 1.0, "b": float("nan")})
    (problem,) = diagnose().problems
    assert "1 of 2 features are not finite, such as ['b']" in problem.what


def test_nothing_that_may_be_broken_is_imported_at_the_top() -> None:
    code = "import sys, hgpscale.doctor; print(*{m.split('.')[0] for m in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numpy", "SimpleITK", "numba", "llvmlite", "dask", "distributed", "zarr", "psutil"} & set(loaded)
