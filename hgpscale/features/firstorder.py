"""First-order statistics of the voxel values. Formulas: pyradiomics, with IBSI ids in the catalogue."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hgpscale.features.region import Region
from hgpscale.features.rows import Array, Ragged, row_starts
from hgpscale.kernels.reduce import EPS
from hgpscale.kernels.statistics import PERCENTILES, Statistics


class Sums(NamedTuple):
    """What the formulas need of one region.

    Attributes
    ----------
    n_voxel, voxel_volume
        Number of voxels, and mm3 of one.
    statistics
        Sums and percentiles of the values.
    probabilities
        Share of voxels at each grey level found, float64, shape ``(n_levels,)``.

    """

    n_voxel: int
    voxel_volume: float
    statistics: Statistics
    probabilities: Array

    @property
    def scalars(self) -> tuple[float, ...]:
        """What is one number each, in the order of `_SCALARS`."""
        return self.n_voxel, self.voxel_volume, *self.statistics[:-1]


_SCALARS = ("n_voxel", "voxel_volume", *Statistics._fields[:-1])


def sums_of(region: Region) -> Sums:
    """Sum over a region's values."""
    z, y, x = region.footprint.spacing
    n_voxel = region.footprint.n_voxel
    return Sums(n_voxel, x * y * z, region.statistics(), region.counts / n_voxel)


@dataclass(eq=False)
class Intensities:
    """The sums of several regions.

    Attributes
    ----------
    first
        Each region's row, shape ``(n_region,)``.
    sums
        float64, shape ``(n_region,)``, by their names in `Sums` and `Statistics`.
    percentiles
        By percentage, shape ``(n_region,)``.
    probabilities
        Shares of voxels by grey level.

    """

    first: NDArray[np.int64]
    sums: dict[str, Array]
    percentiles: dict[int, Array]
    probabilities: Ragged

    @classmethod
    def of(cls, regions: Sequence[Sums]) -> Intensities:
        """Join the sums of several regions."""
        scalars = np.array([region.scalars for region in regions], dtype=np.float64).T
        percentiles = np.stack([region.statistics.percentiles for region in regions], axis=1)
        return cls(
            row_starts([1] * len(regions)),
            dict(zip(_SCALARS, scalars, strict=True)),
            dict(zip(PERCENTILES, percentiles, strict=True)),
            Ragged.of([(region.probabilities, region.probabilities[None]) for region in regions]),
        )

    def __getitem__(self, name: str) -> Array:
        """Return one of the sums."""
        return self.sums[name]

    def mean(self, name: str) -> Array:
        """Return one of the sums divided by the number of voxels."""
        return self.sums[name] / self.sums["n_voxel"]

    def standardised_moment(self, name: str, order: int) -> Array:
        """Return a central moment over the variance's power; 0 for a constant region, as in pyradiomics."""
        variance = self.mean("second")
        varies = variance != 0
        return np.where(varies, self.mean(name) / np.where(varies, variance, 1) ** (order / 2), 0)


def _entropy(x: Intensities) -> Array:
    p = x.probabilities
    return -p.sum(p.weights * np.log2(p.weights + EPS))


FORMULAS: dict[str, Callable[[Intensities], Array]] = {
    "10Percentile": lambda x: x.percentiles[10],
    "90Percentile": lambda x: x.percentiles[90],
    "Energy": lambda x: x["energy"],
    "Entropy": _entropy,
    "InterquartileRange": lambda x: x.percentiles[75] - x.percentiles[25],
    "Kurtosis": lambda x: x.standardised_moment("fourth", 4),
    "Maximum": lambda x: x["maximum"],
    "MeanAbsoluteDeviation": lambda x: x.mean("absolute"),
    "Mean": lambda x: x["mean"],
    "Median": lambda x: x.percentiles[50],
    "Minimum": lambda x: x["minimum"],
    "Range": lambda x: x["maximum"] - x["minimum"],
    "RobustMeanAbsoluteDeviation": lambda x: x["robust"],
    "RootMeanSquared": lambda x: np.sqrt(x.mean("energy")),
    "Skewness": lambda x: x.standardised_moment("third", 3),
    "StandardDeviation": lambda x: np.sqrt(x.mean("second")),
    "TotalEnergy": lambda x: x["energy"] * x["voxel_volume"],
    "Uniformity": lambda x: x.probabilities.sum(x.probabilities.weights**2),
    "Variance": lambda x: x.mean("second"),
}
