"""Formulas: from a region's voxels and counts to numbers, one family a file.

Each family module has `FORMULAS`, a table from pyradiomics' feature name to a function of the family's sums. The
tables hold exactly the features of `hgpscale.catalog`; a test checks it. Pairs and runs are counted for all regions
together, other textures region by region; the counts are reduced to sums and marginals, and the formulas run once over
the rows of all regions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hgpscale.errors import HgpscaleError
from hgpscale.features import firstorder, glcm, gldm, glrlm, glszm, ngtdm, shape, shape2d
from hgpscale.features.emphasis import Sized
from hgpscale.features.on_cpu import CpuRegion
from hgpscale.features.region import Footprint, Region
from hgpscale.features.rows import mean_by_region

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FAMILY_MODULES", "CpuRegion", "Footprint", "Region", "compute"]


class _Family(NamedTuple):
    """How a family is computed.

    Attributes
    ----------
    count
        From a region to its counts; raises `HgpscaleError` where the family is undefined.
    join
        From the counts of several regions to the sums over them; None where each region stands alone.
    formulas
        From the sums to one number a row, by feature.
    beforehand
        What is faster counted for all regions at once; a region for which that fails says why in `count`.

    """

    count: Callable[[Region], Any]
    join: Callable[[Sequence[Any]], Any] | None
    formulas: dict[str, Callable[[Any], Any]]
    beforehand: Callable[[Sequence[Region]], None] | None = None


FAMILY_MODULES: dict[str, _Family] = {
    "firstorder": _Family(firstorder.sums_of, firstorder.Intensities.of, firstorder.FORMULAS),
    "shape": _Family(shape.Mesh.of, None, shape.FORMULAS),
    "shape2D": _Family(shape2d.Outline.of, None, shape2d.FORMULAS),
    "glcm": _Family(glcm.probabilities_of, glcm.Pairs.of, glcm.FORMULAS, glcm.count_pairs),
    "glrlm": _Family(glrlm.runs_of, Sized.of, glrlm.FORMULAS, glrlm.count_runs),
    "glszm": _Family(glszm.zones_of, Sized.of, glszm.FORMULAS),
    "gldm": _Family(gldm.dependence_of, Sized.of, gldm.FORMULAS),
    "ngtdm": _Family(ngtdm.matrix_of, ngtdm.Differences.of, ngtdm.FORMULAS),
}


def compute(family: str, regions: Sequence[Region], names: Sequence[str]) -> list[NDArray[np.float64] | HgpscaleError]:
    """Compute features of one family on several regions, such as the image types of one lesion.

    Parameters
    ----------
    family
        A key of `hgpscale.catalog.FAMILIES`.
    regions
        The regions of interest.
    names
        Which features, in the order of the results.

    Returns
    -------
    list
        For each region float64, shape ``(len(names),)``, NaN where a single feature is undefined; or a `FeatureError`
        or `VoxelError` that says why the whole family is undefined on it.

    """
    how = FAMILY_MODULES[family]
    if how.beforehand:
        how.beforehand(regions)
    results = [_counted(how.count, region) for region in regions]
    counted = [k for k, counts in enumerate(results) if not isinstance(counts, HgpscaleError)]
    if counted:
        numbers = _numbers(how, [results[k] for k in counted], names)
        for k, row in zip(counted, numbers, strict=True):
            results[k] = row
    return results


def _counted(count: Callable[[Region], Any], region: Region) -> Any:
    try:
        return count(region)
    except HgpscaleError as error:
        # A traceback holds the region, and with it all images, until Python next looks for cycles.
        return error.with_traceback(None)


def _numbers(how: _Family, counts: Sequence[Any], names: Sequence[str]) -> NDArray[np.float64]:
    """Return features, float64, shape ``(n_region, len(names))``."""
    if how.join is None:
        return np.array([[how.formulas[name](region) for name in names] for region in counts], dtype=np.float64)
    rows = how.join(counts)
    by_row = np.array([how.formulas[name](rows) for name in names], dtype=np.float64)
    return mean_by_region(by_row, rows.first).T
