"""The counting kernels against plain loops over voxels, and by hand."""

from __future__ import annotations

from collections import Counter
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hgpscale.kernels import chains
from hgpscale.kernels.cast import Box, LevelGrid, level_grid, padded_box
from hgpscale.kernels.chains import Chains, count_chains
from hgpscale.kernels.gldm import count_dependence
from hgpscale.kernels.glszm import zones
from hgpscale.kernels.ngtdm import count_differences, sum_neighbours
from hgpscale.kernels.offsets import all_offsets, half_offsets

Array = np.ndarray[Any, Any]


@st.composite
def ranked_boxes(draw: st.DrawFn) -> Array:
    """Draw a box of ranks, 0 outside of the region, every rank up to the highest present."""
    shape = draw(hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=5))
    box = draw(hnp.arrays(np.int64, shape, elements=st.integers(0, 4)))
    found = np.unique(box[box > 0])
    ranks = np.zeros(5, dtype=np.int64)
    ranks[found] = np.arange(1, found.size + 1)
    box = np.asarray(ranks[box])
    if not box.any():
        box.flat[0] = 1
    return box


def box_of(box: Array, reach: int = 1) -> Box:
    return padded_box(box > 0, reach)


def grid_of(box: Array, reach: int = 1) -> LevelGrid:
    """Lay out a box of levels, every one up to the highest present."""
    return level_grid(box[box > 0].astype(np.int32), np.arange(1, box.max() + 1), box_of(box, reach))


def chains_of(box: Array, distances: tuple[int, ...] = (1,), across: int | None = None) -> Chains:
    (found,) = count_chains([grid_of(box, max(distances))], half_offsets(distances, across), max(box.shape))
    return found


def at(box: Array, index: tuple[int, ...]) -> int:
    inside = all(0 <= i < n for i, n in zip(index, box.shape, strict=True))
    return int(box[index]) if inside else 0


def moved(index: tuple[int, ...], offset: Array, times: int = 1) -> tuple[int, ...]:
    return tuple(int(i + times * o) for i, o in zip(index, offset, strict=True))


def region(box: Array) -> list[tuple[int, ...]]:
    return [index for index in product(*map(range, box.shape)) if box[index]]


ACROSS = st.sampled_from([None, 0, 1, 2])


@given(ranked_boxes(), st.sampled_from([(1,), (2,), (1, 2)]), ACROSS)
def test_pairs(box: Array, distances: tuple[int, ...], across: int | None) -> None:
    offsets = half_offsets(distances, across)
    expected = np.zeros((len(offsets), box.max(), box.max()), dtype=int)
    for d, offset in enumerate(offsets):
        for p in region(box):
            if neighbour := at(box, moved(p, offset)):
                expected[d, box[p] - 1, neighbour - 1] += 1
    found = chains_of(box, distances, across)
    np.testing.assert_array_equal(found.pairs(), expected)
    np.testing.assert_array_equal(found.touching(), expected.any(axis=(1, 2)))


@given(ranked_boxes())
def test_runs(box: Array) -> None:
    found = chains_of(box).runs()
    for d, offset in enumerate(half_offsets((1,))):
        expected: Counter[tuple[int, int]] = Counter()
        for p in region(box):
            if at(box, moved(p, offset, -1)) != box[p]:
                length = 1
                while at(box, moved(p, offset, length)) == box[p]:
                    length += 1
                expected[int(box[p]), length] += 1
        assert {(i + 1, j + 1): n for (i, j), n in np.ndenumerate(found[d]) if n} == dict(expected)


@pytest.mark.parametrize("budget", ["_MOST_COUNTERS", "_MOST_BYTES", None])
@given(ranked_boxes(), st.lists(st.permutations(range(1, 5)), min_size=1, max_size=4), ACROSS)
def test_images_side_by_side(budget: str | None, box: Array, orders: list[list[int]], across: int | None) -> None:
    """Counting several images of a region at once, or in groups, is counting each by itself."""
    shown = []
    for n_levels, order in enumerate(orders, start=1):
        levels = np.minimum([0, *order], n_levels)[box]
        shown.append(np.searchsorted(np.unique([0, *levels[box > 0]]), levels))
    grids = [grid_of(levels, 2) for levels in shown]
    offsets, longest = half_offsets((1, 2), across), max(box.shape)
    with pytest.MonkeyPatch.context() as patch:
        if budget:
            patch.setattr(chains, budget, 1)
        together = count_chains(grids, offsets, longest)
        pairs = count_chains(grids, offsets, None)
    for found, only_pairs, grid in zip(together, pairs, grids, strict=True):
        np.testing.assert_array_equal(found.counts, count_chains([grid], offsets, longest)[0].counts)
        np.testing.assert_array_equal(only_pairs.pairs(), found.pairs())
        np.testing.assert_array_equal(only_pairs.touching(), found.touching())


def test_runs_that_16_bits_cannot_tell_apart_are_refused() -> None:
    with pytest.raises(ValueError, match="65535 states"):
        count_chains([grid_of(np.ones((1, 1, 1), dtype=int))], half_offsets((1,)), 70_000)


@given(ranked_boxes(), ACROSS)
def test_zones(box: Array, across: int | None) -> None:
    seen: set[tuple[int, ...]] = set()
    expected = []
    for p in region(box):
        if p in seen:
            continue
        stack, size = [p], 0
        seen.add(p)
        while stack:
            q = stack.pop()
            size += 1
            for offset in all_offsets((1,), across):
                r = moved(q, offset)
                if r not in seen and at(box, r) == box[p]:
                    seen.add(r)
                    stack.append(r)
        expected.append((int(box[p]), size))
    ranks, sizes = zones(grid_of(box), across)
    assert sorted(zip(ranks.tolist(), sizes.tolist(), strict=True)) == sorted(expected)


NEIGHBOURHOOD = (ranked_boxes(), st.sampled_from([(1,), (1, 2)]), ACROSS)


@given(*NEIGHBOURHOOD, st.integers(0, 3))
def test_dependence(box: Array, distances: tuple[int, ...], across: int | None, alpha: int) -> None:
    levels = np.arange(1, box.max() + 1) * 3 - 1
    offsets = all_offsets(distances, across)
    expected = np.zeros((levels.size, len(offsets) + 1), dtype=int)
    for p in region(box):
        level = levels[box[p] - 1]
        others = [levels[n - 1] for o in offsets if (n := at(box, moved(p, o)))]
        expected[box[p] - 1, sum(abs(level - other) <= alpha for other in others)] += 1
    found = count_dependence(grid_of(box, max(distances)), levels, offsets, alpha)
    np.testing.assert_array_equal(found, expected)


@given(*NEIGHBOURHOOD)
def test_differences(box: Array, distances: tuple[int, ...], across: int | None) -> None:
    levels = np.arange(1, box.max() + 1) * 3 - 1
    offsets = all_offsets(distances, across)
    expected = np.zeros((levels.size, len(offsets) + 1), dtype=int)
    for p in region(box):
        level = levels[box[p] - 1]
        others = [levels[n - 1] for o in offsets if (n := at(box, moved(p, o)))]
        expected[box[p] - 1, len(others)] += abs(len(others) * level - sum(others))
    place = box_of(box, max(distances))
    bins = levels[box[box > 0] - 1].astype(np.int32)
    n_neighbour = sum_neighbours(place.fill(bins, np.ones(levels[-1] + 1, dtype=np.int32)), place, distances, across)
    np.testing.assert_array_equal(count_differences(bins, levels, place, distances, across, n_neighbour), expected)


@pytest.mark.parametrize("shape", [(1, 1, 700), (300, 2, 2)])
def test_runs_and_zones_longer_than_a_byte(shape: tuple[int, ...]) -> None:
    box = np.ones(shape, dtype=int)
    longest = max(shape)
    along = half_offsets((1,)).tolist().index([int(n == longest) for n in shape])
    runs = chains_of(box).runs()[along]
    assert np.flatnonzero(runs[0]).tolist() == [longest - 1]
    assert runs.sum() == box.size // longest
    assert [sizes.tolist() for sizes in zones(grid_of(box))] == [[1], [box.size]]


def test_2000_levels() -> None:
    box = np.random.default_rng(0).permutation(np.arange(2000)).reshape(10, 10, 20) + 1
    pairs = chains_of(box).pairs()
    along_x = half_offsets((1,)).tolist().index([0, 0, 1])
    expected = np.zeros((2000, 2000), dtype=int)
    expected[box[:, :, :-1].ravel() - 1, box[:, :, 1:].ravel() - 1] = 1
    np.testing.assert_array_equal(pairs[along_x], expected)


def test_offsets_of_distance_1_are_half_of_the_26_neighbours() -> None:
    half = {tuple(o) for o in half_offsets((1,)).tolist()}
    whole = {tuple(o) for o in all_offsets((1,)).tolist()}
    assert len(half) == 13
    assert whole == set(product((-1, 0, 1), repeat=3)) - {(0, 0, 0)}
    assert half | {(-z, -y, -x) for z, y, x in half} == whole


@pytest.mark.parametrize("across", [0, 1, 2])
def test_offsets_in_a_plane_are_half_of_the_8_neighbours(across: int) -> None:
    half = half_offsets((1,), across)
    assert half.shape == (4, 3)
    assert not half[:, across].any()


def test_a_row_of_five_by_hand() -> None:
    chains = chains_of(np.array([[[1, 1, 2, 0, 2]]]))
    along_x = half_offsets((1,)).tolist().index([0, 0, 1])
    assert chains.pairs()[along_x].tolist() == [[1, 1], [0, 0]]
    assert chains.runs()[along_x].tolist() == [[0, 1, 0, 0, 0], [2, 0, 0, 0, 0]]
    assert np.flatnonzero(chains.touching()).tolist() == [along_x]


def test_a_region_that_does_not_fit_its_mask_is_refused() -> None:
    with pytest.raises(ValueError, match="do not fit a mask"):
        level_grid(np.ones(3, dtype=np.int32), np.array([1]), padded_box(np.ones((2, 2, 2), dtype=bool), 1))
    with pytest.raises(ValueError, match="three axes"):
        padded_box(np.ones((2, 2), dtype=bool), 1)
