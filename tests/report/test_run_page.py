"""The page of a run's log: logs written here line by line, whose sums are known, and the page in a browser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hgpscale.cli import app
from hgpscale.errors import LogError, ReportError
from hgpscale.report.run_figures import stages, throughput
from hgpscale.report.run_page import MARK, write_run_report
from hgpscale.report.run_read import BINS, DETAILED, Bins, Run, kind_of, read_log
from hgpscale.report.run_tables import failures_table, losses_table, runs_table, slowest_table, workers_table
from hgpscale.report.run_words import rate_words, seconds_words, size_words, summary
from hgpscale.report.study_tables import Table

EVIL = "<script>alert(1)</script>"
START = datetime(2026, 11, 1, 9, tzinfo=UTC)


class Story:
    """A log that is written line by line; times are seconds after its start."""

    def __init__(self, path: Path, name: str = "r1", after: float = 0.0) -> None:
        self.path, self.name, self.start = path, name, START + timedelta(seconds=after)

    def moment(self, seconds: float) -> str:
        return (self.start + timedelta(seconds=seconds)).isoformat()

    def tell(self, lines: Iterable[tuple[float, str, dict[str, Any]]]) -> None:
        with self.path.open("a") as file:
            for time, event, fields in lines:
                file.write(json.dumps({"event": event, "time": self.moment(time), "run": self.name, **fields}) + "\n")

    def begin(self, rows: int, **changes: Any) -> None:
        fields = {"format": 1, "version": "0.1.0", "manifest": "cohort.csv", "cube": "c.zarr", "notes": []}
        self.tell([(0, "run_started", {**fields, "total": rows, "pending": rows, "missing": 7 * rows, **changes})])

    def workers(self, time: float, workers: int, threads: int) -> None:
        self.tell([(time, "workers_counted", {"workers": workers, "threads": threads})])

    def done(
        self, time: float, lesion: str, read: float, extract: float, worker: str = "w0", reader: str = "",
        failures: tuple[tuple[str, str], ...] = (), state: str = "", peak: int = 2**30,
    ) -> tuple[float, str, dict[str, Any]]:  # fmt: skip
        work = {
            "worker": worker, "address": f"tcp://{worker}", "reader": reader or worker, "read_seconds": read,
            "extract_seconds": extract, "start": self.moment(time - extract), "end": self.moment(time),
            "memory": peak // 2, "peak": peak,
        }  # fmt: skip
        told = [{"stage": stage, "reason": reason} for stage, reason in failures]
        state = state or ("failed" if failures else "done")
        row = {"lesion": lesion, "segmentation": "default", "state": state, "failures": told}
        return time, "lesion_done", {**row, "vectors": 0 if failures else 7, "write_seconds": 0.25, **work}

    def end(self, time: float, **fields: Any) -> None:
        known = {"done": 0, "failed": 0, "partial": 0, "seconds": time, "write_seconds": 1.5}
        self.tell([(time, "run_finished", {**known, **fields})])


def the_run(path: Path) -> Run:
    (run,) = read_log(path).runs
    return run


def texts(table: Table | None) -> list[list[str]]:
    assert table is not None
    return [[cell.text for cell in row] for row in table.rows]


@pytest.fixture
def story(tmp_path: Path) -> Story:
    """Four lesions on two workers, one of which is lost on the way."""
    story = Story(tmp_path / "run.jsonl")
    story.begin(4)
    story.workers(2, 2, 2)
    story.tell(
        [
            *((3, "lesion_submitted", {"lesion": name, "segmentation": "default", "alone": False}) for name in "abcd"),
            story.done(4, "a", 0.5, 1.0, "w0"),
            story.done(5, "b", 0.5, 2.5, "w1", reader="w0", peak=3 * 2**30),
            (6, "worker_lost", {"address": "tcp://w1", "when": story.moment(5.75), "lesions": [["c", "default"]]}),
        ]
    )
    story.workers(6, 1, 1)
    story.tell(
        [
            (6.5, "lesion_submitted", {"lesion": "c", "segmentation": "default", "alone": True}),
            story.done(8, "c", 0.5, 1.0, failures=(("mask", "m/c.nii: 3 voxels"),)),
            story.done(9, "d", 0.5, 0.5, failures=(("features", "lesion/original/glcm: flat"),), state="partial"),
        ]
    )
    story.end(10)
    return story


def test_times_add_up(story: Story) -> None:
    run = the_run(story.path)
    # Two threads from 2 s to 6 s and one from 6 s to 10 s are 12 thread-seconds; 4 x 0.5 go into reading and
    # 1 + 2.5 + 1 + 0.5 into extracting.
    assert run.capacity == pytest.approx(12)
    assert {name: seconds for name, _, seconds in stages(run)} == pytest.approx(
        {"reading scans": 2.0, "extracting": 5.0, "idle and other": 5.0}
    )
    assert (run.settled, run.submitted, run.again, run.lost, run.write) == (4, 5, 1, 1, 1.5)
    assert rate_words(run) == "24 a minute"  # 4 in 10 s
    assert summary(run) == [
        "4 rows had something to be done. 4 were settled in 10.0 s, 24 a minute: 2 done, 1 done in part, 1 failed.",
        "1 worker was lost; 1 lesion that they had been given was tried again, alone.",
    ]


def test_a_lost_scheduler_is_told(story: Story) -> None:
    assert not any("scheduler" in line for line in summary(the_run(story.path)))
    story.tell([(3, "scheduler_lost", {"scheduler": "tcp://s", "reason": "gone", "seconds": 300})])
    assert "The scheduler was lost 1 time and waited for." in summary(the_run(story.path))


def test_workers_have_what_was_done_on_them(story: Story) -> None:
    run = the_run(story.path)
    # Of the 8 s since workers were counted: w0 read all of 2 s and extracted 1 + 1 + 0.5 s, w1 extracted 2.5 s.
    assert texts(workers_table(run)) == [
        ["w1", "1", "31 %", "3.0 GiB", "1"],
        ["w0", "3", "56 %", "1.0 GiB", "0"],
    ]
    assert texts(losses_table(run)) == [["5.8 s", "w1", "1", "c"]]
    assert [row[0] for row in texts(slowest_table(run))] == ["b", "a", "c", "d"]


def test_failures_of_a_kind_are_one(tmp_path: Path) -> None:
    story = Story(tmp_path / "run.jsonl")
    story.begin(7)
    reasons = [("read", f"data/p{n}.nii.gz: holds {n}00 bytes, {2 * n}.5 expected") for n in range(1, 6)]
    story.tell(story.done(n, f"l{n}", 0, 1, failures=(reason,)) for n, reason in enumerate(reasons))
    partial = (("features", "lesion/original/glcm: flat"), ("features", "lesion/original/ngtdm: flat"))
    story.tell([story.done(9, "p", 0, 1, failures=partial, state="partial")])
    assert texts(failures_table(the_run(story.path))) == [
        ["failed", "read", "data/p1.nii.gz: holds 100 bytes, 2.5 expected", "5", "l0, l1, l2, …"],
        ["done in part", "features", "lesion/original/glcm: flat", "1", "p"],
        ["done in part", "features", "lesion/original/ngtdm: flat", "1", "p"],
    ]
    assert kind_of("a/b c/d: 1 of 2e5") == kind_of("/e c/f: -7 of 3")
    assert kind_of("a: no voxels") != kind_of("a: no mask")


def test_bins_keep_their_counts_when_they_merge() -> None:
    bins = Bins()
    for second in (0.2, 1.7, BINS - 0.5):
        bins.add(second, failed=second < 1)
    assert (bins.width, len(bins.done)) == (1, BINS)
    bins.add(5 * BINS, failed=False)
    # Twice as wide three times: what was in the seconds 0 to 7 is one bin, second 600 is in the 75th after it.
    assert (bins.width, bins.done[0], bins.failed[0], bins.done[(BINS - 1) // 8], bins.done[75]) == (8, 1, 1, 1, 1)
    assert (sum(bins.done), sum(bins.failed)) == (3, 1)


def test_a_run_that_stands_still_ends_with_nothing(tmp_path: Path) -> None:
    story = Story(tmp_path / "run.jsonl")
    story.begin(2)
    story.tell([story.done(1, "a", 0, 1), (50, "lesion_submitted", {"lesion": "b", "segmentation": "", "alone": True})])
    run = the_run(story.path)
    assert run.last == 50
    assert throughput(run) is not None
    assert "The log has no word of its end: it goes on, or was killed. 1 was left" in " ".join(summary(run))


def test_lines_that_are_not_ours_are_passed_over(story: Story) -> None:
    whole = read_log(story.path)
    good = story.path.read_bytes()
    bad = [
        b"", b"[]", b"\xff", b'{"event":"lesion_done"}', b"[" * 100_000, b'{"event":1,"time":2,"run":3}',
        json.dumps({"event": "lesion_done", "time": story.moment(4), "run": "nobody"}).encode(),
        good.splitlines()[-2].replace(b'"extract_seconds": 0.5', b'"extract_seconds": NaN'),
        good.splitlines()[-2].replace(b'"state": "partial"', b'"state": "eaten"'),
        good.splitlines()[-2].replace(b"glcm: flat\"", b'glcm: flat", "stage": 7').replace(b'"features"', b"1", 1),
    ]  # fmt: skip
    story.path.write_bytes(good + b"\n".join(bad) + b'\n{"event":"run_st')
    found = read_log(story.path)
    assert found.unread == len(bad) + 1
    assert found.runs == whole.runs
    page = write_run_report(story.path).read_text("utf-8")
    assert f"{len(bad) + 1} lines could not be read" in page
    # A newer version may tell more than this one knows.
    story.path.write_bytes(good)
    story.tell([(11, "sunrise", {"colour": "red"})])
    assert (read_log(story.path).unread, read_log(story.path).runs[0].last) == (0, 11)


def test_runs_of_one_log_are_told_apart(story: Story) -> None:
    second = Story(story.path, "r2", 100)
    second.begin(1, total=4)
    second.workers(1, 3, 6)
    second.tell([second.done(2, "z", 0, 1), (3, "run_stopped", {"error": "EngineError", "reason": EVIL})])
    story.tell([story.done(9.5, "late", 0, 1)])  # of the first, though the second has begun
    log = read_log(story.path)
    assert [run.settled for run in log.runs] == [5, 1]
    columns = ("run", "took", "end", "to do", "done", "failed", "workers", "lost")
    table = runs_table(log)
    assert table is not None
    at = [[title for title, _ in table.heads].index(name) for name in columns]
    assert [[row[i] for i in at] for row in texts(table)] == [
        ["1", "10.0 s", "finished", "4", "3", "1", "2", "1"],
        ["2", "3.0 s", f"stopped by EngineError: {EVIL}", "1", "1", "0", "3", "0"],
    ]
    page = write_run_report(story.path).read_text("utf-8")
    assert page.index("Run 2 of 2") < page.index("Run 1 of 2")
    in_order(page)


def test_many_runs_keep_the_details_of_the_last(tmp_path: Path) -> None:
    for number in range(300):
        story = Story(tmp_path / "run.jsonl", f"r{number}", 60 * number)
        story.begin(1)
        story.tell([story.done(1, f"lesion{number}", 0, 1)])
        story.end(2)
    page = write_run_report(tmp_path / "run.jsonl").read_text("utf-8")
    assert page.count("Run 300 of 300") == 1
    assert page.count('<section id="run-') == DETAILED
    assert "The first 100 of 300 runs are left out." in page
    assert "50 of 300 runs shown." in page
    assert "lesion299" in page
    assert "lesion200" not in page


def in_order(page: str) -> None:
    levels = [int(level) for level in re.findall(r"<h(\d)", page)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'aria-labelledby="([^"]+)"', page)) <= set(ids)
    assert page.count("<svg viewBox") == page.count('role="img" aria-label="')
    assert page.count("<figure") == page.count("<figcaption>")
    assert not re.search(r"\b(nan|None|Undefined)\b", re.sub(r"<style>.*?</style>", "", page, flags=re.S))
    assert not re.findall(r'(?:src|href)="(?!#|data:)[^"]*"|url\(|@import', page)


def test_a_run_without_lesions_and_one_of_failures_have_pages(tmp_path: Path) -> None:
    empty = Story(tmp_path / "empty.jsonl")
    empty.begin(0, total=3)
    empty.end(1)
    page = write_run_report(empty.path).read_text("utf-8")
    in_order(page)
    assert "Nothing was to be done: no worker was started." in page
    started = Story(tmp_path / "started.jsonl")
    started.begin(3)
    page = write_run_report(started.path).read_text("utf-8")
    in_order(page)
    assert "No lesion was settled" in page
    failed = Story(tmp_path / "failed.jsonl")
    failed.begin(3)
    none = {"lesion": "x", "segmentation": "d", "state": "failed", "vectors": 0, "write_seconds": 0}
    died = {**none, "failures": [{"stage": "worker", "reason": "the worker process died"}]}  # no task came to its end
    failed.tell([(n, "lesion_done", died) for n in range(3)])
    failed.end(3)
    page = write_run_report(failed.path).read_text("utf-8")
    in_order(page)
    assert "0 done, 3 failed" in page
    assert "the worker process died" in page


def damaged(number: int) -> tuple[tuple[str, str], ...]:
    """Return a failure for every tenth lesion, of one of many kinds."""
    words = chr(97 + number % 26) + chr(97 + number // 26 % 26)
    return (("read", f"scans/{number}.nii: {words} is damaged"),) if number % 10 == 0 else ()


def big(path: Path, lesions: int) -> Path:
    story = Story(path)
    story.begin(lesions)
    story.workers(1, 4, 4)
    story.tell(
        story.done(
            2 + n / 50, f"l{n}", 0.01, 0.07 + (n * 7919 % lesions) / lesions, f"w{n % 1000}",
            failures=damaged(n),
        )
        for n in range(lesions)
    )  # fmt: skip
    story.end(3 + lesions / 50)
    return path


def test_the_page_of_100_000_lesions_is_no_larger_than_it_must(tmp_path: Path) -> None:
    lesions = 100_000
    page = write_run_report(big(tmp_path / "run.jsonl", lesions)).read_text("utf-8")
    in_order(page)
    assert len(page.encode()) < 150_000
    for cut in ("20 of 100000 lesions shown.", "50 of 1000 workers shown."):
        assert cut in page
    assert re.search(r"50 of \d+ reasons shown\.", page)
    run = the_run(tmp_path / "run.jsonl")
    assert sum(map(sum, run.bins.pair)) == lesions
    assert len(run.bins.done) <= BINS
    assert sum(reason.rows for reason in run.reasons.values()) + run.other_reasons == lesions // 10
    # 7919 and 100 000 have no common factor: each share of a second comes once, so the slowest are known.
    assert [slow.extract for slow in sorted(run.slowest, reverse=True)][:2] == pytest.approx([1.06999, 1.06998])


def evil(path: Path) -> Path:
    story = Story(path, EVIL)
    story.begin(2, manifest=f"data/{EVIL}", cube=EVIL, version=EVIL)
    story.workers(1, 1, 1)
    story.tell(
        [
            story.done(2, EVIL, 0.1, 0.2, EVIL, EVIL),
            story.done(3, "\x07" + EVIL, 0.1, 0.2, EVIL, EVIL, failures=((EVIL, EVIL),)),
            (4, "worker_lost", {"address": EVIL, "when": story.moment(4), "lesions": [[EVIL, EVIL]]}),
            (5, "run_stopped", {"error": EVIL, "reason": EVIL}),
        ]
    )
    Story(path, "r2", 60).begin(1, manifest=f"data/{EVIL}", cube=EVIL)
    return write_run_report(path)


def test_names_are_text_and_nothing_else(tmp_path: Path) -> None:
    page = evil(tmp_path / "run.jsonl").read_text("utf-8")
    assert EVIL not in page
    assert page.count("<script>") == page.count("</script>") == 1
    assert page.count("&lt;script&gt;") > 10
    assert r"\x07" in page
    in_order(page)


def test_wrong_inputs_are_told_in_one_line(story: Story, tmp_path: Path) -> None:
    with pytest.raises(LogError, match=r"nowhere\.jsonl: cannot be read: No such file or directory"):
        write_run_report(tmp_path / "nowhere.jsonl")
    other = tmp_path / "other.jsonl"
    other.write_text("hello\n")
    with pytest.raises(LogError, match="expected the log that hgpscale extract --log writes, found no run in it"):
        write_run_report(other)
    with pytest.raises(ReportError, match="found a folder"):
        write_run_report(story.path, tmp_path)
    page = tmp_path / "mine.html"
    page.write_text("mine")
    with pytest.raises(FileExistsError, match="something else"):
        write_run_report(story.path, page)
    page.write_text(MARK)
    assert write_run_report(story.path, page) == page
    with pytest.raises(FileExistsError, match="something else"):
        write_run_report(story.path, story.path)  # never the log itself


def test_the_command_writes_the_page_beside_the_log(story: Story) -> None:
    done = CliRunner().invoke(app, ["run-report", str(story.path)])
    assert (done.exit_code, done.output) == (0, f"{story.path.with_suffix('.html')}\n")
    assert MARK in story.path.with_suffix(".html").read_text("utf-8")


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 ms"), (0.0004, "0.4 ms"), (0.04, "40 ms"), (2.5, "2.5 s"), (180, "3 min")]
)
def test_times_are_for_people(seconds: float, words: str) -> None:
    assert seconds_words(seconds) == words


def test_sizes_are_for_people() -> None:
    assert [size_words(size) for size in (0, 5 << 20, 3 << 29)] == ["", "5 MiB", "1.5 GiB"]


def test_the_page_in_a_browser(browser: Any, story: Story, tmp_path: Path) -> None:
    pages = [evil(tmp_path / "evil.jsonl"), write_run_report(big(tmp_path / "big.jsonl", 2000))]
    pages.append(write_run_report(story.path))
    for page in pages:
        browser.get(page.as_uri())
        for width in (1280, 390):
            screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
            assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        fetched = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
        assert [name for name in fetched if not name.startswith("data:")] == []
        assert len(browser.find_elements("tag name", "script")) == 1
    head = browser.find_elements("css selector", "#table-slowest-1 thead th")[2]
    head.find_element("css selector", "button").click()
    shown = browser.execute_script(
        "return [...document.querySelectorAll('#table-slowest-1 tbody tr')].map(row => row.cells[0].textContent.trim())"
    )
    assert shown == ["d", "c", "a", "b"] or shown == ["d", "a", "c", "b"]  # two took as long
    assert [entry["message"] for entry in browser.get_log("browser")] == []
