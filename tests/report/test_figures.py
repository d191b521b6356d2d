"""The figure of a cube that was filled without Dask: size, and what it refuses."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import xarray as xr

from hgpscale.cohort import Cohort, read_manifest
from hgpscale.cube import CubeWriter, open_cube
from hgpscale.engine.plan import plan
from hgpscale.engine.tasks import extract_prepared, read_scan
from hgpscale.errors import CubeError, ManifestError
from hgpscale.report.figures import overview
from hgpscale.settings import Settings

SETTINGS = Settings(features={"firstorder": ("Mean", "90Percentile"), "shape": ("MeshVolume",)})


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory, copy_cohort: Callable[[Path, int], Path]) -> Cohort:
    return read_manifest(copy_cohort(tmp_path_factory.mktemp("cohort"), 4))


@pytest.fixture(scope="module")
def cube(cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> xr.Dataset:
    path = tmp_path_factory.mktemp("cube") / "cube.zarr"
    with CubeWriter.open(path, cohort, SETTINGS) as writer:
        for scan in plan(cohort, writer.missing, {}, SETTINGS):
            for item in read_scan(scan, SETTINGS):
                writer.add(extract_prepared(item, SETTINGS))
    return open_cube(path)


def png_size(path: Path) -> tuple[int, int]:
    # The header chunk is the first: 8 bytes signature, 4 length, 4 name, then width and height, big-endian.
    width, height = struct.unpack(">II", path.read_bytes()[16:24])
    return width, height


def test_the_figure_has_the_size_that_it_says(cube: xr.Dataset, cohort: Cohort, tmp_path: Path) -> None:
    out = overview(cube, cohort, tmp_path / "overview.png", ("firstorder", "Mean"))
    assert png_size(out) == (1600, 1000)


def test_lesions_without_score_or_values_and_a_missing_centre_are_left_out(
    cube: xr.Dataset, cohort: Cohort, tmp_path: Path
) -> None:
    columns = cohort.columns.drop(columns="centre").astype({"hgp_pushing": float})
    columns.loc[cohort.lesions[0], "hgp_pushing"] = float("nan")
    some = cube.isel(lesion=slice(0, 4))
    partly = dataclasses.replace(cohort, columns=columns)
    assert overview(some, partly, tmp_path / "overview.png", ("firstorder", "Mean")).exists()


def test_a_cohort_without_growth_patterns_is_refused(cube: xr.Dataset, cohort: Cohort, tmp_path: Path) -> None:
    bare = dataclasses.replace(cohort, columns=cohort.columns.drop(columns="hgp_pushing"))
    with pytest.raises(ManifestError, match=r"cohort\.csv: the figure needs the columns hgp_pushing"):
        overview(cube, bare, tmp_path / "overview.png", ("firstorder", "Mean"))


def test_a_feature_that_the_cube_lacks_is_refused(cube: xr.Dataset, cohort: Cohort, tmp_path: Path) -> None:
    with pytest.raises(CubeError, match="glcm Contrast"):
        overview(cube, cohort, tmp_path / "overview.png", ("glcm", "Contrast"))


def test_a_cube_without_values_is_refused(cohort: Cohort, tmp_path: Path) -> None:
    CubeWriter.open(tmp_path / "empty.zarr", cohort, SETTINGS).close()
    with pytest.raises(CubeError, match="extract the cohort first"):
        overview(open_cube(tmp_path / "empty.zarr"), cohort, tmp_path / "overview.png", ("firstorder", "Mean"))
    assert not (tmp_path / "overview.png").exists()
