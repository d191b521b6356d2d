"""Neighbouring grey tone difference features (Amadasun & King 1989). Formulas: pyradiomics; IBSI ids: the catalogue."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hgpscale.features.region import Region

Array = NDArray[np.float64]

_FLAT = 1e6
"""Coarseness of a region without any difference, by pyradiomics' convention."""


@dataclass(eq=False)
class Differences:
    """The matrix, by grey level found.

    Attributes
    ----------
    i
        Grey level, float64, shape ``(n_levels,)``.
    p
        Share of voxels at the level.
    s
        Sum over the level's voxels of the difference to their neighbours' mean; 0 for a voxel without neighbours.
    n_voxel
        Voxels of the region.

    """

    i: Array
    p: Array
    s: Array
    n_voxel: int

    @classmethod
    def of(cls, region: Region) -> Differences:
        """Return a region's matrix."""
        counts = region.neighbours
        n_neighbour = np.arange(1, counts.difference.shape[1])
        s = (counts.difference[:, 1:] / n_neighbour).sum(axis=1)
        total = int(counts.voxels.sum())
        return cls(region.discretised.levels.astype(np.float64), counts.voxels / total, s, total)


def _contrast(m: Differences) -> float:
    n = m.i.size
    if n < 2:
        return 0.0
    spread = (m.p[:, None] * m.p[None, :] * (m.i[:, None] - m.i[None, :]) ** 2).sum()
    return float(spread * m.s.sum() / m.n_voxel / (n * (n - 1)))


def _busyness(m: Differences) -> float:
    weighted = m.i * m.p
    difference = np.abs(weighted[:, None] - weighted[None, :]).sum()
    return float((m.p * m.s).sum() / difference) if difference != 0 else 0.0


def _coarseness(m: Differences) -> float:
    total = (m.p * m.s).sum()
    return float(1 / total) if total != 0 else _FLAT


def _complexity(m: Differences) -> float:
    ps = m.p * m.s
    terms = np.abs(m.i[:, None] - m.i[None, :]) * (ps[:, None] + ps[None, :]) / (m.p[:, None] + m.p[None, :])
    return float(terms.sum() / m.n_voxel)


def _strength(m: Differences) -> float:
    total = m.s.sum()
    terms = (m.p[:, None] + m.p[None, :]) * (m.i[:, None] - m.i[None, :]) ** 2
    return float(terms.sum() / total) if total != 0 else 0.0


FORMULAS: dict[str, Callable[[Differences], float]] = {
    "Busyness": _busyness,
    "Coarseness": _coarseness,
    "Complexity": _complexity,
    "Contrast": _contrast,
    "Strength": _strength,
}
