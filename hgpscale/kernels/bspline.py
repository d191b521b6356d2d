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

POLE = float(np.sqrt(3.0) - 2.0)
_LANES = 40
"""Lines filtered at a time: enough that one line's recursion hides behind the others', few enough for the cache."""
WHOLE, SINGLE, EXACT = range(3)
"""What happens to samples afterwards: they are cut to whole numbers, rounded to single precision, or nothing."""

HORIZON = 18
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
    # Each pass needs its own axis whole only; cut it to the part before the next pass. NumPy asks for fresh memory in
    # large pages; compiled code gets it in small ones and would take half as long again.
    flat = np.empty((voxels.shape[0], y1 - y0, x1 - x0))
    _filter_slices(np.ascontiguousarray(voxels), y0, x0, flat)
    out = np.empty((z1 - z0, y1 - y0, x1 - x0))
    _filter_through(flat, z0, out)
    return out


@kernel
def _filter_slices(voxels: NDArray[Any], y0: int, x0: int, out: NDArray[np.float64]) -> None:
    """Filter along x and y and keep what `out` holds of them, from `y0` and `x0` on."""
    depth, height, width = voxels.shape
    _, ny, nx = out.shape
    columns, rows = np.empty(width * _LANES), np.empty((height, nx))
    for s in range(depth):
        for block in range(0, height, _LANES):
            lanes = min(_LANES, height - block)
            lines = columns[: width * lanes].reshape(width, lanes)
            _transpose(voxels[s, block : block + lanes], lines)
            _filter(lines)
            _transpose(lines[x0 : x0 + nx], rows[block : block + lanes])
        _filter(rows)
        for r in range(ny):
            _copy(rows[y0 + r], out[s, r])


@kernel
def _filter_through(voxels: NDArray[np.float64], z0: int, out: NDArray[np.float64]) -> None:
    """Filter along z and keep what `out` holds of it, from `z0` on."""
    depth, height, width = voxels.shape
    lines = np.empty((depth, width))
    for r in range(height):
        for s in range(depth):
            _copy(voxels[s, r], lines[s])
        _filter(lines)
        for s in range(out.shape[0]):
            _copy(lines[z0 + s], out[s, r])


@kernel
def _copy(source: NDArray[np.float64], target: NDArray[np.float64]) -> None:
    # Faster than assigning to a slice.
    for k in range(target.size):
        target[k] = source[k]


@kernel
def _transpose(source: NDArray[Any], target: NDArray[np.float64]) -> None:
    # Unsigned indices, as signed ones are tested for being negative.
    for i in range(np.uint64(target.shape[0])):
        for k in range(np.uint64(target.shape[1])):
            target[i, k] = source[k, i]


@kernel
def _filter(lines: NDArray[np.float64]) -> None:
    """Filter in place along the first axis; a single sample stays as it is."""
    n = lines.shape[0]
    if n == 1:
        return
    pole = POLE
    gain = (1.0 - pole) * (1.0 - 1.0 / pole)
    first, last = lines[0], lines[n - 1]
    for k in range(first.size):
        first[k] *= gain
    power = pole
    if n > HORIZON:
        for i in range(1, HORIZON):
            line = lines[i]
            for k in range(first.size):
                first[k] += power * (gain * line[k])
            power *= pole
    else:
        # Short lines: the sum over the whole mirrored line.
        back = far_end(n)
        for k in range(first.size):
            first[k] += back * (gain * last[k])
        back *= back * (1.0 / pole)
        for i in range(1, n - 1):
            line = lines[i]
            for k in range(first.size):
                first[k] += (power + back) * (gain * line[k])
            power *= pole
            back *= 1.0 / pole
        for k in range(first.size):
            first[k] /= 1.0 - power * power
    for i in range(1, n):
        before, line = lines[i - 1], lines[i]
        for k in range(line.size):
            line[k] = gain * line[k] + pole * before[k]
    before = lines[n - 2]
    for k in range(last.size):
        last[k] = pole / (pole * pole - 1.0) * (pole * before[k] + last[k])
    for i in range(n - 2, -1, -1):
        line, after = lines[i], lines[i + 1]
        for k in range(line.size):
            line[k] = pole * (after[k] - line[k])


@kernel
def far_end(n: int) -> float:
    """Return the pole's power between the ends of a line of `n` samples: another library's has other bits."""
    return POLE ** float(n - 1)


@kernel
def _taps(index: float, size: int, start: int, support: NDArray[np.int64], weights: NDArray[np.float64]) -> None:
    """Fill in which four coefficients, mirrored at the borders, a continuous index takes, and their weights.

    The first coefficient held is that of `start`.
    """
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
        support[k] = (0 if size == 1 else at) - start


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
def taps_along(index: NDArray[np.float64], size: int, start: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the taps of every index, shape ``(n, 4)``; those outside of the image have weight 0."""
    support, weights = np.zeros((index.size, 4), np.int64), np.zeros((index.size, 4))
    for c in range(index.size):
        if -0.5 <= index[c] < size - 0.5:
            _taps(index[c], size, start, support[c], weights[c])
    return support, weights


def interpolate_box(
    coefficients: NDArray[np.float64],
    start: tuple[int, int, int],
    size: tuple[int, int, int],
    z: NDArray[np.float64],
    y: NDArray[np.float64],
    x: NDArray[np.float64],
    rounding: int,
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
    rounding
        `WHOLE`, `SINGLE` or `EXACT`. With the first two one axis is done after the other, ten times as fast, and only
        samples so close to where they round otherwise that the order of sums could show are summed again in ITK's.

    Returns
    -------
    ndarray
        float64, shape ``(len(z), len(y), len(x))``; 0 where an index lies outside the image.

    """
    # The order of 64 terms with weights that add up to 1 changes their sum by 1e-14 of the largest at most.
    slack = 1e-12 * float(max(coefficients.max(), -coefficients.min()))
    out = np.zeros((z.size, y.size, x.size))
    _interpolate_box(coefficients, start, size, (z, y, x), rounding, slack, out)
    return out


@kernel
def _interpolate_box(
    coefficients: NDArray[np.float64],
    start: tuple[int, int, int],
    size: tuple[int, int, int],
    index: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]],
    rounding: int,
    slack: float,
    out: NDArray[np.float64],
) -> None:
    sz, wz = taps_along(index[0], size[0], start[0])
    sy, wy = taps_along(index[1], size[1], start[1])
    sx, wx = taps_along(index[2], size[2], start[2])
    if rounding != EXACT:
        _separately(coefficients, (sz, sy, sx), (wz, wy, wx), out)
    nz, ny, nx = out.shape
    for a in range(nz):
        for b in range(ny):
            for c in range(nx):
                value = out[a, b, c]
                if rounding == WHOLE:
                    shows = abs(value - np.rint(value)) <= slack
                else:
                    shows = rounding == EXACT or np.float32(value - slack) != np.float32(value + slack)
                if shows:
                    out[a, b, c] = _sample(coefficients, sz[a], sy[b], sx[c], wz[a], wy[b], wx[c])


_Taps = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
_Weights = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


@kernel
def _separately(coefficients: NDArray[np.float64], taps: _Taps, weights: _Weights, out: NDArray[np.float64]) -> None:
    """Interpolate along x, then y, then z: the same sum up to rounding."""
    depth, height, _ = coefficients.shape
    nz, ny, nx = out.shape
    (sz, sy, sx), (wz, wy, wx) = taps, weights
    along_x = np.empty((height, nx))
    along_y = np.empty((depth, ny, nx))
    for s in range(depth):
        for r in range(height):
            row, there = coefficients[s, r], along_x[r]
            for c in range(nx):
                at, w = sx[c], wx[c]
                there[c] = row[at[0]] * w[0] + row[at[1]] * w[1] + row[at[2]] * w[2] + row[at[3]] * w[3]
        for b in range(ny):
            i, j, k, m = sy[b]
            w1, w2, w3, w4 = wy[b]
            one, two, three, four, there = along_x[i], along_x[j], along_x[k], along_x[m], along_y[s, b]
            for c in range(there.size):
                there[c] = one[c] * w1 + two[c] * w2 + three[c] * w3 + four[c] * w4
    for a in range(nz):
        i, j, k, m = sz[a]
        w1, w2, w3, w4 = wz[a]
        for b in range(ny):
            one, two, three, four, there = along_y[i, b], along_y[j, b], along_y[k, b], along_y[m, b], out[a, b]
            for c in range(there.size):
                there[c] = one[c] * w1 + two[c] * w2 + three[c] * w3 + four[c] * w4


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
            _taps(points[p, axis], size[axis], start[axis], support[axis], weights[axis])
        out[p] = _sample(coefficients, support[0], support[1], support[2], weights[0], weights[1], weights[2])
    return out
