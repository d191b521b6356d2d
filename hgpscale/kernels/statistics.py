"""Sums and order statistics of a region's values."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hgpscale.kernels.jit import kernel

PERCENTILES = (10, 25, 50, 75, 90)

N_BUCKET = 2048
N_LANE = 256
"""Sums kept side by side, so that adding to one need not wait for the last: they fit the fastest cache."""


class Statistics(NamedTuple):
    """Sums and percentiles of a region's values, in the image's unit and its powers.

    Attributes
    ----------
    minimum, maximum, mean
        Of the values.
    absolute, second, third, fourth
        Sums of the absolute deviation from the mean, and of its powers.
    energy
        Sum of squares of the shifted values.
    robust
        Mean absolute deviation of the values between the percentiles 10 and 90; NaN where there is none.
    percentiles
        `PERCENTILES`, linear between ranks, float64, shape ``(5,)``.

    """

    minimum: float
    maximum: float
    mean: float
    absolute: float
    second: float
    third: float
    fourth: float
    energy: float
    robust: float
    percentiles: NDArray[np.float64]


def statistics_of(values: NDArray[np.float64], shift: float) -> Statistics:
    """Sum up values, float64, shape ``(n,)``, finite; `shift` is added to them for their energy."""
    mean = float(np.mean(values))
    ranks, share = between_ranks(values.size)
    percentiles = between(order_statistics(values, ranks), share)
    sums = central_sums(values, mean, shift)
    # Two voxels of different values both lie outside of their own percentiles: then there is none.
    robust = deviation_between(values, percentiles[0], percentiles[-1])
    return Statistics(float(values.min()), float(values.max()), mean, *sums, robust, percentiles)


@lru_cache(maxsize=16)
def between_ranks(n: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the ranks below, then those above each percentile of `n` values, and how far it lies between the two."""
    place = (n - 1) * (np.array(PERCENTILES) / 100)
    below = np.floor(place).astype(np.int64)
    return np.concatenate([below, np.minimum(below + 1, n - 1)]), place - below


def between(at_ranks: NDArray[np.float64], share: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `numpy.percentile` of what is at those ranks, to the bit: robust deviation asks which values equal it."""
    low, high = at_ranks.reshape(2, -1)
    gap = high - low
    return np.where(share < 0.5, low + gap * share, high - gap * (1 - share))


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
    scale = bucket_scale(low, high)
    if not scale:
        return np.sort(values)[ranks]
    buckets, counts = _buckets(values, low, scale)
    wanted, place = around(counts, ranks)
    return np.sort(_kept(values, buckets, wanted, int(counts[wanted].sum())))[place]


def bucket_scale(low: float, high: float) -> float:
    """Return what a value's distance from the lowest is multiplied by to get its bucket; 0 where that cannot be."""
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        scale = (N_BUCKET - 1) / (np.float64(high) - np.float64(low))
    return float(scale) if np.isfinite(scale) else 0.0


def around(counts: NDArray[np.int64], ranks: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return which buckets hold the values of some ranks, and the ranks' places among the values in those, sorted."""
    bucket = np.searchsorted(np.cumsum(counts), ranks, side="right")
    wanted = np.zeros(counts.size, dtype=np.bool_)
    wanted[bucket] = True
    left_out = np.cumsum(np.where(wanted, 0, counts))
    return wanted, ranks - left_out[bucket]


@kernel
def _buckets(values: NDArray[np.float64], low: float, scale: float) -> tuple[NDArray[np.uint16], NDArray[np.int64]]:
    buckets = np.empty(values.size, dtype=np.uint16)
    counts = np.zeros(N_BUCKET, dtype=np.int64)
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
    first, second, third, fourth, energy = np.zeros((5, N_LANE))
    for start in range(0, values.size, N_LANE):
        part = values[start : start + N_LANE]
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
    count, total, deviation = np.zeros((3, N_LANE))
    for start in range(0, values.size, N_LANE):
        part = values[start : start + N_LANE]
        for k in range(part.size):
            kept = low <= part[k] <= high
            count[k] += 1.0 if kept else 0.0
            total[k] += part[k] if kept else 0.0
    n = count.sum()
    if n == 0:
        return np.nan
    mean = total.sum() / n
    for start in range(0, values.size, N_LANE):
        part = values[start : start + N_LANE]
        for k in range(part.size):
            deviation[k] += abs(part[k] - mean) if low <= part[k] <= high else 0.0
    return deviation.sum() / n
