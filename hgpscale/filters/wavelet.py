"""Wavelet: stationary wavelet transform, each level on the approximation before it, as pyradiomics calls PyWavelets.

The image is periodic; an axis of odd length gets its first sample appended. Every level takes the same filters
(``pywt.swtn`` with ``level=1``), which is not the "a trous" scheme. Results have PyWavelets' bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hgpscale.filters.source import Reach, Source, box_in
from hgpscale.kernels.target import CPU, Target
from hgpscale.volume import Index, Vector

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hgpscale.settings import Settings


class _Part(NamedTuple):
    """Part of the periodic image: voxels, the index of the first, a period's length on each axis; where voxels are."""

    voxels: NDArray[Any]
    first: list[int]
    period: list[int]
    on: Target


def reach(spacing: Vector, settings: Settings) -> Reach:
    """Return half a filter a level, on the axes that are filtered."""
    import pywt

    half = pywt.Wavelet(settings.wavelet).dec_len // 2
    margin = half * (settings.start_level + settings.level)
    z, y, x = (margin if axis in _axes(settings) else 0 for axis in range(3))
    return Reach((z, y, x), wraps=True)


def derive(source: Source, settings: Settings, on: Target = CPU) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the details of each level, then the last approximation: float32 if the image is float32, else float64."""
    part = _periodic(source, reach(source.spacing, settings).margin, on)
    filters = _filters(settings, part.voxels.dtype, on)
    axes = _axes(settings)
    approximation = "L" * len(axes)
    for _ in range(settings.start_level):
        part = _band(part, axes, approximation, filters)
    for level in range(1, settings.level + 1):
        prefix = "wavelet" if level == 1 else f"wavelet{level}"
        for name, band in _bands(part, axes, filters):
            if name == approximation:
                part = band
            else:
                yield f"{prefix}-{name}", _wanted(band, source)
    yield f"{prefix}-{approximation}", _wanted(part, source)


def _axes(settings: Settings) -> tuple[int, ...]:
    """Return the filtered axes in the order of the letters: x, y, z."""
    return tuple(axis for axis in (2, 1, 0) if not (settings.force2D and axis == settings.force2Ddimension))


def _filters(settings: Settings, dtype: np.dtype[Any], on: Target) -> dict[str, NDArray[Any]]:
    """Return the low-pass and the high-pass filter.

    Read off as the answer to an impulse: PyWavelets' single precision taps are not its double ones rounded.
    """
    import pywt

    n = pywt.Wavelet(settings.wavelet).dec_len
    impulse = np.zeros(2 * n, dtype)
    impulse[n] = 1
    low, high = pywt.swt(impulse, settings.wavelet, level=1)[0]
    taps = slice(n // 2, n // 2 + n)
    return {"L": on.put(low[taps], dtype), "H": on.put(high[taps], dtype)}


def _periodic(source: Source, margin: Index, on: Target) -> _Part:
    """Return the box with the whole margin, beyond borders too, in the type that PyWavelets computes in."""
    voxels = source.voxels
    first, period = [], []
    for axis, size in enumerate(source.size):
        lower, upper = source.box[0][axis] - margin[axis], source.box[1][axis] + margin[axis]
        first.append(lower)
        period.append(size + size % 2)
        if lower >= 0 and upper <= size:
            cut = [slice(None)] * 3
            cut[axis] = slice(lower - source.start[axis], upper - source.start[axis])
            voxels = voxels[tuple(cut)]
        else:
            # The sample appended to an odd axis is the first one again.
            index = np.arange(lower, upper) % period[axis] % size
            voxels = voxels.take(index - source.start[axis], axis)
    dtype = np.float32 if voxels.dtype == np.float32 else np.float64
    return _Part(on.put(voxels, dtype), first, period, on)


def _band(part: _Part, axes: tuple[int, ...], letters: str, filters: dict[str, NDArray[Any]]) -> _Part:
    for axis, letter in zip(axes, letters, strict=True):
        part = _filtered(part, axis, filters[letter])
    return part


def _bands(
    part: _Part, axes: tuple[int, ...], filters: dict[str, NDArray[Any]], begun: str = ""
) -> Iterator[tuple[str, _Part]]:
    """Yield all bands of one level; what two of them begin with is computed once, and held no longer than needed."""
    if not axes:
        yield begun, part
        return
    for letter, taps in filters.items():
        yield from _bands(_filtered(part, axes[0], taps), axes[1:], filters, begun + letter)


def _filtered(part: _Part, axis: int, taps: NDArray[Any]) -> _Part:
    """Convolve along one axis, which loses the margin that it needs."""
    shape = list(part.voxels.shape)
    lines = part.voxels.reshape(math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]))
    first = part.first.copy()
    first[axis] += taps.size // 2 - 1
    shape[axis] -= taps.size - 1
    out = part.on.empty(tuple(shape), part.voxels.dtype)
    kept = out.reshape(lines.shape[0], shape[axis], lines.shape[2])
    part.on.convolve(lines, taps, first[axis] % part.period[axis], part.period[axis], kept)
    return part._replace(voxels=out, first=first)


def _wanted(part: _Part, source: Source) -> NDArray[Any]:
    z, y, x = part.first
    wanted: NDArray[Any] = part.on.cut(part.voxels, box_in(source.box, (z, y, x)))
    return wanted
