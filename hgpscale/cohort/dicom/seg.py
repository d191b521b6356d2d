"""DICOM segmentations: binary, fractional, and label maps, placed by the positions that they give themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from hgpscale.cohort.dicom.files import decode, item_of, quiet, tail
from hgpscale.cohort.dicom.frames import axes_of, group_of, place_of
from hgpscale.cohort.headers import memory_problems
from hgpscale.cohort.place import empty, onto, trimmed, union
from hgpscale.cohort.segments import Segment
from hgpscale.errors import GeometryError, ImageError, MaskError
from hgpscale.volume import Geometry, Volume

TAGS = (
    "SOPClassUID",
    "Modality",
    "FrameOfReferenceUID",
    "SegmentationType",
    "MaximumFractionalValue",
    "SegmentSequence",
    "ReferencedSeriesSequence",
    "Rows",
    "Columns",
    "BitsAllocated",
    "NumberOfFrames",
    "PixelPaddingValue",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)
_KINDS = ("BINARY", "FRACTIONAL", "LABELMAP")
_EVEN = 0.05


@dataclass(frozen=True)
class SegFrame:
    """A plane of a segmentation.

    Attributes
    ----------
    index
        Number in the file, from 0.
    segment
        Number of its segment; 0 in a label map, whose pixels say it.
    place
        The plane as a grid of one slice.

    """

    index: int
    segment: int
    place: Geometry


@dataclass(frozen=True)
class SegFile:
    """A DICOM SEG.

    Attributes
    ----------
    data
        Its bytes.
    syntax
        Transfer syntax.
    packed
        Whether frames of single bits follow each other without a gap, so that a frame can start within a byte.
    kind
        ``BINARY``, ``FRACTIONAL`` or ``LABELMAP``.
    threshold
        What a fraction must reach to count: half of the highest that there can be.
    segments
        What it holds.
    frames
        Its planes.
    grid
        Where they are put: the image's grid where all lie on it, their own otherwise.

    """

    data: bytes
    syntax: str
    packed: bool
    kind: str
    threshold: float
    segments: tuple[Segment, ...]
    frames: tuple[SegFrame, ...]
    grid: Geometry

    def draw(self, segment: Segment) -> Volume:
        """Return a segment as a boolean box; errors as of `read_seg`, without the file."""
        parts = []
        # pydicom finds a single frame only where it starts at a byte.
        whole = decode(self.data, self.syntax, None) if self.packed and self.frames else None
        for frame in self.frames:
            if frame.segment not in (0, segment.number):
                continue
            pixels = (
                decode(self.data, self.syntax, frame.index)
                if whole is None
                else whole.reshape(-1, *whole.shape[-2:])[frame.index]
            )
            if pixels.shape != frame.place.size[1:]:
                raise ImageError(
                    f"its frame {frame.index + 1} has {pixels.shape} pixels, expected {frame.place.size[1:]}"
                )
            hit = {
                "BINARY": lambda p: p != 0,
                "FRACTIONAL": lambda p: p >= self.threshold,
                "LABELMAP": lambda p: p == segment.number,
            }[self.kind](pixels)
            part = trimmed(Volume(hit[None], frame.place))
            if part is not None:
                parts.append(self._placed(part))
        return union(parts) if parts else empty(self.grid)

    def _placed(self, part: Volume) -> Volume:
        placed = onto(part, self.grid)
        if placed.geometry is part.geometry:
            raise MaskError("its frames do not lie on one grid: save it with frames of one spacing and orientation")
        return placed


def read_seg(ds: Any, data: bytes, image: Geometry | None) -> SegFile:
    """Read what a SEG says of its segments and frames, no pixels.

    Parameters
    ----------
    ds
        Its header, with `TAGS`.
    data
        The file.
    image
        Grid of the scan that it belongs to; None: only its segments are wanted.

    Raises
    ------
    ImageError
        It is damaged, or of a kind that is not supported.
    MaskError
        Its frames do not lie on one grid.
    GeometryError
        It was drawn in another frame of reference than the image's.

    """
    with quiet("its DICOM header is damaged"):
        segments = tuple(
            Segment(int(item.SegmentNumber), str(item.get("SegmentLabel", "") or ""))
            for item in ds.get("SegmentSequence") or ()
            if int(item.SegmentNumber) > 0  # 0 is the background of a label map
        )
        kind = str(ds.get("SegmentationType", ""))
        if kind not in _KINDS:
            raise ImageError(f"its SegmentationType is not supported; expected {', '.join(_KINDS)}")
        threshold = 0.5 * float(ds.get("MaximumFractionalValue") or 1)
        syntax = str(ds.file_meta.TransferSyntaxUID)
        packed = int(ds.get("BitsAllocated") or 0) == 1 and not ds.file_meta.TransferSyntaxUID.is_encapsulated
        if image is None:
            return SegFile(data, syntax, packed, kind, threshold, segments, (), _NOWHERE)
        series = [str(item.get("SeriesInstanceUID", "") or "") for item in ds.get("ReferencedSeriesSequence") or ()]
        require_reference(str(ds.get("FrameOfReferenceUID", "") or ""), filter(None, series), image)
        frames = tuple(_frames(ds, kind))
    problems = memory_problems(len(frames) * int(ds.Rows) * int(ds.Columns))
    if problems:
        raise ImageError("; ".join(problems))
    _check_length(ds, len(frames))
    return SegFile(data, syntax, packed, kind, threshold, segments, frames, _grid(frames, image))


_NOWHERE = Geometry((1, 1, 1), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))


def _check_length(ds: Any, count: int) -> None:
    if ds.pixel_bytes is None or ds.file_meta.TransferSyntaxUID.is_encapsulated:
        return
    expected = (count * int(ds.Rows) * int(ds.Columns) * int(ds.BitsAllocated) + 7) // 8
    if min(ds.pixel_bytes) < expected:
        raise ImageError(
            f"it is truncated: its header claims {expected} bytes of pixels, it holds {min(ds.pixel_bytes)}"
        )


def require_reference(reference: str, series: Iterable[str], image: Geometry) -> None:
    """Raise a GeometryError where a mask was drawn in another space than the image's.

    One frame of reference is one space, whichever series of it the mask was drawn on. Some programs (rt-utils) invent
    the frame of reference: a mask that names the image's own series belongs to it all the same. What gives none is
    taken by its positions.

    Parameters
    ----------
    reference
        The mask's frame of reference; may be empty.
    series
        Those that it says it was drawn on.
    image
        The image's grid, whose references may be empty.

    """
    if reference and image.references and not {reference, *series} & set(image.references):
        raise GeometryError(
            f"the mask's frame of reference ({tail(reference)}) is not the image's ({tail(image.references[0])}), nor "
            "was it drawn on the image's series: give the image that it was drawn on"
        )


def _frames(ds: Any, kind: str) -> Iterator[SegFrame]:
    per_frame = ds.get("PerFrameFunctionalGroupsSequence") or ()
    count = int(ds.get("NumberOfFrames") or 0)
    if len(per_frame) != count:
        raise ImageError(f"it has {count} frames, and describes {len(per_frame)}")
    shared = item_of(ds, "SharedFunctionalGroupsSequence")
    for index, own in enumerate(per_frame):
        measures = group_of(own, shared, "PixelMeasuresSequence")
        position, orientation, (dy, dx) = place_of(
            group_of(own, shared, "PlanePositionSequence"), group_of(own, shared, "PlaneOrientationSequence"), measures
        )
        number = 0
        if kind != "LABELMAP":
            number = int(group_of(own, shared, "SegmentIdentificationSequence").get("ReferencedSegmentNumber", 0))
            if number < 1:
                raise ImageError(f"its frame {index + 1} does not say of which segment it is")
        direction = axes_of(orientation).ravel()
        step = float(measures.get("SpacingBetweenSlices") or measures.get("SliceThickness") or 1.0)
        x, y, z = position
        place = Geometry(
            (1, int(ds.Rows), int(ds.Columns)), (abs(step) or 1.0, dy, dx), (x, y, z), tuple(map(float, direction))
        )
        yield SegFrame(index, number, place)


def _grid(frames: tuple[SegFrame, ...], image: Geometry) -> Geometry:
    """Return the image's grid where all frames lie on it, else the one that they make."""
    if not frames:
        return image
    whole = [Volume(np.broadcast_to(np.True_, frame.place.size), frame.place) for frame in frames]
    if all(onto(part, image).geometry is image for part in whole):
        return image
    first = frames[0].place
    normal = np.reshape(first.direction, (3, 3))[:, 2]
    along = np.array([normal @ frame.place.origin for frame in frames])
    lowest = frames[int(along.argmin())].place
    places = np.unique(np.round(along - along.min(), 4))
    step = float(np.diff(places).min()) if len(places) > 1 else first.spacing[0]
    steps = places / step
    if np.abs(steps - np.rint(steps)).max() > _EVEN * max(1, steps.max() ** 0.5):
        raise MaskError("its frames are spaced unevenly and do not lie on the image's slices")
    return Geometry(
        (round(float(steps.max())) + 1, *first.size[1:]), (step, *first.spacing[1:]), lowest.origin, first.direction
    )
