"""Times, sizes and rates of a run for people, and what a run comes to in sentences."""

from __future__ import annotations

from hgpscale.engine.progress import duration
from hgpscale.report.run_read import Log, Run
from hgpscale.report.tables import count_of

UNITS = ((1.0, "s", "second"), (60.0, "min", "minute"), (3600.0, "h", "hour"))
"""Seconds of a unit of time, its sign and its name."""


def seconds_words(seconds: float) -> str:
    """Return a time: ``0.4 ms``, ``40 ms``, ``2.5 s``, ``3 min``, ``2 h 5 min``."""
    if seconds < 0.9995:
        return f"{1000 * seconds:.{0 if seconds >= 0.00995 or not seconds else 1}f} ms"
    return f"{seconds:.1f} s" if seconds < 59.95 else duration(seconds)


def size_words(size: int) -> str:
    """Return a size of memory; empty where it is not known."""
    if not size:
        return ""
    return f"{size / 2**20:.0f} MiB" if size < 2**30 else f"{size / 2**30:.1f} GiB"


def percent(part: float, whole: float) -> str:
    """Return a share; empty where the whole is nothing."""
    return f"{100 * part / whole:.0f} %" if whole > 0 else ""


def rate_unit(rate: float) -> tuple[float, str]:
    """Return seconds and name of the unit in which a rate, told by the second, is neither tiny nor long."""
    size, _, name = next((unit for unit in UNITS if rate * unit[0] >= 1), UNITS[-1])
    return size, name


def rate_words(run: Run) -> str:
    """Return lesions by time, from the first word of the run to the last."""
    if not run.settled or run.last <= 0:
        return ""
    rate = run.settled / run.last
    size, name = rate_unit(rate)
    return f"{rate * size:.3g} a {name}" if name != "hour" else f"{rate * size:.3g} an hour"


def end_words(run: Run) -> str:
    """Return how a run ended, as far as the log says."""
    if run.finished:
        return "finished"
    return f"stopped by {run.stopped}" if run.stopped else "no word of its end"


def summary(run: Run) -> list[str]:
    """Return what a run comes to."""
    if not run.pending:
        return ["Nothing was to be done: no worker was started."]
    before = f" of {count_of(run.total, 'row')}" if run.total != run.pending else ""
    told = [f"{count_of(run.pending, 'row')}{before} had something to be done. "]
    if run.settled:
        done, partial, failed = run.counts["done"], run.counts["partial"], run.counts["failed"]
        parts = [f"{done} done", *([f"{partial} done in part"] if partial else []), f"{failed} failed"]
        told[0] += f"{run.settled} were settled in {seconds_words(run.last)}, {rate_words(run)}: {', '.join(parts)}."
    else:
        told[0] += f"No lesion was settled in {seconds_words(run.last)}."
    if not run.finished:
        why = f"It was {end_words(run)}" if run.stopped else "The log has no word of its end: it goes on, or was killed"
        left = run.pending - run.settled
        told.append(f"{why}. {left} {_were(left)} left; the same command again does the rest." if left else f"{why}.")
    if run.lost:
        again = f"; {count_of(run.again, 'lesion')} that they had been given {_were(run.again)} tried again, alone"
        told.append(f"{count_of(run.lost, 'worker')} {_were(run.lost)} lost{again if run.again else ''}.")
    if run.schedulers_lost:
        told.append(f"The scheduler was lost {count_of(run.schedulers_lost, 'time')} and waited for.")
    return told


def _were(number: int) -> str:
    return "was" if number == 1 else "were"


def notes(log: Log) -> list[str]:
    """Return what the page leaves out, or could not read."""
    told = []
    if log.began > len(log.runs):
        told.append(f"The first {log.began - len(log.runs)} of {log.began} runs are left out.")
    if log.unread:
        told.append(
            f"{count_of(log.unread, 'line')} could not be read and {_were(log.unread)} passed over: the last line of a "
            "run that was killed may be cut off."
        )
    return told
