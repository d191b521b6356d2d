"""Filters without pyradiomics: against PyWavelets and SimpleITK on the whole image, and by hand."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pywt
import SimpleITK as sitk
from filtered import Array, Box, cut, ours, settings, texture
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

import hgpscale.filters
from hgpscale.catalog import IMAGE_TYPES
from hgpscale.errors import FilterError
from hgpscale.filters import FILTERS, missing
from hgpscale.filters.intensity import exponential, logarithm, square, square_root
from hgpscale.kernels.recursive_gaussian import add_scaled, filter_lines
from hgpscale.kernels.wavelet import convolve


@st.composite
def boxes(draw: st.DrawFn, shortest: int = 1) -> tuple[tuple[int, ...], Box]:
    shape = tuple(draw(st.integers(shortest, 40)) for _ in range(3))
    lower = tuple(draw(st.integers(0, n - 1)) for n in shape)
    upper = tuple(draw(st.integers(a + 1, min(n, a + 5))) for a, n in zip(lower, shape, strict=True))
    return shape, (lower, upper)  # type: ignore[return-value]


def _arrays(found: dict[str, Array | FilterError]) -> dict[str, Array]:
    assert all(isinstance(array, np.ndarray) for array in found.values()), found
    return found  # type: ignore[return-value]


def _slices(box: Box) -> tuple[slice, ...]:
    return tuple(slice(a, b) for a, b in zip(*box, strict=True))


@profile(max_examples=40)
@given(
    boxes(),
    st.sampled_from(["haar", "coif1", "db4", "rbio1.3", "dmey"]),
    st.sampled_from([np.int16, np.float32, np.float64]),
)
def test_wavelet_has_the_bits_of_pywavelets(where: tuple[tuple[int, ...], Box], wavelet: str, dtype: Any) -> None:
    shape, box = where
    image = texture("half flat", shape, dtype)
    periodic = np.pad(image, [(0, n % 2) for n in shape], "wrap")
    bands = pywt.swtn(periodic, wavelet, level=1, axes=(2, 1, 0))[0]
    found = _arrays(ours("Wavelet", image, box, wavelet=wavelet))
    assert len(found) == len(bands)
    for letters, band in bands.items():
        mine = found[f"wavelet-{letters.replace('a', 'L').replace('d', 'H')}"]
        assert mine.dtype == band.dtype
        np.testing.assert_array_equal(mine, band[_slices(box)])


@profile(max_examples=40)
@given(
    boxes(shortest=5),
    st.sampled_from([np.int16, np.uint8, np.int32, np.float32, np.float64]),
    st.tuples(*[st.sampled_from([0.7, 1.0, 3.0])] * 3),
)
def test_log_has_the_bits_of_itk(
    where: tuple[tuple[int, ...], Box], dtype: Any, spacing: tuple[float, float, float]
) -> None:
    shape, box = where
    image = texture("noise", shape, dtype)
    whole = sitk.GetImageFromArray(image)
    whole.SetSpacing(spacing[::-1])
    found = _arrays(ours("LoG", image, box, spacing, sigma=(0.7, 2)))
    assert list(found) == ["log-sigma-0-7-mm-3D", "log-sigma-2-mm-3D"]
    for sigma, mine in zip((0.7, 2), found.values(), strict=True):
        expected = sitk.GetArrayFromImage(sitk.LaplacianRecursiveGaussian(whole, sigma, True))
        np.testing.assert_array_equal(mine, expected[_slices(box)])


@profile(max_examples=60)
@given(
    boxes(),
    st.sampled_from([np.int16, np.uint8, np.uint16, np.int32, np.float32, np.float64]),
    st.tuples(*[st.sampled_from([0.7, 0.976562, 1.0, 3.27])] * 3),
    st.booleans(),
)
def test_gradient_has_the_bits_of_itk(
    where: tuple[tuple[int, ...], Box], dtype: Any, spacing: tuple[float, float, float], by_mm: bool
) -> None:
    shape, box = where
    image = texture("noise", shape, dtype)
    whole = sitk.GetImageFromArray(image)
    whole.SetSpacing(spacing[::-1])
    expected = sitk.GetArrayFromImage(sitk.GradientMagnitude(whole, by_mm))
    found = _arrays(ours("Gradient", image, box, spacing, gradientUseSpacing=by_mm))["gradient"]
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected[_slices(box)])


def test_intensity_by_hand() -> None:
    voxels, peak = np.array([-100.0, -3.0, 0.0, 1.0, 25.0]), np.float64(100.0)
    np.testing.assert_allclose(square(voxels, peak), [100, 0.09, 0, 0.01, 6.25])
    np.testing.assert_allclose(square_root(voxels, peak), [-100, -np.sqrt(300), 0, 10, 50])
    scale = 100 / np.log(101)
    np.testing.assert_allclose(
        logarithm(voxels, peak), [-100, -scale * np.log(4), 0, scale * np.log(2), scale * np.log(26)]
    )
    np.testing.assert_allclose(exponential(voxels, peak), 100.0 ** (voxels / 100))


def test_an_image_of_zeros_warns_nobody() -> None:
    image = np.zeros((5, 5, 5), np.int16)
    for name in hgpscale.filters.SCALED_BY_PEAK:
        (array,) = _arrays(ours(name, image, ((1, 1, 1), (3, 3, 3)))).values()
        assert array.shape == (2, 2, 2)


def test_a_peak_outside_of_the_box_scales() -> None:
    image = np.full((5, 5, 5), 10, np.int16)
    image[0, 0, 0] = -1000
    (array,) = _arrays(ours("Square", image, ((3, 3, 3), (4, 4, 4)))).values()
    np.testing.assert_allclose(array, 0.1)


@pytest.mark.parametrize(
    ("shape", "sigma", "said"),
    [((3, 9, 9), 1, "at least 4"), ((9, 9, 9), 20.5, "smaller sigma"), ((9, 9, 9), -1, "above 0")],
)
def test_log_says_why_there_is_no_image(shape: tuple[int, ...], sigma: float, said: str) -> None:
    (problem,) = ours("LoG", texture("noise", shape, np.int16), ((0, 0, 0), (2, 2, 2)), sigma=(sigma,)).values()
    assert isinstance(problem, FilterError)
    assert said in str(problem)
    assert problem.stage == "filter"


@pytest.mark.parametrize(
    "chosen", [{}, {"level": 3, "start_level": 1}, {"force2D": True, "sigma": (0.5, 3)}, {"lbp3DLevels": 4}]
)
def test_images_have_the_catalogues_names(chosen: dict[str, Any]) -> None:
    assert list(FILTERS) == list(IMAGE_TYPES)
    image, own = texture("noise", (12, 12, 12), np.int16), settings(**chosen)
    for name in FILTERS:
        found = ours(name, image, ((4, 4, 4), (7, 7, 7)), **chosen)
        assert tuple(found) == IMAGE_TYPES[name].names(own)
        assert all(array.shape == (3, 3, 3) for array in _arrays(found).values())


def test_lbp3d_looks_at_the_region_only() -> None:
    image, box = texture("noise", (12, 12, 12), np.int16), ((4, 4, 4), (7, 7, 7))
    source = cut(image, box, "LBP3D", (1.0, 1.0, 1.0))
    mask = np.arange(27).reshape(3, 3, 3) % 2 == 0
    everywhere = dict(FILTERS["LBP3D"].derive(source, settings()))
    for name, array in FILTERS["LBP3D"].derive(source._replace(mask=mask), settings()):
        expected = everywhere[name]
        assert isinstance(expected, np.ndarray)
        np.testing.assert_array_equal(array, np.where(mask, expected, 0))


def test_lbp3d_in_pieces_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    image, box = texture("half flat", (12, 12, 12), np.int16), ((4, 4, 4), (7, 7, 7))
    whole = ours("LBP3D", image, box)
    monkeypatch.setattr(hgpscale.filters.lbp3d, "_NUMBERS_AT_A_TIME", 1000)
    for name, array in ours("LBP3D", image, box).items():
        assert isinstance(array, np.ndarray)
        np.testing.assert_array_equal(array, _arrays(whole)[name])


def test_nothing_of_a_gpu_is_imported() -> None:
    code = "import sys, hgpscale.filters, hgpscale.prepare.resample; print([m for m in sys.modules if 'cuda' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    enabled = SimpleNamespace(image_types={"Original": {}, "LBP2D": {}, "LBP3D": {}})
    assert missing(enabled) == []  # type: ignore[arg-type]
    monkeypatch.setattr("hgpscale.filters.find_spec", lambda name: None if name == "trimesh" else object())
    (line,) = missing(enabled)  # type: ignore[arg-type]
    assert "LBP3D" in line
    assert "trimesh" in line
    assert "scipy" not in line


@profile(max_examples=30)
@given(st.integers(1, 12), st.integers(0, 30), st.sampled_from([2, 4, 6]), st.integers(1, 3))
def test_convolution_is_a_plain_sum(period: int, position: int, n_taps: int, inner: int) -> None:
    rng = np.random.default_rng(period)
    signal, taps = rng.normal(size=(2, 2 * period, inner)), rng.normal(size=n_taps)
    length, count = 2 * period, 5
    held = signal.take(np.arange(position - n_taps // 2 + 1, position + count + n_taps // 2) % length, axis=1)
    found = np.empty((2, count, inner))
    convolve(held, taps, position % length, length, found)
    for i in range(count):
        expected = sum(taps[j] * signal[:, (position + i + n_taps // 2 - j) % length] for j in range(n_taps))
        np.testing.assert_allclose(found[:, i], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "shape", [(1, 4, 1), (3, 9, 5), (70, 7, 1), (2, 12, 67), (2, 31, 1), (66, 31, 1), (1, 9, 130), (2, 8, 8)]
)
@pytest.mark.parametrize("first", [0, 2])
def test_recursion_is_a_plain_loop(shape: tuple[int, int, int], first: int) -> None:
    rng = np.random.default_rng(1)
    voxels, n = rng.normal(size=shape), shape[1]
    weights = rng.normal(size=(2, 3, 4)) / 8
    out = np.empty((shape[0], n - first - 1, shape[2]), np.float32)
    filter_lines(voxels, weights[0], weights[1], first, out)
    for outer, inner in np.ndindex(shape[0], shape[2]):
        line = voxels[outer, :, inner]
        back = _recursion(line[::-1], weights[1], 1)[::-1]
        expected = (_recursion(line, weights[0], 0) + back)[first : n - 1]
        np.testing.assert_allclose(out[outer, :, inner], expected, rtol=1e-5, atol=1e-5)


def test_a_scaled_addend_is_rounded_once() -> None:
    rng = np.random.default_rng(1)
    total, addend = rng.normal(size=(2, 3, 4, 5)).astype(np.float32)
    expected = (total.astype(np.float64) + addend.astype(np.float64) * 0.3).astype(np.float32)
    add_scaled(addend, 0.3, total)
    np.testing.assert_array_equal(total, expected)


def _recursion(line: Array, weights: Array, lag: int) -> Array:
    out = np.zeros_like(line)
    for i in range(line.size):
        out[i] = sum(weights[0, t] * line[max(i - lag - t, 0)] for t in range(4))
        out[i] -= sum(weights[1, t] * out[i - 1 - t] if i > t else weights[2, t] * line[0] for t in range(4))
    return out
