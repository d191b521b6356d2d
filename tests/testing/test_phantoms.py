"""Phantoms against analytic volumes, SimpleITK's own measurements and theory of smoothed noise."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from hgpscale.testing import (
    Appearance,
    GrowthPattern,
    LesionModel,
    LiverPhantom,
    Scanner,
    ellipsoid_volume,
    liver_block,
    liver_phantom,
    outline,
    place_lesions,
    sphere,
)
from hgpscale.testing.models import LIVER
from hgpscale.testing.phantoms import LIVER_CENTRE, correlated_noise

COARSE = Scanner(spacing=(2.0, 2.0, 2.0), noise=8.0, kernel=2.0)
NOISELESS = dataclasses.replace(COARSE, noise=0.0, kernel=0.0)
DESMOPLASTIC, REPLACEMENT, PUSHING = GrowthPattern(1, 0, 0), GrowthPattern(0, 1, 0), GrowthPattern(0, 0, 1)


def ball(pattern: GrowthPattern, diameter: float = 40.0) -> LesionModel:
    radius = diameter / 2
    return LesionModel(LIVER_CENTRE, (radius, radius, radius), pattern)


def distance(phantom: LiverPhantom, lesion: LesionModel) -> NDArray[np.float64]:
    """Return the distance in mm of every voxel from the middle of `lesion`, by SimpleITK's own geometry."""
    image = phantom.image.to_sitk()
    centre = [round(c / s) for c, s in zip(lesion.centre, phantom.image.geometry.spacing, strict=True)]
    assert image.TransformPhysicalPointToIndex(lesion.centre[::-1])[::-1] == tuple(centre)
    grid = sitk.PhysicalPointSource(sitk.sitkVectorFloat64, image.GetSize(), image.GetOrigin(), image.GetSpacing())
    offsets = sitk.GetArrayFromImage(grid) - np.array(lesion.centre[::-1])
    return np.asarray(np.sqrt((offsets**2).sum(axis=-1)), np.float64)


@pytest.mark.parametrize("diameter", [8, 12, 20, 30, 45, 60])
def test_masks_have_the_volume_of_their_ellipsoids(diameter: int) -> None:
    rng = np.random.default_rng(diameter)
    (lesion,) = place_lesions([diameter], [PUSHING], rng)
    phantom = liver_phantom([lesion], COARSE, rng)
    assert lesion.volume == pytest.approx(np.pi / 6 * diameter**3)
    measured = phantom.labels.array.sum() * 8.0
    # Each voxel that counts lies with its centre inside: its cube is inside when half a diagonal is added.
    half = np.sqrt(12) / 2
    radii = np.array(lesion.radii)
    assert ellipsoid_volume(tuple(np.maximum(radii - half, 0))) <= measured <= ellipsoid_volume(tuple(radii + half))
    if diameter >= 20:
        assert measured == pytest.approx(lesion.volume, rel=0.02)


def test_masks_lie_where_the_models_say() -> None:
    rng = np.random.default_rng(5)
    lesions = place_lesions([30, 16, 24], [PUSHING, REPLACEMENT, DESMOPLASTIC], rng)
    phantom = liver_phantom(lesions, Scanner(), rng)
    statistics = sitk.LabelShapeStatisticsImageFilter()
    statistics.Execute(phantom.labels.to_sitk())
    assert statistics.GetLabels() == (1, 2, 3)
    for number, lesion in enumerate(lesions, start=1):
        np.testing.assert_allclose(statistics.GetCentroid(number)[::-1], lesion.centre, atol=0.3)
        assert statistics.GetPhysicalSize(number) == pytest.approx(lesion.volume, rel=0.05)


def test_image_and_outlines_share_one_grid_and_their_types() -> None:
    phantom = liver_phantom([ball(PUSHING)], COARSE, np.random.default_rng(0))
    assert phantom.image.geometry == phantom.labels.geometry == phantom.liver.geometry == COARSE.geometry
    assert phantom.image.array.shape == COARSE.geometry.size == (66, 112, 112)
    volumes = (phantom.image, phantom.labels, phantom.liver)
    assert [str(volume.array.dtype) for volume in volumes] == ["int16", "uint8", "uint8"]
    assert (phantom.liver.array[phantom.labels.array > 0] == 1).all()


def test_equal_seeds_give_equal_voxels_and_other_seeds_others() -> None:
    first, second, third = (
        liver_phantom([ball(REPLACEMENT)], COARSE, np.random.default_rng(seed)).image.array for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, second)
    assert (first != third).mean() > 0.5


def test_tissues_have_portal_venous_hu() -> None:
    lesion = ball(PUSHING, 50)
    phantom = liver_phantom([lesion], COARSE, np.random.default_rng(3))
    hu, far = phantom.image.array, distance(phantom, lesion)
    assert hu.min() >= -1024
    assert hu.max() < 400
    assert np.median(hu[(phantom.liver.array == 1) & (far > 40)]) == pytest.approx(110, abs=3)
    assert 30 < hu[far < 15].mean() < 80
    assert hu[:, 0, 0].mean() == pytest.approx(-1000, abs=10)


def test_noise_of_a_scanner_is_what_it_says() -> None:
    spacing = COARSE.spacing
    lesion = ball(PUSHING)
    quiet, loud = (
        liver_phantom([lesion], Scanner(spacing, noise, 2.0), np.random.default_rng(3)).image.array.astype(float)
        for noise in (0.0, 15.0)
    )
    assert (loud - quiet)[quiet > -900].std() == pytest.approx(15, rel=0.03)


def test_smoothed_noise_has_the_correlation_of_a_gaussian_kernel() -> None:
    fwhm, step = 4.0, 1.5
    field = correlated_noise((40, 120, 120), (2.0, step, step), fwhm, np.random.default_rng(0))
    assert field.mean() == pytest.approx(0, abs=1e-12)
    assert field.std() == pytest.approx(1)
    inner = field[:, 8:-8, 8:-8]
    found = np.corrcoef(inner[:, :, :-1].ravel(), inner[:, :, 1:].ravel())[0, 1]
    # A Gaussian of standard deviation s, correlated with itself, is one of s sqrt(2).
    sigma = fwhm / np.sqrt(8 * np.log(2))
    assert found == pytest.approx(np.exp(-(step**2) / (4 * sigma**2)), abs=0.02)


def test_each_pattern_marks_its_interface() -> None:
    shells = {}
    for name, pattern in (("d", DESMOPLASTIC), ("r", REPLACEMENT), ("p", PUSHING)):
        lesion = ball(pattern)
        phantom = liver_phantom([lesion], NOISELESS, np.random.default_rng(7))
        far = distance(phantom, lesion)
        hu = phantom.image.array
        shells[name] = hu[(far > 18.5) & (far < 19.5)], hu[(far > 20.5) & (far < 22.5)]
    inside = {name: shell[0] for name, shell in shells.items()}
    outside = {name: shell[1] for name, shell in shells.items()}
    assert inside["d"].mean() > LIVER > inside["r"].mean() > inside["p"].mean()
    assert inside["r"].std() > 1.5 * inside["p"].std()
    assert np.median(outside["p"]) > np.median(outside["d"]) + 8
    assert outside["r"].mean() < outside["d"].mean()


@pytest.mark.parametrize("percent", [0, 25, 60, 100])
def test_a_pattern_takes_its_share_of_the_interface(percent: int) -> None:
    lesion = ball(GrowthPattern(percent / 100, 0, 1 - percent / 100))
    phantom = liver_phantom([lesion], NOISELESS, np.random.default_rng(percent))
    far = distance(phantom, lesion)
    capsule = phantom.image.array[(far > 18) & (far < 19.5)] > 120
    assert 100 * capsule.mean() == pytest.approx(percent, abs=4)


@given(st.lists(st.integers(0, 100), min_size=2, max_size=2).map(sorted))
def test_any_percentages_that_sum_to_100_are_a_pattern(cuts: list[int]) -> None:
    d, r, p = cuts[0] / 100, (cuts[1] - cuts[0]) / 100, (100 - cuts[1]) / 100
    assert GrowthPattern(d, r, p).fractions == (d, r, p)


@pytest.mark.parametrize("fractions", [(0.5, 0.5, 0.1), (0, 0, 0), (1.2, -0.2, 0)])
def test_other_fractions_are_refused(fractions: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="sum to 1"):
        GrowthPattern(*fractions)


def test_lesions_that_leave_the_liver_or_overlap_are_refused() -> None:
    rng = np.random.default_rng(0)
    outside = LesionModel((66.0, 30.0, 96.0), (10.0, 10.0, 10.0), PUSHING)
    with pytest.raises(ValueError, match="lesion 1 leaves the liver"):
        liver_phantom([outside], COARSE, rng)
    z, y, x = LIVER_CENTRE
    with pytest.raises(ValueError, match="lesion 2 overlaps lesion 1"):
        liver_phantom([ball(PUSHING), LesionModel((z, y, x + 30), (15.0, 15.0, 15.0), PUSHING)], COARSE, rng)


def test_too_many_or_too_large_lesions_are_refused() -> None:
    with pytest.raises(ValueError, match="120 mm does not fit"):
        place_lesions([120], [PUSHING], np.random.default_rng(0))
    with pytest.raises(ValueError, match="no room for a lesion of 50 mm"):
        place_lesions([50] * 9, [PUSHING] * 9, np.random.default_rng(0))


def block(pattern: GrowthPattern, appearance: Appearance, seed: int = 3) -> LiverPhantom:
    lesion = LesionModel((20.0, 20.0, 20.0), (9.0, 9.0, 9.0), pattern, appearance)
    return liver_block([lesion], NOISELESS, (40.0, 40.0, 40.0), np.random.default_rng(seed), liver=90.0)


def test_a_block_is_liver_and_the_lesions_in_it() -> None:
    phantom = block(PUSHING, Appearance(core=30.0, texture=0.0, compression=0.0))
    assert phantom.image.array.shape == (20, 20, 20)
    assert phantom.liver.array.all()
    far = distance(phantom, phantom.lesions[0])
    np.testing.assert_array_equal(phantom.labels.array, far <= 9)
    assert np.median(phantom.image.array[far > 12]) == pytest.approx(90, abs=2)
    assert np.median(phantom.image.array[(far > 4) & (far < 7)]) == 30


def test_an_interface_that_shows_nothing_is_the_same_in_every_pattern() -> None:
    hidden = Appearance(capsule_mm=(0.0, 0.0), infiltration_mm=0.0, blurred_mm=0.3, compression=0.0)
    images = [block(pattern, hidden).image.array for pattern in (DESMOPLASTIC, REPLACEMENT, PUSHING)]
    np.testing.assert_array_equal(images[0], images[1])
    np.testing.assert_array_equal(images[0], images[2])


def test_a_capsule_reaches_as_far_as_it_says() -> None:
    appearance = Appearance(capsule=200.0, capsule_mm=(2.0, 3.0))
    phantom = block(DESMOPLASTIC, appearance)
    far = distance(phantom, phantom.lesions[0])
    np.testing.assert_array_equal(phantom.image.array == 200, (far > 7) & (far <= 12))


@pytest.mark.parametrize("centre", [(5.0, 20.0, 20.0), (20.0, 20.0, 35.0)])
def test_a_lesion_that_leaves_its_block_is_refused(centre: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="lesion 1 leaves the liver"):
        liver_block([LesionModel(centre, (9.0, 9.0, 9.0), PUSHING)], COARSE, (40.0,) * 3, np.random.default_rng(0))


@pytest.mark.parametrize("grown", [-2.0, 0.0, 2.0])
def test_an_outline_is_grown_by_as_much_as_it_says(grown: float) -> None:
    phantom = block(PUSHING, Appearance())
    rng = np.random.default_rng(0)
    drawn = outline(phantom.lesions[0], phantom.image.geometry, rng, grown=grown, shifted=0.0, uneven=0.0)
    np.testing.assert_array_equal(drawn, distance(phantom, phantom.lesions[0]) <= 9 + grown)


def test_an_outline_is_shifted_and_uneven_by_as_much_as_it_says() -> None:
    lesion = LesionModel((30.0, 30.0, 30.0), (15.0, 15.0, 15.0), PUSHING)
    geometry, rng = COARSE.grid((60.0, 60.0, 60.0)), np.random.default_rng(1)
    centres = [
        np.mean(np.argwhere(outline(lesion, geometry, rng, grown=0.0, shifted=1.5, uneven=0.0)), axis=0) * 2 + 1
        for _ in range(60)
    ]
    assert np.std(centres) == pytest.approx(1.5, rel=0.2)
    drawn = outline(lesion, geometry, rng, grown=0.0, shifted=0.0, uneven=1.0)
    phantom = liver_block([lesion], COARSE, (60.0, 60.0, 60.0), rng)
    wrong = drawn != (phantom.labels.array == 1)
    far = distance(phantom, lesion)
    assert 0.02 < wrong.sum() / drawn.sum() < 0.3
    assert np.abs(far[wrong] - 15).max() < 4


def test_sphere_has_its_volume_noise_and_geometry() -> None:
    image, mask = sphere(45, spacing=(1.0, 0.8, 0.9), noise=12)
    assert image.GetSpacing() == mask.GetSpacing() == (0.9, 0.8, 1.0)
    assert (image.GetPixelID(), mask.GetPixelID()) == (sitk.sitkInt16, sitk.sitkUInt8)
    statistics = sitk.LabelIntensityStatisticsImageFilter()
    statistics.Execute(mask, image)
    assert statistics.GetPhysicalSize(1) == pytest.approx(np.pi / 6 * 45**3, rel=0.005)
    assert statistics.GetStandardDeviation(1) == pytest.approx(12, rel=0.05)
    middle = [(n - 1) / 2 * s for n, s in zip(image.GetSize(), image.GetSpacing(), strict=True)]
    np.testing.assert_allclose(statistics.GetCentroid(1), middle, atol=0.01)


def test_sphere_keeps_to_the_shape_that_was_asked_for() -> None:
    image, mask = sphere(10, spacing=(1.0, 1.0, 1.0), shape=(20, 30, 40), seed=4)
    assert image.GetSize() == mask.GetSize() == (40, 30, 20)
    again, _ = sphere(10, spacing=(1.0, 1.0, 1.0), shape=(20, 30, 40), seed=4)
    assert sitk.Hash(image) == sitk.Hash(again)
    with pytest.raises(ValueError, match="does not fit"):
        sphere(45, spacing=(1.0, 1.0, 1.0), shape=(20, 30, 40))
