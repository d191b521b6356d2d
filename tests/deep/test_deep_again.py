"""What an export does with a folder that holds something already: nothing is lost, nothing stale is kept."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import archives
import numpy as np
import pytest
from cohorts import A, B, C, manifest, small, voxels, with_liver
from dicom_files import write_series
from numpy.typing import NDArray

from hgpscale.cohort import build_cohort, read_manifest
from hgpscale.deep import export_dataset
from hgpscale.errors import DeepError

TWO = {"P1": (A,), "P2": (B,)}


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("link", ["no", "cohort", "folder", "inside"])
def test_a_data_set_that_the_cohort_is_read_from_is_not_touched(tmp_path: Path, link: str) -> None:
    folder = export_dataset(small(tmp_path / "in", TWO), tmp_path, "nnunet").folder
    root = folder
    if link == "cohort":
        root = tmp_path / "elsewhere"
        root.symlink_to(folder)
    elif link == "folder":
        root = folder.rename(tmp_path / "elsewhere")
        folder.symlink_to(root)
    elif link == "inside":
        root = tmp_path / "elsewhere"
        shutil.copytree(folder, root)
        for name in ("imagesTr", "labelsTr"):
            shutil.rmtree(folder / name)
            (folder / name).symlink_to(root / name)
    again = tmp_path / "again.csv"
    build_cohort("nnunet", root, again)
    before = contents(root)
    with pytest.raises(DeepError, match=r"P1_0000.nii.gz: the cohort reads it from the data set's own folder"):
        export_dataset(again, tmp_path, "nnunet", force=True)
    assert contents(root) == before


@pytest.mark.parametrize("what", ["manifest", "splits", "mask", "liver"])
def test_no_file_of_the_cohort_is_in_the_data_set(tmp_path: Path, what: str) -> None:
    path = with_liver(small(tmp_path / "in", TWO), "P1", "P2")
    folder = export_dataset(path, tmp_path, "nnunet").folder
    splits = None
    if what == "manifest":
        path = Path(shutil.copy(path, folder / "cohort.csv"))
        path.write_text(path.read_text().replace(",P", ",../in/P").replace("../in/P1_L1,", "P1_L1,"))
    elif what == "splits":
        splits = folder / "splits.csv"
        splits.write_text("0_train,0_test\nP1,P2\n")
    else:
        name = {"mask": "P2_L1", "liver": "P2_liver"}[what]
        moved = Path(shutil.move(tmp_path / "in" / f"{name}.nii.gz", folder))
        path.write_text(path.read_text().replace(moved.name, str(moved)))
    before = contents(folder)
    with pytest.raises(DeepError, match=r"reads it from the data set's own folder, .*; give another --dataset or FOL"):
        export_dataset(path, tmp_path, "nnunet", splits=splits, force=True)
    assert contents(folder) == before


def test_force_removes_what_exports_wrote_and_nothing_else(tmp_path: Path) -> None:
    splits = tmp_path / "splits.csv"
    splits.write_text("0_train,0_test\nP1,P2\n")
    folder = export_dataset(small(tmp_path / "in", TWO), tmp_path, "nnunet", splits=splits).folder
    foreign = ("predictions/P1.nii.gz", "notes.txt", "labelsTr/mine.nii.gz", "results/x/plans.json")
    for name in foreign:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("hours of work")
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    exported = export_dataset(small(tmp_path / "other", {"Q": (A,)}), tmp_path, "nnunet", force=True)
    written = ("cases.csv", "dataset.json", "export.json", "imagesTr/Q_0000.nii.gz", "labelsTr/Q.nii.gz")
    assert sorted(contents(folder)) == sorted([*foreign, *written])
    assert exported.notes == ("of no case, and by no export: labelsTr/mine.nii.gz; the tool may take them for cases",)


def test_a_record_removes_no_file_that_an_export_could_not_have_written(tmp_path: Path) -> None:
    path = small(tmp_path / "in", TWO)
    folder = export_dataset(path, tmp_path, "nnunet").folder
    record = json.loads((folder / "export.json").read_text())
    record["cases"]["P1"]["files"] |= {"../in/cohort.csv": None, "imagesTr/../../in/cohort.csv": None, "n.txt": None}
    (folder / "export.json").write_text(json.dumps(record))
    (folder / "n.txt").write_text("n")
    export_dataset(path, tmp_path, "nnunet", force=True)
    assert path.is_file()
    assert (folder / "n.txt").is_file()


def test_cases_stay_while_their_source_is_away(tmp_path: Path) -> None:
    path = small(tmp_path / "in", {**TWO, "P3": (C,)}, split={"P1": "train", "P2": "train", "P3": "train"})
    away, never = tmp_path / "away.nii.gz", tmp_path / "in" / "P3_L1.nii.gz"
    never.rename(away)
    cohort = read_manifest(path)
    exported = export_dataset(cohort, tmp_path, "nnunet")
    before = contents(exported.folder)
    (tmp_path / "in").rename(tmp_path / "unmounted")
    again = export_dataset(cohort, tmp_path, "nnunet")
    assert contents(exported.folder) == before
    assert [case.name for case in again.cases] == ["P1", "P2"]
    kept = "; what is written of it already is kept"
    assert [(p.patient, p.reason.endswith(kept)) for p in again.problems] == [("P1", True), ("P2", True), ("P3", False)]
    (exported.folder / "labelsTr" / "P1.nii.gz").unlink()  # no longer whole, so of no use
    export_dataset(cohort, tmp_path, "nnunet")
    assert sorted(contents(exported.folder)) == [
        "cases.csv", "dataset.json", "export.json", "imagesTr/P2_0000.nii.gz", "labelsTr/P2.nii.gz",
    ]  # fmt: skip


@pytest.mark.parametrize("layout", ["nnunet", "nndetection"])
def test_what_was_changed_by_hand_is_kept_and_told(tmp_path: Path, layout: str) -> None:
    path = small(tmp_path / "in", TWO)
    folder = export_dataset(path, tmp_path, layout).folder
    changed = next(folder.rglob("P1.json" if layout == "nndetection" else "P1.nii.gz"))
    name = changed.relative_to(folder).as_posix()
    original = changed.read_bytes()
    changed.write_bytes(b"corrected by a radiologist")
    os.utime(changed, (1, 1))  # by its content, not by when
    archives.nifti(tmp_path / "in" / "P2_L1.nii.gz", archives.mask(C))
    for _ in range(2):
        exported = export_dataset(path, tmp_path, layout)
        assert exported.notes == (f"P1: {name} was changed since it was exported, and is kept; --force makes all anew",)
        assert changed.read_bytes() == b"corrected by a radiologist"
    np.testing.assert_array_equal(voxels(next(folder.rglob("P2.nii.gz"))), archives.mask(C))
    assert export_dataset(path, tmp_path, layout, force=True).notes == ()
    assert changed.read_bytes() == original


def test_a_killed_run_does_not_take_its_own_label_map_for_somebody_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = small(tmp_path / "in", TWO)
    folder = export_dataset(path, tmp_path, "nnunet").folder
    archives.nifti(tmp_path / "in" / "P1_L1.nii.gz", archives.mask(C))

    def killed(_: Path) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("hgpscale.deep.datasets.export.digest_of", killed)
        with pytest.raises(KeyboardInterrupt):
            export_dataset(path, tmp_path, "nnunet")
    archives.nifti(tmp_path / "in" / "P1_L1.nii.gz", archives.mask(B))
    assert export_dataset(path, tmp_path, "nnunet").notes == ()
    np.testing.assert_array_equal(voxels(folder / "labelsTr/P1.nii.gz"), archives.mask(B))


def test_folds_of_somebody_else_are_kept(tmp_path: Path) -> None:
    path = small(tmp_path / "in", TWO)
    splits = tmp_path / "splits.csv"
    splits.write_text("0_train,0_test\nP1,P2\n")
    folds = export_dataset(path, tmp_path, "nnunet", splits=splits).folder / "splits_final.json"
    folds.write_text("[]")
    exported = export_dataset(path, tmp_path, "nnunet")
    assert exported.notes == ("splits_final.json is kept: it was changed since it was exported",)
    with pytest.raises(DeepError, match=r"splits_final.json: it was changed since it was exported; move it away to"):
        export_dataset(path, tmp_path, "nnunet", splits=splits)
    assert folds.read_text() == "[]"
    export_dataset(path, tmp_path, "nnunet", force=True)
    assert not folds.exists()
    folds.write_text("[]")
    for force in (False, True):
        exported = export_dataset(path, tmp_path, "nnunet", force=force)
        assert exported.notes == ("splits_final.json is kept: no export wrote it",)
        with pytest.raises(DeepError, match=r"splits_final.json: no export wrote it; move it away to have the folds"):
            export_dataset(path, tmp_path, "nnunet", splits=splits, force=force)
    assert folds.read_text() == "[]"


def test_a_file_in_a_case_s_place_is_kept(tmp_path: Path) -> None:
    path = small(tmp_path / "in", TWO)
    away = tmp_path / "in" / "P2.nii.gz"
    away.rename(tmp_path / "away")
    foreign = export_dataset(path, tmp_path, "nnunet").folder / "labelsTr" / "P2.nii.gz"
    foreign.write_text("mine")
    (tmp_path / "away").rename(away)
    exported = export_dataset(path, tmp_path, "nnunet")
    assert [problem.reason for problem in exported.problems] == [
        f"{foreign}: is there already, and no export wrote it; move it away"
    ]
    assert foreign.read_text() == "mine"


@pytest.mark.parametrize("kind", ["nii.gz", "mhd", "nhdr", "dicom file", "dicom folder"])
def test_a_scan_is_read_again_where_its_files_are_others(tmp_path: Path, kind: str) -> None:
    array, source = archives.ct(), tmp_path / "in"
    image, data = scan(source, array, kind)
    archives.nifti(source / "m.nii.gz", archives.mask(A))
    path = manifest(source / "cohort.csv", [{"patient": "P1", "image": image, "mask": "m.nii.gz"}])
    (data.parent / "dangling").symlink_to(tmp_path / "no")
    written = export_dataset(path, tmp_path, "nnunet").folder / "imagesTr" / "P1_0000.nii.gz"
    np.testing.assert_array_equal(voxels(written), array)
    inode = written.stat().st_ino
    assert export_dataset(path, tmp_path, "nnunet").problems == ()
    assert written.stat().st_ino == inode  # it was not written again
    before, new = data.stat(), tmp_path / "new"
    _, other = scan(new, array[::-1], kind)
    shutil.copyfile(new / other.relative_to(new), data)
    os.utime(data, ns=(before.st_atime_ns, before.st_mtime_ns - 10**12))  # as cp -p and tar x leave an older file
    assert export_dataset(path, tmp_path, "nnunet").problems == ()
    assert not np.array_equal(voxels(written), array)


def scan(folder: Path, array: NDArray[Any], kind: str) -> tuple[Path, Path]:
    """Write a scan and return what a manifest names, and a file that holds voxels of it."""
    if kind.startswith("dicom"):
        uids: dict[str, Any] = {f"{name}InstanceUID": "1.2.3" for name in ("Study", "Series")}
        files = write_series(folder / "s", array, archives.SPACING, FrameOfReferenceUID="1.2.4", **uids)
        return (files[0] if kind == "dicom file" else folder / "s"), files[-1]
    image = archives.nifti(folder / f"i.{kind}", array)
    return image, next((path for path in folder.iterdir() if ".raw" in path.name), image)


def test_two_exports_into_a_folder_do_not_mix(tmp_path: Path) -> None:
    path = small(tmp_path / "in", TWO)
    folder = tmp_path / "Dataset101_HGP"
    refused: list[str] = []

    def another(done: int, _: int) -> None:
        if done == 1:
            with pytest.raises(DeepError) as error:
                export_dataset(path, tmp_path, "nnunet", force=True)
            refused.append(str(error.value))

    exported = export_dataset(path, tmp_path, "nnunet", on_progress=another)
    (said,) = refused
    assert said.startswith(f"{folder}: another run is writing to it: process {os.getpid()} on ")
    assert said.endswith("; wait until it ends, or stop it")
    assert [case.name for case in exported.cases] == ["P1", "P2"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["Dataset101_HGP", "in"]


def test_an_export_that_was_taken_over_stops(tmp_path: Path) -> None:
    def lost(done: int, _: int) -> None:
        if done == 1:
            (tmp_path / "Dataset101_HGP.lock").unlink()

    with pytest.raises(DeepError, match=r"Dataset101_HGP: the lock of this run is gone or broken; it stops"):
        export_dataset(small(tmp_path / "in", TWO), tmp_path, "nnunet", on_progress=lost)
    assert not (tmp_path / "Dataset101_HGP" / "imagesTr" / "P2_0000.nii.gz").exists()


def test_only_half_made_files_are_removed(tmp_path: Path) -> None:
    path = small(tmp_path / "in", TWO)
    folder = export_dataset(path, tmp_path, "nnunet").folder
    half = [folder / ".7.partial.cases.csv", folder / "imagesTr" / ".7.partial.P1_0000.nii.gz"]
    others = ["predictions/.7.partial.x", ".mine.partial.x"]
    (folder / "predictions").mkdir()
    (folder / ".8.partial.folder").mkdir()
    for name in [*half, *(folder / name for name in others)]:
        name.write_text("x")
    export_dataset(path, tmp_path, "nnunet")
    assert not any(name.exists() for name in half)
    assert set(others) < set(contents(folder))
    assert (folder / ".8.partial.folder").is_dir()
