"""Grey level co-occurrence features: mean over directions. Formulas: pyradiomics, IBSI ids in the catalogue.

Counts become probabilities of each direction, and these a few sums and two marginals, by `sum_pairs`; the formulas
run over all directions of all image types at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hgpscale.errors import FeatureError
from hgpscale.features.mcc import maximal_correlation
from hgpscale.features.region import Region
from hgpscale.features.rows import Array, Ragged, row_starts
from hgpscale.features.weighting import merge_pairs
from hgpscale.kernels.offsets import half_offsets
from hgpscale.kernels.reduce import EPS, PAIR_SUMS, occurring, sum_pairs

_INDEPENDENT = 1e-5
"""Mutual information in bits below which `Imc2` is a root of rounding errors, so that their order matters."""


class Probabilities(NamedTuple):
    """Co-occurrence probabilities of one region.

    Attributes
    ----------
    p
        float64, shape ``(n_direction, n_levels, n_levels)``; each direction sums to 1.
    levels
        Grey levels, int64, shape ``(n_levels,)``.

    """

    p: Array
    levels: NDArray[np.int64]


def count_pairs(regions: Sequence[Region]) -> None:
    """Count the pairs of several images together."""
    type(regions[0]).count_together(regions, [region.settings.distances for region in regions])


def probabilities_of(region: Region) -> Probabilities:
    """Count a region's pairs.

    Raises
    ------
    FeatureError
        No two voxels of the region are neighbours.

    """
    settings = region.settings
    region.require_room(settings.distances)
    pairs = region.chains(settings.distances).pairs()
    if settings.symmetricalGLCM:
        pairs = pairs + pairs.transpose(0, 2, 1)
    p = pairs.astype(np.float64)
    if settings.weightingNorm is not None:
        p = merge_pairs(
            p, half_offsets(settings.distances, region.across), region.footprint.spacing, settings.weightingNorm
        )
    total = p.sum(axis=(1, 2))
    if not total.any():
        raise FeatureError(
            f"no two voxels of the region are neighbours at distance {settings.distances}: there is no pair"
        )
    return Probabilities(p[total > 0] / total[total > 0, None, None], region.levels)


@dataclass(eq=False)
class Pairs:
    """Sums over co-occurrence probabilities; a row is one direction of one region.

    Attributes
    ----------
    first
        Each region's first row, shape ``(n_region,)``.
    totals
        Sums over the matrix, float64, shape ``(n_row,)``, by their names in `PAIR_SUMS`.
    sums, differences
        Sums and absolute differences of two levels that occur, with their probability.
    highest
        Highest level, which Idn and Idmn normalise by, shape ``(n_row,)``.
    mcc
        Maximal correlation coefficient, shape ``(n_row,)``.

    """

    first: NDArray[np.int64]
    totals: dict[str, Array]
    sums: Ragged
    differences: Ragged
    highest: Array
    mcc: Array

    @classmethod
    def of(cls, regions: Sequence[Probabilities]) -> Pairs:
        """Sum over the probabilities of several regions."""
        found = [_summed(region) for region in regions]
        n_rows = [len(region.p) for region in regions]
        totals = np.concatenate([totals for totals, _, _ in found])
        return cls(
            row_starts(n_rows),
            dict(zip(PAIR_SUMS, totals.T, strict=True)),
            Ragged.of([sums for _, sums, _ in found]),
            Ragged.of([differences for _, _, differences in found]),
            np.repeat([float(region.levels[-1]) for region in regions], n_rows),
            np.concatenate([maximal_correlation(region.p) for region in regions]),
        )

    def __getitem__(self, name: str) -> Array:
        """Return one of the sums in `PAIR_SUMS`."""
        return self.totals[name]


_Block = tuple[Array, Array]


def _summed(region: Probabilities) -> tuple[Array, _Block, _Block]:
    """Return a region's `PAIR_SUMS`, shape ``(n_direction, n)``, and its sums and differences of levels."""
    p, levels = region
    places = occurring(levels)
    totals, sums, differences = sum_pairs(p, levels, *places)
    delicate = totals[:, PAIR_SUMS.index("hxy2")] - totals[:, PAIR_SUMS.index("hxy")] < _INDEPENDENT
    if len(p) == 1 or delicate.any():
        for name, total in _in_order(region).items():
            totals[:, PAIR_SUMS.index(name)] = total
    of_sum, of_difference = (np.flatnonzero(place >= 0).astype(np.float64) for place in places)
    return totals, (of_sum, sums), (of_difference, differences)


def _in_order(region: Probabilities) -> dict[str, Array]:
    """Return the sums whose last bit matters where levels are independent, by numpy over pyradiomics' array.

    numpy adds up a single direction in another order than each of several.
    """
    p = np.ascontiguousarray(region.p.transpose(1, 2, 0))
    i, j = region.levels[:, None, None].astype(np.float64), region.levels[None, :, None].astype(np.float64)
    px, py = p.sum(axis=1, keepdims=True), p.sum(axis=0, keepdims=True)
    ux, uy = _total(i * p), _total(j * p)
    return {
        "ux": ux,
        "uy": uy,
        "var_x": _total(p * (i - ux) ** 2),
        "var_y": _total(p * (j - uy) ** 2),
        "covariance": _total(p * (i - ux) * (j - uy)),
        "hxy": -_total(p * np.log2(p + EPS)),
        "hxy1": -_total(p * np.log2(px * py + EPS)),
        "hxy2": -_total(px * py * np.log2(px * py + EPS)),
    }


def _total(terms: Array) -> Array:
    found: Array = terms.sum(axis=(0, 1))
    return found


def _entropy(m: Ragged) -> Array:
    return -m.sum(m.weights * np.log2(m.weights + EPS))


def _average(m: Ragged) -> Array:
    return m.sum(m.values * m.weights)


def _cluster(power: int) -> Callable[[Pairs], Array]:
    return lambda m: m.sums.moment(power, about=m["ux"] + m["uy"])


def _over_difference(divisor: Callable[[Array, Array], Array]) -> Callable[[Pairs], Array]:
    def formula(m: Pairs) -> Array:
        k = m.differences
        return k.sum(k.weights / divisor(k.values, k.spread(m.highest)))

    return formula


def _inverse_variance(m: Pairs) -> Array:
    k = m.differences
    apart = k.values > 0
    return k.sum(np.where(apart, k.weights / np.where(apart, k.values, 1) ** 2, 0))


def _correlation(m: Pairs) -> Array:
    deviations = np.sqrt(m["var_x"]) * np.sqrt(m["var_y"])
    return np.where(deviations == 0, 1, m["covariance"] / (deviations + EPS))


def _imc1(m: Pairs) -> Array:
    larger = np.fmax(m["hx"], m["hy"])
    return np.where(larger != 0, (m["hxy"] - m["hxy1"]) / np.where(larger != 0, larger, 1), 0)


def _imc2(m: Pairs) -> Array:
    # Independent levels: rounding can push the exponent below 0.
    gap = m["hxy2"] - m["hxy"]
    with np.errstate(invalid="ignore"):
        return _known(m, np.where(gap == 0, 0, (1 - np.e ** (-2 * gap)) ** 0.5))


def _known(m: Pairs, values: Array) -> Array:
    """Replace nan, the root of a 0 that rounding made negative, so that the region's mean is that of its others.

    pyradiomics leaves such a direction out. Where all are nan, the root is 0.
    """
    known = ~np.isnan(values)
    n_known = np.add.reduceat(known.astype(np.int64), m.first)
    mean = np.add.reduceat(np.where(known, values, 0), m.first) / np.maximum(n_known, 1)
    return np.where(known, values, np.repeat(mean, np.diff(m.first, append=values.size)))


FORMULAS: dict[str, Callable[[Pairs], Array]] = {
    "Autocorrelation": lambda m: m["autocorrelation"],
    "ClusterProminence": _cluster(4),
    "ClusterShade": _cluster(3),
    "ClusterTendency": _cluster(2),
    "Contrast": lambda m: m.differences.sum(m.differences.weights * m.differences.values**2),
    "Correlation": _correlation,
    "DifferenceAverage": lambda m: _average(m.differences),
    "DifferenceEntropy": lambda m: _entropy(m.differences),
    "DifferenceVariance": lambda m: m.differences.moment(2, about=_average(m.differences)),
    "Id": _over_difference(lambda k, _: 1 + k),
    "Idm": _over_difference(lambda k, _: 1 + k**2),
    "Idmn": _over_difference(lambda k, highest: 1 + k**2 / highest**2),
    "Idn": _over_difference(lambda k, highest: 1 + k / highest),
    "Imc1": _imc1,
    "Imc2": _imc2,
    "InverseVariance": _inverse_variance,
    "JointAverage": lambda m: m["ux"],
    "JointEnergy": lambda m: m["energy"],
    "JointEntropy": lambda m: m["hxy"],
    "MCC": lambda m: _known(m, m.mcc),
    "MaximumProbability": lambda m: m["maximum"],
    "SumAverage": lambda m: _average(m.sums),
    "SumEntropy": lambda m: _entropy(m.sums),
    "SumSquares": lambda m: m["var_x"],
}
