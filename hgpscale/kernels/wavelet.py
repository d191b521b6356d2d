"""One-dimensional convolution in PyWavelets' order of summation.

In flat areas the high-pass bands are rounding errors on both sides of a bin's edge at 0, so no bit may differ.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from hgpscale.kernels.jit import kernel

_BLOCK = 1024
"""Sums kept in the fastest cache while one pair of taps after the other is added."""


@kernel
def convolve(voxels: NDArray[Any], taps: NDArray[Any], position: int, length: int, out: NDArray[Any]) -> None:
    """Convolve along the middle axis of a part of a periodic signal.

    Parameters
    ----------
    voxels
        float32 or float64, contiguous, shape ``(outer, n, inner)``: the part wanted, ``taps.size // 2 - 1`` samples
        before it and ``taps.size // 2`` after it.
    taps
        The filter, in the type of `voxels`, an even number of taps.
    position
        Index in the signal of the first sample wanted; a part may go several times round the signal.
    length
        Samples in one period.
    out
        Type of `voxels`, contiguous, shape ``(outer, n - taps.size + 1, inner)``; overwritten.

    """
    outer, rows, inner = out.shape
    for s in range(outer):
        _inside(voxels[s].reshape(-1), taps, inner, out[s].reshape(-1))
    for row in range(rows):
        overhang = (position + row) % length + taps.size // 2 - length
        if overhang >= 0:
            for s in range(outer):
                _at_end(voxels[s], taps, row, overhang, out[s, row])


@kernel
def _inside(line: NDArray[Any], taps: NDArray[Any], inner: int, out: NDArray[Any]) -> None:
    """Sum from the first tap to the last."""
    for start in range(0, out.size, _BLOCK):
        sums = out[start : start + _BLOCK]
        for tap in range(0, taps.size, 2):
            at = start + (taps.size - 1 - tap) * inner
            later, sooner = line[at : at + sums.size], line[at - inner : at - inner + sums.size]
            if tap == 0:
                for k in range(sums.size):
                    sums[k] = taps[0] * later[k] + taps[1] * sooner[k]
            else:
                for k in range(sums.size):
                    sums[k] = (sums[k] + taps[tap] * later[k]) + taps[tap + 1] * sooner[k]


@kernel
def _at_end(voxels: NDArray[Any], taps: NDArray[Any], row: int, overhang: int, out: NDArray[Any]) -> None:
    """Sum near the signal's end: first the taps beyond it, which PyWavelets takes backwards, then the others."""
    for k in range(out.size):
        total = taps[overhang] * voxels[row + taps.size - 1 - overhang, k]
        for tap in range(overhang - 1, -1, -1):
            total += taps[tap] * voxels[row + taps.size - 1 - tap, k]
        for tap in range(overhang + 1, taps.size):
            total += taps[tap] * voxels[row + taps.size - 1 - tap, k]
        out[k] = total
