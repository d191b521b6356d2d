"""Cubic B-spline interpolation in ITK's own order of operations, so that an integer image truncates to ITK's bits.

Formulas: Unser, IEEE Signal Processing Magazine 16(6), 1999; the order of the operations was taken from what
``itk::BSplineInterpolateImageFunction`` computes. Nothing here may be reassociated: where a sample is a whole
number, the last bit decides which way it truncates.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hgpscale.kernels.jit import kernel

MARGIN = 40
"""Voxels around a box after which what lies beyond changes no bit of the coefficients inside: |pole|^40 < 2^-75."""

Range = tuple[int, int]

_POLE = float(np.sqrt(3.0) - 2.0)
_HORIZON = 18
"""Terms until the powers of the pole fall below ITK's tolerance of 1e-10."""


def spline_coefficients(voxels: NDArray[np.float64], needed: tuple[Range, Range, Range]) -> NDArray[np.float64]:
    """Return the B-spline coefficients of a part of `voxels`.

    Parameters
    ----------
    voxels
        float64, shape ``(z, y, x)``: the part with a margin of `MARGIN` voxels, or up to the image's border.
    needed
        Range of indices ``(first, end)`` of the part along z, y, x.

    Returns
    -------
    ndarray
        float64, the shape of the part. An axis of one voxel is left as it is.

    """
    (z0, z1), (y0, y1), (x0, x1) = needed
    work = voxels
    # Each pass needs its own axis whole only; cut it to the part before the next pass.
    if work.shape[2] > 1:
        work = np.ascontiguousarray(_filter_middle(np.ascontiguousarray(work.transpose(0, 2, 1)))[:, x0:x1])
        work = np.ascontiguousarray(work.transpose(0, 2, 1))
    else:
        work = np.ascontiguousarray(work[:, :, x0:x1])
    work = _filter_middle(work)[:, y0:y1] if work.shape[1] > 1 else work[:, y0:y1]
    depth, height, width = work.shape
    if depth > 1:
        flat = np.ascontiguousarray(work).reshape(1, depth, height * width)
        work = _filter_middle(flat)[0].reshape(depth, height, width)
    return np.ascontiguousarray(work[z0:z1])


@kernel
def _filter_middle(voxels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Filter along the middle axis, many lines at a time."""
    n_slice, n, width = voxels.shape
    pole = _POLE
    gain = (1.0 - pole) * (1.0 - 1.0 / pole)
    out = np.empty_like(voxels)
    for s in range(n_slice):
        for i in range(n):
            for k in range(width):
                out[s, i, k] = voxels[s, i, k] * gain
        first = out[s, 0].copy()
        if n > _HORIZON:
            power = pole
            for i in range(1, _HORIZON):
                for k in range(width):
                    first[k] += power * out[s, i, k]
                power *= pole
        else:
            # Short lines: the sum over the whole mirrored line.
            power = pole
            back = pole ** float(n - 1)
            for k in range(width):
                first[k] += back * out[s, n - 1, k]
            back *= back * (1.0 / pole)
            for i in range(1, n - 1):
                for k in range(width):
                    first[k] += (power + back) * out[s, i, k]
                power *= pole
                back *= 1.0 / pole
            for k in range(width):
                first[k] /= 1.0 - power * power
        for k in range(width):
            out[s, 0, k] = first[k]
        for i in range(1, n):
            for k in range(width):
                out[s, i, k] += pole * out[s, i - 1, k]
        last = pole / (pole * pole - 1.0)
        for k in range(width):
            out[s, n - 1, k] = last * (pole * out[s, n - 2, k] + out[s, n - 1, k])
        for i in range(n - 2, -1, -1):
            for k in range(width):
                out[s, i, k] = pole * (out[s, i + 1, k] - out[s, i, k])
    return out


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
def interpolate_box(
    coefficients: NDArray[np.float64],
    start: tuple[int, int, int],
    size: tuple[int, int, int],
    z: NDArray[np.float64],
    y: NDArray[np.float64],
    x: NDArray[np.float64],
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

    Returns
    -------
    ndarray
        float64, shape ``(len(z), len(y), len(x))``; 0 where an index lies outside the image.

    """
    out = np.zeros((z.size, y.size, x.size))
    sz, sy, sx = np.empty(4, np.int64), np.empty(4, np.int64), np.empty((x.size, 4), np.int64)
    wz, wy, wx = np.empty(4), np.empty(4), np.empty((x.size, 4))
    for c in range(x.size):
        if -0.5 <= x[c] < size[2] - 0.5:
            _taps(x[c], size[2], sx[c], wx[c])
    for a in range(z.size):
        if not -0.5 <= z[a] < size[0] - 0.5:
            continue
        _taps(z[a], size[0], sz, wz)
        for b in range(y.size):
            if not -0.5 <= y[b] < size[1] - 0.5:
                continue
            _taps(y[b], size[1], sy, wy)
            for c in range(x.size):
                if not -0.5 <= x[c] < size[2] - 0.5:
                    continue
                value = 0.0
                for i in range(4):
                    for j in range(4):
                        row = coefficients[sz[i] - start[0], sy[j] - start[1]]
                        for k in range(4):
                            value += row[sx[c, k] - start[2]] * (wx[c, k] * wy[j] * wz[i])
                out[a, b, c] = value
    return out


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
        value = 0.0
        for i in range(4):
            for j in range(4):
                row = coefficients[support[0, i] - start[0], support[1, j] - start[1]]
                for k in range(4):
                    value += row[support[2, k] - start[2]] * (weights[2, k] * weights[1, j] * weights[0, i])
        out[p] = value
    return out
