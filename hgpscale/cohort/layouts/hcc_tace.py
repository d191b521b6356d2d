"""TCIA HCC-TACE-Seg: several CT series a patient, one SEG object that refers to the one it was drawn on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hgpscale.cohort.layouts.dicom import Series
from hgpscale.cohort.layouts.found import Found, Layout, LeftOut, Options, Outline
from hgpscale.cohort.layouts.tcia_crlm import find_segs

_MASS = ("mass", "tumor")


def _find(root: Path, options: Options) -> Iterator[Found | LeftOut]:
    return find_segs(root, _masses)


def _masses(seg: Series) -> tuple[Outline, ...]:
    # One segment holds all nodules of a patient: it is split.
    return tuple(Outline(seg.path, roi=name) for name in seg.segments if name.strip().lower() in _MASS)


HCC_TACE = Layout(
    "hcc-tace",
    "TCIA HCC-TACE-Seg: patient/study/series/*.dcm, a SEG with Liver, Mass, Portal vein, Abdominal aorta",
    _find,
    sheets=("*[Cc]linical*.csv",),
)
