"""The page of a run's log: one HTML file that needs nothing else."""

from __future__ import annotations

from pathlib import Path

from hgpscale.errors import ReportError
from hgpscale.report.rendering import template
from hgpscale.report.run_figures import stage_figure, throughput
from hgpscale.report.run_read import DETAILED, Log, Run, read_log
from hgpscale.report.run_tables import (
    failures_table,
    losses_table,
    runs_table,
    slowest_table,
    stages_table,
    workers_table,
)
from hgpscale.report.run_words import end_words, notes, size_words, summary
from hgpscale.report.tables import count_of

MARK = '<meta name="generator" content="hgpscale run-report">'
"""By which a page of ours is known, which may be written anew."""


def write_run_report(log: str | Path, output: str | Path | None = None) -> Path:
    """Write the page of a run's log.

    Parameters
    ----------
    log
        What ``hgpscale extract --log`` or `hgpscale.engine.runlog.RunLog` wrote; also of a run that goes on.
    output
        File to write; default: the log's name, ending in ``.html``. An older page is replaced, any other file is
        refused.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    LogError
        The log is not there, cannot be read, or holds no run.
    ReportError
        `output` is a folder.
    FileExistsError
        It is something else.
    OSError
        It cannot be written.

    """
    found = read_log(log)
    output = Path(log).with_suffix(".html") if output is None else Path(output)
    if output.is_dir():
        raise ReportError(f"{output}: expected a file to write the page to, found a folder; name a file in it")
    if output.exists() and MARK not in output.read_text("utf-8", errors="replace"):
        raise FileExistsError(f"{output}: is a file of something else; choose another for the page")
    output.write_text(page(found), encoding="utf-8")
    return output


def page(log: Log) -> str:
    """Return the page as HTML; whatever comes from the log is escaped."""
    shown = log.runs[-DETAILED:]
    html: str = template("run.html").render(
        mark=MARK,
        facts=_facts(log),
        title=Path(log.runs[-1].manifest).name or "cohort",
        table=runs_table(log),
        notes=notes(log),
        left_out=len(log.runs) - len(shown),
        began=log.began,
        runs=[_parts(run) for run in reversed(shown)],
    )
    return html


def _facts(log: Log) -> list[tuple[str, str]]:
    last = log.runs[-1]
    return [
        ("Manifest", last.manifest or "not told"),
        ("Cube", last.cube or "not told"),
        ("Runs", str(log.began)),
        ("Last run began", f"{last.started:%Y-%m-%d %H:%M:%S} UTC"),
        ("Its end", end_words(last)),
        ("Workers", _workers(last)),
        ("hgpscale", last.version),
    ]


def _workers(run: Run) -> str:
    if not run.most_workers:
        return "none"
    peak = max((seen.peak for seen in run.workers.values()), default=0)
    memory = f", {size_words(peak)} at most" if peak else ""
    return f"{count_of(run.most_workers, 'worker')}, {count_of(run.most_threads, 'thread')}{memory}"


def _parts(run: Run) -> dict[str, object]:
    """Return what the page shows of one run."""
    return {
        "number": run.number,
        "name": run.name,
        "began": f"{run.started:%Y-%m-%d %H:%M:%S} UTC",
        "summary": summary(run),
        "throughput": throughput(run),
        "stages": stage_figure(run),
        "stages_table": stages_table(run),
        "slowest": slowest_table(run),
        "failures": failures_table(run),
        "workers": workers_table(run),
        "losses": losses_table(run),
    }
