from dataclasses import replace
from pathlib import Path

import pandas as pd

from hgpscale.cohort import Cohort, LesionRow
from hgpscale.engine.plan import plan, rows_to_retry
from hgpscale.engine.tasks import LesionTask, ScanTask


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
ALL = {(row.lesion, row.segmentation) for row in COHORT.rows}


def test_every_image_is_one_scan_in_the_manifests_order() -> None:
    assert plan(COHORT, ALL, {}) == [
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
    scans = plan(COHORT, {("b2", "RAD")}, {("b1", "PHD"): ("abc", "m"), ("a", "RAD"): ("xyz", "m")})
    assert scans == [ScanTask("b.nii", (LesionTask("b2", "RAD", "b2.nii", None),), "abc")]


def test_lesions_of_one_label_map_carry_its_digest() -> None:
    rows = [replace(row, mask=Path("map.nii")) for row in COHORT.rows]
    scans = plan(replace(COHORT, rows=tuple(rows)), {("b2", "RAD")}, {("b1", "RAD"): ("abc", "m")})
    assert scans == [ScanTask("b.nii", (LesionTask("b2", "RAD", "map.nii", None, "m"),), "abc")]


def test_rows_to_retry_are_all_of_the_failed_rows_images() -> None:
    assert rows_to_retry(COHORT, {("b2", "RAD")}) == {("b1", "RAD"), ("b1", "PHD"), ("b2", "RAD")}
    assert rows_to_retry(COHORT, set()) == set()


def test_digest_of_a_pending_row_is_not_trusted() -> None:
    assert plan(COHORT, {("a", "RAD")}, {("a", "RAD"): ("stale", "m")})[0].image_digest == ""


def test_nothing_pending_plans_nothing() -> None:
    assert plan(COHORT, set(), {}) == []
