"""Grey level dependence features. Formulas: pyradiomics, IBSI ids (NGLDM) in the catalogue."""

from __future__ import annotations

from hgpscale.features.emphasis import Sizes, formulas, from_counts
from hgpscale.features.region import Region


def dependence_of(region: Region) -> Sizes:
    """Count a region's voxels by level and dependence.

    A voxel with no dependent neighbour has dependence 1: it depends on itself.

    Raises
    ------
    FeatureError
        The region's box is too small for any neighbour.

    """
    region.require_room(region.settings.distances)
    return from_counts(region.dependence()[None], region.levels)


FORMULAS = formulas(
    {
        "DependenceEntropy": "entropy",
        "DependenceNonUniformity": "size non-uniformity",
        "DependenceNonUniformityNormalized": "size non-uniformity, normalised",
        "DependenceVariance": "size variance",
        "GrayLevelNonUniformity": "level non-uniformity",
        "GrayLevelVariance": "level variance",
        "HighGrayLevelEmphasis": "high",
        "LargeDependenceEmphasis": "large",
        "LargeDependenceHighGrayLevelEmphasis": "large high",
        "LargeDependenceLowGrayLevelEmphasis": "large low",
        "LowGrayLevelEmphasis": "low",
        "SmallDependenceEmphasis": "small",
        "SmallDependenceHighGrayLevelEmphasis": "small high",
        "SmallDependenceLowGrayLevelEmphasis": "small low",
    }
)
