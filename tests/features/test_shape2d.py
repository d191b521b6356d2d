"""Shape in a slice: against pyradiomics' C code on all 16 squares and random masks, and by hand."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from reference import radiomics

from hgpscale.catalog import FAMILIES
from hgpscale.errors import FeatureError, HgpscaleError
from hgpscale.features import CpuRegion, Footprint, compute
from hgpscale.settings import Settings

Array = np.ndarray[Any, Any]

NAMES = ("Perimeter", "MeshSurface", "MaximumDiameter")
SPACINGS = [(1.0, 1.0), (2.0, 0.5), (0.7, 1.3)]


def measured(slice_: Array, spacing: tuple[float, float], names: tuple[str, ...], across: int = 0) -> list[float]:
    mask = np.expand_dims(slice_, across)
    z, y, x = np.insert(spacing, across, 5.0).tolist()
    settings = Settings(force2D=True, force2Ddimension=across)
    (found,) = compute("shape2D", [CpuRegion(Footprint(mask, (z, y, x)), settings, np.empty(0))], names)
    assert not isinstance(found, HgpscaleError), found
    return [float(value) for value in found]


def by_pyradiomics(slice_: Array, spacing: tuple[float, float]) -> list[float]:
    from radiomics import cShape

    return list(cShape.calculate_coefficients2D(np.pad(slice_, 1), np.array(spacing)))


@pytest.mark.reference
@pytest.mark.parametrize("spacing", SPACINGS, ids=str)
@pytest.mark.parametrize("square", range(1, 16))
def test_all_squares(square: int, spacing: tuple[float, float]) -> None:
    radiomics()
    slice_ = np.array([square >> bit & 1 for bit in range(4)], dtype=bool).reshape(2, 2)
    assert measured(slice_, spacing, NAMES) == pytest.approx(by_pyradiomics(slice_, spacing), rel=1e-12)


@pytest.mark.reference
@given(
    hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)).filter(
        lambda slice_: bool(slice_.any())
    ),
    st.sampled_from(SPACINGS),
    st.sampled_from([0, 1, 2]),
)
def test_random_slices(slice_: Array, spacing: tuple[float, float], across: int) -> None:
    radiomics()
    assert measured(slice_, spacing, NAMES, across) == pytest.approx(by_pyradiomics(slice_, spacing), rel=1e-12)


@pytest.mark.reference
@pytest.mark.parametrize("across", [0, 1, 2])
def test_every_feature_of_a_slice(across: int) -> None:
    radiomics()
    # The class itself: the extractor asks the wrong axis whether there is only one slice.
    from radiomics.shape2D import RadiomicsShape2D

    slice_ = np.random.default_rng(across).random((7, 9)) < 0.6
    mask = sitk.GetImageFromArray(np.expand_dims(slice_, across).astype(np.uint8))
    spacing = np.insert((1.3, 0.7), across, 5.0).tolist()
    mask.SetSpacing(spacing[::-1])
    theirs = RadiomicsShape2D(mask, mask, label=1, force2D=True, force2Ddimension=across)
    names = FAMILIES["shape2D"].names
    for name in names:
        theirs.enableFeatureByName(name)
    with warnings.catch_warnings():
        # SphericalDisproportion is deprecated.
        warnings.simplefilter("ignore")
        expected = theirs.execute()
    found = dict(zip(names, measured(slice_, (1.3, 0.7), names, across), strict=True))
    assert found == pytest.approx({name: float(value) for name, value in expected.items()}, rel=1e-12)


def test_a_rectangle_by_hand() -> None:
    names = ("PixelSurface", "MeshSurface", "Perimeter", "MaximumDiameter", "MajorAxisLength", "MinorAxisLength")
    pixels, surface, perimeter, diameter, major, minor = measured(np.ones((3, 5), dtype=bool), (2.0, 1.0), names)
    assert pixels == 30
    # The outline cuts an eighth of a voxel off each of four corners.
    assert surface == 29
    assert perimeter == pytest.approx(2 * (2 * 2.0 + 4 * 1.0) + 4 * np.hypot(1.0, 0.5))
    # From the middle of one short side's end to that of the other: 2 voxels of 2 mm along, 5 of 1 mm across.
    assert diameter == pytest.approx(max(np.hypot(4.0, 5.0), np.hypot(6.0, 4.0)))
    assert sorted([major, minor]) == pytest.approx(sorted([4 * np.sqrt(8 / 3), 4 * np.sqrt(2)]))


def test_several_slices_are_refused() -> None:
    region = CpuRegion(Footprint(np.ones((2, 3, 3), dtype=bool), (1, 1, 1)), Settings(force2D=True), np.empty(0))
    (found,) = compute("shape2D", [region], ["Perimeter"])
    assert isinstance(found, FeatureError)
    assert "one slice across force2Ddimension 0" in str(found)
