"""Neighbouring grey tone difference features (Amadasun & King 1989). Formulas: pyradiomics; IBSI ids: the catalogue."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hgpscale.features.region import Region
from hgpscale.features.rows import Array, row_starts
from hgpscale.kernels.reduce import sum_level_pairs

_FLAT = 1e6
"""Coarseness of a region without any difference, by pyradiomics' convention."""


class Matrix(NamedTuple):
    """One region's matrix, by grey level found; each float64, shape ``(n_levels,)``.

    Attributes
    ----------
    i
        Grey level.
    n
        Voxels at the level.
    s
        Sum over the level's voxels of the difference to their neighbours' mean; 0 for a voxel without neighbours.

    """

    i: Array
    n: Array
    s: Array


def matrix_of(region: Region) -> Matrix:
    """Return a region's matrix.

    Raises
    ------
    FeatureError
        The region's box is too small for any neighbour.
    VoxelError
        More grey levels than texture matrices are made of.

    """
    region.require_room(region.settings.distances)
    differences = region.differences()
    s = (differences[:, 1:] / np.arange(1, differences.shape[1])).sum(axis=1)
    return Matrix(region.levels.astype(np.float64), region.counts.astype(np.float64), s)


@dataclass(eq=False)
class Differences:
    """Sums over the matrices of several regions; each float64, shape ``(n_region,)``.

    Attributes
    ----------
    first
        Each region's row.
    n_voxel, n_levels
        Voxels of the region and grey levels found.
    s, ps
        Sums over levels of s and of the share of voxels times s.
    spread, weighted, complexity, strength
        Sums over pairs of levels, see `sum_level_pairs`.

    """

    first: NDArray[np.int64]
    n_voxel: Array
    n_levels: Array
    s: Array
    ps: Array
    spread: Array
    weighted: Array
    complexity: Array
    strength: Array

    @classmethod
    def of(cls, regions: Sequence[Matrix]) -> Differences:
        """Sum over the matrices of several regions."""
        sums = []
        for i, n, s in regions:
            p = n / n.sum()
            sums.append([n.sum(), i.size, s.sum(), (p * s).sum(), *sum_level_pairs(i, p, s)])
        return cls(row_starts([1] * len(regions)), *np.array(sums, dtype=np.float64).T)


def _ratio(above: Array, below: Array, otherwise: float) -> Array:
    return np.where(below != 0, above / np.where(below != 0, below, 1), otherwise)


FORMULAS: dict[str, Callable[[Differences], Array]] = {
    "Busyness": lambda m: _ratio(m.ps, m.weighted, 0),
    "Coarseness": lambda m: _ratio(np.ones_like(m.ps), m.ps, _FLAT),
    "Complexity": lambda m: m.complexity / m.n_voxel,
    "Contrast": lambda m: _ratio(m.spread * m.s / m.n_voxel, m.n_levels * (m.n_levels - 1), 0),
    "Strength": lambda m: _ratio(m.strength, m.s, 0),
}
