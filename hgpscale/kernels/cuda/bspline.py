"""Cubic B-spline interpolation in ITK's own order of operations: a thread a line, then a thread a sample."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import cuda
from numpy.typing import NDArray

from hgpscale.kernels.bspline import HORIZON, POLE, Range, far_end, taps_along
from hgpscale.kernels.cuda.jit import device, kernel, launch, product
from hgpscale.kernels.cuda.memory import empty, put

_GAIN = (1.0 - POLE) * (1.0 - 1.0 / POLE)
_LAST = POLE / (POLE * POLE - 1.0)
_INVERSE = 1.0 / POLE


def spline_coefficients(voxels: NDArray[Any], needed: tuple[Range, Range, Range]) -> Any:
    """Return coefficients, on the GPU, of a part of `voxels`: `hgpscale.kernels.bspline.spline_coefficients`."""
    part = put(voxels)
    for axis in (2, 1, 0):
        part = _filtered(part, axis, needed[axis])
    return part


def _filtered(voxels: Any, axis: int, needed: Range) -> Any:
    """Filter along one axis and cut it to the part that is needed."""
    shape = list(voxels.shape)
    n, before, after = shape[axis], math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    shape[axis] = needed[1] - needed[0]
    out = empty((before, shape[axis], after), np.float64)
    # Lines side by side: threads that run together write to addresses that lie together.
    ahead = empty((n, before * after), np.float64)
    launch(_filter, before * after, voxels.reshape(before, n, after), far_end(n), needed[0], ahead, out)
    return out.reshape(*shape)


def interpolate_box(
    coefficients: Any,
    start: tuple[int, int, int],
    size: tuple[int, int, int],
    z: NDArray[np.float64],
    y: NDArray[np.float64],
    x: NDArray[np.float64],
    rounding: int,
) -> NDArray[np.float64]:
    """Interpolate on a grid that is parallel to the image's: `hgpscale.kernels.bspline.interpolate_box`.

    `coefficients` are on the GPU, samples on the host. Sums are in ITK's order whatever `rounding` is.
    """
    taps = [taps_along(*along) for along in zip((z, y, x), size, start, strict=True)]
    there = [put(array) for pair in zip(*taps, strict=True) for array in pair]
    out = empty((z.size, y.size, x.size), np.float64)
    launch(_interpolate, out.size, coefficients, *there, out)
    return np.asarray(out.copy_to_host())


@kernel
def _filter(
    voxels: NDArray[Any], back: float, first: int, ahead: NDArray[np.float64], out: NDArray[np.float64]
) -> None:
    line = cuda.grid(1)
    if line >= ahead.shape[1]:
        return
    inner = voxels.shape[2]
    s, r = line // inner, line % inner
    if ahead.shape[0] == 1:
        out[s, 0, r] = voxels[s, 0, r]
    else:
        _run_forwards(voxels, s, r, line, back, ahead)
        _run_backwards(s, r, line, first, ahead, out)


@device
def _run_forwards(voxels: NDArray[Any], s: int, r: int, line: int, back: float, ahead: NDArray[np.float64]) -> None:
    n = ahead.shape[0]
    value = _begin(voxels, s, r, n, back)
    ahead[0, line] = value
    for i in range(1, n):
        value = product(_GAIN, voxels[s, i, r]) + product(POLE, value)
        ahead[i, line] = value


@device
def _begin(voxels: NDArray[Any], s: int, r: int, n: int, back: float) -> float:
    """Return the first sample's value; `back` is the pole's power between the line's ends."""
    first = product(voxels[s, 0, r], _GAIN)
    power = POLE
    if n > HORIZON:
        for i in range(1, HORIZON):
            first += product(power, product(_GAIN, voxels[s, i, r]))
            power = product(power, POLE)
        return first
    # Short lines: the sum over the whole mirrored line.
    first += product(back, product(_GAIN, voxels[s, n - 1, r]))
    back = product(back, product(back, _INVERSE))
    for i in range(1, n - 1):
        first += product(power + back, product(_GAIN, voxels[s, i, r]))
        power = product(power, POLE)
        back = product(back, _INVERSE)
    return first / (1.0 - product(power, power))


@device
def _run_backwards(s: int, r: int, line: int, first: int, ahead: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    """Run from the end down to the first sample wanted and write what is wanted."""
    n, end = ahead.shape[0], first + out.shape[1]
    value = product(_LAST, product(POLE, ahead[n - 2, line]) + ahead[n - 1, line])
    if n - 1 < end:
        out[s, n - 1 - first, r] = value
    for i in range(n - 2, first - 1, -1):
        value = product(POLE, value - ahead[i, line])
        if i < end:
            out[s, i - first, r] = value


@kernel
def _interpolate(
    coefficients: NDArray[np.float64],
    z: NDArray[np.int64],
    y: NDArray[np.int64],
    x: NDArray[np.int64],
    wz: NDArray[np.float64],
    wy: NDArray[np.float64],
    wx: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    thread = cuda.grid(1)
    if thread >= out.size:
        return
    ny, nx = out.shape[1], out.shape[2]
    a, b, c = thread // nx // ny, thread // nx % ny, thread % nx
    value = 0.0
    for i in range(4):
        for j in range(4):
            for k in range(4):
                weight = product(product(wx[c, k], wy[b, j]), wz[a, i])
                value += product(coefficients[z[a, i], y[b, j], x[c, k]], weight)
    out[a, b, c] = value
