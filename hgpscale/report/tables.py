"""What commands print: tables on a terminal, plain lines that scripts can read elsewhere.

Names come from files and may hold anything: they are never read as markup, and control characters are shown as
escapes. On a terminal long cells are folded, never cut.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hgpscale.catalog import DEEP

if TYPE_CHECKING:
    from pathlib import Path

    from hgpscale.cohort import Cohort, Problem
    from hgpscale.cube import CubeStatus
    from hgpscale.engine import Summary
    from hgpscale.report.looking import LesionLook


_MANY = 8
"""Names that a cell lists before it says how many more there are."""


def one_line(text: object) -> str:
    """Return `text` on one line, its control characters as escapes."""
    words = " ".join(str(text).split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in words)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> None:
    """Print a table; where stdout is no terminal: the title, a header and tab-separated lines.

    Without `columns` there is no header.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cells = [[one_line(value) for value in row] for row in rows]
    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        head = [title] if title else []
        head += ["\t".join(columns)] if columns else []
        # Not by the console, which would wrap the lines.
        print("\n".join([*head, *("\t".join(row) for row in cells)]))  # noqa: T201
        return
    table = Table(title=Text(title) if title else None, title_justify="left", show_header=bool(columns))
    for column in columns or ("",) * len(cells[0]):
        table.add_column(column, overflow="fold")
    for row in cells:
        table.add_row(*map(Text, row))
    console.print(table)


@contextmanager
def counter(what: str, *, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Show a bar while `what` is counted, if stderr is a terminal; yields what is called with done and total."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn(what))
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as progress:
        task = progress.add_task("")
        yield lambda done, total: progress.update(task, completed=done, total=total)


def print_problems(problems: Sequence[Problem], cohort: Cohort) -> None:
    """Print what `check_cohort` found, one row a problem; one line where all is well."""
    checked = f"{cohort.source}: {count_of(len(cohort.rows), 'row')} checked"
    if not problems:
        print_line(f"{checked}, no problem")
        return
    several = len(cohort.segmentations) > 1
    columns = ("line", "lesion", *(["segmentation"] if several else []), "file", "problem")
    print_table(
        columns,
        [(p.line, p.lesion, *([p.segmentation] if several else []), p.file, p.problem) for p in problems],
    )
    print_line(f"{checked}, {count_of(len(problems), 'problem')}", to_stderr=True)


def print_looks(page: Path, looks: Sequence[LesionLook]) -> bool:
    """Print where the page of lesions is, and what could not be read; return whether anything could not."""
    failures = [(look.lesion, reason) for look in looks for reason in look.failures]
    if failures:
        print_table(("lesion", "not read"), failures)
    warned = sum(bool(look.warnings) for look in looks)
    print_line(f"{page}: {count_of(len(looks), 'lesion')}, {warned} with warnings, {len(failures)} not read")
    return bool(failures)


def print_summary(summary: Summary, *, quiet: bool) -> None:
    """Print how a run ended; `quiet`: only what failed, which otherwise was printed as it came."""
    from hgpscale.cube import status

    if quiet:
        for failure in (*summary.failed, *summary.partial):
            print_line(str(failure), to_stderr=True)
    if summary.failed_before:
        now = {row[:2] for row in (*summary.failed, *summary.partial)}
        for old in status(summary.cube).failures:
            if (old.lesion, old.segmentation) not in now:
                print_line(
                    f"{old.lesion} ({old.segmentation}): failed before: {old.stage}: {old.reason}", to_stderr=True
                )
    if quiet:
        return
    before = summary.done_before - summary.failed_before
    partial = len({(failure.lesion, failure.segmentation) for failure in summary.partial})
    parts = [f"{summary.done - partial} done", f"{len(summary.failed)} failed"]
    if partial:
        parts.insert(1, f"{partial} done in part")
    if before:
        parts.append(f"{before} done before")
    if summary.failed_before:
        parts.append(f"{summary.failed_before} failed before (--retry-failed tries again)")
    parts.append(f"{count_of(summary.computed, 'feature vector')} computed")
    print_line(f"{summary.cube}: {count_of(summary.total, 'row')}, {', '.join(parts)}, {summary.seconds:.1f} s")


def print_export(table: Path, status: CubeStatus) -> None:
    """Print where a table is, and on stderr how many of its rows have empty cells."""
    print_line(str(table))
    waiting = sum(count.pending for count in status.families if count.family == DEEP)
    if status.failed or status.pending or waiting:
        missing = (
            f"{status.done} of {count_of(status.rows, 'row')} done, {status.partial} done in part, "
            f"{status.failed - status.partial} failed, {status.pending} pending"
        )
        missing += f", {waiting} without numbers of networks" if waiting else ""
        print_line(f"{missing}: empty cells; hgpscale status says why", to_stderr=True)


def print_status(status: CubeStatus) -> None:
    """Print the state of a cube, of each family, and what failed."""
    print_table((), status.table())
    print_line("")
    families = [(f.family, f.done, f.failed, f.pending) for f in status.families]
    print_table(("family", "done", "failed", "pending"), families)
    for title, rows in (("failed", status.failures), ("done, with undefined features", status.notes)):
        if rows:
            print_line("")
            cells = [
                (row.lesion, row.segmentation, listed(row.images), listed(row.families), row.stage, row.reason)
                for row in rows
            ]
            print_table(("lesion", "segmentation", "images", "families", "stage", "reason"), cells, title)


def listed(names: Sequence[str]) -> str:
    """Return names on one line, many of them shortened."""
    return " ".join(names) if len(names) <= _MANY else f"{' '.join(names[:_MANY])} and {len(names) - _MANY} more"


def count_of(number: int, one: str, many: str = "") -> str:
    """Return a number with the singular or the plural of what it counts."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def print_line(line: str, *, to_stderr: bool = False) -> None:
    """Print one line, whatever characters are in it."""
    print(one_line(line), file=sys.stderr if to_stderr else sys.stdout, flush=True)
