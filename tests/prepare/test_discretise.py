"""Values that no bins can be made of."""

from __future__ import annotations

import numpy as np
import pytest

from hgpscale.errors import VoxelError
from hgpscale.prepare.discretise import discretise
from hgpscale.settings import Settings


@pytest.mark.parametrize("values", [np.full(5, 1e300), np.array([2e17, 2e17], np.float64), np.array([-1e300] * 3)])
def test_values_that_a_bin_s_width_changes_nothing_of_are_refused(values: np.ndarray) -> None:
    with pytest.raises(VoxelError, match=r"too large to tell bins of width 0\.1 apart"):
        discretise(values, Settings(binWidth=0.1))


def test_values_below_that_have_bins() -> None:
    values = np.array([2**50, 2**50 + 1], np.float64)
    assert discretise(values, Settings(binWidth=1)).bins.tolist() == [1, 2]
