"""What an export writes, what it refuses, and how it goes on."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import archives
import numpy as np
import pytest
import SimpleITK as sitk
from cohorts import A, B, C, manifest, small, voxels, with_liver
from dicom_files import write_series
from test_cli import assert_refused, run

from hgpscale.cohort import read_manifest
from hgpscale.deep import Exported, export_dataset
from hgpscale.deep.cases import case_names
from hgpscale.deep.datasets.layouts import LAYOUTS
from hgpscale.deep.files import write_volume
from hgpscale.errors import DeepError, LearnError, ManifestError

PATTERNS: dict[str, dict[str, Any]] = {
    "hgp_desmoplastic": {"P1_L1": 60, "P2_L1": 50, "P3_L1": 0},
    "hgp_replacement": {"P1_L1": 40, "P2_L1": 50, "P3_L1": 20},
    "hgp_pushing": {"P1_L1": 0, "P2_L1": 0, "P3_L1": 80},
}
ONE = {"P1": (A,), "P2": (B,), "P3": (C,)}


def files(exported: Exported) -> list[str]:
    return sorted(p.relative_to(exported.folder).as_posix() for p in exported.folder.rglob("*") if p.is_file())


def table(exported: Exported) -> list[str]:
    return (exported.folder / "cases.csv").read_text().splitlines()


def raters(folder: Path) -> Path:
    path = small(folder, {"P1": (A, B), "P2": (C,)})
    rows = [f"{line},RAD\n" for line in path.read_text().splitlines()[1:]]
    more = "P1,P1_L1,P1.nii.gz,P1_L1.nii.gz,CNN\n"
    path.write_text("".join(["patient,lesion,image,mask,segmentation\n", *rows, more]))
    return path


def test_several_raters_are_named_unless_one_is_chosen(tmp_path: Path) -> None:
    path = raters(tmp_path / "in")
    with pytest.raises(DeepError, match=r"it has 2 segmentations \(RAD, CNN\): say --segmentation"):
        export_dataset(path, tmp_path, "nnunet")
    with pytest.raises(DeepError, match=r"segmentation 'rad' is not in it; it has RAD, CNN"):
        export_dataset(path, tmp_path, "nnunet", segmentation="rad")
    exported = export_dataset(path, tmp_path, "nnunet", segmentation="CNN")
    assert exported.notes == ("lesions that CNN does not outline are background: P1_L2, P2_L1",)
    assert table(exported) == ["case,patient,split,lesion", "P1,P1,train,P1_L1"]
    np.testing.assert_array_equal(voxels(exported.folder / "labelsTr/P1.nii.gz"), archives.mask(A))


def test_the_liver_is_drawn_where_every_scan_has_one(tmp_path: Path) -> None:
    exported = export_dataset(with_liver(small(tmp_path / "in", ONE), "P1", "P3"), tmp_path, "nnunet")
    assert exported.notes == ("label maps are without liver, as the manifest has none of P2",)
    assert json.loads((exported.folder / "dataset.json").read_text())["labels"] == {"background": 0, "tumour": 1}
    detection = export_dataset(tmp_path / "in" / "cohort.csv", tmp_path, "nndetection")
    assert detection.notes == ()


def test_a_scan_whose_liver_cannot_be_told_is_left_out(tmp_path: Path) -> None:
    path = with_liver(small(tmp_path / "in", {"P1": (A, B), "P2": (C,)}), "P1", "P2")
    path.write_text(path.read_text().replace("P1_L2.nii.gz,P1_liver.nii.gz", "P1_L2.nii.gz,P2_liver.nii.gz"))
    (problem,) = export_dataset(path, tmp_path, "nnunet").problems
    assert problem.reason == f"{tmp_path}/in/P1.nii.gz: its lesions have 2 different livers, expected one"


def test_lesions_that_overlap_are_told(tmp_path: Path) -> None:
    wide = (slice(1, 5), slice(1, 8), slice(1, 8))
    exported = export_dataset(small(tmp_path / "in", {"P1": (A, wide, B)}), tmp_path, "nndetection")
    assert exported.notes == (
        "P1: lesions P1_L2 and P1_L1 share 18 voxels: P1_L1 has them",
        "P1: lesions P1_L2 and P1_L3 share 6 voxels: P1_L3 has them",
    )
    expected = archives.mask(B, value=3, of=archives.mask(A, value=1, of=archives.mask(wide, value=2)))
    np.testing.assert_array_equal(voxels(exported.folder / "raw_splitted/labelsTr/P1.nii.gz"), expected)


def test_a_lesion_that_is_there_twice_is_a_problem(tmp_path: Path) -> None:
    exported = export_dataset(small(tmp_path / "in", {"P1": (A, A), "P2": (B,)}), tmp_path, "nnunet")
    (problem,) = exported.problems
    assert problem.reason == "lesion P1_L1: other lesions cover it whole; is it there twice?"
    assert [case.name for case in exported.cases] == ["P2"]


def test_classes_by_growth_pattern(tmp_path: Path) -> None:
    path = small(tmp_path / "in", ONE, **PATTERNS)
    exported = export_dataset(path, tmp_path, "nndetection", classes="hgp")
    assert table(exported) == [
        "case,patient,split,lesion,instance,class",
        "P1,P1,train,P1_L1,1,desmoplastic",
        "P3,P3,train,P3_L1,1,pushing",
    ]
    (problem,) = exported.problems
    assert (problem.patient, problem.file) == ("P2", f"{tmp_path}/in/P2.nii.gz")
    assert problem.reason.startswith("lesion P2_L1: no growth pattern, or none that is larger than the others")
    with pytest.raises(DeepError, match=r"classes hgp: layout nnunet has no class a lesion; give --layout nndetection"):
        export_dataset(path, tmp_path, "nnunet", classes="hgp")
    with pytest.raises(DeepError, match=r"classes hgp take the columns hgp_desmoplastic, .* does not have"):
        export_dataset(small(tmp_path / "b", ONE), tmp_path, "nndetection", classes="hgp")
    unknown = {name: {"P1_L1": ""} for name in PATTERNS}
    with pytest.raises(DeepError, match=r"no scan to train on: P1: lesion P1_L1: no growth pattern"):
        export_dataset(small(tmp_path / "c", {"P1": (A,)}, **unknown), tmp_path, "nndetection", classes="hgp")


@pytest.mark.parametrize("what", ["image missing", "mask broken", "mask empty", "mask elsewhere", "no label", "nan"])
def test_a_scan_that_cannot_be_used_is_listed_and_the_others_are_written(tmp_path: Path, what: str) -> None:
    path = small(tmp_path / "in", ONE)
    image, mask = tmp_path / "in" / "P2.nii.gz", tmp_path / "in" / "P2_L1.nii.gz"
    if what == "image missing":
        image.unlink()
    elif what == "mask broken":
        mask.write_bytes(mask.read_bytes()[:-20])
    elif what == "mask empty":
        archives.nifti(mask, archives.mask())
    elif what == "mask elsewhere":
        moved = sitk.ReadImage(str(mask))
        moved.SetOrigin((5, 0, 0))
        sitk.WriteImage(moved, str(mask))
    elif what == "no label":
        archives.nifti(mask, archives.mask(A, value=1, of=archives.mask(B, value=2)))
    else:
        archives.nifti(image, np.full(archives.SIZE, np.nan, np.float32))
    exported = export_dataset(path, tmp_path, "nnunet")
    (problem,) = exported.problems
    reason = {
        "image missing": "the file is missing",
        "mask broken": "truncated",
        "mask empty": "the mask is empty",
        "mask elsewhere": "lesion P2_L1: not on the image's grid: origin is (0, 0, 0) in the image",
        "no label": "the mask holds 2 labels (1, 2)",
        "nan": "it holds NaN or infinite voxels",
    }[what]
    assert reason in problem.reason
    assert (problem.patient, problem.file) == ("P2", str(image if what in ("image missing", "nan") else mask))
    assert files(exported) == [
        "cases.csv", "dataset.json", "export.json", "imagesTr/P1_0000.nii.gz", "imagesTr/P3_0000.nii.gz",
        "labelsTr/P1.nii.gz", "labelsTr/P3.nii.gz",
    ]  # fmt: skip
    assert json.loads((exported.folder / "dataset.json").read_text())["numTraining"] == 2


def test_nothing_to_train_on_is_refused(tmp_path: Path) -> None:
    path = small(tmp_path / "in", {"P1": (A,), "P2": (B,)}, split={"P1": "train", "P2": "external"})
    (tmp_path / "in" / "P1.nii.gz").unlink()
    with pytest.raises(DeepError, match=r"no scan to train on could be written; .*P1.nii.gz: .*the file is missing"):
        export_dataset(path, tmp_path, "nnunet")
    assert not (tmp_path / "Dataset101_HGP" / "dataset.json").exists()
    path.write_text(path.read_text().replace("train", "external"))
    with pytest.raises(DeepError, match=r"no scan to train on: all are of split external"):
        export_dataset(path, tmp_path, "nnunet")


def test_a_scan_of_two_patients_is_refused(tmp_path: Path) -> None:
    path = small(tmp_path / "in", {"P1": (A,), "P2": (B,)})
    path.write_text(path.read_text().replace("P2.nii.gz", "P1.nii.gz"))
    with pytest.raises(DeepError, match=r"P1.nii.gz: it is the scan of P1 and P2, expected one patient a scan"):
        export_dataset(path, tmp_path, "nnunet")


def test_folds_are_by_patient_and_without_what_was_left_out(tmp_path: Path) -> None:
    scans = {f"s{number}": (A,) for number in range(6)}
    patients = {"s0": "P0", "s1": "P0", "s2": "P2", "s3": "P3", "s4": "P4", "s5": "P5"}
    path = small(tmp_path / "in", scans, patients=patients, split={"s5": "external"})
    splits = tmp_path / "splits.csv"
    splits.write_text(",0_train,0_test,1_train,1_test\n0,P0,P2,P2,P0\n1,P3,,P3,\n")
    exported = export_dataset(path, tmp_path, "nnunet", splits=splits)
    assert exported.notes == ("split is empty of P0, P2, P3, P4: they are trained on", "in no fold: P4")
    assert json.loads((exported.folder / "splits_final.json").read_text()) == [
        {"train": ["P0", "P0-2", "P3"], "val": ["P2"]},
        {"train": ["P2", "P3"], "val": ["P0", "P0-2"]},
    ]
    (tmp_path / "in" / "s2.nii.gz").unlink()
    problems = export_dataset(path, tmp_path, "nnunet", splits=splits, force=True).problems
    assert [(problem.patient, problem.reason) for problem in problems[1:]] == [
        ("", "fold 0: no scan is left to validate on")
    ]
    splits.write_text(",0_train,0_test\n0,P0,P0\n")
    with pytest.raises(LearnError, match=r"patient P0 is on both sides"):
        export_dataset(path, tmp_path, "nnunet", splits=splits)
    splits.write_text(",0_train,0_test\n0,P0,P5\n")
    with pytest.raises(DeepError, match=r"split 0 has patients of split external \(P5\), whose scans are kept for"):
        export_dataset(path, tmp_path, "nnunet", splits=splits)
    assert not (export_dataset(path, tmp_path, "nnunet").folder / "splits_final.json").exists()


def test_splits_of_the_whole_cohort_serve_for_one_segmentation(tmp_path: Path) -> None:
    splits = tmp_path / "splits.csv"
    splits.write_text("0_train,0_test,1_train,1_test\nP1,P2,P2,P1\n")
    exported = export_dataset(raters(tmp_path / "in"), tmp_path, "nnunet", segmentation="CNN", splits=splits)
    assert json.loads((exported.folder / "splits_final.json").read_text()) == [
        {"train": ["P1"], "val": []},
        {"train": [], "val": ["P1"]},
    ]
    splits.write_text("0_train,0_test\nP1,P9\n")
    with pytest.raises(LearnError, match=r"patient P9 is not in the cohort"):
        export_dataset(tmp_path / "in" / "cohort.csv", tmp_path, "nnunet", segmentation="CNN", splits=splits)


def test_other_splits_are_the_same_export(tmp_path: Path) -> None:
    path, splits = small(tmp_path / "in", ONE), tmp_path / "splits.csv"
    for train, val in (("P1", "P2"), ("P2", "P1")):
        splits.write_text(f"0_train,0_test\n{train},{val}\n")
        folder = export_dataset(path, tmp_path, "nnunet", splits=splits).folder
        assert json.loads((folder / "splits_final.json").read_text()) == [{"train": [train], "val": [val]}]


def test_the_same_export_goes_on_and_another_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = small(tmp_path / "in", ONE)

    def interrupted(to: Path, volume: Any) -> None:
        if "P2_0000" in to.name:
            raise KeyboardInterrupt
        write_volume(to, volume)

    monkeypatch.setattr("hgpscale.deep.datasets.export.write_volume", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export_dataset(path, tmp_path, "nnunet")
    folder = tmp_path / "Dataset101_HGP"
    assert not (folder / "dataset.json").exists()
    first = folder / "imagesTr" / "P1_0000.nii.gz"
    made: list[str] = []

    def noted(to: Path, volume: Any) -> None:
        made.append(to.name)
        write_volume(to, volume)

    monkeypatch.setattr("hgpscale.deep.datasets.export.write_volume", noted)
    archives.nifti(tmp_path / "in" / "P1_L1.nii.gz", archives.mask(C))
    (folder / "imagesTr" / ".7.partial.P2_0000.nii.gz").write_bytes(b"of a process that was killed")
    exported = export_dataset(path, tmp_path, "nnunet")
    assert made == ["P1.nii.gz", "P2.nii.gz", "P2_0000.nii.gz", "P3.nii.gz", "P3_0000.nii.gz"]
    np.testing.assert_array_equal(voxels(folder / "labelsTr" / "P1.nii.gz"), archives.mask(C))
    assert (len(files(exported)), files(exported)[3]) == (9, "imagesTr/P1_0000.nii.gz")
    later = first.stat().st_mtime + 10
    os.utime(tmp_path / "in" / "P1.nii.gz", (later, later))
    made.clear()
    export_dataset(path, tmp_path, "nnunet")
    assert "P1_0000.nii.gz" in made
    with pytest.raises(DeepError, match=r"holds what was exported of another manifest or with other options"):
        export_dataset(small(tmp_path / "other", {"Q": (A,)}), tmp_path, "nnunet")
    exported = export_dataset(tmp_path / "other" / "cohort.csv", tmp_path, "nnunet", force=True)
    assert [name for name in files(exported) if name.startswith("images")] == ["imagesTr/Q_0000.nii.gz"]


def test_a_place_that_is_taken_is_refused(tmp_path: Path) -> None:
    path = small(tmp_path / "in", ONE)
    folder = tmp_path / "Dataset101_HGP"
    folder.mkdir()
    export_dataset(path, tmp_path, "nnunet")  # an empty folder takes no place
    with pytest.raises(DeepError, match=r"Dataset101_HGP has this number already; give another by --dataset"):
        export_dataset(path, tmp_path, "nnunet", name="CRLM")
    for content in ("{", "[]", '{"made_by": "me"}'):
        (folder / "export.json").write_text(content)
        with pytest.raises(DeepError, match=r"Dataset101_HGP: is there already, and no export has made it"):
            export_dataset(path, tmp_path, "nnunet", force=True)
    assert (folder / "dataset.json").exists()


@pytest.mark.parametrize(
    ("number", "name", "layout"),
    [(0, "HGP", "nnunet"), (1000, "HGP", "nnunet"), (1, "a/b", "nnunet"), (1, "x", "coco")],
)
def test_options_out_of_range_are_refused(tmp_path: Path, number: int, name: str, layout: str) -> None:
    path = small(tmp_path / "in", {"P1": (A,)})
    with pytest.raises(DeepError, match=r"expected a number from 1 to 999, and a name|expected one of nnunet, nndet"):
        export_dataset(path, tmp_path, layout, number=number, name=name)


def test_a_disk_that_refuses_stops_the_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = small(tmp_path / "in", {"P1": (A,)})

    def full(*_: Any, **__: Any) -> None:
        raise RuntimeError("Exception thrown in SimpleITK")

    monkeypatch.setattr(sitk, "WriteImage", full)
    with pytest.raises(DeepError, match=r"P1.nii.gz: cannot be written: SimpleITK cannot write uint8 voxels.*the disk"):
        export_dataset(path, tmp_path, "nnunet")
    monkeypatch.undo()
    (tmp_path / "file").write_text("")
    with pytest.raises(DeepError, match=r"/file: cannot be written: File exists; mend that"):
        export_dataset(path, tmp_path / "file", "nnunet")


def test_equal_cohorts_give_equal_bytes(tmp_path: Path) -> None:
    path = small(tmp_path / "in", ONE)
    one, two = (export_dataset(path, tmp_path / name, "nndetection") for name in ("a", "b"))
    assert len(files(one)) == 12
    assert [(one.folder / name).read_bytes() for name in files(one)] == [
        (two.folder / name).read_bytes() for name in files(two)
    ]


def test_names_of_cases() -> None:
    patients = ["CRLM-001", "Müller 1", "crlm-001", "患者", "CRLM-001", "M_2", "../x", "患"]
    names = case_names(patients)
    assert names == ["CRLM-001", "M-ller-1", "crlm-001-2", "case", "CRLM-001-3", "M_2", "x", "case-2"]


def test_many_lesions_of_a_scan_have_numbers_of_their_own(tmp_path: Path) -> None:
    archives.nifti(tmp_path / "P1.nii.gz", archives.ct())
    labels = np.zeros(archives.SIZE, np.uint16)
    labels.flat[:300] = np.arange(1, 301)
    archives.nifti(tmp_path / "m.nii.gz", labels)
    rows = [
        {"patient": "P1", "lesion": f"L{n}", "image": "P1.nii.gz", "mask": "m.nii.gz", "label": n}
        for n in range(1, 301)
    ]
    exported = export_dataset(manifest(tmp_path / "cohort.csv", rows), tmp_path, "nndetection")
    found = voxels(exported.folder / "raw_splitted/labelsTr/P1.nii.gz")
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, labels)


def test_command(tmp_path: Path) -> None:
    path = small(tmp_path / "in", ONE, split={"P3": "external"})
    (tmp_path / "in" / "P2.nii.gz").unlink()
    said = run("deep", "export", path, tmp_path / "raw", "--layout", "nnunet", "--dataset", 3, "--name", "X")
    assert said.exit_code == 1
    folder = tmp_path / "raw" / "Dataset003_X"
    assert said.stdout == (
        f"{folder}: 1 scan to train on, 1 to test, 2 lesions; "
        "next: nnUNetv2_plan_and_preprocess -d 3 --verify_dataset_integrity\n"
    )
    note, line = said.stderr.splitlines()
    assert note == "note: split is empty of P1, P2: they are trained on"
    assert line.startswith(f"left out: P2: {tmp_path}/in/P2.nii.gz: the file is missing")
    archives.nifti(tmp_path / "in" / "P2.nii.gz", archives.ct())
    quiet = run("deep", "export", path, tmp_path / "raw", "--layout", "nnunet", "--dataset", 3, "--name", "X", "-q")
    assert (quiet.exit_code, quiet.stdout, quiet.stderr) == (0, "", "")
    assert_refused(run("deep", "export", path, tmp_path, "--layout", "coco"), "--layout", "hgpscale deep export --help")
    assert_refused(run("deep", "export", path, tmp_path), "--layout")
    assert_refused(run("deep"), "hgpscale deep --help")
    assert_refused(run("deep", "export", tmp_path / "no.csv", tmp_path, "--layout", "nnunet"), "no.csv")
    with pytest.raises(ManifestError):
        read_manifest(tmp_path / "no.csv")


def test_help_knows_every_layout() -> None:
    found = run("deep", "export", "--help")
    assert found.exit_code == 0
    said = " ".join(found.stdout.split())
    assert "Example: hgpscale deep export cohort.csv nnUNet_raw --layout nnunet" in said
    assert f"<{'|'.join(LAYOUTS)}>" in said
    assert "export" in run("deep", "--help").stdout


def spelled(folder: Path, how: str) -> list[Path]:
    """Write a scan, and return paths of it for two lesions."""
    if how.startswith("dicom"):
        files = write_series(folder / "s", archives.ct(), archives.SPACING)
        return [folder / "s", files[1]] if how == "dicom folder" else [files[0], files[1]]
    scan = archives.nifti(folder / "a.nii.gz", archives.ct())
    (folder / "sub").mkdir()
    (folder / "link.nii.gz").symlink_to(scan)
    return [scan, folder / "link.nii.gz" if how == "link" else folder / "sub" / ".." / "a.nii.gz"]


@pytest.mark.parametrize("how", ["dots", "link", "dicom folder", "dicom file"])
def test_a_scan_of_two_spellings_is_one_case(tmp_path: Path, how: str) -> None:
    rows = []
    for number, (image, place) in enumerate(zip(spelled(tmp_path / "in", how), (A, B), strict=True)):
        mask = archives.nifti(tmp_path / "in" / f"m{number}.nii.gz", archives.mask(place))
        rows.append({"patient": "P1", "lesion": f"L{number}", "image": str(image), "mask": str(mask)})
    liver = archives.nifti(tmp_path / "in" / "liver.nii.gz", archives.mask(A, B))
    (tmp_path / "in" / "other.nii.gz").symlink_to(liver)
    for row, name in zip(rows, ("liver", "other"), strict=True):
        row["liver"] = str(tmp_path / "in" / f"{name}.nii.gz")
    path = manifest(tmp_path / "cohort.csv", rows)
    exported = export_dataset(path, tmp_path, "nnunet")
    assert [(case.name, len(case.rows)) for case in exported.cases] == [("P1", 2)]
    np.testing.assert_array_equal(voxels(exported.folder / "labelsTr/P1.nii.gz"), 2 * archives.mask(A, B))
    rows[1]["patient"] = "P2"
    with pytest.raises(DeepError, match=r"it is the scan of P1 and P2, expected one patient a scan"):
        export_dataset(manifest(path, rows), tmp_path / "b", "nnunet")


def test_series_of_one_folder_are_several_scans(tmp_path: Path) -> None:
    files = [write_series(tmp_path / "s", archives.ct() + n, archives.SPACING, prefix=f"s{n}-") for n in (0, 1)]
    rows = []
    for number, (image, place) in enumerate([(files[0][0], A), (files[1][0], B), (files[1][2], C)]):
        mask = archives.nifti(tmp_path / f"m{number}.nii.gz", archives.mask(place))
        rows.append({"patient": "P1", "lesion": f"L{number}", "image": str(image), "mask": str(mask)})
    exported = export_dataset(manifest(tmp_path / "cohort.csv", rows), tmp_path, "nnunet")
    assert [[row.lesion for row in case.rows] for case in exported.cases] == [["L0"], ["L1", "L2"]]
    np.testing.assert_array_equal(voxels(exported.folder / "imagesTr/P1-2_0000.nii.gz"), archives.ct() + 1)
