"""The demo: what it makes, what it never touches, and that the commands at its end can be copied."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from hgpscale.cli import app
from hgpscale.demo import PLAN, run_demo
from hgpscale.errors import SettingsError
from hgpscale.testing import make_cohort


def demo(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hgpscale", "demo", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=280, check=False)


def contents(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.parametrize("names", [["cohort.csv", "params.yaml", "features.csv"], ["scans/P01.nii.gz"], [".hidden"]])
@pytest.mark.parametrize("given", [".", "whole path"])
def test_a_folder_of_the_users_is_left_as_it_was(
    names: list[str], given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("years of work\n")
    before = contents(tmp_path)
    monkeypatch.chdir(tmp_path)
    folder = "." if given == "." else str(tmp_path)
    result = CliRunner().invoke(app, ["demo", folder])
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: {folder}: holds {Path(sorted(names)[0]).parts[0]}, ")
    assert contents(tmp_path) == before


def test_a_file_in_the_place_of_the_folder_is_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "demo").write_text("years of work\n")
    with pytest.raises(SettingsError, match="is a file"):
        run_demo(tmp_path / "demo")
    assert contents(tmp_path) == {"demo": b"years of work\n"}


def test_a_demo_stopped_at_its_start_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(folder: Path) -> Path:
        assert contents(tmp_path)  # the folder is marked as ours by now
        (folder / "scans").mkdir(exist_ok=True)
        raise KeyboardInterrupt

    monkeypatch.setattr("hgpscale.demo.make_cohort", killed)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run_demo(tmp_path, quiet=True)


@pytest.mark.slow
def test_demo_ends_with_commands_that_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a demo"
    began = time.monotonic()
    first = demo(folder, "--workers", 2, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert time.monotonic() - began < 180
    assert "lesions\t18\n" in first.stdout
    assert "failed\t0\n" in first.stdout
    table = pd.read_csv(folder / "features.csv")
    assert len(table) == 18
    growth = table[["hgp_desmoplastic", "hgp_replacement", "hgp_pushing"]]
    assert (growth == 100).any().all()  # each pattern is pure somewhere
    assert (growth.max(axis=1) < 100).any()  # and some lesions are mixed
    assert (folder / "overview.png").read_bytes().startswith(b"\x89PNG")
    assert "Predicting" in (folder / "results" / "report.html").read_text("utf-8")
    assert str(tmp_path) not in first.stdout[first.stdout.index("Look at") :].replace(sys.prefix, "")

    settings = folder / "params.yaml"
    settings.write_text(settings.read_text() + "# a note\n")
    made = contents(folder)
    monkeypatch.setattr("hgpscale.demo.PLAN", replace(PLAN, n_splits=2, permutations=0))  # as above, but sooner done
    second = CliRunner().invoke(app, ["demo", str(folder), "--workers", "2"])
    assert second.exit_code == 0, second.stderr
    assert "keeping it" in second.stdout
    assert "extracted now\t0\n" in second.stdout
    assert settings.read_text().endswith("# a note\n")

    # The user's own folder stands at the placeholder: every command works as it is printed.
    make_cohort(tmp_path / "my", patients=1)
    commands = [line.strip() for line in first.stdout.splitlines() if line.startswith("  ")]
    verbs = [word for command in commands for word in shlex.split(command)[1:2]]
    assert verbs == ["check", "extract", "status", "export", "evaluate", "report", "-c"]
    for verb, command in zip(verbs, commands, strict=True):
        done = subprocess.run(
            command, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
        )
        if verb in ("evaluate", "report"):  # of one patient nothing can be learned, which is said in a line
            assert done.returncode == 2
            (line,) = done.stderr.splitlines()
            assert line.startswith("error: ")
            assert "see hgpscale" not in line
        else:
            assert done.returncode == 0, done.stderr
    assert len(pd.read_csv(tmp_path / "my" / "features.csv")) == 1
    assert contents(folder / "cube.zarr") == {
        name[len("cube.zarr/") :]: content for name, content in made.items() if name.startswith("cube.zarr/")
    }
