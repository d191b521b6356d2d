"""Grey level run length features: mean over directions. Formulas: pyradiomics, IBSI ids in the catalogue."""

from __future__ import annotations

from hgpscale.errors import FeatureError
from hgpscale.features.emphasis import Sized, formulas, from_counts
from hgpscale.features.region import Region
from hgpscale.kernels.glrlm import count_runs


def runs_of(region: Region) -> Sized:
    """Count a region's runs.

    Raises
    ------
    FeatureError
        No direction has two voxels of the region on one line.

    """
    runs = count_runs(region.grid)
    counted = runs.any(axis=(1, 2))
    if not counted.any():
        raise FeatureError("no two voxels of the region lie on one line of the 13 directions: there is no run")
    return from_counts(runs[counted], region.discretised.levels, first=1)


FORMULAS = formulas(
    {
        "GrayLevelNonUniformity": "level non-uniformity",
        "GrayLevelNonUniformityNormalized": "level non-uniformity, normalised",
        "GrayLevelVariance": "level variance",
        "HighGrayLevelRunEmphasis": "high",
        "LongRunEmphasis": "large",
        "LongRunHighGrayLevelEmphasis": "large high",
        "LongRunLowGrayLevelEmphasis": "large low",
        "LowGrayLevelRunEmphasis": "low",
        "RunEntropy": "entropy",
        "RunLengthNonUniformity": "size non-uniformity",
        "RunLengthNonUniformityNormalized": "size non-uniformity, normalised",
        "RunPercentage": "percentage",
        "RunVariance": "size variance",
        "ShortRunEmphasis": "small",
        "ShortRunHighGrayLevelEmphasis": "small high",
        "ShortRunLowGrayLevelEmphasis": "small low",
    }
)
