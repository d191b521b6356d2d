"""Formulas run over many rows at once: a row is one region's matrix, or that of one of its directions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(eq=False)
class Ragged:
    """Weighted values of many rows, of different number in each, one row after the other.

    Attributes
    ----------
    values, weights
        float64, shape ``(n,)``.
    starts, lengths
        Where each row begins, and how many values it has, shape ``(n_row,)``.

    """

    values: Array
    weights: Array
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]

    @classmethod
    def of(cls, blocks: Sequence[tuple[Array, Array]]) -> Ragged:
        """Join blocks of rows: values, shape ``(k,)``, that a block's rows share, and weights, ``(n_row, k)``."""
        values = np.concatenate([np.tile(values, len(weights)) for values, weights in blocks])
        lengths = np.concatenate([np.full(len(weights), values.size) for values, weights in blocks])
        weights = np.concatenate([weights.ravel() for _, weights in blocks])
        return cls(values.astype(np.float64), weights.astype(np.float64), np.cumsum(lengths) - lengths, lengths)

    def sum(self, terms: Array) -> Array:
        """Return the sum of each row's terms, shape ``(n_row,)``."""
        return np.add.reduceat(terms, self.starts)

    def spread(self, by_row: Array) -> Array:
        """Repeat each row's number for all of its values, shape ``(n,)``."""
        return np.repeat(by_row, self.lengths)

    def moment(self, power: int, about: Array) -> Array:
        """Return the weighted sum of the values' distance from a number of each row, to a power."""
        return self.sum(self.weights * (self.values - self.spread(about)) ** power)


def row_starts(lengths: Sequence[int]) -> NDArray[np.int64]:
    """Return where each region's rows begin."""
    return np.cumsum(lengths) - np.array(lengths)


def mean_by_region(values: Array, first: NDArray[np.int64]) -> Array:
    """Return the mean over each region's rows of values of shape ``(..., n_row)``."""
    n_row = np.diff(first, append=values.shape[-1])
    return np.add.reduceat(values, first, axis=-1) / n_row
