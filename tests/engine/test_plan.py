from dataclasses import replace
from pathlib import Path

import pandas as pd

from hgpscale.cohort import Cohort, LesionRow
from hgpscale.contents import Contents
from hgpscale.engine.plan import biggest_first, changed_files, plan
from hgpscale.engine.tasks import LesionTask, ScanTask
from hgpscale.settings import Settings


def _row(lesion: str, segmentation: str, image: str, mask: str, label: int | None = None) -> LesionRow:
    return LesionRow(2, lesion, segmentation, lesion[0], Path(image), Path(mask), image, mask, label, "")


COHORT = Cohort(
    "cohort.csv",
    (
        _row("b1", "RAD", "b.nii", "b1r.nii", 2),
        _row("a", "RAD", "a.nii", "a.nii"),
        _row("b1", "PHD", "b.nii", "b1p.nii"),
        _row("b2", "RAD", "b.nii", "b2.nii"),
    ),
    pd.DataFrame(index=["b1", "a", "b2"]),
)
SETTINGS = Settings()
KEYS = Contents.of(SETTINGS).keys
ALL = {(row.lesion, row.segmentation): KEYS for row in COHORT.rows}


def test_every_image_is_one_scan_in_the_manifests_order() -> None:
    assert list(plan(COHORT, ALL, {}, SETTINGS)) == [
        ScanTask(
            "b.nii",
            (
                LesionTask("b1", "RAD", "b1r.nii", 2),
                LesionTask("b1", "PHD", "b1p.nii", None),
                LesionTask("b2", "RAD", "b2.nii", None),
            ),
        ),
        ScanTask("a.nii", (LesionTask("a", "RAD", "a.nii", None),)),
    ]


def test_only_pending_rows_are_planned_and_carry_the_digest_of_their_image() -> None:
    scans = plan(
        COHORT, {("b2", "RAD"): KEYS}, {("b1", "PHD"): ("abc", "m", ""), ("a", "RAD"): ("xyz", "m", "")}, SETTINGS
    )
    assert list(scans) == [ScanTask("b.nii", (LesionTask("b2", "RAD", "b2.nii", None),), "abc")]


def test_lesions_of_one_label_map_carry_its_digest() -> None:
    rows = [replace(row, mask=Path("map.nii")) for row in COHORT.rows]
    scans = plan(replace(COHORT, rows=tuple(rows)), {("b2", "RAD"): KEYS}, {("b1", "RAD"): ("abc", "m", "")}, SETTINGS)
    assert list(scans) == [ScanTask("b.nii", (LesionTask("b2", "RAD", "map.nii", None, "m"),), "abc")]


def test_each_row_is_held_to_the_files_that_its_own_numbers_are_of() -> None:
    missing = {("b1", "RAD"): KEYS[:1], ("b1", "PHD"): KEYS[:1]}
    scans = plan(COHORT, missing, {("b1", "RAD"): ("old", "m", ""), ("b1", "PHD"): ("new", "n", "")}, SETTINGS)
    assert list(scans) == [
        ScanTask("b.nii", (LesionTask("b1", "RAD", "b1r.nii", 2, "m", KEYS[:1]),), "old"),
        ScanTask("b.nii", (LesionTask("b1", "PHD", "b1p.nii", None, "n", KEYS[:1]),), "new"),
    ]


def test_what_is_missing_of_a_row_that_has_numbers_is_said_and_so_is_its_digest() -> None:
    scans = plan(COHORT, {("a", "RAD"): KEYS[:2]}, {("a", "RAD"): ("xyz", "m", "")}, SETTINGS)
    assert list(scans) == [ScanTask("a.nii", (LesionTask("a", "RAD", "a.nii", None, "m", KEYS[:2]),), "xyz")]


def test_rows_whose_files_changed_are_found_and_unreadable_files_are_left_alone() -> None:
    known = {("b1", "RAD"): ("i", "m", ""), ("b1", "PHD"): ("i", "m", ""), ("a", "RAD"): ("i", "m", "")}
    now = {"b.nii": "i", "b1r.nii": "other", "b1p.nii": "m"}
    assert changed_files(COHORT, known, now) == {("b1", "RAD"): ("b1r.nii",)}
    # The third row of that image has no numbers: it may have failed because of the change.
    assert set(changed_files(COHORT, known, {"b.nii": "other"})) == {("b1", "RAD"), ("b1", "PHD"), ("b2", "RAD")}
    assert changed_files(COHORT, known, {}) == {}


def test_a_task_is_made_when_it_is_asked_for() -> None:
    missing = dict(ALL)
    scans = plan(COHORT, missing, {}, SETTINGS)
    assert next(scans).image == "b.nii"
    del missing["a", "RAD"]
    assert list(scans) == []


def test_tasks_have_no_dict_each() -> None:
    scan = next(plan(COHORT, ALL, {}, SETTINGS))
    assert not hasattr(scan, "__dict__")
    assert not hasattr(scan.lesions[0], "__dict__")


def test_nothing_pending_plans_nothing() -> None:
    assert list(plan(COHORT, {}, {}, SETTINGS)) == []


def test_big_scans_go_first_within_a_block_of_lesions() -> None:
    def scan(name: str, lesions: int) -> ScanTask:
        return ScanTask(name, tuple(LesionTask(f"{name}{i}", "RAD", "m") for i in range(lesions)))

    megabytes = {"a": 1, "b": 1, "c": 900, "d": 1, "e": 2, "f": 900, "g": 0}
    scans = [scan("a", 1), scan("b", 3), scan("c", 1), scan("d", 1), scan("e", 1), scan("f", 1), scan("g", 1)]
    ordered = biggest_first(scans, lambda name: megabytes[name] * 10**6, block=5)
    assert "".join(found.image for found in ordered) == "cba" + "fedg"
