"""A cohort becomes a store of scans on one grid; what has not changed is not made again."""

from __future__ import annotations

from pathlib import Path

import archives
import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from networks import SPACING, study

from hgpscale.cohort import read_manifest
from hgpscale.deep.crops import take_lesion
from hgpscale.deep.prepared import IMAGE, INSTANCES, PreparedCohort
from hgpscale.deep.preparing import prepare
from hgpscale.errors import DeepError
from hgpscale.prepare.regions import signed_distance


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return study(tmp_path_factory.mktemp("study"), 3, 1)


def test_a_store_holds_what_the_manifest_says(manifest: Path, tmp_path: Path) -> None:
    found = prepare(manifest, tmp_path / "p.zarr", spacing=SPACING, segmentation="RAD", workers=2)
    cohort = PreparedCohort.open(tmp_path / "p.zarr")
    table = pd.read_csv(manifest)
    table = table[table.segmentation == "RAD"].set_index("lesion")
    assert (found.scans, found.lesions, found.with_growth) == (4, len(table), len(table))
    lesions = {lesion.lesion: (scan, lesion) for scan in cohort.scans for lesion in scan.lesions}
    assert list(lesions) == list(table.index)
    for name, (scan, lesion) in lesions.items():
        row = table.loc[name]
        assert (scan.patient, scan.split) == (row.patient, row.split)
        expected = row[["hgp_desmoplastic", "hgp_replacement", "hgp_pushing"]].to_numpy(float) / 100
        assert lesion.growth == pytest.approx(expected)
        mask = sitk.ReadImage(str(manifest.parent / row["mask"]))
        volume = (sitk.GetArrayFromImage(mask) == row.label).sum() * np.prod(mask.GetSpacing())
        assert lesion.volume == pytest.approx(volume, rel=0.15)
        drawn = scan.whole(INSTANCES) == lesion.number
        assert drawn.sum() * np.prod(SPACING) == pytest.approx(lesion.volume)
        inside = scan.whole(IMAGE)[drawn].mean()
        image = sitk.GetArrayFromImage(sitk.ReadImage(str(manifest.parent / row.image)))
        assert inside == pytest.approx(image[sitk.GetArrayFromImage(mask) == row.label].mean(), abs=8)


def test_only_what_changed_is_made_again(manifest: Path, tmp_path: Path) -> None:
    table = pd.read_csv(manifest)
    table = table[table.segmentation == "RAD"]
    table["image"], table["mask"] = (
        table[name].map(lambda path: str(manifest.parent / path)) for name in ("image", "mask")
    )
    copy = tmp_path / "study.csv"
    table.to_csv(copy, index=False)
    store = tmp_path / "p.zarr"
    assert prepare(copy, store, spacing=SPACING).made == 4
    assert prepare(copy, store, spacing=SPACING).made == 0
    first = table.index[0]
    table.loc[first, ["hgp_desmoplastic", "hgp_replacement", "hgp_pushing"]] = [10, 20, 70]
    table.to_csv(copy, index=False)
    assert prepare(copy, store, spacing=SPACING).made == 1
    lesion = PreparedCohort.open(store).scans[0].lesions[0]
    assert lesion.growth == pytest.approx((0.1, 0.2, 0.7))
    table[table.patient != table.patient.iloc[0]].to_csv(copy, index=False)
    assert prepare(copy, store, spacing=SPACING).scans == 3
    assert len(PreparedCohort.open(store).scans) == 3
    with pytest.raises(DeepError, match="--force"):
        prepare(copy, store, spacing=(4.0, 4.0, 4.0))
    assert prepare(copy, store, spacing=(4.0, 4.0, 4.0), force=True).made == 3


def test_scans_that_cannot_be_used_are_listed(tmp_path: Path) -> None:
    box = np.zeros((6, 8, 8), np.uint8)
    box[2:4, 3:6, 3:6] = 1
    rows = []
    for name, image in (("good", np.zeros((6, 8, 8), np.int16)), ("bad", np.full((6, 8, 8), np.nan, np.float32))):
        archives.nifti(tmp_path / f"{name}.nii.gz", image)
        archives.nifti(tmp_path / f"{name}_m.nii.gz", box)
        rows.append({"patient": name, "lesion": name, "image": f"{name}.nii.gz", "mask": f"{name}_m.nii.gz"})
    pd.DataFrame(rows).to_csv(tmp_path / "c.csv", index=False)
    found = prepare(tmp_path / "c.csv", tmp_path / "p.zarr", spacing=(1.0, 1.0, 1.0))
    assert [scan.name for scan in PreparedCohort.open(tmp_path / "p.zarr").scans] == ["good"]
    assert [problem.patient for problem in found.problems] == ["bad"]
    assert "NaN" in found.problems[0].reason
    assert found.with_growth == 0


def test_a_scan_that_was_removed_by_half_is_made_again(manifest: Path, tmp_path: Path) -> None:
    store = tmp_path / "p.zarr"
    prepare(manifest, store, spacing=SPACING, segmentation="RAD")
    first = PreparedCohort.open(store).scans[0]
    voxels = first.whole(IMAGE)
    # As a kill leaves it: what makes it a scan is removed first, and its voxels lie there still.
    (store / first.name / "zarr.json").unlink()
    with pytest.raises(DeepError, match="damaged"):
        PreparedCohort.open(store)
    assert prepare(manifest, store, spacing=SPACING, segmentation="RAD").made == 1
    np.testing.assert_array_equal(PreparedCohort.open(store).scans[0].whole(IMAGE), voxels)


def test_a_store_that_is_made_anew_is_none_until_it_is_whole(manifest: Path, tmp_path: Path) -> None:
    store = tmp_path / "p.zarr"
    prepare(manifest, store, spacing=SPACING, segmentation="RAD")

    class Killed(BaseException):
        """As a signal is."""

    def kill(done: int, total: int) -> None:
        raise Killed

    with pytest.raises(Killed):
        prepare(manifest, store, spacing=SPACING, segmentation="RAD", force=True, on_progress=kill)
    with pytest.raises(DeepError, match="did not end"):
        PreparedCohort.open(store)
    assert prepare(manifest, store, spacing=SPACING, segmentation="RAD").made == 3


def test_a_store_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DeepError, match="deep prepare"):
        PreparedCohort.open(tmp_path / "nothing.zarr")
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.txt").write_text("x")
    cohort = read_manifest(study(tmp_path / "s", 1, 0))
    for place in ("file", "folder"):
        with pytest.raises(DeepError, match=place):
            prepare(cohort, tmp_path / place, segmentation="RAD")
    assert (tmp_path / "folder" / "mine.txt").read_text() == "x"


def test_a_crop_around_a_lesion_is_that_of_the_whole(manifest: Path, tmp_path: Path) -> None:
    prepare(manifest, tmp_path / "p.zarr", spacing=SPACING, segmentation="RAD")
    for scan in PreparedCohort.open(tmp_path / "p.zarr").held().scans:
        for lesion in scan.lesions:
            crop = take_lesion(scan, lesion, (30, 40, 60), (0.0, 100.0))
            assert crop.distance is not None
            # The box is wider than the scan: all of the lesion is in it, and air around.
            whole = scan.whole(INSTANCES) == lesion.number
            assert (crop.distance < 0).sum() == whole.sum()
            assert crop.image.min() == -0.5
            far = signed_distance(np.pad(whole, 30), SPACING)
            assert crop.distance.min() == pytest.approx(max(far.min(), -30.0), abs=1e-4)
