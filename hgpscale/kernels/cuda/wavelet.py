"""One-dimensional convolution in PyWavelets' order of summation: each thread adds up one sample."""

from __future__ import annotations

from typing import Any

from numba import cuda
from numpy.typing import NDArray

from hgpscale.kernels.cuda.jit import kernel, launch, product
from hgpscale.kernels.cuda.memory import empty


def convolve(voxels: Any, taps: Any, position: int, length: int, out: Any) -> None:
    """Convolve along the middle axis: `hgpscale.kernels.wavelet.convolve` of arrays that are on the GPU."""
    launch(_convolve, out.size, voxels, taps, position, length, out)


def cut(voxels: Any, part: tuple[slice, slice, slice]) -> Any:
    """Copy a part of an array that is on the GPU; numba takes longer to make a view, as it lists all rows of one."""
    z, y, x = part
    out = empty((z.stop - z.start, y.stop - y.start, x.stop - x.start), voxels.dtype)
    launch(_cut, out.size, voxels, z.start, y.start, x.start, out)
    return out


@kernel
def _convolve(voxels: NDArray[Any], taps: NDArray[Any], position: int, length: int, out: NDArray[Any]) -> None:
    thread = cuda.grid(1)
    if thread >= out.size:
        return
    rows, inner = out.shape[1], out.shape[2]
    s, row, k = thread // inner // rows, thread // inner % rows, thread % inner
    last = row + taps.size - 1
    # Taps beyond the signal's end come first, backwards, then the others; elsewhere all are others.
    begin = max((position + row) % length + taps.size // 2 - length, 0)
    rounded = out.dtype.type
    total = rounded(product(taps[begin], voxels[s, last - begin, k]))
    for tap in range(begin - 1, -1, -1):
        total += rounded(product(taps[tap], voxels[s, last - tap, k]))
    for tap in range(begin + 1, taps.size):
        total += rounded(product(taps[tap], voxels[s, last - tap, k]))
    out[s, row, k] = total


@kernel
def _cut(voxels: NDArray[Any], z: int, y: int, x: int, out: NDArray[Any]) -> None:
    thread = cuda.grid(1)
    if thread < out.size:
        ny, nx = out.shape[1], out.shape[2]
        a, b, c = thread // nx // ny, thread // nx % ny, thread % nx
        out[a, b, c] = voxels[z + a, y + b, x + c]
