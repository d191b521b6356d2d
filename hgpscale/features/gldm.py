"""Grey level dependence features. Formulas: pyradiomics, IBSI ids (NGLDM) in the catalogue."""

from __future__ import annotations

from hgpscale.features.emphasis import Sizes, formulas, from_counts
from hgpscale.features.region import Region
from hgpscale.kernels.gldm import count_dependence
from hgpscale.kernels.offsets import all_offsets


def dependence_of(region: Region) -> Sizes:
    """Count a region's voxels by level and dependence.

    A voxel with no dependent neighbour has dependence 1: it depends on itself.

    Raises
    ------
    FeatureError
        The region's box is too small for any neighbour.

    """
    settings = region.settings
    region.require_room(settings.distances)
    offsets = all_offsets(settings.distances, region.across)
    counts = count_dependence(region.grid, region.discretised.levels, offsets, settings.gldm_a)
    return from_counts(counts[None], region.discretised.levels)


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
