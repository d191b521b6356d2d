"""TotalSegmentator's outputs as a cohort: trees in its naming, and its own files where they are."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import archives
import numpy as np
import pytest
import SimpleITK as sitk

from hgpscale.cohort import Splitting, build_cohort, check_cohort, open_image, read_mask, read_outlines
from hgpscale.cohort.layouts import LAYOUTS, Found, LeftOut, Options
from hgpscale.cohort.layouts.totalsegmentator import label_table
from hgpscale.errors import ManifestError
from hgpscale.settings import Settings
from hgpscale.volume import Volume


def find(root: Path, image: str = "") -> tuple[list[Found], list[LeftOut]]:
    items = list(LAYOUTS["totalsegmentator"].find(root, Options(image=image)))
    return [i for i in items if isinstance(i, Found)], [i for i in items if isinstance(i, LeftOut)]


def test_files_a_class_multilabel_files_and_dicom(tmp_path: Path) -> None:
    root = archives.totalsegmentator(tmp_path / "ts")
    built = build_cohort("totalsegmentator", root, tmp_path / "cohort.csv")
    assert (tmp_path / "cohort.csv").read_text().splitlines() == [
        "patient,lesion,segmentation,image,mask,label,liver,liver_roi",
        "s01,s01-1,liver_lesions,ts/s01/ct.nii.gz,cohort_masks/s01.nrrd,1,ts/s01/segmentations/liver.nii.gz,",
        "s01,s01-2,liver_lesions,ts/s01/ct.nii.gz,cohort_masks/s01.nrrd,2,ts/s01/segmentations/liver.nii.gz,",
        "s02,s02-1,liver_tumor,ts/s02/scan.nii.gz,ts/s02/seg.nii.gz,7,ts/s02/seg.nii.gz,5",
        "s03,s03-1,liver_lesions,ts/s03/dicom,ts/s03/out/liver_lesions.nii.gz,,ts/s03/out/liver.nii.gz,",
    ]
    (problem,) = built.problems
    assert problem.patient == "s04"
    assert problem.reason.startswith("no lesion of TotalSegmentator: expected liver_lesions (task liver_lesions)")
    assert check_cohort(built.cohort, Settings()) == []


def test_an_empty_output_is_told(tmp_path: Path) -> None:
    root = archives.totalsegmentator(tmp_path / "ts")
    archives.nifti(root / "s03" / "out" / "liver_lesions.nii.gz", archives.mask())
    built = build_cohort("totalsegmentator", root, tmp_path / "cohort.csv")
    assert built.notes == ("s03: liver_lesions.nii.gz: no lesion in it",)


def flip(path: Path) -> None:
    """Write a mask with the same voxels in space, its rows stored the other way round."""
    sitk.WriteImage(sitk.Flip(sitk.ReadImage(str(path)), (False, True, True)), str(path))


def test_masks_whose_axes_run_the_other_way_are_laid_onto_the_image_s_grid(tmp_path: Path) -> None:
    root = archives.totalsegmentator(tmp_path / "ts")
    for name in ("liver", "liver_lesions"):
        flip(root / "s03" / "out" / f"{name}.nii.gz")
    flip(root / "s02" / "seg.nii.gz")  # SimpleITK writes no extension: the label table is gone
    archives.name_classes(root / "s02" / "seg.nii.gz", {"spleen": 1, "liver": 5, "liver_tumor": 7})
    built = build_cohort("totalsegmentator", root, tmp_path / "cohort.csv")
    assert [problem.patient for problem in built.problems] == ["s04"]
    assert check_cohort(built.cohort, Settings()) == []
    rows = {row.patient: row for row in built.cohort.rows}
    for patient, place in {"s02": archives.C, "s03": archives.A}.items():
        row, grid = rows[patient], open_image(rows[patient].image).geometry
        assert (row.mask.name, row.label) == (f"{patient}.nrrd", 1)
        np.testing.assert_array_equal(read_mask(row.mask)[0].array, archives.mask(place))
        assert row.liver is not None
        organ = read_outlines(row.liver, grid).organ(row.liver_roi)
        assert (row.liver.name, organ.geometry, organ.start) == (f"{patient}.liver.nrrd", grid, (0, 0, 0))
        # In the multilabel file the lesion's one voxel is not the liver's.
        assert int(organ.array.sum()) == 6 * 11 * 11 - (patient == "s02")
    again = build_cohort("totalsegmentator", root, tmp_path / "cohort.csv", force=True)
    assert len(list((tmp_path / "cohort_masks").iterdir())) == 5
    assert check_cohort(again.cohort, Settings()) == []


@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("off", [2e-5, 0.05])
def test_a_mask_that_is_shifted_is_laid_onto_the_grid_or_refused(tmp_path: Path, *, flipped: bool, off: float) -> None:
    root = archives.totalsegmentator(tmp_path / "ts")
    for patient in ("s01", "s02", "s04"):
        shutil.rmtree(root / patient)
    for path in (root / "s03" / "out").iterdir():
        if flipped:
            flip(path)
        moved = sitk.ReadImage(str(path))
        moved.SetOrigin(np.add(moved.GetOrigin(), (off, 0, 0)))
        sitk.WriteImage(moved, str(path))
    if off > 0.01:
        with pytest.raises(ManifestError, match=r"liver.nii.gz: not on the image's grid: origin is .* in the image"):
            build_cohort("totalsegmentator", root, tmp_path / "cohort.csv")
        return
    built = build_cohort("totalsegmentator", root, tmp_path / "cohort.csv")
    (row,) = built.cohort.rows
    assert (built.problems, check_cohort(built.cohort, Settings())) == ((), [])
    np.testing.assert_array_equal(read_mask(row.mask)[0].array, archives.mask(archives.A))
    assert row.liver is not None
    assert open_image(row.liver).geometry == open_image(row.image).geometry


def test_what_cannot_be_told_apart_is_left_out(tmp_path: Path) -> None:
    root = archives.totalsegmentator(tmp_path / "ts")
    archives.nifti(root / "s02" / "other.nii.gz", archives.ct())
    archives.nifti(root / "s01" / "again" / "liver_lesions.nii.gz", archives.mask(archives.A))
    archives.nifti(root / "s01" / "liver_tumor.nii", archives.mask(archives.A))
    archives.nifti(root / "s01" / "again" / "liver.nii.gz", archives.mask(archives.A))
    shutil.rmtree(root / "s03" / "dicom")
    found, problems = find(root)
    assert [(scan.patient, [o.segmentation for o in scan.outlines], scan.liver) for scan in found] == [
        ("s01", ["liver_tumor"], None)
    ]
    assert [(problem.patient, problem.reason) for problem in problems[:4]] == [
        (
            "s01",
            "liver_lesions: expected it in one file, found 2: again/liver_lesions.nii.gz, "
            "segmentations/liver_lesions.nii.gz",
        ),
        ("s01", "liver: expected it in one file, found 2: again/liver.nii.gz, segmentations/liver.nii.gz"),
        ("s02", "expected one CT, found 2 images (other.nii.gz, scan.nii.gz): name it ct.nii.gz, or give --image"),
        ("s03", "expected one CT, a file or a DICOM series, found 0; give --image"),
    ]
    found, _ = find(root, "[cs]*[tn].nii.gz")
    assert [scan.image.name for scan in found] == ["ct.nii.gz", "scan.nii.gz"]


def test_a_multilabel_file_may_be_named_after_its_class(tmp_path: Path) -> None:
    root = archives.totalsegmentator(tmp_path / "ts")
    archives.name_classes(root / "s01" / "segmentations" / "liver_lesions.nii.gz", {"liver_lesions": 1})
    (root / "s02" / "seg.nii.gz").rename(root / "s02" / "liver_lesions.nii.gz")  # holds liver and liver_tumor
    found, problems = find(root)
    assert [(scan.patient, [(o.segmentation, o.label) for o in scan.outlines]) for scan in found] == [
        ("s01", [("liver_lesions", 1)]),
        ("s02", [("liver_tumor", 7)]),
        ("s03", [("liver_lesions", None)]),
    ]
    assert [problem.patient for problem in problems] == ["s04"]


@pytest.mark.parametrize("broken", ["short", "no gzip", "cut", "endless"])
def test_a_broken_label_table_is_none(tmp_path: Path, broken: str) -> None:
    path = archives.nifti(tmp_path / "seg.nii.gz", archives.mask(archives.A))
    assert label_table(path) == {}
    archives.name_classes(path, {"liver": 1, "liver_tumor": 2})
    assert label_table(path) == {"liver": 1, "liver_tumor": 2}
    content = bytearray(gzip.decompress(path.read_bytes()))
    if broken == "endless":
        content[108:112] = np.float32(np.inf).tobytes()
        path.write_bytes(gzip.compress(bytes(content)))
    else:
        parts = {"short": gzip.compress(bytes(content[:40])), "no gzip": bytes(content), "cut": path.read_bytes()[:60]}
        path.write_bytes(parts[broken])
    assert label_table(path) == {}


@pytest.mark.shared_data
def test_real_outputs(tmp_path: Path, shared_data: Path) -> None:
    files = shared_data / "liver" / "totalsegmentator" / "tests" / "reference_files"
    assert label_table(files / "example_seg.nii.gz")["liver"] == 5
    assert label_table(files / "example_ct_sm.nii.gz") == label_table(files / "example_seg_fast" / "liver.nii.gz") == {}
    root = tmp_path / "ts"
    for patient, output in {"one": "example_seg_fast", "ml": "example_seg.nii.gz"}.items():
        (root / patient).mkdir(parents=True)
        (root / patient / "scan.nii.gz").symlink_to(files / "example_ct_sm.nii.gz")
        (root / patient / output).symlink_to(files / output)
    # The files are of the task total, which finds no lesions: a part of the liver stands for one.
    organ = sitk.ReadImage(str(files / "example_seg_fast" / "liver.nii.gz"))
    lesion = sitk.GetArrayFromImage(organ)
    lesion[:20] = 0
    drawn = sitk.GetImageFromArray(lesion)
    drawn.CopyInformation(organ)
    for patient in ("one", "ml"):
        sitk.WriteImage(drawn, str(root / patient / "liver_lesions.nii.gz"))
    # `rglob` does not follow links to folders.
    (root / "one" / "example_seg_fast").unlink()
    (root / "one" / "example_seg_fast").mkdir()
    for name in ("liver", "spleen", "colon"):
        link = root / "one" / "example_seg_fast" / f"{name}.nii.gz"
        link.symlink_to(files / "example_seg_fast" / f"{name}.nii.gz")
    built = build_cohort("totalsegmentator", root, tmp_path / "cohort.csv")
    assert built.problems == ()
    livers = {}
    for row in built.cohort.rows:
        assert row.liver is not None
        livers[row.patient] = read_outlines(row.liver, open_image(row.image).geometry).organ(row.liver_roi)
    assert {row.patient: row.liver_roi for row in built.cohort.rows} == {"ml": "5", "one": ""}
    whole = sitk.GetArrayFromImage(sitk.ReadImage(str(files / "example_seg.nii.gz")))
    assert int(livers["ml"].array.sum()) == int((whole == 5).sum())
    assert int(livers["one"].array.sum()) == int(sitk.GetArrayFromImage(organ).sum())


@pytest.mark.shared_data
def test_real_outputs_of_a_dicom_series(tmp_path: Path, shared_data: Path) -> None:
    files = shared_data / "liver" / "totalsegmentator" / "tests" / "reference_files"
    root = tmp_path / "ts"
    (root / "p").mkdir(parents=True)
    shutil.copytree(files / "example_ct_dicom", root / "p" / "ct")
    shutil.copy(files / "example_seg_dicom.nii.gz", root / "p" / "seg.nii.gz")
    seg = sitk.ReadImage(str(files / "example_seg_dicom.nii.gz"))
    # No lesions are in it: the spleen stands for one.
    sitk.WriteImage(seg == 1, str(root / "p" / "liver_lesions.nii.gz"))
    built = build_cohort("totalsegmentator", root, tmp_path / "cohort.csv", splitting=Splitting(min_volume=1000))
    assert (built.problems, check_cohort(built.cohort, Settings())) == ((), [])
    row = built.cohort.rows[0]
    grid = open_image(row.image).geometry
    assert row.liver is not None
    organ = read_outlines(row.liver, grid).organ(row.liver_roi)
    volume = Volume(np.zeros(grid.size, np.uint8), grid).to_sitk()
    there = sitk.Resample(seg, volume, sitk.Transform(), sitk.sitkNearestNeighbor)
    expected = sitk.GetArrayFromImage(there) == label_table(files / "example_seg_dicom.nii.gz")["liver"]
    box = tuple(slice(a, b) for a, b in zip(*organ.box, strict=True))
    np.testing.assert_array_equal(organ.array, expected[box])
    assert int(organ.array.sum()) == int(expected.sum())
