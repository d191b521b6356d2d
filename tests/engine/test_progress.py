import io
from pathlib import Path

import pytest
from rich.console import Console

from hgpscale.engine.events import ClusterReady, LesionDone, RowFailure, RunFinished, RunStarted, SchedulerLost, Summary
from hgpscale.engine.progress import PlainLines, ProgressBar, duration, observer
from hgpscale.errors import Failure

SUMMARY = Summary(Path("c.zarr"), 600, 100, 0, 500, (), (), 1.0, 3500, 3500)
BAD = RowFailure("p7", "default", Failure("mask", "[bold] empty"))


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_plain_lines_give_count_failures_rate_and_time_left(clock: Clock) -> None:
    stream = io.StringIO()
    with PlainLines(stream, clock) as show:
        show(RunStarted(600, 500, 3500))
        for _ in range(49):
            show(LesionDone())
        clock.now += 25
        show(LesionDone(failed=BAD))
    # 50 of 500 in 25 s: 2 a second, so the other 450 take 225 s.
    assert stream.getvalue() == "p7: mask: [bold] empty\n150/600 lesions, 1 failed, 2/s, 4 min left\n"


def test_plain_lines_come_every_few_seconds_only(clock: Clock) -> None:
    stream = io.StringIO()
    show = PlainLines(stream, clock)
    show(RunStarted(100, 100, 700))
    for _ in range(100):
        clock.now += 0.2
        show(LesionDone())
    show(RunFinished(SUMMARY))
    lines = stream.getvalue().splitlines()
    assert len(lines) == 20 // 5 + 1
    assert lines[-1] == "100/100 lesions, 0 failed, 5/s"


def test_plain_lines_for_a_run_with_nothing_to_do(clock: Clock) -> None:
    stream = io.StringIO()
    show = PlainLines(stream, clock)
    show(RunStarted(3, 0, 0))
    show(RunFinished(SUMMARY))
    assert stream.getvalue() == "3/3 lesions, 0 failed\n"


def test_families_without_values_are_named_but_do_not_count_as_failed(clock: Clock) -> None:
    stream = io.StringIO()
    show = PlainLines(stream, clock)
    show(RunStarted(1, 1, 7))
    clock.now += 1
    show(LesionDone(partial=(RowFailure("p1", "RAD", Failure("features", "no edge")),)))
    show(RunFinished(SUMMARY))
    assert stream.getvalue() == "p1 (RAD): features: no edge\n1/1 lesions, 0 failed, 1/s\n"


def test_bar_shows_counts_and_failures_literally() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=100)
    with ProgressBar(console) as show:
        show(RunStarted(3, 2, 14))
        show(LesionDone())
        show(LesionDone(failed=BAD))
        show(RunFinished(SUMMARY))
    shown = stream.getvalue()
    assert "p7: mask: [bold] empty" in shown
    assert "3/3" in shown
    assert "1 failed" in shown


@pytest.mark.parametrize(("terminal", "kind"), [(True, ProgressBar), (False, PlainLines)])
def test_observer_suits_the_stream(terminal: bool, kind: type[object]) -> None:
    assert type(observer(Console(file=io.StringIO(), force_terminal=terminal))) is kind


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59, "59 s"), (60, "1 min"), (3599, "1 h 0 min"), (12_000, "3 h 20 min")]
)
def test_durations_are_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_scheduler_that_is_waited_for_is_told(clock: Clock) -> None:
    plain, drawn = io.StringIO(), io.StringIO()
    with ProgressBar(Console(file=drawn, force_terminal=True, width=100)) as bar:
        for show in (PlainLines(plain, clock), bar):
            show(SchedulerLost("tcp://10.0.0.1:8786", "gone", 300.0))
    for stream in (plain, drawn):
        assert "lost the Dask scheduler at tcp://10.0.0.1:8786: waiting up to 5 min for it" in stream.getvalue()


@pytest.mark.parametrize(("link", "shown"), [("http://127.0.0.1:8787/status", 1), ("", 0)])
def test_a_dashboard_is_linked_where_there_is_one(clock: Clock, link: str, shown: int) -> None:
    plain, drawn = io.StringIO(), io.StringIO()
    with ProgressBar(Console(file=drawn, force_terminal=True, width=100)) as bar:
        for show in (PlainLines(plain, clock), bar):
            show(RunStarted(3, 2, 14))
            show(ClusterReady("tcp://127.0.0.1:8786", link))
            show(LesionDone())
    for stream in (plain, drawn):
        assert stream.getvalue().count("dashboard: http://127.0.0.1:8787/status") == shown
        assert stream.getvalue().count("dashboard") == shown
