"""The formulas that run length, size zone and dependence matrices share.

Each of the three counts things by grey level and by a size (run length, zone size, number of dependent
neighbours). IBSI and pyradiomics define the same emphases, non-uniformities and variances on all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hgpscale.features.region import EPS

Array = NDArray[np.float64]


@dataclass(eq=False)
class Sized:
    """Counts by grey level and size, for one or several directions.

    Attributes
    ----------
    p
        float64, shape ``(n_levels, n_sizes, n_direction)``; each direction has at least one count.
    levels
        Grey levels, float64, shape ``(n_levels,)``.
    sizes
        Sizes that occur, float64, shape ``(n_sizes,)``.

    """

    p: Array
    levels: Array
    sizes: Array

    @cached_property
    def i(self) -> Array:
        """Grey level, shape ``(n_levels, 1)``."""
        return self.levels[:, None]

    @cached_property
    def j(self) -> Array:
        """Size, shape ``(n_sizes, 1)``."""
        return self.sizes[:, None]

    @cached_property
    def by_level(self) -> Array:
        """Counts by level, shape ``(n_levels, n_direction)``."""
        return self.p.sum(axis=1)

    @cached_property
    def by_size(self) -> Array:
        """Counts by size, shape ``(n_sizes, n_direction)``."""
        return self.p.sum(axis=0)

    @cached_property
    def total(self) -> Array:
        """All counts, shape ``(n_direction,)``."""
        return self.p.sum(axis=(0, 1))


def from_pairs(ranks: NDArray[np.int64], sizes: NDArray[np.int64], levels: NDArray[np.int64]) -> Sized:
    """Count things given one by one, by rank (from 1) and size."""
    found, where = np.unique(sizes, return_inverse=True)
    cells = np.bincount((ranks - 1) * found.size + where, minlength=levels.size * found.size)
    p = cells.reshape(levels.size, found.size, 1).astype(np.float64)
    return Sized(p, levels.astype(np.float64), found.astype(np.float64))


def from_counts(counts: NDArray[np.int64], levels: NDArray[np.int64], first: int) -> Sized:
    """Take counts of shape ``(n_direction, n_levels, n)`` where column k means size ``first + k``."""
    occurring = np.flatnonzero(counts.sum(axis=(0, 1)))
    p = np.ascontiguousarray(counts[:, :, occurring].transpose(1, 2, 0)).astype(np.float64)
    return Sized(p, levels.astype(np.float64), (occurring + first).astype(np.float64))


def _variance(counts: Array, values: Array, total: Array) -> Array:
    share = counts / total
    mean = (share * values).sum(axis=0)
    return (share * (values - mean) ** 2).sum(axis=0)


def _entropy(m: Sized) -> Array:
    share = m.p / m.total
    return -(share * np.log2(share + EPS)).sum(axis=(0, 1))


def _weighted(level_power: int, size_power: int) -> Callable[[Sized], Array]:
    def formula(m: Sized) -> Array:
        weights = m.levels[:, None, None] ** float(level_power) * m.sizes[None, :, None] ** float(size_power)
        return (m.p * weights).sum(axis=(0, 1)) / m.total

    return formula


_SHARED: dict[str, Callable[[Sized], Array]] = {
    "small": _weighted(0, -2),
    "large": _weighted(0, 2),
    "low": _weighted(-2, 0),
    "high": _weighted(2, 0),
    "small low": _weighted(-2, -2),
    "small high": _weighted(2, -2),
    "large low": _weighted(-2, 2),
    "large high": _weighted(2, 2),
    "level non-uniformity": lambda m: (m.by_level**2).sum(axis=0) / m.total,
    "level non-uniformity, normalised": lambda m: (m.by_level**2).sum(axis=0) / m.total**2,
    "size non-uniformity": lambda m: (m.by_size**2).sum(axis=0) / m.total,
    "size non-uniformity, normalised": lambda m: (m.by_size**2).sum(axis=0) / m.total**2,
    "level variance": lambda m: _variance(m.by_level, m.i, m.total),
    "size variance": lambda m: _variance(m.by_size, m.j, m.total),
    "percentage": lambda m: m.total / (m.by_size * m.j).sum(axis=0),
    "entropy": _entropy,
}


def formulas(names: dict[str, str]) -> dict[str, Callable[[Sized], float]]:
    """Return a family's formulas: pyradiomics' names for the shared ones, mean over directions."""

    def mean(formula: Callable[[Sized], Array]) -> Callable[[Sized], float]:
        return lambda m: float(np.mean(formula(m)))

    return {name: mean(_SHARED[shared]) for name, shared in names.items()}
