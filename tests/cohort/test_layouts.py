"""Each layout on a tree of real files that are named as in its archive."""

from __future__ import annotations

import json
import re
from pathlib import Path

import archives
import numpy as np
import pytest
import SimpleITK as sitk
from dicom_files import IDENTIFYING

from hgpscale.cohort import Splitting, build_cohort, check_cohort, read_image
from hgpscale.cohort.layouts import LAYOUTS, Found, LeftOut, Options
from hgpscale.cohort.layouts.folder import mask_pattern
from hgpscale.errors import ManifestError
from hgpscale.settings import Settings


def found(layout: str, root: Path) -> list[Found]:
    return [item for item in LAYOUTS[layout].find(root, Options()) if isinstance(item, Found)]


def table(manifest: Path) -> list[str]:
    return manifest.read_text().splitlines()


def test_worc(tmp_path: Path) -> None:
    root = archives.worc(tmp_path / "CRLM")
    built = build_cohort("worc", root, tmp_path / "cohort.csv")
    assert table(tmp_path / "cohort.csv")[:3] == [
        "patient,lesion,segmentation,image,mask,diagnosis",
        "CRLM-001,CRLM-001-0,CNN,CRLM/CRLM-001/image.nii.gz,CRLM/CRLM-001/segmentation_lesion0_CNN.nii.gz,1",
        "CRLM-001,CRLM-001-0,RAD,CRLM/CRLM-001/image.nii.gz,CRLM/CRLM-001/segmentation_lesion0_RAD.nii.gz,1",
    ]
    assert built.raters == (
        ("CNN", 1, 1, 0),
        ("PhD", 1, 0, 1),
        ("RAD", 2, 1, 1),
        ("STUD1", 1, 1, 0),
        ("STUD2", 1, 1, 0),
    )
    assert [(p.patient, "expected one file, found 0" in p.reason) for p in built.problems] == [("CRLM-003", True)]
    notes = "\n".join(built.notes)
    assert (
        "CRLM-001: lesion 1 of RAD is not where PhD has it (Dice below 0.1): kept as named, counted as unmatched"
        in notes
    )
    assert "labels of what is not in the archive: CRLM-009" in notes
    assert check_cohort(built.cohort, Settings()) == []


def test_lits(tmp_path: Path) -> None:
    root = archives.lits(tmp_path / "lits")
    built = build_cohort("lits", root, tmp_path / "cohort.csv")
    one = "lits/Training_Batch1/{}-0.nii".format
    two = "lits/Training_Batch1/{}-2.nii".format
    assert table(tmp_path / "cohort.csv") == [
        "patient,lesion,image,mask,label,liver",
        f"LiTS-000,LiTS-000-1,{one('volume')},cohort_masks/LiTS-000.nrrd,1,{one('segmentation')}",
        f"LiTS-000,LiTS-000-2,{one('volume')},cohort_masks/LiTS-000.nrrd,2,{one('segmentation')}",
        f"LiTS-002,LiTS-002-1,{two('volume')},{two('segmentation')},2,{two('segmentation')}",
    ]
    assert built.notes == ("LiTS-010: segmentation-10.nii: no lesion in it",)
    assert [p.patient for p in built.problems] == ["LiTS-011"]
    split, _ = read_image(tmp_path / "cohort_masks" / "LiTS-000.nrrd")
    np.testing.assert_array_equal(split.array, archives.mask(archives.B, value=2, of=archives.mask(archives.A)))
    assert check_cohort(built.cohort, Settings()) == []


@pytest.mark.parametrize("vessel", [False, True])
def test_msd(tmp_path: Path, *, vessel: bool) -> None:
    root = archives.msd(tmp_path / "task", vessel=vessel)
    built = build_cohort("msd", root, tmp_path / "cohort.csv")
    name = "hepaticvessel" if vessel else "liver"
    assert built.cohort.lesions == (f"{name}_0-1", f"{name}_1-1", f"{name}_1-2")
    assert [row.label for row in built.cohort.rows] == [2, 1, 2]
    assert [row.liver is None for row in built.cohort.rows] == [vessel] * 3
    assert built.problems == ()


def test_msd_without_dataset(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"dataset.json: expected a task's dataset.json.*Task03_Liver"):
        build_cohort("msd", tmp_path, tmp_path / "cohort.csv")


def test_msd_of_several_kinds_of_tumours_is_refused(tmp_path: Path) -> None:
    root = archives.msd(tmp_path / "task")
    content = json.loads((root / "dataset.json").read_text())
    content["labels"] = {"0": "background", "1": "liver", "2": "cancer", "3": "metastasis"}
    (root / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(ManifestError, match=r"dataset.json: expected one label of tumours, found cancer, metastasis"):
        build_cohort("msd", root, tmp_path / "cohort.csv")


def test_the_series_and_segments_of_tcia_crlm_are_found(tmp_path: Path) -> None:
    one, two = found("tcia-crlm", archives.tcia_crlm(tmp_path))
    assert (one.patient, two.patient) == ("CRLM-CT-1001", "CRLM-CT-1002")
    assert one.image.name == "101.000000-NA-70343"
    assert [(o.roi, o.lesion, o.mask.name) for o in one.outlines] == [
        ("Tumor_1", "1", "1-1.dcm"),
        ("Tumor_2", "2", "1-1.dcm"),
    ]
    assert (one.liver, one.liver_roi) == (one.outlines[0].mask, "Liver")


def test_the_phase_that_hcc_tace_was_outlined_on_is_found(tmp_path: Path) -> None:
    (scan,) = found("hcc-tace", archives.hcc_tace(tmp_path))
    assert scan.image.name == "4.000000-Recon 2 LIVER 3 PHASE-44804"
    assert [(o.roi, o.lesion) for o in scan.outlines] == [("Mass", None)]
    assert scan.liver_roi == "Liver"


def test_dicom_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    root = archives.tcia_crlm(tmp_path)
    for path in (root / "CRLM-CT-1001").rglob("Segmentation"):
        path.unlink()
    (seg,) = (root / "CRLM-CT-1001").rglob("1-1.dcm")
    seg.write_bytes(b"no DICOM")
    for path in (root / "CRLM-CT-1002").rglob("slice*.dcm"):
        path.unlink()
    problems = {(p.patient, p.reason) for p in LAYOUTS["tcia-crlm"].find(root, Options()) if isinstance(p, LeftOut)}
    text = "\n".join(f"{patient}: {reason}" for patient, reason in sorted(problems))
    assert "CRLM-CT-1001: is not a DICOM file: it has neither" in text
    assert "CRLM-CT-1001: expected one SEG object, found 0" in text
    assert "CRLM-CT-1002: it refers to no CT series that is here once; found 0 CT series" in text


def test_tcia_crlm(tmp_path: Path) -> None:
    built = build_cohort("tcia-crlm", archives.tcia_crlm(tmp_path / "tcia"), tmp_path / "cohort.csv")
    assert built.problems == ()
    assert built.cohort.lesions == ("CRLM-CT-1001-1", "CRLM-CT-1001-2", "CRLM-CT-1002-1", "CRLM-CT-1002-2")
    assert [(row.roi, row.liver_roi) for row in built.cohort.rows] == [("Tumor_1", "Liver"), ("Tumor_2", "Liver")] * 2
    columns = built.cohort.columns
    assert columns["carcinoembryonic_antigen"].isna().tolist() == [True, True, False, False]
    assert columns["age"].isna().tolist() == [False, False, True, True]
    text = (tmp_path / "cohort.csv").read_text()
    assert not [value for value in IDENTIFYING.values() if value in text and value != "O"]


def test_hcc_tace(tmp_path: Path) -> None:
    built = build_cohort("hcc-tace", archives.hcc_tace(tmp_path / "hcc"), tmp_path / "cohort.csv")
    assert built.problems == ()
    assert [(row.lesion, row.label, row.liver_roi) for row in built.cohort.rows] == [
        ("HCC_001-1", 1, "Liver"),
        ("HCC_001-2", 2, "Liver"),
    ]
    split, _ = read_image(built.cohort.rows[0].mask)
    np.testing.assert_array_equal(split.array, archives.mask(archives.B, value=2, of=archives.mask(archives.A)))


def folder_tree(root: Path) -> Path:
    for patient in ("P1", "P2"):
        archives.nifti(root / patient / "ct.nii.gz", archives.ct())
        archives.nifti(root / patient / "liver.nii.gz", archives.mask(archives.A, archives.B))
        for rater in ("RAD", "CNN"):
            archives.nifti(root / patient / "masks" / f"seg_1_{rater}.nii.gz", archives.mask(archives.A))
    archives.nifti(root / "P2" / "masks" / "seg_2_RAD.nii.gz", archives.mask(archives.B))
    return root


def test_folder(tmp_path: Path) -> None:
    options = Options("ct.nii.gz", "masks/seg_{lesion}_{rater}.nii.gz", "liver.nii.gz")
    built = build_cohort("folder", folder_tree(tmp_path / "data"), tmp_path / "cohort.parquet", options=options)
    assert built.raters == (("CNN", 2, 2, 0), ("RAD", 3, 2, 1))
    assert [(row.lesion, row.segmentation) for row in built.cohort.rows] == [
        ("P1-1", "CNN"),
        ("P1-1", "RAD"),
        ("P2-1", "CNN"),
        ("P2-1", "RAD"),
        ("P2-2", "RAD"),
    ]
    assert built.cohort.rows[0].liver is not None
    assert check_cohort(built.cohort, Settings()) == []


def test_folder_that_is_split_matches_raters_by_overlap(tmp_path: Path) -> None:
    root = tmp_path / "data"
    archives.nifti(root / "P1" / "ct.nii.gz", archives.ct())
    archives.nifti(root / "P1" / "RAD.nii.gz", archives.mask(archives.A, archives.B))
    archives.nifti(root / "P1" / "CNN.nii.gz", archives.mask(archives.B))
    options = Options("ct.nii.gz", "{rater}.nii.gz", split=True)
    built = build_cohort("folder", root, tmp_path / "c.csv", options=options)
    assert [(row.lesion, row.segmentation, row.mask.name, row.label) for row in built.cohort.rows] == [
        ("P1-1", "RAD", "P1_RAD.nrrd", 1),
        ("P1-2", "CNN", "CNN.nii.gz", None),
        ("P1-2", "RAD", "P1_RAD.nrrd", 2),
    ]
    assert built.notes == ("P1: 1 of 2 lesions of RAD match no other rater's: kept on their own",)
    with pytest.raises(ManifestError, match=r"CNN.nii.gz: left out below --min-volume: 36 mm³"):
        build_cohort("folder", root, tmp_path / "d.csv", options=options, splitting=Splitting(min_volume=1e3))


def test_a_rater_that_no_manifest_takes_is_refused_before_any_voxel_is_read(tmp_path: Path) -> None:
    archives.nifti(tmp_path / "data" / "P1" / "a__b.nii.gz", archives.mask(archives.A)).with_name("ct.nii").write_text(
        ""
    )
    with pytest.raises(ManifestError, match="segmentation is 'a__b': '__' is reserved for column names; rename its"):
        build_cohort("folder", tmp_path / "data", tmp_path / "c.csv", options=Options("ct.nii", "{rater}.nii.gz"))


def test_masks_of_one_lesion_and_rater_twice_are_told(tmp_path: Path) -> None:
    options = Options("ct.nii.gz", "masks/seg_*_{rater}.nii.gz")
    built = build_cohort("folder", folder_tree(tmp_path / "data"), tmp_path / "cohort.csv", options=options)
    (problem,) = built.problems
    assert "seg_1_RAD.nii.gz is the same lesion and rater" in problem.reason
    assert built.cohort.lesions == ("P1", "P2")


def test_a_broken_mask_of_the_only_rater_is_told(tmp_path: Path) -> None:
    root = folder_tree(tmp_path / "data")
    (root / "P2" / "masks" / "seg_2_RAD.nii.gz").write_bytes(b"broken")
    options = Options("ct.nii.gz", "masks/seg_{lesion}_RAD.nii.gz")
    built = build_cohort("folder", root, tmp_path / "cohort.csv", options=options)
    assert built.cohort.lesions == ("P1-1", "P2-1")
    assert [Path(problem.file).name for problem in built.problems] == ["seg_2_RAD.nii.gz"]


@pytest.mark.parametrize(
    ("glob", "name", "groups"),
    [
        ("seg_{lesion}_{rater}.nii.gz", "seg_2_RAD.nii.gz", {"lesion": "2", "rater": "RAD"}),
        ("*/{rater}.n*", "masks/A.nrrd", {"rater": "A"}),
        ("[ab]?.nii", "a1.nii", {}),
        ("*.nii", "deep/a.nii", None),
        ("a.nii", "axnii", None),
    ],
)
def test_mask_patterns(glob: str, name: str, groups: dict[str, str] | None) -> None:
    match = mask_pattern(glob).fullmatch(name)
    assert (match.groupdict() if match else None) == groups


@pytest.mark.parametrize("glob", ["{who}.nii", "{rater}{rater}.nii"])
def test_wrong_placeholders_are_refused(glob: str) -> None:
    with pytest.raises(ManifestError, match=re.escape("expected the placeholders {lesion} and {rater}")):
        mask_pattern(glob)


def test_broken_files_are_told_and_the_others_are_written(tmp_path: Path) -> None:
    root = archives.worc(tmp_path / "CRLM")
    (root / "CRLM-001" / "image.nii.gz").write_bytes(b"broken")
    (root / "CRLM-002" / "segmentation_lesion0_STUD1.nii.gz").write_bytes(b"broken")
    shifted = sitk.ReadImage(str(root / "CRLM-002" / "segmentation_lesion0_STUD2.nii.gz"))
    shifted.SetOrigin((5, 0, 0))
    sitk.WriteImage(shifted, str(root / "CRLM-002" / "segmentation_lesion1_STUD2.nii.gz"))
    built = build_cohort("worc", root, tmp_path / "cohort.csv")
    assert [(row.lesion, row.segmentation) for row in built.cohort.rows] == [("CRLM-002-0", "STUD2")]
    assert [Path(p.file).name for p in built.problems] == [
        "CRLM-003",
        "image.nii.gz",
        "segmentation_lesion0_STUD1.nii.gz",
        "segmentation_lesion1_STUD2.nii.gz",
    ]
    assert "not on the image's grid: origin is" in built.problems[-1].reason
