"""Figures of a run: lesions over time, and what the time went into."""

from __future__ import annotations

from itertools import accumulate, pairwise

from hgpscale.report.run_read import Run
from hgpscale.report.run_words import UNITS, percent, rate_unit, rate_words, seconds_words
from hgpscale.report.study_figures import MISS, MODEL, Figure, legend
from hgpscale.report.svg import INK, Canvas, nice_axis

READ, EXTRACT, IDLE = "#E69F00", MODEL, "#c3cad2"


def throughput(run: Run) -> Figure | None:
    """Draw how many lesions were settled over time, and how many of them failed."""
    if not run.settled:
        return None
    edges, done, failed = _steps(run)
    size, unit = rate_unit(max(done))
    span, sign = next(((size, sign) for size, sign, _ in reversed(UNITS) if run.last >= 2 * size), (1.0, "s"))
    per = "an" if unit == "hour" else "a"
    x = nice_axis([0, edges[-1] / span], f"time since the run began, {sign}")
    y = nice_axis([0, *(size * rate for rate in done)], f"lesions {per} {unit}")
    canvas = Canvas(x, y, 480, 300, left=62)
    times = [edge / span for pair in pairwise(edges) for edge in pair]
    heights = [size * rate for rate in done for _ in range(2)]
    canvas.band(times, [0.0] * len(times), heights, MODEL)
    canvas.line(times, heights, MODEL)
    entries = [legend((MODEL, "line", "settled"))]
    if any(failed):
        canvas.line(times, [size * rate for rate in failed for _ in range(2)], MISS)
        entries.append(legend((MISS, "line", "failed")))
    return Figure(
        f"throughput-{run.number}",
        (canvas.render(f"Lesions settled over time, {rate_words(run)} on average."),),
        f"Lesions settled over time, {rate_words(run)} on average, in steps of {seconds_words(run.bins.width)}. "
        "Before the first of them, workers start and read.",
        tuple(entry for some in entries for entry in some),
    )


def _steps(run: Run) -> tuple[list[float], list[float], list[float]]:
    """Return edges of the bins and, for each, lesions a second in all and failed; the last ends with the run."""
    width = run.bins.width
    counts = [list(some) for some in run.bins.pair]
    edges = [width * number for number in range(len(counts[0]) + 1)]
    end = max(run.last, edges[-2] + width / 4)
    if end < edges[-1]:
        edges[-1] = end
    elif end > edges[-1]:  # nothing was settled any more
        edges.append(end)
        for some in counts:
            some.append(0)
    spans = [high - low for low, high in pairwise(edges)]
    done, failed = ([number / span for number, span in zip(some, spans, strict=True)] for some in counts)
    return edges, [a + b for a, b in zip(done, failed, strict=True)], failed


def stages(run: Run) -> list[tuple[str, str, float]]:
    """Return what the workers' time went into: name, colour and seconds."""
    found = [("reading scans", READ, run.read), ("extracting", EXTRACT, run.extract)]
    if run.capacity:
        found.append(("idle and other", IDLE, max(0.0, run.capacity - run.read - run.extract)))
    return found


def stage_figure(run: Run) -> Figure | None:
    """Draw what the workers' time went into as one bar."""
    found = stages(run)
    whole = sum(seconds for *_, seconds in found)
    if not whole:
        return None
    axis = nice_axis([0, 100], "share of the workers' time, %")
    canvas = Canvas(axis, None, 480, 100, left=14, right=20, top=6)
    ends = [0.0, *accumulate(100 * seconds / whole for *_, seconds in found)]
    for (_, colour, seconds), low, high in zip(found, ends[:-1], ends[1:], strict=True):
        canvas.box(low, 8, high, 46, colour)
        if high - low > 9:  # else it stands in the table alone
            dark = colour == EXTRACT
            canvas.text((low + high) / 2, 31, percent(seconds, whole), anchor="middle", colour="#fff" if dark else INK)
    told = "; ".join(f"{name} {percent(seconds, whole)}" for name, _, seconds in found)
    return Figure(
        f"stages-{run.number}",
        (canvas.render(f"The workers' time: {told}."),),
        "What the workers' time went into, all their threads together.",
        legend(*((colour, "square", name) for name, colour, _ in found)),
    )
