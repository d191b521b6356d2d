"""What a cube survives besides kills (tests/soak) and damage (test_verify): no room, no permission, rivals, clocks."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from cube_cases import SMALL, cohort, files, record, write

from hgpscale.contents import Contents
from hgpscale.cube import CubeWriter, export, open_cube, status, verify
from hgpscale.cube.head import LAYOUT, Head
from hgpscale.errors import CubeError, CubeWriteError

LESIONS = [f"lesion {i}" for i in range(40)]
ROWS = cohort(*((name, "default") for name in LESIONS))
RECORDS = [record(name, "default") for name in LESIONS]

Place = Callable[[str], str | Path]


def finished(path: str | Path) -> set[str]:
    """Check that all vectors that are done have their record's numbers; return the lesions of which all are."""
    cube = open_cube(path).load()
    done = set()
    for one in RECORDS:
        row = cube.sel(lesion=one.lesion, segmentation="default", region="lesion", image_type="original")
        states = [str(row.state.sel(family=family).values) for _, _, family in one.values]
        for (_, _, family), values in one.values.items():
            if row.state.sel(family=family) == "done":
                np.testing.assert_array_equal(row[family], values)
        if set(states) == {"done"}:
            done.add(one.lesion)
    return done


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk in memory of 300 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.name != "posix" or os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    command = [mount, "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("left", range(4_000, 160_000, 12_000))
def test_a_full_disk_costs_nothing_that_was_stored(small_disk: Path, tmp_path: Path, left: int) -> None:
    expected = files(write(tmp_path / "expected.zarr", ROWS, RECORDS))
    ballast, path = small_disk / "ballast", small_disk / "c.zarr"
    ballast.write_bytes(bytes(300 * 1024 - left))
    with pytest.raises(CubeWriteError, match="No space left on device"):  # noqa: PT012, SIM117
        with CubeWriter.open(path, ROWS, SMALL, flush_records=1) as writer:
            for one in RECORDS:
                writer.add(one)
    kept = finished(path) if path.exists() else set()
    ballast.unlink()
    if path.exists():
        assert verify(path).findings == []
    with CubeWriter.open(path, ROWS, SMALL) as writer:
        assert {lesion for lesion, _ in writer.missing} == set(LESIONS) - kept
        for one in RECORDS:
            if (one.lesion, "default") in writer.missing:
                writer.add(one)
    assert files(path) == expected


@pytest.fixture
def unprivileged() -> Iterator[None]:
    """Give up root's right to write everywhere."""
    if not hasattr(os, "seteuid"):
        pytest.skip("this system has no users")
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield
    if user == 0:
        os.seteuid(user)


def test_a_read_only_folder_can_be_read_and_nothing_else(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    folder = tmp_path / "read only"
    folder.mkdir()
    path = write(folder / "c.zarr", ROWS, RECORDS[:20])
    before = files(folder)
    for parent in (tmp_path, *tmp_path.parents):
        if parent.owner() != "root" or parent == Path(parent.anchor):
            break
        parent.chmod(0o755)
    (tmp_path / "out").mkdir(mode=0o777)
    (tmp_path / "out").chmod(0o777)
    for entry in [folder, *folder.rglob("*")]:
        entry.chmod(0o555 if entry.is_dir() else 0o444)
    request.getfixturevalue("unprivileged")
    assert finished(path) == set(LESIONS[:20])
    assert (status(path).done, verify(path).findings) == (20, [])
    assert export(path, tmp_path / "out" / "f.csv").exists()
    with pytest.raises(CubeWriteError, match=r"cannot make or open the cube: (Permission denied|Read-only)"):
        CubeWriter.open(path, ROWS, SMALL)
    with pytest.raises(CubeWriteError, match="Permission denied"):
        CubeWriter.open(folder / "new.zarr", ROWS, SMALL)
    assert files(folder) == before


HOLD = """
import sys
sys.path.insert(0, sys.argv[1])
from test_faults import ROWS, SMALL, CubeWriter
with CubeWriter.open(sys.argv[2], ROWS, SMALL):
    print("open", flush=True)
    sys.stdin.read()
"""


def test_of_two_writers_the_second_is_refused_and_named_the_first(place: Place) -> None:
    path = place("c.zarr")
    command = [sys.executable, "-c", HOLD, str(Path(__file__).parent), str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "open\n"
        with pytest.raises(CubeError, match=rf"another run is writing to this cube: .*{first.pid}.* --break-lock"):
            CubeWriter.open(path, ROWS, SMALL)
        first.communicate("")
    with CubeWriter.open(path, ROWS, SMALL) as writer:
        assert len(writer.missing) == len(ROWS.rows)


def test_a_writer_whose_lock_was_broken_writes_no_more(place: Place) -> None:
    path = place("c.zarr")
    with CubeWriter.open(path, ROWS, SMALL) as first:
        first.add(RECORDS[0])
        first.flush()
        with CubeWriter.open(path, ROWS, SMALL, break_lock=True) as second:
            first.add(RECORDS[1])
            with pytest.raises(CubeWriteError, match="taken over"):
                first.flush()
            second.add(RECORDS[2])
        first._buffer.clear()
    assert finished(path) == {LESIONS[0], LESIONS[2]}


def test_a_reader_sees_only_what_is_true_while_a_writer_writes(place: Place) -> None:
    path = place("c.zarr")
    write(Path(path), ROWS, []) if isinstance(path, Path) else CubeWriter.open(path, ROWS, SMALL).close()
    failed: list[BaseException] = []

    def add_all() -> None:
        try:
            with CubeWriter.open(path, ROWS, SMALL, flush_records=1) as writer:
                for one in random.Random(0).sample(RECORDS, len(RECORDS)):
                    writer.add(one)
        except BaseException as error:  # noqa: BLE001 (told below)
            failed.append(error)

    thread = threading.Thread(target=add_all)
    thread.start()
    seen: list[set[str]] = []
    while thread.is_alive():
        seen.append(finished(path))
    thread.join()
    assert not failed
    assert all(before <= after for before, after in pairwise(seen))
    assert finished(path) == set(LESIONS)


def test_a_clock_that_goes_backwards_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = files(write(tmp_path / "expected.zarr", ROWS, RECORDS))
    now = iter(range(10**9, 0, -3600))
    monkeypatch.setattr(time, "time", lambda: float(next(now)))
    path = tmp_path / "c.zarr"
    for part in (RECORDS[:7], RECORDS[7:]):
        with CubeWriter.open(path, ROWS, SMALL, flush_records=3) as writer:
            for one in part:
                writer.add(one)
        assert not (tmp_path / "c.zarr.lock").exists()
    assert files(path) == expected


@pytest.mark.parametrize("layout", [0, 1, 99, "2016"])
def test_another_layout_is_refused_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: object
) -> None:
    path = tmp_path / "c.zarr"
    attributes = Head.attributes
    with monkeypatch.context() as patch:
        patch.setattr(Head, "attributes", lambda head: {**attributes(head), LAYOUT: layout})
        write(path, ROWS, RECORDS[:3])
    before = files(path)
    uses: list[Callable[[], object]] = [
        lambda: open_cube(path),
        lambda: status(path),
        lambda: verify(path, repair=True),
        lambda: CubeWriter.open(path, ROWS, SMALL, update=True),
    ]
    for use in uses:
        with pytest.raises(
            CubeError, match=rf"has cube layout {layout} .*export it with hgpscale .*extract to another"
        ):
            use()
    assert files(path) == before


def test_the_cases_have_several_vectors() -> None:
    assert len(Contents.of(SMALL).keys) == 2
