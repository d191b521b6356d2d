"""Segments: regions of a mask file that have numbers and names and may overlap, and how a `roi` chooses among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Protocol

import numpy as np

from hgpscale.cohort.place import union
from hgpscale.errors import MaskError
from hgpscale.volume import Volume

_LISTED = 20


@dataclass(frozen=True)
class Segment:
    """One region of a mask file.

    Attributes
    ----------
    number
        The file's number of it: of a DICOM SEG the segment number, of an RTSTRUCT the ROI number, of a ``.seg.nrrd``
        file its place, from 1; of a label map its value.
    name
        Its name; empty in a label map.
    voxels
        Number of its voxels; None where that takes drawing it.

    """

    number: int
    name: str
    voxels: int | None = None


class Drawing(Protocol):
    """A mask file that can draw its segments."""

    @property
    def segments(self) -> tuple[Segment, ...]:
        """What there is, in the order of the file."""

    def draw(self, segment: Segment) -> Volume:
        """Return a segment as a boolean box ``(z, y, x)``, one voxel False where it is empty."""


@dataclass(frozen=True)
class SegmentOutlines:
    """The segments of a mask file, see `hgpscale.cohort.Outlines`.

    Attributes
    ----------
    drawing
        Draws them.
    digest
        Digest of the file's bytes; empty where none was asked for.

    """

    drawing: Drawing
    digest: str

    def region(self, roi: str, label: int | None) -> tuple[Volume, int | None]:
        """Return the union of the chosen segments, as label 1 of uint8; `label` is a number where `roi` is empty."""
        found = self._drawn(roi, label)
        return Volume(found.array.astype(np.uint8), found.geometry, found.start), 1

    def organ(self, roi: str) -> Volume:
        """Return the union of the chosen segments."""
        return self._drawn(roi, None)

    def _drawn(self, roi: str, label: int | None) -> Volume:
        return union([self.drawing.draw(segment) for segment in choose(self.drawing.segments, roi, label)])


def choose(segments: Sequence[Segment], roi: str, label: int | None = None) -> list[Segment]:
    """Return the segments that a manifest's `roi` means.

    Parameters
    ----------
    segments
        What the file holds.
    roi
        A name; else a number; else a pattern (``Tumor_*``), first as it is written, then in any case. All that match
        are meant. Empty: `label`, or the only segment.
    label
        Number of a segment, where `roi` is empty.

    Raises
    ------
    MaskError
        Nothing matches, or there are several segments and none was chosen: then the message lists them.

    """
    if not segments:
        raise MaskError("the mask holds no segments")
    if not roi and label is None:
        if len(segments) > 1:
            raise MaskError(f"the mask holds {len(segments)} segments, choose with roi: {listed(segments)}")
        return list(segments)
    wanted = roi or str(label)
    ways = [
        [segment for segment in segments if roi and segment.name == wanted],
        [segment for segment in segments if wanted.isdecimal() and segment.number == int(wanted)],
        [segment for segment in segments if roi and fnmatchcase(segment.name, wanted)],
        [segment for segment in segments if roi and fnmatchcase(segment.name.lower(), wanted.lower())],
    ]
    found = next((way for way in ways if way), [])
    if not found:
        what = f"roi {roi!r}" if roi else f"label {label}"
        raise MaskError(f"{what} is none of the mask's segments: {listed(segments)}")
    return found


def listed(segments: Sequence[Segment]) -> str:
    """Return numbers and names for a message."""
    names = [f"{s.number} {s.name!r}{' (empty)' if s.voxels == 0 else ''}" for s in segments[:_LISTED]]
    more = f" and {len(segments) - _LISTED} more" if len(segments) > _LISTED else ""
    return ", ".join(names) + more
