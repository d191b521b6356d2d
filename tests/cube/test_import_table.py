"""Tables of other programs as cubes: which column goes where, what is missing and why, and every refusal."""

from __future__ import annotations

import gzip
import hashlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cube_cases import FLAT, cohort, record, with_regions, write
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from hgpscale.catalog import FAMILIES, SHAPE_FAMILIES, parts_of_name
from hgpscale.cli import app
from hgpscale.cube import CubeWriter, Imported, export, import_table, open_cube, pack, status, verify
from hgpscale.cube.import_columns import Place, named_features
from hgpscale.errors import CubeError, CubeWriteError, HgpscaleError, ManifestError, MissingManifestError
from hgpscale.settings import Settings

MEAN, CONTRAST, VOLUME = "original_firstorder_Mean", "original_glcm_Contrast", "original_shape_MeshVolume"
IMAGES = ("original", "wavelet-LLH", "wavelet2-HH", "log-sigma-3-0-mm-3D", "square", "lbp-2D", "lbp-3D-m1", "lbp-3D-k")


def text_table(folder: Path, *lines: str, name: str = "features.csv") -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def imported(folder: Path, *lines: str, **options: Any) -> Imported:
    path = text_table(folder, *lines)
    return import_table(path, folder / "cube.zarr", **{"id_column": "ID", **options})


def frame_of(done: Imported) -> pd.DataFrame:
    frame: pd.DataFrame = open_cube(done.cube).hgp.to_frame()
    return frame.drop(columns=["lesion", "patient", "image", "mask", "label"])


def errors_of(done: Imported) -> list[str]:
    errors: list[str] = open_cube(done.cube).hgp.records()["error"].tolist()
    return errors


# Names


@pytest.mark.parametrize(
    ("column", "parts"),
    [
        (MEAN, ("", "original", "firstorder", "Mean")),
        (f"MR_{MEAN}", ("MR_", "original", "firstorder", "Mean")),
        (f"rim__{MEAN}", ("rim__", "original", "firstorder", "Mean")),
        ("Portal_vein_wavelet-LLH_glcm_Id", ("Portal_vein_", "wavelet-LLH", "glcm", "Id")),
        ("original_original_shape_Flatness", ("original_", "original", "shape", "Flatness")),
        ("original_shape2D_Perimeter", ("", "original", "shape2D", "Perimeter")),
        ("original_firstorder_StandardDeviation", ("", "original", "firstorder", "StandardDeviation")),
        ("original_glcm_contrast", None),
        ("Original_glcm_Contrast", None),
        ("wavelet-llh_glcm_Contrast", None),
        ("original_glcm_SumVariance", None),
        ("original_glcm_Contrast_MR", None),
        ("wavelet-LLH_shape_Flatness", None),
        ("square_shape2D_Perimeter", None),
        ("MRoriginal_glcm_Contrast", None),
        ("gabor_glcm_Contrast", None),
        ("glcm_Contrast", None),
        ("Contrast", None),
        ("", None),
    ],
)
def test_parts_of_a_name(column: str, parts: tuple[str, ...] | None) -> None:
    assert parts_of_name(column) == parts


@given(
    prefix=st.text(alphabet="aZ9_-. ", max_size=12),
    image=st.sampled_from(IMAGES),
    feature=st.sampled_from([(f.name, name) for f in FAMILIES.values() for name in f.names]),
)
def test_every_name_of_the_catalogue_is_found_behind_any_prefix(
    prefix: str, image: str, feature: tuple[str, str]
) -> None:
    family, name = feature
    before = f"{prefix}_" if prefix else ""
    found = parts_of_name(f"{before}{image}_{family}_{name}")
    held = image == "original" or family not in SHAPE_FAMILIES
    assert found == ((before, image, family, name) if held else None)


@pytest.mark.parametrize(
    ("columns", "regions"),
    [
        ([MEAN, CONTRAST], ["lesion", "lesion"]),
        ([f"MR_{MEAN}", f"MR_{CONTRAST}"], ["lesion", "lesion"]),
        ([f"MR__{MEAN}", f"MR_{CONTRAST}"], ["lesion", "lesion"]),
        ([MEAN, f"MR_{CONTRAST}"], ["lesion", "MR"]),
        ([f"Liver_{MEAN}", f"Portal_vein_{MEAN}"], ["Liver", "Portal_vein"]),
        ([MEAN, f"rim__{MEAN}"], ["lesion", "rim"]),
        ([f"lesion_{MEAN}", f"rim_{MEAN}", CONTRAST], ["lesion", "rim", "lesion"]),
        ([f"RAD__{MEAN}", f"RAD__rim__{MEAN}"], ["RAD", "RAD__rim"]),
        ([f"__{MEAN}"], ["lesion"]),
        (["Age"], []),
    ],
)
def test_the_prefix_is_the_region_or_is_dropped(columns: list[str], regions: list[str]) -> None:
    assert [place.region for place in named_features(columns).places.values()] == regions


def test_prefixes_are_remembered() -> None:
    named = named_features([f"MR_{MEAN}", f"rim__{CONTRAST}", "Age"])
    assert named.prefixes == {"MR": "MR_", "rim": "rim__"}
    assert named.places[f"rim__{CONTRAST}"] == Place("rim", "original", "glcm", "Contrast")


# Where columns go


def test_one_prefix_is_dropped(tmp_path: Path) -> None:
    done = imported(tmp_path, f"ID,MR_{CONTRAST},MR_{MEAN},MR_{VOLUME}", "a,1,2.5,1e3", "b,-1,0.1,7")
    assert done == Imported(
        tmp_path / "cube.zarr",
        2,
        3,
        {
            "id and patient": ["ID"],
            "region lesion: glcm": [f"MR_{CONTRAST}"],
            "region lesion: firstorder": [f"MR_{MEAN}"],
            "region lesion: shape": [f"MR_{VOLUME}"],
        },
    )
    frame = frame_of(done)
    assert frame.to_dict("list") == {VOLUME: [1000, 7], MEAN: [2.5, 0.1], CONTRAST: [1, -1]}
    cube = open_cube(done.cube)
    assert list(cube.region.values) == ["lesion"]
    assert list(cube.image_type.values) == ["original"]
    assert set(np.unique(cube.state.values)) == {"done"}


def test_several_prefixes_are_regions(tmp_path: Path) -> None:
    done = imported(tmp_path, f"ID,A_b_{MEAN},{MEAN},C__{MEAN}", "x,1,2,3")
    assert frame_of(done).to_dict("list") == {MEAN: [2], f"A_b__{MEAN}": [1], f"C__{MEAN}": [3]}
    assert list(open_cube(done.cube).region.values) == ["lesion", "A_b", "C"]
    assert status(done.cube).done == 1


def test_other_numbers_go_to_the_family_table(tmp_path: Path) -> None:
    header = ["ID", "Age", "original_glcm_contrast", "original_glcm_SumVariance", "wavelet-LLH_shape_Flatness", MEAN]
    done = imported(tmp_path, ",".join(header), "a,50,1,2,3,4", "b,,.5,+6,-7e-1,8")
    assert done.columns == {
        "id and patient": ["ID"],
        "table": header[1:5],
        "region lesion: firstorder": [MEAN],
    }
    assert done.features == 5
    cube = open_cube(done.cube)
    assert list(cube.hgp.to_frame().columns[-5:]) == [MEAN, *header[1:5]]
    assert cube.hgp.keys == (("lesion", "original", "firstorder"), ("lesion", "original", "table"))
    np.testing.assert_array_equal(
        cube.table.sel(segmentation="default", region="lesion"), [[50, 1, 2, 3], [np.nan, 0.5, 6, -0.7]]
    )
    assert errors_of(done) == ["", "", "", "table: features.csv line 3 is empty in Age"]
    assert list(cube.hgp.select(features="table_*").hgp.to_frame().columns[-4:]) == header[1:5]


def test_numbers_of_no_region_stand_once_beside_several_regions(tmp_path: Path) -> None:
    done = imported(tmp_path, f"ID,A_{MEAN},B_{MEAN},Age", "x,1,2,3")
    assert frame_of(done).to_dict("list") == {f"A__{MEAN}": [1], f"B__{MEAN}": [2], "Age": [3]}
    assert open_cube(done.cube).hgp.keys[-1] == ("lesion", "original", "table")
    found = status(done.cube)
    assert (found.done, found.failed, found.pending) == (1, 0, 0)
    assert verify(done.cube).ok


def test_a_table_without_any_known_name(tmp_path: Path) -> None:
    done = imported(tmp_path, "ID,GLCM_contrast,sf/volume", "a,1,2")
    assert frame_of(done).to_dict("list") == {"GLCM_contrast": [1], "sf/volume": [2]}
    assert open_cube(done.cube).hgp.keys == (("lesion", "original", "table"),)
    assert verify(done.cube).ok


def test_targets_and_text_are_carried(tmp_path: Path) -> None:
    done = imported(
        tmp_path,
        f"ID,Case,grade,hgp,centre,code,uid,mixed,{MEAN}",
        'L1,P,1,rim,"north, old",007,12345678901234567890,3,1',
        "L2,P,,,NA,012,1,n.a.,2",
        patient="Case",
        targets=["grade", "hgp", "grade"],
    )
    assert done.columns == {
        "id": ["ID"],
        "patient": ["Case"],
        "target": ["grade", "hgp"],
        "carried as text": ["centre", "code", "uid", "mixed"],
        "region lesion: firstorder": [MEAN],
    }
    cube = open_cube(done.cube)
    assert list(cube.patient.values) == ["P", "P"]
    np.testing.assert_array_equal(cube.grade.values, [1, np.nan])
    assert {name: list(cube[name].values) for name in ("hgp", "centre", "code", "uid", "mixed")} == {
        "hgp": ["rim", ""],
        "centre": ["north, old", "NA"],
        "code": ["007", "012"],
        "uid": ["12345678901234567890", "1"],
        "mixed": ["3", "n.a."],
    }
    assert list(cube.hgp.select(centre="NA").lesion.values) == ["L2"]


def test_a_target_is_no_feature_even_by_its_name(tmp_path: Path) -> None:
    done = imported(tmp_path, f"ID,{MEAN},{CONTRAST}", "a,1,2", targets=MEAN)
    assert done.columns[f"target, named table_{MEAN}"] == [MEAN]
    assert frame_of(done).to_dict("list") == {f"table_{MEAN}": [1], CONTRAST: [2]}


def test_names_that_the_cube_needs_are_carried_under_others(tmp_path: Path) -> None:
    header = [
        "lesion",
        "patient",
        "image",
        "mask",
        "label",
        "Label",
        "RAD__label",
        "state",
        "a/b",
        "a__b",
        "table_mask",
    ]
    done = imported(
        tmp_path,
        f"{','.join(header)},{MEAN}",
        "L,P,i.nii,m.nii,1,2,3,four,x,y,z,5",
        id_column="lesion",
        targets=["label"],
    )
    assert done.columns == {
        "id and patient": ["lesion"],
        "target, named table_label": ["label"],
        "carried as text, named table_patient": ["patient"],
        "carried as text, named table_image": ["image"],
        "carried as text, named table_mask_2": ["mask"],
        "carried as a number, named table_Label_2": ["Label"],
        "carried as a number, named table_RAD_label": ["RAD__label"],
        "carried as text, named table_state": ["state"],
        "carried as text, named table_a_b": ["a/b"],
        "carried as text, named table_a_b_2": ["a__b"],
        "carried as text": ["table_mask"],
        "region lesion: firstorder": [MEAN],
    }
    cube = open_cube(done.cube)
    assert (cube.table_label.item(), cube.table_patient.item(), cube.table_mask_2.item()) == (1, "P", "m.nii")
    export(done.cube, tmp_path / "again.parquet")
    assert pd.read_parquet(tmp_path / "again.parquet")["table_Label_2"].tolist() == [2]


def test_a_batch_table_of_pyradiomics(tmp_path: Path) -> None:
    done = imported(
        tmp_path,
        "ID,Image,Mask,Label,diagnostics_Versions_PyRadiomics,diagnostics_Image-original_Mean,"
        "diagnostics_Mask-original_VoxelNum,general_info_BoundingBox,rim_diagnostics_Image-original_Mean,"
        f"{MEAN}",
        'a,a.nii,m.nii,1,3.1,-5.5,100,"(1, 2)",1,7',
    )
    assert done.columns == {
        "id and patient": ["ID"],
        "carried as text, named table_Image": ["Image"],
        "carried as text, named table_Mask": ["Mask"],
        "carried as a number, named table_Label": ["Label"],
        "left out: pyradiomics' diagnostics": [
            "diagnostics_Versions_PyRadiomics",
            "diagnostics_Image-original_Mean",
            "diagnostics_Mask-original_VoxelNum",
            "general_info_BoundingBox",
            "rim_diagnostics_Image-original_Mean",
        ],
        "region lesion: firstorder": [MEAN],
    }
    export(done.cube, tmp_path / "again.csv", layout="pyradiomics")
    assert list(pd.read_csv(tmp_path / "again.csv")["Label"].isna()) == [True]


def test_columns_without_name_or_content_are_left_out(tmp_path: Path) -> None:
    done = imported(tmp_path, f",Unnamed: 0,ID,notes,na,{MEAN},", "0,0,a,,NA,1,", "1,1,b,,,2,")
    assert done.columns == {
        "id and patient": ["ID"],
        "left out: no name": ["Unnamed: 0.1", "Unnamed: 0"],
        "left out: empty": ["notes", "na"],
        "region lesion: firstorder": [MEAN],
    }


def test_a_column_without_a_name_can_be_the_id(tmp_path: Path) -> None:
    done = imported(tmp_path, f",{MEAN}", "a,1", "b,2", id_column="Unnamed: 0")
    assert list(open_cube(done.cube).lesion.values) == ["a", "b"]


def test_families_features_and_images_keep_a_fixed_order(tmp_path: Path) -> None:
    header = ["square_glcm_Id", "original_glcm_Contrast", "square_glcm_Contrast", "original_glcm_Id", MEAN, VOLUME]
    header += ["square_firstorder_Mean"]
    done = imported(tmp_path, f"ID,{','.join(header)}", "a,1,2,3,4,5,6,7")
    assert list(frame_of(done).columns) == [
        VOLUME,
        *("square_firstorder_Mean", "square_glcm_Contrast", "square_glcm_Id"),
        *(MEAN, "original_glcm_Contrast", "original_glcm_Id"),
    ]


def test_shape_alone_under_original_asks_for_nothing_else_of_it(tmp_path: Path) -> None:
    done = imported(tmp_path, f"ID,{VOLUME},square_firstorder_Mean", "a,1,2")
    assert frame_of(done).to_dict("list") == {VOLUME: [1], "square_firstorder_Mean": [2]}
    assert status(done.cube).done == 1


# What is missing


def test_missing_cells_are_nan_with_a_reason(tmp_path: Path) -> None:
    done = imported(
        tmp_path,
        f"ID,original_firstorder_Energy,{MEAN},{CONTRAST}",
        "whole,1,2,3",
        "empty,,2,3",
        "words,NA,NaN,null",
        "infinite,inf,2,-Infinity",
        "both,,-inf,3",
    )
    cube = open_cube(done.cube)
    np.testing.assert_array_equal(
        cube.hgp.to_frame()[["original_firstorder_Energy", MEAN, CONTRAST]],
        [[1, 2, 3], [np.nan, 2, 3], [np.nan] * 3, [np.nan, 2, np.nan], [np.nan, np.nan, 3]],
    )
    records = cube.hgp.records()
    found = {(r.lesion, r.family): (r.state, r.error) for r in records.itertuples()}
    no_number = "has no number in the columns of this family on this image type"
    energy = "original_firstorder_Energy"
    assert found == {
        ("whole", "firstorder"): ("done", ""),
        ("whole", "glcm"): ("done", ""),
        ("empty", "firstorder"): ("done", f"table: features.csv line 3 is empty in {energy}"),
        ("empty", "glcm"): ("done", ""),
        ("words", "firstorder"): ("failed", f"table: features.csv line 4 {no_number}"),
        ("words", "glcm"): ("failed", f"table: features.csv line 4 {no_number}"),
        ("infinite", "firstorder"): ("done", f"table: features.csv line 5 is infinite in {energy}"),
        ("infinite", "glcm"): ("failed", f"table: features.csv line 5 {no_number}"),
        ("both", "firstorder"): ("failed", f"table: features.csv line 6 {no_number}"),
        ("both", "glcm"): ("done", ""),
    }
    counts = status(done.cube)
    assert (counts.rows, counts.done, counts.failed, counts.partial, counts.pending) == (5, 2, 3, 2, 0)
    assert verify(done.cube).ok
    assert [lesion for batch in cube.hgp.batches(2) for lesion, _ in batch.index] == [
        *("whole", "empty", "infinite", "both")
    ]


def test_empty_and_infinite_cells_are_told_apart(tmp_path: Path) -> None:
    names = [f"original_ngtdm_{name}" for name in ("Busyness", "Coarseness", "Complexity", "Contrast", "Strength")]
    done = imported(tmp_path, f"ID,{','.join(names)}", "a,,inf,1,,2")
    assert errors_of(done) == [
        f"table: features.csv line 2 is empty in {names[0]}, {names[3]}; features.csv line 2 is infinite in {names[1]}"
    ]


def test_a_feature_that_one_image_type_lacks(tmp_path: Path) -> None:
    done = imported(tmp_path, f"ID,X_{MEAN},X_original_firstorder_Energy,X_square_firstorder_Mean", "a,1,,2", "b,3,4,5")
    cube = open_cube(done.cube)
    lacks = "table: features.csv has no column X_square_firstorder_Energy"
    assert errors_of(done) == [
        "table: features.csv line 2 is empty in X_original_firstorder_Energy",
        lacks,
        "",
        lacks,
    ]
    assert set(cube.hgp.records().state) == {"done"}
    np.testing.assert_array_equal(frame_of(done), [[np.nan, 1, np.nan, 2], [4, 3, np.nan, 5]])


def test_a_family_that_one_region_lacks_has_failed(tmp_path: Path) -> None:
    done = imported(tmp_path, f"ID,A_{MEAN},A_{CONTRAST},B_{MEAN}", "a,1,2,3")
    (failure,) = open_cube(done.cube).hgp.failures().itertuples()
    assert (failure.region, failure.family, failure.error) == (
        "B",
        "glcm",
        "table: features.csv has no column of this family on this image type in region B",
    )
    assert status(done.cube).partial == 1
    assert verify(done.cube).ok


def test_long_lists_of_missing_features_are_shortened(tmp_path: Path) -> None:
    names = [f"original_glcm_{name}" for name in FAMILIES["glcm"].names[:9]]
    done = imported(tmp_path, f"ID,{','.join(names)}", f"a{',' * 8},1")
    expected = f"table: features.csv line 2 is empty in {', '.join(names[:5])}, and 3 more"
    assert errors_of(done) == [expected]


# Files


LINES = (f"ID,{MEAN},centre", "007,0.1,north", "b b,1e-300,süd")


@pytest.mark.parametrize("name", ["features.csv", "features.csv.gz", "features.gz", "plain.gz", "bom.csv", "x.CSV"])
def test_text_may_be_gzipped_or_have_a_mark(name: str, tmp_path: Path) -> None:
    content = "\r\n".join([*LINES, "", " , , ", ""]).encode("utf-8-sig" if name == "bom.csv" else "utf-8")
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if "features" in name and name.endswith("gz") else content)
    import_table(path, tmp_path / "cube.zarr", id_column="ID")
    cube = open_cube(tmp_path / "cube.zarr")
    assert list(cube.lesion.values) == list(cube.patient.values) == ["007", "b b"]
    assert list(cube.centre.values) == ["north", "süd"]
    assert cube.firstorder.values.ravel().tolist() == [0.1, 1e-300]
    assert set(cube.image_path.values) == set(cube["mask"].values.ravel()) == {name}
    digest = hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    assert set(cube.image_digest.values.ravel()) == set(cube.mask_digest.values.ravel()) == {digest}


def test_parquet_keeps_numbers_and_text(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "ID": [1.0, 2.0],
            MEAN: np.array([0.1, np.nan], np.float32),
            "count": pd.array([3, None], "Int64"),
            "written": ["0.5", " 7 "],
            "yes": [True, False],
            "day": [pd.Timestamp("2020-01-02"), pd.NaT],
            "kind": pd.Categorical(["x", None]),
            "huge": [2**60, 1],
            "Target": [1, 0],
        },
        index=["r1", "r2"],
    )
    path = tmp_path / "features.parquet"
    table.to_parquet(path)
    done = import_table(path, tmp_path / "cube.zarr", id_column="ID", targets=["Target"])
    assert done.columns == {
        "id and patient": ["ID"],
        "target": ["Target"],
        "region lesion: firstorder": [MEAN],
        "table": ["count", "written"],
        "carried as text": ["yes", "day", "kind", "huge"],
        "left out: no name": ["__index_level_0__"],
    }
    cube = open_cube(done.cube)
    assert list(cube.lesion.values) == ["1", "2"]
    np.testing.assert_array_equal(
        frame_of(done)[[MEAN, "count", "written"]], [[np.float32(0.1), 3, 0.5], [np.nan] * 2 + [7]]
    )
    assert list(cube.yes.values) == ["True", "False"]
    assert list(cube.day.values) == ["2020-01-02 00:00:00", "NaT"] or list(cube.day.values)[1] == ""
    assert list(cube.kind.values) == ["x", ""]
    assert list(cube.huge.values) == [str(2**60), "1"]
    assert errors_of(done)[2].startswith("table: features.parquet line 3 has no number in ")


def test_a_whole_number_of_a_feature_may_have_many_digits(tmp_path: Path) -> None:
    done = imported(tmp_path, f"ID,{MEAN},own", "a,12345678901234567890,1234567890123456.5", "b,007,1")
    assert frame_of(done).to_dict("list") == {MEAN: [12345678901234567890.0, 7.0], "own": [1234567890123456.5, 1]}


def test_more_rows_than_a_block(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).normal(size=(2500, 2))
    table = pd.DataFrame(numbers, columns=[MEAN, "own"])
    table.insert(0, "ID", [f"L{i}" for i in range(2500)])
    table.to_csv(tmp_path / "features.csv", index=False)
    done = import_table(tmp_path / "features.csv", tmp_path / "cube.zarr", id_column="ID")
    np.testing.assert_array_equal(frame_of(done), numbers)
    assert verify(done.cube).rows == 2500


# Refusals


@pytest.mark.parametrize(
    ("lines", "options", "message"),
    [
        ([], {}, "line 1: expected a header, found nothing"),
        ([f"ID,{MEAN}"], {}, "it has a header and no rows"),
        ([f"Id,{MEAN}", "a,1"], {}, f"line 1: expected a column 'ID' for --id, found Id, {MEAN}; did you mean 'Id'?"),
        (["x,y", "a,1"], {}, "expected a column 'ID' for --id, found x, y; give the name of one of them"),
        ([f"ID;{MEAN}", "a;1"], {}, "separated by something else than commas"),
        ([f"ID,{MEAN}", "a,1"], {"patient": "Patient"}, "expected a column 'Patient' for --patient"),
        (
            [f"ID,target,{MEAN}", "a,1,2"],
            {"targets": ["Target"]},
            "for --target, found ID, target, original_firstorder_Mean; did you mean 'target'?",
        ),
        (
            [f"ID,{MEAN}", "a,1"],
            {"targets": ["ID"]},
            "column 'ID' is the id or the patient, so it cannot be the --target",
        ),
        (
            [f"ID,{MEAN}", "a,1", "b,2", "a,3", "a,4"],
            {},
            "expected a row for each id in column 'ID', found 'a' on lines 2, 4, 5; make them unique",
        ),
        ([f"ID,{MEAN}", "a,1", ",2"], {}, "line 3: expected the id in column 'ID', found an empty cell"),
        ([f"ID,P,{MEAN}", "a,,1"], {"patient": "P"}, "line 2: expected the patient in column 'P', found an empty cell"),
        (
            [f"ID,{MEAN}", '"a', 'b",1'],
            {},
            "line 2: id 'a\\nb' in column 'ID' holds a character that cannot be printed",
        ),
        ([f"ID,{MEAN},x,x,x", "a,1,2,3,4"], {}, "line 1: expected columns of different names, found 'x' 3 times"),
        ([f"ID,{MEAN},A", "a,1,2", "b,1", "c,1,2"], {}, "line 3: expected 3 cells, as in the header, found 2"),
        ([f"ID,{MEAN}", '"a\n",1', "b,1,7"], {}, "line 4: expected 2 cells, as in the header, found 3"),
        ([f"ID,{MEAN}", 'a,"1'], {}, "line 2: is not CSV: unexpected end of data"),
        (["ID,centre,Target", "a,north,1"], {"targets": ["Target"]}, "expected features, found no column of numbers"),
        (
            [f"ID,{MEAN}", "a,1", "b,n.a."],
            {},
            f"line 3: expected a number such as 0.5 in column '{MEAN}', found 'n.a.'",
        ),
        ([f"ID,{MEAN}", 'a,"1,5"'], {}, "line 2: expected a number such as 0.5"),
        ([f"ID,{MEAN}", "a,1_0"], {}, "found '1_0'"),
        ([f"ID,{MEAN}", "a,0x1F"], {}, "found '0x1F'"),
        ([f"ID,{MEAN}", "a,٣"], {}, "found '٣'"),
        (
            [f"ID,A_{MEAN},A__{MEAN},B_{MEAN}", "a,1,2,3"],
            {},
            f"columns 'A_{MEAN}' and 'A__{MEAN}' are the same feature",
        ),
        ([f"ID,lesion_{MEAN},{MEAN}", "a,1,2"], {}, "are the same feature of the same region; rename or drop one"),
    ],
)
def test_tables_that_are_refused(lines: list[str], options: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = text_table(tmp_path, *lines)
    with pytest.raises(ManifestError) as caught:
        import_table(path, tmp_path / "cube.zarr", **{"id_column": "ID", **options})
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == [path]


def test_many_ids_that_repeat_are_shortened(tmp_path: Path) -> None:
    rows = [f"L{i},{j}" for i in range(7) for j in range(7)]
    with pytest.raises(ManifestError, match=r"'L0' on lines 2, 3, 4, 5, 6, and 2 more; 'L1' .* and 2 more; make"):
        imported(tmp_path, f"ID,{MEAN}", *rows)


_CUT_GZIP = gzip.compress(b"ID,Age\n" + b"a,1\n" * 999, mtime=0)[:-9]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("features.xlsx", b"", "expected a table that ends in .csv, .csv.gz, .gz or .parquet"),
        ("features", b"", "expected a table that ends in"),
        ("features.csv", b"ID,\xe9\n", "is not UTF-8 text"),
        ("features.csv", b"\x89PNG\r\n\x1a\n", "is not UTF-8 text"),
        ("features.gz", _CUT_GZIP, "compressed text ends early or is broken"),
        ("features.gz", b"\x1f\x8bgarbage", "compressed text ends early or is broken"),
        ("features.parquet", b"", "is not a Parquet file"),
        ("features.parquet", b"ID,Age\na,1\n", "is not a Parquet file"),
    ],
)
def test_files_that_are_no_table(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ManifestError) as caught:
        import_table(path, tmp_path / "cube.zarr", id_column="ID")
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


def test_a_missing_table_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(MissingManifestError, match=r"nothing\.csv: the file is missing; expected a table"):
        import_table(tmp_path / "nothing.csv", tmp_path / "cube.zarr", id_column="ID")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ManifestError, match=r"folder\.csv: is a folder"):
        import_table(tmp_path / "folder.csv", tmp_path / "cube.zarr", id_column="ID")


def test_parquet_with_two_columns_of_one_name(tmp_path: Path) -> None:
    pq.write_table(
        pa.table([pa.array(["a"]), pa.array([1.0]), pa.array([2.0])], names=["ID", "x", "x"]), tmp_path / "t.parquet"
    )
    with pytest.raises(ManifestError, match="found 'x' 2 times"):
        import_table(tmp_path / "t.parquet", tmp_path / "cube.zarr", id_column="ID")


def test_a_place_that_is_taken_is_left_alone(tmp_path: Path) -> None:
    done = imported(tmp_path, f"ID,{MEAN}", "a,1")
    with pytest.raises(CubeError, match=r"cube\.zarr: exists already; give another path, or remove it"):
        imported(tmp_path, f"ID,{MEAN}", "a,2")
    assert frame_of(done).to_dict("list") == {MEAN: [1]}
    with pytest.raises(CubeError, match=r"the folder .* does not exist"):
        import_table(tmp_path / "features.csv", tmp_path / "no" / "cube.zarr", id_column="ID")


def test_nothing_is_left_where_the_storage_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(CubeWriter, "_apply", full)
        with pytest.raises(CubeWriteError, match="No space left on device"):
            imported(tmp_path, f"ID,{MEAN}", "a,1")
    assert [path.name for path in tmp_path.iterdir()] == ["features.csv"]
    assert imported(tmp_path, f"ID,{MEAN}", "a,1").rows == 1
    assert {path.name for path in tmp_path.iterdir()} == {"features.csv", "cube.zarr"}


def test_the_same_command_goes_on_after_a_kill(tmp_path: Path) -> None:
    path = text_table(tmp_path, f"ID,{MEAN}", *(f"L{i},{i}" for i in range(300)))
    code = (
        "import os, sys\n"
        "from hgpscale.cube import CubeWriter, import_table\n"
        "flush = CubeWriter.flush\n"
        "CubeWriter.flush = lambda self: (flush(self), os._exit(9))\n"
        "import_table(sys.argv[1], sys.argv[2], id_column='ID')\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, path, tmp_path / "cube.zarr"], check=False)
    assert killed.returncode == 9
    with pytest.raises(CubeError, match=r"not an hgpscale cube .* killed in making"):
        open_cube(tmp_path / "cube.zarr")
    import_table(path, tmp_path / "cube.zarr", id_column="ID")
    found = status(tmp_path / "cube.zarr")
    assert (found.done, found.pending) == (300, 0)


# An imported cube is a cube


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("kind", ["regions", "segmentations"])
def test_an_exported_table_comes_back_the_same(kind: str, suffix: str, tmp_path: Path) -> None:
    settings = Settings.from_parameters(
        {
            "imageType": {"Original": {}, "Wavelet": {}, "LoG": {"sigma": [1.5, 3]}},
            "featureClass": {"firstorder": ["Mean", "Energy"], "shape": None, "glcm": ["Contrast", "Id"]},
        }
    )
    if kind == "regions":
        settings = with_regions(settings, "rim")
    raters = ["default"] if kind == "regions" else ["RAD", "AI"]
    ids = ["=1+1", "007", "c d"]
    rows = cohort(*((i, rater) for i in ids for rater in raters), centre=["@x", "", "-y"], stage=[1, 2, 4])
    made = [record(i, rater, settings) for i in ids for rater in raters]
    made[len(raters) * 2 - 1] = record("007", raters[-1], settings, glcm=FLAT)
    first = write(tmp_path / "first.zarr", rows, made, settings)
    export(first, tmp_path / f"table{suffix}")
    done = import_table(
        tmp_path / f"table{suffix}", tmp_path / "second.zarr", id_column="lesion", patient="patient", targets=["stage"]
    )
    before = open_cube(first).hgp.to_frame()
    after = open_cube(done.cube).hgp.to_frame()
    names = [name for name in before if "_firstorder_" in name or "_shape_" in name or "_glcm_" in name]
    assert done.features == len(names) == 2 * (14 + 11 * 4)
    assert sorted(names) == sorted(name for name in after if name in names)
    pd.testing.assert_frame_equal(before[names], after[names], check_exact=True)
    assert before[names].isna().sum(axis=None) == (11 * 2 if kind == "segmentations" else 2 * 11 * 2)
    for name in ("lesion", "patient", "centre", "stage"):
        assert list(before[name]) == list(after[name])
    assert verify(done.cube).ok
    assert status(done.cube).failed == 1
    packed = pack(done.cube)
    pd.testing.assert_frame_equal(open_cube(packed.packed).hgp.to_frame(), after)


def test_batches_carry_targets(tmp_path: Path) -> None:
    done = imported(
        tmp_path, f"ID,{MEAN},Age,Target", *(f"{i},{i}.5,{i},{i % 2}" for i in range(10)), targets=["Target"]
    )
    batches = list(open_cube(done.cube).hgp.batches(4, "Target"))
    assert [len(features) for features, _ in batches] == [4, 4, 2]
    features, target = (pd.concat(parts) for parts in zip(*batches, strict=True))
    assert list(features.columns) == [MEAN, "Age"]
    assert features[MEAN].tolist() == [i + 0.5 for i in range(10)]
    assert target.tolist() == [i % 2 for i in range(10)]


def test_nothing_can_be_extracted_into_it(tmp_path: Path) -> None:
    done = imported(tmp_path, f"ID,{MEAN}", "a,1")
    with pytest.raises(CubeError, match="was imported from a table"):
        CubeWriter.open(done.cube, cohort(("a", "default")), Settings())
    assert status(done.cube).kind == ", imported from a table"


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "regions", "mapped"),
    [
        ("Colorectal-Liver-Metastases", ["Portal", "Hepatic", "Liver", "Tumor_1", "Liver_Remnant"], 525),
        ("Granata2021", [], 0),
        ("HCC-TACE-Seg", ["Portal_vein", "Abdominal_aorta", "Mass", "Liver"], 420),
        ("Keek2020", [], 0),
        ("WORC-Liver", ["lesion"], 1015),
    ],
)
def test_tables_of_radmlbench(name: str, regions: list[str], mapped: int, shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "tabular" / "radMLBench" / f"{name}.gz"
    expected = pd.read_csv(path, compression="gzip", dtype={"ID": str}, engine="pyarrow")
    done = import_table(path, tmp_path / "cube.zarr", id_column="ID", targets=["Target"])
    form = re.compile(
        r"(?:(?P<prefix>.+)_)?(?P<name>(original|wavelet-[LH]{3}|log-sigma-\d-\d-mm-3D)_"
        r"(?P<family>firstorder|shape|glcm|glrlm|glszm|gldm|ngtdm)_[A-Z0-9][A-Za-z0-9]+)"
    )
    matches = {column: form.fullmatch(column) for column in map(str, expected)}
    assert sum(match is not None for match in matches.values()) == mapped
    assert sum(len(columns) for where, columns in done.columns.items() if where.startswith("region ")) == mapped
    assert (done.rows, done.features) == (len(expected), expected.shape[1] - 2)
    frame = frame_of(done)
    assert frame.shape == (len(expected), expected.shape[1] - 1)
    for column, match in matches.items():
        if column in ("ID", "Target"):
            continue
        prefix = f"{match['prefix']}__" if match and len(regions) > 1 else ""
        np.testing.assert_array_equal(frame[prefix + match["name"] if match else column], expected[column])
    cube = open_cube(done.cube)
    assert list(cube.lesion.values) == list(cube.patient.values) == expected["ID"].tolist()
    np.testing.assert_array_equal(cube.Target, expected["Target"])
    assert list(dict.fromkeys(region for region, _, family in cube.hgp.keys if family != "table")) == regions
    counts = status(done.cube)
    assert (counts.rows, counts.done, counts.failed, counts.pending) == (len(expected), len(expected), 0, 0)
    found = verify(done.cube)
    assert (found.ok, found.rows) == (True, len(expected))
    batches = list(cube.hgp.batches(50, "Target", shuffle=1))
    assert sum(len(features) for features, _ in batches) == len(expected)
    assert all(features.notna().all(axis=None) for features, _ in batches)


# The command


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["import-table", *map(str, arguments)])


def test_the_command_lists_what_went_where(tmp_path: Path) -> None:
    path = text_table(tmp_path, f"ID,Case,A_{MEAN},A_{CONTRAST},Age,centre,Target", "L1,P,1,2,50,north,0")
    result = run(path, tmp_path / "cube.zarr", "--id", "ID", "--patient", "Case", "--target", "Target")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [
        "columns\twent to\tsuch as",
        "1\tid\tID",
        "1\tpatient\tCase",
        "1\ttarget\tTarget",
        f"1\tregion lesion: firstorder\tA_{MEAN}",
        f"1\tregion lesion: glcm\tA_{CONTRAST}",
        "1\ttable\tAge",
        "1\tcarried as text\tcentre",
        f"{tmp_path / 'cube.zarr'}: 1 row, 3 features",
    ]
    assert CliRunner().invoke(app, ["verify", str(tmp_path / "cube.zarr")]).exit_code == 0
    assert "imported from a table" in CliRunner().invoke(app, ["status", str(tmp_path / "cube.zarr")]).stdout


def test_the_documented_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).resolve().parents[2] / "docs" / "cube.md").read_text(encoding="utf-8")
    (content,) = re.findall(r"^```csv\n(.+?)^```", page, re.M | re.S)
    (command, shown) = re.findall(r"^\$ hgpscale import-table (.+?)\n(.+?)^```", page, re.M | re.S)[0]
    Path("features.csv").write_text(content, encoding="utf-8")
    result = run(*command.split())
    assert result.exit_code == 0, result.stderr
    header, *rows = [re.split(" *[│┃] *", line)[1:-1] for line in shown.splitlines() if line[0] in "│┃"]
    assert ["\t".join(cells) for cells in (header, *rows)] == result.stdout.splitlines()[:-1]
    assert shown.splitlines()[-1] == result.stdout.splitlines()[-1]


def test_the_command_shortens_long_lists(tmp_path: Path) -> None:
    names = [f"original_glcm_{name}" for name in FAMILIES["glcm"].names]
    path = text_table(tmp_path, f"ID,{','.join(names)}", f"L1{',1' * len(names)}")
    result = run(path, tmp_path / "cube.zarr", "--id", "ID")
    shown = "original_glcm_Autocorrelation, original_glcm_ClusterProminence, and 22 more"
    assert f"24\tregion lesion: glcm\t{shown}" in result.stdout.splitlines()


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("nothing.csv", "cube.zarr", "--id", "ID"), ["nothing.csv", "missing"]),
        (("features.csv", "cube.zarr", "--id", "Id"), ["features.csv", "'Id'", "--id", "did you mean 'ID'?"]),
        (("features.csv", "cube.zarr"), ["--id", "hgpscale import-table --help"]),
        (("features.csv", "gs://bucket/cube.zarr", "--id", "ID"), ["gs://"]),
        (("features.csv", "features.csv", "--id", "ID"), ["features.csv", "exists already"]),
    ],
)
def test_the_command_refuses_in_one_line(
    arguments: tuple[str, ...], parts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text_table(tmp_path, f"ID,{MEAN}", "a,1")
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert all(part in line for part in parts), line
    assert [path.name for path in tmp_path.iterdir()] == ["features.csv"]


def test_all_refusals_are_expected_errors() -> None:
    assert issubclass(MissingManifestError, HgpscaleError)
    assert "Example: hgpscale import-table " in CliRunner().invoke(app, ["import-table", "--help"]).stdout
