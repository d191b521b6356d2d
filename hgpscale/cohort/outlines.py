"""What a mask file outlines: one label map, or segments that have names and may overlap."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from hgpscale.cohort.masks import read_labels
from hgpscale.errors import MaskError
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


def read_outlines(path: str | Path, image: Geometry, channel: int = 0, *, hashed: bool = True) -> Outlines:
    """Read all that a mask file outlines. The file is checked to its end.

    Parameters
    ----------
    path
        A file as for `read_labels`.
    image
        Grid of the scan that the mask belongs to.
    channel, hashed
        As of `read_labels`.

    Raises
    ------
    ImageError, MaskError
        As of `read_labels`.

    """
    return LabelMap(*read_labels(path, channel, hashed=hashed))
