"""Recursive Gaussian filter along one axis, in ITK's order of operations: each thread filters one line."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda
from numpy.typing import NDArray

from hgpscale.kernels.cuda.jit import device, kernel, launch, product
from hgpscale.kernels.cuda.memory import empty

Four = tuple[float, float, float, float]


def filter_lines(voxels: Any, forwards: Any, backwards: Any, first: int, out: Any) -> None:
    """Filter along the middle axis: `hgpscale.kernels.recursive_gaussian.filter_lines` of arrays on the GPU."""
    n_line = voxels.shape[0] * voxels.shape[2]
    # Lines side by side: threads that run together write to addresses that lie together.
    ahead = empty((out.shape[1], n_line), np.float64)
    launch(_filter_lines, n_line, voxels, forwards, backwards, first, ahead, out)


def add_scaled(addend: Any, scale: float, total: Any) -> None:
    """Add `scale` times an image: `hgpscale.kernels.recursive_gaussian.add_scaled` of arrays on the GPU."""
    launch(_add_scaled, total.size, addend.reshape(total.size), scale, total.reshape(total.size))


@kernel
def _filter_lines(
    voxels: NDArray[Any],
    forwards: NDArray[np.float64],
    backwards: NDArray[np.float64],
    first: int,
    ahead: NDArray[np.float64],
    out: NDArray[np.float32],
) -> None:
    line = cuda.grid(1)
    if line < ahead.shape[1]:
        _run_forwards(voxels, line, forwards, first, ahead)
        _run_backwards(voxels, line, backwards, first, ahead, out)


@kernel
def _add_scaled(addend: NDArray[np.float32], scale: float, total: NDArray[np.float32]) -> None:
    thread = cuda.grid(1)
    if thread < total.size:
        total[thread] = np.float32(np.float64(total[thread]) + product(addend[thread], scale))


@device
def _run_forwards(
    voxels: NDArray[Any], line: int, weights: NDArray[np.float64], first: int, ahead: NDArray[np.float64]
) -> None:
    """Run up to the last sample wanted and keep those; the newest input is that of the same sample."""
    inner = voxels.shape[2]
    s, r = line // inner, line % inner
    x0, x1, x2 = np.float64(voxels[s, 0, r]), np.float64(voxels[s, 1, r]), np.float64(voxels[s, 2, r])
    x3 = np.float64(voxels[s, 3, r])
    y0, y1, y2, y3 = _begin(x0, x1, x2, x3, weights)
    _keep(y0, 0 - first, line, ahead)
    _keep(y1, 1 - first, line, ahead)
    _keep(y2, 2 - first, line, ahead)
    _keep(y3, 3 - first, line, ahead)
    n, d = _row(weights, 0), _row(weights, 1)
    for i in range(4, first + ahead.shape[0]):
        x0, x1, x2, x3 = x1, x2, x3, np.float64(voxels[s, i, r])
        value = _weigh((x3, x2, x1, x0), n) - _weigh((y3, y2, y1, y0), d)
        y0, y1, y2, y3 = y1, y2, y3, value
        _keep(value, i - first, line, ahead)


@device
def _run_backwards(
    voxels: NDArray[Any],
    line: int,
    weights: NDArray[np.float64],
    first: int,
    ahead: NDArray[np.float64],
    out: NDArray[np.float32],
) -> None:
    """Run from the end down to the first sample wanted and write the sums of both directions.

    The newest input is that of the sample before.
    """
    n, inner = voxels.shape[1], voxels.shape[2]
    s, r = line // inner, line % inner
    x0, x1, x2 = np.float64(voxels[s, n - 1, r]), np.float64(voxels[s, n - 2, r]), np.float64(voxels[s, n - 3, r])
    y0, y1, y2, y3 = _begin(x0, x0, x1, x2, weights)
    _write(y0, n - 1 - first, s, r, line, ahead, out)
    _write(y1, n - 2 - first, s, r, line, ahead, out)
    _write(y2, n - 3 - first, s, r, line, ahead, out)
    _write(y3, n - 4 - first, s, r, line, ahead, out)
    x3 = np.float64(voxels[s, n - 4, r])
    m, d = _row(weights, 0), _row(weights, 1)
    for i in range(n - 5, first - 1, -1):
        value = _weigh((x3, x2, x1, x0), m) - _weigh((y3, y2, y1, y0), d)
        y0, y1, y2, y3 = y1, y2, y3, value
        x0, x1, x2, x3 = x1, x2, x3, np.float64(voxels[s, i, r])
        _write(value, i - first, s, r, line, ahead, out)


@device
def _begin(x0: float, x1: float, x2: float, x3: float, weights: NDArray[np.float64]) -> Four:
    """Return the first four samples from their newest inputs; before them there is only the first."""
    w = _row(weights, 0)
    d1, d2, d3, _ = _row(weights, 1)
    b1, b2, b3, b4 = _row(weights, 2)
    y0 = _weigh((x0, x0, x0, x0), w) - _weigh((x0, x0, x0, x0), (b1, b2, b3, b4))
    y1 = _weigh((x1, x0, x0, x0), w) - _weigh((y0, x0, x0, x0), (d1, b2, b3, b4))
    y2 = _weigh((x2, x1, x0, x0), w) - _weigh((y1, y0, x0, x0), (d1, d2, b3, b4))
    y3 = _weigh((x3, x2, x1, x0), w) - _weigh((y2, y1, y0, x0), (d1, d2, d3, b4))
    return y0, y1, y2, y3


@device
def _row(weights: NDArray[np.float64], row: int) -> Four:
    return weights[row, 0], weights[row, 1], weights[row, 2], weights[row, 3]


@device
def _weigh(values: Four, weights: Four) -> float:
    """Return the sum of the products, from the first to the last."""
    total = product(values[0], weights[0]) + product(values[1], weights[1])
    return total + product(values[2], weights[2]) + product(values[3], weights[3])


@device
def _keep(value: float, at: int, line: int, ahead: NDArray[np.float64]) -> None:
    if 0 <= at < ahead.shape[0]:
        ahead[at, line] = value


@device
def _write(
    value: float, at: int, s: int, r: int, line: int, ahead: NDArray[np.float64], out: NDArray[np.float32]
) -> None:
    if 0 <= at < ahead.shape[0]:
        out[s, at, r] = np.float32(ahead[at, line] + value)
