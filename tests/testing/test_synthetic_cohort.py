"""The synthetic cohort as its readers see it: files, manifest, bytes."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from hgpscale.cohort import check_cohort, read_manifest
from hgpscale.testing import make_cohort


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cohort(tmp_path_factory.mktemp("cohort"), patients=4, seed=2)


@pytest.fixture(scope="module")
def rows(manifest: Path) -> list[dict[str, str]]:
    with manifest.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_equal_seeds_give_equal_bytes(tmp_path: Path) -> None:
    folders = [
        make_cohort(tmp_path / name, patients=2, seed=seed).parent for name, seed in (("a", 3), ("b", 3), ("c", 4))
    ]
    contents = [
        {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in folders
    ]
    assert contents[0] == contents[1]
    assert set(contents[0]) == set(contents[2])
    assert all(contents[0][name] != contents[2][name] for name in contents[0])


def test_patients_have_one_lesion_a_label_map_or_two_masks(rows: list[dict[str, str]]) -> None:
    masks = {patient: [r["mask"] for r in rows if r["patient"] == patient] for patient in ("P01", "P02", "P03", "P04")}
    labels = {patient: [r["label"] for r in rows if r["patient"] == patient] for patient in masks}
    assert masks["P02"][0] == masks["P02"][1]
    assert labels["P02"] == ["1", "2"]
    assert masks["P04"][0] != masks["P04"][1]
    assert labels["P04"] == ["", ""]
    assert (len(masks["P01"]), len(masks["P03"])) == (1, 1)
    assert len({r["lesion"] for r in rows}) == len(rows) == 6


def test_masks_lie_on_their_scans_and_hold_their_labels(manifest: Path, rows: list[dict[str, str]]) -> None:
    for row in rows:
        image = sitk.ReadImage(str(manifest.parent / row["image"]))
        mask = sitk.ReadImage(str(manifest.parent / row["mask"]))
        assert image.GetSize() == mask.GetSize()
        np.testing.assert_allclose(image.GetSpacing(), mask.GetSpacing())
        np.testing.assert_allclose(image.GetOrigin(), mask.GetOrigin())
        labels = set(np.unique(sitk.GetArrayViewFromImage(mask))) - {0}
        assert labels == ({1, 2} if row["label"] else {1})


def test_the_two_centres_scan_differently(manifest: Path, rows: list[dict[str, str]]) -> None:
    spacing: dict[str, set[tuple[float, ...]]] = {}
    for row in rows:
        found = sitk.ReadImage(str(manifest.parent / row["image"])).GetSpacing()
        spacing.setdefault(row["centre"], set()).add(tuple(round(step, 4) for step in found))
    assert {len(found) for found in spacing.values()} == {1}
    assert len(set.union(*spacing.values())) == len(spacing) == 2
    assert {(row["centre"], row["split"]) for row in rows} == {("north", "train"), ("south", "external")}


def test_the_manifest_reads_and_has_no_problem(manifest: Path, rows: list[dict[str, str]]) -> None:
    cohort = read_manifest(manifest)
    assert list(cohort.lesions) == [row["lesion"] for row in rows]
    assert check_cohort(cohort) == []
    growth = cohort.columns[["hgp_desmoplastic", "hgp_replacement", "hgp_pushing"]]
    assert (growth.sum(axis=1) == 100).all()
    assert {"centre", "split", "age", "chemotherapy"} <= set(cohort.columns)


def test_one_patient_is_a_cohort_too(tmp_path: Path) -> None:
    assert read_manifest(make_cohort(tmp_path, patients=1)).lesions == ("P01_L1",)


def test_a_cohort_without_patients_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 1, found 0"):
        make_cohort(tmp_path, patients=0)
