"""Directions merged into one matrix, weighted by how far the neighbour is (pyradiomics' ``weightingNorm``)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from hgpscale.volume import Vector

Array = NDArray[np.float64]

_LENGTH: dict[str, Callable[[Array], Array]] = {
    "infinity": lambda step: step.max(axis=1),
    "euclidean": lambda step: np.sqrt((step**2).sum(axis=1)),
    "manhattan": lambda step: step.sum(axis=1),
}


def merge_pairs(counts: Array, offsets: NDArray[np.int64], spacing: Vector, norm: str) -> Array:
    """Merge co-occurrence matrices: the weight is exp(-d**2) of the distance d in mm.

    Parameters
    ----------
    counts
        float64, shape ``(n_offset, n, m)``.
    offsets
        Offsets ``(dz, dy, dx)`` in voxels, shape ``(n_offset, 3)``.
    spacing
        mm ``(z, y, x)``.
    norm
        ``infinity``, ``euclidean`` or ``manhattan``; ``no_weighting``: all weights are 1.

    Returns
    -------
    ndarray
        float64, shape ``(1, n, m)``.

    """
    distance = _distance(offsets, spacing, norm)
    return _merge(counts, np.ones(len(offsets)) if distance is None else np.exp(-(distance**2)))


def merge_runs(counts: Array, offsets: NDArray[np.int64], spacing: Vector, norm: str) -> Array:
    """Merge run length matrices: the weight is the distance in mm. Parameters, result: as `merge_pairs`."""
    distance = _distance(offsets, spacing, norm)
    return _merge(counts, np.ones(len(offsets)) if distance is None else distance)


def _distance(offsets: NDArray[np.int64], spacing: Vector, norm: str) -> Array | None:
    return _LENGTH[norm](np.abs(offsets) * np.array(spacing)) if norm in _LENGTH else None


def _merge(counts: Array, weights: Array) -> Array:
    # Directions last and contiguous: numpy then adds up in pyradiomics' order.
    last = np.ascontiguousarray(counts.transpose(1, 2, 0)) * weights
    merged: Array = last.sum(axis=2)[None]
    return merged
