"""From voxel values to bins."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hgpscale.kernels.jit import kernel


def bin_among(value: float, edges: NDArray[np.float64], guess: int) -> int:
    """Return how many edges are at or below a value, given how many of them it has passed by a guess.

    The same on a core and on a GPU.
    """
    last = edges.size - 1
    bin_ = min(max(guess, 0), last) + 1
    while bin_ > 0 and value < edges[bin_ - 1]:
        bin_ -= 1
    while bin_ <= last and value >= edges[bin_]:
        bin_ += 1
    return bin_


_bin_among = kernel(bin_among)


@kernel
def digitize(values: NDArray[np.float64], edges: NDArray[np.float64]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Do ``numpy.digitize(values, edges)`` for nearly evenly spaced ascending edges, in constant time a value.

    Parameters
    ----------
    values
        float64, shape ``(n,)``, finite.
    edges
        float64, shape ``(n_bin + 1,)``, ascending.

    Returns
    -------
    bins
        int32, shape ``(n,)``: number of edges at or below each value.
    counts
        int64, shape ``(n_bin + 2,)``: values in each bin.

    """
    bins = np.empty(values.size, dtype=np.int32)
    counts = np.zeros(edges.size + 1, dtype=np.int64)
    last = edges.size - 1
    scale = last / (edges[last] - edges[0])
    for k in range(values.size):
        # A guess by even spacing, then the edges themselves decide.
        bin_ = _bin_among(values[k], edges, int((values[k] - edges[0]) * scale))
        bins[k] = bin_
        counts[bin_] += 1
    return bins, counts
