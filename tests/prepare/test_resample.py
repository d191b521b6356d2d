"""Resampling against SimpleITK on the whole image: the same bits, from a crop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import DTYPES, _direction

from hgpscale.prepare.resample import needed_box, resample_image, resampling_grid
from hgpscale.prepare.roi import select
from hgpscale.settings import Settings
from hgpscale.volume import Geometry, Volume


@st.composite
def scans(draw: st.DrawFn) -> tuple[sitk.Image, sitk.Image]:
    """Draw a scan much larger than its region, with flat areas where a last bit decides.

    They are narrower than the margin: across a wider one the recursion settles on one of two neighbouring floats,
    and which depends on where the line begins (docs/parity.md).
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (draw(st.sampled_from([1, 3, 5, 30])), draw(st.integers(60, 110)), draw(st.integers(60, 130)))
    dtype = draw(st.sampled_from(DTYPES))
    voxels = rng.normal(50, 30, shape)
    voxels[:, np.arange(shape[1]) % 40 < 25] = 40
    voxels = np.clip(voxels, 0, 200).astype(dtype)
    mask = np.zeros(shape, np.uint8)
    lower = [int(rng.integers(0, max(n - 12, 1))) for n in shape]
    mask[tuple(slice(a, a + 12) for a in lower)] = 1
    spacing = [draw(st.sampled_from([0.5, 0.7, 0.78125, 1.0, 2.0, 3.0])) for _ in range(3)]
    direction = _direction(draw(st.sampled_from(["straight", "flipped", "swapped", "oblique"])), rng)
    found = sitk.GetImageFromArray(voxels), sitk.GetImageFromArray(mask)
    for volume in found:
        volume.SetSpacing(spacing)
        volume.SetOrigin((17.3, -120.9, 433.1))
        volume.SetDirection(direction)
    return found


def resampled_by_itk(image: sitk.Image, grid: Geometry, interpolator: int) -> np.ndarray[Any, Any]:
    resampler = sitk.ResampleImageFilter()
    resampler.SetInterpolator(interpolator)
    resampler.SetOutputSpacing(grid.spacing[::-1])
    resampler.SetOutputDirection(grid.direction)
    resampler.SetOutputOrigin(grid.origin)
    resampler.SetSize(grid.size[::-1])
    return np.asarray(sitk.GetArrayFromImage(resampler.Execute(image)))


@pytest.mark.parametrize("interpolator", ["sitkBSpline", "sitkNearestNeighbor", "sitkLinear"])
@settings(max_examples=40)
@given(scan=scans(), spacing=st.sampled_from([(1, 1, 1), (2, 2, 2), (0, 0, 2.5), (0.8, 0.9, 1.7)]))
def test_a_crop_gives_the_bits_of_the_whole(
    scan: tuple[sitk.Image, sitk.Image], spacing: tuple[float, float, float], interpolator: str
) -> None:
    image, roi = Volume.of(scan[0]), select(Volume.of(scan[1]), 1)
    chosen = Settings(resampledPixelSpacing=spacing, interpolator=interpolator)
    grid = resampling_grid(image.geometry, roi, chosen)
    assume(grid is not None)
    assert grid is not None
    crop = image.crop(*needed_box(image.geometry, grid, interpolator))
    ours = resample_image(crop, grid, interpolator)
    theirs = resampled_by_itk(scan[0], grid, getattr(sitk, interpolator))
    assert ours.array.dtype == theirs.dtype
    np.testing.assert_array_equal(ours.array, theirs)


def test_an_image_that_has_the_spacing_is_left_alone() -> None:
    mask = Volume.of(sitk.GetImageFromArray(np.ones((4, 4, 4), np.uint8)))
    chosen = Settings(resampledPixelSpacing=(1, 1, 1))
    assert resampling_grid(mask.geometry, select(mask, 1), chosen) is None


def test_an_axis_of_0_and_a_single_slice_keep_their_spacing() -> None:
    image = sitk.GetImageFromArray(np.ones((4, 5, 6), np.uint8))
    image.SetSpacing((0.7, 0.8, 3.0))
    mask = Volume.of(image)
    slab = mask.crop((2, 0, 0), (3, 5, 6))
    for roi, asked, expected in (
        (slab, (1.0, 1.0, 1.0), (3.0, 1.0, 1.0)),
        (mask, (2.0, 0.0, 2.0), (2.0, 0.8, 2.0)),
    ):
        grid = resampling_grid(mask.geometry, roi, Settings(resampledPixelSpacing=asked))
        assert grid is not None
        assert grid.spacing == expected
