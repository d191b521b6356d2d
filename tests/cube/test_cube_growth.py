"""A cube that grows, in any order: just what is missing is asked for, and what is there is not written again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from cube_cases import FLAT, SMALL, Row, cohort, done, files, fill, record, with_regions, write
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from hgpscale.cohort.manifest import Cohort
from hgpscale.contents import Contents, Key
from hgpscale.cube import CubeWriter, open_cube, schema, status
from hgpscale.cube.head import Head, head_of, lay_out, open_root
from hgpscale.settings import Settings

ROWS = cohort(("a", "RAD"), ("b", "RAD"), centre=["x", "y"])
RECORDS = [record("a", "RAD"), record("b", "RAD")]
FAMILIES = {"firstorder": ["Mean", "Energy"], "shape": ["MeshVolume"], "glcm": ["Id"]}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make chunks of two lesions, so that a few lesions fill several."""
    monkeypatch.setattr(schema, "LESION_CHUNK", 2)
    with dask.config.set(scheduler="synchronous"):
        yield


def content(path: Path) -> xr.Dataset:
    """Return all that a cube says, whatever the order in which it came."""
    return open_cube(path).load().sortby(list(schema.LABELS))


@dataclass
class Ask:
    """What one run asks for: rows, images besides shape's, and families."""

    rows: set[Row] = field(default_factory=lambda: {("a", "RAD"), ("b", "RAD")})
    images: set[str] = field(default_factory=lambda: {"original"})
    families: set[str] = field(default_factory=lambda: {"firstorder", "shape"})
    columns: set[str] = field(default_factory=set)

    def __or__(self, other: Ask) -> Ask:
        return Ask(*(getattr(self, name) | getattr(other, name) for name in self.__dataclass_fields__))

    def vectors(self) -> set[Key]:
        of_images = product(["lesion"], self.images, self.families - {"shape"})
        return {*of_images} | ({("lesion", "original", "shape")} & {*product(["lesion"], ["original"], self.families)})

    def settings(self) -> Settings:
        types: dict[str, Any] = {name.capitalize(): {} for name in sorted(self.images) if not name.startswith("log")}
        sigma = [int(name.split("-")[2]) for name in sorted(self.images) if name.startswith("log")]
        if sigma:
            types["LoG"] = {"sigma": sigma}
        return Settings.from_parameters({"imageType": types, "featureClass": {f: FAMILIES[f] for f in self.families}})

    def cohort(self) -> Cohort:
        lesions = sorted({lesion for lesion, _ in self.rows})
        columns: dict[str, Any] = {name: [f"{name} of {lesion}" for lesion in lesions] for name in self.columns}
        return cohort(*sorted(self.rows), **columns)


STEPS = [
    Ask(rows={("c", "RAD"), ("d", "RAD")}),
    Ask(rows={("a", "AI"), ("e", "AI")}),
    Ask(images={"square"}),
    Ask(images={"log-sigma-1-mm-3D"}),
    Ask(images={"log-sigma-2-mm-3D", "gradient"}, families={"firstorder"}),
    Ask(families={"glcm"}),
    Ask(rows={("b", "RAD")}, columns={"centre"}),
]


@hypothesis_settings(max_examples=3)
@given(order=st.permutations(STEPS), wholes=st.lists(st.booleans(), min_size=7, max_size=7))
def test_growth_in_any_order_asks_for_what_is_missing_and_ends_in_the_same(
    tmp_path_factory: pytest.TempPathFactory, order: list[Ask], wholes: list[bool]
) -> None:
    """Each step names all that came before (as a manifest and settings that were added to), or only what is new."""
    folder = tmp_path_factory.mktemp("order")
    path, held, filled = folder / "grown.zarr", Ask(set(), set(), set()), dict[Row, set[Key]]()
    everything = Ask()
    for step in STEPS:
        everything |= step
    for step, whole in zip([*order, everything], [*wholes, True], strict=True):
        asked = held | step if whole else step
        before = files(path) if path.exists() else {}
        missing = fill(path, asked.cohort(), asked.settings())
        lacked = {row: asked.vectors() - filled.get(row, set()) for row in asked.rows}
        assert missing == {row: keys for row, keys in lacked.items() if keys}
        for row, keys in missing.items():
            filled.setdefault(row, set()).update(keys)
        after = files(path)
        written = chunks_of(path, missing)
        kept = {name for name in before if name.split("/")[0] in FAMILIES and "/c/" in name} - written
        assert {name for name in kept if after.get(name) != before[name]} == set()
        held |= asked
    in_one_go = folder / "new.zarr"
    fill(in_one_go, everything.cohort(), everything.settings())
    xr.testing.assert_equal(content(path), content(in_one_go))
    assert done(content(path)) == {(*row, *key) for row in everything.rows for key in everything.vectors()}
    assert status(path).done == status(path).rows == 6


def chunks_of(path: Path, vectors: dict[Row, set[Key]]) -> set[str]:
    """Return the files that hold some vectors: a chunk is two lesions of one segmentation, region and image type."""
    cube = open_cube(path)
    at = {dim: {label: i for i, label in enumerate(cube[dim].values)} for dim in schema.LABELS}
    return {
        f"{family}/c/{at['lesion'][lesion] // 2}/{at['segmentation'][rater]}/{at['region'][region]}/"
        + (f"{at['image_type'][image]}/0" if family != "shape" else "0")
        for (lesion, rater), keys in vectors.items()
        for region, image, family in keys
    }


def _sizes_of(*dims: str) -> set[str]:
    """Return the files that say how long the arrays along some dimension are."""
    found = {f"{v.name}/zarr.json" for v in schema.VARIABLES if set(dims) & set(v.dims)}
    of_families = {"shape": {"lesion", "segmentation", "region"}}
    of_families["firstorder"] = of_families["shape"] | {"image_type"}
    return found | {f"{family}/zarr.json" for family, some in of_families.items() if set(dims) & some}


STATES = "state/c/0/0/0/0/0"
OF_NEW_ROWS = {"mask", "image_digest", "mask_digest", "label"}


@pytest.mark.parametrize(
    ("rows", "settings", "changed", "new"),
    [
        pytest.param(ROWS, SMALL, set(), set(), id="nothing"),
        pytest.param(
            ROWS,
            SMALL.model_copy(update={"image_types": {"Original": {}, "Square": {}}}),
            _sizes_of("image_type") | {STATES, "zarr.json"},
            {"image_type/c/1", "firstorder/c/0/0/0/1/0"},
            id="image type",
        ),
        pytest.param(
            ROWS,
            SMALL.model_copy(update={"features": {**SMALL.features, "glcm": ("Id",)}}),
            _sizes_of("family") | {STATES, "zarr.json"},
            {"family/c/2", "glcm/zarr.json", "glcm/c/0/0/0/0/0", "glcm_feature/zarr.json", "glcm_feature/c/0"},
            id="family",
        ),
        pytest.param(
            cohort(("a", "AI"), ("b", "AI"), centre=["x", "y"]),
            SMALL,
            _sizes_of("segmentation") | {"zarr.json"},
            {"segmentation/c/1", "state/c/0/1/0/0/0", "firstorder/c/0/1/0/0/0", "shape/c/0/1/0/0"}
            | {f"{name}/c/0/1" for name in OF_NEW_ROWS},
            id="segmentation",
        ),
        pytest.param(
            cohort(("c", "RAD"), ("d", "RAD"), centre=["x", "y"]),
            SMALL,
            _sizes_of("lesion") | {"centre/zarr.json", "patient/zarr.json", "zarr.json"},
            {"lesion/c/1", "image_path/c/1", "centre/c/1", "patient/c/1"}
            | {"state/c/1/0/0/0/0", "firstorder/c/1/0/0/0/0", "shape/c/1/0/0/0"}
            | {f"{name}/c/1/0" for name in OF_NEW_ROWS},
            id="lesions",
        ),
        pytest.param(
            cohort(("a", "RAD"), ("b", "RAD"), age=[50, 60]),
            SMALL,
            {"zarr.json"},
            {"age/zarr.json", "age/c/0"},
            id="column",
        ),
    ],
)
def test_growth_writes_these_files_and_no_others(
    tmp_path: Path, rows: Cohort, settings: Settings, changed: set[str], new: set[str]
) -> None:
    path = write(tmp_path / "c.zarr", ROWS, RECORDS)
    before = files(path)
    fill(path, rows, settings)
    after = files(path)
    assert before.keys() <= after.keys()
    assert {name for name in before if after[name] != before[name]} == changed
    assert after.keys() - before.keys() == new


def test_new_rows_share_the_chunk_of_old_ones_and_leave_their_numbers(tmp_path: Path) -> None:
    rows = cohort(("a", "RAD"), ("b", "RAD"), ("c", "RAD"))
    path = write(tmp_path / "c.zarr", rows, [record("a", "RAD"), record("c", "RAD", firstorder=FLAT)])
    before = files(path)
    assert set(fill(path, cohort(("d", "RAD")))) == {("d", "RAD")}
    after = files(path)
    assert {n for n in before if n.startswith("shape/c") and after[n] != before[n]} == {"shape/c/1/0/0/0"}
    shape, mean = ("lesion", "original", "shape"), ("lesion", "original", "firstorder")
    assert done(open_cube(path).load()) == {(x, "RAD", *key) for x, key in product("acd", (shape, mean))} - {
        ("c", "RAD", *mean)
    }
    assert open_cube(path).hgp.failures()["lesion"].tolist() == ["c"]


def test_a_region_is_added_and_stays_whatever_regions_a_later_run_asks_for(tmp_path: Path) -> None:
    path = write(tmp_path / "c.zarr", ROWS, [*RECORDS[:1], record("b", "RAD", firstorder=FLAT)])
    before = files(path)
    wider = with_regions(SMALL, "rim")
    rim = {("rim", "original", "firstorder"), ("rim", "original", "shape")}
    with CubeWriter.open(path, ROWS, wider) as writer:
        assert {row: set(keys) for row, keys in writer.missing.items()} == {("a", "RAD"): rim, ("b", "RAD"): rim}
        assert writer.notes == ("regions added: rim",)
    fill(path, ROWS, wider)
    after = files(path)
    assert {name for name in before if after[name] != before[name]} == _sizes_of("region") | {"zarr.json"}
    assert after.keys() - before.keys() == {
        "region/c/1",
        "state/c/0/0/1/0/0",
        "firstorder/c/0/0/1/0/0",
        "shape/c/0/0/1/0",
    }
    made = record("a", "RAD", wider, rim).values
    frame = open_cube(path).hgp.to_frame()
    assert frame["rim__original_shape_MeshVolume"][0] == made["rim", "original", "shape"][0]
    missing = fill(path, ROWS, with_regions(SMALL, "margin"))
    assert {key[0] for keys in missing.values() for key in keys} == {"margin"}
    cube = content(path)
    assert sorted(cube.region.values) == ["lesion", "margin", "rim"]
    np.testing.assert_array_equal(
        cube.firstorder.sel(lesion="a", segmentation="RAD", region="rim").squeeze(),
        made["rim", "original", "firstorder"],
    )


def test_several_things_are_added_at_once_and_said(tmp_path: Path) -> None:
    path = write(tmp_path / "c.zarr", ROWS, RECORDS)
    wider = SMALL.model_copy(
        update={"image_types": {"Original": {}, "Square": {}}, "features": {**SMALL.features, "glcm": ("Id",)}}
    )
    more = cohort(("a", "RAD"), ("b", "AI"), ("c", "PHD"), centre=["x", "y", "z"], age=[1, 2, 3], sex=["f", "m", "f"])
    with CubeWriter.open(path, more, wider) as writer:
        assert writer.notes == (
            "2 rows added",
            "segmentations added: AI PHD",
            "image types added: square",
            "feature classes added: glcm",
            "columns added: age sex",
        )
        new = {("lesion", "square", "firstorder"), ("lesion", "original", "glcm"), ("lesion", "square", "glcm")}
        old = {("lesion", "original", "firstorder"), ("lesion", "original", "shape")}
        assert {row: set(keys) for row, keys in writer.missing.items()} == {
            ("a", "RAD"): new,
            ("b", "AI"): new | old,
            ("c", "PHD"): new | old,
        }
    with CubeWriter.open(path, more, wider) as writer:
        assert writer.notes == ()


def test_old_numbers_of_what_is_pending_again_are_in_no_table(tmp_path: Path) -> None:
    path = write(tmp_path / "c.zarr", ROWS, RECORDS)
    CubeWriter.open(path, ROWS, SMALL.model_copy(update={"binWidth": 5.0}), update=True).close()
    assert np.isnan(open_cube(path).firstorder).all()
    assert np.isfinite(open_cube(path)["shape"]).all()
    root, _ = open_root(path, read_only=False)
    root["firstorder"][...] = 7.0  # as a kill leaves them that comes before they are blanked
    cube = open_cube(path)
    names = ["original_firstorder_Energy", "original_firstorder_Mean", "original_shape_MeshVolume"]
    wide = cube.hgp.to_frame()[names]
    tidy = cube.hgp.to_frame(tidy=True).set_index(["lesion", "family", "feature"])["value"]
    for lesion in (0, 1):
        made = RECORDS[lesion].values["lesion", "original", "shape"]
        np.testing.assert_array_equal(wide.iloc[lesion], [np.nan, np.nan, *made])
        np.testing.assert_array_equal(tidy["ab"[lesion]]["shape"], made)
        assert tidy["ab"[lesion]]["firstorder"].isna().all()
    assert [list(batch.iloc[0].isna()) for batch in cube.hgp.batches(1)] == [[False, True, True]] * 2
    assert np.isnan(cube.hgp.vectors(("lesion", "original", "firstorder"))).all()
    assert np.isfinite(cube.hgp.vectors(("lesion", "original", "shape"))).all()


def test_readers_see_the_old_extent_until_the_new_one_is_there(tmp_path: Path) -> None:
    path = write(tmp_path / "c.zarr", ROWS, RECORDS)
    before, opened = open_cube(path).load(), open_cube(path)
    root, head = open_root(path, read_only=False)
    settings = SMALL.model_copy(update={"image_types": {"Original": {}, "Square": {}}})
    labels = {
        "lesion": ["a", "b", "c", "d"],
        "segmentation": ["RAD", "AI"],
        "region": ["lesion"],
        "image_type": ["original", "square"],
        "family": ["firstorder", "shape"],
    }
    after = replace(
        head,
        settings=settings,
        contents=Contents.of(settings),
        columns={**head.columns, "age": "float64"},
        sizes={dim: len(names) for dim, names in labels.items()},
    )
    lay_out(root, head, after, labels)
    root["mask"][2:, :] = np.array([["c", ""], ["d", ""]], object)
    assert root["state"].shape == (4, 2, 1, 2, 2)
    xr.testing.assert_identical(open_cube(path).load(), before)
    xr.testing.assert_identical(opened.load(), before)  # also where it was opened before
    assert (status(path).rows, status(path).done) == (2, 2)
    assert list(open_cube(path).hgp.to_frame()["lesion"]) == ["a", "b"]
    after.commit(root)
    cube = open_cube(path)
    assert (list(cube.lesion.values), list(cube.image_type.values)) == (["a", "b", "c", "d"], ["original", "square"])
    assert (status(path).rows, status(path).done) == (4, 0)
    xr.testing.assert_equal(
        cube.sel(lesion=["a", "b"], segmentation=["RAD"], image_type=["original"])["state"].load(), before["state"]
    )


def test_a_growth_that_was_laid_out_is_taken_back_before_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "LESION_CHUNK", 4)  # some of what was laid out is in a chunk of old lesions
    path = write(tmp_path / "c.zarr", ROWS, RECORDS)
    shutil.copytree(path, tmp_path / "expected.zarr")
    root, head = open_root(path, read_only=False)
    labels = {dim: list(open_cube(path)[dim].values) for dim in schema.LABELS} | {"lesion": ["a", "b", "x", "y", "z"]}
    after = replace(head, columns={**head.columns, "age": "float64"}, sizes={**head.sizes, "lesion": 5})
    lay_out(root, head, after, labels)
    root["mask"][2:, :] = root["centre"][2:] = "of x, y or z"
    root["age"][...] = 7.0
    root.create_array("own", data=np.zeros(3), dimension_names=("mine",))  # somebody keeps his own numbers there
    for cube in (path, tmp_path / "expected.zarr"):
        assert set(fill(cube, cohort(("c", "AI"), age=[5]))) == {("c", "AI")}
    xr.testing.assert_identical(open_cube(path).load(), open_cube(tmp_path / "expected.zarr").load())
    assert "own" in set(root.keys())


def test_a_reader_that_meets_an_update_sees_the_cube_before_or_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "c.zarr", ROWS, RECORDS)
    more = SMALL.model_copy(update={"features": {**SMALL.features, "firstorder": ("Energy", "Mean", "Median")}})

    def overtaken(*arguments: Any) -> Head:
        read = head_of(*arguments)
        monkeypatch.setattr("hgpscale.cube.head.head_of", head_of)
        fill(path, ROWS, more, update=True)
        return read

    monkeypatch.setattr("hgpscale.cube.head.head_of", overtaken)
    cube = open_cube(path).load()
    assert list(cube.firstorder_feature.values) == ["Energy", "Mean", "Median"]
    assert len(done(cube)) == 4
