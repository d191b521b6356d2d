"""What ``hgpscale deep export`` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hgpscale.report.cohorts import print_left_out
from hgpscale.report.tables import count_of, print_line

if TYPE_CHECKING:
    from hgpscale.deep import Exported


def print_exported(exported: Exported, *, quiet: bool = False) -> None:
    """Print what a data set holds, what a person should know, and what was left out; `quiet`: only the last."""
    if not quiet:
        counts = exported.counts
        lesions = sum(len(case.rows) for case in exported.cases)
        parts = [f"{count_of(counts['train'], 'scan')} to train on", f"{counts['external']} to test"]
        print_line(f"{exported.folder}: {', '.join(parts)}, {count_of(lesions, 'lesion')}; next: {exported.next}")
        for note in exported.notes:
            print_line(f"note: {note}", to_stderr=True)
    print_left_out(exported.problems)
