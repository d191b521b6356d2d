"""The commands that keep a cube: growing extract, verify, pack, export layouts."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from test_cli import assert_refused, run

SMALL = "featureClass: {firstorder: [Mean], shape: [MeshVolume]}\n"
MORE = "imageType: {Original: {}, Square: {}}\n" + SMALL
OTHER = SMALL + "setting: {binWidth: 10}\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, copy_cohort: Callable[[Path, int], Path]) -> Path:
    """Return a folder with a cohort of four lesions in three scans, settings, and a cube of the first two scans."""
    folder = tmp_path_factory.mktemp("cohort")
    table = pd.read_csv(copy_cohort(folder, 3), dtype=str)
    table[table["image"] != table["image"].iloc[-1]].to_csv(folder / "first.csv", index=False)
    for name, text in (("small.yaml", SMALL), ("more.yaml", MORE), ("other.yaml", OTHER)):
        (folder / name).write_text(text)
    result = run(
        "extract", folder / "first.csv", folder / "cube.zarr", "--settings", folder / "small.yaml", "--workers", 1
    )
    assert result.exit_code == 0, result.stderr
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """Return a copy of it that a test may change."""
    return Path(shutil.copytree(made, tmp_path / "copy"))


@pytest.mark.slow
def test_extract_adds_what_is_new_and_says_so(folder: Path) -> None:
    rows, all_rows = (len(pd.read_csv(folder / name)) for name in ("first.csv", "cohort.csv"))
    assert rows < all_rows
    result = run(
        "extract", folder / "cohort.csv", folder / "cube.zarr", "--settings", folder / "more.yaml", "--workers", 1
    )
    assert result.exit_code == 0, result.stderr
    missing = rows * 1 + (all_rows - rows) * 3  # square's firstorder; shape and two images' firstorder
    assert f"{all_rows} rows, {all_rows} done, 0 failed" in result.stdout
    assert f"{missing} feature vectors computed" in result.stdout
    assert f"{all_rows - rows} row" in result.stderr
    assert "image types added: square" in result.stderr
    again = run("extract", folder / "cohort.csv", folder / "cube.zarr", "--settings", folder / "more.yaml")
    assert (again.exit_code, "0 feature vectors computed" in again.stdout) == (0, True)


def test_other_settings_are_told_and_computed_with_update(folder: Path) -> None:
    arguments = (
        "extract",
        folder / "first.csv",
        folder / "cube.zarr",
        "--settings",
        folder / "other.yaml",
        "--workers",
        1,
    )
    assert_refused(run(*arguments), "binWidth is 25.0 in the cube, now 10.0", "add --update to compute anew")
    result = run(*arguments, "--update")
    rows = len(pd.read_csv(folder / "first.csv"))
    assert result.exit_code == 0, result.stderr
    assert f"{rows} feature vectors computed" in result.stdout  # shape has no bins
    assert "binWidth is 25.0 in the cube, now 10.0: computed anew" in result.stderr


def test_a_file_that_changed_is_found_by_verify_and_computed_with_update(folder: Path) -> None:
    manifest = pd.read_csv(folder / "first.csv", dtype=str)
    image, other = folder / manifest["image"].iloc[0], folder / manifest["image"].iloc[-1]
    rows = int((manifest["image"] == manifest["image"].iloc[0]).sum())
    assert image != other
    image.write_bytes(other.read_bytes())
    found = run("verify", folder / "cube.zarr")
    assert found.exit_code == 1
    assert "the file changed since its numbers were made" in found.stdout
    assert all(lesion in found.stdout for lesion in manifest["lesion"][manifest["image"] == manifest["image"].iloc[0]])
    arguments = (
        "extract",
        folder / "first.csv",
        folder / "cube.zarr",
        "--settings",
        folder / "small.yaml",
        "--workers",
        1,
    )
    assert "0 feature vectors computed" in run(*arguments).stdout  # done rows are not read again
    updated = run(*arguments, "--update")
    assert f"{2 * rows} feature vectors computed" in updated.stdout
    assert f"{image.name}: changed, computed anew" in updated.stderr
    assert run("verify", folder / "cube.zarr").exit_code == 0


def test_verify_says_that_all_is_well_and_what_it_looked_at(folder: Path) -> None:
    result = run("verify", folder / "cube.zarr")
    rows = len(pd.read_csv(folder / "first.csv"))
    assert (result.exit_code, result.stderr) == (0, "")
    assert f"{rows} rows and " in result.stdout
    assert result.stdout.endswith("nothing is wrong\n")
    assert "not found" not in result.stdout
    shutil.rmtree(folder / "scans")
    assert "not found (--inputs says where they are)" in run("verify", folder / "cube.zarr").stdout


def test_verify_lists_damage_and_repairs_it(folder: Path) -> None:
    chunk = next((folder / "cube.zarr" / "firstorder" / "c").rglob("0/0/0/0/0"))
    chunk.write_bytes(chunk.read_bytes()[:-1])
    found = run("verify", folder / "cube.zarr")
    assert found.exit_code == 1
    (line,) = [line for line in found.stdout.splitlines() if line.startswith("firstorder/c/0/0/0/0/0\t")]
    assert line.split("\t")[1:6] == ["checksum differs", "default", "lesion", "original", "firstorder"]
    assert line.split("\t")[6].split() == list(pd.read_csv(folder / "first.csv")["lesion"])
    assert "1 problem; --repair makes the records pending" in found.stderr
    repaired = run("verify", folder / "cube.zarr", "--repair")
    assert (repaired.exit_code, "repaired: run extract again" in repaired.stdout) == (0, True)
    rows = len(pd.read_csv(folder / "first.csv"))
    arguments = (
        "extract",
        folder / "first.csv",
        folder / "cube.zarr",
        "--settings",
        folder / "small.yaml",
        "--workers",
        1,
    )
    assert f"{rows} feature vectors computed" in run(*arguments).stdout
    assert run("verify", folder / "cube.zarr").exit_code == 0


def test_pack_says_sizes_before_and_after(folder: Path) -> None:
    result = run("pack", folder / "cube.zarr")
    assert (result.exit_code, result.stderr) == (0, "")
    before, after = (
        sum(path.is_file() for path in (folder / name).rglob("*")) for name in ("cube.zarr", "cube.packed.zarr")
    )
    assert f"in {before} files" in result.stdout
    assert f"in {after} files" in result.stdout
    assert "packed" in run("status", folder / "cube.packed.zarr").stdout
    arguments = ("extract", folder / "first.csv", folder / "cube.packed.zarr", "--settings", folder / "small.yaml")
    assert_refused(run(*arguments), "was packed for sharing and takes no more records")


@pytest.mark.parametrize(
    ("layout", "first"), [("wide", "lesion,patient"), ("tidy", "lesion,patient"), ("pyradiomics", "Patient")]
)
def test_export_layouts(folder: Path, layout: str, first: str) -> None:
    result = run("export", folder / "cube.zarr", folder / "out.csv", "--layout", layout)
    assert (result.exit_code, result.stderr) == (0, "")
    assert (folder / "out.csv").read_text().startswith(first)
