"""First-order statistics of the voxel values. Formulas: pyradiomics, with IBSI ids in the catalogue."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hgpscale.features.region import EPS, Region


@dataclass(eq=False)
class Intensities:
    """Voxel values and what several formulas need of them.

    Attributes
    ----------
    values
        float64, shape ``(n_voxel,)``, in the image's unit.
    probabilities
        Share of voxels at each grey level found, float64, shape ``(n_levels,)``.
    shift
        Added to the values for energies.
    voxel_volume
        mm3.

    """

    values: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    shift: float
    voxel_volume: float

    @classmethod
    def of(cls, region: Region) -> Intensities:
        """Return the intensities of a region."""
        counts = region.discretised.counts
        z, y, x = region.spacing
        return cls(
            region.values.astype(np.float64),
            counts / counts.sum(),
            region.settings.voxelArrayShift,
            x * y * z,
        )

    @cached_property
    def mean(self) -> float:
        """Arithmetic mean."""
        return float(np.mean(self.values))

    @cached_property
    def deviations(self) -> NDArray[np.float64]:
        """Values less their mean."""
        return self.values - self.mean

    @cached_property
    def percentiles(self) -> dict[int, np.float64]:
        """Percentiles 10, 25, 75 and 90, linear between ranks."""
        wanted = (10, 25, 75, 90)
        return dict(zip(wanted, np.percentile(self.values, wanted), strict=True))

    @cached_property
    def variance(self) -> float:
        """Second central moment (of the population)."""
        return float(np.mean(self.deviations**2))

    @cached_property
    def energy(self) -> float:
        """Sum of squares of the shifted values."""
        return float(np.sum((self.values + self.shift) ** 2))

    def standardised_moment(self, order: int) -> float:
        """Return a central moment over the variance's power; 0 for a constant region, as in pyradiomics."""
        if self.variance == 0:
            return 0.0
        # Squares are ten times as fast as numpy.power.
        power = self.deviations**2 * (self.deviations if order == 3 else self.deviations**2)
        return float(np.mean(power) / self.variance ** (order / 2))


def _robust_deviation(x: Intensities) -> float:
    kept = x.values[(x.values >= x.percentiles[10]) & (x.values <= x.percentiles[90])]
    if not kept.size:
        # Two voxels of different values: both lie outside their own percentiles.
        return float("nan")
    return float(np.mean(np.abs(kept - np.mean(kept))))


FORMULAS: dict[str, Callable[[Intensities], Any]] = {
    "10Percentile": lambda x: x.percentiles[10],
    "90Percentile": lambda x: x.percentiles[90],
    "Energy": lambda x: x.energy,
    "Entropy": lambda x: -np.sum(x.probabilities * np.log2(x.probabilities + EPS)),
    "InterquartileRange": lambda x: x.percentiles[75] - x.percentiles[25],
    "Kurtosis": lambda x: x.standardised_moment(4),
    "Maximum": lambda x: np.max(x.values),
    "MeanAbsoluteDeviation": lambda x: np.mean(np.abs(x.deviations)),
    "Mean": lambda x: x.mean,
    "Median": lambda x: np.median(x.values),
    "Minimum": lambda x: np.min(x.values),
    "Range": lambda x: np.max(x.values) - np.min(x.values),
    "RobustMeanAbsoluteDeviation": _robust_deviation,
    "RootMeanSquared": lambda x: np.sqrt(x.energy / x.values.size),
    "Skewness": lambda x: x.standardised_moment(3),
    "StandardDeviation": lambda x: np.std(x.values),
    "TotalEnergy": lambda x: x.energy * x.voxel_volume,
    "Uniformity": lambda x: np.sum(x.probabilities**2),
    "Variance": lambda x: x.variance,
}
