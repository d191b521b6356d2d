"""What a cube gives out: flat tables, lists of records and failures, the status, exported files."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from cube_cases import BROKEN, FLAT, SMALL, cohort, files, record, with_regions, write

from hgpscale.cube import CubeStatus, export, open_cube, status
from hgpscale.errors import CubeError, CubeWriteError

ODD = ["=1+1", "007", 'say "a, b"\nend']
SINGLE = cohort(
    *((lesion, "default") for lesion in ODD), centre=["@x", "", "-y"], age=[50, 61, 72], dose=[0.1, None, 1e-300]
)
SINGLE_RECORDS = [record(ODD[0], "default"), record(ODD[1], "default", firstorder=FLAT)]
FEATURES = ["original_shape_MeshVolume", "original_firstorder_Energy", "original_firstorder_Mean"]

RATERS = cohort(("a", "RAD", 2, "GTV"), ("a", "AI"), ("b", "RAD"), ("c", "AI"), centre=["x", "y", "x"])
RATERS_RECORDS = [
    record("a", "RAD"),
    record("a", "AI", firstorder=FLAT),
    record("b", "RAD", firstorder=BROKEN, shape=BROKEN),
]


@pytest.fixture
def single(tmp_path: Path) -> Path:
    return write(tmp_path / "single.zarr", SINGLE, SINGLE_RECORDS)


@pytest.fixture
def raters(tmp_path: Path) -> Path:
    return write(tmp_path / "raters.zarr", RATERS, RATERS_RECORDS)


def test_one_segmentation_gives_pyradiomics_names(single: Path) -> None:
    frame = open_cube(single).hgp.to_frame()
    manifest = ["lesion", "patient", "image", "mask", "label", "centre", "age", "dose"]
    assert list(frame.columns) == manifest + FEATURES
    assert list(frame["lesion"]) == ODD
    assert list(frame["patient"]) == [f"patient of {lesion}" for lesion in ODD]
    assert list(frame["image"]) == [f"{lesion}.nii.gz" for lesion in ODD]
    assert frame["label"].tolist()[:2] == [1, 1]
    assert frame["label"].isna().tolist() == [False, False, True]
    assert frame["age"].tolist() == [50, 61, 72]
    for row, made in enumerate(SINGLE_RECORDS):
        expected = [
            *made.values["lesion", "original", "shape"],
            *made.values.get(("lesion", "original", "firstorder"), [np.nan, np.nan]),
        ]
        np.testing.assert_array_equal(frame.loc[row, FEATURES].to_numpy(float), expected)
    assert frame.loc[2, FEATURES].isna().all()


def test_several_segmentations_are_prefixes(raters: Path) -> None:
    frame = open_cube(raters).hgp.to_frame()
    sides = [f"{rater}__{name}" for name in ("mask", "label", "roi") for rater in ("RAD", "AI")]
    features = [f"{rater}__{name}" for rater in ("RAD", "AI") for name in FEATURES]
    assert list(frame.columns) == ["lesion", "patient", "image", *sides, "centre", *features]
    assert list(frame["AI__mask"]) == ["a-AI.nii.gz", "", "c-AI.nii.gz"]
    assert list(frame["RAD__roi"]) == ["GTV", "", ""]
    expected = record("a", "AI", firstorder=FLAT).values["lesion", "original", "shape"][0]
    assert frame.loc[0, "AI__original_shape_MeshVolume"] == expected
    assert frame.loc[0, ["AI__original_firstorder_Mean"]].isna().all()
    assert frame.loc[1, features].isna().all()


def test_a_selection_gives_the_same_numbers(raters: Path) -> None:
    cube = open_cube(raters)
    whole = cube.hgp.to_frame()
    one = cube.sel(segmentation="RAD", lesion="a").hgp.to_frame()
    assert list(one.columns[-3:]) == FEATURES
    np.testing.assert_array_equal(
        one[FEATURES].iloc[0], whole.loc[0, [f"RAD__{name}" for name in FEATURES]].astype(float)
    )
    centre = cube.where(cube.centre == "y", drop=True).hgp.to_frame()
    assert list(centre["lesion"]) == ["b"]
    fewer = cube.sel(segmentation="RAD", firstorder_feature=["Mean"]).hgp.to_frame()
    assert [name for name in fewer if "original" in name] == ["original_shape_MeshVolume", "original_firstorder_Mean"]


def test_shape_alone_can_be_selected(single: Path) -> None:
    cube = open_cube(single)
    shape = cube.hgp.select(features="shape_*").hgp
    expected = cube.hgp.to_frame()[FEATURES[0]]
    pd.testing.assert_series_equal(shape.to_frame()[FEATURES[0]], expected)
    np.testing.assert_array_equal(shape.to_frame(tidy=True)["value"], expected)
    assert [list(batch.columns) for batch in shape.batches(5)] == [FEATURES[:1]]


def test_regions_are_prefixes(single: Path) -> None:
    wider = with_regions(SMALL, "rim")
    path = single.with_name("rim.zarr")
    made = record(ODD[0], "default", wider)
    write(path, SINGLE, [made], wider)
    frame = open_cube(path).hgp.to_frame()
    assert list(frame.columns[-6:]) == FEATURES + [f"rim__{name}" for name in FEATURES]
    assert frame.loc[0, "rim__original_shape_MeshVolume"] == made.values["rim", "original", "shape"][0]
    assert frame.loc[0, "original_shape_MeshVolume"] == made.values["lesion", "original", "shape"][0]


def test_records_list_every_key_of_the_manifest(raters: Path) -> None:
    records = open_cube(raters).hgp.records()
    assert list(records.columns) == ["lesion", "segmentation", "region", "image_type", "family", "state", "error"]
    found = {tuple(row[:2]) + tuple(row[4:]) for row in records.itertuples(index=False)}
    assert len(records) == len(found) == 8
    assert ("a", "AI", "firstorder", "failed", f"features: {FLAT.reason}") in found
    assert ("a", "AI", "shape", "done", "") in found
    assert ("c", "AI", "shape", "pending", "") in found
    assert set(records["region"]) == {"lesion"}
    assert set(records["image_type"]) == {"original"}
    failures = open_cube(raters).hgp.failures()
    assert list(zip(failures["lesion"], failures["family"], strict=True)) == [
        ("a", "firstorder"),
        ("b", "firstorder"),
        ("b", "shape"),
    ]


def test_status_counts(raters: Path) -> None:
    found = status(raters)
    assert isinstance(found, CubeStatus)
    assert (found.rows, found.done, found.failed, found.partial, found.pending) == (4, 1, 2, 1, 1)
    families = {count.family: (count.done, count.failed, count.pending) for count in found.families}
    assert families == {"firstorder": (1, 2, 1), "shape": (2, 1, 1)}
    assert [(f.lesion, f.segmentation, f.families, f.stage, f.reason) for f in found.failures] == [
        ("a", "AI", ("firstorder",), "features", FLAT.reason),
        ("b", "RAD", ("firstorder", "shape"), "read", BROKEN.reason),
    ]
    content = files(raters)
    assert found.files == len(content)
    assert found.bytes == sum(map(len, content.values()))
    assert found.settings == SMALL
    assert found.versions["layout"] == "3"
    assert found.versions["shape"] == "1"
    assert {("done in part", "1"), ("failed", "1")} <= set(found.table())


def test_status_of_a_new_cube(tmp_path: Path) -> None:
    found = status(write(tmp_path / "c.zarr", RATERS, []))
    assert (found.rows, found.done, found.failed, found.partial, found.pending) == (4, 0, 0, 0, 4)
    assert found.failures == ()


@pytest.mark.parametrize("suffix", [".csv", ".CSV"])
def test_csv_comes_back_exactly(single: Path, suffix: str) -> None:
    out = single.with_name(f"features{suffix}")
    assert export(single, out) == out
    back = pd.read_csv(out, dtype=str, keep_default_na=False)
    frame = open_cube(single).hgp.to_frame()
    assert list(back.columns) == list(frame.columns)
    for name in ("lesion", "patient", "image", "mask", "centre"):
        assert list(back[name]) == list(frame[name])
    assert list(back["lesion"]) == ODD
    assert list(back["label"]) == ["1", "1", ""]
    for name in ("age", "dose", *FEATURES):
        found = [float(cell) if cell else np.nan for cell in back[name]]
        assert np.array(found).tobytes() == frame[name].to_numpy(float).tobytes()


def test_failed_cells_are_empty_in_csv(single: Path) -> None:
    lines = export(single, single.with_name("features.csv")).read_text(encoding="utf-8").splitlines()
    shape = float(SINGLE_RECORDS[1].values["lesion", "original", "shape"][0])
    assert lines[2] == f"007,patient of 007,007.nii.gz,007-default.nii.gz,1,,61,,{shape!r},,"


def test_parquet_comes_back_exactly(raters: Path) -> None:
    back = pd.read_parquet(export(raters, raters.with_name("features.parquet")))
    pd.testing.assert_frame_equal(back, open_cube(raters).hgp.to_frame(), check_exact=True, check_dtype=False)
    assert back["RAD__original_firstorder_Mean"].dtype == np.float64


def test_export_is_the_same_each_time_and_replaces_only_when_told(single: Path) -> None:
    for name in ("f.csv", "f.parquet"):
        out = single.with_name(name)
        first = export(single, out).read_bytes()
        out.write_text("the manifest")
        with pytest.raises(CubeError, match="exists already"):
            export(single, out)
        assert out.read_text() == "the manifest"
        assert export(single, out, overwrite=True).read_bytes() == first
    assert sorted(p.name for p in single.parent.iterdir()) == ["f.csv", "f.parquet", "single.zarr"]


@pytest.mark.parametrize("name", ["features.xlsx", "features", "features.csv.gz"])
def test_other_formats_are_refused(single: Path, name: str) -> None:
    with pytest.raises(CubeError, match=r"use \.csv or \.parquet"):
        export(single, single.with_name(name))
    assert not single.with_name(name).exists()


def test_export_of_no_cube_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CubeError, match="no such cube"):
        export(tmp_path / "c.zarr", tmp_path / "f.csv")


def test_export_into_a_missing_folder_says_so(single: Path) -> None:
    with pytest.raises(CubeError, match=r"f\.csv: the folder .*none does not exist"):
        export(single, single.parent / "none" / "f.csv")


@pytest.mark.parametrize("name", ["f.csv", "f.parquet"])
def test_full_disk_keeps_the_old_table(single: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    out = single.with_name(name)
    old = export(single, out).read_bytes()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(CubeWriteError, match="cannot write the table: No space left on device"):
        export(single, out, overwrite=True)
    assert out.read_bytes() == old
    assert sorted(p.name for p in single.parent.iterdir()) == [name, "single.zarr"]
