"""Regions on a GPU against those of the CPU. Run by `test_simulator.py` in a process that has numba's simulator."""

from __future__ import annotations

import gc
import weakref
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hgpscale.catalog import DEFAULT_FAMILIES, SHAPE_FAMILIES
from hgpscale.errors import Failure, GpuLostError, HgpscaleError, VoxelError
from hgpscale.features import CpuRegion, Footprint, Region, compute
from hgpscale.features.on_gpu import GpuRegion, _Batch, _parts
from hgpscale.kernels.cuda import memory, statistics
from hgpscale.kernels.cuda.digitize import digitize_of
from hgpscale.kernels.cuda.target import GPU
from hgpscale.kernels.digitize import digitize
from hgpscale.kernels.statistics import statistics_of
from hgpscale.kernels.target import CPU
from hgpscale.settings import Settings

Array = np.ndarray[Any, Any]
TEXTURES = [family for family in DEFAULT_FAMILIES if family not in SHAPE_FAMILIES and family != "firstorder"]
FEW = settings(max_examples=6, deadline=None)
DTYPES = (np.int16, np.uint8, np.float32, np.float64)


class Drawn(NamedTuple):
    """Images of one region."""

    footprint: Footprint
    images: list[Array]
    settings: list[Settings]


@st.composite
def drawn(draw: st.DrawFn, most: int = 3) -> Drawn:
    """Draw images in a small box, of different types, with settings that may differ between them."""
    shape = draw(hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=5))
    mask = draw(hnp.arrays(np.bool_, shape, fill=st.nothing()))
    mask.flat[0] = mask.flat[-1] = True
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    images: list[Array] = []
    for _ in range(draw(st.integers(1, most))):
        wide = draw(st.sampled_from([0, 3, 40, 300]))
        images.append((100 + wide * rng.random(shape)).astype(draw(st.sampled_from(DTYPES))))
    choices: dict[str, st.SearchStrategy[Any]] = {
        "binWidth": st.sampled_from([0.1, 5, 25]),
        "binCount": st.sampled_from([None, 1, 4]),
        "distances": st.sampled_from([(1,), (2,), (1, 2)]),
        "force2D": st.booleans(),
        "force2Ddimension": st.integers(0, 2),
        "gldm_a": st.integers(0, 2),
        "voxelArrayShift": st.sampled_from([0, 300]),
        "weightingNorm": st.sampled_from([None, "euclidean"]),
    }
    base = {name: draw(choices[name]) for name in draw(st.sets(st.sampled_from(sorted(choices))))}
    own = [{**base, **({"binWidth": 7} if draw(st.booleans()) else {})} for _ in images]
    own[-1] = {**own[-1], "distances": draw(choices["distances"])}
    return Drawn(Footprint(mask, (2.0, 0.8, 0.8)), images, [Settings(**values) for values in own])


def on_cpu(these: Drawn) -> list[Region]:
    return [
        CpuRegion(these.footprint, own, image[these.footprint.mask])
        for image, own in zip(these.images, these.settings, strict=True)
    ]


def on_the_gpu(these: Drawn, room: float = float("inf")) -> list[Region]:
    """Put every second image there as a filter there would leave it."""
    batch = _Batch(these.footprint, room, len(these.images))
    voxels = memory.put(np.flatnonzero(these.footprint.mask))
    for k, (image, own) in enumerate(zip(these.images, these.settings, strict=True)):
        batch.add(str(k), memory.put(image) if k % 2 else image, own, voxels)
    found = list(batch.regions().values())
    assert all(isinstance(region, GpuRegion) for region in found)
    return [region for region in found if isinstance(region, Region)]


def said(found: Array | HgpscaleError) -> Any:
    return Failure.of(found) if isinstance(found, HgpscaleError) else found


def assert_same_textures(these: Drawn, room: float = float("inf")) -> None:
    ours, theirs = on_the_gpu(these, room), on_cpu(these)
    for family in TEXTURES:
        names = Settings().features[family]
        for one, other in zip(compute(family, ours, names), compute(family, theirs, names), strict=True):
            np.testing.assert_equal(said(one), said(other), family)


@FEW
@given(drawn())
def test_textures_have_the_same_bits(these: Drawn) -> None:
    assert_same_textures(these)


@settings(max_examples=3, deadline=None)
@given(drawn(most=2))
def test_statistics_have_the_same_bits(these: Drawn) -> None:
    for one, other in zip(on_the_gpu(these), on_cpu(these), strict=True):
        np.testing.assert_array_equal(np.hstack(one.statistics()), np.hstack(other.statistics()))


@pytest.mark.parametrize("dtype", DTYPES)
def test_counters_that_do_not_fit_together_are_counted_in_parts(dtype: type) -> None:
    rng = np.random.default_rng(2)
    images: list[Array] = [(100 * rng.random((3, 4, 5))).astype(dtype) for _ in range(3)]
    footprint = Footprint(np.ones((3, 4, 5), bool), (1.0, 1.0, 1.0))
    these = Drawn(footprint, images, [Settings(binWidth=width) for width in (10, 20, 30)])
    assert_same_textures(these, room=13 * 4 * 12 * (12 + 5))  # no more than about one image's


def test_parts_take_as_many_as_there_is_room_for() -> None:
    sizes = np.array([3, 3, 4, 9, 1])
    assert [sizes[part].tolist() for part in _parts(sizes, 10)] == [[3, 3, 4], [9, 1]]
    assert [sizes[part].tolist() for part in _parts(sizes, 9)] == [[3, 3], [4], [9], [1]]
    with pytest.raises(MemoryError, match="counters"):
        list(_parts(sizes, 8))


@pytest.mark.filterwarnings("ignore:.*(overflow|invalid value):RuntimeWarning")
@settings(max_examples=3, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 7, 300, 600]), st.floats(-10, 10))
def test_statistics_of_many_values(seed: int, n: int, shift: float) -> None:
    rng = np.random.default_rng(seed)
    # A constant's mean is it itself only in the right order of sums; of a wide range percentiles are found by sorting.
    rows = np.stack([rng.normal(50, 30, n), np.full(n, rng.normal()), rng.choice([-1.7e308, 0.1, 1.7e308], n)])
    values = memory.put(rows)
    extremes = statistics.extremes_of(values)
    with np.errstate(over="ignore", invalid="ignore"):
        found = statistics.statistics_of(values, extremes, [shift] * len(rows))
        expected = [statistics_of(row, shift) for row in rows]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(np.hstack(one), np.hstack(other))


@FEW
@given(hnp.arrays(np.float64, 12, elements=st.floats(-50, 50)), st.integers(1, 6))
def test_bins_are_the_cpu_s(values: Array, n_bin: int) -> None:
    edges = np.histogram_bin_edges(values, n_bin)
    edges[-1] += 1
    bins, (counts, none) = digitize_of(memory.put(np.stack([values, values])), [edges, np.empty(0)])
    expected = digitize(values, edges)
    np.testing.assert_array_equal(bins.copy_to_host()[0], expected[0])
    np.testing.assert_array_equal(counts, expected[1])
    assert none.size == 0


def test_an_image_with_values_that_are_not_finite_is_refused_and_leaves_the_others_alone() -> None:
    good = np.arange(27, dtype=np.float64).reshape(3, 3, 3)
    bad = good.copy()
    bad[0, 0, :2] = np.nan, np.inf
    footprint = Footprint(np.ones((3, 3, 3), bool), (1.0, 1.0, 1.0))
    batch, voxels = _Batch(footprint, float("inf"), 3), memory.put(np.arange(27))
    for image, found in (("a", good), ("b", memory.put(bad)), ("c", memory.put(good))):
        batch.add(image, found, Settings(binWidth=5), voxels)
    found = batch.regions()
    assert str(found["b"]) == "2 of the region's 27 voxels are NaN or infinite in image b"
    these = Drawn(footprint, [good, good], [Settings(binWidth=5)] * 2)
    regions = [found["a"], found["c"]]
    for family in ("firstorder", *TEXTURES):
        names = Settings().features[family]
        theirs = compute(family, on_cpu(these), names)
        ours = compute(family, [region for region in regions if isinstance(region, Region)], names)
        for one, other in zip(ours, theirs, strict=True):
            assert isinstance(one, np.ndarray)
            assert isinstance(other, np.ndarray)
            np.testing.assert_array_equal(one, other)


@FEW
@given(hnp.arrays(np.bool_, hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=5)))
def test_surfaces_are_the_cpu_s(mask: Array) -> None:
    padded = np.pad(mask, 1)
    for one, other in zip(GPU.count_cubes(padded), CPU.count_cubes(padded), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    one, other = GPU.surface_points(padded), CPU.surface_points(padded)
    assert one.dtype == other.dtype
    np.testing.assert_array_equal(one, other)  # in the same order


def test_no_voxels_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    image = np.round(rng.random((10, 10, 10)).astype(np.float32))
    footprint = Footprint(np.ones(image.shape, bool), (1.0, 1.0, 1.0))
    these = Drawn(footprint, [image], [Settings(binWidth=1)])
    kind, copied = type(memory.put(image)), []
    copy = kind.copy_to_host

    def counted(array: Any, *arguments: Any) -> Any:
        copied.append(array.size)
        return copy(array, *arguments)

    monkeypatch.setattr(kind, "copy_to_host", counted)
    regions = on_the_gpu(these)
    for family in TEXTURES:
        compute(family, regions, Settings().features[family])
    # Zones can be as many as voxels; these are few, and counters fewer.
    assert max(copied) < image.size


class CudaAPIError(Exception):
    """As numba's own."""

    code = 2


CudaAPIError.__module__ = "numba.cuda.cudadrv.driver"


class CUDAError(Exception):
    """As cuda.core's own, which launches raise."""


CUDAError.__module__ = "cuda.core._utils"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (CudaAPIError("call failed"), MemoryError),
        (CUDAError("CUDA_ERROR_OUT_OF_MEMORY: no room"), MemoryError),
        (CUDAError("CUDA_ERROR_ILLEGAL_ADDRESS: misaligned"), GpuLostError),
        (ValueError("ours"), ValueError),
        (VoxelError("of the lesion"), VoxelError),
    ],
)
def test_errors_of_cuda_are_named(error: Exception, expected: type[Exception]) -> None:
    with pytest.raises(expected), memory.one_lesion():
        raise error


def test_nothing_on_the_gpu_outlives_its_regions() -> None:
    rng = np.random.default_rng(5)
    images = [rng.random((4, 4, 4)), 1e9 * rng.random((4, 4, 4))]  # the second makes too many bins
    these = Drawn(Footprint(np.ones((4, 4, 4), bool), (1.0, 1.0, 1.0)), images, [Settings(binWidth=0.1)] * 2)
    gc.disable()
    try:
        regions = on_the_gpu(these)
        for family in TEXTURES:
            compute(family, regions, Settings().features[family])
        left = [weakref.ref(region.images) for region in regions if isinstance(region, GpuRegion)]
        del regions
        assert [found() for found in left] == [None, None]
    finally:
        gc.enable()
