"""Grey level size zone features. Formulas: pyradiomics, IBSI ids in the catalogue."""

from __future__ import annotations

from hgpscale.features.emphasis import Sizes, formulas, from_pairs
from hgpscale.features.region import Region


def zones_of(region: Region) -> Sizes:
    """Count a region's zones.

    Raises
    ------
    FeatureError
        The region's box is too small for any neighbour.

    """
    region.require_room((1,))
    return from_pairs(*region.zones(), region.levels)


FORMULAS = formulas(
    {
        "GrayLevelNonUniformity": "level non-uniformity",
        "GrayLevelNonUniformityNormalized": "level non-uniformity, normalised",
        "GrayLevelVariance": "level variance",
        "HighGrayLevelZoneEmphasis": "high",
        "LargeAreaEmphasis": "large",
        "LargeAreaHighGrayLevelEmphasis": "large high",
        "LargeAreaLowGrayLevelEmphasis": "large low",
        "LowGrayLevelZoneEmphasis": "low",
        "SizeZoneNonUniformity": "size non-uniformity",
        "SizeZoneNonUniformityNormalized": "size non-uniformity, normalised",
        "SmallAreaEmphasis": "small",
        "SmallAreaHighGrayLevelEmphasis": "small high",
        "SmallAreaLowGrayLevelEmphasis": "small low",
        "ZoneEntropy": "entropy",
        "ZonePercentage": "percentage",
        "ZoneVariance": "size variance",
    }
)
