"""A second manifest, or other settings, over a cube: what is taken over, what is refused, what an update makes anew."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from cube_cases import BROKEN, FLAT, SMALL, Row, cohort, done, files, fill, record, write

from hgpscale.catalog import FAMILIES
from hgpscale.cohort.manifest import Cohort
from hgpscale.contents import Key
from hgpscale.cube import CubeWriter, open_cube, schema, status
from hgpscale.errors import CubeError
from hgpscale.settings import Settings

ROWS = cohort(
    ("a", "RAD"), ("a", "AI"), ("b", "RAD"), ("c", "RAD", 2, "GTV"), centre=["x", "y", ""], age=[50, None, 61.5]
)
RECORDS = [record("a", "RAD"), record("a", "AI"), record("b", "RAD", firstorder=FLAT), record("c", "RAD")]
MEAN, SHAPE = ("lesion", "original", "firstorder"), ("lesion", "original", "shape")
BOTH = {MEAN, SHAPE}
SQUARE = SMALL.model_copy(update={"image_types": {"Original": {}, "Square": {}}})


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(schema, "LESION_CHUNK", 2)
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "c.zarr", ROWS, RECORDS)


def changed(lesion: str, segmentation: str, **values: Any) -> Cohort:
    """Return `ROWS` with one row that says something else."""
    rows = [
        replace(row, **values) if (row.lesion, row.segmentation) == (lesion, segmentation) else row for row in ROWS.rows
    ]
    return replace(ROWS, rows=tuple(rows))


def columned(rows: Cohort = ROWS, **columns: list[Any]) -> Cohort:
    return replace(rows, columns=rows.columns.assign(**columns))


def column(path: Path, name: str) -> list[Any]:
    return list(open_cube(path)[name].values)


def test_a_manifest_with_fewer_rows_and_columns_changes_no_byte(path: Path) -> None:
    before = files(path)
    for fewer in (cohort(("c", "RAD", 2, "GTV")), cohort(("a", "AI")), columned(cohort(("b", "RAD")), centre=["y"])):
        with CubeWriter.open(path, fewer, SMALL) as writer:
            assert (writer.missing, writer.notes) == ({}, ())
        assert files(path) == before


def test_the_same_manifest_in_another_order_changes_no_byte(path: Path) -> None:
    before = files(path)
    other = replace(ROWS, rows=ROWS.rows[::-1], columns=ROWS.columns.iloc[[2, 0, 1], ::-1])
    with CubeWriter.open(path, other, SMALL) as writer:
        assert (writer.missing, writer.notes) == ({}, ())
    assert files(path) == before


def test_a_manifest_of_other_rows_only_adds_them(path: Path) -> None:
    before = open_cube(path).load()
    assert fill(path, cohort(("d", "RAD"), ("b", "AI"), centre=["z", "y"])) == {("d", "RAD"): BOTH, ("b", "AI"): BOTH}
    cube = open_cube(path).load()
    assert list(cube.lesion.values) == ["a", "b", "c", "d"]
    xr.testing.assert_equal(cube.sel(lesion=["a", "c"]), before.sel(lesion=["a", "c"]))
    assert column(path, "centre") == ["x", "y", "", "z"]
    np.testing.assert_array_equal(column(path, "age"), [50, np.nan, 61.5, np.nan])


def test_cells_are_filled_in_and_columns_added_but_none_is_emptied(path: Path) -> None:
    sparse = columned(centre=["", "y", "z"], age=[None, 40, None], sex=["f", "", "m"], dose=[None, 2.5, None])
    with CubeWriter.open(path, sparse, SMALL) as writer:
        assert (writer.missing, writer.notes) == ({}, ("columns added: sex dose",))
    assert column(path, "centre") == ["x", "y", "z"]
    assert column(path, "age") == [50, 40, 61.5]
    assert column(path, "sex") == ["f", "", "m"]
    np.testing.assert_array_equal(column(path, "dose"), [np.nan, 2.5, np.nan])
    assert list(open_cube(path).attrs["manifest_columns"]) == ["patient", "centre", "age", "sex", "dose"]


def test_numbers_come_into_a_column_of_text_as_people_write_them(path: Path) -> None:
    CubeWriter.open(
        path, columned(cohort(("d", "RAD"), ("e", "RAD"), ("f", "RAD")), centre=[3.0, 1.5, None]), SMALL
    ).close()
    assert column(path, "centre") == ["x", "y", "", "3", "1.5", ""]


def test_text_comes_into_a_column_of_numbers_only_as_numbers(path: Path) -> None:
    CubeWriter.open(path, columned(cohort(("d", "RAD"), ("e", "RAD")), age=["7.5", ""]), SMALL).close()
    np.testing.assert_array_equal(column(path, "age"), [50, np.nan, 61.5, 7.5, np.nan])
    before = files(path)
    with pytest.raises(CubeError) as caught:
        CubeWriter.open(path, columned(cohort(("f", "RAD"), source="more.csv"), age=["old"]), SMALL, update=True)
    assert str(caught.value) == (
        f"{path}: column 'age' holds numbers in the cube, but 'old' for lesion 'f' in more.csv; write a number, or "
        "rename the column"
    )
    assert files(path) == before
    assert [p.name for p in path.parent.iterdir()] == ["c.zarr"]


ALL_ROWS = [("a", "RAD"), ("a", "AI"), ("b", "RAD"), ("c", "RAD")]
NOTHING: dict[Row, set[Key]] = {}
BINS = SMALL.model_copy(update={"binWidth": 5.0})
OLD = FAMILIES["shape"].version


def one(row: tuple[Any, ...], **values: Any) -> Cohort:
    """Make a manifest of one row."""
    rows = cohort(row)
    return replace(rows, rows=(replace(rows.rows[0], **values),))


@pytest.mark.parametrize(
    ("rows", "settings", "version", "says", "anew"),
    [
        pytest.param(
            replace(ROWS, rows=tuple(replace(r, image_text="x.nii") if r.lesion == "a" else r for r in ROWS.rows)),
            SMALL,
            None,
            "lesion 'a': image is 'a.nii.gz' in the cube, now 'x.nii'",
            NOTHING,  # the files' bytes decide
            id="image",
        ),
        pytest.param(
            one(("a", "PHD"), image_text="x.nii"),
            SMALL,
            None,
            "lesion 'a': image is 'a.nii.gz' in the cube, now 'x.nii'",
            {("a", "PHD"): BOTH},
            id="image of a new segmentation",
        ),
        pytest.param(
            changed("a", "AI", mask_text="x.nii"),
            SMALL,
            None,
            "lesion 'a', segmentation 'AI': mask is 'a-AI.nii.gz' in the cube, now 'x.nii'",
            NOTHING,
            id="mask",
        ),
        pytest.param(
            changed("c", "RAD", label=3),
            SMALL,
            None,
            "lesion 'c', segmentation 'RAD': label is 2 in the cube, now 3",
            {("c", "RAD"): BOTH},
            id="label",
        ),
        pytest.param(
            changed("c", "RAD", roi="PTV"),
            SMALL,
            None,
            "lesion 'c', segmentation 'RAD': roi is 'GTV' in the cube, now 'PTV'",
            {("c", "RAD"): BOTH},
            id="roi",
        ),
        pytest.param(
            columned(centre=["x", "w", "z"]),
            SMALL,
            None,
            "lesion 'b': centre is 'y' in the cube, now 'w'",
            NOTHING,
            id="text",
        ),
        pytest.param(
            columned(age=[51, 3, 61.25]),
            SMALL,
            None,
            "lesion 'a': age is 50 in the cube, now 51; lesion 'c': age is 61.5 in the cube, now 61.25",
            NOTHING,
            id="numbers",
        ),
        pytest.param(
            columned(patient=["patient of a", "z", "patient of c"]),
            SMALL,
            None,
            "lesion 'b': patient is 'patient of b' in the cube, now 'z'",
            NOTHING,
            id="patient",
        ),
        pytest.param(
            ROWS,
            BINS,
            None,
            "binWidth is 25.0 in the cube, now 5.0",
            {row: {MEAN} for row in ALL_ROWS},
            id="bins",
        ),
        pytest.param(
            ROWS,
            SMALL,
            OLD + 1,
            f"its shape numbers are of version {OLD}, this hgpscale computes version {OLD + 1}",
            {row: {SHAPE} for row in ALL_ROWS},
            id="version",
        ),
        pytest.param(
            ROWS,
            SMALL.model_copy(update={"features": {**SMALL.features, "firstorder": ("Energy", "Mean", "Median")}}),
            None,
            "feature class firstorder lacks Median in the cube",
            {row: {MEAN} for row in ALL_ROWS},
            id="more features",
        ),
    ],
)
def test_what_differs_is_refused_and_by_an_update_taken_over(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rows: Cohort,
    settings: Settings,
    version: int | None,
    says: str,
    anew: dict[Row, set[Key]],
) -> None:
    if version is not None:
        monkeypatch.setitem(FAMILIES, "shape", replace(FAMILIES["shape"], version=version))
    before, was_done = files(path), done(open_cube(path).load())
    with pytest.raises(CubeError) as caught:
        CubeWriter.open(path, rows, settings)
    assert str(caught.value) == (
        f"{path}: holds what was made otherwise: {says}; use the settings and the manifest that it was made with, add "
        "--update to compute anew what this concerns, or extract to another path"
    )
    assert files(path) == before
    assert [p.name for p in path.parent.iterdir()] == ["c.zarr"]  # no lock
    with CubeWriter.open(path, rows, settings, update=True) as writer:
        assert {row: set(keys) for row, keys in writer.missing.items()} == anew
        lines = says.split("; ")
        assert writer.notes[: len(lines)] == tuple(f"{line}: computed anew" for line in lines)
    left = was_done - {(*row, *key) for row, keys in anew.items() for key in keys}
    assert done(open_cube(path).load()) == left
    fill(path, rows, settings)
    assert done(open_cube(path).load()) >= left | {(*row, *key) for row, keys in anew.items() for key in keys}
    with CubeWriter.open(path, rows, settings) as writer:
        assert (writer.missing, writer.notes) == ({}, ())


def test_an_update_makes_nothing_anew_that_the_manifest_has_not_but_its_numbers_count_no_more(path: Path) -> None:
    assert fill(path, cohort(("c", "RAD", 2, "GTV")), BINS, update=True) == {("c", "RAD"): {MEAN}}
    assert done(open_cube(path).load()) == {("c", "RAD", *MEAN)} | {(*row, *SHAPE) for row in ALL_ROWS}
    assert fill(path, ROWS, BINS) == {row: {MEAN} for row in ALL_ROWS if row != ("c", "RAD")}


def test_what_an_update_took_over_is_what_the_manifest_says(path: Path) -> None:
    rows = changed("c", "RAD", label=3, roi="PTV", mask_text="m.nii", image_text="i.nii")
    fill(path, columned(rows, centre=["w", "y", "v"], age=[1, 2, 3]), SMALL, update=True)
    cube = open_cube(path).load().sel(lesion="c", segmentation="RAD")
    assert [cube[name].item() for name in ("requested_label", "roi", "mask", "image_path")] == [
        3,
        "PTV",
        "m.nii",
        "i.nii",
    ]
    assert (column(path, "centre"), column(path, "age")) == (["w", "y", "v"], [1, 2, 3])
    assert column(path, "image_path") == ["a.nii.gz", "b.nii.gz", "i.nii"]


def test_many_differences_are_counted(path: Path) -> None:
    rows = columned(centre=["p", "q", "r"], age=[1, 2, 3], patient=["p", "q", "r"])
    with pytest.raises(CubeError, match="now 'p'; and 3 more; use the settings") as caught:
        CubeWriter.open(path, rows, SMALL.model_copy(update={"normalize": True}))
    # normalize, three patients, two centres and two ages
    assert str(caught.value).count(" in the cube, now ") == 5


@pytest.mark.parametrize(
    ("rows", "anew"),
    [
        pytest.param(one(("d", "AI", 3)), ["AI"], id="label"),
        pytest.param(one(("d", "AI", None, "PTV")), ["AI"], id="roi"),
        pytest.param(one(("d", "AI"), mask_text="mended.nii"), ["AI"], id="mask"),
        pytest.param(one(("d", "AI"), image_text="mended.nii"), ["AI", "RAD"], id="image"),
        pytest.param(one(("d", "PHD"), image_text="mended.nii"), ["AI", "PHD", "RAD"], id="image of a new row"),
    ],
)
def test_rows_without_numbers_are_mended_silently_and_tried_again(path: Path, rows: Cohort, anew: list[str]) -> None:
    failing = cohort(("d", "RAD"), ("d", "AI"))
    with CubeWriter.open(path, failing, SMALL) as writer:
        for row in failing.rows:
            writer.add(record(row.lesion, row.segmentation, firstorder=BROKEN, shape=BROKEN))
    assert fill(path, failing) == {}
    with CubeWriter.open(path, rows, SMALL) as writer:
        assert {row: set(keys) for row, keys in writer.missing.items()} == {("d", rows.segmentations[0]): BOTH}
        assert not any("computed anew" in note for note in writer.notes)
    records = open_cube(path).hgp.records()
    pending = records[records.state == "pending"]
    assert set(zip(pending.lesion, pending.segmentation, strict=True)) == {("d", rater) for rater in anew}
    assert len(pending) == 2 * len(anew)


def test_a_cube_without_any_number_takes_other_settings_over(tmp_path: Path) -> None:
    rows = cohort(("a", "RAD"), ("b", "RAD"), centre=["x", "y"])
    path = write(tmp_path / "c.zarr", rows, [record("a", "RAD", firstorder=BROKEN, shape=BROKEN)])
    wider = SMALL.model_copy(
        update={"normalize": True, "binWidth": 5.0, "features": {"firstorder": ("Mean", "Median")}}
    )
    assert fill(path, columned(rows, centre=["x", "z"]), wider) == {("a", "RAD"): {MEAN}, ("b", "RAD"): {MEAN}}
    cube = open_cube(path).load()
    assert list(cube.firstorder_feature.values) == ["Energy", "Mean", "Median"]
    assert list(cube.centre.values) == ["x", "z"]
    assert Settings.from_parameters(cube.attrs["settings"]).normalize
    # Of shape, which is not asked for again, the failure counts no more.
    assert done(cube) == {(x, "RAD", *MEAN) for x in "ab"}
    assert set(cube.hgp.records().groupby("family")["state"].unique().map(tuple).items()) == {
        ("firstorder", ("done",)),
        ("shape", ("pending",)),
    }


def test_what_failed_is_tried_again_on_demand_also_where_something_else_is_missing(path: Path) -> None:
    new = ("lesion", "square", "firstorder")
    with CubeWriter.open(path, ROWS, SQUARE) as writer:
        assert writer.failed() == {("b", "RAD")}
        assert {row: set(keys) for row, keys in writer.missing.items()} == {row: {new} for row in ALL_ROWS}
    with CubeWriter.open(path, ROWS, SQUARE, retry_failed=True) as writer:
        assert writer.failed() == set()
        assert {row: set(keys) for row, keys in writer.missing.items()} == {
            **{row: {new} for row in ALL_ROWS},
            ("b", "RAD"): {new, MEAN},
        }
    shape_alone = SMALL.model_copy(update={"features": {"shape": ("MeshVolume",)}})
    write(path, cohort(("d", "RAD")), [record("d", "RAD", firstorder=FLAT)])
    with CubeWriter.open(path, cohort(("d", "RAD")), shape_alone, retry_failed=True) as writer:
        assert (writer.missing, writer.failed()) == ({}, set())  # firstorder is not asked for


def test_rows_that_are_reset_count_no_more_at_once(path: Path) -> None:
    was_done = done(open_cube(path).load())
    with CubeWriter.open(path, ROWS, SMALL) as writer:
        writer.reset([("a", "AI"), ("b", "RAD")])
        assert {row: set(keys) for row, keys in writer.missing.items()} == {("a", "AI"): BOTH, ("b", "RAD"): BOTH}
        assert done(open_cube(path).load()) == was_done - {(*row, *key) for row in writer.missing for key in BOTH}


def test_a_family_that_cannot_stay_leaves_no_array_of_another_length(tmp_path: Path) -> None:
    planes = Settings.from_parameters(
        {"featureClass": {"shape2D": ["Perimeter"], "firstorder": ["Mean"]}, "setting": {"force2D": True}}
    )
    rows = cohort(("a", "RAD"))
    path = write(tmp_path / "c.zarr", rows, [record("a", "RAD", planes)], planes)
    whole = Settings.from_parameters({"featureClass": {"firstorder": ["Mean"]}})
    anew = {("a", "RAD"): {MEAN}, ("b", "RAD"): {MEAN}}
    assert fill(path, cohort(("a", "RAD"), ("b", "RAD")), whole, update=True) == anew
    plain = xr.open_zarr(path, consolidated=False)
    assert plain.sizes["lesion"] == 2
    assert "shape2D" not in plain
    assert status(path).done == status(path).rows == 2
    shape2d = ("lesion", "original", "shape2D")
    assert fill(path, rows, planes, update=True) == {("a", "RAD"): {MEAN, shape2d}}
    assert done(open_cube(path).load()) == {("a", "RAD", *MEAN), ("a", "RAD", *shape2d)}
