"""Who is drawn where in one scan: each mask file is read once, and every lesion learns of its surroundings."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hgpscale.cohort import Outlines, read_outlines
from hgpscale.errors import HgpscaleError
from hgpscale.prepare.cut import Surroundings
from hgpscale.prepare.roi import choose_label, select
from hgpscale.volume import Geometry, Volume

if TYPE_CHECKING:
    from hgpscale.settings import Settings


class Outline(NamedTuple):
    """Where one lesion is drawn by one segmentation.

    Attributes
    ----------
    lesion, segmentation
        Which row of the manifest.
    mask, label, roi
        File, value and segments, as of `LesionTask`.

    """

    lesion: str
    segmentation: str
    mask: str
    label: int | None = None
    roi: str = ""


def surrounding(outline: Outline, outlines: Iterable[Outline]) -> list[Outline]:
    """Return the outlines that a lesion's regions must not enter.

    Each other lesion counts as the same segmentation draws it, or, where that does not, as all others do together.
    """
    others: dict[str, list[Outline]] = {}
    for other in outlines:
        if other.lesion != outline.lesion:
            others.setdefault(other.lesion, []).append(other)
    chosen = []
    for some in others.values():
        chosen += [other for other in some if other.segmentation == outline.segmentation] or some
    return chosen


def surroundings_digest(liver: tuple[str, str], others: Iterable[tuple[str, int | None, str]]) -> str:
    """Return one digest of all that bounds a lesion's regions.

    Parameters
    ----------
    liver
        Digest of the liver's file, empty where there is none, and the part of it that is meant.
    others
        Digest of the file, label and roi of each other lesion, in any order.

    """
    parts = [repr(liver), *sorted(map(repr, others))]
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()


class Outlined:
    """The mask files of one scan; what was read last is kept, and the boxes of lesions that others were asked about.

    Parameters
    ----------
    image
        Grid of the scan.
    settings
        Say which channel and label of a mask count where the manifest does not.

    """

    def __init__(self, image: Geometry, settings: Settings) -> None:
        self._image, self._settings = image, settings
        self._last: tuple[str, Outlines] | None = None
        self._boxes: dict[Outline, Volume] = {}
        self._livers: dict[tuple[str, str], Volume] = {}
        self._digests: dict[str, str] = {}

    def digest(self, mask: str) -> str:
        """Return the digest of a mask file."""
        if mask not in self._digests:
            self._digests[mask] = self._read(mask).digest
        return self._digests[mask]

    def region(self, outline: Outline) -> tuple[Volume, int | None]:
        """Return labels that hold a lesion, and its value there, as of `Outlines.region`."""
        label = outline.label if outline.label is not None else self._settings.label
        return self._read(outline.mask).region(outline.roi, label)

    def surroundings(
        self, outline: Outline, outlines: Iterable[Outline], liver: str, liver_roi: str
    ) -> tuple[Surroundings, str]:
        """Return what bounds a lesion's regions, and its digest.

        Raises
        ------
        HgpscaleError
            The mask of another lesion, or of the liver, cannot be used; the message names it.

        """
        others = surrounding(outline, outlines)
        boxes = tuple(self._box(other) for other in others)
        organ = self._liver(liver, liver_roi) if liver else None
        drawn = [(self.digest(other.mask), other.label, other.roi) for other in others]
        digest = surroundings_digest((self.digest(liver) if liver else "", liver_roi), drawn)
        return Surroundings(boxes, organ), digest

    def _box(self, outline: Outline) -> Volume:
        if outline not in self._boxes:
            try:
                mask, label = self.region(outline)
                self._boxes[outline] = select(mask, choose_label(mask, label))
            except HgpscaleError as error:
                raise type(error)(
                    f"{outline.mask}: lesion {outline.lesion}, which the regions around this one must not enter, "
                    f"cannot be read: {error}"
                ) from error
        return self._boxes[outline]

    def _liver(self, path: str, roi: str) -> Volume:
        if (path, roi) not in self._livers:
            try:
                organ = self._read(path).organ(roi)
            except HgpscaleError as error:
                raise type(error)(f"{path}: the liver's mask, which bounds regions, cannot be used: {error}") from error
            self._livers[path, roi] = Volume(np.ascontiguousarray(organ.array), organ.geometry, organ.start)
        return self._livers[path, roi]

    def _read(self, mask: str) -> Outlines:
        # Lesions of one label map mostly stand one after the other: it is read once for them.
        if self._last is None or self._last[0] != mask:
            self._last = None
            self._last = mask, read_outlines(mask, self._image, self._settings.label_channel)
        return self._last[1]
