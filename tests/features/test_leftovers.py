"""What a region that cannot be computed leaves behind."""

from __future__ import annotations

import gc
import weakref

import numpy as np

from hgpscale.errors import HgpscaleError
from hgpscale.features import CpuRegion, Footprint, compute
from hgpscale.settings import Settings


def test_a_refused_region_is_forgotten_at_once() -> None:
    values = 1e9 * np.random.default_rng(0).random(27)  # too many bins
    region = CpuRegion(Footprint(np.ones((3, 3, 3), bool), (1.0, 1.0, 1.0)), Settings(), values)
    gc.disable()
    try:
        (found,) = compute("glcm", [region], ["Contrast"])
        assert isinstance(found, HgpscaleError)
        left = weakref.ref(region)
        del region
        assert left() is None
    finally:
        gc.enable()
