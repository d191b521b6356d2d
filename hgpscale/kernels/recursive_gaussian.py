"""Recursive Gaussian filter along one axis, in the order of operations of ``itk::RecursiveSeparableImageFilter``.

The recursion is Deriche's (INRIA research report 1893, 1993): the sum of a pass forwards and a pass backwards, each
with four terms of the input and four of its own output.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hgpscale.kernels.jit import kernel

_LANES = 64
"""Lines filtered at a time: enough that one line's recursion hides behind the others', few enough for the cache."""

_1, _2, _3, _4 = _LANES, 2 * _LANES, 3 * _LANES, 4 * _LANES
"""From a sample to those after it on the same line."""


@kernel
def filter_lines(
    voxels: NDArray[Any],
    forwards: NDArray[np.float64],
    backwards: NDArray[np.float64],
    first: int,
    out: NDArray[np.float32],
) -> None:
    """Filter along the middle axis and keep a part of the result, rounded to float32, in `out`.

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
    out
        float32, contiguous, shape ``(outer, m, inner)`` with ``first + m <= n``; overwritten.

    """
    outer, n, inner = voxels.shape
    m = out.shape[1]
    line, ahead, behind = np.empty((n, _LANES)), np.empty((n, _LANES)), np.empty((n, _LANES))
    begin = np.empty(_LANES, np.uint64)
    n_lines = outer * inner
    for block in range(0, n_lines, _LANES):
        together = block % inner + _LANES <= inner
        _find_lines(block, n_lines, n, inner, begin)
        _gather(voxels.reshape(-1), begin, together, inner, line)
        _run_forwards(line, forwards, first + m, ahead)
        _run_backwards(line, backwards, first, behind)
        _find_lines(block, n_lines, m, inner, begin)
        _write(ahead[first : first + m], behind[first : first + m], begin, together, inner, out.reshape(-1))


@kernel
def add_scaled(addend: NDArray[np.float32], scale: float, total: NDArray[np.float32]) -> None:
    """Add `scale` times an image, rounded once, to `total`: float32, contiguous, of one shape."""
    one, there = addend.reshape(-1), total.reshape(-1)
    for k in range(there.size):
        there[k] = np.float32(np.float64(there[k]) + np.float64(one[k]) * scale)


@kernel
def _find_lines(block: int, n_lines: int, n: int, inner: int, begin: NDArray[np.uint64]) -> None:
    """Fill in where the lines from number `block` on begin in an array of shape ``(outer, n, inner)``.

    Where there are too few, the last one is repeated.
    """
    s, r = block // inner, block % inner
    for k in range(_LANES):
        begin[k] = s * n * inner + r
        if block + k < n_lines - 1:
            r += 1
            if r == inner:
                s, r = s + 1, 0


# The next two functions loop over the size of a row: loops over `_LANES`, as short as theirs, are unrolled before the
# compiler gets to use vectors. Indices are unsigned, as signed ones are tested for being negative.


@kernel
def _gather(
    voxels: NDArray[Any], begin: NDArray[np.uint64], together: bool, stride: int, line: NDArray[np.float64]
) -> None:
    """Copy the lines that begin at `begin`, `together` or not, side by side."""
    for i in range(line.shape[0]):
        there, here = line[i], voxels[i * stride :]
        if together:
            row = here[begin[0] : begin[0] + _LANES]
            for k in range(there.size):
                there[k] = row[k]
        else:
            for k in range(there.size):
                there[k] = here[begin[k]]


@kernel
def _write(
    ahead: NDArray[np.float64],
    behind: NDArray[np.float64],
    begin: NDArray[np.uint64],
    together: bool,
    stride: int,
    out: NDArray[np.float32],
) -> None:
    """Write the sum of both directions to the lines that begin at `begin`, `together` or not."""
    for i in range(ahead.shape[0]):
        one, other, there = ahead[i], behind[i], out[i * stride :]
        if together:
            row = there[begin[0] : begin[0] + _LANES]
            for k in range(one.size):
                row[k] = np.float32(one[k] + other[k])
        else:
            for k in range(one.size):
                there[begin[k]] = np.float32(one[k] + other[k])


@kernel
def _run_forwards(line: NDArray[np.float64], weights: NDArray[np.float64], end: int, out: NDArray[np.float64]) -> None:
    """Run along the first axis up to `end`; the newest input is that of the same sample."""
    _begin(line[0], line[1], line[2], line[3], weights, out[0], out[1], out[2], out[3])
    n0, n1, n2, n3 = weights[0]
    d1, d2, d3, d4 = weights[1]
    flat_line, flat_out = line.reshape(-1), out.reshape(-1)
    for i in range(4, end):
        x, y = flat_line[(i - 3) * _LANES : (i + 1) * _LANES], flat_out[(i - 4) * _LANES : (i + 1) * _LANES]
        for k in range(_LANES):
            value = x[_3 + k] * n0 + x[_2 + k] * n1 + x[_1 + k] * n2 + x[k] * n3
            y[_4 + k] = value - (y[_3 + k] * d1 + y[_2 + k] * d2 + y[_1 + k] * d3 + y[k] * d4)


@kernel
def _run_backwards(
    line: NDArray[np.float64], weights: NDArray[np.float64], first: int, out: NDArray[np.float64]
) -> None:
    """Run along the first axis from its end down to `first`; the newest input is that of the sample before."""
    n = line.shape[0]
    _begin(line[n - 1], line[n - 1], line[n - 2], line[n - 3], weights, out[n - 1], out[n - 2], out[n - 3], out[n - 4])
    m1, m2, m3, m4 = weights[0]
    d1, d2, d3, d4 = weights[1]
    flat_line, flat_out = line.reshape(-1), out.reshape(-1)
    for i in range(n - 5, first - 1, -1):
        x, y = flat_line[(i + 1) * _LANES : (i + 5) * _LANES], flat_out[i * _LANES : (i + 5) * _LANES]
        for k in range(_LANES):
            value = x[k] * m1 + x[_1 + k] * m2 + x[_2 + k] * m3 + x[_3 + k] * m4
            y[k] = value - (y[_1 + k] * d1 + y[_2 + k] * d2 + y[_3 + k] * d3 + y[_4 + k] * d4)


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
