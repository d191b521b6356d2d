"""Formulas: from a region's voxels and counts to numbers, one family a file.

Each family module has `FORMULAS`, a table from pyradiomics' feature name to a function of the family's counts.
The tables hold exactly the features of `hgpscale.catalog`; a test checks it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hgpscale.features import firstorder, glcm, gldm, glrlm, glszm, ngtdm, shape
from hgpscale.features.region import Region

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FAMILY_MODULES", "Region", "compute"]

_Formulas = dict[str, Callable[[Any], Any]]

FAMILY_MODULES: dict[str, tuple[Callable[[Region], Any], _Formulas]] = {
    "firstorder": (firstorder.Intensities.of, firstorder.FORMULAS),
    "shape": (shape.Mesh.of, shape.FORMULAS),
    "glcm": (glcm.Pairs.of, glcm.FORMULAS),
    "glrlm": (glrlm.runs_of, glrlm.FORMULAS),
    "glszm": (glszm.zones_of, glszm.FORMULAS),
    "gldm": (gldm.dependence_of, gldm.FORMULAS),
    "ngtdm": (ngtdm.Differences.of, ngtdm.FORMULAS),
}


def compute(family: str, region: Region, names: Sequence[str]) -> NDArray[np.float64]:
    """Compute features of one family.

    Parameters
    ----------
    family
        A key of `hgpscale.catalog.FAMILIES`.
    region
        The region of interest.
    names
        Which features, in the order of the result.

    Returns
    -------
    ndarray
        float64, shape ``(len(names),)``; NaN where a single feature is undefined.

    Raises
    ------
    FeatureError
        The whole family is undefined on this region.

    """
    prepare, formulas = FAMILY_MODULES[family]
    counts = prepare(region)
    return np.array([float(formulas[name](counts)) for name in names], dtype=np.float64)
