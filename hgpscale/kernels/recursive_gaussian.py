"""Recursive Gaussian filter along one axis, in the order of operations of ``itk::RecursiveSeparableImageFilter``.

The recursion is Deriche's (INRIA research report 1893, 1993): the sum of a pass forwards and a pass backwards, each
with four terms of the input and four of its own output.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hgpscale.kernels.jit import kernel

_LANES = 32
"""Lines filtered at a time: enough that one line's recursion hides behind the others', few enough for the cache."""


@kernel
def add_filtered(
    voxels: NDArray[Any],
    forwards: NDArray[np.float64],
    backwards: NDArray[np.float64],
    first: int,
    scale: float,
    out: NDArray[np.float32],
) -> None:
    """Filter along the middle axis and add `scale` times the result, rounded to float32, to `out`.

    Beyond its ends a line goes on with its first and last value.

    Parameters
    ----------
    voxels
        float32 or float64, contiguous, shape ``(outer, n, inner)``, n at least 4.
    forwards, backwards
        float64, shape ``(3, 4)``: weights of the input, of the earlier output, and of the value beyond the end in
        place of earlier output.
    first
        Where along the axis `out` begins.
    scale
        Factor.
    out
        float32, contiguous, shape ``(outer, m, inner)`` with ``first + m <= n``; added to in place.

    """
    outer, n, inner = voxels.shape
    m = out.shape[1]
    line, ahead, behind = np.empty((n, _LANES)), np.empty((n, _LANES)), np.empty((n, _LANES))
    begin = np.empty(_LANES, np.int64)
    n_lines = outer * inner
    for block in range(0, n_lines, _LANES):
        # The last block repeats the last line: adding must leave the repetitions out.
        lanes = min(_LANES, n_lines - block)
        for k in range(_LANES):
            number = block + min(k, lanes - 1)
            begin[k] = number // inner * n * inner + number % inner
        _gather(voxels.reshape(-1), begin, lanes, inner, line)
        _run_forwards(line, forwards, first + m, ahead)
        _run_backwards(line, backwards, first, behind)
        for k in range(lanes):
            number = block + k
            begin[k] = number // inner * m * inner + number % inner
        _add(ahead[first : first + m], behind[first : first + m], begin[:lanes], inner, scale, out.reshape(-1))


@kernel
def _gather(voxels: NDArray[Any], begin: NDArray[np.int64], lanes: int, stride: int, line: NDArray[np.float64]) -> None:
    """Copy the lines that begin at `begin`, of which the first `lanes` are different ones, side by side."""
    together = lanes == _LANES and begin[-1] - begin[0] == _LANES - 1
    for i in range(line.shape[0]):
        there = line[i]
        if together:
            row = voxels[begin[0] + i * stride : begin[0] + i * stride + _LANES]
            for k in range(_LANES):
                there[k] = row[k]
        else:
            for k in range(_LANES):
                there[k] = voxels[begin[k] + i * stride]


@kernel
def _add(
    ahead: NDArray[np.float64],
    behind: NDArray[np.float64],
    begin: NDArray[np.int64],
    stride: int,
    scale: float,
    out: NDArray[np.float32],
) -> None:
    """Add the sum of both directions to the lines that begin at `begin`."""
    together = begin.size == _LANES and begin[-1] - begin[0] == _LANES - 1
    for i in range(ahead.shape[0]):
        one, other = ahead[i], behind[i]
        if together:
            row = out[begin[0] + i * stride : begin[0] + i * stride + _LANES]
            for k in range(_LANES):
                row[k] = np.float32(np.float64(row[k]) + np.float64(np.float32(one[k] + other[k])) * scale)
        else:
            for k in range(begin.size):
                at = begin[k] + i * stride
                out[at] = np.float32(np.float64(out[at]) + np.float64(np.float32(one[k] + other[k])) * scale)


@kernel
def _run_forwards(line: NDArray[np.float64], weights: NDArray[np.float64], end: int, out: NDArray[np.float64]) -> None:
    """Run along the first axis up to `end`; the newest input is that of the same sample."""
    _begin(line[0], line[1], line[2], line[3], weights, out[0], out[1], out[2], out[3])
    n0, n1, n2, n3 = weights[0]
    d1, d2, d3, d4 = weights[1]
    for i in range(4, end):
        x, y = line[i - 3 : i + 1], out[i - 4 : i + 1]
        for k in range(_LANES):
            value = x[3, k] * n0 + x[2, k] * n1 + x[1, k] * n2 + x[0, k] * n3
            y[4, k] = value - (y[3, k] * d1 + y[2, k] * d2 + y[1, k] * d3 + y[0, k] * d4)


@kernel
def _run_backwards(
    line: NDArray[np.float64], weights: NDArray[np.float64], first: int, out: NDArray[np.float64]
) -> None:
    """Run along the first axis from its end down to `first`; the newest input is that of the sample before."""
    n = line.shape[0]
    _begin(line[n - 1], line[n - 1], line[n - 2], line[n - 3], weights, out[n - 1], out[n - 2], out[n - 3], out[n - 4])
    m1, m2, m3, m4 = weights[0]
    d1, d2, d3, d4 = weights[1]
    for i in range(n - 5, first - 1, -1):
        x, y = line[i + 1 : i + 5], out[i : i + 5]
        for k in range(_LANES):
            value = x[0, k] * m1 + x[1, k] * m2 + x[2, k] * m3 + x[3, k] * m4
            y[0, k] = value - (y[1, k] * d1 + y[2, k] * d2 + y[3, k] * d3 + y[4, k] * d4)


@kernel
def _begin(
    x0: NDArray[np.float64],
    x1: NDArray[np.float64],
    x2: NDArray[np.float64],
    x3: NDArray[np.float64],
    weights: NDArray[np.float64],
    y0: NDArray[np.float64],
    y1: NDArray[np.float64],
    y2: NDArray[np.float64],
    y3: NDArray[np.float64],
) -> None:
    """Compute the first four samples from their newest inputs; before them there is only the first."""
    w0, w1, w2, w3 = weights[0]
    d1, d2, d3, _ = weights[1]
    b1, b2, b3, b4 = weights[2]
    for k in range(_LANES):
        x = x0[k]
        y0[k] = (x * w0 + x * w1 + x * w2 + x * w3) - (x * b1 + x * b2 + x * b3 + x * b4)
        y1[k] = (x1[k] * w0 + x * w1 + x * w2 + x * w3) - (y0[k] * d1 + x * b2 + x * b3 + x * b4)
        y2[k] = (x2[k] * w0 + x1[k] * w1 + x * w2 + x * w3) - (y1[k] * d1 + y0[k] * d2 + x * b3 + x * b4)
        y3[k] = (x3[k] * w0 + x2[k] * w1 + x1[k] * w2 + x * w3) - (y2[k] * d1 + y1[k] * d2 + y0[k] * d3 + x * b4)
