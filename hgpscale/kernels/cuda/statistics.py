"""Sums and percentiles of a region's values in many images at once, with the CPU's bits: the same order of sums.

A core adds up 256 numbers side by side; here each of those sums is a thread's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import cuda
from numpy.typing import NDArray

from hgpscale.kernels.cuda.jit import device, kernel, launch, product
from hgpscale.kernels.cuda.memory import empty, put, zeros
from hgpscale.kernels.cuda.stack import starts
from hgpscale.kernels.pairwise import piece_starts, piece_sum, sum_of_pieces
from hgpscale.kernels.statistics import N_BUCKET, N_LANE, Statistics, around, between, between_ranks, bucket_scale

_N_SUM = 5
Array = NDArray[np.float64]
_piece_sum = device(piece_sum)


class Extremes(NamedTuple):
    """What is known of values before any sum; each of shape ``(n_image,)``, on the host.

    Attributes
    ----------
    minimum, maximum
        Of the finite values, float64.
    n_bad
        How many are NaN or infinite, int64.

    """

    minimum: Array
    maximum: Array
    n_bad: NDArray[np.int64]


def gather(image: Any, voxels: Any, values: Any) -> None:
    """Copy the region's voxels from an image.

    Parameters
    ----------
    image
        On the GPU, shape ``(z, y, x)``.
    voxels
        Their positions in the flattened image, int64 on the GPU, shape ``(n_voxel,)``.
    values
        float64 on the GPU, shape ``(n_voxel,)``; overwritten.

    """
    launch(_gather, values.shape[0], image, voxels, values)


def extremes_of(values: Any) -> Extremes:
    """Look through values that are on the GPU, float64, shape ``(n_image, n_voxel)``."""
    n_image = values.shape[0]
    parts = empty((n_image, 3, N_LANE), np.float64)
    launch(_extremes, n_image * N_LANE, values, parts)
    low, high, n_bad = parts.copy_to_host().swapaxes(0, 1)
    return Extremes(low.min(axis=1), high.max(axis=1), n_bad.sum(axis=1).astype(np.int64))


def statistics_of(values: Any, extremes: Extremes, shifts: Sequence[float]) -> list[Statistics]:
    """Sum up values: `hgpscale.kernels.statistics.statistics_of` on the GPU, of all images.

    Of an image with values that are not finite the result has no meaning.

    Parameters
    ----------
    values
        float64 on the GPU, shape ``(n_image, n_voxel)``.
    extremes
        `extremes_of` them.
    shifts
        What is added to each image's values for their energy.

    """
    n_image, n_voxel = values.shape
    ranks, share = between_ranks(n_voxel)
    percentiles = np.stack([between(found, share) for found in _at_ranks(values, extremes, ranks)])
    mean = _means(values)
    parts = empty((n_image, _N_SUM, N_LANE), np.float64)
    launch(_central_sums, n_image * N_LANE, values, put(mean), put(np.array(shifts, np.float64)), parts)
    sums = _one_by_one(parts.copy_to_host())
    robust = _deviations(values, percentiles[:, 0], percentiles[:, -1])
    scalars = np.column_stack([extremes.minimum, extremes.maximum, mean, sums, robust])
    return [Statistics._make([*row, own]) for row, own in zip(scalars.tolist(), percentiles, strict=True)]


def _means(values: Any) -> Array:
    """Return each image's mean, as `numpy.mean` adds up."""
    n_image, n_voxel = values.shape
    first = piece_starts(n_voxel)
    sums = empty((n_image, first.size - 1), np.float64)
    launch(_sum_pieces, sums.size, values, put(first), sums)
    return np.array([sum_of_pieces(row, n_voxel) / n_voxel for row in sums.copy_to_host()])


def _one_by_one(lanes: Array) -> Array:
    """Add up along the last axis in a core's order, from the first to the last."""
    return np.asarray(np.add.accumulate(lanes, axis=-1)[..., -1])


def _at_ranks(values: Any, extremes: Extremes, ranks: NDArray[np.int64]) -> list[Array]:
    """Return ``numpy.sort(values)[ranks]`` of each image; the few values around the ranks are sorted on the host."""
    n_image, n_voxel = values.shape
    scales = np.array([bucket_scale(*ends) for ends in zip(extremes.minimum, extremes.maximum, strict=True)])
    scales[extremes.n_bad > 0] = 0
    low, scale = put(extremes.minimum), put(scales)
    counts = zeros((n_image, N_BUCKET), np.int32)
    launch(_count_buckets, n_image * n_voxel, values, low, scale, counts)
    n_in = counts.copy_to_host().astype(np.int64)
    found = [around(row, ranks) if scales[k] else (np.zeros(N_BUCKET, bool), ranks) for k, row in enumerate(n_in)]
    wanted = np.stack([chosen for chosen, _ in found])
    first = starts((n_in * wanted).sum(axis=1))
    kept, n_kept = empty((max(int(first[-1]), 1),), np.float64), zeros((n_image,), np.int32)
    launch(_keep, n_image * n_voxel, values, low, scale, put(wanted), put(first), n_kept, kept)
    around_ranks = kept.copy_to_host()
    # Threads have written them in the order in which they came by, which sorting undoes.
    return [
        np.sort(around_ranks[first[k] : first[k + 1]] if scales[k] else values[k].copy_to_host())[place]
        for k, (_, place) in enumerate(found)
    ]


def _deviations(values: Any, low: Array, high: Array) -> Array:
    """Return the mean absolute deviation of each image's values between two of them; NaN where there is none."""
    n_image = values.shape[0]
    lowest, highest = put(low), put(high)
    parts = empty((n_image, 2, N_LANE), np.float64)
    launch(_sum_between, n_image * N_LANE, values, lowest, highest, parts)
    count, total = _one_by_one(parts.copy_to_host()).T
    n = np.where(count > 0, count, np.nan)
    deviation = empty((n_image, N_LANE), np.float64)
    launch(_deviate_between, n_image * N_LANE, values, lowest, highest, put(total / n), deviation)
    return _one_by_one(deviation.copy_to_host()) / n


@kernel
def _gather(image: Any, voxels: NDArray[np.int64], values: NDArray[np.float64]) -> None:
    thread = cuda.grid(1)
    if thread < voxels.size:
        p, nx = voxels[thread], image.shape[2]
        plane = image.shape[1] * nx
        values[thread] = image[p // plane, p % plane // nx, p % nx]


@kernel
def _extremes(values: NDArray[np.float64], parts: NDArray[np.float64]) -> None:
    thread, n_lane = cuda.grid(1), parts.shape[2]
    if thread >= values.shape[0] * n_lane:
        return
    image, lane = thread // n_lane, thread % n_lane
    low, high, n_bad = np.inf, -np.inf, 0.0
    for k in range(lane, values.shape[1], n_lane):
        value = values[image, k]
        if -np.inf < value < np.inf:
            low = min(low, value)
            high = max(high, value)
        else:
            n_bad += 1.0
    parts[image, 0, lane] = low
    parts[image, 1, lane] = high
    parts[image, 2, lane] = n_bad


@kernel
def _sum_pieces(values: NDArray[np.float64], first: NDArray[np.int64], sums: NDArray[np.float64]) -> None:
    thread = cuda.grid(1)
    if thread < sums.size:
        image, piece = thread // sums.shape[1], thread % sums.shape[1]
        sums[image, piece] = _piece_sum(values[image, first[piece] : first[piece + 1]])


@kernel
def _central_sums(
    values: NDArray[np.float64], mean: NDArray[np.float64], shift: NDArray[np.float64], parts: NDArray[np.float64]
) -> None:
    """Sum up what `hgpscale.kernels.statistics.central_sums` does."""
    thread, n_lane = cuda.grid(1), parts.shape[2]
    if thread >= values.shape[0] * n_lane:
        return
    image, lane = thread // n_lane, thread % n_lane
    first, second, third, fourth, energy = 0.0, 0.0, 0.0, 0.0, 0.0
    for k in range(lane, values.shape[1], n_lane):
        deviation, shifted = values[image, k] - mean[image], values[image, k] + shift[image]
        square = product(deviation, deviation)
        first += abs(deviation)
        second += square
        third += product(square, deviation)
        fourth += product(square, square)
        energy += product(shifted, shifted)
    parts[image, 0, lane] = first
    parts[image, 1, lane] = second
    parts[image, 2, lane] = third
    parts[image, 3, lane] = fourth
    parts[image, 4, lane] = energy


@device
def _bucket(value: float, low: float, scale: float) -> int:
    return int(product(value - low, scale))


@kernel
def _count_buckets(
    values: NDArray[np.float64], low: NDArray[np.float64], scale: NDArray[np.float64], counts: Any
) -> None:
    thread = cuda.grid(1)
    if thread < values.shape[0] * values.shape[1]:
        image, k = thread // values.shape[1], thread % values.shape[1]
        if scale[image] > 0:
            cuda.atomic.add(counts, (image, _bucket(values[image, k], low[image], scale[image])), 1)


@kernel
def _keep(
    values: NDArray[np.float64],
    low: NDArray[np.float64],
    scale: NDArray[np.float64],
    wanted: NDArray[np.bool_],
    first: NDArray[np.int64],
    n_kept: Any,
    kept: NDArray[np.float64],
) -> None:
    """Copy the values of the buckets that are wanted."""
    thread = cuda.grid(1)
    if thread < values.shape[0] * values.shape[1]:
        image, k = thread // values.shape[1], thread % values.shape[1]
        value = values[image, k]
        if scale[image] > 0 and wanted[image, _bucket(value, low[image], scale[image])]:
            kept[first[image] + cuda.atomic.add(n_kept, image, 1)] = value


@kernel
def _sum_between(
    values: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64], parts: NDArray[np.float64]
) -> None:
    thread, n_lane = cuda.grid(1), parts.shape[2]
    if thread >= values.shape[0] * n_lane:
        return
    image, lane = thread // n_lane, thread % n_lane
    count, total = 0.0, 0.0
    for k in range(lane, values.shape[1], n_lane):
        if low[image] <= values[image, k] <= high[image]:
            count += 1.0
            total += values[image, k]
    parts[image, 0, lane] = count
    parts[image, 1, lane] = total


@kernel
def _deviate_between(
    values: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    mean: NDArray[np.float64],
    deviation: NDArray[np.float64],
) -> None:
    thread, n_lane = cuda.grid(1), deviation.shape[1]
    if thread >= values.shape[0] * n_lane:
        return
    image, lane = thread // n_lane, thread % n_lane
    total = 0.0
    for k in range(lane, values.shape[1], n_lane):
        if low[image] <= values[image, k] <= high[image]:
            total += abs(values[image, k] - mean[image])
    deviation[image, lane] = total
