"""Sums and order statistics of a region's values."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hgpscale.kernels.jit import kernel

_N_BUCKET = 2048
_N_LANE = 256
"""Sums kept side by side, so that adding to one need not wait for the last: they fit the fastest cache."""


def order_statistics(values: NDArray[np.float64], ranks: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return ``numpy.sort(values)[ranks]``, sorting only the few values around each rank.

    Parameters
    ----------
    values
        float64, shape ``(n,)``, finite.
    ranks
        Places from 0, shape ``(m,)``.

    """
    low, high = values.min(), values.max()
    with np.errstate(over="ignore", divide="ignore"):
        scale = (_N_BUCKET - 1) / (high - low)
    if not np.isfinite(scale) or scale == 0:
        return np.sort(values)[ranks]
    buckets, counts = _buckets(values, low, scale)
    first = np.cumsum(counts) - counts
    bucket = np.searchsorted(first + counts, ranks, side="right")
    wanted = np.zeros(_N_BUCKET, dtype=np.bool_)
    wanted[bucket] = True
    kept = np.sort(_kept(values, buckets, wanted, int(counts[wanted].sum())))
    left_out = np.cumsum(np.where(wanted, 0, counts))
    return kept[ranks - left_out[bucket]]


@kernel
def _buckets(values: NDArray[np.float64], low: float, scale: float) -> tuple[NDArray[np.uint16], NDArray[np.int64]]:
    buckets = np.empty(values.size, dtype=np.uint16)
    counts = np.zeros(_N_BUCKET, dtype=np.int64)
    for k in range(values.size):
        buckets[k] = np.int32((values[k] - low) * scale)
    for k in range(values.size):
        counts[buckets[k]] += 1
    return buckets, counts


@kernel
def _kept(
    values: NDArray[np.float64], buckets: NDArray[np.uint16], wanted: NDArray[np.bool_], n: int
) -> NDArray[np.float64]:
    # One place more: every value is written, and the next one overwrites it unless it is kept.
    kept = np.empty(n + 1)
    filled = 0
    for k in range(values.size):
        kept[filled] = values[k]
        filled += wanted[buckets[k]]
    return kept[:n]


@kernel
def central_sums(values: NDArray[np.float64], mean: float, shift: float) -> tuple[float, float, float, float, float]:
    """Return the sums of ``|x - mean|``, of its powers 2, 3 (with sign) and 4, and of ``(x + shift)**2``."""
    first, second, third, fourth, energy = np.zeros((5, _N_LANE))
    for start in range(0, values.size, _N_LANE):
        part = values[start : start + _N_LANE]
        for k in range(part.size):
            deviation = part[k] - mean
            square = deviation * deviation
            first[k] += abs(deviation)
            second[k] += square
            third[k] += square * deviation
            fourth[k] += square * square
            energy[k] += (part[k] + shift) * (part[k] + shift)
    return first.sum(), second.sum(), third.sum(), fourth.sum(), energy.sum()


@kernel
def deviation_between(values: NDArray[np.float64], low: float, high: float) -> float:
    """Return the mean absolute deviation of the values from `low` to `high`; NaN where there is none."""
    count, total, deviation = np.zeros((3, _N_LANE))
    for start in range(0, values.size, _N_LANE):
        part = values[start : start + _N_LANE]
        for k in range(part.size):
            kept = low <= part[k] <= high
            count[k] += 1.0 if kept else 0.0
            total[k] += part[k] if kept else 0.0
    n = count.sum()
    if n == 0:
        return np.nan
    mean = total.sum() / n
    for start in range(0, values.size, _N_LANE):
        part = values[start : start + _N_LANE]
        for k in range(part.size):
            deviation[k] += abs(part[k] - mean) if low <= part[k] <= high else 0.0
    return deviation.sum() / n
