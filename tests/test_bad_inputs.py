"""Bad rows end to end: each is a failure with its reason, all others are done."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from bad_inputs import ROWS, BadRow, make_cohort

import hgpscale
from hgpscale.cube import CubeStatus


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], CubeStatus]:
    folder = tmp_path_factory.mktemp("bad")
    manifest = make_cohort(folder)
    command = [sys.executable, "-m", "hgpscale", "extract", str(manifest), str(folder / "cube.zarr"), "--workers", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done, hgpscale.status(folder / "cube.zarr")


def test_exit_status_is_1_and_every_failure_is_listed(
    run: tuple[subprocess.CompletedProcess[str], CubeStatus],
) -> None:
    done, _ = run
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    for bad in ROWS:
        assert bad.name in done.stdout + done.stderr


def test_the_good_rows_are_done(run: tuple[subprocess.CompletedProcess[str], CubeStatus]) -> None:
    _, status = run
    assert (status.done, status.failed, status.pending) == (3, len(ROWS), 0)


@pytest.mark.parametrize("bad", ROWS, ids=lambda bad: bad.name)
def test_stage_and_reason(run: tuple[subprocess.CompletedProcess[str], CubeStatus], bad: BadRow) -> None:
    _, status = run
    (failure,) = (failure for failure in status.failures if failure.lesion == bad.name)
    assert failure.stage == bad.stage
    assert bad.says in failure.reason
    assert "\n" not in failure.reason
    assert len(failure.families) == 7


def test_check_finds_what_headers_show(tmp_path: Path) -> None:
    manifest = make_cohort(tmp_path)
    problems = hgpscale.check_cohort(hgpscale.read_manifest(manifest))
    found = {problem.lesion for problem in problems}
    # What only the voxels show: labels, values, and the end of a compressed stream.
    hidden = {"label not in mask", "empty mask", "one-voxel mask", "fractional mask", "truncated .nii.gz"}
    hidden |= {"NaN in the region", "infinity in the region"}
    assert found == {bad.name for bad in ROWS} - hidden
