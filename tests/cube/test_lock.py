"""One writer at a time, on disk and on S3."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hgpscale.cube import lock as lock_module
from hgpscale.cube import lock_note, lock_place, store
from hgpscale.cube.lock import Lock, owner
from hgpscale.cube.lock_note import Note, Owner
from hgpscale.errors import CubeError, CubeWriteError

Place = Callable[[str], str | Path]

# The child inherits whatever the system lets it: a worker must not keep the lock of a killed driver.
HOLDER = """
import subprocess, sys, time
from hgpscale.cube.lock import Lock
lock = Lock.take(sys.argv[1])
lock.making(sys.argv[2] == "making")
worker = subprocess.Popen(["sleep", "600"], close_fds=False, stdout=subprocess.DEVNULL)
print(worker.pid, flush=True)
time.sleep(600)
"""
TAKER = """
import sys
from hgpscale.cube.lock import Lock
from hgpscale.errors import CubeError
try:
    Lock.take(sys.argv[1])
except CubeError as error:
    print(error)
"""


@pytest.fixture
def cube(place: Place) -> str | Path:
    return place("cohort.zarr")


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Give the warnings of hgpscale so far."""
    return lambda: [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith("hgpscale") and record.levelno >= logging.WARNING
    ]


@pytest.fixture
def holder(cube: str | Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Give what starts another process that holds the lock; its worker's process id is its first line."""
    started = []

    def start(what: str) -> subprocess.Popen[str]:
        process = subprocess.Popen([sys.executable, "-c", HOLDER, str(cube), what], stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def dead_pid() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def raw(cube: str | Path) -> bytes | None:
    seen = lock_place.lock_place(cube).look()
    return seen.data if seen else None


def note_in(cube: str | Path) -> Note:
    note = Note.load(raw(cube) or b"")
    assert note is not None
    return note


def leave(cube: str | Path, content: Note | bytes) -> None:
    """Leave a lock as another run would have."""
    data = content.dump() if isinstance(content, Note) else content
    there = str(store.sibling(cube, f"{store.name_of(cube)}.lock")).rpartition("/")
    store.write(there[0], there[2], data)


def later(cube: str | Path, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the storage's clock, as seen by everyone from now on, ahead or back."""
    kind = type(lock_place.lock_place(cube))
    real = kind.time
    monkeypatch.setattr(kind, "time", lambda self: real(self) + seconds)


def refusal(cube: str | Path, who: str) -> str:
    return (
        f"{cube}: another run is writing to this cube{who}; wait until it ends, or stop it, or give --break-lock if "
        "you are sure that it is gone"
    )


def who(note: Owner) -> str:
    return f"process {note.pid} on {note.host}, started {note.started}"


def assert_refused(cube: str | Path, who: str) -> None:
    with pytest.raises(CubeError) as caught:
        Lock.take(cube)
    assert str(caught.value) == refusal(cube, who)
    assert type(caught.value) is CubeError


def test_a_lock_lies_beside_the_cube_and_goes_with_its_holder(cube: str | Path) -> None:
    assert owner(cube) is None
    with Lock.take(cube) as lock:
        assert not lock.was_making
        lock.check()
        note = note_in(cube)
        assert (note.pid, note.making) == (os.getpid(), False)
        assert owner(cube) == Owner(note.host, note.pid, note.started)
        assert not store.is_there(cube)
        name = f"{store.name_of(cube)}.lock"
        assert {str(cube).rpartition("/")[0] + "/" + name} == {str(store.sibling(cube, name))}
    assert raw(cube) is None
    assert owner(cube) is None
    lock.close()
    Lock.take(cube).close()


def test_the_owner_is_named_for_people() -> None:
    note = Note.own()
    assert re.fullmatch(
        rf"process {os.getpid()} on \S+, started \d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d", who(note)
    )
    assert len(note.dump()) == 1024


def test_a_second_one_in_the_same_process_is_refused(cube: str | Path, log: Callable[[], list[str]]) -> None:
    with Lock.take(cube) as lock:
        assert_refused(cube, f": {who(note_in(cube))}")
        lock.check()
    assert log() == []


def test_a_second_one_in_another_process_is_refused(cube: str | Path) -> None:
    with Lock.take(cube) as lock:
        found = subprocess.run([sys.executable, "-c", TAKER, str(cube)], capture_output=True, text=True, check=True)
        assert found.stdout == f"{refusal(cube, f': {who(note_in(cube))}')}\n"
        lock.check()


@pytest.mark.parametrize("making", [True, False])
def test_a_killed_owner_is_taken_over(
    cube: str | Path, making: bool, holder: Callable[[str], subprocess.Popen[str]], log: Callable[[], list[str]]
) -> None:
    process = holder("making" if making else "made")
    assert process.stdout is not None
    worker = int(process.stdout.readline())
    note = note_in(cube)
    try:
        assert (note.pid, note.making) == (process.pid, making)
        assert_refused(cube, f": {who(note)}")
        process.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # a zombie: its parent has not asked for it yet
        assert owner(cube) is None
        with Lock.take(cube) as lock:
            os.kill(worker, 0)  # it lives
            assert lock.was_making == making
            lock.check()
            assert log() == [f"{cube}: lock taken over from {who(note)}: that process has ended"]
    finally:
        os.kill(worker, signal.SIGKILL)


def test_what_was_being_made_is_known_until_somebody_says_that_it_is_made(cube: str | Path, dead_pid: int) -> None:
    leave(cube, replace(Note.own(), pid=dead_pid, making=True))
    with Lock.take(cube) as lock:
        assert lock.was_making
        assert note_in(cube).making  # so that our own end does not lose it
        lock.making(False)
        assert not note_in(cube).making
        lock.check()
        lock.making(True)
        assert note_in(cube).making
        leave(cube, replace(note_in(cube), pid=dead_pid, token="killed"))
    with Lock.take(cube, break_lock=True) as lock:
        assert lock.was_making


def test_another_process_with_the_owners_pid_is_no_owner(cube: str | Path, log: Callable[[], list[str]]) -> None:
    note = replace(Note.own(), start_mark="1")
    leave(cube, note)
    assert owner(cube) is None
    with Lock.take(cube) as lock:
        lock.check()
    assert log() == [f"{cube}: lock taken over from {who(note)}: that process has ended"]


@pytest.mark.parametrize("elsewhere", [{"host": "node7"}, {"space": "another machine of this name"}])
def test_an_owner_elsewhere_lives_while_its_heart_beats(
    cube: str | Path, elsewhere: dict[str, Any], dead_pid: int, monkeypatch: pytest.MonkeyPatch, log: Any
) -> None:
    note = replace(Note.own(), pid=dead_pid, **elsewhere)
    leave(cube, note)
    assert_refused(cube, f": {who(note)}")
    later(cube, 55, monkeypatch)
    assert_refused(cube, f": {who(note)}")
    assert owner(cube) == Owner(note.host, note.pid, note.started)
    assert Note.load(raw(cube) or b"") == note
    later(cube, 10, monkeypatch)
    assert owner(cube) is None
    with Lock.take(cube) as lock:
        lock.check()
    (line,) = log()
    told = f"{cube}: lock taken over from {who(note)}: no sign of life for "
    assert line in {f"{told}{seconds} s" for seconds in (65, 66, 67)}


def test_clocks_that_go_back_do_no_harm(cube: str | Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = replace(Note.own(), host="node7")
    leave(cube, note)
    later(cube, -7200, monkeypatch)  # the lock lies in the future
    assert_refused(cube, f": {who(note)}")
    store.delete(*split(cube))
    with Lock.take(cube) as lock:
        monkeypatch.setattr(time, "time", lambda: 0.0)
        lock.check()
        lock.making(True)
        assert_refused(cube, f": {who(note_in(cube))}")
        lock.check()


def split(cube: str | Path) -> tuple[str, str]:
    folder, _, name = str(store.sibling(cube, f"{store.name_of(cube)}.lock")).rpartition("/")
    return folder, name


def test_the_age_of_a_lock_file_is_its_modification_time(tmp_path: Path, log: Callable[[], list[str]]) -> None:
    cube = tmp_path / "cohort.zarr"
    note = replace(Note.own(), host="node7")
    leave(cube, note)
    now = time.time()
    os.utime(tmp_path / "cohort.zarr.lock", (now + 9999, now + 9999))
    assert_refused(cube, f": {who(note)}")
    os.utime(tmp_path / "cohort.zarr.lock", (now - 3600, now - 3600))
    Lock.take(cube).close()
    (line,) = log()
    assert re.search(r"no sign of life for 36\d\d s$", line)
    assert list(tmp_path.iterdir()) == []


def test_a_lock_is_broken_on_request(cube: str | Path, log: Callable[[], list[str]]) -> None:
    old = Lock.take(cube)
    first = note_in(cube)
    new = Lock.take(cube, break_lock=True)
    second = note_in(cube)
    assert first.token != second.token
    assert log() == [f"{cube}: lock taken over from {who(first)}: --break-lock"]
    gone = f"{cube}: the lock of this run was taken over by {who(second)}; it stops, so as not to mix two runs"
    for action in (old.check, lambda: old.making(True)):
        with pytest.raises(CubeWriteError) as caught:
            action()
        assert str(caught.value) == gone
    new.check()
    assert_refused(cube, f": {who(second)}")
    old.close()
    new.check()
    assert note_in(cube) == second
    new.close()
    assert raw(cube) is None
    assert len(log()) == 1


def test_a_lock_of_a_living_owner_elsewhere_is_broken_on_request(
    cube: str | Path, log: Callable[[], list[str]]
) -> None:
    note = replace(Note.own(), host="node7", making=True)
    leave(cube, note)
    with Lock.take(cube, break_lock=True) as lock:
        assert lock.was_making
    assert log() == [f"{cube}: lock taken over from {who(note)}: --break-lock"]


def test_breaking_a_free_lock_says_nothing(cube: str | Path, log: Callable[[], list[str]]) -> None:
    Lock.take(cube, break_lock=True).close()
    assert log() == []


def test_a_lock_that_was_removed_is_noticed(cube: str | Path) -> None:
    with Lock.take(cube) as lock:
        store.delete(*split(cube))
        with pytest.raises(CubeWriteError) as caught:
            lock.check()
        assert str(caught.value) == (
            f"{cube}: the lock of this run is gone or broken; it stops, so as not to mix two runs"
        )


@pytest.mark.parametrize("left", ["dead", "free"])
def test_one_of_twenty_wins(cube: str | Path, left: str, dead_pid: int, log: Callable[[], list[str]]) -> None:
    if left == "dead":
        leave(cube, replace(Note.own(), pid=dead_pid))
    start = threading.Barrier(20)

    def race(_: int) -> Lock | str:
        start.wait()
        try:
            return Lock.take(cube)
        except CubeError as error:
            return str(error)

    with ThreadPoolExecutor(20) as pool:
        results = list(pool.map(race, range(20)))
    (winner,) = [result for result in results if isinstance(result, Lock)]
    winner.check()
    assert {result for result in results if isinstance(result, str)} <= {
        refusal(cube, ""),  # seen while the winner was about to write its note
        refusal(cube, f": {who(note_in(cube))}"),
    }
    assert len(log()) == (left == "dead")
    winner.close()
    assert raw(cube) is None


def test_the_heart_beats_and_stops(cube: str | Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_module, "_BEAT_SECONDS", 0.02)
    lock = Lock.take(cube)
    place = lock_place.lock_place(cube)
    first = place.look()
    wait_for(lambda: note_in(cube).beat > 3)
    seen = place.look()
    assert first is not None
    assert seen is not None
    assert seen.stamp >= first.stamp
    assert seen.version != first.version or isinstance(cube, Path)
    lock.making(True)
    beat = note_in(cube).beat
    wait_for(lambda: note_in(cube).beat > beat)
    assert note_in(cube).making
    new = Lock.take(cube, break_lock=True)
    wait_for(lambda: not lock._heart.is_alive())
    new.check()
    lock.close()
    new.close()
    assert not new._heart.is_alive()
    assert raw(cube) is None


def test_a_heartbeat_renews_the_modification_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_module, "_BEAT_SECONDS", 0.02)
    with Lock.take(tmp_path / "cohort.zarr"):
        file = tmp_path / "cohort.zarr.lock"
        os.utime(file, (0, 0))
        wait_for(lambda: abs(file.stat().st_mtime - time.time()) < 60)


def test_a_heartbeat_that_fails_is_told_once_and_goes_on(
    cube: str | Path, monkeypatch: pytest.MonkeyPatch, log: Callable[[], list[str]]
) -> None:
    monkeypatch.setattr(lock_module, "_BEAT_SECONDS", 0.02)
    with Lock.take(cube) as lock:
        kind = type(lock._place)
        real, failed = kind.replace, []

        def fail(*_: Any) -> bool:
            failed.append(1)
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(kind, "replace", fail)
        wait_for(lambda: len(failed) > 3)
        monkeypatch.setattr(kind, "replace", real)
        beat = note_in(cube).beat
        wait_for(lambda: note_in(cube).beat > beat)
        lock.check()
    assert log() == [f"{cube}: cannot renew the lock: Input/output error"]


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize(("content", "lines"), [(b"", 0), (b'{"host": "no', 1), (b"[1]", 1), (b"\0" * 1024, 1)])
def test_a_file_without_a_note_that_nobody_holds_is_free(
    tmp_path: Path, content: bytes, lines: int, log: Callable[[], list[str]]
) -> None:
    cube = tmp_path / "cohort.zarr"
    leave(cube, content)
    assert owner(cube) is None
    with Lock.take(cube) as lock:
        assert not lock.was_making
        lock.check()
        assert note_in(cube).pid == os.getpid()
    assert log() == [f"{cube}: lock taken over from an unknown run: nobody holds it"] * lines


def test_an_object_without_a_note_is_judged_by_its_age(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch, log: Callable[[], list[str]]
) -> None:
    cube = f"{s3_bucket}/odd/cohort.zarr"
    leave(cube, b"?")
    assert_refused(cube, "")
    later(cube, 100, monkeypatch)
    Lock.take(cube).close()
    (line,) = log()
    assert re.fullmatch(r"\S+: lock taken over from an unknown run: no sign of life for 10\d s", line)


@pytest.fixture
def read_only_folder() -> Iterator[Path]:
    """Give a folder in which not even root may write, as it is somebody else meanwhile."""
    folder = Path(tempfile.mkdtemp())
    leave(folder / "held.zarr", replace(Note.own(), host="node7"))
    folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    yield folder
    if root:
        os.seteuid(0)
    folder.chmod(0o755)
    (folder / "held.zarr.lock").unlink()
    folder.rmdir()


def test_a_folder_that_may_not_be_written_is_a_permission_error(read_only_folder: Path) -> None:
    with pytest.raises(PermissionError) as caught:
        Lock.take(read_only_folder / "cohort.zarr")
    assert str(caught.value) == f"[Errno 13] Permission denied: '{read_only_folder}/cohort.zarr.lock'"


def test_a_reader_may_ask_for_the_owner(read_only_folder: Path) -> None:
    found = owner(read_only_folder / "held.zarr")
    assert found is not None
    assert found.host == "node7"
    assert owner(read_only_folder / "free.zarr") is None


def test_a_folder_that_is_missing_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Lock.take(tmp_path / "missing" / "cohort.zarr")
    assert owner(tmp_path / "missing" / "cohort.zarr") is None


def test_a_missing_bucket_is_a_storage_error(s3_bucket: str) -> None:
    with pytest.raises(store.storage_errors()) as caught:
        Lock.take("s3://no-such-bucket/cohort.zarr")
    assert store.reason(caught.value) == "no such bucket: no-such-bucket"


def test_a_link_to_a_cube_has_the_cubes_lock(tmp_path: Path) -> None:
    (tmp_path / "cohort.zarr").mkdir()
    (tmp_path / "link").symlink_to("cohort.zarr")
    with Lock.take(tmp_path / "cohort.zarr"):
        assert_refused(tmp_path / "link", f": {who(note_in(tmp_path / 'cohort.zarr'))}")


@pytest.fixture
def no_flock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_place, "_flock", lambda _: None)
    monkeypatch.setattr(lock_place, "_SETTLE_SECONDS", 0.01)


@pytest.mark.usefixtures("no_flock")
def test_a_file_system_without_flock(tmp_path: Path, dead_pid: int, log: Callable[[], list[str]]) -> None:
    cube = tmp_path / "cohort.zarr"
    with Lock.take(cube) as old:
        old.making(True)
        assert_refused(cube, f": {who(note_in(cube))}")
        with Lock.take(cube, break_lock=True) as new:
            assert new.was_making
            with pytest.raises(CubeWriteError):
                old.check()
        assert raw(cube) is None
    leave(cube, replace(Note.own(), pid=dead_pid))
    with Lock.take(cube) as lock:
        lock.check()
        lock.making(True)
    leave(cube, b"")  # of somebody who is about to write it
    assert_refused(cube, "")
    assert len(log()) == 2


@pytest.mark.usefixtures("no_flock")
def test_without_flock_the_last_one_wins(tmp_path: Path, dead_pid: int, monkeypatch: pytest.MonkeyPatch) -> None:
    cube = tmp_path / "cohort.zarr"
    leave(cube, replace(Note.own(), pid=dead_pid))
    other = Note.own()
    monkeypatch.setattr(time, "sleep", lambda _: leave(cube, other))
    assert_refused(cube, f": {who(other)}")
    assert note_in(cube) == other


def test_a_lock_whose_storing_was_not_answered_is_ours(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Obstore asks again when an answer is lost, and then hears that there is an object already: its own."""
    cube = f"{s3_bucket}/unanswered/cohort.zarr"
    real = lock_place.ObjectPlace._put

    def lost(self: lock_place.ObjectPlace, data: bytes, version: str | None) -> bool:
        real(self, data, version)
        return False

    monkeypatch.setattr(lock_place.ObjectPlace, "_put", lost)
    with Lock.take(cube) as lock:
        lock.check()
        lock.making(True)
        assert note_in(cube).making
    assert raw(cube) is None


@pytest.mark.parametrize("ignored", ["If-None-Match", "If-Match"])
def test_a_server_that_ignores_conditions_is_refused(
    s3_bucket: str, ignored: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cube = f"{s3_bucket}/unguarded/cohort.zarr"
    real = lock_place.ObjectPlace._put

    def careless(self: lock_place.ObjectPlace, data: bytes, version: str | None) -> bool:
        if real(self, data, version):
            return True
        if (version is None) != (ignored == "If-None-Match"):
            return False
        store.write(*split(cube), data)
        return True

    monkeypatch.setattr(lock_place.ObjectPlace, "_put", careless)
    with pytest.raises(CubeError) as caught:
        Lock.take(cube)
    assert str(caught.value) == (
        f"{cube}.lock: this S3 server ignores If-None-Match or If-Match, so nothing keeps two runs from writing to "
        "one cube; put the cube on another storage"
    )
    assert raw(cube) is None


def test_a_process_that_cannot_be_told_apart_is_none(dead_pid: int) -> None:
    assert lock_note._start_mark(dead_pid) is None
    assert lock_note._start_mark(os.getpid()) == Note.own().start_mark
