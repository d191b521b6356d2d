"""Filters on a cut against pyradiomics' filters on the whole image: the same bits and types."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from filtered import Box, assert_same_bits, ours, texture, theirs

from hgpscale.errors import FilterError
from hgpscale.filters import FILTERS

pytestmark = pytest.mark.reference

SPACING = (2.0, 0.7, 1.0)
INSIDE: Box = ((2, 3, 1), (7, 8, 6))
CORNER: Box = ((0, 0, 8), (3, 2, 12))


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("kind", ["noise", "half flat", "constant", "few levels"])
@pytest.mark.parametrize("name", FILTERS)
def test_small_images_of_every_kind(name: str, kind: str, dtype: type) -> None:
    image = texture(kind, (9, 11, 12), dtype)
    assert_same_bits(name, image, INSIDE, SPACING)
    assert_same_bits(name, image, CORNER, SPACING)


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
@pytest.mark.parametrize("kind", ["noise", "half flat"])
@pytest.mark.parametrize("name", [name for name in FILTERS if name != "LoG"])
def test_far_from_the_borders_of_a_large_image(name: str, kind: str, dtype: type) -> None:
    image = texture(kind, (90, 100, 121), dtype)
    assert_same_bits(name, image, ((43, 47, 57), (46, 52, 62)), SPACING)


@pytest.mark.parametrize("spacing", [(3.0, 1.0, 0.8), (1.0, 2.0, 0.4)])
@pytest.mark.parametrize("where", [0.0, 0.5, 1.0])
def test_log_in_a_large_image(where: float, spacing: tuple[float, float, float]) -> None:
    image = texture("noise", (60, 130, 140), np.int16)
    z, y, x = (round(where * (n - 8)) for n in image.shape)
    assert_same_bits("LoG", image, ((z, y, x), (z + 8, y + 8, x + 8)), spacing, sigma=(0.6, 1.0, 1.5))


def test_log_where_all_around_is_flat() -> None:
    """There both are rounding errors that depend on where the line began."""
    image = texture("half flat", (40, 90, 100), np.int16)
    box: Box = ((18, 40, 2), (24, 46, 8))
    found, expected = ours("LoG", image, box, sigma=(1, 2)), theirs("LoG", image, box, sigma=(1, 2))
    for name, array in expected.items():
        mine = found[name]
        assert isinstance(mine, np.ndarray)
        np.testing.assert_allclose(mine, array, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("shape", "sigma"), [((3, 9, 9), (1,)), ((9, 9, 9), (1, 9.0)), ((9, 9, 9), (8, 8.5)), ((4, 5, 6), (3, 1))]
)
def test_log_fails_where_pyradiomics_leaves_the_image_out(shape: tuple[int, int, int], sigma: tuple[float]) -> None:
    image = texture("noise", shape, np.int16)
    box: Box = ((0, 0, 0), shape)
    found, expected = ours("LoG", image, box, sigma=sigma), theirs("LoG", image, box, sigma=sigma)
    assert [name for name, array in found.items() if not isinstance(array, FilterError)] == list(expected)
    assert len(found) == len(sigma)
    assert all("voxels" in str(array) for array in found.values() if isinstance(array, FilterError))


@pytest.mark.parametrize("chosen", [{}, {"level": 2}, {"start_level": 1, "level": 2}, {"start_level": 2}])
@pytest.mark.parametrize("wavelet", ["haar", "db4", "sym5", "coif1", "coif3", "bior2.2", "rbio1.3", "dmey"])
def test_wavelets(wavelet: str, chosen: dict[str, Any]) -> None:
    for dtype in (np.int16, np.float32) if wavelet != "dmey" else (np.float32,):  # whose 62 taps take long enough
        image = texture("half flat", (6, 11, 12), dtype)
        assert_same_bits("Wavelet", image, ((2, 3, 0), (6, 8, 12)), wavelet=wavelet, **chosen)
        image = texture("half flat", (21, 40, 50), dtype)
        assert_same_bits("Wavelet", image, ((9, 20, 25), (11, 23, 28)), wavelet=wavelet, **chosen)


@pytest.mark.parametrize("across", [0, 1, 2])
@pytest.mark.parametrize("name", ["Wavelet", "LBP2D"])
def test_slices(name: str, across: int) -> None:
    image = texture("half flat", (21, 22, 33), np.int16)
    assert_same_bits(name, image, ((9, 8, 15), (13, 11, 18)), force2D=True, force2Ddimension=across)
    assert_same_bits(name, image, ((0, 0, 0), (1, 1, 1)), force2D=True, force2Ddimension=across)


def test_gradient_a_voxel() -> None:
    assert_same_bits("Gradient", texture("noise", (9, 9, 9), np.int16), INSIDE, SPACING, gradientUseSpacing=False)


@pytest.mark.parametrize("method", ["default", "ror", "uniform", "nri_uniform", "var"])
@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32, np.float64])
def test_methods_of_lbp2d(method: str, dtype: type) -> None:
    image = texture("half flat", (9, 40, 41), dtype)
    box: Box = ((2, 17, 17), (5, 24, 26))
    assert_same_bits("LBP2D", image, box, lbp2DMethod=method, lbp2DRadius=2.5, lbp2DSamples=7)


@pytest.mark.parametrize("radius", [1.0, 2.5])
@pytest.mark.parametrize(("levels", "subdivision"), [(2, 0), (3, 1), (5, 2)])
def test_settings_of_lbp3d(radius: float, levels: int, subdivision: int) -> None:
    image = texture("few levels", (9, 11, 12), np.int16)
    chosen: dict[str, Any] = {
        "lbp3DLevels": levels,
        "lbp3DIcosphereRadius": radius,
        "lbp3DIcosphereSubdivision": subdivision,
    }
    assert_same_bits("LBP3D", image, INSIDE, **chosen)
