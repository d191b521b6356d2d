"""Where lesions come from: manifests, and guarded readers for the images and masks that they name."""

from __future__ import annotations

from hgpscale.cohort.build import BuiltCohort, build_cohort
from hgpscale.cohort.check import Problem, check_cohort
from hgpscale.cohort.images import file_digest, image_bytes, open_image, read_image, read_parts
from hgpscale.cohort.manifest import Cohort, LesionRow, read_manifest
from hgpscale.cohort.masks import labels_of, read_labels, read_mask
from hgpscale.cohort.outlines import LabelMap, Outlines, list_segments, read_outlines
from hgpscale.cohort.scans import Splitting
from hgpscale.cohort.segments import Segment

__all__ = [
    "BuiltCohort",
    "Cohort",
    "LabelMap",
    "LesionRow",
    "Outlines",
    "Problem",
    "Segment",
    "Splitting",
    "build_cohort",
    "check_cohort",
    "file_digest",
    "image_bytes",
    "labels_of",
    "list_segments",
    "open_image",
    "read_image",
    "read_labels",
    "read_manifest",
    "read_mask",
    "read_outlines",
    "read_parts",
]
