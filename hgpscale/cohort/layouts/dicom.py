"""Series of DICOM files in an archive's folders, known by few tags; no tag that names a person is kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from hgpscale.cohort.dicom.files import dicom_files, read_header
from hgpscale.cohort.layouts.found import LeftOut
from hgpscale.errors import ImageError

_TAGS = ["SOPClassUID", "Modality", "SeriesInstanceUID", "ReferencedSeriesSequence", "SegmentSequence"]


@dataclass(frozen=True)
class Series:
    """An image series or a SEG object.

    `path` is the series' folder, or a file of it where the folder holds several; the SEG object's file. `references`
    are the UIDs of the series that it was drawn on, `segments` the names of its segments.
    """

    path: Path
    modality: str
    uid: str
    references: frozenset[str] = frozenset()
    segments: tuple[str, ...] = ()


def series_below(folder: Path) -> Iterator[Series | LeftOut]:
    """Yield the image series and SEG objects below a patient's folder, and files that cannot be read.

    Files may have any name. An archive has a series a folder: where the first and the last file agree, they speak for
    the others, so that slices are not read one by one.
    """
    try:
        places = sorted({path.parent for path in folder.rglob("*") if path.is_file()})
    except OSError as error:
        yield LeftOut(folder.name, str(folder), f"cannot be read: {error.strerror or error}")
        return
    for place in places:
        try:
            files = dicom_files(place)
        except ImageError:  # no DICOM file in it
            continue
        except OSError as error:
            yield LeftOut(folder.name, str(place), f"cannot be read: {error.strerror or error}")
            continue
        ends = list(dict.fromkeys((files[0], files[-1])))
        found = [_series(path) for path in ends]
        if len({item.uid if isinstance(item, Series) else "" for item in found}) > 1 or not _is_image(found[0]):
            found, ends = [_series(path) for path in files], files
        images: dict[str, Series] = {}
        for path, item in zip(ends, found, strict=True):
            if isinstance(item, str):
                yield LeftOut(folder.name, str(path), item)
            elif item.modality == "SEG":
                yield item
            else:
                images.setdefault(item.uid, item)
        for item in images.values():
            # A file stands for its series where the folder holds several.
            yield replace(item, path=place) if len(images) == 1 else item


def _is_image(item: Series | str) -> bool:
    return isinstance(item, Series) and item.modality != "SEG"


def drawn_on(seg: Series, scans: list[Series]) -> Series | str:
    """Return the CT series that a SEG object refers to, or the only one; otherwise what is wrong."""
    meant = [scan for scan in scans if scan.uid in seg.references]
    if len(meant) == 1:
        return meant[0]
    if len(scans) == 1 and not seg.references:
        return scans[0]
    return f"it refers to no CT series that is here once; found {len(scans)} CT series, {len(meant)} of that UID"


def _series(path: Path) -> Series | str:
    """Return what one file says of its series, or what is wrong with the file."""
    try:
        header = read_header(path, _TAGS)
    except ImageError as error:
        return str(error)
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    references = {str(item.get("SeriesInstanceUID", "")) for item in header.get("ReferencedSeriesSequence") or []}
    segments = tuple(str(item.get("SegmentLabel", "")) for item in header.get("SegmentSequence") or [])
    modality, uid = str(header.get("Modality", "")), str(header.get("SeriesInstanceUID", ""))
    return Series(path, modality, uid, frozenset(references), segments)
