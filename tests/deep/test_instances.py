"""Lesions of a probability map: components by a search of our own, and scores worked out by hand."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import ndimage

from hgpscale.deep.answers import lesion_id
from hgpscale.deep.cases import case_names
from hgpscale.deep.instances import SCORED_VOLUME, find_instances
from hgpscale.errors import DeepError

ONE = (1.0, 1.0, 1.0)
LEVELS = (0.0, 0.05, 0.125, 0.25, 0.5, 0.75, 1.0)
MAPS = arrays(np.float32, st.tuples(*[st.integers(1, 6)] * 3), elements=st.sampled_from(LEVELS))


def places(mask: NDArray[np.bool_]) -> set[tuple[int, int, int]]:
    return {(z, y, x) for z, y, x in np.argwhere(mask).tolist()}


def pieces(mask: NDArray[np.bool_]) -> list[set[tuple[int, int, int]]]:
    """Return voxels that touch, by walking from one to the next."""
    left = places(mask)
    found = []
    while left:
        piece, edge = set(), [left.pop()]
        while edge:
            z, y, x = edge.pop()
            piece.add((z, y, x))
            near = {(z + a, y + b, x + c) for a, b, c in product((-1, 0, 1), repeat=3)} & left
            left -= near
            edge += near
        found.append(piece)
    return found


def voxels(labels: NDArray[np.uint16], number: int) -> set[tuple[int, int, int]]:
    return places(labels == number)


@given(MAPS, st.integers(1, 4))
def test_lesions_and_weak_candidates_are_what_touches(probability: NDArray[np.float32], smallest: int) -> None:
    found = find_instances(probability, ONE, min_volume=smallest)
    strong = [piece for piece in pieces(probability >= 0.5) if len(piece) >= smallest]
    weak = [
        piece
        for piece in pieces(probability >= 0.1)
        if len(piece) >= smallest and not any(piece & other for other in strong)
    ]
    expected = {frozenset(piece): piece in strong for piece in (*strong, *weak)}
    numbers = range(1, len(found.scores) + 1)
    assert {frozenset(voxels(found.labels, n)): found.scores[n - 1] >= 0.5 for n in numbers} == expected
    assert (np.diff(found.scores) <= 0).all()
    assert [len(voxels(found.labels, n)) for n in numbers] == found.volumes.tolist()
    assert found.labels.max(initial=0) == len(found.scores)
    assert found.labels.dtype == np.uint16


@given(MAPS)
def test_lesions_are_those_of_scipy(probability: NDArray[np.float32]) -> None:
    found = find_instances(probability, ONE, weak=0.5, min_volume=0)
    labels, count = ndimage.label(probability >= 0.5, np.ones((3, 3, 3)))
    assert count == len(found.scores)
    pairs = set(zip(labels.ravel().tolist(), found.labels.ravel().tolist(), strict=True))
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def test_the_score_is_the_mean_of_the_highest_65_mm3() -> None:
    probability = np.zeros((3, 20, 20), np.float32)
    # Voxels of 6.5 mm3: ten of them make a score.
    probability[1, 2:5, 2:7] = 0.5  # 15 voxels
    probability[1, 2, 2:6] = [1.0, 0.875, 0.75, 0.75]
    probability[1, 10:12, 10:12] = 0.75  # 4 voxels, fewer than ten
    found = find_instances(probability, (6.5, 1.0, 1.0), min_volume=6.5)
    np.testing.assert_allclose(found.scores, [0.75, (1 + 0.875 + 2 * 0.75 + 6 * 0.5) / 10])
    np.testing.assert_allclose(found.volumes, [4 * 6.5, 15 * 6.5])
    assert found.labels[1, 10, 10] == 1
    assert found.labels[1, 2, 2] == 2


def test_one_sure_voxel_does_not_make_a_sure_lesion() -> None:
    size = round(SCORED_VOLUME)
    probability = np.zeros((1, 1, 4 * size), np.float32)
    probability[0, 0, :size] = 0.5
    probability[0, 0, 0] = 1.0
    probability[0, 0, -size:] = 0.625
    found = find_instances(probability, ONE)
    assert found.labels[0, 0, 0] == 2
    np.testing.assert_allclose(found.scores, [0.625, (0.5 * (size - 1) + 1) / size])


def test_what_is_too_small_at_the_threshold_is_a_weak_candidate_with_what_is_around() -> None:
    probability = np.zeros((1, 9, 9), np.float32)
    probability[0, 2:7, 2:7] = 0.25
    probability[0, 4, 4] = 1.0
    found = find_instances(probability, ONE, min_volume=2)
    np.testing.assert_array_equal(found.labels > 0, probability > 0)
    np.testing.assert_allclose(found.scores, [(24 * 0.25 + 0.5) / 25])
    surer = find_instances(np.where(probability == 0.25, np.float32(0.4999999), probability), ONE, min_volume=2)
    assert surer.scores[0] < 0.5


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.7, 0.9])
def test_probabilities_rounded_down_are_not_at_the_threshold(threshold: float) -> None:
    probability = np.full((4, 4, 4), threshold, np.float32)
    found = find_instances(probability, ONE, threshold=threshold, weak=threshold / 2)
    rounded_up = float(np.float32(threshold)) >= threshold
    assert (found.scores[0] >= threshold) == rounded_up


def test_a_region_bounds_lesions() -> None:
    probability = np.full((2, 10, 10), 0.9, np.float32)
    region = np.zeros(probability.shape, bool)
    region[:, :4] = region[:, 6:] = True
    found = find_instances(probability, ONE, region=region)
    np.testing.assert_array_equal(found.labels > 0, region)
    assert found.volumes.tolist() == [80, 80]


@pytest.mark.parametrize("shape", [(4, 5, 6), (0, 5, 6)])
def test_nothing_is_found_in_nothing(shape: tuple[int, int, int]) -> None:
    found = find_instances(np.zeros(shape, np.float32), ONE)
    assert found.labels.shape == shape
    assert not found.labels.any()
    assert found.scores.tolist() == found.volumes.tolist() == []


@pytest.mark.parametrize(
    ("probability", "options", "told"),
    [
        (np.full((2, 2, 2), np.nan, np.float32), {}, "probabilities are from nan to nan"),
        (np.full((2, 2, 2), 3, np.float32), {}, "probabilities are from 0 to 3"),
        (np.zeros((2, 2), np.float32), {}, r"shape \(2, 2\)"),
        (np.zeros((2, 2, 2), np.float32), {"region": np.ones((2, 2, 3), bool)}, r"the region \(2, 2, 3\)"),
        (np.zeros((2, 2, 2), np.float32), {"weak": 0.6}, "weak is 0.6, threshold 0.5"),
        (np.zeros((2, 2, 2), np.float32), {"weak": 0.0}, "weak is 0, threshold 0.5"),
    ],
)
def test_what_does_not_fit_is_told(probability: NDArray[np.float32], options: dict[str, object], told: str) -> None:
    with pytest.raises(DeepError, match=told):
        find_instances(probability, ONE, **options)  # type: ignore[arg-type]


@given(st.lists(st.sampled_from(["P", "P-1", "P-1-found-2", "p", "P/1", "found"]), max_size=8))
def test_no_two_lesions_share_an_id(patients: list[str]) -> None:
    ids = [lesion_id(case, number) for case in case_names(patients) for number in range(1, 13)]
    assert len(ids) == len(set(ids))
