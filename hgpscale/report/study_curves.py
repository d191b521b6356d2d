"""Points of the curves of a study: over splits, or of one test set."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hgpscale.learn.metrics import decision_curve, roc_points

if TYPE_CHECKING:
    from numpy.typing import NDArray

BINS = 10
_GRID = np.linspace(0, 1, 101)
_Z = 1.959964


@dataclass(frozen=True)
class Roc:
    """Sensitivity over false alarms.

    Attributes
    ----------
    x, y
        False positive and true positive rate; over several splits the mean at each of 101 rates.
    low, high
        10th and 90th percentile of the splits; None for one test set.
    used, skipped
        Splits with both classes, and those with one only.

    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    low: NDArray[np.float64] | None
    high: NDArray[np.float64] | None
    used: int
    skipped: int


def roc(events: pd.DataFrame) -> Roc | None:
    """Return the curve of `Study.events`; None where no split has both classes."""
    curves, skipped = [], 0
    for _, split in events.groupby("split", sort=False):
        if split["y"].nunique() < 2:
            skipped += 1
            continue
        points = roc_points(split["y"].to_numpy(), split["p"].to_numpy())
        curves.append((points[0], points[1]))
    if not curves:
        return None
    if len(curves) == 1:
        return Roc(curves[0][0], curves[0][1], None, None, 1, skipped)
    # A step function: at a rate the highest sensitivity that is reached without more false alarms.
    heights = np.array([y[np.searchsorted(x, _GRID + 1e-12, side="right") - 1] for x, y in curves])
    start, mean = np.zeros(1), heights.mean(axis=0)
    low, high = np.percentile(heights, (10, 90), axis=0)
    grid = np.concatenate([start, _GRID])
    return Roc(
        grid,
        np.concatenate([start, mean]),
        np.concatenate([start, low]),
        np.concatenate([start, high]),
        len(curves),
        skipped,
    )


@dataclass(frozen=True)
class Bin:
    """Lesions of like predicted probability: the mean of it, the share that was positive with Wilson's interval."""

    predicted: float
    observed: float
    low: float
    high: float
    lesions: int


def calibration(events: pd.DataFrame, bins: int = BINS) -> list[Bin]:
    """Return bins of equal count over all test predictions; in a bin each lesion counts once."""
    if events.empty:
        return []
    count = max(1, min(bins, events["lesion"].nunique() // 10))
    order = events.sort_values("p", kind="stable")
    found = []
    for part in np.array_split(np.arange(len(order)), count):
        rows = order.iloc[part]
        once = rows.groupby("lesion")["y"].first()
        n, k = len(once), float(once.sum())
        low, high = wilson(k, n)
        found.append(Bin(float(rows["p"].mean()), k / n, low, high, n))
    return found


def wilson(k: float, n: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share."""
    share, z2 = k / n, _Z**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True)
class Decisions:
    """Net benefit by threshold of acting on the model, on everyone; on no one it is 0."""

    threshold: NDArray[np.float64]
    model: NDArray[np.float64]
    everyone: NDArray[np.float64]
    prevalence: float


def decisions(events: pd.DataFrame) -> Decisions | None:
    """Return the decision curve over all test predictions; None where they are of one class."""
    y = events["y"].to_numpy(float)
    if len(np.unique(y)) < 2:
        return None
    curve = decision_curve(y, events["p"].to_numpy(float), np.linspace(0.01, 0.99, 99))
    return Decisions(curve.threshold, curve.model, curve.treat_all, float(y.mean()))
