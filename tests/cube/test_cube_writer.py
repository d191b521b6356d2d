"""The writer: what it stores, what it refuses, and what is left when it dies."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cube_cases import BROKEN, FLAT, SMALL, DyingStore, Killed, cohort, files, record, write
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from hgpscale.cohort.manifest import Cohort
from hgpscale.cube import CubeWriter, open_cube, schema, status, store
from hgpscale.errors import CubeError, CubeWriteError, Failure
from hgpscale.record import Record

ROWS = cohort(("a", "RAD"), ("a", "AI"), ("b", "RAD"), ("c", "RAD"), ("c", "AI"), centre=["x", "y", "x"])
RECORDS = [
    record("a", "RAD"),
    record("a", "AI", firstorder=FLAT),
    record("b", "RAD", firstorder=BROKEN, shape=BROKEN),
    record("c", "RAD"),
    record("c", "AI"),
]
ALL = {(r.lesion, r.segmentation) for r in RECORDS}


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make chunks of two lesions, so that a few lesions fill several."""
    monkeypatch.setattr(schema, "LESION_CHUNK", 2)


@pytest.fixture
def dying(monkeypatch: pytest.MonkeyPatch) -> type[DyingStore]:
    """Put a store that can die under every cube that is opened."""
    monkeypatch.setattr(DyingStore, "left", float("inf"))
    monkeypatch.setattr(DyingStore, "at", None)
    monkeypatch.setattr(DyingStore, "error", Killed())
    monkeypatch.setattr(store, "open_store", lambda folder, read_only: DyingStore(folder, read_only=read_only))
    return DyingStore


def check_against_records(path: Path, records: list[Record]) -> set[tuple[str, str]]:
    """Check that every key that is not pending has its record's content; return the rows that are finished."""
    cube = open_cube(path).load()
    finished = set()
    for one in records:
        row = cube.sel(lesion=one.lesion, segmentation=one.segmentation, region="lesion", image_type="original")
        states = {family: str(row.state.sel(family=family).values) for family in ("firstorder", "shape")}
        for family, state in states.items():
            key = ("lesion", "original", family)
            assert state in ("pending", "failed" if key in one.failures else "done")
            if state == "done":
                np.testing.assert_array_equal(row[family], one.values[key])
            if state == "failed":
                assert np.isnan(row[family]).all()
            if state != "pending":
                assert row.error.sel(family=family) == str(one.failures.get(key, ""))
                assert (row.image_digest, row.mask_digest, row.label) == (one.image_digest, one.mask_digest, one.label)
        if "pending" not in states.values():
            finished.add((one.lesion, one.segmentation))
    return finished


def test_records_are_stored_and_pending_shrinks(tmp_path: Path) -> None:
    path = tmp_path / "c.zarr"
    with CubeWriter.open(path, ROWS, SMALL) as writer:
        assert set(writer.missing) == ALL
        assert writer.digests() == {}
        writer.add(RECORDS[0])
        assert set(writer.missing) == ALL  # it waits
        writer.flush()
        assert set(writer.missing) == ALL - {("a", "RAD")}
        writer.add(RECORDS[1])
        writer.add(RECORDS[2])
    assert check_against_records(path, RECORDS) == {("a", "RAD"), ("a", "AI"), ("b", "RAD")}
    with CubeWriter.open(path, ROWS, SMALL) as writer:
        assert set(writer.missing) == {("c", "RAD"), ("c", "AI")}
        # b failed as a whole: no numbers to mix anything with
        assert writer.digests() == {
            ("a", "RAD"): ("image a", "mask a RAD", ""),
            ("a", "AI"): ("image a", "mask a AI", ""),
        }


def test_flushes_when_enough_records_wait(tmp_path: Path) -> None:
    with CubeWriter.open(tmp_path / "c.zarr", ROWS, SMALL, flush_records=2, flush_seconds=1e9) as writer:
        writer.add(RECORDS[0])
        assert status(tmp_path / "c.zarr").done == 0
        writer.add(RECORDS[3])
        assert status(tmp_path / "c.zarr").done == 2


def test_flushes_when_the_last_flush_is_long_ago(tmp_path: Path) -> None:
    with CubeWriter.open(tmp_path / "c.zarr", ROWS, SMALL, flush_records=10**9, flush_seconds=0) as writer:
        writer.add(RECORDS[0])
        assert status(tmp_path / "c.zarr").done == 1


def test_each_chunk_is_written_once_a_flush_and_states_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []

    class Noting(DyingStore):
        async def set(self, key: str, value: Any) -> None:
            written.append(key)
            await super().set(key, value)

    monkeypatch.setattr(store, "open_store", lambda folder, read_only: Noting(folder, read_only=read_only))
    with CubeWriter.open(tmp_path / "c.zarr", ROWS, SMALL) as writer:
        for one in RECORDS:
            writer.add(one)
        written.clear()
        writer.flush()
    assert len(written) == len(set(written))
    stages = [{"error": 1, "state": 2, "zarr.json": 3}.get(key.split("/")[0], 0) for key in written]
    assert stages == sorted(stages)
    assert set(stages) == {0, 1, 2, 3}


@hypothesis_settings(max_examples=12, deadline=None)
@given(order=st.permutations(range(5)), flushes=st.lists(st.booleans(), min_size=5, max_size=5), stop=st.integers(0, 5))
def test_bytes_depend_on_neither_order_nor_flushes_nor_runs(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], flushes: list[bool], stop: int
) -> None:
    folder = tmp_path_factory.mktemp("order")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "LESION_CHUNK", 2)
        expected = files(write(folder / "expected.zarr", ROWS, RECORDS))
        for part in (range(stop), range(stop, 5)):
            with CubeWriter.open(folder / "c.zarr", ROWS, SMALL) as writer:
                for step in part:
                    writer.add(RECORDS[order[step]])
                    if flushes[step]:
                        writer.flush()
        assert files(folder / "c.zarr") == expected


@pytest.mark.usefixtures("small_chunks")
def test_death_at_any_write_of_a_flush_loses_nothing(tmp_path: Path, dying: type[DyingStore]) -> None:
    rows = cohort(("a", "RAD"), ("b", "RAD"), ("c", "RAD"))
    records = [
        record("a", "RAD"),
        record("c", "RAD", firstorder=FLAT),
        record("b", "RAD", firstorder=BROKEN, shape=BROKEN),
    ]
    expected = files(write(tmp_path / "expected.zarr", rows, records))
    write(tmp_path / "new.zarr", rows, [])
    seen, deaths = set(), 0
    while True:
        path = tmp_path / f"{deaths}.zarr"
        shutil.copytree(tmp_path / "new.zarr", path)
        dying.left = deaths
        try:
            with CubeWriter.open(path, rows, SMALL, flush_records=2) as writer:
                for one in records:
                    writer.add(one)
        except Killed:
            finished = check_against_records(path, records)
        else:
            break
        deaths += 1
        seen.add(len(finished))
        dying.left = float("inf")
        with CubeWriter.open(path, rows, SMALL) as writer:
            pending = set(writer.missing)
            assert pending == {(one.lesion, one.segmentation) for one in records} - finished
            for one in records:
                if (one.lesion, one.segmentation) in pending:
                    writer.add(one)
        assert files(path) == expected
    assert deaths > 15  # the loop did something
    assert {0, 1, 2} <= seen


def test_death_at_any_write_of_the_creation_leaves_nothing(tmp_path: Path, dying: type[DyingStore]) -> None:
    path = tmp_path / "c.zarr"
    deaths = 0
    while True:
        dying.left = deaths
        try:
            CubeWriter.open(path, ROWS, SMALL).close()
        except Killed:
            assert list(tmp_path.iterdir()) == []
            deaths += 1
        else:
            break
    assert deaths > 20
    dying.left = float("inf")
    assert files(write(path, ROWS, RECORDS)) == files(write(tmp_path / "expected.zarr", ROWS, RECORDS))


CHILD = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from test_cube_writer import RECORDS, ROWS, SMALL, CubeWriter
path, writes = sys.argv[2], int(sys.argv[3])
replace = os.replace
def counted(*args):
    global writes
    if writes == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    writes -= 1
    return replace(*args)
import pathlib
pathlib.Path.replace = lambda self, target: counted(self, target)
with CubeWriter.open(path, ROWS, SMALL, flush_records=1) as writer:
    for one in RECORDS:
        writer.add(one)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
@pytest.mark.parametrize("writes", [0, 9, 30, 55])
def test_killed_process_is_resumed_to_the_same_bytes(tmp_path: Path, writes: int) -> None:
    expected = files(write(tmp_path / "expected.zarr", ROWS, RECORDS))
    path = tmp_path / "c.zarr"
    command = [sys.executable, "-c", CHILD, str(Path(__file__).parent), str(path), str(writes)]
    child = subprocess.run(command, check=False, timeout=60)
    assert child.returncode == -signal.SIGKILL
    assert list(tmp_path.rglob("*.partial"))  # it was torn
    if writes < 40:  # while the cube was made
        with pytest.raises(CubeError, match="not an hgpscale cube"):
            open_cube(path)
    with CubeWriter.open(path, ROWS, SMALL) as writer:
        for one in RECORDS:
            if (one.lesion, one.segmentation) in set(writer.missing):
                writer.add(one)
    assert files(path) == expected
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.zarr", "expected.zarr"]


def test_numbers_of_an_interrupted_attempt_do_not_survive_a_failure(tmp_path: Path, dying: type[DyingStore]) -> None:
    path = write(tmp_path / "c.zarr", ROWS, [])
    dying.at = "state"  # written last: numbers and digests are there
    with pytest.raises(Killed), CubeWriter.open(path, ROWS, SMALL) as writer:
        writer.add(record("a", "RAD"))
    dying.at = None
    assert np.isfinite(open_cube(path).firstorder.sel(lesion="a", segmentation="RAD")).any()
    failed = record("a", "RAD", firstorder=BROKEN, shape=BROKEN)
    write(path, ROWS, [failed])
    assert check_against_records(path, [failed]) == {("a", "RAD")}


def test_full_disk_says_what_is_safe_and_loses_nothing(tmp_path: Path, dying: type[DyingStore]) -> None:
    path = tmp_path / "c.zarr"
    dying.error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with CubeWriter.open(path, ROWS, SMALL, flush_records=2) as writer:
        writer.add(RECORDS[0])
        writer.add(RECORDS[1])
        writer.add(RECORDS[2])
        dying.left = 3
        with pytest.raises(CubeWriteError, match="No space left on device; 2 of 5 rows are safely stored") as caught:
            writer.add(RECORDS[3])
        assert str(path) in str(caught.value)
        assert isinstance(caught.value, OSError)
        assert check_against_records(path, RECORDS) == {("a", "RAD"), ("a", "AI")}
        dying.left = float("inf")  # somebody made room
        writer.flush()
        assert check_against_records(path, RECORDS) == ALL - {("c", "AI")}


def test_full_disk_ends_the_run_with_one_error_and_a_cube_to_resume(tmp_path: Path, dying: type[DyingStore]) -> None:
    path = write(tmp_path / "c.zarr", ROWS, RECORDS[:2])
    dying.error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    dying.left = 5
    with pytest.raises(CubeWriteError), CubeWriter.open(path, ROWS, SMALL, flush_records=1) as writer:
        writer.add(RECORDS[2])
    dying.left = float("inf")
    with CubeWriter.open(path, ROWS, SMALL) as writer:
        assert set(writer.missing) == ALL - {("a", "RAD"), ("a", "AI")}


def test_full_disk_at_creation_leaves_nothing(tmp_path: Path, dying: type[DyingStore]) -> None:
    dying.error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    dying.left = 10
    with pytest.raises(CubeWriteError, match=r"c\.zarr: cannot make or open the cube: No space left"):
        CubeWriter.open(tmp_path / "c.zarr", ROWS, SMALL)
    assert list(tmp_path.iterdir()) == []


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(CubeError, match="none does not exist; make it first"):
        CubeWriter.open(tmp_path / "none" / "c.zarr", ROWS, SMALL)


def test_interrupt_flushes_and_lets_the_cube_go(tmp_path: Path) -> None:
    def interrupted() -> Iterator[Record]:
        yield RECORDS[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):  # noqa: PT012, SIM117 (the error must leave the writer)
        with CubeWriter.open(tmp_path / "c.zarr", ROWS, SMALL) as writer:
            for one in interrupted():
                writer.add(one)
    with CubeWriter.open(tmp_path / "c.zarr", ROWS, SMALL) as writer:
        assert set(writer.missing) == ALL - {("a", "RAD")}


def test_second_writer_is_refused_while_the_first_is_open(tmp_path: Path) -> None:
    pytest.importorskip("fcntl", reason="this system has no advisory locks")
    with CubeWriter.open(tmp_path / "c.zarr", ROWS, SMALL) as writer:
        torn = tmp_path / "c.zarr" / "state" / "0.0123.partial"
        torn.write_bytes(b"")  # as the first writer's own would look
        with pytest.raises(CubeError, match="another run is writing to this cube"):
            CubeWriter.open(tmp_path / "c.zarr", ROWS, SMALL)
        assert torn.exists()
        writer.add(RECORDS[0])
    with CubeWriter.open(tmp_path / "c.zarr", ROWS, SMALL) as writer:
        assert not torn.exists()
        assert set(writer.missing) == ALL - {("a", "RAD")}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (record("z", "RAD"), "no such row"),
        (record("b", "AI"), "no such row"),
        (replace(RECORDS[0], values={}), "just the keys that the cube lacks"),
        (
            replace(RECORDS[0], values={**RECORDS[0].values, ("lesion", "original", "shape"): np.array([np.nan])}),
            "original shape must be 1 numbers, NaN only with a reason",
        ),
        (
            replace(RECORDS[0], values={**RECORDS[0].values, ("lesion", "original", "shape"): np.zeros(2)}),
            "original shape must be 1 numbers, NaN only with a reason",
        ),
    ],
)
def test_a_record_that_is_not_whole_is_a_programming_error(tmp_path: Path, wrong: Record, says: str) -> None:
    with CubeWriter.open(tmp_path / "c.zarr", ROWS, SMALL) as writer:
        with pytest.raises(ValueError, match=says):
            writer.add(wrong)
        writer.flush()
        assert set(writer.missing) == ALL


def test_a_single_undefined_feature_is_nan_with_its_reason(tmp_path: Path) -> None:
    key = ("lesion", "original", "firstorder")
    odd = replace(
        RECORDS[0],
        values={**RECORDS[0].values, key: np.array([2.5, np.nan])},
        failures={key: Failure("features", "firstorder Mean: not defined on this region of 2 voxels")},
    )
    with CubeWriter.open(tmp_path / "c.zarr", ROWS, SMALL) as writer:
        writer.add(odd)
    records = open_cube(tmp_path / "c.zarr").hgp.records().set_index(["lesion", "segmentation", "family"])
    found = records.loc[(odd.lesion, odd.segmentation, "firstorder")]
    assert found["state"] == "done"
    assert found["error"] == "features: firstorder Mean: not defined on this region of 2 voxels"
    values = open_cube(tmp_path / "c.zarr").firstorder.sel(lesion=odd.lesion, segmentation=odd.segmentation)
    np.testing.assert_array_equal(values.values.ravel(), [2.5, np.nan])


def test_a_reason_that_is_no_unicode_text_is_stored_escaped(tmp_path: Path) -> None:
    odd = Failure("read", os.fsdecode(b"scan\xff.nii") + ": missing")
    path = write(tmp_path / "c.zarr", ROWS, [record("b", "RAD", firstorder=odd, shape=odd)])
    assert status(path).failures[0].reason == r"scan\udcff.nii: missing"


def _recolumned(**columns: list[Any]) -> Cohort:
    return replace(ROWS, columns=ROWS.columns.assign(**columns))


@pytest.mark.parametrize(
    "name",
    ["state", "State", "shape", "glcm_feature", "RAD__original_shape_MeshVolume", "RAD__mask", "image", "Centre"],
)
def test_a_column_that_takes_the_cubes_own_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CubeError, match=rf"c\.zarr: cohort\.csv: column '{name}': .*; rename it"):
        CubeWriter.open(tmp_path / "c.zarr", _recolumned(**{name: [1, 2, 3]}), SMALL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a/b", "..", "a\\b", "a\0b", "x.partial", "n" * 256])
def test_a_column_that_is_no_name_of_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CubeError, match=r"column '.*': the name .*, so the cube cannot store it; rename it"):
        CubeWriter.open(tmp_path / "c.zarr", _recolumned(**{name: [1, 2, 3]}), SMALL)


def test_a_cube_that_may_not_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "c.zarr", ROWS, [])

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("hgpscale.cube.lock.Lock.take", refuse)
    with pytest.raises(CubeWriteError, match="cannot make or open the cube: Permission denied"):
        CubeWriter.open(path, ROWS, SMALL)
