"""The WORC database (Starmans et al. 2021): CRLM-001/image.nii.gz, segmentation_lesion0_RAD.nii.gz."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from hgpscale.cohort.layouts.found import Found, Layout, LeftOut, Options, Outline, folders_of, one_of
from hgpscale.cohort.manifest import DEFAULT_SEGMENTATION

_MASK = re.compile(r"segmentation(?:_lesion_?(\d+))?(?:_(\w+?))?\.nii(\.gz)?")


def _find(root: Path, options: Options) -> Iterator[Found | LeftOut]:
    for folder in folders_of(root):
        image = one_of(folder, "image.nii.gz", "image.nii")
        if isinstance(image, str):
            yield LeftOut(folder.name, str(folder), image)
            continue
        try:
            files = sorted(folder.iterdir())
        except OSError as error:
            yield LeftOut(folder.name, str(folder), f"cannot be read: {error.strerror or error}")
            continue
        named = [(mask, match) for mask in files if (match := _MASK.fullmatch(mask.name))]
        if not named:
            yield LeftOut(folder.name, str(folder), "no mask: expected segmentation_lesion{N}_{RATER}.nii.gz")
            continue
        yield Found(
            folder.name,
            image,
            tuple(Outline(mask, m[2] or DEFAULT_SEGMENTATION, lesion=m[1] or "") for mask, m in named),
        )


WORC = Layout(
    "worc",
    "WORC database: CRLM-001/image.nii.gz, segmentation_lesion{N}_{RATER}.nii.gz, pinfo_CRLM.csv",
    _find,
    sheets=("pinfo_*.csv",),
)
