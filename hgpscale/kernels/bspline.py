"""Cubic B-spline interpolation in ITK's own order of operations, so that an integer image truncates to ITK's bits.

Formulas: Unser, IEEE Signal Processing Magazine 16(6), 1999; the order of the operations was taken from what
``itk::BSplineInterpolateImageFunction`` computes. Nothing here may be reassociated: where a sample is a whole
number, the last bit decides which way it truncates.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hgpscale.kernels.jit import kernel

MARGIN = 40
"""Voxels around a box after which what lies beyond changes no bit of the coefficients inside: |pole|^40 < 2^-75."""

Range = tuple[int, int]

_POLE = float(np.sqrt(3.0) - 2.0)
_LANES = 32
"""Lines filtered at a time: enough that one line's recursion hides behind the others', few enough for the cache."""
_HORIZON = 18
"""Terms until the powers of the pole fall below ITK's tolerance of 1e-10."""


def spline_coefficients(voxels: NDArray[Any], needed: tuple[Range, Range, Range]) -> NDArray[np.float64]:
    """Return the B-spline coefficients of a part of `voxels`.

    Parameters
    ----------
    voxels
        Any numeric type, shape ``(z, y, x)``: the part with a margin of `MARGIN` voxels, or up to the image's border.
    needed
        Range of indices ``(first, end)`` of the part along z, y, x.

    Returns
    -------
    ndarray
        float64, the shape of the part. An axis of one voxel is left as it is.

    """
    (z0, z1), (y0, y1), (x0, x1) = needed
    # Each pass needs its own axis whole only; cut it to the part before the next pass.
    work = _filter_rows(np.ascontiguousarray(voxels), x0, x1)
    work = _filter_columns(work, y0, y1)
    depth, height, width = work.shape
    through = _filter_columns(work.reshape(1, depth, height * width), z0, z1)
    return through.reshape(z1 - z0, height, width)


@kernel
def _filter_rows(voxels: NDArray[Any], first: int, end: int) -> NDArray[np.float64]:
    """Filter along the last axis and keep the range `first` to `end` of it."""
    depth, height, width = voxels.shape
    out = np.empty((depth, height, end - first))
    lines = np.zeros((width, _LANES))
    for s in range(depth):
        for block in range(0, height, _LANES):
            lanes = min(_LANES, height - block)
            for k in range(lanes):
                for i in range(width):
                    lines[i, k] = voxels[s, block + k, i]
            _filter(lines)
            for k in range(lanes):
                for i in range(first, end):
                    out[s, block + k, i - first] = lines[i, k]
    return out


@kernel
def _filter_columns(voxels: NDArray[np.float64], first: int, end: int) -> NDArray[np.float64]:
    """Filter along the middle axis and keep the range `first` to `end` of it."""
    depth, height, width = voxels.shape
    out = np.empty((depth, end - first, width))
    lines = np.zeros((height, _LANES))
    for s in range(depth):
        for block in range(0, width, _LANES):
            lanes = min(_LANES, width - block)
            for i in range(height):
                for k in range(lanes):
                    lines[i, k] = voxels[s, i, block + k]
            _filter(lines)
            for i in range(first, end):
                for k in range(lanes):
                    out[s, i - first, block + k] = lines[i, k]
    return out


@kernel
def _filter(lines: NDArray[np.float64]) -> None:
    """Filter in place along the first axis; a single sample stays as it is."""
    n, width = lines.shape
    if n == 1:
        return
    pole = _POLE
    gain = (1.0 - pole) * (1.0 - 1.0 / pole)
    for i in range(n):
        for k in range(width):
            lines[i, k] *= gain
    first = lines[0].copy()
    power = pole
    if n > _HORIZON:
        for i in range(1, _HORIZON):
            for k in range(width):
                first[k] += power * lines[i, k]
            power *= pole
    else:
        # Short lines: the sum over the whole mirrored line.
        back = pole ** float(n - 1)
        for k in range(width):
            first[k] += back * lines[n - 1, k]
        back *= back * (1.0 / pole)
        for i in range(1, n - 1):
            for k in range(width):
                first[k] += (power + back) * lines[i, k]
            power *= pole
            back *= 1.0 / pole
        for k in range(width):
            first[k] /= 1.0 - power * power
    lines[0] = first
    for i in range(1, n):
        for k in range(width):
            lines[i, k] += pole * lines[i - 1, k]
    last = pole / (pole * pole - 1.0)
    for k in range(width):
        lines[n - 1, k] = last * (pole * lines[n - 2, k] + lines[n - 1, k])
    for i in range(n - 2, -1, -1):
        for k in range(width):
            lines[i, k] = pole * (lines[i + 1, k] - lines[i, k])


@kernel
def _taps(index: float, size: int, support: NDArray[np.int64], weights: NDArray[np.float64]) -> None:
    """Fill in the four coefficients, mirrored at the borders, and weights that a continuous index takes."""
    # ITK looks for the support with the index rounded to single precision.
    lowest = int(np.floor(np.float32(index))) - 1
    w = index - np.float64(lowest + 1)
    weights[3] = (1.0 / 6.0) * w * w * w
    weights[0] = (1.0 / 6.0) + 0.5 * w * (w - 1.0) - weights[3]
    weights[2] = w + weights[0] - 2.0 * weights[3]
    weights[1] = 1.0 - weights[0] - weights[2] - weights[3]
    for k in range(4):
        at = lowest + k
        # An axis of two voxels can need both mirrors.
        if at < 0:
            at = -at
        if at > size - 1:
            at = abs(2 * (size - 1) - at)
        support[k] = 0 if size == 1 else at


@kernel
def _sample(
    coefficients: NDArray[np.float64],
    z: NDArray[np.int64],
    y: NDArray[np.int64],
    x: NDArray[np.int64],
    wz: NDArray[np.float64],
    wy: NDArray[np.float64],
    wx: NDArray[np.float64],
) -> float:
    """Return one sample from its 64 terms, in ITK's order."""
    value = 0.0
    for i in range(4):
        for j in range(4):
            row = coefficients[z[i], y[j]]
            for k in range(4):
                value += row[x[k]] * (wx[k] * wy[j] * wz[i])
    return value


@kernel
def _taps_along(index: NDArray[np.float64], size: int, start: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the taps of every index, shape ``(n, 4)``; those outside of the image have weight 0."""
    support, weights = np.zeros((index.size, 4), np.int64), np.zeros((index.size, 4))
    for c in range(index.size):
        if -0.5 <= index[c] < size - 0.5:
            _taps(index[c], size, support[c], weights[c])
            support[c] -= start
    return support, weights


@kernel
def interpolate_box(
    coefficients: NDArray[np.float64],
    start: tuple[int, int, int],
    size: tuple[int, int, int],
    z: NDArray[np.float64],
    y: NDArray[np.float64],
    x: NDArray[np.float64],
    truncated: bool,
) -> NDArray[np.float64]:
    """Interpolate on a grid that is parallel to the image's.

    Parameters
    ----------
    coefficients
        float64, shape ``(nz, ny, nx)``, of the part that starts at index `start` of an image of `size` voxels.
    start, size
        ``(z, y, x)``.
    z, y, x
        Continuous indices of the whole image along each axis, float64.
    truncated
        Whether the samples will be cut to whole numbers. Then one axis is done after the other, ten times as fast,
        and only samples next to a whole number, where rounding could show, are summed again in ITK's order.

    Returns
    -------
    ndarray
        float64, shape ``(len(z), len(y), len(x))``; 0 where an index lies outside the image.

    """
    sz, wz = _taps_along(z, size[0], start[0])
    sy, wy = _taps_along(y, size[1], start[1])
    sx, wx = _taps_along(x, size[2], start[2])
    out = np.zeros((z.size, y.size, x.size))
    if truncated:
        _separately(coefficients, (sz, sy, sx), (wz, wy, wx), out)
    for a in range(z.size):
        for b in range(y.size):
            for c in range(x.size):
                value = out[a, b, c]
                if not truncated or abs(value - np.rint(value)) < 1e-7 + 1e-12 * abs(value):
                    out[a, b, c] = _sample(coefficients, sz[a], sy[b], sx[c], wz[a], wy[b], wx[c])
    return out


_Taps = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
_Weights = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


@kernel
def _separately(coefficients: NDArray[np.float64], taps: _Taps, weights: _Weights, out: NDArray[np.float64]) -> None:
    """Interpolate along x, then y, then z: the same sum up to rounding."""
    depth, height, _ = coefficients.shape
    nz, ny, nx = out.shape
    along_x = np.zeros((height, nx))
    along_y = np.zeros((depth, ny, nx))
    for s in range(depth):
        for r in range(height):
            for c in range(nx):
                value = 0.0
                for k in range(4):
                    value += coefficients[s, r, taps[2][c, k]] * weights[2][c, k]
                along_x[r, c] = value
        for b in range(ny):
            for j in range(4):
                for c in range(nx):
                    along_y[s, b, c] += along_x[taps[1][b, j], c] * weights[1][b, j]
    for a in range(nz):
        for i in range(4):
            for b in range(ny):
                for c in range(nx):
                    out[a, b, c] += along_y[taps[0][a, i], b, c] * weights[0][a, i]


@kernel
def interpolate_points(
    coefficients: NDArray[np.float64],
    start: tuple[int, int, int],
    size: tuple[int, int, int],
    points: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Interpolate at any points: `points` holds continuous indices ``(z, y, x)``, float64, shape ``(n, 3)``."""
    out = np.zeros(points.shape[0])
    support, weights = np.empty((3, 4), np.int64), np.empty((3, 4))
    for p in range(points.shape[0]):
        inside = True
        for axis in range(3):
            inside = inside and -0.5 <= points[p, axis] < size[axis] - 0.5
        if not inside:
            continue
        for axis in range(3):
            _taps(points[p, axis], size[axis], support[axis], weights[axis])
        for axis in range(3):
            support[axis] -= start[axis]
        out[p] = _sample(coefficients, support[0], support[1], support[2], weights[0], weights[1], weights[2])
    return out
