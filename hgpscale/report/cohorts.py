"""What ``hgpscale cohort`` prints, and what was left out of anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hgpscale.report.tables import count_of, print_line, print_table

if TYPE_CHECKING:
    from hgpscale.cohort import BuiltCohort
    from hgpscale.cohort.layouts import LeftOut


def print_built(built: BuiltCohort, *, quiet: bool = False) -> None:
    """Print what a manifest holds, what a person should know, and what was left out; `quiet`: only the last."""
    if not quiet:
        _print_content(built)
    print_left_out(built.problems)


def print_left_out(problems: Sequence[LeftOut]) -> None:
    """Print what could not be used, a line each."""
    for problem in problems:
        patient = f"{problem.patient}: " if problem.patient not in ("", problem.file) else ""
        # Readers name the file in front themselves.
        reason = problem.reason.removeprefix(f"{problem.file}: ")
        print_line(f"left out: {patient}{problem.file}: {reason}", to_stderr=True)


def _print_content(built: BuiltCohort) -> None:
    cohort = built.cohort
    counts = [
        count_of(built.patients, "patient"),
        count_of(len(cohort.lesions), "lesion"),
        count_of(len(cohort.rows), "row"),
    ]
    print_line(f"{cohort.source}: {', '.join(counts)}")
    if len(built.raters) > 1:
        print_table(("rater", "lesions", "matched", "unmatched"), built.raters)
    for note in built.notes:
        print_line(f"note: {note}", to_stderr=True)
