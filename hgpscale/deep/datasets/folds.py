"""Splits of patients as folds of cases: what nnU-Net calls splits_final.json."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from hgpscale.deep.cases import Case, some
from hgpscale.errors import DeepError
from hgpscale.learn.splits import read_splits


@dataclass(frozen=True)
class Fold:
    """Names of the cases of one split."""

    name: str
    train: tuple[str, ...]
    val: tuple[str, ...]

    def of(self, written: Collection[str]) -> Fold:
        """Return the fold with the cases that are there."""
        train, val = (tuple(name for name in side if name in written) for side in (self.train, self.val))
        return Fold(self.name, train, val)


def read_folds(path: Path, cases: Sequence[Case], patients: Collection[str]) -> list[Fold]:
    """Read splits of patients, as `hgpscale evaluate` takes and writes them.

    `patients` are all of the manifest: splits of it may name those that have no case.

    Raises
    ------
    DeepError
        A split names a patient whose scans are for testing.
    LearnError
        As of `read_splits`: a patient is not known, or on both sides.

    """
    folds = []
    for split in read_splits(path, [*(case.patient for case in cases), *patients]):
        train, val = ([cases[at] for at in rows if at < len(cases)] for rows in (split.train, split.test))
        if kept := sorted({case.patient for case in (*train, *val) if case.split == "external"}):
            raise DeepError(
                f"{path}: split {split.name} has patients of split external ({some(kept)}), whose scans are kept for "
                "testing; leave them out of the splits, or empty their cell in column 'split'"
            )
        folds.append(Fold(split.name, tuple(case.name for case in train), tuple(case.name for case in val)))
    return folds
