"""Selections of a cube and what they give: batches, agreement, tidy tables, exports; against loops over the records."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import xarray as xr
from cube_cases import BROKEN, FLAT, cohort, record, with_regions, write
from zarr.storage import LocalStore

from hgpscale.catalog import FAMILIES
from hgpscale.cube import agreement, export, open_cube
from hgpscale.errors import CubeError
from hgpscale.record import Record
from hgpscale.settings import Settings

SETTINGS = Settings.from_parameters(
    {
        "imageType": {"Original": {}, "LoG": {"sigma": [1.0, 2.0]}},
        "featureClass": {
            "firstorder": ["Mean", "Energy", "Entropy"],
            "shape": ["MeshVolume", "Sphericity"],
            "glcm": ["Contrast", "Id", "JointEntropy"],
        },
    }
)
IMAGES = ["original", "log-sigma-1-0-mm-3D", "log-sigma-2-0-mm-3D"]
NAMES = {
    "shape": ["MeshVolume", "Sphericity"],
    "firstorder": ["Energy", "Entropy", "Mean"],
    "glcm": ["Contrast", "Id", "JointEntropy"],
}
"""What SETTINGS ask for, in pyradiomics' order."""
FLAT_NAMES = [
    *(f"original_shape_{name}" for name in NAMES["shape"]),
    *(f"{image}_{family}_{name}" for image in IMAGES for family in ("firstorder", "glcm") for name in NAMES[family]),
]

ROWS = cohort(
    ("b", "RAD", 2, "GTV"),
    ("a", "RAD"),
    ("a", "AI"),
    ("c[1]", "AI"),
    ("c1", "RAD"),
    ("d", "RAD"),
    ("d", "AI"),
    ("e", "RAD"),
    centre=["north", "south", "north", "", "east", "south"],
    age=[50, 61, None, 50, 72, 0],
    ward=[1, 2, 3, 4, 5, 6],
)
LESIONS = ["b", "a", "c[1]", "c1", "d", "e"]
RECORDS = [
    record("b", "RAD", SETTINGS),
    record("a", "RAD", SETTINGS),
    record("a", "AI", SETTINGS, glcm=FLAT),
    record("c[1]", "AI", SETTINGS),
    record("c1", "RAD", SETTINGS, glcm=BROKEN, firstorder=BROKEN, shape=BROKEN),  # no number at all
    record("d", "RAD", SETTINGS),
    record("d", "AI", SETTINGS),
]  # e's is pending
WITH_NUMBERS = [("b", "RAD"), ("a", "RAD"), ("a", "AI"), ("c[1]", "AI"), ("d", "RAD"), ("d", "AI")]


def numbers(row: tuple[str, str], records: list[Record] = RECORDS, region: str = "lesion") -> dict[str, float]:
    """Return a row's features by pyradiomics' names, by a loop over its record; none where it has none."""
    found: dict[str, float] = {}
    for one in records:
        if (one.lesion, one.segmentation) == row:
            for (of, image, family), vector in one.values.items():
                if of == region:
                    found |= dict(zip((f"{image}_{family}_{n}" for n in NAMES[family]), vector.tolist(), strict=True))
    return found


def expected(rows: list[tuple[str, str]], names: list[str]) -> list[list[float]]:
    return [[numbers(row).get(name, np.nan) for name in names] for row in rows]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("cube") / "c.zarr", ROWS, RECORDS, SETTINGS)


@pytest.fixture
def cube(path: Path) -> xr.Dataset:
    return open_cube(path)


def features_of(part: xr.Dataset) -> list[str]:
    return [f"{f}_{name}" for f in ("shape", "firstorder", "glcm") if f in part for name in part[f"{f}_feature"].values]


# ---- select


def test_selecting_nothing_special_is_the_whole_cube(cube: xr.Dataset) -> None:
    assert cube.hgp.select().identical(cube)


@pytest.mark.parametrize(
    ("dim", "argument", "wanted", "labels"),
    [
        ("lesion", "lesions", "a", ["a"]),
        ("lesion", "lesions", ["e", "b"], ["b", "e"]),
        ("lesion", "lesions", ("d", "d"), ["d"]),
        ("lesion", "lesions", {"a", "e"}, ["a", "e"]),
        ("lesion", "lesions", np.array(["a", "e"]), ["a", "e"]),
        ("lesion", "lesions", pd.Series(["e"], index=[7]), ["e"]),
        ("lesion", "lesions", (lesion for lesion in "ab"), ["b", "a"]),
        ("lesion", "lesions", "c*", ["c[1]", "c1"]),
        ("lesion", "lesions", ["c?", "b"], ["b", "c1"]),
        ("lesion", "lesions", "c[1]", ["c[1]"]),  # a name, though it is also a pattern that c1 fits
        ("lesion", "lesions", "[!a-d]*", ["e"]),
        ("segmentation", "segmentations", "AI", ["AI"]),
        ("segmentation", "segmentations", ["AI", "RAD"], ["RAD", "AI"]),
        ("region", "regions", "lesion", ["lesion"]),
        ("image_type", "image_types", "original", ["original"]),
        ("image_type", "image_types", "log-*", IMAGES[1:]),
        ("image_type", "image_types", ["*-2-*", "original"], ["original", IMAGES[2]]),
    ],
)
def test_names_and_patterns_choose_labels_in_the_cube_s_order(
    cube: xr.Dataset, dim: str, argument: str, wanted: Any, labels: list[str]
) -> None:
    part = cube.hgp.select(**{argument: wanted})
    assert part.identical(cube.sel({dim: labels}))


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("glcm_Contrast", ["glcm_Contrast"]),
        ("glcm_*", ["glcm_Contrast", "glcm_Id", "glcm_JointEntropy"]),
        ("*Entropy", ["firstorder_Entropy", "glcm_JointEntropy"]),
        (["shape_*", "*_Mean"], ["shape_MeshVolume", "shape_Sphericity", "firstorder_Mean"]),
        (["glcm_Id", "glcm_Contrast", "glcm_C*"], ["glcm_Contrast", "glcm_Id"]),
    ],
)
def test_patterns_choose_features_and_leave_families_out(cube: xr.Dataset, wanted: Any, found: list[str]) -> None:
    part = cube.hgp.select(features=wanted)
    families = list(dict.fromkeys(name.partition("_")[0] for name in found))
    assert features_of(part) == found
    assert set(part.family.values) == set(families)
    assert set(part.state.dims) == set(cube.state.dims)
    for family in families:
        names = part[f"{family}_feature"].values
        xr.testing.assert_identical(
            part[family].drop_attrs(), cube[family].sel({f"{family}_feature": names}).drop_attrs()
        )
    frame = part.hgp.select(segmentations="RAD").hgp.to_frame()
    assert list(frame.columns[9:]) == [name for name in FLAT_NAMES if name.partition("_")[2] in found]


def test_units_and_ids_stay_with_their_features(cube: xr.Dataset) -> None:
    part = cube.hgp.select(features=["*_Mean", "glcm_*"])
    mean = next(feature for feature in FAMILIES["firstorder"].features if feature.name == "Mean")
    assert list(part.firstorder_feature.values) == ["Mean"]
    about = part.firstorder_feature.attrs
    assert (about["feature_units"], about["ibsi_ids"]) == ([mean.unit], [mean.ibsi_id]) == (["HU"], ["Q4LE"])
    assert part.glcm_feature.attrs == cube.glcm_feature.attrs
    assert cube.firstorder_feature.attrs["feature_units"] == ["HU2", "bit", "HU"]  # not changed by it


@pytest.mark.parametrize(
    ("criteria", "lesions"),
    [
        ({"centre": "north"}, ["b", "c[1]"]),
        ({"centre": ["east", "south"]}, ["a", "d", "e"]),
        ({"centre": ""}, ["c1"]),
        ({"centre": np.array(["east", "west"])}, ["d"]),
        ({"age": 50}, ["b", "c1"]),
        ({"age": 61.0}, ["a"]),
        ({"age": [0, "no number"]}, ["e"]),
        ({"age": range(60, 80)}, ["a", "d"]),
        ({"age": np.nan}, ["c[1]"]),
        ({"age": 50, "centre": "north"}, ["b"]),
        ({"patient": "patient of d"}, ["d"]),
        ({"ward": {2, 3, 4}, "lesions": "c*"}, ["c[1]", "c1"]),
    ],
)
def test_columns_choose_lesions(cube: xr.Dataset, criteria: dict[str, Any], lesions: list[str]) -> None:
    assert cube.hgp.select(**criteria).identical(cube.sel(lesion=lesions))


def test_a_selection_can_be_selected_from(cube: xr.Dataset) -> None:
    part = cube.hgp.select(centre=["north", "south"]).hgp.select(lesions="[a-c]*", image_types="log-*")
    assert list(part.lesion.values) == ["b", "a", "c[1]"]
    again = part.hgp.select(features="glcm_Id").hgp.select(segmentations="AI", image_types="*-1-*")
    frame = again.hgp.to_frame()
    assert list(frame.columns[-1:]) == ["log-sigma-1-0-mm-3D_glcm_Id"]
    assert frame.iloc[:, -1].tolist() == pytest.approx(
        [np.nan, np.nan, numbers(("c[1]", "AI"))["log-sigma-1-0-mm-3D_glcm_Id"]], abs=0, nan_ok=True
    )


def test_what_is_one_label_only_can_be_selected_from(cube: xr.Dataset) -> None:
    one = cube.sel(lesion="d", segmentation="AI", region="lesion", image_type="original", glcm_feature="Id")
    part = one.hgp.select(
        lesions="d", segmentations="A*", regions="lesion", image_types="orig*", centre="east", features="glcm_Id"
    )
    assert part.hgp.to_frame().iloc[0, -1] == numbers(("d", "AI"))["original_glcm_Id"]
    assert set(one.data_vars) - set(part.data_vars) == {"shape", "firstorder"}
    with pytest.raises(CubeError, match=r"no lesion matches 'a'; there are d$"):
        one.hgp.select(lesions="a")
    with pytest.raises(CubeError, match=r"no lesion has centre 'north'; there are 'east'$"):
        one.hgp.select(centre="north")


def test_shape_goes_with_the_image_that_it_stands_under(cube: xr.Dataset) -> None:
    logs = cube.hgp.select(image_types="log-*")
    assert [name for name in logs.hgp.to_frame() if "_shape_" in name] == []
    assert "shape" not in cube.hgp.select(image_types="log-*", features="*_M*")
    with pytest.raises(CubeError, match=r"no feature matches 'shape_\*'; there are firstorder_Energy, "):
        cube.hgp.select(image_types="log-*", features="shape_*")


@pytest.mark.parametrize(
    ("criteria", "says"),
    [
        ({"lesions": "z*"}, "no lesion matches 'z*'; there are b, a, c[1], c1, d, e"),
        ({"lesions": ["a", "A"]}, "no lesion matches 'A'; there are b, a, c[1], c1, d, e"),
        ({"lesions": []}, "the list of names of lesion is empty; there are b, a, c[1], c1, d, e"),
        ({"segmentations": "rad"}, "no segmentation matches 'rad'; there are RAD, AI"),
        ({"regions": "rim"}, "no region matches 'rim'; there are lesion"),
        ({"image_types": "wavelet-*"}, f"no image_type matches 'wavelet-*'; there are {', '.join(IMAGES)}"),
        (
            {"features": "original_glcm_Id"},
            "no feature matches 'original_glcm_Id'; there are shape_MeshVolume, shape_Sphericity, firstorder_Energy, "
            "firstorder_Entropy, firstorder_Mean, glcm_Contrast, glcm_Id, glcm_JointEntropy",
        ),
        ({"features": ["glcm_*", "Contrast"], "segmentations": "AI"}, "no feature matches 'Contrast'; there are shape"),
        ({"center": "north"}, "no column 'center' in the cube; it has patient, centre, age, ward"),
        ({"centre": "west"}, "no lesion has centre 'west'; there are '', 'east', 'north', 'south'"),
        ({"centre": "north", "age": 72}, "no lesion has age 72; there are 50.0"),
        ({"age": "old"}, "no lesion has age 'old'; there are 0.0, 50.0, 61.0, 72.0"),
        ({"age": [1, 2]}, "no lesion has age 1, 2; there are 0.0"),
        ({"centre": []}, "no lesion has centre none; there are ''"),
    ],
)
def test_what_selects_nothing_is_refused_with_what_there_is(
    cube: xr.Dataset, criteria: dict[str, Any], says: str
) -> None:
    with pytest.raises(CubeError) as caught:
        cube.hgp.select(**criteria)
    assert str(caught.value).startswith(says)


def test_only_the_first_names_are_listed(tmp_path: Path) -> None:
    rows = cohort(*((f"L{i}", "default") for i in range(20)), number=list(range(20)))
    cube = open_cube(write(tmp_path / "c.zarr", rows, []))
    with pytest.raises(CubeError, match=r"there are L0, L1, L2, L3, L4, L5, L6, L7, \.\.\.$"):
        cube.hgp.select(lesions="x")
    with pytest.raises(CubeError, match=r"there are 0\.0, 1\.0, .*7\.0, \.\.\.$"):
        cube.hgp.select(number=-1)


# ---- tables of what xarray's own selections leave


def test_cells_that_xarray_has_emptied_are_no_rows(cube: xr.Dataset) -> None:
    emptied = cube.where(cube.centre == "south")
    grown = cube.reindex(lesion=["a", "new"])
    for part in (emptied, grown):
        assert part.hgp.to_frame()["RAD__label"].notna().tolist() == [lesion == "a" for lesion in part.lesion.values]
        assert set(part.hgp.to_frame(tidy=True)["lesion"]) <= {"a", "e"}
        assert set(part.hgp.records()["lesion"]) <= {"a", "e"}
        (batch,) = part.hgp.batches(9)
        assert list(batch.index) == [("a", "RAD"), ("a", "AI")]


def test_a_part_without_features_has_its_rows_still(cube: xr.Dataset) -> None:
    part = cube.sel(family="shape", image_type=IMAGES[1])
    front = [name for name in cube.hgp.to_frame() if "original" not in name and "log-" not in name]
    pd.testing.assert_frame_equal(part.hgp.to_frame(), cube.hgp.to_frame()[front])
    assert len(part.hgp.to_frame(tidy=True)) == len(part.hgp.records()) == 0
    assert list(part.hgp.batches(3)) == []
    with pytest.raises(CubeError, match="agreement needs features"):
        part.hgp.icc()


# ---- batches


def joined(batches: Iterator[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(list(batches))


@pytest.mark.parametrize(("size", "lengths"), [(1, [1] * 6), (4, [4, 2]), (5, [5, 1]), (6, [6]), (1000, [6])])
def test_batches_are_full_but_for_the_last(cube: xr.Dataset, size: int, lengths: list[int]) -> None:
    batches = list(cube.hgp.batches(size))
    assert [len(batch) for batch in batches] == lengths
    whole = pd.concat(batches)
    assert list(whole.index) == WITH_NUMBERS  # each segmentation is a row; what has no number is none
    assert whole.index.names == ["lesion", "segmentation"]
    assert list(whole.columns) == FLAT_NAMES
    np.testing.assert_array_equal(whole.to_numpy(), expected(WITH_NUMBERS, FLAT_NAMES))
    assert set(whole.dtypes) == {np.dtype("float64")}
    assert whole.isna().sum().sum() == 9  # a's glcm as AI sees it: single numbers may be missing


def test_one_column_is_a_series_several_are_a_table(cube: xr.Dataset) -> None:
    features, centre = zip(*cube.hgp.batches(4, "centre"), strict=True)
    assert [type(target) for target in centre] == [pd.Series, pd.Series]
    whole = pd.concat(centre)
    assert (whole.name, whole.tolist()) == ("centre", ["north", "south", "south", "north", "east", "east"])
    assert [target.index.equals(batch.index) for batch, target in zip(features, centre, strict=True)] == [True, True]
    pd.testing.assert_frame_equal(pd.concat(features), joined(cube.hgp.batches(4)))

    for wanted in (["age", "centre"], ("age", "centre"), np.array(["age", "centre"])):
        features, both = zip(*cube.hgp.batches(4, wanted), strict=True)
        table = pd.concat(both)
        assert list(table.columns) == ["age", "centre"]
        np.testing.assert_array_equal(table["age"], [50, 61, 61, np.nan, 72, 72])
        assert table["centre"].tolist() == whole.tolist()
        assert table.index.equals(whole.index)
    assert list(next(cube.hgp.batches(4, ["age"]))[1].columns) == ["age"]


def test_batches_of_selections(cube: xr.Dataset) -> None:
    part = cube.hgp.select(segmentations="AI", lesions=["d", "a"], features=["glcm_Id", "shape_*"], image_types="orig*")
    names = ["original_shape_MeshVolume", "original_shape_Sphericity", "original_glcm_Id"]
    ((batch, age),) = part.hgp.batches(10, target="age")
    assert (list(batch.columns), list(batch.index)) == (names, [("a", "AI"), ("d", "AI")])
    np.testing.assert_array_equal(batch.to_numpy(), expected([("a", "AI"), ("d", "AI")], names))
    assert age.tolist() == [61, 72]
    ((one, centre),) = cube.sel(lesion="d").hgp.batches(10, target="centre")
    assert (list(one.index), centre.tolist()) == ([("d", "RAD"), ("d", "AI")], ["east", "east"])
    assert list(cube.sel(lesion="e").hgp.batches(10, target="centre")) == []
    assert list(cube.isel(lesion=[]).hgp.batches(10)) == []


@pytest.mark.parametrize("size", [0, -1])
def test_a_batch_has_a_row_at_least(cube: xr.Dataset, size: int) -> None:
    with pytest.raises(ValueError, match=f"size must be at least 1, found {size}"):
        next(cube.hgp.batches(size))


@pytest.mark.parametrize("target", ["center", ["age", "center"], "lesion"])
def test_a_target_is_a_column_of_the_manifest(cube: xr.Dataset, target: Any) -> None:
    with pytest.raises(CubeError, match=r"no column '(center|lesion)' in the cube; it has patient, centre, age, ward"):
        next(cube.hgp.batches(2, target))


CHUNK, TASK = 4, 3 * 4
MANY = [f"L{i:02d}" for i in range(26)]
"""Lesions in chunks of four: the last has two. Every fifth has no number, every third a second rater."""
MANY_ROWS = cohort(
    *((lesion, "RAD") for lesion in MANY), *((lesion, "AI") for lesion in MANY[::3]), number=list(range(26))
)
MANY_RECORDS = [
    *(record(lesion, "RAD", SETTINGS) for i, lesion in enumerate(MANY) if i % 5),
    *(record(lesion, "AI", SETTINGS) for lesion in MANY[::3]),
]
HAVING = [row for lesion in MANY for row in [(lesion, "RAD"), (lesion, "AI")] if numbers(row, MANY_RECORDS)]


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hgpscale.cube.schema.LESION_CHUNK", CHUNK)
    monkeypatch.setattr("hgpscale.cube.reader._LESIONS_A_TASK", TASK)
    monkeypatch.setattr("hgpscale.cube.batches._LESIONS_AT_A_TIME", 3)
    monkeypatch.setattr("hgpscale.cube.tables._LESIONS_AT_A_TIME", 3)


@pytest.fixture(scope="module")
def many_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hgpscale.cube.schema.LESION_CHUNK", CHUNK)
        return write(tmp_path_factory.mktemp("many") / "c.zarr", MANY_ROWS, MANY_RECORDS, SETTINGS)


@pytest.fixture
def many(many_path: Path, small_chunks: None) -> xr.Dataset:
    return open_cube(many_path)


@pytest.mark.parametrize("size", [1, 3, 4, 7, 8, 100])
@pytest.mark.parametrize("seed", [None, 0, 1])
def test_every_row_comes_once(many: xr.Dataset, size: int, seed: int | None) -> None:
    batches = list(many.hgp.batches(size, target="number", shuffle=seed))
    lengths = [len(batch) for batch, _ in batches]
    assert lengths == [size] * (len(HAVING) // size) + [len(HAVING) % size] * (len(HAVING) % size > 0)
    rows = [row for batch, _ in batches for row in batch.index]
    assert len(HAVING) == len(set(HAVING)) == 29
    assert sorted(rows) == sorted(HAVING)
    assert (rows == HAVING) == (seed is None)
    for batch, number in batches:
        assert [f"L{int(i):02d}" for i in number] == [lesion for lesion, _ in batch.index]
        wanted = [[numbers(row, MANY_RECORDS)[name] for name in FLAT_NAMES] for row in batch.index]
        np.testing.assert_array_equal(batch.to_numpy(), wanted)


@pytest.mark.parametrize("size", [3, 100])
def test_the_seed_decides_the_order(many: xr.Dataset, size: int) -> None:
    def order(seed: int) -> list[tuple[str, str]]:
        return [row for batch in many.hgp.batches(size, shuffle=seed) for row in batch.index]

    assert order(5) == order(5)
    assert len({tuple(order(seed)) for seed in range(5)}) == 5


def test_a_shuffle_mixes_rows_and_blocks(many: xr.Dataset) -> None:
    first = [{lesion for lesion, _ in next(many.hgp.batches(4, shuffle=seed)).index} for seed in range(60)]
    assert set().union(*first) == {lesion for lesion, _ in HAVING}  # any lesion may come early


@pytest.fixture
def chunks_read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the chunks of features that are read from a local store from now on."""
    keys: list[str] = []
    get = LocalStore.get

    async def counted(self: LocalStore, key: str, *args: Any, **kwargs: Any) -> Any:
        if key.partition("/c/")[0] in NAMES:
            keys.append(key)
        return await get(self, key, *args, **kwargs)

    monkeypatch.setattr(LocalStore, "get", counted)
    return keys


def lesion_chunks(keys: list[str]) -> list[int]:
    """Return which chunks along the lesions were read; that none is read twice is checked here."""
    assert len(set(keys)) == len(keys)
    return sorted({int(key.split("/")[2]) for key in keys})


def test_a_batch_reads_only_its_blocks(many: xr.Dataset, chunks_read: list[str]) -> None:
    batches = many.hgp.batches(4)
    seen = []
    for _ in range(2):
        next(batches)
        seen.append(lesion_chunks(chunks_read))
    assert seen[0] == [0]
    assert seen[1] in ([0], [0, 1])
    # Each family of each image and rater once, and shape of each rater.
    assert len([key for key in chunks_read if key.split("/")[2] == "0"]) == 2 * (2 * len(IMAGES) + 1)
    assert sum(len(batch) for batch in batches) == len(HAVING) - 8
    assert lesion_chunks(chunks_read) == list(range(7))


def test_larger_batches_read_as_many_lesions_as_they_have_rows(many: xr.Dataset, chunks_read: list[str]) -> None:
    next(many.hgp.batches(9))
    assert lesion_chunks(chunks_read) == [0, 1, 2]


def test_shuffled_batches_read_as_much(many: xr.Dataset, chunks_read: list[str]) -> None:
    next(many.hgp.batches(4, shuffle=3))
    assert len(lesion_chunks(chunks_read)) == 1
    chunks_read.clear()
    list(many.hgp.batches(4, shuffle=3))
    assert lesion_chunks(chunks_read) == list(range(7))


def test_batches_of_a_selection_read_nothing_twice(many: xr.Dataset, chunks_read: list[str]) -> None:
    part = many.isel(lesion=slice(2, 25))
    found = []
    for shuffle in (None, 3):
        chunks_read.clear()
        found.append([row for batch in part.hgp.batches(4, shuffle=shuffle) for row in batch.index])
        assert lesion_chunks(chunks_read) == list(range(7))
    assert found[0] != found[1]
    assert sorted(found[0]) == sorted(found[1])


def test_a_selection_reads_no_other_families_images_and_raters(many: xr.Dataset, chunks_read: list[str]) -> None:
    part = many.hgp.select(features="glcm_Id", image_types="log-*", segmentations="AI")
    assert chunks_read == []
    next(part.hgp.batches(4))
    # Dask pushes one slice down to the storage, not several: the rest of the task's lesions are read too.
    assert set(chunks_read) <= {f"glcm/c/{block}/1/0/{image}/0" for block in range(TASK // CHUNK) for image in (1, 2)}
    assert {"glcm/c/0/1/0/1/0", "glcm/c/0/1/0/2/0"} <= set(chunks_read)


def test_scattered_lesions_read_their_tasks_only(many: xr.Dataset, chunks_read: list[str]) -> None:
    (batch,) = many.hgp.select(lesions=["L01", "L22"]).hgp.batches(4)
    assert list(batch.index) == [("L01", "RAD"), ("L22", "RAD")]
    assert {0, 5} <= set(lesion_chunks(chunks_read)) <= {0, 1, 2, 3, 4, 5}


# ---- agreement


def by_hand(names: list[str], rows: Any = None, *, confidence: float = 0.95) -> pd.DataFrame:
    """Return the agreement of an array that is made by loops."""
    lesions, raters = rows or (LESIONS, ["RAD", "AI"])
    values = [[[numbers((les, rater)).get(name, np.nan) for name in names] for rater in raters] for les in lesions]
    return pd.DataFrame(agreement.icc(np.array(values), confidence=confidence)._asdict(), pd.Index(names))


def test_agreement_is_that_of_the_array(cube: xr.Dataset) -> None:
    found = cube.hgp.icc()
    assert list(found.columns) == [*(f"icc{i}{limit}" for i in (1, 2, 3) for limit in ("", "_low", "_high")), "n"]
    assert found.index.name == "feature"
    pd.testing.assert_frame_equal(found, by_hand(FLAT_NAMES), rtol=1e-12, atol=0, check_names=False)
    # Both raters have numbers of a and d, of a's glcm only one.
    assert found["n"].tolist() == [1 if "_glcm_" in name else 2 for name in FLAT_NAMES]
    assert found.filter(like="_glcm_", axis="index").drop(columns="n").isna().all(axis=None)
    assert found.drop(found.filter(like="_glcm_", axis="index").index).notna().any(axis=None)


@pytest.mark.parametrize("confidence", [0.5, 0.9])
def test_agreement_at_another_confidence(many: xr.Dataset, confidence: float) -> None:
    found = many.hgp.icc(confidence)
    values = np.array(
        [
            [
                [numbers((lesion, rater), MANY_RECORDS).get(name, np.nan) for name in FLAT_NAMES]
                for rater in ("RAD", "AI")
            ]
            for lesion in MANY
        ]
    )
    expected = agreement.icc(values, confidence=confidence)
    np.testing.assert_allclose(found["icc2_low"], expected.icc2_low, rtol=1e-12)
    np.testing.assert_allclose(found["icc2_high"], expected.icc2_high, rtol=1e-12)
    assert (found["icc2_low"] < found["icc2"]).all()
    assert set(found["n"]) == {sum(i % 3 == 0 and i % 5 > 0 for i in range(26))}


def test_agreement_of_a_selection(cube: xr.Dataset) -> None:
    part = cube.hgp.select(
        lesions=["d", "a"], features=["shape_*", "firstorder_Mean"], image_types=["original", "*-2-*"]
    )
    names = [name for name in FLAT_NAMES if name.endswith(("MeshVolume", "Sphericity", "Mean")) and "-1-" not in name]
    expected = by_hand(names, (["a", "d"], ["RAD", "AI"]))
    pd.testing.assert_frame_equal(part.hgp.icc(), expected, rtol=1e-12, atol=0, check_names=False)


@pytest.mark.parametrize("one", ["select", "sel"])
def test_one_rater_agrees_with_nobody(cube: xr.Dataset, one: str) -> None:
    part = cube.hgp.select(segmentations="AI") if one == "select" else cube.sel(segmentation="AI")
    with pytest.raises(CubeError, match="agreement needs at least two segmentations, found AI"):
        part.hgp.icc()


def test_regions_are_prefixes_of_agreement_and_batches(tmp_path: Path) -> None:
    wider = with_regions(SETTINGS, "rim")
    rows = [(lesion, rater) for lesion in "abcd" for rater in ("RAD", "AI")]
    records = [record(*row, wider) for row in rows]
    cube = open_cube(write(tmp_path / "c.zarr", cohort(*rows), records, wider))
    names = [*FLAT_NAMES, *(f"rim__{name}" for name in FLAT_NAMES)]
    found = cube.hgp.icc()
    assert list(found.index) == names
    for region, start in (("lesion", 0), ("rim", len(FLAT_NAMES))):
        values = [
            [[*numbers((lesion, rater), records, region).values()] for rater in ("RAD", "AI")] for lesion in "abcd"
        ]
        expected = agreement.icc(np.array(values)).icc2
        np.testing.assert_allclose(found["icc2"].iloc[start : start + len(FLAT_NAMES)], expected, rtol=1e-12)
    assert list(next(cube.hgp.batches(3)).columns) == names
    rim = cube.hgp.select(regions="rim", features="glcm_Id", image_types="original")
    assert list(rim.hgp.icc().index) == ["rim__original_glcm_Id"]
    (batch,) = rim.hgp.batches(9)
    assert batch["rim__original_glcm_Id"].tolist() == [numbers(row, records, "rim")["original_glcm_Id"] for row in rows]


# ---- tidy


IN_MANIFEST = [(row.lesion, row.segmentation) for lesion in LESIONS for row in ROWS.rows if row.lesion == lesion]


def melted(wide: pd.DataFrame, rows: list[tuple[str, str]], names: list[str]) -> dict[str, list[Any]]:
    """Return the tidy table's columns by a loop over the wide one's cells."""
    table: dict[str, list[Any]] = {}
    wide = wide.set_index("lesion")
    for lesion, rater in rows:
        for name in names:
            image, family, feature = name.split("_")
            cell = {"lesion": lesion, "patient": wide.loc[lesion, "patient"], "segmentation": rater, "region": "lesion"}
            cell |= {"image_type": image, "family": family, "feature": feature}
            for column, value in {**cell, "value": wide.loc[lesion, f"{rater}__{name}"]}.items():
                table.setdefault(column, []).append(value)
    return table


@pytest.mark.parametrize("numbers_at_a_time", [1, 50, 1_000_000])
def test_tidy_is_the_wide_table_melted(
    cube: xr.Dataset, monkeypatch: pytest.MonkeyPatch, numbers_at_a_time: int
) -> None:
    monkeypatch.setattr("hgpscale.cube.batches._NUMBERS_AT_A_TIME", numbers_at_a_time)
    tidy = cube.hgp.to_frame(tidy=True)
    table = melted(cube.hgp.to_frame(), sorted(IN_MANIFEST, key=lambda row: LESIONS.index(row[0])), FLAT_NAMES)
    assert list(tidy.columns) == list(table)
    assert len(tidy) == len(IN_MANIFEST) * len(FLAT_NAMES)
    for name, values in table.items():
        assert tidy[name].tolist() == pytest.approx(values, nan_ok=True, abs=0, rel=0) if name == "value" else values
    assert tidy.index.equals(pd.RangeIndex(len(tidy)))
    assert [name for name, dtype in tidy.dtypes.items() if dtype == "category"] == [
        "region",
        "image_type",
        "family",
        "feature",
    ]


def test_tidy_blocks_hold_so_many_numbers_of_all_raters(many: xr.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    from hgpscale.cube import batches

    limit = 2 * 2 * len(FLAT_NAMES)
    monkeypatch.setattr("hgpscale.cube.batches._NUMBERS_AT_A_TIME", limit)
    lengths = [len(frame) for frame in batches.tidy(many.hgp)]
    assert max(lengths) <= limit
    assert sum(lengths) == len(MANY_ROWS.rows) * len(FLAT_NAMES)


def test_tidy_of_blocks_without_rows_has_the_same_types(many: xr.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    part = many.hgp.select(segmentations="AI")
    expected = part.hgp.to_frame(tidy=True)
    monkeypatch.setattr("hgpscale.cube.batches._NUMBERS_AT_A_TIME", 1)  # most lesions have no second rater
    pd.testing.assert_frame_equal(part.hgp.to_frame(tidy=True), expected)


# ---- exports


PYRADIOMICS = ["Patient", "centre", "age", "ward", "Lesion", "Segmentation", "Image", "Mask", "Label"]


def as_pyradiomics() -> list[dict[str, Any]]:
    """Return the rows of pyradiomics' batch layout by a loop over the manifest."""
    table = []
    for lesion, rater in sorted(IN_MANIFEST, key=lambda row: LESIONS.index(row[0])):
        own = ROWS.columns.loc[lesion]
        label = 1 if any((one.lesion, one.segmentation) == (lesion, rater) for one in RECORDS) else pd.NA
        row = {"Patient": own["patient"], **{name: own[name] for name in ("centre", "age", "ward")}}
        row |= {
            "Lesion": lesion,
            "Segmentation": rater,
            "Image": f"{lesion}.nii.gz",
            "Mask": f"{lesion}-{rater}.nii.gz",
        }
        table.append({**row, "Label": label, **{name: numbers((lesion, rater)).get(name) for name in FLAT_NAMES}})
    return table


def test_the_layout_of_pyradiomics_has_a_row_a_mask(path: Path, tmp_path: Path) -> None:
    found = pd.read_parquet(export(path, tmp_path / "f.parquet", layout="pyradiomics"))
    assert list(found.columns) == PYRADIOMICS + FLAT_NAMES
    expected = pd.DataFrame(as_pyradiomics()).astype({"age": "Int64", "Label": "Int64"})
    pd.testing.assert_frame_equal(found, expected, check_exact=True, check_dtype=False)
    dtypes = {"age": "Int64", "ward": "int64", "Label": "Int64", **dict.fromkeys(FLAT_NAMES, "float64")}
    assert {name: str(found[name].dtype) for name in dtypes} == dtypes
    lines = export(path, tmp_path / "f.csv", layout="pyradiomics").read_text().splitlines()
    assert lines[0] == ",".join(found.columns)
    first = ",".join(repr(value) for value in numbers(("b", "RAD")).values())
    assert lines[1] == f"patient of b,north,50,1,b,RAD,b.nii.gz,b-RAD.nii.gz,1,{first}"


def test_the_tidy_layout_is_the_tidy_table(path: Path, tmp_path: Path, cube: xr.Dataset) -> None:
    tidy = cube.hgp.to_frame(tidy=True)
    found = pd.read_parquet(export(path, tmp_path / "f.parquet", layout="tidy"))
    pd.testing.assert_frame_equal(found, tidy, check_exact=True, check_dtype=False, check_categorical=False)
    assert found["value"].dtype == np.float64
    back = pd.read_csv(export(path, tmp_path / "f.csv", layout="tidy"), dtype=str, keep_default_na=False)
    assert list(back.columns) == list(tidy.columns)
    assert [float(cell) if cell else None for cell in back["value"]] == tidy["value"].astype(object).replace(
        np.nan, None
    ).tolist()
    for name in back.columns[:-1]:
        assert back[name].tolist() == tidy[name].tolist()


@pytest.mark.parametrize("layout", ["wide", "tidy", "pyradiomics"])
@pytest.mark.parametrize("which", ["path", "many_path"])
def test_tables_of_several_blocks_are_those_of_one(
    which: str, layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    cube = request.getfixturevalue(which)
    if which == "many_path":
        monkeypatch.setattr("hgpscale.cube.schema.LESION_CHUNK", CHUNK)
    whole = {suffix: export(cube, tmp_path / f"whole{suffix}", layout=layout) for suffix in (".csv", ".parquet")}
    monkeypatch.setattr("hgpscale.cube.batches._LESIONS_AT_A_TIME", 1)
    monkeypatch.setattr("hgpscale.cube.batches._NUMBERS_AT_A_TIME", 1)
    parts = {suffix: export(cube, tmp_path / f"parts{suffix}", layout=layout) for suffix in (".csv", ".parquet")}
    assert parts[".csv"].read_bytes() == whole[".csv"].read_bytes()
    one, several = pq.ParquetFile(whole[".parquet"]), pq.ParquetFile(parts[".parquet"])
    assert (one.num_row_groups, several.num_row_groups) == (1, open_cube(cube).sizes["lesion"])
    assert several.schema_arrow.equals(one.schema_arrow, check_metadata=True)
    pd.testing.assert_frame_equal(pd.read_parquet(parts[".parquet"]), pd.read_parquet(whole[".parquet"]))


def test_a_layout_that_is_none_is_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(CubeError, match=r"f\.csv: no layout 'long'; use wide, tidy, pyradiomics"):
        export(path, tmp_path / "f.csv", layout="long")
    assert list(tmp_path.iterdir()) == []


# ---- without hgpscale


ALONE = """
import json, sys, xarray
cube = xarray.open_zarr(sys.argv[1], consolidated=False)
names = [name for name in cube.coords if name.endswith("_feature")]
print(json.dumps({
    "labels": {name: cube[name].values.tolist() for name in cube.coords},
    "long_names": [cube[name].attrs["long_name"] for name in cube.variables],
    "units": {name: cube[name].attrs["feature_units"] for name in names},
    "ids": {name: cube[name].attrs["ibsi_ids"] for name in names},
    "contrast": float(cube.glcm.sel(lesion="b", segmentation="RAD", region="lesion", image_type="original",
                                    glcm_feature="Contrast")),
    "settings": cube.attrs["settings"],
    "hgpscale": [name for name in sys.modules if name.startswith("hgpscale")],
}))
"""


def test_xarray_alone_shows_labels_units_and_ibsi_ids(path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", ALONE, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    shown = json.loads(done.stdout)
    assert shown["hgpscale"] == []
    families = ["firstorder", "shape", "glcm"]
    assert shown["labels"] == {
        "lesion": LESIONS,
        "segmentation": ["RAD", "AI"],
        "region": ["lesion"],
        "image_type": IMAGES,
        "family": families,
        **{f"{family}_feature": NAMES[family] for family in families},
    }
    for family in families:
        known = {feature.name: feature for feature in FAMILIES[family].features}
        assert shown["units"][f"{family}_feature"] == [known[name].unit for name in NAMES[family]]
        assert shown["ids"][f"{family}_feature"] == [known[name].ibsi_id for name in NAMES[family]]
    assert shown["units"]["shape_feature"] == ["mm3", ""]
    assert shown["ids"]["glcm_feature"] == ["ACUI", "IB1Z", "TU9B"]  # IBSI reference manual, section 3.6
    assert all(shown["long_names"])
    assert shown["contrast"] == numbers(("b", "RAD"))["original_glcm_Contrast"]
    assert Settings.from_parameters(shown["settings"]) == SETTINGS
