"""What is asked of a batch system about jobs, with a command that stands in for squeue."""

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hgpscale.engine.cluster import jobs
from hgpscale.engine.cluster.file import parse
from hgpscale.errors import EngineError


@pytest.fixture
def squeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return what puts a squeue first on the path that does as a line of shell says."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.setattr(jobs, "_ASK_SECONDS", 0.05)
    (tmp_path / "bin").mkdir()

    def put(line: str) -> None:
        path = tmp_path / "bin" / "squeue"
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(0o755)

    return put


def cluster(*with_worker: str, names: str = "J-1 J-10") -> Any:
    """Return a cluster of jobs whose ids are 1, 10 and so on, some of which have a worker."""
    found = {
        name: SimpleNamespace(job_id=name[2:], job_name="w", log_directory=None, status=None) for name in names.split()
    }
    workers = {f"tcp://{name}": {"name": name} for name in with_worker}

    def sync(call: Callable[..., Any], *arguments: Any) -> None:
        with pytest.raises(StopIteration):
            call(*arguments).send(None)

    return SimpleNamespace(workers=found, scheduler_info={"workers": workers}, sync=sync)


def left(started: Any, names: list[str]) -> bool:
    """Wait a while for just these jobs to be left."""
    ends = time.monotonic() + 5
    while list(started.workers) != names and time.monotonic() < ends:
        time.sleep(0.01)
    return list(started.workers) == names


@pytest.mark.parametrize(
    ("says", "with_worker", "stay"),
    [
        pytest.param("echo 1", (), ["J-1"], id="one is not known any more"),
        pytest.param("echo 1", ("J-10",), ["J-1", "J-10"], id="but has a worker"),
        pytest.param("echo 1", ("J-10-0",), ["J-1", "J-10"], id="or one of its processes has"),
        pytest.param("echo 10", ("J-1-0",), ["J-1", "J-10"], id="names that begin alike"),
        pytest.param("echo Invalid job id specified >&2; exit 1", (), [], id="none is known"),
        pytest.param("echo cannot reach the controller >&2; exit 1", (), ["J-1", "J-10"], id="it cannot tell"),
    ],
)
def test_jobs_that_ended_without_a_worker_are_taken_for_lost(
    squeue: Callable[[str], None], says: str, with_worker: tuple[str, ...], stay: list[str]
) -> None:
    squeue(says)
    started = cluster(*with_worker)
    with jobs.ended_replaced(started, "slurm"):
        time.sleep(0.5 if len(stay) == 2 else 0)
        assert left(started, stay)


def test_the_watch_outlives_what_goes_wrong_in_it(
    squeue: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    squeue("echo 1")
    started = cluster()
    whole, started.scheduler_info = started.scheduler_info, {}
    with caplog.at_level(logging.WARNING), jobs.ended_replaced(started, "slurm"):
        time.sleep(0.3)
        assert "cannot look after the jobs" in caplog.text
        started.scheduler_info = whole
        assert left(started, ["J-1"])


def test_a_squeue_that_does_not_answer_ends_nothing(
    squeue: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "_SLOW_SECONDS", 0.2)
    squeue("exec sleep 30")
    started, began = cluster(), time.monotonic()
    with jobs.ended_replaced(started, "slurm"):
        time.sleep(0.7)
    assert list(started.workers) == ["J-1", "J-10"]
    assert time.monotonic() - began < 5


def test_first_jobs_that_ended_are_told_with_the_log_s_last_line(squeue: Callable[[str], None], tmp_path: Path) -> None:
    squeue("exit 0")
    (tmp_path / "cluster.yaml").write_text("kind: slurm\nworkers: 1\n")
    (tmp_path / "w-1.err").write_text("loading\nno such module\n\n")
    started = cluster(names="J-1")
    started.workers["J-1"].log_directory = str(tmp_path)
    with pytest.raises(EngineError, match=r"job 1 ended before .*w-1\.err ends with: no such module; is Python found"):
        jobs.await_first(started, parse(tmp_path / "cluster.yaml"))
