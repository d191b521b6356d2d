"""A cube as its readers see it: with plain xarray, and with open_cube."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from cube_cases import BROKEN, FLAT, SMALL, cohort, files, record, write

from hgpscale.catalog import CUBE_NAMES, reserved_names
from hgpscale.cube import LAYOUT_VERSION, CubeWriter, open_cube
from hgpscale.cube.head import Head
from hgpscale.cube.schema import VARIABLES, column_values
from hgpscale.errors import CubeError
from hgpscale.settings import Settings

ROWS = cohort(("b", "RAD"), ("a", "RAD", 2, "GTV 1"), ("a", "AI"), centre=["x", "y"], age=[50, 61], dose=[0.1, None])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    records = [
        record("b", "RAD"),
        record("a", "RAD", firstorder=FLAT),
        record("a", "AI", firstorder=BROKEN, shape=BROKEN),
    ]
    return write(tmp_path / "c.zarr", ROWS, records)


def test_plain_xarray_sees_every_label_and_number(path: Path) -> None:
    cube = xr.open_zarr(path, consolidated=False)
    assert list(cube.lesion.values) == ["b", "a"]
    assert list(cube.segmentation.values) == ["RAD", "AI"]
    assert list(cube.region.values) == ["lesion"]
    assert list(cube.image_type.values) == ["original"]
    assert list(cube.family.values) == ["firstorder", "shape"]
    assert list(cube.firstorder_feature.values) == ["Energy", "Mean"]
    here: dict[str, Any] = {"lesion": "b", "segmentation": "RAD", "region": "lesion"}
    made = record("b", "RAD").values
    np.testing.assert_array_equal(
        cube.firstorder.sel(image_type="original", **here), made["lesion", "original", "firstorder"]
    )
    np.testing.assert_array_equal(cube["shape"].sel(here), made["lesion", "original", "shape"])
    cell = {"lesion": "a", "segmentation": "RAD", "region": "lesion", "image_type": "original", "family": "firstorder"}
    assert cube.state.sel(cell) == "failed"
    assert cube.error.sel(cell) == f"features: {FLAT.reason}"
    assert np.isnan(cube.firstorder.sel(lesion="a", segmentation="RAD")).all()
    assert cube["mask"].sel(lesion="a", segmentation="RAD") == "a-RAD.nii.gz"
    assert cube["mask"].sel(lesion="b", segmentation="AI") == ""
    assert cube.roi.sel(lesion="a", segmentation="RAD") == "GTV 1"
    assert cube.image_digest.sel(lesion="a", segmentation="AI") == "image a"
    assert list(cube.image_path.values) == ["b.nii.gz", "a.nii.gz"]
    assert list(cube.centre.values) == ["x", "y"]
    np.testing.assert_array_equal(cube.age, [50, 61])
    np.testing.assert_array_equal(cube.dose, [0.1, np.nan])
    assert cube.sizes["firstorder_feature"] == 2


def test_default_call_of_xarray_only_warns_that_metadata_is_not_consolidated(path: Path) -> None:
    with pytest.warns(RuntimeWarning, match="Failed to open Zarr store with consolidated metadata") as caught:
        cube = xr.open_zarr(path)
    assert len(caught) == 1
    assert cube.equals(xr.open_zarr(path, consolidated=False))


def test_arrays_have_the_chunks_and_dims_of_the_contract(path: Path) -> None:
    root = zarr.open_group(path, mode="r", use_consolidated=False)
    dims = {name: array.metadata.dimension_names for name, array in root.arrays()}
    assert dims["firstorder"] == ("lesion", "segmentation", "region", "image_type", "firstorder_feature")
    assert dims["shape"] == ("lesion", "segmentation", "region", "shape_feature")
    assert dims["state"] == dims["error"] == ("lesion", "segmentation", "region", "image_type", "family")
    for name in ("image_digest", "mask_digest", "mask", "label", "roi"):
        assert dims[name] == ("lesion", "segmentation")
    for name in ("image_path", "patient", "centre", "age", "dose"):
        assert dims[name] == ("lesion",)
    for _, array in root.arrays():
        for dim, chunk, size in zip(array.metadata.dimension_names, array.chunks, array.shape, strict=True):
            # States of all image types and families share a file: they are small, and read together.
            together = 16 if array.name in ("/state", "/error") and dim in ("image_type", "family") else 1
            whole = size if dim.endswith("_feature") else together
            assert chunk == (256 if dim == "lesion" else whole)
    assert root["state"].fill_value == "pending"
    assert all(array.metadata.data_type.to_json(zarr_format=3) != "fixed_length_utf32" for _, array in root.arrays())


def test_attributes_tell_settings_versions_units_and_ibsi_ids(tmp_path: Path) -> None:
    write(tmp_path / "c.zarr", cohort(("a", "default")), [], Settings())
    cube = xr.open_zarr(tmp_path / "c.zarr", consolidated=False)
    assert Settings.from_parameters(cube.attrs["settings"]) == Settings()
    assert cube.attrs["hgpscale_layout"] == LAYOUT_VERSION
    assert cube.attrs["family_versions"]["glcm"] == 1
    contrast = list(cube.glcm_feature.values).index("Contrast")
    volume = list(cube.shape_feature.values).index("MeshVolume")
    assert cube.glcm_feature.attrs["ibsi_ids"][contrast] == "ACUI"  # IBSI reference manual, 3.6.9
    assert cube.shape_feature.attrs["ibsi_ids"][volume] == "RNU0"  # IBSI reference manual, 3.1.1
    assert cube.shape_feature.attrs["feature_units"][volume] == "mm3"
    assert all(variable.attrs["long_name"] for variable in cube.variables.values())


def test_same_work_gives_same_bytes_wherever_and_whenever(path: Path, tmp_path: Path) -> None:
    time.sleep(0.01)
    (tmp_path / "elsewhere").mkdir()
    records = [
        record("b", "RAD"),
        record("a", "RAD", firstorder=FLAT),
        record("a", "AI", firstorder=BROKEN, shape=BROKEN),
    ]
    assert files(write(tmp_path / "elsewhere" / "d.zarr", ROWS, records)) == files(path)


def test_open_cube_is_lazy_and_text_can_be_selected_by(path: Path) -> None:
    cube = open_cube(path)
    assert cube.firstorder.chunks is not None
    only = cube.where(cube.centre == "y", drop=True)
    assert list(only.lesion.values) == ["a"]
    assert list(cube.reindex(lesion=["a", "new"]).centre.values[:1]) == ["y"]


def test_more_lesions_than_a_chunk_come_back(tmp_path: Path) -> None:
    rows = cohort(*((f"lesion {i}", "default") for i in range(600)))
    chosen = ["lesion 0", "lesion 255", "lesion 256", "lesion 599"]
    write(tmp_path / "c.zarr", rows, [record(name, "default") for name in chosen])
    cube = open_cube(tmp_path / "c.zarr")
    done = cube.lesion.values[(cube.state == "done").all(("segmentation", "region", "image_type", "family"))]
    assert list(done) == chosen
    for name in chosen:
        expected = record(name, "default").values["lesion", "original", "firstorder"]
        np.testing.assert_array_equal(cube.firstorder.sel(lesion=name).squeeze(), expected)


@pytest.mark.parametrize(
    ("column", "dtype", "expected"),
    [
        (pd.Series([1, 2]), "float64", [1, 2]),
        (pd.Series([1, 2], dtype="uint8"), "float64", [1, 2]),
        (pd.Series([2**53 + 1, 1]), "object", ["9007199254740993", "1"]),
        (pd.Series([2**64 - 1, 1], dtype="uint64"), "object", ["18446744073709551615", "1"]),
        (pd.Series([1, None], dtype="Int64"), "float64", [1.0, np.nan]),
        (pd.Series([0.5, None], dtype="float32"), "float64", [0.5, np.nan]),
        (pd.Series([True, False]), "float64", [1, 0]),
        (pd.Series([True, None], dtype="boolean"), "float64", [1.0, np.nan]),
        (pd.Series(["é", None]), "object", ["é", ""]),
        (pd.Series(["a", "b", "a"], dtype="category"), "object", ["a", "b", "a"]),
        (pd.Series([True, "no", 1], dtype=object), "object", ["True", "no", "1"]),
        (pd.Series([pd.Timestamp("2026-01-02"), pd.NaT]), "object", ["2026-01-02 00:00:00", ""]),
    ],
)
def test_manifest_columns_become_numbers_or_text(column: pd.Series[Any], dtype: str, expected: list[Any]) -> None:
    values = column_values(column)
    assert values.dtype == dtype
    np.testing.assert_array_equal(values, np.array(expected, dtype))


def _no_cube(path: Path) -> None:
    shutil.rmtree(path)


def _empty_folder(path: Path) -> None:
    shutil.rmtree(path)
    path.mkdir()


def _a_file(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("lesion,mask\n")


def _other_zarr(path: Path) -> None:
    shutil.rmtree(path)
    zarr.create_group(path)


def _zarr_array(path: Path) -> None:
    shutil.rmtree(path)
    zarr.create_array(path, shape=(1,), dtype="int8")


def _broken_json(path: Path) -> None:
    (path / "zarr.json").write_text("{")


def _strange_json(path: Path) -> None:
    (path / "zarr.json").write_text("{}")


def _future_layout(path: Path) -> None:
    root = json.loads((path / "zarr.json").read_text())
    root["attributes"]["hgpscale_layout"] = 99
    (path / "zarr.json").write_text(json.dumps(root))


def _other_setting(path: Path) -> None:
    root = json.loads((path / "zarr.json").read_text())
    root["attributes"]["settings"]["setting"]["binWidth"] = 1
    (path / "zarr.json").write_text(json.dumps(root))


def _lost_array(path: Path) -> None:
    shutil.rmtree(path / "firstorder")


def _lost_column(path: Path) -> None:
    shutil.rmtree(path / "centre")


def _other_dims(path: Path) -> None:
    meta = json.loads((path / "state" / "zarr.json").read_text())
    meta["dimension_names"][0] = "patient"
    (path / "state" / "zarr.json").write_text(json.dumps(meta))


def _other_dtype(path: Path) -> None:
    shutil.rmtree(path / "label")
    root = zarr.open_group(path, mode="r+")
    root.create_array("label", shape=(2, 2), chunks=(256, 1), dtype="f8", dimension_names=("lesion", "segmentation"))


def _other_chunks(path: Path) -> None:
    shutil.rmtree(path / "label")
    root = zarr.open_group(path, mode="r+")
    root.create_array("label", shape=(2, 2), chunks=(2, 2), dtype="i8", dimension_names=("lesion", "segmentation"))


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (_no_cube, "no such cube"),
        (_empty_folder, "not an hgpscale cube"),
        (_a_file, "not an hgpscale cube"),
        (_other_zarr, "not an hgpscale cube"),
        (_zarr_array, "not an hgpscale cube"),
        (_broken_json, "not an hgpscale cube"),
        (_strange_json, "not an hgpscale cube"),
        (_future_layout, "has cube layout 99 .* knows layout 3"),
        (_other_setting, "its zarr.json was altered, its checksum differs"),
        (_lost_array, "'firstorder' is missing"),
        (_lost_column, "'centre' is missing"),
        (_other_dims, "'state' has dimensions"),
        (_other_dtype, "'label' holds float64, not int64"),
        (_other_chunks, r"'label' has chunks \(2, 2\), not \(256, 1\)"),
    ],
)
def test_what_is_no_cube_of_this_layout_is_refused(path: Path, harm: Any, says: str) -> None:
    harm(path)
    with pytest.raises(CubeError, match=says) as caught:
        open_cube(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    if harm is not _no_cube:
        before = path.read_bytes() if path.is_file() else files(path)
        with pytest.raises(CubeError, match=says):
            CubeWriter.open(path, ROWS, SMALL)
        assert before == (path.read_bytes() if path.is_file() else files(path))


def test_addresses_of_other_kinds_are_refused() -> None:
    with pytest.raises(CubeError, match="s3://"):
        open_cube("ftp://host/cube.zarr")


def test_reserved_names_are_all_variables_and_columns_of_the_export(path: Path) -> None:
    own = {"patient", "centre", "age", "dose"}
    cube = open_cube(path)
    assert set(cube.variables) - own <= reserved_names()
    assert {name for name in cube.hgp.to_frame() if "__" not in name} - own <= reserved_names()
    assert {variable.name for variable in Head.of(cube.attrs).variables} - own <= reserved_names()
    assert {variable.name for variable in VARIABLES} <= set(CUBE_NAMES)
    assert not own & reserved_names()
