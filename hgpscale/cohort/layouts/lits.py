"""LiTS 2017: volume-N.nii and segmentation-N.nii in one or more folders; 1 is liver, 2 is tumour."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from hgpscale.cohort.layouts.found import Found, Layout, LeftOut, Options, Outline

_FILE = re.compile(r"(volume|segmentation)-(\d+)\.nii(\.gz)?")
_TUMOUR = 2


def _find(root: Path, options: Options) -> Iterator[Found | LeftOut]:
    files: dict[int, dict[str, list[Path]]] = {}
    for path in sorted(root.rglob("*-*.nii*")):
        if match := _FILE.fullmatch(path.name):
            files.setdefault(int(match[2]), {"volume": [], "segmentation": []})[match[1]].append(path)
    for number, kinds in sorted(files.items()):
        patient = f"LiTS-{number:03d}"
        volumes, masks = kinds["volume"], kinds["segmentation"]
        if len(volumes) == len(masks) == 1:
            yield Found(patient, volumes[0], (Outline(masks[0], label=_TUMOUR),), masks[0])
        else:
            found = (volumes or masks)[0]
            reason = f"expected one volume and one segmentation, found {len(volumes)} and {len(masks)}"
            yield LeftOut(patient, str(found), reason)


LITS = Layout("lits", "LiTS 2017: volume-N.nii, segmentation-N.nii", _find)
