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

from hgpscale.kernels.cast import LevelGrid, level_grid
from hgpscale.kernels.glcm import count_pairs
from hgpscale.kernels.glrlm import count_runs
from hgpscale.kernels.glszm import zones
from hgpscale.kernels.neighbours import count_neighbours
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


def grid_of(box: Array, reach: int = 1) -> LevelGrid:
    return level_grid(box[box > 0], box > 0, reach)


def at(box: Array, index: tuple[int, ...]) -> int:
    inside = all(0 <= i < n for i, n in zip(index, box.shape, strict=True))
    return int(box[index]) if inside else 0


def moved(index: tuple[int, ...], offset: Array, times: int = 1) -> tuple[int, ...]:
    return tuple(int(i + times * o) for i, o in zip(index, offset, strict=True))


def region(box: Array) -> list[tuple[int, ...]]:
    return [index for index in product(*map(range, box.shape)) if box[index]]


@given(ranked_boxes(), st.sampled_from([(1,), (2,), (1, 2)]))
def test_pairs(box: Array, distances: tuple[int, ...]) -> None:
    offsets = half_offsets(distances)
    expected = np.zeros((len(offsets), box.max(), box.max()), dtype=int)
    for d, offset in enumerate(offsets):
        for p in region(box):
            if neighbour := at(box, moved(p, offset)):
                expected[d, box[p] - 1, neighbour - 1] += 1
    np.testing.assert_array_equal(count_pairs(grid_of(box, max(distances)), distances), expected)


@given(ranked_boxes())
def test_runs(box: Array) -> None:
    found = count_runs(grid_of(box))
    for d, offset in enumerate(half_offsets((1,))):
        expected: Counter[tuple[int, int]] = Counter()
        lines: Counter[tuple[int, ...]] = Counter()
        for p in region(box):
            foot = p
            while all(0 <= i < n for i, n in zip(moved(foot, offset, -1), box.shape, strict=True)):
                foot = moved(foot, offset, -1)
            lines[foot] += 1
            if at(box, moved(p, offset, -1)) != box[p]:
                length = 1
                while at(box, moved(p, offset, length)) == box[p]:
                    length += 1
                expected[int(box[p]), length] += 1
        if max(lines.values()) < 2:
            expected.clear()
        assert {(i + 1, j + 1): n for (i, j), n in np.ndenumerate(found[d]) if n} == dict(expected)


@given(ranked_boxes())
def test_zones(box: Array) -> None:
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
            for offset in all_offsets((1,)):
                r = moved(q, offset)
                if r not in seen and at(box, r) == box[p]:
                    seen.add(r)
                    stack.append(r)
        expected.append((int(box[p]), size))
    ranks, sizes = zones(grid_of(box))
    assert sorted(zip(ranks.tolist(), sizes.tolist(), strict=True)) == sorted(expected)


@given(ranked_boxes(), st.sampled_from([(1,), (1, 2)]), st.integers(0, 3))
def test_neighbours(box: Array, distances: tuple[int, ...], alpha: int) -> None:
    levels = np.arange(1, box.max() + 1) * 3 - 1
    offsets = all_offsets(distances)
    dependence = np.zeros((levels.size, len(offsets) + 1), dtype=int)
    difference = np.zeros(levels.size)
    for p in region(box):
        level = levels[box[p] - 1]
        others = [levels[n - 1] for o in offsets if (n := at(box, moved(p, o)))]
        dependence[box[p] - 1, sum(abs(level - other) <= alpha for other in others)] += 1
        difference[box[p] - 1] += abs(level - np.mean(others)) if others else 0
    counts = count_neighbours(grid_of(box, max(distances)), levels, distances, alpha)
    np.testing.assert_array_equal(counts.dependence, dependence)
    np.testing.assert_array_equal(counts.voxels, np.bincount(box[box > 0] - 1))
    found = (counts.difference[:, 1:] / np.arange(1, len(offsets) + 1)).sum(axis=1)
    np.testing.assert_allclose(found, difference, rtol=1e-12, atol=1e-12)


def test_offsets_of_distance_1_are_half_of_the_26_neighbours() -> None:
    half = {tuple(o) for o in half_offsets((1,)).tolist()}
    whole = {tuple(o) for o in all_offsets((1,)).tolist()}
    assert len(half) == 13
    assert whole == set(product((-1, 0, 1), repeat=3)) - {(0, 0, 0)}
    assert half | {(-z, -y, -x) for z, y, x in half} == whole


def test_a_row_of_five_by_hand() -> None:
    grid = grid_of(np.array([[[1, 1, 2, 0, 2]]]))
    along_x = half_offsets((1,)).tolist().index([0, 0, 1])
    assert count_pairs(grid, (1,))[along_x].tolist() == [[1, 1], [0, 0]]
    assert count_runs(grid)[along_x].tolist() == [[0, 1, 0, 0, 0], [2, 0, 0, 0, 0]]
    # No other direction has two voxels of the row on one line.
    assert count_runs(grid).sum() == 3


def test_a_region_that_does_not_fit_its_mask_is_refused() -> None:
    with pytest.raises(ValueError, match="do not fit a mask"):
        level_grid(np.ones(3, dtype=np.int64), np.ones((2, 2, 2), dtype=bool), 1)
