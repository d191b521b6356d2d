"""pyradiomics' published texture matrices: what our kernels count of the same regions, cell by cell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hgpscale.features import CpuRegion, Footprint
from hgpscale.kernels.gldm import count_dependence
from hgpscale.kernels.glszm import zones
from hgpscale.kernels.ngtdm import count_differences
from hgpscale.kernels.offsets import all_offsets
from hgpscale.prepare.prepared import prepare
from hgpscale.settings import Settings
from hgpscale.single import cut_lesion

pytestmark = pytest.mark.shared_data

Array = np.ndarray[Any, Any]


def _glcm(region: CpuRegion) -> Array:
    pairs = region.chains((1,)).pairs().astype(np.float64)
    pairs += pairs.transpose(0, 2, 1)
    found: Array = (pairs / pairs.sum(axis=(1, 2), keepdims=True)).transpose(1, 2, 0)
    return found


def _glrlm(region: CpuRegion) -> Array:
    return region.chains((1,)).runs().transpose(1, 2, 0)


def _glszm(region: CpuRegion) -> Array:
    ranks, sizes = zones(region.grid)
    found = np.zeros((region.discretised.levels.size, sizes.max()))
    np.add.at(found, (ranks - 1, sizes - 1), 1)
    return found


def _gldm(region: CpuRegion) -> Array:
    return np.asarray(count_dependence(region.grid, region.discretised.levels, all_offsets((1,)), 0))


def _ngtdm(region: CpuRegion) -> Array:
    levels = region.discretised.levels
    around = region.footprint.n_neighbour((1,), None)
    n, differences = np.arange(27), count_differences(region.discretised.bins, levels, region.box, (1,), None, around)
    with np.errstate(invalid="ignore", divide="ignore"):
        s = np.where(n > 0, differences / n, 0).sum(axis=1)
    return np.stack([region.discretised.counts, s, levels], axis=1)


MATRICES: dict[str, Callable[[CpuRegion], Array]] = {
    "glcm": _glcm,
    "glrlm": _glrlm,
    "glszm": _glszm,
    "gldm": _gldm,
    "ngtdm": _ngtdm,
}


def _without_empty_columns(matrix: Array) -> Array:
    """Leave out run lengths, zone sizes and dependences that no level has: not all published files keep them."""
    others = tuple(axis for axis in range(matrix.ndim) if axis != 1)
    return matrix[:, matrix.any(axis=others)]


@pytest.mark.parametrize("family", list(MATRICES))
@pytest.mark.parametrize("name", ["brain1", "breast1", "lung1"])
def test_matrices_are_the_published_ones(name: str, family: str, shared_data: Path) -> None:
    folder = shared_data / "pyradiomics" / "data"
    settings = Settings()
    prepared = prepare(cut_lesion(folder / f"{name}_image.nrrd", folder / f"{name}_label.nrrd", 1, settings), settings)
    values = prepared.source.wanted()[prepared.source.mask]
    region = CpuRegion(Footprint(prepared.source.mask, prepared.spacing), settings, values)
    published = np.load(folder / "baseline" / f"{name}_{family}.npy", allow_pickle=False)
    found = MATRICES[family](region)
    if family in ("glcm", "ngtdm"):
        np.testing.assert_allclose(found, published, rtol=1e-12, atol=0)
    else:
        np.testing.assert_array_equal(_without_empty_columns(found), _without_empty_columns(published))
