"""nnU-Net's raw data sets and predictions as a cohort."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import archives
import numpy as np
import pytest
import SimpleITK as sitk

from hgpscale.cohort import build_cohort, check_cohort, read_image
from hgpscale.cohort.layouts import LAYOUTS, LeftOut, Options
from hgpscale.cohort.layouts.cases import MADE_BY
from hgpscale.cohort.pseudonym import pseudonym
from hgpscale.errors import ManifestError
from hgpscale.settings import Settings


def left_out(root: Path, mask: str = "") -> list[LeftOut]:
    return [item for item in LAYOUTS["nnunet"].find(root, Options(mask=mask)) if isinstance(item, LeftOut)]


def test_drawn_and_predicted_outlines_stand_side_by_side(tmp_path: Path) -> None:
    root = archives.nnunet(tmp_path / "Dataset101_HGP")
    built = build_cohort("nnunet", root, tmp_path / "cohort.csv")
    image, drawn, predicted = (f"Dataset101_HGP/{name}/crlm_00" for name in ("imagesTr", "labelsTr", "predictions"))
    test = "Dataset101_HGP/imagesTs/crlm_009_0000.nii.gz"
    assert (tmp_path / "cohort.csv").read_text().splitlines() == [
        "patient,lesion,segmentation,image,mask,label,liver,split",
        f"crlm_001,crlm_001-1,default,{image}1_0000.nii.gz,cohort_masks/crlm_001_default.nrrd,1,{drawn}1.nii.gz,train",
        f"crlm_001,crlm_001-1,nnunet,{image}1_0000.nii.gz,{predicted}1.nii.gz,2,{drawn}1.nii.gz,train",
        f"crlm_001,crlm_001-2,default,{image}1_0000.nii.gz,cohort_masks/crlm_001_default.nrrd,2,{drawn}1.nii.gz,train",
        f"crlm_002,crlm_002-1,default,{image}2_0000.nii.gz,{drawn}2.nii.gz,2,{drawn}2.nii.gz,train",
        f"crlm_009,crlm_009-1,nnunet,{test},cohort_masks/crlm_009.nrrd,1,{predicted}9.nii.gz,external",
        f"crlm_009,crlm_009-2,nnunet,{test},cohort_masks/crlm_009.nrrd,2,{predicted}9.nii.gz,external",
    ]
    assert built.problems == ()
    assert built.raters == (("default", 3, 1, 2), ("nnunet", 3, 1, 2))
    assert check_cohort(built.cohort, Settings()) == []
    split, _ = read_image(tmp_path / "cohort_masks" / "crlm_001_default.nrrd")
    np.testing.assert_array_equal(split.array, archives.mask(archives.B, value=2, of=archives.mask(archives.A)))


def test_a_test_set_without_labels_or_predictions_is_not_looked_at(tmp_path: Path) -> None:
    root = archives.nnunet(tmp_path / "root")
    for path in (root / "predictions").iterdir():
        path.unlink()
    built = build_cohort("nnunet", root, tmp_path / "cohort.csv")
    assert (built.problems, built.cohort.lesions) == ((), ("crlm_001-1", "crlm_001-2", "crlm_002-1"))
    assert "split" not in built.cohort.columns
    archives.nifti(root / "labelsTs" / "crlm_009.nii.gz", archives.mask(archives.C, value=2))
    again = build_cohort("nnunet", root, tmp_path / "cohort.csv", force=True)
    assert again.cohort.columns["split"].to_dict() == {
        "crlm_001-1": "train", "crlm_001-2": "train", "crlm_002-1": "train", "crlm_009-1": "external",
    }  # fmt: skip


def test_the_data_set_s_own_split_counts(tmp_path: Path) -> None:
    root = archives.nnunet(tmp_path / "root")
    labels = tmp_path / "labels.csv"
    labels.write_text("patient,split,grade\ncrlm_001,external,2\ncrlm_009,train,3\n")
    built = build_cohort("nnunet", root, tmp_path / "cohort.csv", labels=labels)
    assert built.cohort.columns["split"]["crlm_001-1"] == "train"
    assert built.cohort.columns["grade"]["crlm_009-2"] == 3
    assert f"{labels}: left out, as the manifest has its own: split" in built.notes
    (root / "imagesTs" / "crlm_009_0000.nii.gz").unlink()
    built = build_cohort("nnunet", root, tmp_path / "cohort.csv", labels=labels, force=True)
    assert built.cohort.columns["split"]["crlm_001-1"] == "external"


def test_folders_of_predictions_by_pattern(tmp_path: Path) -> None:
    root = archives.nnunet(tmp_path / "root")
    results = tmp_path / "nnUNet_results" / "Dataset101_HGP" / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    for fold in (0, 1):
        name = f"crlm_00{fold + 1}.nii.gz"
        archives.nifti(results / f"fold_{fold}" / "validation" / name, archives.mask(archives.C, value=2))
    built = build_cohort("nnunet", root, tmp_path / "a.csv", options=Options(mask=f"{results}/fold_*/validation/"))
    assert {row.mask.parent.parent.name for row in built.cohort.rows if row.segmentation == "nnunet"} == {
        "fold_0", "fold_1",
    }  # fmt: skip
    (root / "predictions").rename(tmp_path / "swin")
    built = build_cohort("nnunet", root, tmp_path / "b.csv", options=Options(mask="../{rater}"))
    assert {row.segmentation for row in built.cohort.rows} == {"default", "swin"}


def test_a_case_predicted_twice_by_one_rater_is_told(tmp_path: Path) -> None:
    root = archives.nnunet(tmp_path / "root")
    archives.nifti(root / "more" / "crlm_001.nii.gz", archives.mask(archives.C, value=2))
    (problem,) = left_out(root, "[mp][or]*")
    assert (problem.patient, Path(problem.file).parent.name) == ("crlm_001", "predictions")
    assert "more has a file of the same case and rater: tell them apart by {rater}" in problem.reason


def test_folders_of_the_data_set_are_no_raters(tmp_path: Path) -> None:
    root = archives.nnunet(tmp_path / "root")
    archives.nifti(root / "labelsTs" / "crlm_009.nii.gz", archives.mask(archives.C, value=2))
    for mask in ("{rater}", "../*/{rater}", f"{root}/[ilp]*"):
        assert left_out(root, mask) == []
    built = build_cohort("nnunet", root, tmp_path / "cohort.csv", options=Options(mask="{rater}"))
    assert {rater for rater, *_ in built.raters} == {"default", "predictions"}
    with pytest.raises(ManifestError, match="no folder of predictions matches --mask 'labelsTr'"):
        left_out(root, "labelsTr")


def test_a_rater_named_by_nnunet_itself_is_written_without_double_underscores(tmp_path: Path) -> None:
    root = archives.nnunet(tmp_path / "root")
    (root / "predictions").rename(root / "nnUNetTrainer__nnUNetPlans__3d_fullres")
    built = build_cohort("nnunet", root, tmp_path / "cohort.csv", options=Options(mask="{rater}"))
    name = "nnUNetTrainer-nnUNetPlans-3d_fullres"
    assert {rater for rater, *_ in built.raters} == {"default", name}
    assert built.notes[0] == (
        f"rater nnUNetTrainer__nnUNetPlans__3d_fullres is written {name}: '__' is reserved for names of columns"
    )
    (root / name).mkdir()
    with pytest.raises(ManifestError, match=r"raters nnUNetTrainer-nnUNetPlans.* would have one name"):
        left_out(root, "{rater}")


def test_predictions_in_a_folder_named_as_the_drawn_outlines_are_refused(tmp_path: Path) -> None:
    root = archives.nnunet(tmp_path / "root")
    (root / "predictions").rename(root / "default")
    with pytest.raises(ManifestError, match="a rater is named 'default', as the drawn outlines are; rename its folder"):
        left_out(root, "{rater}")


@pytest.mark.parametrize("mask", ["nothing", "seg_{lesion}", "{who}"])
def test_patterns_that_cannot_be_meant_are_refused(tmp_path: Path, mask: str) -> None:
    root = archives.nnunet(tmp_path / "root")
    with pytest.raises(ManifestError, match=r"no folder of predictions matches|expected only \{rater\}|placeholders"):
        left_out(root, mask)


def test_what_is_missing_is_told_and_the_rest_is_written(tmp_path: Path) -> None:
    root = archives.nnunet(tmp_path / "root")
    (root / "labelsTr" / "crlm_001.nii.gz").unlink()
    (root / "imagesTr" / "crlm_002_0000.nii.gz").unlink()
    (root / "predictions" / "crlm_009.nii.gz").rename(root / "predictions" / "crlm_777.nii.gz")
    archives.nifti(root / "labelsTs" / "crlm_010.nii.gz", archives.mask(archives.A, value=2))
    built = build_cohort("nnunet", root, tmp_path / "cohort.csv")
    assert [(problem.patient, problem.reason) for problem in built.problems] == [
        ("crlm_777", "no image of this prediction: expected CASE_0000.nii.gz in imagesTr or imagesTs"),
        ("crlm_001", "no label of this image: expected labelsTr/CASE.nii.gz"),
        ("crlm_002", "no image of this label: expected imagesTr/CASE_0000.nii.gz"),
        ("crlm_009", "no label of this image: expected labelsTs/CASE.nii.gz"),
        ("crlm_010", "no image of this label: expected imagesTs/CASE_0000.nii.gz"),
    ]
    assert [(row.lesion, row.segmentation) for row in built.cohort.rows] == [("crlm_001-1", "nnunet")]


def test_an_empty_prediction_and_one_on_another_grid_are_told(tmp_path: Path) -> None:
    root = archives.nnunet(tmp_path / "root")
    archives.nifti(root / "predictions" / "crlm_009.nii.gz", archives.mask())
    moved = sitk.ReadImage(str(root / "predictions" / "crlm_001.nii.gz"))
    moved.SetOrigin((5, 0, 0))
    sitk.WriteImage(moved, str(root / "predictions" / "crlm_001.nii.gz"))
    built = build_cohort("nnunet", root, tmp_path / "cohort.csv")
    assert built.notes == ("crlm_009: crlm_009.nii.gz: no lesion in it",)
    (problem,) = built.problems
    assert "predictions/crlm_001.nii.gz: not on the image's grid: origin is" in problem.reason
    assert {row.segmentation for row in built.cohort.rows} == {"default"}


@pytest.mark.parametrize(
    ("changed", "parts"),
    [
        (None, ["FileNotFoundError", "give the folder of a raw data set, such as Dataset101_Liver"]),
        ({"labels": {"0": "background", "1": "tumour"}}, ["ValueError", "a Decathlon task is layout msd"]),
        ({"labels": {"background": 0, "spleen": 1}}, ["expected a label named", "found background, spl"]),
        ({"labels": {"background": 0, "tumour": [1, 2]}}, ["expected a label of one value"]),
        (
            {"labels": {"background": 0, "liver": 1, "tumour": 2, "Metastasis": 3}},
            ["expected one label of tumours, found tumour, metastasis: "],
        ),
        ({"labels": {"background": 0, "Tumour": 1, "tumour": 2}}, ["found tumour, tumour: "]),
        ({"channel_names": {"0": "T1", "1": "T2"}}, ["expected one channel named CT, found T1, T2"]),
    ],
)
def test_a_data_set_that_cannot_be_used_is_refused(
    tmp_path: Path, changed: dict[str, Any] | None, parts: list[str]
) -> None:
    root = archives.nnunet(tmp_path / "root")
    archives.write_dataset(root, **changed or {})
    if changed is None:
        (root / "dataset.json").unlink()
    with pytest.raises(ManifestError) as caught:
        build_cohort("nnunet", root, tmp_path / "cohort.csv")
    assert str(caught.value).startswith(f"{root / 'dataset.json'}: ")
    assert [part for part in parts if part not in str(caught.value)] == []


@pytest.mark.parametrize(
    ("labels", "liver"),
    [
        ({"liver": 1, "tumour": 2}, ""),
        ({"Liver": [1, 2], "Tumor": 2}, ""),
        ({"liver": 1, "lesion": 2, "vessel": 3}, "1"),
        ({"liver": 1, "tumour": 2, "ignore": 3}, "1"),
        ({"tumour": 2, "vessel": 1}, None),
        ({"liver": [1, 2], "tumour": 2, "vessel": 3}, "told"),
    ],
)
def test_which_values_are_the_liver(tmp_path: Path, labels: dict[str, Any], liver: str | None) -> None:
    root = archives.nnunet(tmp_path / "root")
    archives.write_dataset(root, labels={"background": 0, **labels})
    if liver == "told":
        labels["liver"] = [1, 3]
        archives.write_dataset(root, labels={"background": 0, **labels, "spleen": 4})
    built = build_cohort("nnunet", root, tmp_path / "cohort.csv")
    row = built.cohort.rows[0]
    assert (None if row.liver is None else row.liver_roi) == (None if liver == "told" else liver)
    assert [problem.reason for problem in built.problems] == (
        ["label liver is of values 1, 3, expected one, or all that there are: the lesions are listed without liver"]
        if liver == "told"
        else []
    )


def test_the_ct_of_several_channels_and_cases_that_are_listed(tmp_path: Path) -> None:
    root = archives.nnunet(tmp_path / "root")
    (root / "elsewhere").mkdir()
    for name in ("001", "002"):
        (root / "imagesTr" / f"crlm_{name}_0000.nii.gz").rename(root / "imagesTr" / f"crlm_{name}_0001.nii.gz")
    (root / "imagesTr" / "crlm_002_0001.nii.gz").rename(root / "elsewhere" / "two.nii.gz")
    listed = {"crlm_002": {"images": ["no.nii.gz", "elsewhere/two.nii.gz"], "label": "labelsTr/crlm_002.nii.gz"}}
    archives.write_dataset(root, channel_names={"0": "PET", "1": "ct"}, dataset=listed)
    built = build_cohort("nnunet", root, tmp_path / "cohort.csv", options=Options(mask="predictions"))
    drawn = [row for row in built.cohort.rows if row.segmentation == "default"]
    assert {row.image.name for row in drawn} == {"crlm_001_0001.nii.gz", "two.nii.gz"}


def test_cases_of_one_patient_stay_one_patient(tmp_path: Path) -> None:
    root = archives.nnunet(tmp_path / "root")
    (root / "cases.csv").write_text("case,patient,lesion\ncrlm_001,P1,a\ncrlm_002,P1,b\ncrlm_009,P-1/2,c\n")
    built = build_cohort("nnunet", root, tmp_path / "cohort.csv")
    assert built.cohort.lesions == ("P1-1-1", "P1-1-2", "P1-2-1", "P-1/2-1", "P-1/2-2")
    assert built.cohort.columns["patient"].tolist() == ["P1", "P1", "P1", "P-1/2", "P-1/2"]
    (tmp_path / "key").write_bytes(bytes(range(32)))
    (tmp_path / "key").chmod(0o600)
    hidden = build_cohort("nnunet", root, tmp_path / "hidden.csv", keyfile=tmp_path / "key").cohort
    assert [lesion[18:] for lesion in hidden.lesions] == ["-1-1", "-1-2", "-2-1", "-1", "-2"]
    assert len(set(hidden.columns["patient"])) == 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("name,id\nx,y\n", "column case, patient is missing; found: name, id; it is not used"),
        (
            "case;patient\ncrlm_001;P1\n",
            "found: case;patient; cells are separated by ';', expected ','; it is not used",
        ),
        ("case,patient\ncrlm_001,P1\ncrlm_002\n", "line 3: it has 1 cells, the header has 2; it is not used"),
        ("case,patient\ncrlm_001,P1\ncrlm_001,P2\n", "line 3: its case is another patient's on an earlier line"),
        ("case,patient\ncrlm_001,\n", "line 2: its case or patient is empty"),
    ],
)
def test_a_table_of_cases_that_cannot_be_used_is_told(tmp_path: Path, text: str, reason: str) -> None:
    root = archives.nnunet(tmp_path / "root")
    (root / "cases.csv").write_text(text)
    built = build_cohort("nnunet", root, tmp_path / "cohort.csv")
    assert (built.cohort.lesions[0], built.problems) == ("crlm_001-1", ())
    assert built.notes[0].startswith(f"{root / 'cases.csv'}: ")
    assert reason in built.notes[0]
    archives.write_dataset(root, made_by=MADE_BY)
    with pytest.raises(ManifestError, match="scans of one patient are taken for several: mend it"):
        build_cohort("nnunet", root, tmp_path / "again.csv")


def test_a_table_of_cases_saved_by_a_spreadsheet_is_read(tmp_path: Path) -> None:
    root = archives.nnunet(tmp_path / "root")
    (root / "cases.csv").write_text("case,patient,\ncrlm_001,P1,\ncrlm_002,P1\n", encoding="utf-8-sig")
    built = build_cohort("nnunet", root, tmp_path / "cohort.csv")
    assert built.cohort.columns["patient"].tolist() == ["P1", "P1", "P1", "crlm_009", "crlm_009"]
    assert built.notes[0] == f"{root / 'cases.csv'}: it lacks 1 of 3 cases, each taken for a patient: crlm_009"


@pytest.mark.parametrize("file", ["dataset.json", "export.json"])
def test_an_own_export_must_say_whose_every_case_is(tmp_path: Path, file: str) -> None:
    root = archives.nnunet(tmp_path / "root")
    archives.write_dataset(root, **{"made_by": MADE_BY} if file == "dataset.json" else {})
    if file == "export.json":
        (root / file).write_text(json.dumps({"made_by": MADE_BY}))
    with pytest.raises(ManifestError, match=r"cases.csv: the file is missing.*export the data set again"):
        left_out(root)
    (root / "cases.csv").write_text("case,patient\ncrlm_001,P1\ncrlm_002,P2\n")
    built = build_cohort("nnunet", root, tmp_path / "cohort.csv")
    assert built.cohort.columns["patient"].tolist() == ["P1", "P1", "P2"]
    (problem,) = built.problems
    assert problem.patient == "crlm_009"
    assert problem.reason == "cases.csv does not say whose this case is: add a row with its case and patient"


def test_test_scans_of_a_patient_who_was_trained_on_are_left_out(tmp_path: Path) -> None:
    root = archives.nnunet(tmp_path / "root")
    archives.nifti(root / "imagesTs" / "crlm_010_0000.nii.gz", archives.ct())
    archives.nifti(root / "labelsTs" / "crlm_010.nii.gz", archives.mask(archives.C, value=2))
    (root / "cases.csv").write_text("case,patient\ncrlm_001,P1\ncrlm_002,P2\ncrlm_009,P9\ncrlm_010,P1\n")
    (root / "imagesTr" / "crlm_001_0000.nii.gz").rename(tmp_path / "lost.nii.gz")
    built = build_cohort("nnunet", root, tmp_path / "cohort.csv")
    splits = dict(zip(built.cohort.columns["patient"], built.cohort.columns["split"], strict=True))
    assert splits == {"P2": "train", "P9": "external"}
    told = [problem for problem in built.problems if "one of imagesTr too" in problem.reason]
    assert [(problem.patient, Path(problem.file).name) for problem in told] == [("P1", "crlm_010_0000.nii.gz")]


@pytest.mark.parametrize("listed", [False, True])
def test_a_prediction_of_a_case_in_both_sets_is_given_to_neither(tmp_path: Path, *, listed: bool) -> None:
    root = archives.nnunet(tmp_path / "root")
    if listed:
        files = {"images": ["imagesTr/crlm_001_0000.nii.gz"], "label": "labelsTr/crlm_001.nii.gz"}
        archives.write_dataset(root, dataset={"crlm_001": files})
    archives.nifti(root / "imagesTs" / "crlm_001_0000.nii.gz", archives.ct())
    archives.nifti(root / "labelsTs" / "crlm_001.nii.gz", archives.mask(archives.C, value=2))
    built = build_cohort("nnunet", root, tmp_path / "cohort.csv")
    assert [row.segmentation for row in built.cohort.rows if row.patient == "crlm_001"] == ["default"] * 2
    reasons = [problem.reason for problem in built.problems if Path(problem.file).parent.name == "predictions"]
    assert reasons == ["imagesTr and imagesTs have a case of this name: of which scan it is cannot be told"]
    (left,) = [problem for problem in built.problems if "one of imagesTr too" in problem.reason]
    assert Path(left.file).parent.name == "imagesTs"


def test_problems_are_told_by_the_patient_s_pseudonym(tmp_path: Path) -> None:
    root = archives.nnunet(tmp_path / "root")
    (root / "labelsTr" / "crlm_001.nii.gz").unlink()
    (root / "predictions" / "crlm_009.nii.gz").unlink()
    archives.nifti(root / "labelsTs" / "crlm_009.nii.gz", archives.mask())
    archives.nifti(root / "predictions" / "crlm_777.nii.gz", archives.mask())
    # The case crlm_002 is named as another patient's lesion.
    (root / "cases.csv").write_text("case,patient\ncrlm_001,Doe\ncrlm_002,A\ncrlm_009,A-1\ncrlm_777,Roe\n")
    (tmp_path / "key").write_bytes(bytes(range(32)))
    (tmp_path / "key").chmod(0o600)
    built = build_cohort("nnunet", root, tmp_path / "cohort.csv", keyfile=tmp_path / "key")
    told = {problem.patient for problem in built.problems}
    assert told == {pseudonym(name, bytes(range(32))) for name in ("Doe", "Roe")}
    text = "\n".join([*built.notes, *(f"{p.file} {p.reason}" for p in built.problems)])
    assert "crlm_" not in text
    for row in built.cohort.rows:
        assert row.lesion.startswith(f"{row.patient}-")


def test_no_name_of_a_table_leads_out_of_the_folder_of_masks(tmp_path: Path) -> None:
    root = archives.nnunet(tmp_path / "root")
    archives.nifti(root / "labelsTr" / "crlm_002.nii.gz", archives.mask(archives.A, archives.B, value=2))
    (root / "cases.csv").write_text(f"case,patient\ncrlm_001,../../evil\ncrlm_002,{tmp_path}/victim\ncrlm_009,P-1/2\n")
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    (tmp_path / "out").mkdir()
    built = build_cohort("nnunet", root, tmp_path / "out" / "cohort.csv")
    assert check_cohort(built.cohort, Settings()) == []
    written = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert {path.parent for path in written} == {tmp_path / "out", tmp_path / "out" / "cohort_masks"}
    assert (tmp_path / "out" / "cohort_masks" / "-..-evil_default.nrrd") in written


@pytest.mark.parametrize("case", ["../evil", "/abs/victim", "a\\b"])
def test_cases_whose_names_have_a_slash_are_refused(tmp_path: Path, case: str) -> None:
    root = archives.nnunet(tmp_path / "root")
    files = {"images": ["imagesTr/crlm_001_0000.nii.gz"], "label": "labelsTr/crlm_001.nii.gz"}
    archives.write_dataset(root, dataset={case: files})
    with pytest.raises(ManifestError, match="the name of a case in 'dataset' has a slash"):
        left_out(root)


def test_patients_named_like_another_s_scan_or_file_stay_apart(tmp_path: Path) -> None:
    root = archives.nnunet(tmp_path / "root")
    two = archives.mask(archives.A, archives.B, value=2)
    for name in ("003", "004", "005"):
        archives.nifti(root / "imagesTr" / f"crlm_{name}_0000.nii.gz", archives.ct())
        archives.nifti(root / "labelsTr" / f"crlm_{name}.nii.gz", two)
    (root / "cases.csv").write_text(
        "case,patient\ncrlm_001,A\ncrlm_002,A\ncrlm_003,A-1\ncrlm_004,A-2_default\ncrlm_005,a/1\ncrlm_009,B\n"
    )
    archives.nifti(root / "labelsTr" / "crlm_001.nii.gz", two)
    built = build_cohort("nnunet", root, tmp_path / "cohort.csv")
    masks = {(row.patient, row.image): row.mask for row in built.cohort.rows if row.segmentation == "default"}
    assert len({str(mask).lower() for mask in masks.values()}) == len(masks) == 5
    assert [lesion for lesion in built.cohort.lesions if lesion.startswith("A-")] == [
        "A-2-1", "A-2-2", "A-3-1", "A-1-1", "A-1-2", "A-2_default-1", "A-2_default-2",
    ]  # fmt: skip
    assert check_cohort(built.cohort, Settings()) == []
