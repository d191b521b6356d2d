"""Sums and order statistics of a region's values."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hgpscale.kernels.jit import kernel

_N_BUCKET = 2048


def order_statistics(values: NDArray[np.float64], ranks: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return ``numpy.sort(values)[ranks]``, sorting only the few values around each rank.

    Parameters
    ----------
    values
        float64, shape ``(n,)``, finite.
    ranks
        Places in ascending order, from 0, shape ``(m,)``.

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
        bucket = np.uint64((values[k] - low) * scale)
        buckets[k] = bucket
        counts[bucket] += 1
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
    first = 0.0
    second = 0.0
    third = 0.0
    fourth = 0.0
    energy = 0.0
    for k in range(values.size):
        deviation = values[k] - mean
        square = deviation * deviation
        first += abs(deviation)
        second += square
        third += square * deviation
        fourth += square * square
        energy += (values[k] + shift) * (values[k] + shift)
    return first, second, third, fourth, energy


@kernel
def deviation_between(values: NDArray[np.float64], low: float, high: float) -> float:
    """Return the mean absolute deviation of the values from `low` to `high`; NaN where there is none."""
    n = 0
    total = 0.0
    for k in range(values.size):
        kept = low <= values[k] <= high
        n += kept
        total += values[k] if kept else 0.0
    if n == 0:
        return np.nan
    mean = total / n
    deviation = 0.0
    for k in range(values.size):
        deviation += abs(values[k] - mean) if low <= values[k] <= high else 0.0
    return deviation / n
