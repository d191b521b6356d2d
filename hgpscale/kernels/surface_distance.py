"""Exact Euclidean distances from voxel centres to the points where grid lines cross a surface.

A crossing point lies on a line of the grid, between two voxels of which one is inside. So the points of one axis have
whole indices along the two others, and the distance to the nearest of them separates: along that axis by two sweeps,
along the others by the lower envelope of parabolas (Felzenszwalb and Huttenlocher 2012, doi:10.4086/toc.2012.v008a019).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from hgpscale.kernels.jit import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    _OfRows = Callable[[NDArray[np.float64], float, float, NDArray[np.float64]], None]


def crossing_distance(
    level: NDArray[np.float64], threshold: float, spacing: tuple[float, float, float]
) -> NDArray[np.float64]:
    """Return every voxel's distance to the nearest point at which a grid line crosses a threshold.

    Parameters
    ----------
    level
        Shape ``(z, y, x)``; a line between two neighbours of which one is above `threshold` and one is not crosses it
        where linear interpolation does.
    threshold
        No level equals it.
    spacing
        mm ``(z, y, x)``.

    Returns
    -------
    ndarray of float64
        mm, shape ``(z, y, x)``; infinite everywhere where nothing crosses.

    """
    nearest = np.full(level.shape, np.inf)
    for axis in range(3):
        squared = _along(level, axis, _swept, threshold, spacing[axis])
        for other in range(3):
            if other != axis:
                squared = _along(squared, other, _enveloped, 0.0, spacing[other])
        np.minimum(nearest, squared, out=nearest)
    return np.sqrt(nearest, out=nearest)


def _along(
    values: NDArray[np.float64], axis: int, function: _OfRows, threshold: float, step: float
) -> NDArray[np.float64]:
    """Call a kernel of rows on the lines along one axis."""
    lines = np.ascontiguousarray(np.moveaxis(values, axis, -1))
    out = np.empty_like(lines)
    length = lines.shape[-1]
    function(lines.reshape(-1, length), threshold, step, out.reshape(-1, length))
    return np.moveaxis(out, -1, axis)


@kernel
def _swept(lines: NDArray[np.float64], threshold: float, step: float, out: NDArray[np.float64]) -> None:
    """Square the distance, in steps of mm, to the nearest crossing on the same line."""
    n_line, length = lines.shape
    for row in range(n_line):
        at = -np.inf
        for i in range(length):
            if i > 0 and (lines[row, i] > threshold) != (lines[row, i - 1] > threshold):
                before = lines[row, i - 1]
                at = i - 1 + (before - threshold) / (before - lines[row, i])
            out[row, i] = i - at
        at = np.inf
        for j in range(length):
            i = length - 1 - j
            if j > 0 and (lines[row, i] > threshold) != (lines[row, i + 1] > threshold):
                before = lines[row, i]
                at = i + (before - threshold) / (before - lines[row, i + 1])
            distance = min(out[row, i], at - i) * step
            out[row, i] = distance * distance


@kernel
def _enveloped(lines: NDArray[np.float64], threshold: float, step: float, out: NDArray[np.float64]) -> None:
    """Find for each place the least sum of a line's value and the squared distance to it; no threshold is used."""
    n_line, length = lines.shape
    vertex = np.empty(length, np.int64)  # places of the parabolas of the envelope
    start = np.empty(length + 1)  # where each of them begins to be the lowest
    area = step * step
    for row in range(n_line):
        count = 0
        for i in range(length):
            height = lines[row, i]
            if height == np.inf:
                continue
            begin = -np.inf
            while count > 0:
                j = vertex[count - 1]
                begin = ((height - lines[row, j]) / area + i * i - j * j) / (2 * (i - j))
                if begin > start[count - 1]:
                    break
                count -= 1
                begin = -np.inf
            vertex[count], start[count] = i, begin
            count += 1
        if count == 0:
            for i in range(length):
                out[row, i] = np.inf
            continue
        start[count] = np.inf
        k = 0
        for i in range(length):
            while start[k + 1] < i:
                k += 1
            away = i - vertex[k]
            out[row, i] = area * away * away + lines[row, vertex[k]]
