"""Thresholds of the region's voxels, where pyradiomics cannot say what is right: it overflows."""

from __future__ import annotations

import numpy as np
import pytest

from hgpscale.errors import MaskError
from hgpscale.prepare.resegment import resegment
from hgpscale.settings import Settings

VOXELS = np.array([[[0, 100, 30000, 60000]]], np.uint16)
REGION = np.ones(VOXELS.shape, bool)


def relative(low: float, high: float) -> Settings:
    return Settings.from_parameters({"setting": {"resegmentRange": [low, high], "resegmentMode": "relative"}})


@pytest.mark.parametrize(
    ("low", "high", "kept"),
    [(-1, 2, [True, True, True, True]), (-1, 0.5, [True, True, True, False]), (0.5, 2, [False, False, True, True])],
)
def test_multiples_of_the_maximum_leave_the_image_s_type(low: float, high: float, kept: list[bool]) -> None:
    np.testing.assert_array_equal(resegment(REGION, VOXELS, relative(low, high)), [[kept]])


def test_the_message_has_the_thresholds_in_the_image_s_unit() -> None:
    with pytest.raises(MaskError, match="resegmentRange 120000 to 180000 keeps 0 of the region's 4 voxels"):
        resegment(REGION, VOXELS, relative(2, 3))
