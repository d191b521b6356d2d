"""Grey level run length features: mean over directions. Formulas: pyradiomics, IBSI ids in the catalogue."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hgpscale.errors import FeatureError
from hgpscale.features.emphasis import Sizes, formulas, from_counts
from hgpscale.features.region import ADJACENT, Region
from hgpscale.features.weighting import merge_runs
from hgpscale.kernels.offsets import half_offsets


def count_runs(regions: Sequence[Region]) -> None:
    """Count the runs of several images together."""
    type(regions[0]).count_together(regions, [ADJACENT] * len(regions))


def runs_of(region: Region) -> Sizes:
    """Count a region's runs.

    Directions in which no two voxels of the region lie on one line count nothing, as in pyradiomics: every run
    would be a single voxel there.

    Raises
    ------
    FeatureError
        No direction has two voxels of the region on one line.

    """
    region.require_room(ADJACENT)
    norm = region.settings.weightingNorm
    offsets = half_offsets(ADJACENT, region.across)
    chains = region.chains(ADJACENT)
    runs, counted = chains.runs(), chains.touching()
    for d in np.flatnonzero(~counted):
        counted[d] = _two_on_a_line(region.footprint.mask, offsets[d])
    if not counted.any():
        raise FeatureError(f"no two voxels of the region lie on one line of the {len(offsets)} directions: no run")
    runs, offsets = runs[counted], offsets[counted]
    if norm is not None:
        merged = merge_runs(runs.astype(np.float64), offsets, region.footprint.spacing, norm)
        return from_counts(merged, region.levels)
    return from_counts(runs, region.levels)


def _two_on_a_line(mask: NDArray[np.bool_], offset: NDArray[np.int64]) -> bool:
    """Whether two voxels of the region, adjacent or not, lie on one line along `offset`."""
    points = np.argwhere(mask)
    axis = int(np.flatnonzero(offset)[0])
    # Slide every voxel along its line to the plane where that axis is 0: voxels of one line meet there.
    feet = points - points[:, axis, None] * offset[axis] * offset
    return bool(np.unique(feet, axis=0).shape[0] < points.shape[0])


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
