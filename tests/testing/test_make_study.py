"""The synthetic study as its readers see it, and that growth shows at the interface and nowhere else."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from hgpscale.cohort import check_cohort, read_manifest
from hgpscale.testing import make_study, study

GROWTH = ("hgp_desmoplastic", "hgp_replacement", "hgp_pushing")
Row = dict[str, str]


def rows_of(manifest: Path) -> list[Row]:
    with manifest.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def voxels(path: Path) -> NDArray[np.float64]:
    return np.asarray(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), np.float64)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_study(tmp_path_factory.mktemp("study"), patients=20, external=8, seed=1)


@pytest.fixture(scope="module")
def rows(manifest: Path) -> list[Row]:
    return rows_of(manifest)


def test_the_study_has_the_patients_that_were_asked_for(rows: list[Row]) -> None:
    patients = {(row["patient"], row["split"]) for row in rows}
    assert Counter(split for _, split in patients) == {"train": 20, "external": 8}
    lesions: defaultdict[str, set[str]] = defaultdict(set)
    for row in rows:
        lesions[row["patient"]].add(row["lesion"])
    assert {len(found) for found in lesions.values()} == {1, 2, 3}


def test_percentages_sum_to_100_and_many_lesions_are_pure(rows: list[Row]) -> None:
    growth = {row["lesion"]: tuple(int(row[name]) for name in GROWTH) for row in rows}
    assert {sum(percentages) for percentages in growth.values()} == {100}
    assert min(min(percentages) for percentages in growth.values()) == 0
    pure = [percentages for percentages in growth.values() if max(percentages) == 100]
    assert 0.4 < len(pure) / len(growth) < 0.8
    assert len(set(pure)) == 3


def test_centres_scan_in_their_own_way_and_belong_to_one_split(manifest: Path, rows: list[Row]) -> None:
    assert {row["centre"] for row in rows} == set(study.STUDY_CENTRES)
    assert len({(row["patient"], row["centre"], row["split"], row["image"]) for row in rows}) == 28
    for row in rows:
        centre = study.STUDY_CENTRES[row["centre"]]
        assert row["split"] == centre.split
        spacing = sitk.ReadImage(str(manifest.parent / row["image"])).GetSpacing()
        np.testing.assert_allclose(spacing[::-1], centre.scanner.spacing, rtol=1e-6)


def test_some_patients_have_three_raters_who_nearly_agree(manifest: Path, rows: list[Row]) -> None:
    raters: defaultdict[str, set[str]] = defaultdict(set)
    for row in rows:
        raters[row["patient"]].add(row["segmentation"])
    several = {patient for patient, found in raters.items() if found == set(study.RATERS)}
    assert several == {"D0001", "D0008", "D0015", "E0001", "E0008"}
    assert all(raters[patient] == {"RAD"} for patient in raters.keys() - several)
    for row in rows:
        if row["segmentation"] != "RAD":
            label = int(row["label"])
            mine = voxels(manifest.parent / row["mask"]) == label
            first = voxels(manifest.parent / f"masks/{row['patient']}_RAD.nii.gz") == label
            dice = 2 * (mine & first).sum() / (mine.sum() + first.sum())
            assert 0.6 < dice < 1


def test_the_manifest_reads_and_has_no_problem(manifest: Path, rows: list[Row]) -> None:
    cohort = read_manifest(manifest)
    assert len(cohort.rows) == len(rows)
    assert cohort.segmentations == ("RAD", "PhD", "STUD")
    assert check_cohort(cohort) == []
    assert {"age", "chemotherapy", *GROWTH} <= set(cohort.columns)


def test_equal_seeds_give_equal_bytes_in_a_larger_study_too(tmp_path: Path) -> None:
    def contents(name: str, patients: int, seed: int) -> dict[str, bytes]:
        folder = make_study(tmp_path / name, patients, external=1, seed=seed).parent
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.nii.gz")}

    small, again, larger, other = contents("a", 1, 3), contents("b", 1, 3), contents("c", 2, 3), contents("d", 1, 4)
    assert small == again == {name: larger[name] for name in small}
    assert len(larger) > len(small)
    assert all(small[name] != other[name] for name in small.keys() & other.keys())
    assert (tmp_path / "a/study.csv").read_bytes() == (tmp_path / "b/study.csv").read_bytes()


def test_the_pattern_changes_the_interface_and_not_the_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = []
    for pattern in ((100, 0, 0), (0, 100, 0), (0, 0, 100)):
        monkeypatch.setattr(study, "_compositions", lambda lesions, _, pattern=pattern: [pattern] * lesions)
        folders.append(make_study(tmp_path / str(pattern), patients=10, external=4, seed=5).parent)
    core, rim = [], []
    for path in sorted(folders[0].glob("masks/*_RAD.nii.gz")):
        mask = sitk.ReadImage(str(path))
        inside = sitk.GetArrayFromImage(mask) > 0
        spacing = mask.GetSpacing()[::-1]
        depth = np.asarray(distance_transform_edt(inside, spacing))
        scan = path.name.replace("_RAD", "")
        scans = np.array([voxels(folder / "scans" / scan) for folder in folders])
        assert (inside == (voxels(folders[1] / "masks" / path.name) > 0)).all()
        if (depth > 4.5).sum() >= 10:
            core.append(np.ptp(scans[:, depth > 4.5].mean(axis=1)))
        near = np.asarray(distance_transform_edt(~inside, spacing)) + depth < 3.5
        rim.append(np.ptp(scans[:, near].mean(axis=1)))
    assert len(core) >= 10
    assert np.median(core) < 0.5
    assert max(core) < 2
    assert np.median(rim) > 5


def test_more_desmoplastic_patients_were_treated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "write_volume", lambda *_: None)
    rows = rows_of(make_study(tmp_path, patients=40, external=0, seed=2))
    first = {row["patient"]: row for row in rows if row["lesion"].endswith("_L1")}
    treated = {
        pure: np.mean([int(row["chemotherapy"]) for row in first.values() if (row[GROWTH[0]] == "100") == pure])
        for pure in (True, False)
    }
    assert treated[True] > treated[False] + 0.1


@pytest.mark.parametrize(("patients", "external"), [(0, 5), (3, -1)])
def test_a_study_without_patients_is_refused(tmp_path: Path, patients: int, external: int) -> None:
    with pytest.raises(ValueError, match=f"found {patients} and {external}"):
        make_study(tmp_path, patients, external)
