"""Filters and resampling on a GPU against the CPU, every bit. Run by `test_simulator.py` in numba's simulator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import pywt
from filtered import Box, cut, texture
from filtered import settings as chosen_settings
from hypothesis import given, settings
from hypothesis import strategies as st

from hgpscale.errors import FilterError
from hgpscale.filters import FILTERS
from hgpscale.filters.log import _second_derivative
from hgpscale.kernels.bspline import EXACT
from hgpscale.kernels.cuda.target import GPU
from hgpscale.kernels.target import CPU, Target
from hgpscale.prepare.resample import resample_image
from hgpscale.volume import Geometry, Volume

Array = np.ndarray[Any, Any]
FEW = settings(max_examples=6, deadline=None)
SEEDS = st.integers(0, 2**32 - 1)
FLOATS = st.sampled_from([np.float32, np.float64])
STRAIGHT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
OBLIQUE = (0.6, -0.8, 0.0, 0.8, 0.6, 0.0, 0.0, 0.0, 1.0)


def fetched(array: Any) -> Array:
    """Copy an array to the host if it is on the GPU."""
    return np.asarray(array.copy_to_host() if hasattr(array, "copy_to_host") else array)


def assert_equal(found: Any, expected: Any) -> None:
    found, expected = fetched(found), fetched(expected)
    assert found.dtype == expected.dtype
    # Not only equal: the same bits, also of zeros.
    np.testing.assert_array_equal(np.signbit(found), np.signbit(expected))
    np.testing.assert_array_equal(found, expected)


@FEW
@given(
    SEEDS,
    FLOATS,
    st.sampled_from(["haar", "coif1", "db4", "rbio1.3"]),
    st.tuples(st.integers(1, 2), st.integers(1, 7), st.integers(1, 3)),
    st.integers(1, 4),
    st.integers(0, 7),
)
def test_convolution(
    seed: int, dtype: Any, wavelet: str, shape: tuple[int, int, int], half_length: int, position: int
) -> None:
    rng = np.random.default_rng(seed)
    taps = np.array(pywt.Wavelet(wavelet).dec_hi, dtype)
    outer, rows, inner = shape
    voxels = rng.normal(60, 40, (outer, rows + taps.size - 1, inner)).astype(dtype)
    length = 2 * half_length

    def convolved(on: Target) -> Any:
        out = on.empty(shape, dtype)
        on.convolve(on.put(voxels, dtype), on.put(taps, dtype), position % length, length, out)
        return out

    expected = convolved(CPU)
    assert_equal(convolved(GPU), expected)
    assert_equal(convolved(GPU), expected)


@FEW
@given(SEEDS, FLOATS, st.tuples(st.integers(1, 3), st.integers(4, 9), st.integers(1, 3)), st.data())
def test_recursion(seed: int, dtype: Any, shape: tuple[int, int, int], data: st.DataObject) -> None:
    rng = np.random.default_rng(seed)
    first = data.draw(st.integers(0, shape[1] - 1))
    kept = (shape[0], data.draw(st.integers(1, shape[1] - first)), shape[2])
    # Of a flat line a derivative is a rounding error, in which every bit of each sum shows.
    noise = rng.normal(60, 40, shape), rng.normal(size=(2, 3, 4)) / 8
    flat = np.full(shape, 37.1), _second_derivative(1.5, 0.7)
    voxels, weights = data.draw(st.sampled_from([noise, flat]))

    def filtered(on: Target) -> Any:
        out, total = on.empty(kept, np.float32), on.zeros(kept, np.float32)
        there = [on.put(one, np.float64) for one in weights]
        on.filter_lines(on.put(voxels, dtype), *there, first, out)
        on.add_scaled(out, 0.3, total)
        on.add_scaled(out, 1 / 7, total)
        return total

    expected = filtered(CPU)
    assert_equal(filtered(GPU), expected)
    assert_equal(filtered(GPU), expected)


@st.composite
def images(draw: st.DrawFn, shortest: int) -> tuple[Array, Box]:
    """Draw an image, half of which may be flat, and a box in it."""
    shape = tuple(draw(st.integers(shortest, 7)) for _ in range(3))
    lower = tuple(draw(st.integers(0, n - 1)) for n in shape)
    upper = tuple(draw(st.integers(a + 1, min(n, a + 2))) for a, n in zip(lower, shape, strict=True))
    # Where an image is flat the result is a rounding error, in which every bit of each sum shows.
    kind = draw(st.sampled_from(["noise", "half flat", "constant"]))
    image = texture(kind, shape, draw(st.sampled_from([np.int16, np.float32, np.float64])), draw(SEEDS))
    return image, (lower, upper)  # type: ignore[return-value]


def check_filter(
    name: str, image: Array, box: Box, spacing: tuple[float, float, float], chosen: dict[str, Any]
) -> None:
    source, own = cut(image, box, name, spacing, **chosen), chosen_settings(**chosen)
    found: list[tuple[str, Any]] = list(FILTERS[name].derive(source, own, GPU))
    expected = list(FILTERS[name].derive(source, own))
    assert [key for key, _ in found] == [key for key, _ in expected]
    for (_, there), (_, here) in zip(found, expected, strict=True):
        assert there.is_c_contiguous()  # which an array on the host cannot say
        assert isinstance(here, np.ndarray)
        assert_equal(there, here)


@settings(max_examples=4, deadline=None)
@given(
    images(shortest=1),
    st.sampled_from([("haar", 2, 1), ("haar", 1, 0), ("coif1", 1, 0)]),
    st.sampled_from([None, 0, 2]),
)
def test_wavelet(drawn: tuple[Array, Box], how: tuple[str, int, int], across: int | None) -> None:
    wavelet, level, start_level = how
    chosen = {"wavelet": wavelet, "level": level, "start_level": start_level}
    flat = {"force2D": across is not None, "force2Ddimension": across or 0}
    check_filter("Wavelet", *drawn, (1.0, 1.0, 1.0), {**chosen, **flat})


@settings(max_examples=4, deadline=None)
@given(images(shortest=4), st.tuples(*[st.sampled_from([0.7, 1.0, 3.0])] * 3))
def test_log(drawn: tuple[Array, Box], spacing: tuple[float, float, float]) -> None:
    check_filter("LoG", *drawn, spacing, {"sigma": (0.7, 2)})


@FEW
@given(images(shortest=1), st.tuples(*[st.sampled_from([0.7, 1.0, 3.0])] * 3), st.booleans())
def test_gradient(drawn: tuple[Array, Box], spacing: tuple[float, float, float], by_mm: bool) -> None:
    check_filter("Gradient", *drawn, spacing, {"gradientUseSpacing": by_mm})


def test_what_log_refuses_is_refused_there_too() -> None:
    image, box = texture("noise", (3, 5, 5), np.int16), ((0, 0, 0), (2, 2, 2))
    own = chosen_settings(sigma=(1,))
    ((_, refused),) = FILTERS["LoG"].derive(cut(image, box, "LoG", (1.0, 1.0, 1.0), sigma=(1,)), own, GPU)
    assert isinstance(refused, FilterError)


@pytest.mark.parametrize("name", ["Original", "Square", "LBP2D"])
def test_other_filters_stay_on_the_host(name: str) -> None:
    image, box = texture("noise", (6, 6, 6), np.int16), ((2, 2, 2), (4, 4, 4))
    source, own = cut(image, box, name, (1.0, 1.0, 1.0)), chosen_settings()
    for (_, found), (_, expected) in zip(
        FILTERS[name].derive(source, own, GPU), FILTERS[name].derive(source, own), strict=True
    ):
        assert isinstance(found, np.ndarray)
        assert_equal(found, expected)


@pytest.mark.parametrize("shape", [(1, 2, 3), (5, 19, 4), (3, 2, 22), (18, 3, 1), (2, 17, 1)])
@settings(max_examples=2, deadline=None)
@given(dtype=st.sampled_from([np.int16, np.uint8, np.float32, np.float64]), seed=SEEDS)
def test_splines(shape: tuple[int, int, int], dtype: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    voxels = texture("half flat", shape, dtype, seed)
    first = [int(rng.integers(0, n)) for n in shape]
    needed = tuple((a, int(rng.integers(a + 1, n + 1))) for a, n in zip(first, shape, strict=True))
    coefficients = CPU.spline_coefficients(voxels, needed)
    there = GPU.spline_coefficients(voxels, needed)
    assert_equal(there, coefficients)
    assert_equal(GPU.spline_coefficients(voxels, needed), there)
    # All of the image is held: an index beyond it is outside.
    whole = tuple((0, n) for n in shape)
    along = [rng.uniform(-0.8, n - 0.2, 3) for n in shape]
    samples = [
        on.interpolate_box(on.spline_coefficients(voxels, whole), (0, 0, 0), shape, *along, EXACT) for on in (CPU, GPU)
    ]
    assert isinstance(samples[1], np.ndarray)
    assert_equal(samples[1], samples[0])


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("direction", [STRAIGHT, OBLIQUE], ids=["straight", "oblique"])
def test_resampling(dtype: Any, direction: tuple[float, ...]) -> None:
    voxels = texture("half flat", (4, 9, 8), dtype)
    image = Volume(voxels, Geometry((4, 9, 8), (2.0, 0.7, 0.7), (17.3, -120.9, 433.1), STRAIGHT))
    grid = Geometry((5, 4, 6), (1.5, 1.1, 0.9), (17.4, -120.5, 433.6), direction)
    found, expected = (resample_image(image, grid, "sitkBSpline", on) for on in (GPU, CPU))
    assert_equal(found.array, expected.array)
    assert found.geometry == expected.geometry
