"""From voxel values to grey levels, by pyradiomics' bins.

Fixed bin width: bins start at multiples of the width, so that a level means the same HU in every lesion.
Fixed bin count: equal bins over the region's range. Source: pyradiomics documentation of ``binWidth`` and
``binCount``; the differences from IBSI's discretisation (manual, "Grey level discretisation") are in the catalogue.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hgpscale.errors import VoxelError
from hgpscale.kernels.digitize import digitize

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hgpscale.settings import Settings

MAX_BINS = 1_000_000


class Discretised(NamedTuple):
    """The grey levels of a region.

    Attributes
    ----------
    bins
        int32, shape ``(n_voxel,)``: each voxel's level; bin 1 holds the region's minimum.
    levels
        int64, shape ``(n_levels,)``: the levels found, ascending.
    counts
        int64, shape ``(n_levels,)``: voxels at each level.

    """

    bins: NDArray[np.int32]
    levels: NDArray[np.int64]
    counts: NDArray[np.int64]


def bin_edges(values: NDArray[Any], settings: Settings) -> NDArray[np.float64]:
    """Return the edges of the bins, computed in the image's own type as pyradiomics does.

    One departure: integer types are computed in Python's integers, where pyradiomics overflows for values near
    the end of the type's range.

    Parameters
    ----------
    values
        The region's voxels, any numeric type, finite.
    settings
        `binCount` if given, else `binWidth`.

    Raises
    ------
    VoxelError
        More than a million bins, values that differ by less than `binCount` steps of their type, or values so large
        that adding `binWidth` changes nothing.

    """
    if settings.binCount is not None:
        try:
            edges = np.histogram_bin_edges(values, settings.binCount)
        except ValueError as error:
            raise VoxelError(
                f"voxels from {values.min():.17g} to {values.max():.17g} are too close together for "
                f"{settings.binCount} bins; use binWidth"
            ) from error
        edges[-1] += 1
        return edges.astype(np.float64)
    low, high = values.min(), values.max()
    if values.dtype.kind in "iu":
        low, high = int(low), int(high)
    width = settings.binWidth
    bins = (float(high) - float(low)) / width
    if bins > MAX_BINS:
        raise VoxelError(
            f"voxels from {low:g} to {high:g} make {bins:.3g} bins of width {width:g}; check the image's unit or "
            "choose a wider binWidth"
        )
    edges = np.arange(low - low % width, high + 2 * width, width)
    if edges.size < 2:
        raise VoxelError(
            f"voxels of {low:g} are too large to tell bins of width {width:g} apart; check the image's unit"
        )
    return edges.astype(np.float64)


def discretise(values: NDArray[Any], settings: Settings) -> Discretised:
    """Sort the region's voxels into bins.

    Parameters
    ----------
    values
        The region's voxels in raster order, in the image's own type, finite, shape ``(n_voxel,)``.
    settings
        Decides the bins.

    Raises
    ------
    VoxelError
        See `bin_edges`.

    """
    bins, counts = digitize(values.astype(np.float64, copy=False), bin_edges(values, settings))
    levels = np.flatnonzero(counts)
    return Discretised(bins, levels, counts[levels])
