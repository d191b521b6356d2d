"""What a mask file outlines: one label map, or segments that have names and may overlap."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from hgpscale.cohort.images import about, is_dicom_image, open_voxel_file
from hgpscale.cohort.masks import read_labels
from hgpscale.cohort.segments import Segment, SegmentOutlines
from hgpscale.cohort.slicer import ENDING, SlicerFile, count, slicer_segments
from hgpscale.errors import HgpscaleError, MaskError
from hgpscale.volume import Geometry, Volume


class Outlines(Protocol):
    """The regions of one mask file."""

    @property
    def digest(self) -> str:
        """Digest of the file's bytes; empty where none was asked for."""

    def region(self, roi: str, label: int | None) -> tuple[Volume, int | None]:
        """Return labels ``(z, y, x)`` that hold one region, and its value there; None: the only one that there is.

        Parameters
        ----------
        roi
            Name, number or pattern (``Tumor_*``) of segments; all that match make one region. Empty: the only one.
        label
            Value in a label map, number of a segment.

        Raises
        ------
        MaskError
            There is no such region, or there are several and none was chosen: then the message lists them.

        """

    def organ(self, roi: str) -> Volume:
        """Return an organ, such as the liver, as a boolean box ``(z, y, x)``.

        Parameters
        ----------
        roi
            As of `region`; in a label map a value. Empty: the only segment, and everything that is not 0 in a label
            map, since lesions in it belong to the liver.

        Raises
        ------
        MaskError
            As of `region`.

        """


@dataclass(frozen=True)
class LabelMap:
    """A mask of whole numbers, one a voxel: regions have values, not names.

    Attributes
    ----------
    labels
        The box that holds labels, as of `read_labels`.
    digest
        Digest of the file's bytes; empty where none was asked for.

    """

    labels: Volume
    digest: str

    def region(self, roi: str, label: int | None) -> tuple[Volume, int | None]:
        """Return the labels and the value asked for: `roi` is a mere name here, which the file does not hold."""
        return self.labels, label

    def organ(self, roi: str) -> Volume:
        """Return where the labels are `roi`, or not 0 where that is empty."""
        array, labels = self.labels.array, self.labels
        if not roi:
            return Volume(array != 0, labels.geometry, labels.start)
        if not roi.isdecimal():
            raise MaskError(f"roi is {roi!r}: a label map has no names, expected the value of the organ")
        return Volume(array == np.uint64(roi), labels.geometry, labels.start)


@dataclass(frozen=True)
class SlicerOutlines:
    """A ``.seg.nrrd`` file: segments by name, or any layer as the label map that it is too.

    Attributes
    ----------
    named
        Its segments.
    layer
        The layer that `label_channel` chooses; `label` is a value in it.
    by_value
        Whether a layer other than the first was asked for.

    """

    named: SegmentOutlines
    layer: LabelMap
    by_value: bool

    @property
    def digest(self) -> str:
        """Digest of the file's bytes."""
        return self.layer.digest

    def region(self, roi: str, label: int | None) -> tuple[Volume, int | None]:
        """Return segments by `roi`; without it the layer, where a value or a layer was asked for."""
        if not roi and (label is not None or self.by_value):
            return self.layer.region(roi, label)
        return self.named.region(roi, None)

    def organ(self, roi: str) -> Volume:
        """Return segments by `roi`."""
        return self.named.organ(roi)


def read_outlines(path: str | Path, image: Geometry, channel: int = 0, *, hashed: bool = True) -> Outlines:
    """Read all that a mask file outlines. The file is checked to its end.

    Parameters
    ----------
    path
        A file as for `read_labels`; a DICOM SEG or RTSTRUCT, or a folder that holds exactly one.
    image
        Grid of the scan that the mask belongs to. Segments are put onto it where their voxels lie on it; contours are
        filled on it.
    channel, hashed
        As of `read_labels`.

    Raises
    ------
    ImageError, MaskError
        As of `read_labels`; a DICOM file is damaged, or no mask.
    GeometryError
        A DICOM mask was drawn in another frame of reference.

    """
    path = Path(path)
    if is_slicer(path):
        with about(path):
            segments, places = slicer_segments(path)
        layer = LabelMap(*read_labels(path, channel, hashed=hashed))
        if segments:
            file = SlicerFile(path, segments, places, image, {channel: layer.labels})
            return SlicerOutlines(SegmentOutlines(file, layer.digest), layer, channel != 0)
        return layer
    with about(path, HgpscaleError):
        if is_dicom_image(path):
            from hgpscale.cohort.dicom.masks import read_dicom_mask

            drawing, digest = read_dicom_mask(path, image)
            return SegmentOutlines(drawing, digest if hashed else "")
    return LabelMap(*read_labels(path, channel, hashed=hashed))


def list_segments(path: str | Path) -> list[Segment]:
    """Return what a mask file holds, in the order of the file.

    Parameters
    ----------
    path
        As for `read_outlines`.

    Returns
    -------
    list of Segment
        Number, name, and the number of voxels where that is cheap: in label maps and ``.seg.nrrd`` files. An ROI
        without contours has 0. The labels of a label map have no name; all its voxels are read.

    Raises
    ------
    ImageError, MaskError
        As of `read_outlines`.

    """
    path = Path(path)
    with about(path):
        if is_slicer(path):
            segments, places = slicer_segments(path)
            if segments:
                return list(count(SlicerFile(path, segments, places, open_voxel_file(path, several=True).geometry)))
        if is_dicom_image(path):
            from hgpscale.cohort.dicom.masks import read_dicom_mask

            return list(read_dicom_mask(path, None)[0].segments)
    values, counts = np.unique(read_labels(path, hashed=False)[0].array, return_counts=True)
    return [Segment(int(v), "", int(n)) for v, n in zip(values, counts, strict=True) if v]


def is_slicer(path: Path) -> bool:
    """Whether a mask is Slicer's, by its name."""
    return path.name.lower().endswith(ENDING) and path.is_file()
