"""The surface of small regions against loops over all cubes and all pairs of points."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hgpscale.features.mesh_table import CORNERS
from hgpscale.kernels.surface import corners_by_plane, count_cubes, surface_points

Array = np.ndarray[Any, Any]

masks = (
    hnp.arrays(np.bool_, hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=5))
    .filter(lambda mask: bool(mask.any()))
    .map(lambda mask: np.pad(mask, 1))
)


@given(masks)
def test_cubes(mask: Array) -> None:
    counts, positions = np.zeros(256, dtype=int), np.zeros((256, 3), dtype=int)
    for z, y, x in product(*(range(n - 1) for n in mask.shape)):
        code = sum(int(mask[z + a, y + b, x + c]) << bit for bit, (a, b, c) in enumerate(CORNERS))
        if code not in (0, 255):
            counts[code] += 1
            positions[code] += (z, y, x)
    found = count_cubes(mask)
    np.testing.assert_array_equal(found[0], counts)
    np.testing.assert_array_equal(found[1], positions)


@given(masks)
def test_points(mask: Array) -> None:
    expected = []
    for p in product(*map(range, mask.shape)):
        for axis in range(3):
            q = tuple(n + (a == axis) for a, n in enumerate(p))
            if q[axis] < mask.shape[axis] and mask[p] != mask[q]:
                expected.append([a + b for a, b in zip(p, q, strict=True)])
    assert surface_points(mask).tolist() == sorted(expected)


@given(masks, st.sampled_from([0, 1, 2]), st.sampled_from([(1.0, 1.0, 1.0), (2.5, 0.7, 0.7)]))
def test_the_corners_of_a_plane_hold_its_longest_distance(
    mask: Array, axis: int, spacing: tuple[float, float, float]
) -> None:
    points = surface_points(mask)
    corners = points[corners_by_plane(points, axis)]

    def longest(chosen: Array) -> float:
        places = chosen * np.array(spacing)
        return float(np.sqrt(((places[:, None] - places) ** 2).sum(axis=-1)).max())

    for plane in np.unique(points[:, axis]):
        assert longest(corners[corners[:, axis] == plane]) == longest(points[points[:, axis] == plane])


def test_the_corners_of_a_square_by_hand() -> None:
    square = np.array([(0, y, x) for y in range(3) for x in range(3)], dtype=np.int16)
    assert square[corners_by_plane(square, 0)].tolist() == [[0, 0, 0], [0, 0, 2], [0, 2, 0], [0, 2, 2]]


@pytest.mark.parametrize("n", [1, 2])
def test_a_plane_of_few_points_keeps_them_all(n: int) -> None:
    points = np.array([(4, 0, x) for x in range(n)], dtype=np.int16)
    assert corners_by_plane(points, 0).tolist() == list(range(n))
