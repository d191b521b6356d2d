"""DICOM structure sets: contours in mm, filled on the slices of the image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hgpscale.cohort.dicom.files import quiet
from hgpscale.cohort.dicom.seg import require_reference
from hgpscale.cohort.place import empty, trimmed
from hgpscale.cohort.segments import Segment
from hgpscale.errors import GeometryError, ImageError, MaskError
from hgpscale.volume import Geometry, Volume

TAGS = (
    "SOPClassUID",
    "Modality",
    "FrameOfReferenceUID",
    "ReferencedFrameOfReferenceSequence",
    "StructureSetROISequence",
    "ROIContourSequence",
)
_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
_ONE_PLANE = 0.05
"""Of the distance of slices: how far apart contours of one slice may lie; more are of other slices than the image's."""
_DIGITS = 4
"""Decimals of a pixel that count, so that a contour through pixel centres is not torn by rounding in the file."""


@dataclass(frozen=True)
class StructureSet:
    """An RTSTRUCT.

    Attributes
    ----------
    segments
        Its ROIs.
    contours
        Of each ROI by number: kind and points ``(n, 3)`` of ``(x, y, z)`` in mm.
    references
        Of each ROI by number: its frame of reference.
    series
        Those that it says it was drawn on.
    image
        Grid of the scan that it belongs to.

    """

    segments: tuple[Segment, ...]
    contours: dict[int, list[tuple[str, NDArray[np.float64]]]]
    references: dict[int, str]
    series: tuple[str, ...]
    image: Geometry | None

    def check(self, segment: Segment) -> None:
        """Raise what `draw` raises of an ROI that cannot be drawn, where that shows without filling it."""
        assert self.image is not None, "read without an image"
        require_reference(self.references.get(segment.number, ""), self.series, self.image)
        found = self.contours.get(segment.number, [])
        kinds = sorted({kind for kind, _ in found if kind not in _CLOSED})
        if kinds:
            raise MaskError(
                f"ROI {segment.number} {segment.name!r} holds contours of type {', '.join(kinds)}, which enclose "
                "nothing; expected CLOSED_PLANAR"
            )
        for _, members in self._by_slice(segment):
            depths = [float(part[:, 0].mean()) for part in members]
            if max(depths) - min(depths) > _ONE_PLANE:
                raise MaskError(
                    f"contours of ROI {segment.number} {segment.name!r} on different planes fall on one slice: it was "
                    "drawn on other slices than the image's; give the image that it was drawn on"
                )

    def draw(self, segment: Segment) -> Volume:
        """Return an ROI as a boolean box: pixels whose centre an odd number of contours encloses.

        Raises
        ------
        MaskError
            It holds points or open lines, a contour that lies on no slice, or contours of other slices.
        GeometryError
            A contour lies outside of the image, or in another frame of reference.

        """
        assert self.image is not None, "read without an image"
        self.check(segment)
        slices = list(self._by_slice(segment))
        if not slices:
            return empty(self.image)
        first, last = slices[0][0], slices[-1][0]
        edges = np.concatenate([part[:, 1:] for _, members in slices for part in members])
        (y0, x0), (y1, x1) = np.floor(edges.min(axis=0)).astype(int), np.ceil(edges.max(axis=0)).astype(int) + 1
        ny, nx = self.image.size[1:]
        y0, x0, y1, x1 = max(y0, 0), max(x0, 0), min(y1, ny), min(x1, nx)
        array = np.zeros((last - first + 1, max(y1 - y0, 1), max(x1 - x0, 1)), np.bool_)
        for z, members in slices:
            array[z - first] = fill(
                [part[:, 1:] - np.array((y0, x0)) for part in members], (array.shape[1], array.shape[2])
            )
        return trimmed(Volume(array, self.image, (first, int(y0), int(x0)))) or empty(self.image)

    def _by_slice(self, segment: Segment) -> Iterable[tuple[int, list[NDArray[np.float64]]]]:
        """Yield each slice that has contours, in order, with their continuous indices ``(n, 3)``, ``(z, y, x)``."""
        image = self.image
        assert image is not None, "read without an image"
        matrix = np.reshape(image.direction, (3, 3))[:, ::-1] * np.array(image.spacing)
        inverse = np.linalg.inv(matrix)
        groups: dict[int, list[NDArray[np.float64]]] = {}
        for _, points in self.contours.get(segment.number, []):
            index = np.round((points - image.origin) @ inverse.T, _DIGITS)
            z = int(np.rint(index[:, 0].mean()))
            what = f"a contour of ROI {segment.number} {segment.name!r}"
            if np.abs(index[:, 0] - z).max() > 0.5:
                raise MaskError(
                    f"{what} is not parallel to the slices: it reaches from slice {index[:, 0].min():.4g} to "
                    f"{index[:, 0].max():.4g}; expected one slice"
                )
            low, high = index.min(axis=0), index.max(axis=0)
            if not 0 <= z < image.size[0] or (low[1:] < -1).any() or (high[1:] > image.size[1:]).any():
                raise GeometryError(
                    f"{what} lies outside of the image: it reaches from index {_shown(low)} to {_shown(high)} "
                    f"(z, y, x), the image has {image.size} voxels; give the image that it was drawn on"
                )
            groups.setdefault(z, []).append(index)
        yield from sorted(groups.items(), key=lambda group: group[0])


def _shown(values: NDArray[np.float64]) -> str:
    return "(" + ", ".join(f"{value + 0:.4g}" for value in values) + ")"


def fill(contours: Sequence[NDArray[np.float64]], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Fill closed contours on one slice.

    Parameters
    ----------
    contours
        Corners ``(n, 2)`` of ``(y, x)`` in pixels, 0 at the centre of the first; the last is joined to the first.
    shape
        Number of rows and of columns.

    Returns
    -------
    ndarray
        True where an odd number of contours encloses the pixel's centre, so that a contour within another is a hole.
        Of a centre on an edge, the upper and left edges count as inside.

    """
    rows, columns = shape
    toggles = np.zeros((rows, columns + 1), np.int64)
    for contour in contours:
        a, b = contour, np.roll(contour, -1, axis=0)
        upper, lower = np.where((a[:, :1] <= b[:, :1]), a, b), np.where((a[:, :1] <= b[:, :1]), b, a)
        # The rows whose centres an edge crosses: from its upper end on, its lower end not included.
        first = np.clip(np.ceil(upper[:, 0]), 0, rows).astype(np.int64)
        count = np.clip(np.ceil(lower[:, 0]), 0, rows).astype(np.int64) - first
        edge = np.repeat(np.arange(len(a)), count)
        if not edge.size:
            continue
        row = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + first[edge]
        run = (row - upper[edge, 0]) / (lower[edge, 0] - upper[edge, 0])
        x = np.round(upper[edge, 1] + run * (lower[edge, 1] - upper[edge, 1]), _DIGITS + 3)
        np.add.at(toggles, (row, np.clip(np.ceil(x), 0, columns).astype(np.int64)), 1)
    inside: NDArray[np.bool_] = np.cumsum(toggles, axis=1)[:, :columns] % 2 == 1
    return inside


def read_rtstruct(ds: Any, image: Geometry | None) -> StructureSet:
    """Read the ROIs of an RTSTRUCT.

    Parameters
    ----------
    ds
        Its header, with `TAGS`.
    image
        Grid of the scan that it belongs to; None: only its ROIs are wanted.

    Raises
    ------
    ImageError
        It is damaged.

    """
    with quiet("its DICOM header is damaged"):
        own = str(ds.get("FrameOfReferenceUID", "") or "")
        frames = ds.get("ReferencedFrameOfReferenceSequence") or []
        if not own and len(frames) == 1:
            own = str(frames[0].get("FrameOfReferenceUID", "") or "")
        series = tuple(
            str(item.SeriesInstanceUID)
            for frame in frames
            for study in frame.get("RTReferencedStudySequence") or ()
            for item in study.get("RTReferencedSeriesSequence") or ()
            if item.get("SeriesInstanceUID")
        )
        rois = ds.get("StructureSetROISequence") or ()
        references = {int(r.ROINumber): str(r.get("ReferencedFrameOfReferenceUID", "") or own) for r in rois}
        contours: dict[int, list[tuple[str, NDArray[np.float64]]]] = {}
        for shape in ds.get("ROIContourSequence") or ():
            number = int(shape.ReferencedROINumber)
            for contour in shape.get("ContourSequence") or ():
                points = np.array(list(contour.get("ContourData") or []), np.float64)
                if points.size % 3 or not points.size or not np.isfinite(points).all():
                    raise ImageError(f"a contour of its ROI {number} is no list of points (x, y, z)")
                kind = str(contour.get("ContourGeometricType", ""))
                contours.setdefault(number, []).append((kind, points.reshape(-1, 3)))
        segments = tuple(
            Segment(
                int(roi.ROINumber), str(roi.get("ROIName", "") or ""), None if int(roi.ROINumber) in contours else 0
            )
            for roi in rois
        )
    return StructureSet(segments, contours, references, series, image)
