"""TCIA Colorectal-Liver-Metastases: patient/study/series, one CT and one SEG series each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from hgpscale.cohort.layouts.dicom import Series, drawn_on, series_below
from hgpscale.cohort.layouts.found import Found, Layout, LeftOut, Options, Outline, folders_of

_TUMOUR = re.compile(r"tumou?r[_ ]?(\d+)", re.IGNORECASE)


def _find(root: Path, options: Options) -> Iterator[Found | LeftOut]:
    return find_segs(root, _tumours)


def _tumours(seg: Series) -> tuple[Outline, ...]:
    named = [(name, match) for name in seg.segments if (match := _TUMOUR.fullmatch(name.strip()))]
    return tuple(Outline(seg.path, roi=name, lesion=str(int(match[1]))) for name, match in named)


def find_segs(root: Path, lesions: Callable[[Series], tuple[Outline, ...]]) -> Iterator[Found | LeftOut]:
    """Yield a scan for each patient that has one SEG object; `lesions` says which of its segments are lesions."""
    for folder in folders_of(root):
        series: list[Series] = []
        for item in series_below(folder):
            if isinstance(item, LeftOut):
                yield item
            else:
                series.append(item)
        segs = [item for item in series if item.modality == "SEG"]
        if len(segs) != 1:
            names = ", ".join(f"{seg.path.parent.name}/{seg.path.name}" for seg in segs)
            reason = f"expected one SEG object, found {len(segs)}{f': {names}' if names else ''}"
            yield LeftOut(folder.name, str(folder), reason)
            continue
        image = drawn_on(segs[0], [item for item in series if item.modality == "CT"])
        outlines = lesions(segs[0])
        if isinstance(image, str):
            yield LeftOut(folder.name, str(segs[0].path), image)
        elif not outlines:
            reason = f"no segment of it is a lesion; found {', '.join(segs[0].segments) or 'none'}"
            yield LeftOut(folder.name, str(segs[0].path), reason)
        else:
            liver = next((name for name in segs[0].segments if name.strip().lower() == "liver"), "")
            yield Found(folder.name, image.path, outlines, segs[0].path if liver else None, liver)


TCIA_CRLM = Layout(
    "tcia-crlm",
    "TCIA Colorectal-Liver-Metastases: patient/study/series/*.dcm, a CT and a SEG each",
    _find,
    sheets=("*[Cc]linical*.csv",),
    missing=("999",),
)
