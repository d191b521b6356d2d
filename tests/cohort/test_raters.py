"""Agreement of raters: by hand, and as SimpleITK measures it."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from hgpscale.cohort.raters import dice, rater_agreement, shared_voxels
from hgpscale.volume import Geometry, Index, Volume

GRID = Geometry((8, 9, 10), (2.0, 1.0, 0.5), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1))


def block(start: Index, shape: Index, grid: Geometry = GRID) -> Volume:
    return Volume(np.ones(shape, np.bool_), grid, start)


def test_dice_volumes_and_spread_by_hand() -> None:
    a, b, c = block((1, 1, 1), (2, 2, 2)), block((2, 1, 1), (2, 2, 2)), block((5, 5, 5), (1, 2, 2))
    found = rater_agreement({"a": a, "b": b, "c": c})
    assert found.dice == {("a", "b"): 0.5, ("a", "c"): 0.0, ("b", "c"): 0.0}
    assert found.volumes == {"a": 8.0, "b": 8.0, "c": 4.0}
    assert (found.worst_dice, found.spread) == (0.0, 2.0)
    assert found.mean_dice == pytest.approx(1 / 6)
    assert shared_voxels(a, b) == 4


def test_a_single_rater_has_no_agreement() -> None:
    found = rater_agreement({"a": block((0, 0, 0), (1, 1, 1))})
    assert (found.dice, found.worst_dice, found.mean_dice, found.spread) == ({}, None, None, None)


def test_empty_masks_and_other_grids() -> None:
    empty = Volume(np.zeros((1, 1, 1), np.bool_), GRID)
    assert np.isnan(dice(empty, empty))
    other = Geometry((8, 9, 11), GRID.spacing, GRID.origin, GRID.direction)
    with pytest.raises(ValueError, match="one grid"):
        dice(empty, block((0, 0, 0), (1, 1, 1), other))


def test_dice_is_simpleitk_s() -> None:
    rng = np.random.default_rng(0)
    whole = [rng.random(GRID.size) < 0.4 for _ in range(2)]
    whole[0][:2], whole[1][:, :3] = False, False
    boxes = [
        Volume(whole[0][2:], GRID, (2, 0, 0)),
        Volume(whole[1][:, 3:], GRID, (0, 3, 0)),
    ]
    measured = sitk.LabelOverlapMeasuresImageFilter()
    measured.Execute(*(sitk.GetImageFromArray(mask.astype(np.uint8)) for mask in whole))
    assert dice(*boxes) == pytest.approx(measured.GetDiceCoefficient(), rel=1e-12)
