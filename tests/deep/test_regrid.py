"""Scans on the grid that networks work on: places in the patient stay where they are."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from hgpscale.deep.regrid import AIR, image_on, labels_on, part, share_on, working_grid
from hgpscale.volume import Geometry, Volume

_TURNS = st.permutations([0, 1, 2]).flatmap(
    lambda order: st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3).map(lambda signs: (order, signs))
)


def _turned(order: list[int], signs: tuple[float, ...]) -> Geometry:
    direction = np.zeros((3, 3))
    for column, (row, sign) in enumerate(zip(order, signs, strict=True)):
        direction[row, column] = sign
    return Geometry((5, 6, 7), (3.0, 2.0, 1.0), (10.0, -4.0, 7.0), tuple(direction.ravel().tolist()))


@given(_TURNS)
def test_axes_are_turned_as_itk_turns_them(turn: tuple[list[int], tuple[float, ...]]) -> None:
    geometry = _turned(*turn)
    image = Volume(np.zeros(geometry.size, np.float32), geometry).to_sitk()
    oriented = sitk.DICOMOrient(image, "LPS")
    z, y, x = oriented.GetSpacing()[::-1]
    found = working_grid(geometry, (z, y, x))
    assert found.size == oriented.GetSize()[::-1]
    np.testing.assert_allclose(found.origin, oriented.GetOrigin(), atol=1e-9)
    np.testing.assert_allclose(found.direction, oriented.GetDirection(), atol=1e-9)


@given(_TURNS, st.tuples(*[st.floats(0.7, 4.0)] * 3))
def test_the_field_of_view_stays(
    turn: tuple[list[int], tuple[float, ...]], spacing: tuple[float, float, float]
) -> None:
    geometry = _turned(*turn)
    grid = working_grid(geometry, spacing)
    corners = np.array([geometry.point((z, y, x)) for z in (-0.5, 4.5) for y in (-0.5, 5.5) for x in (-0.5, 6.5)])
    low = np.array(grid.origin) - np.array(grid.spacing[::-1]) / 2
    high = low + np.array(grid.size[::-1]) * np.array(grid.spacing[::-1])
    np.testing.assert_allclose(low, corners.min(axis=0), atol=1e-6)
    # The last face is the nearest to the scan's, but one voxel there is.
    half = np.array(grid.spacing[::-1]) / 2
    single = np.array(grid.size[::-1]) == 1
    assert ((np.abs(high - corners.max(axis=0)) <= half + 1e-4) | single).all()


def test_a_ramp_stays_a_ramp() -> None:
    geometry = Geometry((20, 20, 20), (2.0, 1.0, 1.0), (0.0, 0.0, 0.0), (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
    z, y, x = np.indices(geometry.size)
    places = np.stack([-x * 1.0, y * 1.0, z * 2.0])
    image = Volume((3 * places[0] + 5 * places[1] + 7 * places[2]).astype(np.float32), geometry)
    grid = working_grid(geometry, (3.0, 1.5, 1.25))
    found = image_on(grid, image)
    inside = tuple(slice(2, n - 2) for n in grid.size)
    k, j, i = np.indices(grid.size)
    ox, oy, oz = grid.origin
    expected = 3 * (ox + i * 1.25) + 5 * (oy + j * 1.5) + 7 * (oz + k * 3.0)
    np.testing.assert_allclose(found[inside], expected[inside], atol=1e-3)
    assert (
        image_on(Geometry((2, 2, 2), (1.0, 1.0, 1.0), (900.0, 0.0, 0.0), grid.direction), image).tolist()
        == [[[AIR] * 2] * 2] * 2
    )


def test_labels_and_shares_keep_their_volume() -> None:
    geometry = Geometry((20, 40, 40), (2.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
    z, y, x = np.indices(geometry.size)
    ball = (2 * z - 20) ** 2 + (y - 20) ** 2 + (x - 20) ** 2 <= 12**2
    grid = working_grid(geometry, (1.5, 1.5, 1.5))
    volume = ball.sum() * 2.0
    labels = labels_on(grid, Volume((ball * 7).astype(np.uint16), geometry))
    assert labels.dtype == np.uint16
    assert set(np.unique(labels)) == {0, 7}
    assert (labels > 0).sum() * 1.5**3 == pytest.approx(volume, rel=0.05)
    assert (share_on(grid, Volume(ball, geometry)) >= 0.5).sum() * 1.5**3 == pytest.approx(volume, rel=0.05)


def test_a_part_lies_where_it_lay() -> None:
    geometry = _turned([1, 0, 2], (1.0, -1.0, 1.0))
    found = part(geometry, (1, 2, 3), (2, 2, 2))
    assert found.point((1, 0, 1)) == pytest.approx(geometry.point((2, 2, 4)))
