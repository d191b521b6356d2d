"""The tables of formulas against the catalogue, and features of bodies whose shape is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from hgpscale.catalog import FAMILIES
from hgpscale.errors import FeatureError, HgpscaleError
from hgpscale.features import FAMILY_MODULES, CpuRegion, Footprint, Region, compute
from hgpscale.settings import Settings


def region(mask: np.ndarray, spacing: tuple[float, float, float]) -> Region:
    return CpuRegion(Footprint(mask, spacing), Settings(), np.arange(np.count_nonzero(mask), dtype=np.int16))


def numbers(family: str, of: Region, names: Sequence[str]) -> dict[str, float]:
    (found,) = compute(family, [of], names)
    assert not isinstance(found, HgpscaleError), found
    return dict(zip(names, found.tolist(), strict=True))


def shape(mask: np.ndarray, spacing: tuple[float, float, float] = (1, 1, 1)) -> dict[str, float]:
    return numbers("shape", region(mask, spacing), FAMILIES["shape"].names)


@pytest.mark.parametrize("family", list(FAMILIES))
def test_each_family_has_exactly_the_formulas_of_its_catalogue(family: str) -> None:
    assert tuple(FAMILY_MODULES[family].formulas) == FAMILIES[family].names


def test_a_fine_ball_has_the_volume_and_diameter_of_a_ball() -> None:
    radius, step = 20.0, 0.5
    axis = np.arange(-21, 21.5, step)
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    found = shape(z**2 + y**2 + x**2 <= radius**2, (step, step, step))
    volume = 4 / 3 * np.pi * radius**3
    assert found["MeshVolume"] == pytest.approx(volume, rel=5e-3)
    assert found["VoxelVolume"] == pytest.approx(volume, rel=5e-3)
    assert found["Maximum3DDiameter"] == pytest.approx(2 * radius, abs=2 * step)
    assert found["Elongation"] == pytest.approx(1, abs=1e-9)
    # Variance of a ball along an axis is r2 / 5.
    assert found["MajorAxisLength"] == pytest.approx(4 * radius / np.sqrt(5), rel=5e-3)
    # A mesh of halved voxel corners is rougher than the ball: at most 10 per cent more surface.
    assert 1 <= found["SurfaceArea"] / (4 * np.pi * radius**2) < 1.1


@pytest.mark.parametrize("column", range(1, 6))
def test_two_voxels_that_touch_by_an_edge_enclose_nothing(column: int) -> None:
    # Of one orientation; the surface of half voxels folds onto itself there, wherever the region lies in its box.
    mask = np.zeros((3, 3, 7), bool)
    mask[2, 0, column] = mask[2, 1, column - 1] = True
    found = shape(mask, (0.7, 0.5, 0.5))
    assert found["MeshVolume"] == 0
    assert np.isnan(found["SurfaceVolumeRatio"])
    assert found["VoxelVolume"] == pytest.approx(2 * 0.7 * 0.5 * 0.5)


def test_a_box_by_hand() -> None:
    found = shape(np.ones((2, 3, 5), dtype=bool), (2.0, 1.0, 0.5))
    assert found["VoxelVolume"] == 30
    # Vertices lie in the middle of outer faces: here from face to face along y, from centre to centre along x.
    assert found["Maximum2DDiameterSlice"] == pytest.approx(np.hypot(3 * 1.0, 4 * 0.5), rel=1e-12)
    variances = sorted(step**2 * (n**2 - 1) / 12 for n, step in ((2, 2.0), (3, 1.0), (5, 0.5)))
    lengths = [found[name] for name in ("LeastAxisLength", "MinorAxisLength", "MajorAxisLength")]
    assert lengths == pytest.approx(4 * np.sqrt(variances))


def test_first_order_by_hand() -> None:
    values = np.array([1, 2, 3, 4, 10], dtype=np.int16)
    whole = CpuRegion(Footprint(np.ones((1, 1, 5), dtype=bool), (1.0, 2.0, 0.5)), Settings(voxelArrayShift=1), values)
    wanted = {
        "Mean": 4.0,
        "Median": 3.0,
        "Minimum": 1.0,
        "Maximum": 10.0,
        "Range": 9.0,
        "Variance": 10.0,
        "Energy": 4.0 + 9 + 16 + 25 + 121,
        "TotalEnergy": 175.0,
        "RootMeanSquared": 35**0.5,
        "MeanAbsoluteDeviation": (3 + 2 + 1 + 0 + 6) / 5,
        "InterquartileRange": 2.0,
        "10Percentile": 1.4,
        "Entropy": 0.0,
        "Uniformity": 1.0,
    }
    assert numbers("firstorder", whole, list(wanted)) == pytest.approx(wanted, abs=1e-12)


def test_a_region_that_fails_leaves_the_others_alone() -> None:
    whole = region(np.ones((3, 3, 3), dtype=bool), (1, 1, 1))
    scattered = np.zeros((3, 3, 3), dtype=bool)
    scattered[0, 0, 0] = scattered[2, 2, 2] = True
    names = FAMILIES["glcm"].names
    first, failed, last = compute("glcm", [whole, region(scattered, (1, 1, 1)), whole], names)
    assert isinstance(failed, FeatureError)
    assert not isinstance(first, HgpscaleError)
    np.testing.assert_array_equal(first, last)
    assert np.isfinite(first).all()
