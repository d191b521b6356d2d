import csv
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hgpscale.cohort import Cohort, LesionRow, read_manifest
from hgpscale.cube import CubeWriter, open_cube
from hgpscale.errors import ManifestError
from hgpscale.settings import Settings


def written(folder: Path, text: str, name: str = "cohort.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def read(folder: Path, text: str) -> Cohort:
    return read_manifest(written(folder, text))


def refusal(folder: Path, text: str) -> str:
    path = written(folder, text)
    with pytest.raises(ManifestError) as caught:
        read_manifest(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


FULL = """\
patient,lesion,segmentation,image,mask,label,roi,centre,split,hgp_desmoplastic,hgp_replacement,hgp_pushing,age,code
007,L1,A,scans/1.nii,m/1a.nii,1,tumour,Leuven,train,80,19.8,0,61.5,012
007,L1,B,scans/1.nii,m/1b.nii,2.0,tumour,Leuven,train,80,19.8,0,61.5,012

007,L2,A,scans/1.nii,/abs/2.nii,,,Leuven,train,,,,NA,013
08,L3,A,scans/2.nii,m/3.nii,,,"Lille, CHU",external,0,100,0,,014
"""


def test_rows_and_columns(tmp_path: Path) -> None:
    cohort = read(tmp_path, FULL)
    assert cohort.lesions == ("L1", "L2", "L3")
    assert cohort.segmentations == ("A", "B")
    assert [row.line for row in cohort.rows] == [2, 3, 5, 6]
    assert [row.patient for row in cohort.rows] == ["007", "007", "007", "08"]
    assert [row.label for row in cohort.rows] == [1, 2, None, None]
    assert [row.roi for row in cohort.rows] == ["tumour", "tumour", "", ""]
    assert cohort.rows[0].image == tmp_path / "scans" / "1.nii"
    assert cohort.rows[0].image_text == "scans/1.nii"
    assert cohort.rows[2].mask == Path("/abs/2.nii")
    expected = pd.DataFrame(
        {
            "patient": ["007", "007", "08"],
            "centre": ["Leuven", "Leuven", "Lille, CHU"],
            "split": ["train", "train", "external"],
            "hgp_desmoplastic": [80.0, np.nan, 0.0],
            "hgp_replacement": [19.8, np.nan, 100.0],
            "hgp_pushing": [0.0, np.nan, 0.0],
            "age": [61.5, np.nan, np.nan],
            "code": ["012", "013", "014"],
        },
        index=pd.Index(["L1", "L2", "L3"], name="lesion"),
    )
    pd.testing.assert_frame_equal(cohort.columns, expected)


def test_relative_paths_start_at_the_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    written(tmp_path / "sub", "patient,image,mask\nP,a.nii,../b.nii\n")
    monkeypatch.chdir(tmp_path)
    (row,) = read_manifest("sub/cohort.csv").rows
    assert row.image.is_absolute()
    assert row.mask.resolve() == tmp_path / "b.nii"


def test_lesion_and_segmentation_defaults(tmp_path: Path) -> None:
    cohort = read(tmp_path, "patient,image,mask,segmentation\nP1,a,b,A\nP1,a,c,B\nP2,d,e,A\n")
    assert [(row.lesion, row.segmentation) for row in cohort.rows] == [("P1", "A"), ("P1", "B"), ("P2", "A")]
    cohort = read(tmp_path, "patient,image,mask\nP1,a,b\n")
    assert (cohort.rows[0].segmentation, cohort.rows[0].roi, cohort.rows[0].label) == ("default", "", None)


def test_several_lesions_need_ids_and_the_message_shows_how(tmp_path: Path) -> None:
    message = refusal(tmp_path, "patient,image,mask\nP1,a,b\nP1,c,d\n")
    assert message == (
        "1 problem: line 3: patient 'P1' has another row of segmentation 'default' on line 2: add a column "
        "'lesion' that names each lesion, for example 'P1-1' and 'P1-2'"
    )


HEAD = "patient,lesion,image,mask"
PERCENT = "hgp_desmoplastic,hgp_replacement,hgp_pushing"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{HEAD}\n,L,a,b\n", "line 2: patient is empty"),
        (f"{HEAD}\nP,,a,b\n", "line 2: lesion is empty"),
        (f"{HEAD}\nP,L, ,b\n", "line 2: image is empty"),
        (f"{HEAD}\nP,L,a,\n", "line 2: mask is empty"),
        (f"{HEAD},segmentation\nP,L,a,b,\n", "line 2: segmentation is empty"),
        (f"{HEAD},segmentation\nP,L,a,b,A__B\n", "line 2: segmentation is 'A__B': '__' is reserved"),
        (f'{HEAD}\nP,"L\n1",a,b\n', r"line 2: lesion is 'L\n1': it holds a character that cannot be printed"),
        (f"{HEAD},label\nP,L,a,b,0\n", "line 2: label is '0', expected a whole number of at least 1"),
        (f"{HEAD},label\nP,L,a,b,1.5\n", "line 2: label is '1.5', expected a whole number of at least 1"),
        (f"{HEAD},label\nP,L,a,b,-1\n", "line 2: label is '-1', expected a whole number of at least 1"),
        (f"{HEAD},split\nP,L,a,b,test\n", "line 2: split is 'test', expected train or external, or an empty cell"),
        (
            f"{HEAD}\nP,L,a,b\nQ,M,a,b\nP,L,a,c\n",
            "line 4: lesion 'L' with segmentation 'default' is on line 2 already: give each its own id",
        ),
        (
            f"{HEAD},segmentation\nP,L,a,b,A\nP,L,c,d,B\n",
            "line 3: image of lesion 'L' is 'c', on line 2 it is 'a'",
        ),
        (
            f"{HEAD},segmentation\nP,L,a,b,A\nQ,L,a,d,B\n",
            "line 3: patient of lesion 'L' is 'Q', on line 2 it is 'P'",
        ),
        (
            f"{HEAD},segmentation,age\nP,L,a,b,A,61\nP,L,a,d,B,\n",
            "line 3: age of lesion 'L' is '', on line 2 it is '61'",
        ),
        (
            f"{HEAD},split\nP,L,a,b,train\nP,M,a,d,external\n",
            "line 3: split of patient 'P' is 'external', on line 2 it is 'train'",
        ),
        (f"{HEAD}\nP,L,a\n", "line 2: it has 3 cells, the header has 4"),
        (f"{HEAD}\nP,L,a,b,c\n", "line 2: it has 5 cells, the header has 4"),
        (
            f"{HEAD},{PERCENT}\nP,L,a,b,60,30,9\n",
            "line 2: hgp_desmoplastic + hgp_replacement + hgp_pushing is 60 + 30 + 9 = 99, expected 100",
        ),
        (
            f"{HEAD},{PERCENT}\nP,L,a,b,101,-1,0\n",
            "line 2: hgp_desmoplastic is '101', expected a percentage from 0 to 100",
        ),
        (
            f'{HEAD},{PERCENT}\nP,L,a,b,"33,3",33.3,33.4\n',
            "line 2: hgp_desmoplastic is '33,3', expected a percentage from 0 to 100",
        ),
        (
            f"{HEAD},{PERCENT}\nP,L,a,b,60,40,\n",
            "line 2: hgp_pushing is empty: give all three percentages or none",
        ),
        ("patient,lesion,image\nP,L,a\n", "column 'mask' is missing; found: patient, lesion, image"),
        (
            "Patient,image,msk\nP,a,b\n",
            "column 'patient', 'mask' is missing; found: Patient, image, msk; rename 'Patient' to 'patient'?; "
            "rename 'msk' to 'mask'?",
        ),
        ("patient;image;mask\nP;a;b\n", "cells are separated by ';', expected ',' (in Excel:"),
        (f"{HEAD},hgp_pushing\nP,L,a,b,0\n", "column 'hgp_desmoplastic', 'hgp_replacement' is missing"),
        (f"{HEAD},mask\nP,L,a,b,c\n", "column 'mask' appears twice; keep one"),
        ("patient,,image,mask\nP,,a,b\n", "column 2 has no name; name it, or save the table without its index"),
        (f",{HEAD}\n0,P,L,a,b\n", "column 1 has no name; name it, or save the table without its index"),
        (f"{HEAD},state\nP,L,a,b,c\n", "column 'state': the name is reserved for the cube; rename it"),
        (f"{HEAD},glcm_feature\nP,L,a,b,c\n", "column 'glcm_feature': the name is reserved"),
        (f"{HEAD},rim__x\nP,L,a,b,c\n", "column 'rim__x': '__' is reserved for the cube; rename it"),
        (f"{HEAD},requested_label\nP,L,a,b,c\n", "column 'requested_label': the name is reserved for the cube"),
        (f"{HEAD},original_glcm_Contrast\nP,L,a,b,c\n", "column 'original_glcm_Contrast': a feature has that name"),
        (f"{HEAD},ROI\nP,L,a,b,c\n", "column 'ROI': the name is reserved for the cube, where it is written 'roi'"),
        (
            f"{HEAD},Age,age,a/b\nP,L,a,b,1,2,3\n",
            "column 'age': it differs from column 'Age' by case alone; column 'a/b': the name holds a slash, so the "
            "cube cannot store it; rename them",
        ),
        (f"{HEAD}\n", "it has a header and no rows"),
        ("", "the file is empty; expected a header and a row for each lesion"),
        (f'{HEAD}\nP,L,"a,b\n', "is not CSV"),
    ],
)
def test_refusals_name_line_and_value(tmp_path: Path, text: str, said: str) -> None:
    assert said in refusal(tmp_path, text)


NAMES = st.one_of(
    st.sampled_from(
        ["state", "State", "requested_label", "Image", "zarr.json", "glcm", "glcm_feature", "PATIENT", "Age", "age"]
    ),
    st.sampled_from(["original_glcm_Contrast", "RAD__mask", "a/b", "a\\b", "..", "x.partial", "n" * 255, "n" * 256]),
    st.text(st.characters(codec="utf-8", exclude_characters=',"\0'), min_size=1, max_size=4).map(str.strip),
)


@settings(max_examples=40, deadline=None)
@given(names=st.lists(NAMES.filter(bool), min_size=1, max_size=2, unique=True))
def test_whatever_is_read_has_names_that_a_cube_can_hold(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("names")
    path = folder / "cohort.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([[*HEAD.split(","), *names], ["P", "L", "a", "b", *names]])
    try:
        cohort = read_manifest(path)
    except ManifestError:
        return  # what is refused, and in which words, is above
    few = Settings.from_parameters({"featureClass": {"glcm": ["Contrast"]}})
    for _ in range(2):  # made, then resumed
        with CubeWriter.open(folder / "c.zarr", cohort, few):
            pass
    frame = open_cube(folder / "c.zarr").hgp.to_frame()
    assert frame.columns.is_unique
    assert set(names) <= set(frame.columns)


def test_split_may_be_unknown(tmp_path: Path) -> None:
    cohort = read(tmp_path, f"{HEAD},split\nP,L,a,b,train\nQ,M,a,b,\n")
    assert list(cohort.columns["split"]) == ["train", ""]


def test_a_manifest_that_is_not_there_is_a_file_not_found(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.csv: the file is missing; expected a manifest"):
        read_manifest(tmp_path / "gone.csv")


@pytest.mark.parametrize("total", [99.5, 100.5])
def test_percentages_may_be_rounded(tmp_path: Path, total: float) -> None:
    read(tmp_path, f"{HEAD},{PERCENT}\nP,L,a,b,{total - 60},30,30\n")
    assert "expected 100" in refusal(
        tmp_path, f"{HEAD},{PERCENT}\nP,L,a,b,{total - 60.01 + 0.02 * (total > 100)},30,30\n"
    )


def test_all_problems_are_counted_and_listed(tmp_path: Path) -> None:
    path = written(tmp_path, f"{HEAD},label\n" + "".join(f"P,L{i},a,b,x\n" for i in range(8)) + "P,L9,a,b,1\n")
    with pytest.raises(ManifestError) as caught:
        read_manifest(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: 8 problems: line 2: label is 'x'")
    assert "line 6: " in message
    assert "line 7: " not in message
    assert message.endswith("; and 3 more")
    assert [line.split(":")[0] for line in caught.value.__notes__[0].splitlines()] == [
        f"line {n}" for n in range(2, 10)
    ]


def test_lines_are_the_files_lines(tmp_path: Path) -> None:
    text = 'patient,image,mask,note\n\nP1,a,b,"two\nlines"\nP2,a,b,x\n'
    assert [row.line for row in read(tmp_path, text).rows] == [3, 5]


@pytest.mark.parametrize("name", ["gone.csv", "folder.csv", "cohort.xlsx", "latin.csv", "broken.parquet"])
def test_files_that_are_no_manifest(tmp_path: Path, name: str) -> None:
    said = {
        "gone.csv": "the file is missing",
        "folder.csv": "is a folder",
        "cohort.xlsx": "expected a manifest that ends in .csv or .parquet",
        "latin.csv": "is not UTF-8 text",
        "broken.parquet": "is not a Parquet file",
    }
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "latin.csv").write_bytes("patient,image,mask\nAndré,a,b\n".encode("latin-1"))
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 nothing of the kind")
    with pytest.raises(ManifestError) as caught:
        read_manifest(tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path / name}: {said[name]}")


def test_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    (tmp_path / "cohort.csv").write_text("patient,image,mask\r\nP,a,b\r\n", encoding="utf-8-sig")
    assert read_manifest(tmp_path / "cohort.csv").rows[0].patient == "P"


@pytest.mark.parametrize(
    ("cells", "dtype"),
    [
        (["1", "2"], "int64"),
        (["1", ""], "float64"),
        (["1.5", "-2e3"], "float64"),
        (["1", "x"], "str"),
        (["01", "02"], "str"),
        (["", ""], "str"),
        (["1_0", "2"], "str"),
        (["inf", "2"], "str"),
        (["12345678901234567", "2"], "str"),
        (["NA", "2"], "float64"),
    ],
)
def test_covariates_are_numbers_only_where_all_cells_are(tmp_path: Path, cells: list[str], dtype: str) -> None:
    rows = "".join(f"P{i},a,b,{cell}\n" for i, cell in enumerate(cells))
    column = read(tmp_path, f"patient,image,mask,extra\n{rows}").columns["extra"]
    assert column.dtype == dtype
    if dtype == "str":
        assert list(column) == cells


class TestPyradiomicsBatch:
    """pyradiomics' own batch files: Image and Mask, and whatever else."""

    def test_without_a_patient_rows_of_an_image_are_one(self, tmp_path: Path) -> None:
        cohort = read(tmp_path, "Image,Mask,Label\na.nrrd,m.nrrd,1\na.nrrd,m.nrrd,2\nb.nrrd,n.nrrd,1\n")
        assert [(row.patient, row.lesion, row.label) for row in cohort.rows] == [
            ("1", "1-1", 1),
            ("1", "1-2", 2),
            ("3", "3", 1),
        ]
        assert cohort.rows[0].image == tmp_path / "a.nrrd"

    @pytest.mark.parametrize("name", ["ID", "Patient", "patientID", "Case"])
    def test_patient_column(self, tmp_path: Path, name: str) -> None:
        cohort = read(tmp_path, f"{name},Reader,Image,Mask\n001,r1,a,m\n001,r2,a,n\n002,r1,b,o\n")
        assert [(row.patient, row.lesion) for row in cohort.rows] == [
            ("001", "001-1"),
            ("001", "001-2"),
            ("002", "002"),
        ]
        assert list(cohort.columns["Reader"]) == ["r1", "r2", "r1"]

    def test_patient_wins_over_id(self, tmp_path: Path) -> None:
        cohort = read(tmp_path, "ID,Patient,Image,Mask\n1,A,a,m\n")
        assert cohort.rows[0].patient == "A"
        assert list(cohort.columns["ID"]) == [1]

    def test_mask_channel(self, tmp_path: Path) -> None:
        cohort = read(tmp_path, "Image,Mask,Label_channel\na,b,0\n")
        assert list(cohort.columns.columns) == ["patient"]
        message = refusal(tmp_path, "Image,Mask,Label_channel\na,b,1\n")
        assert "line 2: Label_channel is '1': expected one for all rows, as setting label_channel" in message


def test_parquet(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "patient": ["007", "08"],
            "image": ["a", "b"],
            "mask": ["c", "d"],
            "label": [1.0, np.nan],
            "age": [61.25, np.nan],
            "count": [3, 4],
            "grade": ["2", "3"],
            "note": ["x", None],
        },
        index=pd.Index([5, 6]),
    )
    frame.to_parquet(tmp_path / "cohort.parquet")
    cohort = read_manifest(tmp_path / "cohort.parquet")
    assert [(row.line, row.patient, row.label) for row in cohort.rows] == [(2, "007", 1), (3, "08", None)]
    assert list(cohort.columns["note"]) == ["x", ""]
    assert cohort.columns["count"].dtype == "int64"
    np.testing.assert_array_equal(cohort.columns["age"], [61.25, np.nan])


IDS = (
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
    .map(str.strip)
    .filter(lambda text: text.isprintable() and text != "" and "__" not in text)
)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


@given(
    ids=st.lists(IDS, min_size=1, max_size=6, unique=True),
    text=st.data(),
)
def test_whatever_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, ids: list[str], text: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("manifest") / "cohort.csv"
    numbers = text.draw(st.lists(NUMBERS, min_size=len(ids), max_size=len(ids)))
    notes = ["note", *text.draw(st.lists(IDS, min_size=len(ids) - 1, max_size=len(ids) - 1))]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["patient", "lesion", "image", "mask", "number", "note"])
        writer.writerows(
            ["P", name, f"{name}.nii", f"m{name}.nii", repr(number), note]
            for name, number, note in zip(ids, numbers, notes, strict=True)
        )
    cohort = read_manifest(path)
    assert cohort.lesions == tuple(ids) == tuple(cohort.columns.index)
    assert [row.image_text for row in cohort.rows] == [f"{name}.nii" for name in ids]
    assert list(cohort.columns["note"]) == notes
    assert cohort.columns["number"].dtype == "float64"
    assert list(cohort.columns["number"]) == numbers


def test_columns_that_a_spreadsheet_once_touched_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "cohort.csv").write_text("patient,image,mask,,\nP,a,b,,\n,,,,\n")
    (row,) = read_manifest(tmp_path / "cohort.csv").rows
    assert (row.patient, row.mask_text) == ("P", "b")


def test_rows_are_a_sequence_by_position_by_slice_and_in_turn(tmp_path: Path) -> None:
    rows = read(tmp_path, "patient,image,mask,liver\nP,a,m,\nQ,a,n,l\nR,b,o,l\n").rows
    assert list(rows) == [rows[0], rows[1], rows[2]] == [rows[-3], *rows[1:]]
    assert [row.liver for row in rows] == [None, tmp_path / "l", tmp_path / "l"]
    assert len(rows) == 3
    with pytest.raises(IndexError):
        rows[3]


def test_a_row_takes_no_memory_of_its_own_and_equal_texts_are_one(tmp_path: Path) -> None:
    rows = read(tmp_path, "patient,lesion,image,mask\nP,P,scan.nii,m.nii\nP,Q,scan.nii,n.nii\n").rows
    assert rows[0] is not rows[0]  # made when looked at
    assert not hasattr(rows[0], "__dict__")
    assert rows[0].image_text is rows[1].image_text
    assert rows[0].patient is rows[0].lesion


def test_some_attributes_of_all_rows_are_those_of_each_row(tmp_path: Path) -> None:
    cohort = read(tmp_path, FULL)
    names = [field.name for field in fields(LesionRow)]
    expected = [tuple(getattr(row, name) for name in names) for row in cohort.rows]
    assert list(cohort.cells(*names)) == expected
    assert list(replace(cohort, rows=tuple(cohort.rows)).cells(*names)) == expected
