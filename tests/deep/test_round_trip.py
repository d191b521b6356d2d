"""What is exported and read back selects the same voxels, of NIfTI as of DICOM."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import archives
import numpy as np
import pytest
from cohorts import A, B, C, by_patient, selected, small, voxels, with_liver
from dicom_files import IDENTIFYING

from hgpscale.cohort import build_cohort, check_cohort, open_image, read_image, read_manifest, read_outlines
from hgpscale.deep import export_dataset
from hgpscale.settings import Settings
from hgpscale.volume import geometry_differences


def test_nnunet_of_synthetic_scans(tmp_path: Path, copy_cohort: Callable[[Path, int], Path]) -> None:
    manifest = copy_cohort(tmp_path / "cohort", 4)
    exported = export_dataset(manifest, tmp_path / "raw", "nnunet", number=7, name="CRLM")
    assert exported.folder == tmp_path / "raw" / "Dataset007_CRLM"
    assert (exported.problems, exported.notes, dict(exported.counts)) == ((), (), {"train": 2, "external": 2})
    built = build_cohort("nnunet", exported.folder, tmp_path / "again.csv")
    assert (built.problems, check_cohort(built.cohort, Settings())) == ((), [])
    before = read_manifest(manifest)
    assert by_patient(built.cohort) == by_patient(before)
    splits = [dict(zip(c.columns["patient"], c.columns["split"], strict=True)) for c in (before, built.cohort)]
    assert splits[0] == splits[1]
    for row in before.rows:
        (written,) = exported.folder.glob(f"images*/{row.patient}_0000.nii.gz")
        image, copy = read_image(row.image)[0], read_image(written)[0]
        assert image.array.dtype == copy.array.dtype
        np.testing.assert_array_equal(image.array, copy.array)
        assert geometry_differences(image.geometry, copy.geometry, 1e-6) == []


def test_the_liver_goes_out_and_comes_back(tmp_path: Path) -> None:
    manifest = with_liver(small(tmp_path / "in", {"P1": (A, B), "P2": (C,)}), "P1", "P2")
    exported = export_dataset(manifest, tmp_path, "nnunet")
    assert json.loads((exported.folder / "dataset.json").read_text()) == {
        "name": "Dataset101_HGP",
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "liver": 1, "tumour": 2},
        "numTraining": 2,
        "file_ending": ".nii.gz",
        "made_by": "hgpscale deep export",
    }
    liver = archives.mask((slice(0, 6), slice(0, 11), slice(0, 11)))
    np.testing.assert_array_equal(
        voxels(exported.folder / "labelsTr/P1.nii.gz"), archives.mask(A, B, value=2, of=liver)
    )
    built = build_cohort("nnunet", exported.folder, tmp_path / "again.csv")
    assert by_patient(built.cohort) == by_patient(manifest)
    for row in built.cohort.rows:
        assert row.liver is not None
        organ = read_outlines(row.liver, open_image(row.image).geometry).organ(row.liver_roi)
        assert int(organ.array.sum()) == int(liver.sum())


@pytest.mark.parametrize("layout", ["nnunet", "nndetection"])
def test_dicom(tmp_path: Path, layout: str) -> None:
    before = build_cohort("tcia-crlm", archives.tcia_crlm(tmp_path / "tcia"), tmp_path / "cohort.csv").cohort
    exported = export_dataset(before, tmp_path / "raw", layout)
    assert exported.problems == ()
    scan, _ = read_image(before.rows[0].image)
    (written,) = exported.folder.rglob("CRLM-CT-1001_0000.nii.gz")
    np.testing.assert_array_equal(voxels(written), scan.array)
    assert voxels(written).dtype == scan.array.dtype == np.int16
    for path in exported.folder.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        assert [v for v in IDENTIFYING.values() if len(v) > 1 and v.encode() in content] == [], path
    if layout == "nnunet":
        built = build_cohort("nnunet", exported.folder, tmp_path / "again.csv")
        assert by_patient(built.cohort) == by_patient(before)
        assert {row.liver is None for row in built.cohort.rows} == {False}


def test_nndetection_s_instances_are_the_lesions(tmp_path: Path, copy_cohort: Callable[[Path, int], Path]) -> None:
    manifest = copy_cohort(tmp_path / "cohort", 4)
    exported = export_dataset(manifest, tmp_path, "nndetection", number=20, name="CRLM", classes="hgp")
    assert exported.folder == tmp_path / "Task020_CRLM"
    lesions = selected(manifest)
    percent = read_manifest(manifest).columns
    for case in exported.cases:
        folder = exported.folder / "raw_splitted" / ("labelsTr" if case.split == "train" else "labelsTs")
        instances = voxels(folder / f"{case.name}.nii.gz")
        classes = json.loads((folder / f"{case.name}.json").read_text())["instances"]
        assert set(np.unique(instances).tolist()) == {0, *map(int, classes)}
        for number, row in enumerate(case.rows, start=1):
            np.testing.assert_array_equal(instances == number, lesions[row.patient, row.lesion])
            scores = [percent[f"hgp_{part}"][row.lesion] for part in ("desmoplastic", "replacement", "pushing")]
            assert scores[classes[str(number)]] == max(scores)
    assert json.loads((exported.folder / "dataset.json").read_text()) == {
        "task": "Task020_CRLM",
        "name": "CRLM",
        "target_class": None,
        "test_labels": True,
        "labels": {"0": "desmoplastic", "1": "replacement", "2": "pushing"},
        "modalities": {"0": "CT"},
        "dim": 3,
        "made_by": "hgpscale deep export",
    }


def test_scans_of_one_patient_come_back_as_one_patient_s(tmp_path: Path) -> None:
    manifest = small(tmp_path / "in", {"a": (A,), "b": (B,), "c": (C,)}, patients={"a": "P/1", "b": "P/1", "c": "P-1"})
    exported = export_dataset(manifest, tmp_path, "nnunet")
    assert [case.name for case in exported.cases] == ["P-1", "P-1-2", "P-1-3"]
    assert "patients with several scans (P/1): the tool's own folds are by scan" in exported.notes[0]
    built = build_cohort("nnunet", exported.folder, tmp_path / "again.csv")
    assert built.cohort.lesions == ("P/1-1-1", "P/1-2-1", "P-1-1")
    assert by_patient(built.cohort) == by_patient(manifest)
