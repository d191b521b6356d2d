"""Phantoms and synthetic cohorts: what the demo, the tests and the benchmarks run on; public for others' tests."""

from __future__ import annotations

from hgpscale.testing.cohort import make_cohort
from hgpscale.testing.phantoms import (
    GrowthPattern,
    LesionModel,
    LiverPhantom,
    Scanner,
    ellipsoid_volume,
    liver_phantom,
    place_lesions,
    sphere,
)

__all__ = [
    "GrowthPattern",
    "LesionModel",
    "LiverPhantom",
    "Scanner",
    "ellipsoid_volume",
    "liver_phantom",
    "make_cohort",
    "place_lesions",
    "sphere",
]
