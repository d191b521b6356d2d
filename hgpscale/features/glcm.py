"""Grey level co-occurrence features: mean over directions. Formulas: pyradiomics, IBSI ids in the catalogue."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hgpscale.errors import FeatureError
from hgpscale.features.region import EPS, Region
from hgpscale.kernels.glcm import count_pairs

Array = NDArray[np.float64]

_FEW_LEVELS = 32
"""Up to here MCC's matrix is summed in pyradiomics' order: with few levels an eigenvalue that should be 0 is common,
and the last bit decides whether its root is counted."""


@dataclass(eq=False)
class Pairs:
    """Co-occurrence probabilities by direction.

    Attributes
    ----------
    p
        float64, shape ``(n_levels, n_levels, n_direction)``; each direction sums to 1.
    levels
        Grey levels, float64, shape ``(n_levels,)``.

    """

    p: Array
    levels: Array

    @classmethod
    def of(cls, region: Region) -> Pairs:
        """Count a region's pairs.

        Raises
        ------
        FeatureError
            No two voxels of the region are neighbours.

        """
        settings = region.settings
        p = np.ascontiguousarray(count_pairs(region.grid, settings.distances).transpose(1, 2, 0)).astype(np.float64)
        if settings.symmetricalGLCM:
            p += p.transpose(1, 0, 2).copy()
        total = p.sum(axis=(0, 1))
        if not total.any():
            raise FeatureError(
                f"no two voxels of the region are neighbours at distance {settings.distances}: there is no pair"
            )
        # Unlike a boolean index, compress keeps C order: sums then run in pyradiomics' order, and a deviation that is
        # exactly 0 there is 0 here.
        p = np.compress(total > 0, p, axis=2) / total[total > 0]
        return cls(p, region.discretised.levels.astype(np.float64))

    @cached_property
    def i(self) -> Array:
        """Level of the voxel, shape ``(n, 1, 1)``."""
        return self.levels[:, None, None]

    @cached_property
    def j(self) -> Array:
        """Level of the neighbour, shape ``(1, n, 1)``."""
        return self.levels[None, :, None]

    @cached_property
    def px(self) -> Array:
        """Marginal of the voxel's level, shape ``(n, 1, n_direction)``."""
        return self.p.sum(axis=1, keepdims=True)

    @cached_property
    def py(self) -> Array:
        """Marginal of the neighbour's level, shape ``(1, n, n_direction)``."""
        return self.p.sum(axis=0, keepdims=True)

    @cached_property
    def ux(self) -> Array:
        """Mean level of the voxel, shape ``(1, 1, n_direction)``."""
        return (self.i * self.p).sum(axis=(0, 1), keepdims=True)

    @cached_property
    def uy(self) -> Array:
        """Mean level of the neighbour, shape ``(1, 1, n_direction)``."""
        return (self.j * self.p).sum(axis=(0, 1), keepdims=True)

    @cached_property
    def sums(self) -> tuple[Array, Array]:
        """Sums of levels that occur, shape ``(k, 1)``, and their probability, shape ``(k, n_direction)``."""
        return self._collect(self.levels[:, None] + self.levels[None, :])

    @cached_property
    def differences(self) -> tuple[Array, Array]:
        """Differences of levels that occur, from 0, shape ``(k, 1)``, and their probability."""
        return self._collect(np.abs(self.levels[:, None] - self.levels[None, :]))

    def _collect(self, k: Array) -> tuple[Array, Array]:
        found, where = np.unique(k, return_inverse=True)
        p = np.zeros((found.size, self.p.shape[2]))
        np.add.at(p, where.reshape(-1), self.p.reshape(-1, self.p.shape[2]))
        return found[:, None], p

    @cached_property
    def highest(self) -> float:
        """Highest level, which Idn and Idmn normalise by."""
        return float(self.levels[-1])

    @cached_property
    def hxy(self) -> Array:
        """Joint entropy, shape ``(n_direction,)``."""
        return _entropy(self.p)

    def central(self, power: int) -> Array:
        """Moment of the sum of levels about its mean."""
        return _total(self.p * (self.i + self.j - self.ux - self.uy) ** power)


def _total(terms: Array) -> Array:
    return terms.sum(axis=(0, 1))


def _entropy(p: Array) -> Array:
    return -1 * _total(p * np.log2(p + EPS))


def _entropy_of(p: Array) -> Array:
    return -1 * (p * np.log2(p + EPS)).sum(axis=0)


def _expected(weights: Array, p: Array) -> Array:
    return (weights * p).sum(axis=0)


def _difference_variance(m: Pairs) -> Array:
    k, p = m.differences
    return _expected((k - _expected(k, p)) ** 2, p)


def _inverse_variance(m: Pairs) -> Array:
    k, p = m.differences
    return (p[1:] / k[1:] ** 2).sum(axis=0)


def _over_difference(divisor: Callable[[Array, float], Array]) -> Callable[[Pairs], Array]:
    def formula(m: Pairs) -> Array:
        k, p = m.differences
        return (p / divisor(k, m.highest)).sum(axis=0)

    return formula


def _correlation(m: Pairs) -> Array:
    sigma_x = np.sqrt(_total(m.p * (m.i - m.ux) ** 2))
    sigma_y = np.sqrt(_total(m.p * (m.j - m.uy) ** 2))
    covariance = _total(m.p * (m.i - m.ux) * (m.j - m.uy))
    correlation: Array = covariance / (sigma_x * sigma_y + EPS)
    correlation[sigma_x * sigma_y == 0] = 1
    return correlation


def _imc1(m: Pairs) -> Array:
    hxy1 = -1 * _total(m.p * np.log2(m.px * m.py + EPS))
    larger = np.fmax(_entropy(m.px), _entropy(m.py))
    return np.where(larger != 0, (m.hxy - hxy1) / np.where(larger != 0, larger, 1), 0)


def _imc2(m: Pairs) -> Array:
    # Independent levels: rounding can push the exponent below 0. pyradiomics leaves such a direction out of the mean.
    gap = _entropy(m.px * m.py) - m.hxy
    with np.errstate(invalid="ignore"):
        return np.where(gap == 0, 0, (1 - np.e ** (-2 * gap)) ** 0.5)


def _mcc(m: Pairs) -> Array:
    """Return the root of the second eigenvalue; nan where rounding made that negative, see `_mean`."""
    n = m.levels.size
    if n < 2:
        return np.ones(1)
    if n <= _FEW_LEVELS:
        q = np.zeros_like(m.p)
        for k in range(n):
            q += m.p[:, None, k] * m.p[None, :, k] / (m.px[:, :, :] * m.py[:, k, None] + EPS)
        q = q.transpose(2, 0, 1)
    else:
        p = m.p.transpose(2, 0, 1)
        q = (p / (m.px * m.py + EPS).transpose(2, 0, 1)) @ p.transpose(0, 2, 1)
    values = np.linalg.eigvals(q)
    values.sort(axis=-1)
    with np.errstate(invalid="ignore"):
        return np.sqrt(values[:, -2])


def _mean(by_direction: Callable[[Pairs], Array]) -> Callable[[Pairs], float]:
    def feature(m: Pairs) -> float:
        values = by_direction(m)
        # Only Imc2 and MCC have nan: the root of a 0 that rounding made negative. Where all are, the root is 0.
        known = values[~np.isnan(values)]
        return float(np.mean(known).real) if known.size else 0.0

    return feature


_BY_DIRECTION: dict[str, Callable[[Pairs], Array]] = {
    "Autocorrelation": lambda m: _total(m.p * (m.i * m.j)),
    "ClusterProminence": lambda m: m.central(4),
    "ClusterShade": lambda m: m.central(3),
    "ClusterTendency": lambda m: m.central(2),
    "Contrast": lambda m: _total(m.p * np.abs(m.i - m.j) ** 2),
    "Correlation": _correlation,
    "DifferenceAverage": lambda m: _expected(*m.differences),
    "DifferenceEntropy": lambda m: _entropy_of(m.differences[1]),
    "DifferenceVariance": _difference_variance,
    "Id": _over_difference(lambda k, _: 1 + k),
    "Idm": _over_difference(lambda k, _: 1 + k**2),
    "Idmn": _over_difference(lambda k, highest: 1 + k**2 / highest**2),
    "Idn": _over_difference(lambda k, highest: 1 + k / highest),
    "Imc1": _imc1,
    "Imc2": _imc2,
    "InverseVariance": _inverse_variance,
    "JointAverage": lambda m: m.ux[0, 0],
    "JointEnergy": lambda m: _total(m.p**2),
    "JointEntropy": lambda m: m.hxy,
    "MCC": _mcc,
    "MaximumProbability": lambda m: m.p.max(axis=(0, 1)),
    "SumAverage": lambda m: _expected(*m.sums),
    "SumEntropy": lambda m: _entropy_of(m.sums[1]),
    "SumSquares": lambda m: _total(m.p * (m.i - m.ux) ** 2),
}

FORMULAS: dict[str, Callable[[Pairs], float]] = {
    name: _mean(by_direction) for name, by_direction in _BY_DIRECTION.items()
}
