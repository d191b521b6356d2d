"""A cube whose growth or update dies: readers see it before or after, and the same call goes on to the same end."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import xarray as xr
from cube_cases import FLAT, SMALL, Killed, cohort, done, fill, in_zarr_s_thread, record, write
from zarr.storage import MemoryStore

from hgpscale.cube import open_cube, schema, store
from hgpscale.settings import Settings

ROWS = cohort(("a", "RAD"), ("b", "RAD"), centre=["x", ""])
GROWN = cohort(("a", "RAD"), ("b", "RAD"), ("c", "AI", 3), centre=["x", "y", "z"], age=[1, 2, 3])
OTHER = cohort(("d", "RAD"), ("e", "AI"), dose=[5.5, 6.5])
SQUARE = SMALL.model_copy(update={"image_types": {"Original": {}, "Square": {}}})
FINER = SMALL.model_copy(
    update={"binWidth": 5.0, "features": {"firstorder": ("Energy", "Kurtosis", "Mean"), "shape": ("MeshVolume",)}}
)
RELABELLED = cohort(("a", "RAD"), ("b", "RAD", 7), centre=["x", "corrected"])


class DyingMemory(MemoryStore):  # type: ignore[misc]
    """A store in which, after `left` writes, each write and each removal fails: on a disk this would take minutes."""

    left: ClassVar[float] = float("inf")
    dead = False

    def _write_or_die(self) -> None:
        self.dead = self.dead or self.left <= 0  # other writes of the same call may be under way
        if self.dead:
            raise Killed
        type(self).left -= 1

    async def set(self, key: str, value: Any, byte_range: tuple[int, int] | None = None) -> None:
        self._write_or_die()
        await super().set(key, value, byte_range)

    async def set_if_not_exists(self, key: str, value: Any) -> None:
        self._write_or_die()
        await super().set_if_not_exists(key, value)

    async def delete(self, key: str) -> None:
        self._write_or_die()
        await super().delete(key)

    def set_sync(self, key: str, value: Any) -> None:
        self._write_or_die()
        super().set_sync(key, value)

    def delete_sync(self, key: str) -> None:
        self._write_or_die()
        super().delete_sync(key)


class Memory:
    """The cubes of a test by path."""

    def __init__(self) -> None:
        self.cubes: dict[Path, dict[str, Any]] = {}

    def copy(self, path: Path, copy: str) -> Path:
        self.cubes[path.with_name(copy)] = dict(self.cubes[path])
        return path.with_name(copy)

    def files(self, path: Path) -> dict[str, bytes]:
        return {key: value.to_bytes() for key, value in sorted(self.cubes[path].items())}

    def deaths(self, before: Path, call: Callable[[Path], object]) -> Iterator[Path]:
        """Yield copies of a cube in which a call died at its first write, its second, and so on; in CI every other."""
        number, step = 0, 2 if os.environ.get("CI") else 1
        while True:
            path = self.copy(before, "dying.zarr")
            DyingMemory.left = number
            try:
                call(path)
            except Killed:
                number += step
            else:
                break
            finally:
                DyingMemory.left = float("inf")
            yield path
        assert number > 15  # the loop did something


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Memory]:
    held = Memory()
    monkeypatch.setattr(schema, "LESION_CHUNK", 3)
    monkeypatch.setattr(store, "is_there", lambda path: path in held.cubes)
    monkeypatch.setattr(
        store, "open_store", lambda path, read_only: DyingMemory(held.cubes.setdefault(path, {}), read_only=read_only)
    )
    with in_zarr_s_thread():
        yield held


def labels(cube: xr.Dataset) -> dict[str, list[str]]:
    return {dim: list(cube[dim].values) for dim in schema.LABELS} | {"columns": list(cube.attrs["manifest_columns"])}


@pytest.mark.slow
def test_death_at_any_write_of_a_growth_leaves_the_old_or_the_new_extent_and_no_trace(
    tmp_path: Path, memory: Memory
) -> None:
    old = write(tmp_path / "old.zarr", ROWS, [record("a", "RAD"), record("b", "RAD", firstorder=FLAT)])
    undisturbed, other = memory.copy(old, "undisturbed"), memory.copy(old, "other")
    fill(undisturbed, GROWN, SQUARE)
    fill(other, OTHER)
    before, after, expected = (open_cube(path).load() for path in (old, undisturbed, other))
    assert [cube.sizes["lesion"] for cube in (before, after, expected)] == [2, 3, 4]
    was_done, will_be_done = done(before), done(after)
    seen = set()
    for number, path in enumerate(memory.deaths(old, lambda path: fill(path, GROWN, SQUARE))):
        cube = open_cube(path).load()
        extent = labels(cube)
        assert extent in (labels(before), labels(after))
        there = done(cube)
        assert was_done <= there <= will_be_done
        seen.add((cube.sizes["lesion"], len(there)))
        if extent == labels(before) and number % 4 == 0:
            # What was laid out never shows, also when it is another growth that follows.
            another = memory.copy(path, "another")
            fill(another, OTHER)
            left = open_cube(another).load()
            assert labels(left) == labels(expected)
            # The value that was filled in for b before the end may stay: nothing hangs on it.
            assert list(left["centre"].values[[0, 2, 3]]) == ["x", "", ""]
            xr.testing.assert_equal(left.drop_vars("centre"), expected.drop_vars("centre"))
            plain = xr.open_zarr(MemoryStore(memory.cubes[another], read_only=True), consolidated=False)
            assert set(plain.variables) == set(left.variables)
        fill(path, GROWN, SQUARE)
        assert memory.files(path) == memory.files(undisturbed)
    assert {(2, 3), (3, 3)} < seen  # three vectors were done before
    assert all(lesions == 3 for lesions, vectors in seen if vectors > 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("small", "finer"),
    [
        pytest.param(SMALL, FINER, id="one of two families is replaced"),
        pytest.param(
            SMALL.model_copy(update={"features": {"firstorder": ("Mean",)}}),
            FINER.model_copy(update={"features": {"firstorder": ("Energy", "Mean")}}),
            id="the only family is replaced",
        ),
    ],
)
def test_death_at_any_write_of_an_update_never_mixes(
    tmp_path: Path, memory: Memory, small: Settings, finer: Settings
) -> None:
    old = write(tmp_path / "old.zarr", ROWS, [record("a", "RAD", small), record("b", "RAD", small)], small)
    undisturbed, in_one_go = memory.copy(old, "undisturbed"), tmp_path / "new.zarr"
    fill(undisturbed, RELABELLED, finer, update=True)
    fill(in_one_go, RELABELLED, finer)
    expected = open_cube(in_one_go).load()
    assert len(done(expected)) == len(done(open_cube(old))) == 2 * len(small.features)
    xr.testing.assert_equal(open_cube(undisturbed).load(), expected)
    for path in memory.deaths(old, lambda path: fill(path, RELABELLED, finer, update=True)):
        done(open_cube(path).load())
        fill(path, RELABELLED, finer, update=True)
        assert memory.files(path) == memory.files(undisturbed)
