"""The CUDA kernels against those of the CPU. Run by `test_simulator.py` in a process that has numba's simulator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hgpscale.kernels import chains, gldm, glszm, ngtdm
from hgpscale.kernels.cast import Box, LevelGrid, level_grid, padded_box
from hgpscale.kernels.cuda import chains as cuda_chains
from hgpscale.kernels.cuda import gldm as cuda_gldm
from hgpscale.kernels.cuda import glszm as cuda_glszm
from hgpscale.kernels.cuda import ngtdm as cuda_ngtdm
from hgpscale.kernels.offsets import all_offsets, half_offsets

Array = np.ndarray[Any, Any]
Images = tuple[Box, list[Array], list[Array], list[LevelGrid]]
NEIGHBOURS = st.sampled_from([((1,), None), ((2,), None), ((1, 2), None), ((1,), 0), ((1, 2), 2)])
FEW = settings(max_examples=6, deadline=None)


def lay(mask: Array, bins: list[Array]) -> Images:
    box = padded_box(mask, reach=2)
    levels = [np.unique(found) for found in bins]
    grids = [level_grid(found, present, box) for found, present in zip(bins, levels, strict=True)]
    return box, bins, levels, grids


@st.composite
def images(draw: st.DrawFn) -> Images:
    """Draw one to three images of one region, with gaps between their levels."""
    shape = draw(hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=5))
    mask = draw(hnp.arrays(np.bool_, shape))
    mask.flat[0] = True
    level = st.sampled_from([1, 2, 3, 7])
    n = int(mask.sum())
    return lay(mask, [draw(hnp.arrays(np.int32, n, elements=level)) for _ in range(draw(st.integers(1, 3)))])


def assert_equal(found: Array, expected: Array) -> None:
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def check(drawn: Images, distances: tuple[int, ...], across: int | None, longest: int | None, alpha: int) -> None:
    box, bins, levels, grids = drawn
    half, whole = half_offsets(distances, across), all_offsets(distances, across)
    expected = chains.count_chains(grids, half, longest)
    for one, other in zip(cuda_chains.count_chains(grids, half, longest), expected, strict=True):
        assert_equal(one.counts, other.counts)
    for (rank, size), grid in zip(cuda_glszm.zones_of_images(grids, across), grids, strict=True):
        assert_equal(rank, glszm.zones(grid, across)[0])
        assert_equal(size, glszm.zones(grid, across)[1])
    dependence = cuda_gldm.count_dependence_of_images(grids, levels, whole, alpha)
    for found, grid, present in zip(dependence, grids, levels, strict=True):
        assert_equal(found, gldm.count_dependence(grid, present, whole, alpha))
    inside = box.fill(np.zeros(box.voxels.size, np.int32), np.ones(1, np.int32))
    n_neighbour = ngtdm.sum_neighbours(inside, box, distances, across)
    on_gpu = cuda_ngtdm.sum_neighbours(inside, box, distances, across)
    assert_equal(on_gpu[box.voxels], n_neighbour[box.voxels])
    differences = cuda_ngtdm.count_differences_of_images(bins, levels, box, distances, across, n_neighbour)
    for found, image, present in zip(differences, bins, levels, strict=True):
        assert_equal(found, ngtdm.count_differences(image, present, box, distances, across, n_neighbour))


@pytest.mark.threads
@FEW
@given(images(), NEIGHBOURS, st.booleans(), st.integers(0, 4))
def test_same_as_on_the_cpu(
    drawn: Images, neighbours: tuple[tuple[int, ...], int | None], follow: bool, alpha: int
) -> None:
    check(drawn, *neighbours, 5 if follow else None, alpha)


def test_one_image_is_a_stack_of_one() -> None:
    box, (bins,), (levels,), (grid,) = lay(np.ones((2, 3, 2), bool), [np.array([1, 2] * 6, np.int32)])
    for one, other in zip(cuda_glszm.zones(grid), glszm.zones(grid), strict=True):
        assert_equal(one, other)
    found = cuda_gldm.count_dependence(grid, levels, all_offsets((1,)), 0)
    assert_equal(found, gldm.count_dependence(grid, levels, all_offsets((1,)), 0))
    n_neighbour = ngtdm.sum_neighbours(box.fill(bins, np.ones(3, np.int32)), box, (1,), None)
    found = cuda_ngtdm.count_differences(bins, levels, box, (1,), None, n_neighbour)
    assert_equal(found, ngtdm.count_differences(bins, levels, box, (1,), None, n_neighbour))


def test_a_zone_that_winds_through_a_box_of_16() -> None:
    rng = np.random.default_rng(0)
    mask = np.ones((3, 16, 16), dtype=bool)
    snake = np.ones(mask.shape, dtype=np.int32)
    snake[:, 1::4, 1:] = snake[:, 3::4, :-1] = 2
    check(lay(mask, [snake.ravel(), rng.integers(1, 4, mask.sum(), dtype=np.int32)]), (1,), None, 16, 1)
