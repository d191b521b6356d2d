"""`verify`: whatever is changed in a cube's files is found, said of the right records, and can be repaired."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import zarr
from cube_cases import BROKEN, FLAT, cohort, files, in_zarr_s_thread, record, write

from hgpscale.contents import Contents
from hgpscale.cube import CubeWriter, open_cube, schema, verify
from hgpscale.cube.lock import Lock
from hgpscale.errors import CubeError
from hgpscale.settings import Settings

SETTINGS = Settings.from_parameters(
    {
        "imageType": {"Original": {}, "Square": {}},
        "featureClass": {"firstorder": ["Mean", "Energy"], "shape": ["MeshVolume"]},
    }
)
ROWS = cohort(
    ("a", "RAD"), ("a", "AI"), ("b", "RAD"), ("c", "RAD", 3, "GTV"), ("c", "AI"), centre=["x", "y", "x"], age=[1, 2, 3]
)
RECORDS = [
    record("a", "RAD", SETTINGS),
    record("a", "AI", SETTINGS, firstorder=FLAT),
    record("b", "RAD", SETTINGS, firstorder=BROKEN, shape=BROKEN),
    record("c", "RAD", SETTINGS),
    record("c", "AI", SETTINGS),
]


@pytest.fixture
def cube(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a cube with chunks of two lesions, so that there are several."""
    monkeypatch.setattr(schema, "LESION_CHUNK", 2)
    return write(tmp_path / "c.zarr", ROWS, RECORDS, SETTINGS)


def extract_again(path: Path) -> None:
    """Do what `extract` does with a cube that lacks something: the manifest over it, and records of what is missing."""
    with CubeWriter.open(path, ROWS, SETTINGS) as writer:
        for one in RECORDS:
            missing = writer.missing.get((one.lesion, one.segmentation), ())
            values = {key: one.values[key] for key in missing if key in one.values}
            failures = {key: one.failures[key] for key in missing if key in one.failures}
            if missing:
                writer.add(replace(one, values=values, failures=failures))


def test_nothing_is_wrong_with_a_whole_cube(cube: Path) -> None:
    before = files(cube)
    found = verify(cube)
    assert (found.ok, found.findings, found.rows) == (True, [], 5)
    assert files(cube) == before
    assert sorted(p.name for p in cube.parent.iterdir()) == ["c.zarr"]


def test_nothing_is_wrong_with_one_that_is_half_done(tmp_path: Path) -> None:
    path = write(tmp_path / "c.zarr", ROWS, RECORDS[:2], SETTINGS)
    assert verify(path).findings == []
    assert verify(write(tmp_path / "new.zarr", ROWS, [], SETTINGS)).findings == []


def flip(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


DAMAGE: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "one bit flipped": flip,
    "truncated": lambda content, rng: content[: rng.randrange(len(content))],
    "zeroed": lambda content, rng: bytes(len(content)),
    "emptied": lambda content, rng: b"",
    "longer": lambda content, rng: content + b"\0",
}

LOST = {"lesion", "segmentation", "region", "image_type", "family"}
"""Labels: nothing in the cube says what they were."""


@pytest.mark.slow
@pytest.mark.parametrize("how", DAMAGE)
def test_damage_to_any_chunk_is_found_and_repaired(cube: Path, tmp_path: Path, how: str) -> None:
    rng = random.Random(how)
    whole = files(cube)
    chunks = [name for name in whole if not name.endswith("zarr.json")]
    assert len(chunks) > 40
    one_of_each = list({name.split("/")[0]: name for name in chunks}.values())
    with in_zarr_s_thread():
        # All chunks, and each repaired on its own, by one kind of damage: the others are found and repaired alike.
        for name in chunks if how == "one bit flipped" else one_of_each:
            (cube / name).write_bytes(DAMAGE[how](whole[name], rng))
            found = verify(cube)
            assert name in {finding.where for finding in found.findings}, name
            assert not found.ok
            if how == "one bit flipped" and name in one_of_each:
                repaired = verify(cube, repair=True)
                variable = name.split("/")[0]
                assert repaired.ok == (variable not in LOST)
                if variable in LOST:
                    assert (cube / name).read_bytes() != whole[name]
                    (cube / name).write_bytes(whole[name])
                assert verify(cube).findings == []
                extract_again(cube)
                assert files(cube) == whole, name
            (cube / name).write_bytes(whole[name])
        for name in chunks:  # all at once
            if name.split("/")[0] not in LOST:
                (cube / name).write_bytes(DAMAGE[how](whole[name], rng))
        assert verify(cube, repair=True).ok
        assert verify(cube).findings == []
        extract_again(cube)
        assert files(cube) == whole


def test_what_a_damaged_chunk_hits_is_said(cube: Path) -> None:
    root = zarr.open_group(cube, mode="r", use_consolidated=False)
    images = [str(name) for name in root["image_type"][...]]
    raters = [str(name) for name in root["segmentation"][...]]
    for lesions, names in enumerate([("a", "b"), ("c",)]):
        name = f"firstorder/c/{lesions}/{raters.index('RAD')}/0/{images.index('square')}/0"
        content = (cube / name).read_bytes()
        (cube / name).write_bytes(flip(content, random.Random(1)))
        (finding,) = verify(cube).findings
        assert (finding.where, finding.problem) == (name, "checksum differs")
        assert (finding.segmentation, finding.region) == ("RAD", "lesion")
        assert (finding.image_type, finding.family, finding.lesions) == ("square", "firstorder", names)
        (cube / name).write_bytes(content)


def test_repair_makes_no_more_pending_than_is_hit(cube: Path) -> None:
    root = zarr.open_group(cube, mode="r", use_consolidated=False)
    rater = [str(name) for name in root["segmentation"][...]].index("AI")
    image = [str(name) for name in root["image_type"][...]].index("original")
    (cube / f"firstorder/c/1/{rater}/0/{image}/0").write_bytes(b"")
    assert verify(cube, repair=True).ok
    records = open_cube(cube).hgp.records()
    pending = records[records["state"] == "pending"]
    columns = ["lesion", "segmentation", "image_type", "family"]
    assert pending[columns].to_numpy().tolist() == [["c", "AI", "original", "firstorder"]]


VARIABLES = ["state", "firstorder", "firstorder_feature", "mask", "age", "centre", "lesion"]


@pytest.mark.parametrize(
    ("how", "name"),
    [
        *product(["gone", "other units"], VARIABLES),
        *product(["empty", "no json", "other fill value", "other type"], ["firstorder", "centre"]),
    ],
)
def test_damaged_metadata_is_refused_with_what_to_do_and_mended(cube: Path, name: str, how: str) -> None:
    path, whole = cube / name / "zarr.json", files(cube)
    said = json.loads(path.read_text())
    said["fill_value"] = 7 if said["data_type"] in ("float64", "int64") else "x"
    other = json.loads(path.read_text())
    other["data_type"] = "int8"
    units = json.loads(path.read_text())
    units["attributes"]["long_name"] = "something else"
    content = {
        "empty": "",
        "no json": "{" + path.read_text(),
        "other fill value": json.dumps(said),
        "other type": json.dumps(other),
        "other units": json.dumps(units),
    }
    path.unlink()
    if how != "gone":
        path.write_text(content[how])
    with pytest.raises(CubeError, match=rf"damaged cube: variable '{name}' .*; 'hgpscale verify --repair' can mend it"):
        open_cube(cube)
    with pytest.raises(CubeError, match="verify --repair"):
        CubeWriter.open(cube, ROWS, SETTINGS)
    assert f"{name}/zarr.json" in {finding.where for finding in verify(cube).findings}
    assert verify(cube, repair=True).ok
    assert verify(cube).findings == []
    assert files(cube) == whole


@pytest.mark.parametrize("how", ["empty", "no json", "bit", "gone"])
def test_a_damaged_root_is_refused(cube: Path, how: str) -> None:
    path = cube / "zarr.json"
    text = path.read_text()
    content = {"empty": "", "no json": text[1:], "bit": text.replace('"binWidth": 25', '"binWidth": 24')}
    path.unlink()
    if how != "gone":
        path.write_text(content[how])
    says = r"c\.zarr: (not an hgpscale cube|damaged cube: its zarr\.json was altered)"
    for use in (open_cube, verify, lambda place: CubeWriter.open(place, ROWS, SETTINGS)):
        with pytest.raises(CubeError, match=says):
            use(cube)


def set_cell(path: Path, name: str, where: tuple[int, ...], value: object) -> None:
    root = zarr.open_group(path, mode="r+", use_consolidated=False)
    root[name][where] = value


@pytest.mark.parametrize(
    ("name", "where", "value", "problem"),
    [
        ("state", (0, 0, 0, 0, 0), "dome", "state is none of pending, done and failed"),
        ("state", (1, 1, 0, 0, 0), "done", "has a state, but no row in the manifest"),
        ("firstorder", (0, 0, 0, 0, 1), np.nan, "done, but a number is missing without a reason"),
        ("firstorder", (0, 1, 0, 0, 1), 1.0, "failed, but has numbers"),
        ("error", (0, 1, 0, 0, 0), "", "failed without a reason"),
        ("state", (0, 1, 0, 0, 0), "done", "done, but a number is missing without a reason"),
        ("mask_digest", (0, 0), "", "has numbers, but no digest of the files they came from"),
    ],
)
def test_states_that_contradict_values_are_found_and_repaired(
    cube: Path, name: str, where: tuple[int, ...], value: object, problem: str
) -> None:
    whole = files(cube)
    root = zarr.open_group(cube, mode="r", use_consolidated=False)
    assert str(root["family"][0]) == "firstorder"
    set_cell(cube, name, where, value)
    if name == "state" and value == "done":  # the reason would explain it
        set_cell(cube, "error", where, "")
    found = verify(cube)
    assert problem in {finding.problem for finding in found.findings}
    assert verify(cube, repair=True).ok
    assert verify(cube).findings == []
    extract_again(cube)
    if "no row" not in problem:
        assert files(cube) == whole


def test_a_live_writer_keeps_repair_away_but_not_a_look(cube: Path) -> None:
    with Lock.take(cube):
        assert verify(cube).ok
        with pytest.raises(CubeError, match="another run is writing"):
            verify(cube, repair=True)


def test_a_cube_that_was_moved_is_the_same(cube: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    moved = Path(shutil.move(cube, tmp_path / "elsewhere" / "other.zarr"))
    assert verify(moved).ok
    with CubeWriter.open(moved, ROWS, SETTINGS) as writer:
        assert writer.missing == {}


def test_every_key_of_the_cases_is_there(cube: Path) -> None:
    assert {(f, i) for _, i, f in Contents.of(SETTINGS).keys} == {
        ("shape", "original"),
        ("firstorder", "original"),
        ("firstorder", "square"),
    }
    assert len(open_cube(cube).hgp.records()) == 3 * 5
