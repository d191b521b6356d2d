"""`put_family`: what networks made stands beside what was extracted, and neither harms the other."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from cube_cases import (
    BROKEN,
    SMALL,
    DyingStore,
    Killed,
    cohort,
    files,
    fill,
    in_zarr_s_thread,
    record,
    with_regions,
    write,
)

from hgpscale.catalog import parts_of_name
from hgpscale.contents import Contents
from hgpscale.cube import CubeWriter, export, import_table, open_cube, pack, put_family, schema, status, store, verify
from hgpscale.cube.attach import KEY, Put
from hgpscale.cube.head import CHECKSUM, Head
from hgpscale.cube.lock import Lock
from hgpscale.errors import CubeError, Failure
from hgpscale.learn.digests import settings_digest
from hgpscale.report.tables import print_export

NAMES = ("Desmoplastic", "Embedding00", "Embedding01")
ABOUT = {"networks": ["3f2a", "77b1"], "scale": 1.5}
NONE = Failure("deep", "the lesion lies outside of the scan; mend the mask")
ROWS = cohort(("a", "RAD"), ("a", "AI"), ("b", "RAD"), ("c", "RAD"), centre=["x", "y", "x"])
PAIRS = [("a", "RAD"), ("a", "AI"), ("b", "RAD"), ("c", "RAD")]
MORE = cohort(*PAIRS, ("d", "RAD"), ("c", "AI"), centre=["x", "y", "x", "z"])
SQUARE = SMALL.model_copy(update={"image_types": {"Original": {}, "Square": {}}})
FINER = SMALL.model_copy(update={"binWidth": 5.0})


def vector(lesion: str, segmentation: str, network: int = 0, width: int = 3) -> Any:
    return np.random.default_rng([network, *f"{lesion}/{segmentation}".encode()]).normal(size=width)


def vectors(pairs: list[tuple[str, str]] = PAIRS, *, network: int = 0, width: int = 3) -> list[tuple[str, str, Any]]:
    return [(*pair, vector(*pair, network, width)) for pair in pairs]


def put(path: Path, rows: Any = None, **options: Any) -> Put:
    return put_family(path, "deep", NAMES, vectors() if rows is None else rows, **{"about": ABOUT, **options})


def numbers(path: Path) -> dict[tuple[str, str], list[float]]:
    """Return what tables have of the family, by row."""
    table = open_cube(path).hgp.select(features="deep_*").hgp.to_frame(tidy=True).dropna(subset="value")
    return {(str(a), str(b)): some.tolist() for (a, b), some in table.groupby(["lesion", "segmentation"])["value"]}


def expected(pairs: list[tuple[str, str]] = PAIRS, **how: int) -> dict[tuple[str, str], list[float]]:
    return {(lesion, rater): values.tolist() for lesion, rater, values in vectors(pairs, **how)}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make chunks of two lesions, so that there are several."""
    monkeypatch.setattr(schema, "LESION_CHUNK", 2)
    with in_zarr_s_thread():
        yield


@pytest.fixture
def cube(tmp_path: Path) -> Path:
    return write(tmp_path / "c.zarr", ROWS, [record(*pair) for pair in PAIRS])


def extracted(path: Path) -> dict[str, bytes]:
    """Return the files of all that is not of the family, besides the labels' and the states' metadata."""
    own = ("deep", "deep_feature", "family", "state", "error", "zarr.json")
    return {name: content for name, content in files(path).items() if name.split("/")[0] not in own}


def test_numbers_stand_in_the_cube_and_nothing_else_changes(cube: Path) -> None:
    before, frame = extracted(cube), open_cube(cube).hgp.to_frame()
    rows = [*vectors()[:2], ("c", "RAD", NONE)]
    assert put(cube, rows) == Put(done=2, failed=1, kept=0, pending=1)
    assert extracted(cube) == before
    dataset = open_cube(cube)
    assert dataset.hgp.keys[-1] == KEY == ("lesion", "original", "deep")
    assert dataset["deep"].dims == ("lesion", "segmentation", "region", "deep_feature")
    assert list(dataset["deep_feature"].values) == list(NAMES)
    assert Head.of(dataset.attrs).about == {"deep": ABOUT}
    np.testing.assert_array_equal(
        dataset["deep"].sel(lesion="a", segmentation="AI", region="lesion"), vector("a", "AI")
    )
    wide = dataset.hgp.to_frame()
    pd.testing.assert_frame_equal(wide[list(frame)], frame)
    columns = [f"{rater}__deep_{name}" for rater in ("RAD", "AI") for name in NAMES]
    assert [name for name in wide if "deep" in name] == columns
    np.testing.assert_array_equal(wide[columns].loc[0], [*vector("a", "RAD"), *vector("a", "AI")])
    assert wide[columns].loc[1:].isna().all(axis=None)
    records = dataset.hgp.records().query("family == 'deep'").set_index(["lesion", "segmentation"])
    states = {("a", "RAD"): "done", ("a", "AI"): "done", ("b", "RAD"): "pending", ("c", "RAD"): "failed"}
    assert records["state"].to_dict() == states
    assert dataset.hgp.failures()["error"].tolist() == [str(NONE)]
    plain = xr.open_zarr(cube, consolidated=False)
    np.testing.assert_array_equal(plain["deep"].values, dataset["deep"].values)
    assert verify(cube).findings == []


def test_states_families_and_the_finished_flag(cube: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(cube, vectors()[:3])
    said = status(cube)
    assert (said.rows, said.done, said.pending) == (4, 4, 0)
    assert {f.family: (f.done, f.failed, f.pending) for f in said.families}["deep"] == (3, 0, 1)
    assert open_cube(cube).attrs["finished"] is True
    print_export(Path("table.csv"), said)
    assert "4 of 4 rows done" in (told := capsys.readouterr().err)
    assert "1 without numbers of networks" in told
    put(cube, [("c", "RAD", NONE)])
    said = status(cube)
    assert (said.done, said.failed, said.partial, said.pending) == (3, 1, 1, 0)


def test_the_same_networks_fill_what_is_pending_and_leave_the_rest(cube: Path) -> None:
    assert put(cube, vectors()[:2]).done == 2
    others = vectors(network=1)
    assert put(cube, others) == Put(done=2, failed=0, kept=2, pending=0)
    assert numbers(cube) == expected(PAIRS[:2]) | expected(PAIRS[2:], network=1)
    before = files(cube)
    assert put(cube) == Put(done=0, failed=0, kept=4, pending=0)
    assert files(cube) == before


def test_bytes_depend_on_neither_the_order_nor_the_calls(tmp_path: Path, cube: Path) -> None:
    other = shutil.copytree(cube, tmp_path / "other.zarr")
    put(cube)
    for row in reversed(vectors()):
        put(other, [row])
    assert files(other) == files(cube)


@pytest.mark.parametrize("features", [NAMES, ("Desmoplastic", "Other")])
def test_other_networks_are_refused_or_take_the_place_of_the_old_ones(cube: Path, features: tuple[str, ...]) -> None:
    put(cube)
    before = files(cube)
    rows = vectors(PAIRS[1:], network=1, width=len(features))
    about = {**ABOUT, "networks": ["ffff"]}
    with pytest.raises(CubeError, match=r"has numbers of the family deep that .*; replace them"):
        put_family(cube, "deep", features, rows, about=about)
    assert files(cube) == before
    found = put_family(cube, "deep", features, rows, about=about, replace=True)
    assert found == Put(done=3, failed=0, kept=0, pending=1)
    assert numbers(cube) == expected(PAIRS[1:], network=1, width=len(features))
    assert Head.of(open_cube(cube).attrs).about == {"deep": about}
    assert np.isnan(xr.open_zarr(cube, consolidated=False)["deep"].sel(lesion="a", segmentation="RAD")).all()
    assert verify(cube).findings == []


def test_extract_afterwards_computes_what_it_would_and_keeps_the_numbers(tmp_path: Path, cube: Path) -> None:
    plain = shutil.copytree(cube, tmp_path / "plain.zarr")
    put(cube)
    both = {"settings": with_regions(SQUARE, "rim")}
    assert fill(cube, MORE, **both) == fill(plain, MORE, **both)
    assert numbers(cube) == expected()
    assert open_cube(cube).attrs["finished"] is True
    left = status(cube)
    assert (left.rows, left.done, left.pending) == (6, 6, 0)
    assert {f.family: f.pending for f in left.families}["deep"] == 2
    with CubeWriter.open(cube, MORE, SMALL) as writer:
        assert not writer.missing
        assert not writer.missing_keys()
    rest = open_cube(cube).drop_vars(["deep", "deep_feature"]).drop_sel(family="deep")
    xr.testing.assert_equal(rest.load(), open_cube(plain).load())
    assert verify(cube).findings == []
    assert put(cube, vectors([("d", "RAD"), ("c", "AI")])).pending == 0
    assert len(numbers(cube)) == 6


def test_a_cube_that_is_extracted_later_and_one_that_is_put_into_later_say_the_same(tmp_path: Path) -> None:
    late, early = (write(tmp_path / name, ROWS, []) for name in ("late.zarr", "early.zarr"))
    put(early)
    assert open_cube(early).attrs["finished"] is False
    assert numbers(early) == expected()
    for path in (early, late):
        fill(path, ROWS)
    assert open_cube(early).attrs["finished"] is True
    put(late)
    assert files(early) == files(late)


def test_other_settings_leave_the_numbers_and_another_region_of_the_mask_does_not(cube: Path) -> None:
    put(cube)
    assert fill(cube, ROWS, FINER, update=True)
    assert numbers(cube) == expected()
    relabelled = cohort(("a", "RAD"), ("a", "AI"), ("b", "RAD", 7), ("c", "RAD"), centre=["x", "y", "x"])
    assert list(fill(cube, relabelled, FINER, update=True)) == [("b", "RAD")]
    left = [pair for pair in PAIRS if pair != ("b", "RAD")]
    assert numbers(cube) == expected(left)
    assert np.isnan(xr.open_zarr(cube, consolidated=False)["deep"].sel(lesion="b")).all()
    assert put(cube).done == 1


def test_rows_that_only_networks_saw_may_change_their_files_and_lose_the_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "c.zarr", ROWS, [record("a", "RAD")])
    put(path)
    relabelled = cohort(("a", "RAD"), ("a", "AI"), ("b", "RAD", 7), ("c", "RAD"), centre=["x", "y", "x"])
    fill(path, relabelled, SMALL.model_copy(update={"image_types": {"Square": {}}}))
    assert numbers(path) == expected([pair for pair in PAIRS if pair != ("b", "RAD")])
    assert open_cube(path).attrs["finished"] is False  # the others of `original` are still to be extracted


def test_rows_whose_files_changed_lose_the_numbers_and_others_keep_them(cube: Path) -> None:
    put(cube)
    with CubeWriter.open(cube, ROWS, SMALL, update=True) as writer:
        writer.reset([("a", "AI")])  # what `extract --update` does with a row whose scan changed
        assert set(writer.missing) == {("a", "AI")}
        assert numbers(cube) == expected([pair for pair in PAIRS if pair != ("a", "AI")])
        writer.add(record("a", "AI"))
    assert ("a", "AI") not in numbers(cube)


def test_retrying_what_failed_drops_numbers_of_rows_that_no_file_is_known_of(tmp_path: Path) -> None:
    failed = record("b", "RAD", firstorder=BROKEN, shape=BROKEN)
    partly = record("c", "RAD", shape=BROKEN)
    path = write(tmp_path / "c.zarr", ROWS, [record("a", "RAD"), record("a", "AI"), failed, partly])
    put(path)
    fill(path, ROWS, retry_failed=True)
    assert numbers(path) == expected([pair for pair in PAIRS if pair != ("b", "RAD")])


def test_an_imported_table_takes_numbers_too(tmp_path: Path) -> None:
    table = pd.DataFrame({"Lesion": ["a", "b"], "original_firstorder_Mean": [1.5, 2.5], "Age": [50, 60]})
    table.to_csv(tmp_path / "t.csv", index=False)
    import_table(tmp_path / "t.csv", tmp_path / "c.zarr", id_column="Lesion")
    rows = [("b", "default", np.array([1.0, 2, 3]))]
    assert put(tmp_path / "c.zarr", rows) == Put(1, 0, 0, 1)
    wide = open_cube(tmp_path / "c.zarr").hgp.to_frame()
    assert list(wide)[-5:] == ["original_firstorder_Mean", "Age", *(f"deep_{name}" for name in NAMES)]
    np.testing.assert_array_equal(wide[[f"deep_{name}" for name in NAMES]], [[np.nan] * 3, [1, 2, 3]])
    assert verify(tmp_path / "c.zarr").findings == []


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_an_exported_table_comes_back_as_the_same_family(tmp_path: Path, suffix: str) -> None:
    rows = cohort(("a", "default"), ("b", "default"))
    pairs = [("a", "default"), ("b", "default")]
    path = write(tmp_path / "c.zarr", rows, [record(*pair) for pair in pairs])
    put(path, vectors(pairs))
    table = export(path, tmp_path / f"t{suffix}")
    done = import_table(table, tmp_path / "back.zarr", id_column="lesion", patient="patient")
    assert done.columns["deep"] == [f"deep_{name}" for name in NAMES]
    assert numbers(tmp_path / "back.zarr") == expected(pairs)
    features = [name for name in open_cube(path).hgp.names() if "original" in name or "deep" in name]
    frames = [open_cube(place).hgp.to_frame()[features] for place in (path, tmp_path / "back.zarr")]
    pd.testing.assert_frame_equal(*frames)


def test_all_layouts_of_an_export_have_the_numbers(tmp_path: Path, cube: Path) -> None:
    put(cube)
    tidy = pd.read_csv(export(cube, tmp_path / "tidy.csv", layout="tidy")).query("family == 'deep'")
    assert tidy["value"].tolist() == [x for pair in PAIRS for x in vector(*pair)]
    assert set(tidy["region"]) == {"lesion"}
    assert set(tidy["feature"]) == set(NAMES)
    batch = pd.read_csv(export(cube, tmp_path / "rows.csv", layout="pyradiomics"))
    np.testing.assert_array_equal(batch[[f"deep_{name}" for name in NAMES]], [vector(*pair) for pair in PAIRS])


def test_batches_selection_and_agreement_have_the_numbers(cube: Path) -> None:
    put(cube, vectors()[:3])
    ((batch, centres),) = open_cube(cube).hgp.batches(10, "centre")
    np.testing.assert_array_equal(batch[f"deep_{NAMES[1]}"], [*(vector(*pair)[1] for pair in PAIRS[:3]), np.nan])
    assert len(centres) == 4
    part = open_cube(cube).hgp.select(features="deep_Embedding*")
    assert list(part["family"].values) == ["deep"]
    (small,) = part.hgp.batches(10)
    assert small.shape == (3, 2)  # c has none
    table = open_cube(cube).hgp.icc()
    assert list(table.index)[-3:] == [f"deep_{name}" for name in NAMES]
    assert table["n"].iloc[-1] == 1  # a alone was outlined twice


def test_a_packed_copy_says_the_same_and_takes_nothing(tmp_path: Path, cube: Path) -> None:
    put(cube)
    packed = pack(cube).packed
    xr.testing.assert_equal(open_cube(packed).load(), open_cube(cube).load())
    assert Head.of(open_cube(packed).attrs).about == {"deep": ABOUT}
    with pytest.raises(CubeError, match="was packed for sharing"):
        put(Path(packed))


@pytest.mark.parametrize("array", ["deep", "deep_feature", "state"])
def test_verify_finds_damage_and_repairs_it(cube: Path, array: str) -> None:
    put(cube)
    whole = files(cube)
    name = next(name for name in whole if name.startswith(f"{array}/c/"))
    (cube / name).write_bytes(whole[name][:-1] + b"\0\0")
    (finding, *_) = verify(cube).findings
    assert finding.where == name
    assert verify(cube, repair=True).ok
    assert verify(cube).findings == []
    fill(cube, ROWS)
    put(cube)
    assert files(cube) == whole


def test_verify_asks_for_no_digest_of_rows_that_only_networks_saw(tmp_path: Path) -> None:
    path = write(tmp_path / "c.zarr", ROWS, [record("a", "RAD")])
    put(path)
    assert verify(path, inputs=tmp_path).findings == []


def test_the_root_s_checksum_covers_what_made_the_numbers(cube: Path) -> None:
    put(cube)
    root = cube / "zarr.json"
    root.write_text(root.read_text().replace("77b1", "77b2"))
    with pytest.raises(CubeError, match=r"its zarr\.json was altered"):
        open_cube(cube)


def test_a_cube_that_nothing_was_put_into_says_nothing_of_it(cube: Path) -> None:
    assert "about" not in open_cube(cube).attrs
    assert CHECKSUM in open_cube(cube).attrs


def test_models_tell_networks_apart(tmp_path: Path, cube: Path) -> None:
    other = shutil.copytree(cube, tmp_path / "other.zarr")
    plain = settings_digest(open_cube(cube), open_cube(cube).hgp.names(prefixed=False))
    put(cube)
    put(other, about={"networks": ["other"]})
    one, two = open_cube(cube), open_cube(other)
    names = one.hgp.names(prefixed=False)
    radiomics = [name for name in names if not name.startswith("deep_")]
    assert settings_digest(one, names) != settings_digest(two, names)
    assert settings_digest(one, radiomics) == settings_digest(two, radiomics) == plain


BAD: dict[str, tuple[Any, str]] = {
    "lesion": ([("x", "RAD", np.zeros(3))], "lesion 'x', segmentation 'RAD': the cube has no such row"),
    "no row": ([("b", "AI", np.zeros(3))], "lesion 'b', segmentation 'AI': the cube has no such row"),
    "twice": ([*vectors()[:1], *vectors()[:1]], "lesion 'a', segmentation 'RAD': came twice"),
    "length": ([("a", "RAD", np.zeros(2))], r"expected 3 finite numbers or a failure, found shape \(2,\)"),
    "infinite": ([("a", "RAD", np.array([1, np.inf, np.nan]))], "2 that are not finite"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_wrong_row_is_told_and_what_came_before_it_is_kept(cube: Path, what: str) -> None:
    rows, message = BAD[what]
    with pytest.raises(CubeError, match=message):
        put(cube, [("c", "RAD", vector("c", "RAD")), *rows])
    assert numbers(cube)["c", "RAD"] == vector("c", "RAD").tolist()
    assert verify(cube).findings == []
    assert put(cube).pending == 0


@pytest.mark.parametrize("names", [(), ("A", "A"), ("embedding",), ("Embedding_0",), ("Größe",), ("original_glcm_X",)])
def test_names_that_could_be_taken_for_others_are_refused(cube: Path, names: tuple[str, ...]) -> None:
    before = files(cube)
    with pytest.raises(CubeError, match="expected different names of features"):
        put_family(cube, "deep", names, [], about={})
    assert files(cube) == before


def test_other_families_and_what_is_no_json_are_refused(cube: Path) -> None:
    with pytest.raises(CubeError, match="expected the family 'deep', found 'glcm'"):
        put_family(cube, "glcm", ["Contrast"], [], about={})
    with pytest.raises(CubeError, match="must be JSON"):
        put(cube, about={"mean": float("nan")})
    with pytest.raises(CubeError, match="no such cube"):
        put(cube.with_name("absent.zarr"))


def test_a_name_of_pyradiomics_stays_one_of_another_family() -> None:
    assert parts_of_name("deep_Contrast") is None
    assert parts_of_name("RAD__deep_Contrast") is None


@pytest.mark.parametrize("column", ["deep", "Deep_Feature", "deep_Embedding00"])
def test_columns_of_a_manifest_cannot_have_names_of_the_family(tmp_path: Path, column: str) -> None:
    columns: dict[str, Any] = {column: [1]}
    with pytest.raises(CubeError, match=rf"column '{column}': .* rename it"):
        write(tmp_path / "c.zarr", cohort(("a", "RAD"), **columns), [])


def test_only_one_writes_at_a_time(cube: Path) -> None:
    with Lock.take(cube), pytest.raises(CubeError, match="is writing"):
        put(cube)
    with CubeWriter.open(cube, ROWS, SMALL), pytest.raises(CubeError, match="is writing"):
        put(cube)
    put(cube)
    assert not cube.with_name("c.zarr.lock").exists()


def test_a_region_of_its_own_is_made_where_the_cube_has_no_lesion(tmp_path: Path) -> None:
    settings = with_regions(SMALL, "rim")
    rim = settings.model_copy(update={"regions": {"rim": settings.regions["rim"]}})
    path = write(tmp_path / "c.zarr", ROWS, [record(*pair, rim) for pair in PAIRS], rim)
    put(path)
    assert open_cube(path).hgp.keys == (*Contents.of(rim).keys, KEY)
    assert verify(path).findings == []
    fill(path, ROWS, settings)
    assert numbers(path) == expected()
    assert verify(path).findings == []


@pytest.mark.slow
@pytest.mark.parametrize("start", ["without the family", "with that of other networks", "with other features"])
def test_death_at_any_write_leaves_pending_keys_and_the_same_call_goes_on(
    tmp_path: Path, cube: Path, monkeypatch: pytest.MonkeyPatch, start: str
) -> None:
    frame = open_cube(cube).hgp.to_frame()
    if start != "without the family":
        names = NAMES if start == "with that of other networks" else NAMES[:2]
        rows = vectors(network=1, width=len(names))
        put_family(cube, "deep", names, rows, about={"networks": ["old"]})
    old = numbers(cube) if start != "without the family" else {}
    undisturbed = shutil.copytree(cube, tmp_path / "undisturbed.zarr")
    put(undisturbed, replace=True)
    monkeypatch.setattr(store, "open_store", lambda folder, read_only: DyingStore(folder, read_only=read_only))
    deaths = 0
    while True:
        path = Path(shutil.copytree(cube, tmp_path / "dying.zarr"))
        monkeypatch.setattr(DyingStore, "left", deaths)
        try:
            put(path, replace=True)
            break
        except Killed:
            deaths += 1
        finally:
            monkeypatch.setattr(DyingStore, "left", float("inf"))
        there = numbers(path) if "deep" in open_cube(path) else {}
        assert there.items() <= old.items() or there.items() <= expected().items()
        pd.testing.assert_frame_equal(open_cube(path).hgp.to_frame()[list(frame)], frame)
        if deaths % 4 == 0:
            assert verify(path).findings == []
            fill(path, ROWS)  # extract goes on as if nothing had been put
            assert status(path).pending == 0
        assert put(path, replace=True).pending == 0
        assert files(path) == files(undisturbed)
        shutil.rmtree(path)
    assert deaths > 10


@pytest.mark.slow
def test_death_at_any_write_of_an_update_never_shows_numbers_of_the_old_scan(
    tmp_path: Path, cube: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(cube)
    relabelled = cohort(("a", "RAD"), ("a", "AI"), ("b", "RAD", 7), ("c", "RAD"), centre=["x", "y", "x"])
    undisturbed = shutil.copytree(cube, tmp_path / "undisturbed.zarr")
    fill(undisturbed, relabelled, update=True)
    left = [pair for pair in PAIRS if pair != ("b", "RAD")]
    monkeypatch.setattr(store, "open_store", lambda folder, read_only: DyingStore(folder, read_only=read_only))
    deaths = 0
    while True:
        path = Path(shutil.copytree(cube, tmp_path / "dying.zarr"))
        monkeypatch.setattr(DyingStore, "left", deaths)
        try:
            fill(path, relabelled, update=True)
            break
        except Killed:
            deaths += 1
        finally:
            monkeypatch.setattr(DyingStore, "left", float("inf"))
        assert numbers(path) in (expected(), expected(left))
        new = int(open_cube(path)["requested_label"].sel(lesion="b", segmentation="RAD")) == 7
        assert not new or numbers(path) == expected(left)
        fill(path, relabelled, update=True)
        assert files(path) == files(undisturbed)
        shutil.rmtree(path)
    assert deaths > 5
