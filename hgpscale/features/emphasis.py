"""The formulas that run length, size zone and dependence matrices share.

Each of the three counts things by grey level and by a size (run length, zone size, number of dependent
neighbours). IBSI and pyradiomics define the same emphases, non-uniformities and variances on all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hgpscale.features.rows import Array, Ragged, row_starts
from hgpscale.kernels.reduce import SIZE_SUMS, sum_sizes


class Sizes(NamedTuple):
    """One region's counts by grey level and size, for one or several directions.

    Attributes
    ----------
    counts
        float64, shape ``(n_direction, n_levels, n_sizes)``; each direction has at least one count.
    levels
        Grey levels, float64, shape ``(n_levels,)``.
    sizes
        Sizes that occur, float64, shape ``(n_sizes,)``.

    """

    counts: Array
    levels: Array
    sizes: Array


def from_pairs(ranks: NDArray[np.int64], sizes: NDArray[np.int64], levels: NDArray[np.int64]) -> Sizes:
    """Count things given one by one, by rank (from 1) and size (from 1)."""
    occurring = np.flatnonzero(np.bincount(sizes))
    place = np.zeros(int(occurring[-1]) + 1, dtype=np.int64)
    place[occurring] = np.arange(occurring.size)
    cells = np.bincount((ranks - 1) * occurring.size + place[sizes], minlength=levels.size * occurring.size)
    counts = cells.reshape(1, levels.size, occurring.size).astype(np.float64)
    return Sizes(counts, levels.astype(np.float64), occurring.astype(np.float64))


def from_counts(counts: NDArray[np.number], levels: NDArray[np.int64]) -> Sizes:
    """Take counts of shape ``(n_direction, n_levels, n)`` where column k means size ``k + 1``."""
    occurring = np.flatnonzero(counts.any(axis=(0, 1)))
    found = np.ascontiguousarray(counts[:, :, occurring], dtype=np.float64)
    return Sizes(found, levels.astype(np.float64), (occurring + 1).astype(np.float64))


@dataclass(eq=False)
class Sized:
    """Sums over such counts; a row is one direction of one region.

    Attributes
    ----------
    first
        Each region's first row, shape ``(n_region,)``.
    by_level, by_size
        Levels and sizes with their counts.
    mixed
        Sums over the matrix, float64, shape ``(n_row,)``, by their names in `SIZE_SUMS`.

    """

    first: NDArray[np.int64]
    by_level: Ragged
    by_size: Ragged
    mixed: dict[str, Array]

    @classmethod
    def of(cls, regions: Sequence[Sizes]) -> Sized:
        """Sum over the counts of several regions."""
        mixed = np.concatenate([sum_sizes(*region) for region in regions])
        return cls(
            row_starts([len(region.counts) for region in regions]),
            Ragged.of([(region.levels, region.counts.sum(axis=2)) for region in regions]),
            Ragged.of([(region.sizes, region.counts.sum(axis=1)) for region in regions]),
            dict(zip(SIZE_SUMS, mixed.T, strict=True)),
        )

    @cached_property
    def total(self) -> Array:
        """All counts, shape ``(n_row,)``."""
        return self.by_level.sum(self.by_level.weights)


def _emphasis(counts: Ragged, power: int, total: Array) -> Array:
    return counts.sum(counts.weights * counts.values ** float(power)) / total


def _non_uniformity(counts: Ragged) -> Array:
    return counts.sum(counts.weights**2)


def _variance(counts: Ragged, total: Array) -> Array:
    return counts.moment(2, about=_emphasis(counts, 1, total)) / total


_SHARED: dict[str, Callable[[Sized], Array]] = {
    "small": lambda m: _emphasis(m.by_size, -2, m.total),
    "large": lambda m: _emphasis(m.by_size, 2, m.total),
    "low": lambda m: _emphasis(m.by_level, -2, m.total),
    "high": lambda m: _emphasis(m.by_level, 2, m.total),
    "small low": lambda m: m.mixed["small low"] / m.total,
    "small high": lambda m: m.mixed["small high"] / m.total,
    "large low": lambda m: m.mixed["large low"] / m.total,
    "large high": lambda m: m.mixed["large high"] / m.total,
    "level non-uniformity": lambda m: _non_uniformity(m.by_level) / m.total,
    "level non-uniformity, normalised": lambda m: _non_uniformity(m.by_level) / m.total**2,
    "size non-uniformity": lambda m: _non_uniformity(m.by_size) / m.total,
    "size non-uniformity, normalised": lambda m: _non_uniformity(m.by_size) / m.total**2,
    "level variance": lambda m: _variance(m.by_level, m.total),
    "size variance": lambda m: _variance(m.by_size, m.total),
    "percentage": lambda m: 1 / _emphasis(m.by_size, 1, m.total),
    "entropy": lambda m: m.mixed["entropy"],
}


def formulas(names: dict[str, str]) -> dict[str, Callable[[Sized], Array]]:
    """Return a family's formulas: pyradiomics' names for the shared ones."""
    return {name: _SHARED[shared] for name, shared in names.items()}
