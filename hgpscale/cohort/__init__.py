"""Where lesions come from: manifests, and guarded readers for the images and masks that they name."""

from __future__ import annotations

from hgpscale.cohort.check import Problem, check_cohort
from hgpscale.cohort.images import read_image, read_mask
from hgpscale.cohort.manifest import Cohort, LesionRow, read_manifest

__all__ = ["Cohort", "LesionRow", "Problem", "check_cohort", "read_image", "read_manifest", "read_mask"]
