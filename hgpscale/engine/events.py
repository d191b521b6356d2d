"""What a run reports while it goes on; observers such as the progress bar live on these alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from hgpscale.errors import Failure


class RowFailure(NamedTuple):
    """A row of the manifest that has no numbers, or lacks some, and why."""

    lesion: str
    segmentation: str
    failure: Failure

    def __str__(self) -> str:
        rater = "" if self.segmentation == "default" else f" ({self.segmentation})"
        return f"{self.lesion}{rater}: {self.failure}"


@dataclass(frozen=True)
class Summary:
    """How a run ended.

    Attributes
    ----------
    cube
        Where the numbers are.
    total
        Rows of the manifest.
    done_before
        Rows that earlier runs had finished, failed ones included.
    failed_before
        Those of them that failed, wholly or in part, and were not tried again.
    done
        Rows that have numbers since this run.
    failed
        Rows that failed in this run: no numbers at all.
    partial
        Rows that this run has numbers for, except for some feature families; one entry an image and reason. These
        rows are counted in `done` too.
    seconds
        Time from the start of the cluster to the last block written.
    missing
        Feature vectors (one a row, region, image type and family) that the cube lacked of what was asked for.
    computed
        Feature vectors that came of this run, failed ones included.

    """

    cube: str | Path
    total: int
    done_before: int
    failed_before: int
    done: int
    failed: tuple[RowFailure, ...]
    partial: tuple[RowFailure, ...]
    seconds: float
    missing: int
    computed: int

    @property
    def ok(self) -> bool:
        """Whether every row of the manifest has all its numbers."""
        return not (self.failed or self.partial or self.failed_before)


@dataclass(frozen=True)
class RunStarted:
    """Manifest, settings and cube are in order; of `pending` of `total` rows something is to be done.

    `missing` feature vectors in all; `notes` say what this run added to the cube, or computes anew, a line each.
    """

    total: int
    pending: int
    missing: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class LesionDone:
    """One row is settled: with all its numbers, without some families (`partial`), or without any (`failed`)."""

    failed: RowFailure | None = None
    partial: tuple[RowFailure, ...] = ()


@dataclass(frozen=True)
class RunFinished:
    """All rows are settled and written."""

    summary: Summary


Event = RunStarted | LesionDone | RunFinished
