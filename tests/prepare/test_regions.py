"""Regions by distance from the surface: against brute force, formulas and hand-made cases."""

import math
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from hgpscale.bands import Band, band_of
from hgpscale.errors import SettingsError
from hgpscale.prepare.regions import region_masks, signed_distance, surface_level
from hgpscale.settings import Settings

Mask = NDArray[np.bool_]
Spacing = tuple[float, float, float]


def crossings(mask: Mask, spacing: Spacing) -> Iterator[tuple[float, float, float]]:
    """Yield every point, in mm, at which a line between two voxel centres leaves the region."""
    level = surface_level(mask)
    for at in product(*map(range, mask.shape)):
        for axis in range(3):
            beside = tuple(i + (k == axis) for k, i in enumerate(at))
            if beside[axis] < mask.shape[axis] and mask[at] != mask[beside]:
                share = (level[at] - 0.5) / (level[at] - level[beside])
                z, y, x = (s * (i + share * (k == axis)) for k, (i, s) in enumerate(zip(at, spacing, strict=True)))
                yield z, y, x


@settings(deadline=None, max_examples=60)
@given(
    arrays(bool, st.tuples(*[st.integers(1, 6)] * 3)),
    st.tuples(*[st.sampled_from([0.5, 0.8, 1.0, 2.5, 5.0])] * 3),
)
def test_distances_are_those_that_a_search_of_all_points_finds(mask: Mask, spacing: Spacing) -> None:
    found = signed_distance(mask, spacing)
    points = np.array(list(crossings(mask, spacing)))
    centres = np.argwhere(np.ones_like(mask)) * np.array(spacing)
    if not points.size:
        assert np.isinf(found).all()
        return
    wanted = np.sqrt(((centres[:, None] - points) ** 2).sum(axis=2)).min(axis=1).reshape(mask.shape)
    np.testing.assert_allclose(np.abs(found), wanted, rtol=0, atol=1e-9)
    assert ((found < 0) == mask).all()


def sphere(radius: float, spacing: Spacing, room: float) -> Mask:
    """Return a sphere whose middle is on no voxel centre."""
    axes = []
    for step, shift in zip(spacing, (0.13, 0.31, 0.27), strict=True):
        n = math.ceil((radius + room) / step) + 2
        axes.append((np.arange(-n, n + 1) + shift) * step)
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    ball: Mask = z**2 + y**2 + x**2 <= radius**2
    return ball


def shell(inner: float, outer: float) -> float:
    return 4 / 3 * math.pi * (outer**3 - inner**3)


@pytest.mark.parametrize(("radius", "spacing"), [(20, (1, 1, 1)), (30, (1, 1, 1)), (15, (0.5, 0.5, 0.5))])
def test_a_margin_of_4_mm_has_the_volume_of_the_formula_within_1_percent(radius: float, spacing: Spacing) -> None:
    ball = sphere(radius, spacing, 5)
    margin = region_masks(ball, spacing, {"margin": Band(0, 4)})["margin"]
    volume = np.count_nonzero(margin) * math.prod(spacing)
    assert volume == pytest.approx(shell(radius, radius + 4), rel=0.01)


@pytest.mark.parametrize(("spacing", "off"), [((1, 1, 1), 0.1), ((2.5, 0.8, 0.8), 0.25)])
def test_every_band_of_a_sphere_ends_where_it_should_within_a_tenth_of_the_widest_step(
    spacing: Spacing, off: float
) -> None:
    bands = {"core": Band(-math.inf, -5), "rim": Band(-3, 3), "margin-2-6": Band(2, 6)}
    masks = region_masks(sphere(20, spacing, 8), spacing, bands)
    radii = {"core": (-off, 15), "rim": (17, 23), "margin-2-6": (22, 26)}
    for name, (inner, outer) in radii.items():
        volume = np.count_nonzero(masks[name]) * math.prod(spacing)
        assert shell(max(inner + off, 0), outer - off) < volume < shell(max(inner - off, 0), outer + off)


def test_the_surface_of_a_cuboid_lies_half_way_between_voxels() -> None:
    lesion = np.zeros((9, 13, 17), bool)
    lesion[3:6, 4:9, 5:12] = True
    distance = signed_distance(lesion, (5.0, 1.0, 2.0))
    # Across the middle of a face nothing bends: half a voxel, then one more with every step.
    assert distance[4, 6, 4:0:-1] == pytest.approx([1, 3, 5, 7])
    assert distance[4, 3:0:-1, 8] == pytest.approx([0.5, 1.5, 2.5])
    assert distance[2, 6, 8] == pytest.approx(2.5)


def test_outside_bands_enter_neither_what_is_blocked_nor_air() -> None:
    lesion = sphere(6, (1, 1, 1), 6)
    blocked = np.zeros_like(lesion)
    blocked[: len(lesion) // 2] = True
    voxels = np.full(lesion.shape, 50, np.int16)
    voxels[:, :, : lesion.shape[2] // 2] = -1000
    bands = {"core": Band(-math.inf, -2), "rim": Band(-3, 3), "margin": Band(0, 4)}
    free, bounded = (
        region_masks(lesion, (1, 1, 1), bands),
        region_masks(lesion, (1, 1, 1), bands, blocked, voxels, -200),
    )
    allowed = lesion | (~blocked & (voxels >= -200))
    for name in bands:
        np.testing.assert_array_equal(bounded[name], free[name] & allowed)
    np.testing.assert_array_equal(bounded["core"], free["core"])
    assert 0 < np.count_nonzero(bounded["margin"]) < np.count_nonzero(free["margin"]) / 3


@pytest.mark.parametrize(
    ("name", "value", "band"),
    [
        ("lesion", None, (-math.inf, 0)),
        ("core", 3, (-math.inf, -3)),
        ("rim", 3, (-3, 3)),
        ("rim-wide", [2, 6], (-2, 6)),
        ("margin-4mm", 4, (0, 4)),
        ("margin-2.5", [2, 4.5], (2, 4.5)),
    ],
)
def test_a_name_says_the_kind_and_a_value_how_far(name: str, value: Any, band: tuple[float, float]) -> None:
    assert band_of(name, value) == band


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("edge", 3, "unknown region 'edge'"),
        ("lesion-2", None, "unknown region 'lesion-2'"),
        ("rim__x", 3, "unknown region 'rim__x'"),
        ("rim", None, "region 'rim' is None, expected the mm to go in and out"),
        ("core", -3, "region 'core' is -3, expected the mm to go in"),
        ("margin", [4, 2], "region 'margin' is [4, 2], expected the mm to go out"),
        ("margin", "4 mm", "region 'margin' is '4 mm', expected the mm to go out"),
        ("lesion", 4, "region 'lesion' is 4, expected nothing"),
    ],
)
def test_a_region_that_makes_no_sense_is_refused(name: str, value: Any, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_parameters({"setting": {"regions": {name: value}}})
    assert message in str(caught.value)


def test_settings_with_regions_survive_their_file_and_those_without_stay_pyradiomics() -> None:
    chosen = Settings.of("hgp-ct")
    assert Settings.from_parameters(chosen.to_parameters()) == chosen
    assert list(chosen.regions) == ["lesion", "rim", "margin"]
    assert chosen.reach == 4
    with pytest.raises(SettingsError, match="hgp-mr: is neither a parameter file nor a preset"):
        Settings.of("hgp-mr")
    assert not {"regions", "airThreshold"} & Settings().to_parameters()["setting"].keys()
