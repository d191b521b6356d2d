"""Series of DICOM files in an archive's folders, known by few tags; no tag that names a person is kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hgpscale.cohort.layouts.found import LeftOut

if TYPE_CHECKING:
    from pydicom import Dataset

_TAGS = ["Modality", "SeriesInstanceUID", "ReferencedSeriesSequence", "SegmentSequence"]


@dataclass(frozen=True)
class Series:
    """A CT series (`path` is its folder) or a SEG object (`path` is its file).

    `references` are the UIDs of the series that it was drawn on, `segments` the names of its segments.
    """

    path: Path
    modality: str
    uid: str
    references: frozenset[str] = frozenset()
    segments: tuple[str, ...] = ()


def series_below(folder: Path) -> Iterator[Series | LeftOut]:
    """Yield the CT series and SEG objects below a patient's folder, and files that cannot be read.

    An archive has a series a folder: the first file speaks for the others, so that slices are not read one by one.
    """
    for place in sorted({path.parent for path in folder.rglob("*.dcm")}):
        for path in sorted(place.glob("*.dcm")):
            header = _header(path)
            if isinstance(header, str):
                yield LeftOut(folder.name, str(path), header)
                break
            modality = str(header.get("Modality", ""))
            uid = str(header.get("SeriesInstanceUID", ""))
            if modality != "SEG":
                yield Series(place, modality, uid)
                break
            references = {str(item.get("SeriesInstanceUID", "")) for item in header.get("ReferencedSeriesSequence", [])}
            segments = tuple(str(item.get("SegmentLabel", "")) for item in header.get("SegmentSequence", []))
            yield Series(path, modality, uid, frozenset(references), segments)


def drawn_on(seg: Series, scans: list[Series]) -> Series | str:
    """Return the CT series that a SEG object refers to, or the only one; otherwise what is wrong."""
    meant = [scan for scan in scans if scan.uid in seg.references]
    if len(meant) == 1:
        return meant[0]
    if len(scans) == 1 and not seg.references:
        return scans[0]
    return f"it refers to no CT series that is here once; found {len(scans)} CT series, {len(meant)} of that UID"


def _header(path: Path) -> Dataset | str:
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        return dcmread(path, stop_before_pixels=True, specific_tags=list(_TAGS))
    except (InvalidDicomError, OSError, EOFError, ValueError) as error:
        return f"is not a DICOM file that can be read: {type(error).__name__}: {error}"
