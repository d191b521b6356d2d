"""The log of a run: what its lines say, of runs that are known, and what happens where it cannot be written."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import fault_table
import pytest
from typer.testing import CliRunner

from hgpscale.cli import app
from hgpscale.engine import run
from hgpscale.engine.events import (
    ClusterReady,
    Event,
    LesionDone,
    LesionSubmitted,
    RunFinished,
    RunStarted,
    SchedulerLost,
    Summary,
    Work,
    WorkerLost,
    WorkersCounted,
)
from hgpscale.engine.flow import stream_records
from hgpscale.engine.progress import together
from hgpscale.engine.run import extract
from hgpscale.engine.runlog import RunLog, moment
from hgpscale.errors import EngineError, LogError
from hgpscale.report.run_read import read_log

WORK = Work("node7-0", "tcp://10.0.0.7:41", "node8-1", 1_700_000_000.25, 1_700_000_001.5, 0.125, 1.25, 5 << 20, 9 << 20)


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = partial(stream_records, read=fault_table.read, extract=fault_table.extract)
    monkeypatch.setattr(run, "stream_records", fake)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("ascii").splitlines()]


def test_a_line_describes_itself(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    evil = 'a"\n\u2028</script>'
    before = datetime.now(UTC)
    with RunLog(path) as log:
        log(LesionSubmitted(evil, "RAD", alone=True))
        log(LesionDone(None, (), "b", "default", 7, WORK, 0.5))
        log(WorkerLost("tcp://10.0.0.7:41", 1_700_000_002.0, (("b", "default"),)))
    submitted, done, lost = lines(path)
    for line in (submitted, done, lost):
        assert before.timestamp() - 1 < datetime.fromisoformat(line["time"]).timestamp() < datetime.now(UTC).timestamp()
        assert line["time"].endswith("Z")
        assert line["run"] == log.run
    assert (submitted["event"], submitted["lesion"], submitted["alone"]) == ("lesion_submitted", evil, True)
    # 1.7e9 s after 1970 began is 2023-11-14 22:13:20 UTC.
    assert {name: done[name] for name in ("event", "state", "vectors", "worker", "reader", "start", "end")} == {
        "event": "lesion_done", "state": "done", "vectors": 7, "worker": "node7-0", "reader": "node8-1",
        "start": "2023-11-14T22:13:20.250Z", "end": "2023-11-14T22:13:21.500Z",
    }  # fmt: skip
    assert (done["read_seconds"], done["extract_seconds"], done["write_seconds"]) == (0.125, 1.25, 0.5)
    assert (done["memory"], done["peak"]) == (5242880, 9437184)
    assert (lost["when"], lost["lesions"]) == ("2023-11-14T22:13:22.000Z", [["b", "default"]])


def test_the_log_counts_what_the_table_of_faults_planned(fakes: None, tmp_path: Path) -> None:
    manifest, path = fault_table.write_manifest(tmp_path, [1, 1, 1]), tmp_path / "run.jsonl"
    others = [("s1-0", "bug"), ("s2-0", "no glcm")]
    fault_table.Cohort(
        tmp_path,
        [1, 1, 1],
        # Tried more than once: what the worker had not handed over when it died is done again.
        {"extract s0-0": {1: "exit"}, **{f"extract {row}": dict.fromkeys((1, 2, 3), kind) for row, kind in others}},
    )
    with RunLog(path) as log:
        summary = extract(manifest, tmp_path / "cube.zarr", workers=1, on_event=log)
    told = lines(path)
    events = [line["event"] for line in told]
    assert (events[0], events[-1]) == ("run_started", "run_finished")
    lost = [line for line in told if line["event"] == "worker_lost"]
    assert len(lost) == 1  # one death is planned; the only worker may have held others
    again = [line["lesion"] for line in told if line["event"] == "lesion_submitted" and line["alone"]]
    assert "s0-0" in again
    assert sorted(again) == sorted(lesion for lesion, _ in lost[0]["lesions"])
    assert Counter(events)["lesion_submitted"] == 3 + len(again)
    done = {line["lesion"]: line for line in told if line["event"] == "lesion_done"}
    assert {lesion: line["state"] for lesion, line in done.items()} == {
        "s0-0": "done", "s1-0": "failed", "s2-0": "partial",
    }  # fmt: skip
    assert [failure["stage"] for failure in done["s1-0"]["failures"]] == ["run"]
    assert "worker" not in done["s1-0"]  # no task came to its end
    assert done["s2-0"]["failures"] == [{"stage": "features", "reason": "lesion/original/glcm: one grey level"}]
    first, last = told[0], told[-1]
    assert (first["manifest"], first["total"], first["pending"], first["missing"]) == (str(manifest), 3, 3, 21)
    assert (last["done"], last["failed"], last["partial"]) == (2, 1, 1)
    (seen,) = read_log(path).runs  # and the page's reader sees the same
    assert seen.counts == {"done": 1, "partial": 1, "failed": 1}
    assert (seen.lost, seen.submitted, seen.again, seen.measured) == (1, 3 + len(again), len(again), 2)
    assert (seen.most_workers, seen.finished, seen.vectors) == (1, True, 7 + 6)
    assert last["seconds"] == pytest.approx(summary.seconds, abs=1e-3)
    assert sum(line["write_seconds"] for line in done.values()) <= last["write_seconds"] <= last["seconds"]


def test_a_run_that_goes_on_is_appended_with_an_id_of_its_own(fakes: None, tmp_path: Path) -> None:
    manifest, path, cube = fault_table.write_manifest(tmp_path, [1] * 4), tmp_path / "run.jsonl", tmp_path / "c.zarr"
    fault_table.Cohort(tmp_path, [1] * 4)

    def interrupt(event: Event) -> None:
        if isinstance(event, LesionDone):
            raise KeyboardInterrupt

    def go(*more: Callable[[Event], None]) -> None:
        with RunLog(path) as log:
            extract(manifest, cube, workers=1, on_event=together(log, *more))

    with pytest.raises(KeyboardInterrupt):
        go(interrupt)
    go()
    ends = {line["run"]: line["event"] for line in lines(path)}
    assert list(ends.values()) == ["run_stopped", "run_finished"]
    (stopped,) = [line for line in lines(path) if line["event"] == "run_stopped"]
    assert (stopped["error"], stopped["reason"]) == ("KeyboardInterrupt", "")
    done = [line["lesion"] for line in lines(path) if line["event"] == "lesion_done"]
    assert sorted(done) == [f"s{number}-0" for number in range(4)]


def test_why_a_run_stopped_is_told_once_it_began(tmp_path: Path) -> None:
    def stop(path: Path, *events: Event) -> None:
        with RunLog(path) as log:
            for event in events:
                log(event)
            raise EngineError("lost the\nscheduler")

    path, other = tmp_path / "run.jsonl", tmp_path / "other.jsonl"
    with pytest.raises(EngineError):
        stop(path, RunStarted(1, 1, 7))
    assert [(line["event"], line.get("reason")) for line in lines(path)] == [
        ("run_started", None), ("run_stopped", "lost the scheduler"),
    ]  # fmt: skip
    with pytest.raises(EngineError):
        stop(other)
    assert other.read_bytes() == b""


def test_a_line_that_was_cut_off_spoils_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_bytes(b'{"event":"run_started"}\n{"event":"lesi')
    with RunLog(path) as log:
        log(RunStarted(1, 1, 7))
    first, cut, ours = path.read_bytes().splitlines()
    assert (json.loads(first)["event"], cut) == ("run_started", b'{"event":"lesi')
    assert json.loads(ours)["total"] == 1


def test_a_log_that_cannot_be_written_is_told_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("a cluster was started")

    monkeypatch.setattr(run, "open_client", refuse)
    manifest = fault_table.write_manifest(tmp_path, [1])
    for place, reason in ((tmp_path / "no" / "run.jsonl", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(LogError, match=f"cannot write the log of the run: {reason}; give a file"):
            RunLog(place)
        done = CliRunner().invoke(app, ["extract", str(manifest), str(tmp_path / "cube.zarr"), "--log", str(place)])
        assert done.exit_code == 2
        assert f"error: {place}: cannot write the log of the run: {reason}" in done.output
    assert not (tmp_path / "cube.zarr").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_log_that_fills_the_disk_does_not_stop_the_run() -> None:
    with RunLog("/dev/full") as log:
        with pytest.warns(UserWarning, match="cannot write the log of the run any more: No space left on device"):
            log(RunStarted(1, 1, 7))
        log(LesionDone())


KILLED = """
import os, sys
from hgpscale.engine.events import LesionSubmitted
from hgpscale.engine.runlog import RunLog
log = RunLog(sys.argv[1])
log(LesionSubmitted("a", "default"))
os._exit(9)
"""


def test_what_was_told_before_a_kill_is_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False, env=dict(os.environ))
    assert killed.returncode == 9
    assert [line["lesion"] for line in lines(path)] == ["a"]


def test_the_documented_fields_are_those_that_are_written(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    summary = Summary("c.zarr", 1, 0, 0, 1, (), (), 1.0, 7, 7)

    def stop() -> None:
        with RunLog(path) as log:
            log(RunStarted(1, 1, 7))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    with RunLog(path) as log:
        for event in (
            ClusterReady("tcp://127.0.0.1:1"), WorkersCounted(1, 1), LesionSubmitted("a", "default"),
            LesionDone(lesion="a", work=WORK), WorkerLost("tcp://127.0.0.1:2", 0.0),
                SchedulerLost("tcp://127.0.0.1:1", "gone", 300), RunFinished(summary),
        ):  # fmt: skip
            log(event)
    written = {line.pop("event"): set(line) - {"time", "run"} for line in lines(path)}
    page = Path(__file__).resolve().parents[2] / "docs" / "running.md"
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| (.+) \|$", page.read_text(), re.M)
    # What stands in brackets is about a field, not one.
    documented = {name: set(re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", fields))) for name, fields in rows}
    assert documented == written


def test_moments_are_utc_to_the_millisecond() -> None:
    assert moment(0.0624) == "1970-01-01T00:00:00.062Z"
