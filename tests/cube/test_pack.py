"""`pack`: a sealed copy says the same in few files, on disk and on S3."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from cube_cases import FLAT, SMALL, cohort, files, in_zarr_s_thread, record, write

from hgpscale.cube import CubeWriter, open_cube, pack, schema, store, verify
from hgpscale.cube.lock import Lock
from hgpscale.errors import CubeError, CubeWriteError

ROWS = cohort(("a", "RAD"), ("a", "AI"), ("b", "RAD"), ("c", "RAD"), ("d", "AI"), centre=["x", "y", "x", "z"])
RECORDS = [record("a", "RAD"), record("a", "AI", firstorder=FLAT), record("b", "RAD"), record("c", "RAD")]

Place = Callable[[str], str | Path]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make chunks of two lesions, so that a shard gathers several."""
    monkeypatch.setattr(schema, "LESION_CHUNK", 2)


def make(path: str | Path) -> str | Path:
    with CubeWriter.open(path, ROWS, SMALL) as writer:
        for one in RECORDS:
            writer.add(one)
    return path


def test_a_packed_cube_says_the_same_in_fewer_files(place: Place) -> None:
    path = make(place("c.zarr"))
    before = store.sizes(path)
    packed = pack(path)
    assert str(packed.packed).endswith("c.packed.zarr")
    assert (packed.files, packed.bytes) == (len(before), sum(before.values()))
    assert (packed.packed_files, packed.packed_bytes) == (len(after := store.sizes(packed.packed)), sum(after.values()))
    assert packed.packed_files < packed.files
    assert store.sizes(path) == before
    one, other = open_cube(path).load(), open_cube(packed.packed).load()
    assert one.equals(other)
    assert {name: array.attrs for name, array in one.variables.items()} == {
        name: array.attrs for name, array in other.variables.items()
    }
    assert one.attrs["settings"] == other.attrs["settings"]
    assert one.hgp.to_frame().equals(other.hgp.to_frame())
    assert verify(packed.packed).findings == []


def test_xarray_opens_it_without_a_warning_and_from_one_metadata_file(tmp_path: Path) -> None:
    make(tmp_path / "c.zarr")
    pack(tmp_path / "c.zarr", tmp_path / "shared.zarr")
    cube = xr.open_zarr(tmp_path / "shared.zarr")  # warnings are errors here
    np.testing.assert_array_equal(cube.firstorder, open_cube(tmp_path / "c.zarr").firstorder)
    for metadata in tmp_path.glob("shared.zarr/*/zarr.json"):
        metadata.rename(metadata.with_suffix(".gone"))
    assert cube.equals(xr.open_zarr(tmp_path / "shared.zarr", consolidated=True))


def test_several_shards_hold_many_lesions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hgpscale.cube.packing._SHARD_NUMBERS", 8)
    lesions = [f"lesion {i}" for i in range(23)]
    rows = cohort(*((name, "default") for name in lesions))
    path = write(tmp_path / "c.zarr", rows, [record(name, "default") for name in lesions])
    packed = pack(path).packed
    assert open_cube(packed).load().equals(open_cube(path).load())
    assert len([key for key in store.sizes(packed) if key.startswith("firstorder/c/")]) > 2


def test_it_takes_no_records_and_is_not_packed_again(place: Place) -> None:
    packed = pack(make(place("c.zarr"))).packed
    with pytest.raises(CubeError, match="was packed for sharing and takes no more records"):
        CubeWriter.open(packed, ROWS, SMALL)
    with pytest.raises(CubeError, match="is packed already"):
        pack(packed)
    with pytest.raises(CubeError, match="was packed for sharing"):
        verify(packed, repair=True)


@pytest.mark.slow
def test_damage_in_a_shard_is_found(tmp_path: Path) -> None:
    rows = cohort(("a", "RAD"), ("b", "RAD"), ("c", "RAD"))
    packed = Path(pack(write(tmp_path / "c.zarr", rows, [record(name, "RAD") for name in "abc"])).packed)
    name = next(key for key in sorted(store.sizes(packed)) if key.startswith("firstorder/c/"))
    content = (packed / name).read_bytes()
    with in_zarr_s_thread():
        for at in range(len(content)):
            (packed / name).write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
            assert name in {finding.where for finding in verify(packed).findings}, at


def test_nothing_is_written_over_and_a_live_writer_is_waited_for(place: Place) -> None:
    path = make(place("c.zarr"))
    other = make(place("other.zarr"))
    before = store.sizes(other)
    with pytest.raises(CubeError, match=r"other\.zarr: exists already; name another place"):
        pack(path, other)
    assert store.sizes(other) == before
    with Lock.take(path), pytest.raises(CubeError, match="a run is writing to it"):
        pack(path)
    assert not store.is_there(place("c.packed.zarr"))


def test_a_copy_that_reads_otherwise_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "c.zarr")
    before = files(tmp_path / "c.zarr")
    monkeypatch.setattr("hgpscale.cube.packing._same", lambda one, other: False)
    with pytest.raises(CubeWriteError, match="reads otherwise than it was written"):
        pack(tmp_path / "c.zarr")
    assert [p.name for p in tmp_path.iterdir()] == ["c.zarr"]
    assert files(tmp_path / "c.zarr") == before
