"""Tables of a run: stages, slowest lesions, failures by reason, workers and those that were lost, and all runs."""

from __future__ import annotations

from collections.abc import Sequence

from hgpscale.report.run_figures import stages
from hgpscale.report.run_read import Log, Run
from hgpscale.report.run_words import end_words, percent, rate_words, seconds_words, size_words
from hgpscale.report.study_tables import Cell, Head, Table
from hgpscale.report.tables import count_of

_SHOWN = 50  # rows of a table, at most


def _text(value: str, *notes: str) -> Cell:
    return Cell(value, value, notes)


def _count(value: int) -> Cell:
    return Cell(str(value), value)


def _time(seconds: float) -> Cell:
    return Cell(seconds_words(seconds), seconds)


def _size(size: int) -> Cell:
    return Cell(size_words(size), size or None)


def _cut(shown: int, number: int, what: str) -> str:
    return f" {shown} of {count_of(number, what)} shown." if shown < number else ""


def _listed(lesions: Sequence[str], number: int) -> str:
    """Return the first lesions of a number of them."""
    return ", ".join(lesions) + (", …" if number > len(lesions) else "")


def runs_table(log: Log) -> Table | None:
    """Return the runs of a log, the last one last; None where there is one alone."""
    if log.began < 2:
        return None
    heads: list[Head] = [
        ("run", "number"), ("began", "text"), ("took", "number"), ("end", "text"), ("to do", "number"),
        ("done", "number"), ("in part", "number"), ("failed", "number"), ("workers", "number"), ("lost", "number"),
        ("lesions", "number"),
    ]  # fmt: skip
    rows = [
        (
            _count(run.number), Cell(f"{run.started:%Y-%m-%d %H:%M:%S}", run.started.isoformat(), (run.name,)),
            _time(run.last), _text(end_words(run)), _count(run.pending), _count(run.counts["done"]),
            _count(run.counts["partial"]), _count(run.counts["failed"]), _count(run.most_workers), _count(run.lost),
            Cell(rate_words(run), run.settled / run.last if run.last else None),
        )
        for run in log.runs
    ]  # fmt: skip
    shown = rows[-_SHOWN:]
    caption = "Runs that wrote to this log, times in UTC." + _cut(len(shown), log.began, "run")
    return Table("runs", caption, tuple(heads), tuple(shown))


def stages_table(run: Run) -> Table | None:
    """Return the time of each stage."""
    found = stages(run)
    whole = sum(seconds for *_, seconds in found)
    if not whole:
        return None
    rows = [(name, "workers", seconds, whole) for name, _, seconds in found]
    rows.append(("writing the cube", "this process", run.write, run.last))
    return Table(
        f"stages-{run.number}",
        "Times of all threads together. Idle and other: waiting for work, moving it, work that was lost; only known of "
        "workers that were counted. Writing goes on beside, where the run was started.",
        (("stage", "text"), ("where", "text"), ("time", "number"), ("share", "number"), ("a lesion", "number")),
        tuple(
            (
                _text(name), _text(where), _time(seconds), Cell(percent(seconds, of), seconds / of if of else None),
                _time(seconds / run.measured) if run.measured else Cell(""),
            )
            for name, where, seconds, of in rows
        ),
    )  # fmt: skip


def slowest_table(run: Run) -> Table | None:
    """Return the lesions that took longest."""
    if not run.slowest:
        return None
    found = sorted(run.slowest, reverse=True)
    return Table(
        f"slowest-{run.number}",
        "Lesions that took longest, the share of reading their scan included."
        + _cut(len(found), run.measured, "lesion"),
        (
            ("lesion", "text"), ("segmentation", "text"), ("time", "number"), ("reading", "number"),
            ("extracting", "number"), ("worker", "text"), ("worker's peak memory", "number"),
        ),
        tuple(
            (
                _text(slow.row[0]), _text(slow.row[1]), _time(slow.seconds), _time(slow.read), _time(slow.extract),
                _text(slow.worker), _size(slow.peak),
            )
            for slow in found
        ),
    )  # fmt: skip


def failures_table(run: Run) -> Table | None:
    """Return why rows failed, wholly or in part, those of a kind together."""
    if not run.reasons:
        return None
    found = sorted(run.reasons.items(), key=lambda item: -item[1].rows)
    rows = [
        (
            _text("failed" if state == "failed" else "done in part"), _text(stage), _text(reason.example),
            _count(reason.rows), _text(_listed(reason.lesions, reason.rows)),
        )
        for (state, stage, _), reason in found[:_SHOWN]
    ]  # fmt: skip
    more = f" {run.other_reasons} rows of further reasons are not counted." if run.other_reasons else ""
    return Table(
        f"failures-{run.number}",
        "Failures by reason; those that differ in paths and numbers alone are one, told by the first of them. A row "
        "that is done in part may have several." + _cut(len(rows), len(found), "reason") + more,
        (("state", "text"), ("stage", "text"), ("reason", "text"), ("rows", "number"), ("lesions", "text")),
        tuple(rows),
    )


def workers_table(run: Run) -> Table | None:
    """Return what each worker did."""
    if not run.workers:
        return None
    span = max(0.0, run.last - (run.first_count or 0.0))
    threads = run.most_threads / run.most_workers if run.most_workers else 1.0
    found = sorted(run.workers.items(), key=lambda item: (-item[1].lost, -item[1].lesions, item[0]))
    rows = []
    for name, seen in found[:_SHOWN]:
        share = min(1.0, (seen.read + seen.extract) / (span * threads)) if span else None
        busy = Cell("") if share is None else Cell(f"{100 * share:.0f} %", share, bar=share)
        rows.append((_text(name), _count(seen.lesions), busy, _size(seen.peak), _count(seen.lost)))
    return Table(
        f"workers-{run.number}",
        "Workers: busy is the share of the run's time, from the first count of workers, that was spent on reading and "
        "extracting; memory as of the end of its lesions." + _cut(len(rows), len(found) + run.other_workers, "worker"),
        (("worker", "text"), ("lesions", "number"), ("busy", "number"), ("peak memory", "number"), ("lost", "number")),
        tuple(rows),
    )


def losses_table(run: Run) -> Table | None:
    """Return when workers were lost, and what they had been given."""
    if not run.losses:
        return None
    rows = [
        (
            _time(loss.seconds), _text(loss.worker), _count(loss.number),
            _text(_listed(loss.lesions, loss.number)),
        )
        for loss in run.losses
    ]  # fmt: skip
    return Table(
        f"losses-{run.number}",
        "Workers that were lost, and the lesions that they had been given: any of them may be the cause."
        + _cut(len(rows), run.lost, "loss"),
        (("after", "number"), ("worker", "text"), ("lesions", "number"), ("which", "text")),
        tuple(rows),
    )
