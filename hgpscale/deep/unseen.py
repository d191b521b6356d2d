"""What networks say of patients that they were not trained on: how wrong they are, and what that teaches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from hgpscale.deep.files import writing
from hgpscale.deep.hurdle import Calibration, Parts, growth_of, parts_of, precision_of
from hgpscale.deep.seeing import crops_of, overlap, see
from hgpscale.learn.conformal import half_width
from hgpscale.learn.targets import PARTS

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from hgpscale.deep.network import Network
    from hgpscale.deep.prepared import PreparedScan
    from hgpscale.deep.recipe import Recipe
    from hgpscale.deep.seeing import Seen

COVERAGE = 0.9
"""Of the interval of the desmoplastic fraction."""


class Unseen(NamedTuple):
    """Drawn lesions, each as a network sees it that was not trained on its patient.

    Attributes
    ----------
    rows
        Fold, patient and lesion of each.
    logits
        float32, shape ``(lesion, 5)``.
    growth
        True fractions, float64, shape ``(lesion, 3)``; NaN where not known.
    mean
        Mean fractions of the lesions that its network was trained on, of the same shape.

    """

    rows: list[tuple[str, str, str]]
    logits: NDArray[np.float32]
    growth: NDArray[np.float64]
    mean: NDArray[np.float64]


def pick(
    fold: str,
    seen: Seen,
    scans: Sequence[PreparedScan],
    train: Sequence[Sequence[PreparedScan]],
    test: Sequence[PreparedScan],
) -> Unseen:
    """Return what the network of a fold says of its test scans, of what it has said of all `scans`."""
    known = growth_in([scan for some in train for scan in some])
    known = known[np.isfinite(known).all(axis=1)]
    mean = known.mean(axis=0) if len(known) else np.full(3, np.nan)
    names = {scan.name for scan in test}
    chosen = np.array([scan.name in names for scan in scans for _ in scan.lesions], bool)
    mine = [scan for scan in scans if scan.name in names]
    rows = [(fold, scan.patient, lesion.lesion) for scan in mine for lesion in scan.lesions]
    return Unseen(rows, seen.logits[chosen], growth_in(mine), np.tile(mean, (len(rows), 1)))


def together(parts: Sequence[Unseen]) -> Unseen:
    """Return the lesions of all folds as one."""
    logits, growth, mean = (np.concatenate([part[at] for part in parts]) for at in (1, 2, 3))
    return Unseen([row for part in parts for row in part.rows], logits, growth, mean)


def calibrate(unseen: Unseen) -> Calibration:
    """Return what the errors teach; see `Calibration`."""
    known = np.isfinite(unseen.growth).all(axis=1)
    if not known.any():
        return Calibration()
    said, truth = parts_of(unseen.logits[known]), unseen.growth[known]
    patient = np.array([patient for _, patient, _ in unseen.rows], object)[known]
    width = half_width(np.abs(said.composition[:, 0] - truth[:, 0]), patient, COVERAGE)
    return Calibration(precision_of(said, truth), width if np.isfinite(width) else float("nan"))


def summary(unseen: Unseen) -> dict[str, float]:
    """Return how right networks were, of lesions whose growth is known; empty where there is none.

    ``lesions``: how many; ``mae``: mean absolute error of the desmoplastic fraction; ``mae_mean``: that of the mean of
    the training lesions; ``auc``: of pure desmoplastic against no desmoplastic growth, where both are there.
    """
    known = np.isfinite(unseen.growth).all(axis=1)
    if not known.any():
        return {}
    said, truth = parts_of(unseen.logits[known]), unseen.growth[known]
    return {
        "lesions": float(known.sum()),
        "mae": float(np.abs(said.composition[:, 0] - truth[:, 0]).mean()),
        "mae_mean": float(np.abs(unseen.mean[known, 0] - truth[:, 0]).mean()),
        **_auc(said, truth),
    }


def validate(network: Network, scans: Sequence[PreparedScan], recipe: Recipe, device: torch.device) -> dict[str, float]:
    """Return how a network is doing on scans that it is not trained on.

    ``dice``: of patches around lesions; ``mae`` and ``auc`` as of `summary`, where growth is known.
    """
    found = {"dice": overlap(network, crops_of(scans, recipe), device)}
    growth = growth_in(scans)
    known = np.isfinite(growth).all(axis=1)
    if known.any():
        said = parts_of(see(network, crops_of(scans, recipe), device).logits[known])
        found["mae"] = float(np.abs(said.composition[:, 0] - growth[known, 0]).mean())
        found |= _auc(said, growth[known])
    return found


def write_unseen(path: Path, unseen: Unseen, calibration: Calibration) -> None:
    """Write a row a lesion: what is true, and what was said; columns as those of ``hgpscale evaluate``.

    Raises
    ------
    DeepError
        The file cannot be written.

    """
    said = [growth_of(one[None], calibration) for one in unseen.logits]
    table: dict[str, Any] = {"level": "lesion"}
    table |= {name: [row[at] for row in unseen.rows] for at, name in enumerate(("split", "patient", "lesion"))}
    table |= {f"true_{part}": unseen.growth[:, at] for at, part in enumerate(PARTS)}
    table |= {part: [one.composition[at] for one in said] for at, part in enumerate(PARTS)}
    table |= {
        "p_pure_desmoplastic": [one.pure_desmoplastic for one in said],
        "p_majority_desmoplastic": [one.majority_desmoplastic for one in said],
        "low": [one.low for one in said],
        "high": [one.high for one in said],
    }
    with writing(path):
        pd.DataFrame(table).to_csv(path, index=False, float_format="%.6g", lineterminator="\n")


def growth_in(scans: Sequence[PreparedScan]) -> NDArray[np.float64]:
    """Return true fractions of all lesions, shape ``(lesion, 3)``; NaN where not known."""
    found = [lesion.growth or (np.nan,) * 3 for scan in scans for lesion in scan.lesions]
    return np.array(found, np.float64).reshape(-1, 3)


def _auc(said: Parts, growth: NDArray[np.float64]) -> dict[str, float]:
    from sklearn.metrics import roc_auc_score

    pure = (growth[:, 0] == 1) | (growth[:, 0] == 0)
    truth = growth[pure, 0] == 1
    if not 0 < truth.sum() < len(truth):
        return {}
    return {"auc": float(roc_auc_score(truth, said.gate[pure, 2]))}
