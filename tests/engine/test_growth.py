"""A second `extract` over the same cube: only what is missing is computed, and numbers of changed files never mix."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from bad_inputs import SHAPE, Array, box, ct, write
from distributed import Client

from hgpscale.cube import open_cube
from hgpscale.engine.cluster import local_client
from hgpscale.engine.events import Event, LesionDone, RunStarted, Summary
from hgpscale.engine.run import extract

FAMILIES = {"firstorder": ["Mean", "Energy"], "shape": ["MeshVolume"], "glcm": ["Contrast", "Id"]}
BANDS = 8  # images that pyradiomics' wavelet has
LABELS = ["lesion", "segmentation", "region", "image_type", "family"]


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with local_client(2) as client:
        yield client


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two scans: lesions a and b in the first, c in the second, outlined by RAD and AI; a and b share RAD's file."""
    for number in (1, 2):
        write(tmp_path / f"s{number}.nii.gz", ct() + number)
    for name, shift in (("c-RAD", 0), ("a-AI", 1), ("b-AI", -2), ("c-AI", 1)):
        write(tmp_path / f"{name}.nii.gz", np.roll(box(), shift, axis=1))
    write(tmp_path / "map.nii.gz", label_map())
    return tmp_path


def label_map() -> Array:
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:6, 2:9, 5:17] = 1
    labels[2:6, 11:18, 5:17] = 2
    return labels


def run(
    study: Path, client: Client, rows: str, types: str, families: str, cube: str = "cube.zarr", **options: Any
) -> Summary:
    """Extract rows named as in ``a-RAD c-AI``."""
    lines = ["patient,lesion,segmentation,image,mask,label"]
    for row in rows.split():
        lesion, rater = row.split("-")
        of_map = rater == "RAD" and lesion in "ab"
        mask, label = ("map.nii.gz", "ab".index(lesion) + 1) if of_map else (f"{row}.nii.gz", "")
        lines.append(f"p,{lesion},{rater},{'s2' if lesion == 'c' else 's1'}.nii.gz,{mask},{label}")
    (study / "cohort.csv").write_text("\n".join(lines))
    features = {family: FAMILIES[family] for family in families.split()}
    settings = {"imageType": {name: {} for name in types.split()}, "featureClass": features}
    return extract(study / "cohort.csv", study / cube, settings, client, **options)


def numbers(study: Path, cube: str = "cube.zarr") -> xr.Dataset:
    return open_cube(study / cube).load().sortby(LABELS)


def states(study: Path) -> dict[str, set[str]]:
    """Return the vectors in each state, as ``a-RAD original firstorder``."""
    records = open_cube(study / "cube.zarr").hgp.records()
    names = records.lesion + "-" + records.segmentation + " " + records.image_type + " " + records.family
    return {str(state): set(some) for state, some in names.groupby(records.state)}


def vectors(rows: str, images: str, families: str) -> set[str]:
    return {
        f"{row} {image} {family}" for row in rows.split() for image in images.split() for family in families.split()
    }


def test_a_cube_grown_in_seven_runs_is_that_of_one(study: Path, client: Client) -> None:
    steps = [
        ("a-RAD", "Original", "firstorder", 1),
        ("a-RAD b-RAD c-RAD", "Original", "firstorder", 2),
        ("a-RAD b-RAD c-RAD", "Original", "shape", 3),  # shape alone: no filter is needed
        ("a-RAD b-RAD c-RAD", "Original Square", "firstorder shape", 3),
        ("a-AI c-AI", "Square", "firstorder shape", 2 * 2),
        ("a-RAD b-RAD c-RAD a-AI c-AI", "Wavelet", "firstorder", 5 * BANDS),
        ("a-RAD b-RAD c-RAD a-AI c-AI", "Original Square Wavelet", "firstorder glcm shape", 2 + 5 * (2 + BANDS)),
    ]
    for rows, types, families, missing in steps:
        summary = run(study, client, rows, types, families)
        assert (summary.missing, summary.computed, summary.ok) == (missing, missing, True)
        again = run(study, client, rows, types, families)
        assert (again.missing, again.computed, again.done_before, again.ok) == (0, 0, len(rows.split()), True)
    in_one_go = run(study, client, *steps[-1][:3], cube="new.zarr")
    assert in_one_go.computed == sum(missing for *_, missing in steps)
    assert set(states(study)) == {"done"}
    xr.testing.assert_equal(numbers(study), numbers(study, "new.zarr"))


@pytest.fixture
def grown(study: Path, client: Client) -> Path:
    """Three lesions with four vectors each."""
    assert run(study, client, "a-RAD b-RAD c-RAD a-AI", "Original", "firstorder shape").computed == 8
    return study


ALL = "a-RAD b-RAD c-RAD a-AI"
CHANGED = "changed since numbers in the cube were made of it"


def test_numbers_of_a_changed_image_stay_and_an_update_makes_all_of_that_image_anew(
    grown: Path, client: Client
) -> None:
    before = numbers(grown)
    write(grown / "s1.nii.gz", ct() * 2)
    summary = run(grown, client, f"{ALL} b-AI", "Original Square", "firstorder shape")
    # Square of four rows, and three vectors of a row that is new.
    assert (summary.missing, summary.computed, summary.done) == (7, 7, 4)
    assert [(row.lesion, row.segmentation) for row in summary.failed] == [("b", "AI")]
    assert {(row.lesion, row.segmentation) for row in summary.partial} == {("a", "RAD"), ("b", "RAD"), ("a", "AI")}
    for row in summary.partial:
        assert row.failure.stage == "read"
        assert row.failure.reason.startswith(f"lesion/square/firstorder: {grown / 's1.nii.gz'}: {CHANGED} (digest ")
        assert row.failure.reason.endswith(
            " now); put the old file back and run with --retry-failed, or run with --update to extract all that was "
            "made of it anew"
        )
    assert states(grown) == {
        "done": vectors(ALL, "original", "firstorder shape") | {"c-RAD square firstorder"},
        "failed": vectors("a-RAD b-RAD a-AI", "square", "firstorder")
        | vectors("b-AI", "original", "firstorder shape")
        | {"b-AI square firstorder"},
    }
    after = numbers(grown).sel(image_type=["original"])
    for name in ("firstorder", "shape", "image_digest", "mask_digest", "label"):
        xr.testing.assert_equal(after[name], before[name])

    notes: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, RunStarted):
            notes.extend(event.notes)

    updated = run(grown, client, f"{ALL} b-AI", "Original Square", "firstorder shape", update=True, on_event=listen)
    assert notes == [f"{grown / 's1.nii.gz'}: changed, computed anew"]
    # Three vectors of each of four rows; c is of the other image.
    assert (updated.missing, updated.computed, updated.ok) == (12, 12, True)
    run(grown, client, f"{ALL} b-AI", "Original Square", "firstorder shape", cube="new.zarr")
    xr.testing.assert_equal(numbers(grown), numbers(grown, "new.zarr"))
    again = run(grown, client, f"{ALL} b-AI", "Original Square", "firstorder shape", update=True)
    assert (again.missing, again.ok) == (0, True)


def test_numbers_of_a_changed_mask_stay_and_an_update_makes_its_rows_anew(grown: Path, client: Client) -> None:
    before = numbers(grown)
    write(grown / "map.nii.gz", np.roll(label_map(), 2, axis=2))
    summary = run(grown, client, ALL, "Original Square", "firstorder shape")
    assert (summary.missing, summary.computed, summary.done, summary.failed) == (4, 4, 4, ())
    assert {(row.lesion, row.segmentation) for row in summary.partial} == {("a", "RAD"), ("b", "RAD")}
    assert all(f"{grown / 'map.nii.gz'}: {CHANGED}" in row.failure.reason for row in summary.partial)
    assert states(grown)["failed"] == vectors("a-RAD b-RAD", "square", "firstorder")
    xr.testing.assert_equal(numbers(grown)["shape"], before["shape"])
    updated = run(grown, client, ALL, "Original Square", "firstorder shape", update=True)
    assert (updated.missing, updated.computed, updated.ok) == (2 * 3, 2 * 3, True)
    run(grown, client, ALL, "Original Square", "firstorder shape", cube="new.zarr")
    xr.testing.assert_equal(numbers(grown), numbers(grown, "new.zarr"))


def test_an_update_that_was_interrupted_goes_on_without_being_asked_for_again(grown: Path, client: Client) -> None:
    def interrupt(event: Event) -> None:
        if isinstance(event, LesionDone):
            raise KeyboardInterrupt

    write(grown / "s1.nii.gz", ct() * 2)
    with pytest.raises(KeyboardInterrupt):
        run(grown, client, ALL, "Original", "firstorder shape", update=True, on_event=interrupt)
    # One of the three rows of that image had arrived.
    assert {state: len(some) for state, some in states(grown).items()} == {"done": 2 * 2, "pending": 2 * 2}
    rest = run(grown, client, ALL, "Original", "firstorder shape")
    assert (rest.missing, rest.computed, rest.ok) == (4, 4, True)
    run(grown, client, ALL, "Original", "firstorder shape", cube="new.zarr")
    xr.testing.assert_equal(numbers(grown), numbers(grown, "new.zarr"))


def test_the_old_file_put_back_has_only_what_failed_computed(grown: Path, client: Client) -> None:
    shutil.copy(grown / "s1.nii.gz", grown / "kept.nii.gz")
    write(grown / "s1.nii.gz", ct() * 2)
    assert run(grown, client, ALL, "Original Square", "firstorder shape").ok is False
    shutil.move(grown / "kept.nii.gz", grown / "s1.nii.gz")
    left = run(grown, client, ALL, "Original Square", "firstorder shape")
    assert (left.missing, left.failed_before, left.ok) == (0, 3, False)
    again = run(grown, client, ALL, "Original Square", "firstorder shape", retry_failed=True)
    assert (again.missing, again.computed, again.failed_before, again.ok) == (3, 3, 0, True)
    run(grown, client, ALL, "Original Square", "firstorder shape", cube="new.zarr")
    xr.testing.assert_equal(numbers(grown), numbers(grown, "new.zarr"))


def test_numbers_of_a_file_that_is_gone_stay_also_in_an_update(grown: Path, client: Client) -> None:
    before = numbers(grown)
    (grown / "s1.nii.gz").unlink()
    (grown / "c-RAD.nii.gz").unlink()
    for update in (False, True):
        summary = run(grown, client, ALL, "Original Square", "firstorder shape", update=update)
        assert summary.ok is False
        assert states(grown) == {
            "done": vectors(ALL, "original", "firstorder shape"),
            "failed": vectors(ALL, "square", "firstorder"),
        }
        xr.testing.assert_equal(numbers(grown).firstorder.sel(image_type=["original"]), before.firstorder)
        xr.testing.assert_equal(numbers(grown).image_digest, before.image_digest)
    assert summary.missing == 0  # the update found nothing that it could compute anew


def test_rows_of_two_versions_of_an_image_are_each_held_to_their_own(grown: Path, client: Client) -> None:
    """A lesion that is added by a manifest of its own is measured on the image as it is then."""
    write(grown / "s1.nii.gz", ct() * 2)
    assert run(grown, client, "b-AI", "Original", "firstorder shape").ok
    for rows in ("a-RAD b-AI", "b-AI b-RAD"):  # whichever comes last
        summary = run(grown, client, rows, "Original Square", "firstorder shape")
        assert all(CHANGED in row.failure.reason for row in summary.partial)
    assert states(grown)["failed"] == vectors("a-RAD b-RAD", "square", "firstorder")
    assert "b-AI square firstorder" in states(grown)["done"]
    updated = run(grown, client, f"{ALL} b-AI", "Original Square", "firstorder shape", update=True)
    # Three vectors of each of three rows are of the old image; of c, which is of another, Square was never asked for.
    assert (updated.missing, updated.computed, updated.ok) == (3 * 3 + 1, 3 * 3 + 1, True)
    run(grown, client, f"{ALL} b-AI", "Original Square", "firstorder shape", cube="new.zarr")
    xr.testing.assert_equal(numbers(grown), numbers(grown, "new.zarr"))


def test_what_failed_before_counts_in_a_run_that_adds_something_else(study: Path, client: Client) -> None:
    corners = np.zeros(SHAPE, np.uint8)
    corners[0, 0, 0] = corners[2, 5, 9] = corners[7, 19, 23] = 1  # no two voxels are neighbours: no glcm
    write(study / "c-RAD.nii.gz", corners)
    first = run(study, client, "a-RAD c-RAD", "Original", "glcm")
    assert (first.computed, [row.lesion for row in first.failed]) == (2, ["c"])
    added = run(study, client, "a-RAD c-RAD", "Original", "glcm firstorder")
    assert (added.missing, added.computed, added.done, added.failed_before) == (2, 2, 2, 0)
    assert [(row.lesion, row.failure.reason) for row in added.partial] == [
        ("c", "some failed in an earlier run and were not tried again; --retry-failed does that")
    ]
    assert not added.ok
    later = run(study, client, "a-RAD c-RAD", "Original", "glcm firstorder")
    assert (later.missing, later.failed_before, later.ok) == (0, 1, False)
    write(study / "c-RAD.nii.gz", box())
    retried = run(study, client, "a-RAD c-RAD", "Original", "glcm firstorder shape", retry_failed=True)
    # Its mask is another one now than its numbers were made with.
    assert (retried.missing, retried.computed) == (3, 3)
    assert states(study)["failed"] == {"c-RAD original glcm", "c-RAD original shape"}
    assert run(study, client, "a-RAD c-RAD", "Original", "glcm firstorder shape", update=True).ok
