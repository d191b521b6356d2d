"""The command line as its users meet it: exit statuses, one-line errors, help and Ctrl-C."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

import hgpscale
from hgpscale.cli import app
from hgpscale.errors import CubeError

COMMANDS = (
    "demo", "doctor", "cohort", "check", "extract", "run-report", "status", "verify", "pack", "export", "import-table",
    "deep export",
)  # fmt: skip


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def shell(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hgpscale", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=280, check=False, **options)


def assert_refused(result: Result, *parts: str) -> None:
    assert result.exit_code == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    for part in parts:
        assert part in line


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory, copy_cohort: Callable[[Path, int], Path]) -> Path:
    """Return the manifest of three patients with four lesions."""
    return copy_cohort(tmp_path_factory.mktemp("cohort"), 3)


@pytest.fixture(scope="module")
def cube(cohort: Path) -> Path:
    """Return a finished cube of `cohort`."""
    path = cohort.with_name("cube.zarr")
    done = shell("extract", cohort, path, "--workers", 1)
    assert (done.returncode, done.stdout.count("\n")) == (0, 1), done.stderr
    assert "4 rows, 4 done, 0 failed" in done.stdout
    return path


@pytest.fixture
def copy(cohort: Path, tmp_path: Path) -> Path:
    """Return the manifest of a copy of `cohort` that a test may damage."""
    for name in ("scans", "masks"):
        shutil.copytree(cohort.parent / name, tmp_path / name)
    return Path(shutil.copy(cohort, tmp_path))


def test_version() -> None:
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"hgpscale {hgpscale.__version__}\n")


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_help_names_every_command(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.exit_code == 0
    for command in COMMANDS:
        assert command.split()[0] in result.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command_has_an_example(command: str) -> None:
    result = run(*command.split(), "--help")
    assert result.exit_code == 0
    assert f"Example: hgpscale {command} " in result.stdout


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        assert shell("--help").returncode == 0
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 1
    code = "import sys, hgpscale.cli; print(*{m.split('.')[0] for m in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "typer" in loaded
    assert not {"numpy", "pandas", "SimpleITK", "numba", "dask", "distributed", "zarr", "xarray"} & set(loaded)


def test_completion_knows_the_commands() -> None:
    environment = os.environ | {
        "_HGPSCALE_COMPLETE": "complete_bash",
        "COMP_WORDS": "hgpscale ex",
        "COMP_CWORD": "1",
    }
    found = shell(env=environment)
    assert (found.returncode, set(found.stdout.split())) == (0, {"extract", "export"})


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("frobnicate",), ["frobnicate", "hgpscale --help"]),
        (("--frobnicate",), ["--frobnicate"]),
        (("check",), ["COHORT", "hgpscale check --help"]),
        (("extract", "cohort.csv"), ["CUBE", "hgpscale extract --help"]),
        (("extract", "cohort.csv", "cube.zarr", "--workers", "0"), ["--workers", "1"]),
        (("extract", "cohort.csv", "cube.zarr", "--workers", "two"), ["--workers", "integer"]),
    ],
)
def test_bad_usage_is_one_line(arguments: tuple[str, ...], parts: list[str]) -> None:
    assert_refused(run(*arguments), *parts)


@pytest.mark.parametrize("command", ["check", "extract"])
def test_a_missing_manifest_is_refused(command: str, tmp_path: Path) -> None:
    arguments = [tmp_path / "nothing.csv", *([tmp_path / "cube.zarr"] if command == "extract" else [])]
    assert_refused(run(command, *arguments), "nothing.csv")
    assert list(tmp_path.iterdir()) == []


def test_bad_settings_are_refused_before_anything_is_made(cohort: Path, tmp_path: Path) -> None:
    settings = tmp_path / "params.yaml"
    settings.write_text("setting:\n  binWitdh: 10\n")
    assert_refused(run("extract", cohort, tmp_path / "cube.zarr", "--settings", settings), "params.yaml", "binWitdh")
    assert not (tmp_path / "cube.zarr").exists()
    assert_refused(run("check", cohort, "--settings", settings), "binWitdh")


def test_two_places_to_run_are_refused(cohort: Path, tmp_path: Path) -> None:
    arguments = ("extract", cohort, tmp_path / "cube.zarr", "--workers", 1, "--scheduler", "tcp://127.0.0.1:1")
    assert_refused(run(*arguments), "workers", "scheduler")
    assert_refused(run(*arguments[:5], "--cluster", tmp_path / "cluster.yaml"), "workers", "cluster")
    assert_refused(run(*arguments[:3], "--cluster", tmp_path / "cluster.yaml"), "cluster.yaml: cannot read")


@pytest.mark.parametrize("arguments", [("status", "nothing.zarr"), ("export", "nothing.zarr", "table.csv")])
def test_a_missing_cube_is_refused(arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert_refused(run(*arguments), "nothing.zarr")


def test_debug_shows_where_an_error_came_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HGPSCALE_DEBUG", "1")
    result = run("status", tmp_path / "nothing.zarr")
    assert isinstance(result.exception, CubeError)


def test_check_of_a_sound_cohort(cohort: Path) -> None:
    result = run("check", cohort)
    assert (result.exit_code, result.stdout) == (0, f"{cohort}: 4 rows checked, no problem\n")


def test_check_lists_every_problem_of_every_row_whole(copy: Path) -> None:
    strange = "scans/[red]a name that is long enough to be folded or cut on any terminal of eighty columns[/red].nii.gz"
    with copy.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    rows[0]["image"] = strange
    with copy.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    (copy.parent / rows[0]["mask"]).write_bytes(b"")
    (copy.parent / rows[-1]["image"]).write_text("not an image")
    result = run("check", copy)
    assert result.exit_code == 1
    header, *lines = [line.split("\t") for line in result.stdout.splitlines()]
    assert header == ["line", "lesion", "file", "problem"]
    found = {(line, lesion, file) for line, lesion, file, _ in lines}
    assert found == {
        ("2", rows[0]["lesion"], strange),
        ("2", rows[0]["lesion"], rows[0]["mask"]),
        ("5", rows[-1]["lesion"], rows[-1]["image"]),
    }
    assert all(problem for *_, problem in lines)
    assert result.stderr.endswith(": 4 rows checked, 3 problems\n")


def test_status_and_export_of_a_finished_cube(cube: Path, tmp_path: Path) -> None:
    result = run("status", cube)
    assert result.exit_code == 0
    table = dict(line.split("\t")[:2] for line in result.stdout.splitlines() if "\t" in line)
    assert (table["rows"], table["done"], table["failed"], table["pending"]) == ("4", "4", "0", "0")
    for name, read in (("features.csv", pd.read_csv), ("features.parquet", pd.read_parquet)):
        result = run("export", cube, tmp_path / name)
        assert (result.exit_code, result.stdout) == (0, f"{tmp_path / name}\n")
        frame = read(tmp_path / name)
        features = frame.filter(like="original_")
        assert features.shape == (4, 107)
        assert features.notna().all(axis=None)


def test_export_to_another_format_is_refused(cube: Path, tmp_path: Path) -> None:
    assert_refused(run("export", cube, tmp_path / "features.xlsx"), "features.xlsx", ".csv", ".parquet")


def test_a_cube_of_other_settings_is_refused(cube: Path, cohort: Path, tmp_path: Path) -> None:
    settings = tmp_path / "params.yaml"
    settings.write_text("setting:\n  binWidth: 10\n")
    assert_refused(run("extract", cohort, cube, "--settings", settings), "binWidth")


def test_failed_lesions_are_listed_and_the_others_done(copy: Path, tmp_path: Path) -> None:
    broken = pd.read_csv(copy)["mask"][3]
    (copy.parent / broken).write_bytes(b"")
    done = shell("extract", copy, tmp_path / "cube.zarr", "--workers", 1, "--quiet")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("P03_L1: read: ")
    assert Path(broken).name in line
    result = run("status", tmp_path / "cube.zarr")
    assert "done\t3\ndone in part\t0\nfailed\t1\npending\t0\n" in result.stdout
    assert "P03_L1\tdefault\t" in result.stdout


def test_ctrl_c_is_one_line_and_the_next_run_goes_on(cohort: Path, tmp_path: Path) -> None:
    path = tmp_path / "cube.zarr"
    command = [sys.executable, "-m", "hgpscale", "extract", str(cohort), str(path), "--workers", "1"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        deadline = time.monotonic() + 60
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)  # the workers are starting
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    (line,) = err.splitlines()
    assert line.startswith("interrupted: ")
    assert "same command" in line
    again = shell(*command[3:])
    assert again.returncode == 0
    assert " 0 failed" in again.stdout


def test_interrupt_before_the_workers_start(cohort: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hgpscale.cohort.check_cohort", interrupted)
    result = run("check", cohort)
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr.startswith("interrupted: ")
