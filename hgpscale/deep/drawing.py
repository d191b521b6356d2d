"""The lesions of one scan drawn on its grid: an instance each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hgpscale.cohort import Outlines, read_outlines
from hgpscale.cohort.images import about
from hgpscale.deep.cases import Case
from hgpscale.errors import GeometryError, HgpscaleError, MaskError
from hgpscale.prepare.roi import choose_label, select
from hgpscale.volume import Geometry, Index, Volume, geometry_differences

_TOLERANCE = 1e-3
"""As of `hgpscale cohort`: within it voxels are taken by index."""


class Drawing(NamedTuple):
    """The lesions of a scan, and its liver.

    Attributes
    ----------
    instances
        Whole grid ``(z, y, x)``: 0, and for each lesion its number from 1 by the order of the rows.
    liver
        Boolean box; None where it was not asked for.
    notes
        What a person should know: lesions that share voxels.

    """

    instances: NDArray[Any]
    liver: Volume | None
    notes: tuple[str, ...]


def draw(case: Case, image: Geometry, *, with_liver: bool) -> Drawing:
    """Read the masks of a case and draw them.

    Parameters
    ----------
    case
        Whose lesions.
    image
        Grid of the scan.
    with_liver
        Whether the liver is drawn too.

    Raises
    ------
    HgpscaleError
        A mask cannot be read, holds no such lesion or lies on another grid; lesions of the scan name several livers;
        or nothing is left of a lesion beside others. The message names file and lesion.

    """
    regions: list[tuple[str, Volume]] = []
    last: tuple[object, Outlines] | None = None
    for row in case.rows:
        # Lesions of one label map mostly stand one after the other: it is read once for them.
        if last is None or last[0] != row.mask:
            last = row.mask, read_outlines(row.mask, image, hashed=False)
        with about(row.mask, HgpscaleError):
            labels, value = last[1].region(row.roi, row.label)
            _require_grid(f"lesion {row.lesion}", image, labels.geometry)
            regions.append((row.lesion, select(labels, choose_label(labels, value))))
    instances, notes = overlay(regions, image.size)
    return Drawing(instances, _liver(case, image) if with_liver else None, notes)


def overlay(regions: Sequence[tuple[str, Volume]], size: Index) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Draw regions, each with its number from 1, the smaller over the larger, and say which share voxels.

    Parameters
    ----------
    regions
        Name and boolean box of each.
    size
        Of the grid that all lie on.

    Raises
    ------
    MaskError
        Smaller ones cover a region whole.

    """
    whole = np.zeros(size, np.uint8 if len(regions) < 256 else np.uint16)
    boxes = [whole[tuple(slice(a, b) for a, b in zip(*region.box, strict=True))] for _, region in regions]
    sizes = [int(np.count_nonzero(region.array)) for _, region in regions]
    notes = []
    for at in sorted(range(len(regions)), key=lambda at: -sizes[at]):
        (name, region), box = regions[at], boxes[at]
        values, counts = np.unique(box[region.array], return_counts=True)
        for value, count in zip(values.tolist(), counts.tolist(), strict=True):
            if value:
                notes.append(f"lesions {regions[value - 1][0]} and {name} share {count} voxels: {name} has them")
        box[region.array] = at + 1
    for number, ((name, _), box) in enumerate(zip(regions, boxes, strict=True), start=1):
        if not (box == number).any():
            raise MaskError(f"lesion {name}: other lesions cover it whole; is it there twice?")
    return whole, tuple(notes)


def semantic(drawing: Drawing) -> NDArray[np.uint8]:
    """Return a label map of background, liver where there is one, and tumour, numbered from 0 in this order."""
    tumour = 1 if drawing.liver is None else 2
    labels = np.zeros(drawing.instances.shape, np.uint8)
    if drawing.liver is not None:
        labels[tuple(slice(a, b) for a, b in zip(*drawing.liver.box, strict=True))] = drawing.liver.array
    labels[drawing.instances > 0] = tumour
    return labels


def _liver(case: Case, image: Geometry) -> Volume:
    livers = {(os.path.realpath(row.liver or ""), row.liver_roi) for row in case.rows}
    path, roi = case.rows[0].liver, case.rows[0].liver_roi
    assert path is not None, "a liver is drawn where every lesion has one"
    if len(livers) > 1:
        raise MaskError(f"{case.image}: its lesions have {len(livers)} different livers, expected one")
    outlines = read_outlines(path, image, hashed=False)
    with about(path, HgpscaleError):
        organ = outlines.organ(roi)
        _require_grid("the liver", image, organ.geometry)
    return organ


def _require_grid(what: str, image: Geometry, mask: Geometry) -> None:
    differences = geometry_differences(image, mask, _TOLERANCE)
    if differences:
        raise GeometryError(f"{what}: not on the image's grid: {'; '.join(differences)}; resample the mask")
