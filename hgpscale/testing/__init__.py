"""Phantoms and synthetic cohorts: what the demo, the tests and the benchmarks run on; public for others' tests."""

from __future__ import annotations

from hgpscale.testing.cohort import make_cohort
from hgpscale.testing.models import Appearance, GrowthPattern, LesionModel, Scanner, ellipsoid_volume
from hgpscale.testing.phantoms import LiverPhantom, liver_block, liver_phantom, outline, place_lesions, sphere
from hgpscale.testing.study import make_study

__all__ = [
    "Appearance",
    "GrowthPattern",
    "LesionModel",
    "LiverPhantom",
    "Scanner",
    "ellipsoid_volume",
    "liver_block",
    "liver_phantom",
    "make_cohort",
    "make_study",
    "outline",
    "place_lesions",
    "sphere",
]
