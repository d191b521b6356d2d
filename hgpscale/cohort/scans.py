"""The lesions of one scan of an archive: masks split, raters matched, label maps written where a mask held several."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hgpscale.cohort.images import is_dicom_image, open_image, open_voxel_file
from hgpscale.cohort.layouts import Found, LeftOut, Outline
from hgpscale.cohort.match import MIN_DICE, dice, match_parts
from hgpscale.cohort.outlines import read_outlines
from hgpscale.cohort.split import Part, part_of, split_region
from hgpscale.errors import HgpscaleError, ImageError
from hgpscale.volume import Geometry, Volume, geometry_differences

_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Splitting:
    """How masks are split.

    Attributes
    ----------
    merge_mm
        As of `split_region`.
    min_volume
        Parts below this are left out, mm³.

    """

    merge_mm: float = 0.0
    min_volume: float = 0.0


@dataclass(frozen=True)
class Seen:
    """One lesion as one segmentation outlines it; `lesion` is its number or name within the patient."""

    lesion: str
    segmentation: str
    mask: Path
    label: int | None
    roi: str


@dataclass
class ScanReport:
    """What came of one scan: lesions, sentences for a person, and what could not be used."""

    seen: list[Seen]
    notes: list[str]
    problems: list[LeftOut]


def lesions_of(scan: Found, masks: Path, name: str, splitting: Splitting) -> ScanReport:
    """Return the lesions of a scan.

    Outlines that name their lesion keep it; where several raters have one, their overlap is checked. The others are
    split, matched across raters and numbered from 1 by position. A mask that holds one lesion is used as it is; of one
    that holds several a label map ``<name>[_<rater>].nrrd`` is written, whose values are the lesions' numbers.

    Parameters
    ----------
    scan
        What a layout found.
    masks
        Folder for label maps; made when one is written.
    name
        The patient's name in theirs.
    splitting
        How masks are split.

    """
    report = ScanReport([], [], [])
    try:
        image = open_image(scan.image).geometry
        if scan.liver is not None and not scan.liver.exists():
            report.problems.append(LeftOut(scan.patient, str(scan.liver), "the liver's mask is missing"))
    except ImageError as error:
        report.problems.append(LeftOut(scan.patient, str(scan.image), str(error)))
        return report
    named = [outline for outline in scan.outlines if outline.lesion is not None]
    _add_named(report, scan, named, image)
    _add_split(report, scan, [o for o in scan.outlines if o.lesion is None], image, masks, name, splitting)
    return report


def _add_named(report: ScanReport, scan: Found, outlines: list[Outline], image: Geometry) -> None:
    several = len({outline.segmentation for outline in outlines}) > 1
    taken: dict[tuple[str, str], Outline] = {}
    parts: dict[str, dict[str, Part]] = {}
    for outline in outlines:
        lesion = outline.lesion or ""
        before = taken.setdefault((lesion, outline.segmentation), outline)
        if before is not outline:
            reason = (
                f"{before.mask.name} is the same lesion and rater: name them by {{lesion}} and {{rater}}, or --split"
            )
            report.problems.append(LeftOut(scan.patient, str(outline.mask), reason))
            continue
        try:
            if several:
                region, _ = _region(outline, image)
                parts.setdefault(lesion, {})[outline.segmentation] = part_of(region)
            elif not is_dicom_image(outline.mask):  # a layout has read the header of a SEG object
                open_voxel_file(outline.mask, several=True)
        except HgpscaleError as error:
            report.problems.append(LeftOut(scan.patient, str(outline.mask), str(error)))
            continue
        report.seen.append(Seen(lesion, outline.segmentation, outline.mask, outline.label, outline.roi))
    for lesion, by_rater in parts.items():
        first, *others = sorted(by_rater)
        report.notes += [
            f"{scan.patient}: lesion {lesion} of {rater} is not where {first}'s is (Dice {value:.2f}): kept as named"
            for rater in others
            if (value := dice(by_rater[first], by_rater[rater])) < MIN_DICE
        ]


def _add_split(
    report: ScanReport,
    scan: Found,
    outlines: list[Outline],
    image: Geometry,
    masks: Path,
    name: str,
    splitting: Splitting,
) -> None:
    raters: dict[str, list[Part]] = {}
    whole: dict[str, Outline | None] = {}  # the outline of a rater that can be used as it is
    for outline in outlines:
        try:
            region, alone = _region(outline, image, empty=True)
        except HgpscaleError as error:
            report.problems.append(LeftOut(scan.patient, str(outline.mask), str(error)))
            continue
        parts = split_region(region, splitting.merge_mm)
        kept = [part for part in parts if part.mm3 >= splitting.min_volume]
        if len(kept) < len(parts):
            small = ", ".join(f"{part.mm3:.3g}" for part in parts if part.mm3 < splitting.min_volume)
            report.notes.append(f"{scan.patient}: {outline.mask.name}: left out below --min-volume: {small} mm³")
        if not kept:
            report.notes.append(f"{scan.patient}: {outline.mask.name}: no lesion in it")
            continue
        raters.setdefault(outline.segmentation, []).extend(kept)
        usable = alone and len(parts) == 1 and outline.segmentation not in whole
        whole[outline.segmentation] = outline if usable else None
    matched = match_parts(raters)
    report.notes += [f"{scan.patient}: {note}" for note in matched.notes]
    for rater in sorted(raters):
        numbered = {number: by[rater] for number, by in enumerate(matched.lesions, start=1) if rater in by}
        source = whole[rater]
        if source is not None:
            report.seen += [Seen(str(n), rater, source.mask, source.label, source.roi) for n in numbered]
            continue
        path = masks / (f"{name}_{rater}.nrrd" if len({o.segmentation for o in outlines}) > 1 else f"{name}.nrrd")
        write_label_map(path, numbered)
        report.seen += [Seen(str(n), rater, path, n, "") for n in numbered]
    report.seen.sort(key=lambda seen: (int(seen.lesion) if seen.lesion.isdecimal() else 0, seen.segmentation))


def _region(outline: Outline, image: Geometry, *, empty: bool = False) -> tuple[Volume, bool]:
    """Return an outline's boolean box, and whether the manifest can name just these voxels."""
    labels, value = read_outlines(outline.mask, image, hashed=False).region(outline.roi, outline.label)
    differences = geometry_differences(image, labels.geometry, _TOLERANCE)
    if differences:
        raise ImageError(f"{outline.mask}: not on the image's grid: {'; '.join(differences)}")
    array = labels.array != 0 if value is None else labels.array == value
    if not array.any() and not empty:
        raise ImageError(f"{outline.mask}: the region is empty")
    alone = value is not None or np.unique(labels.array[array]).size == 1
    return Volume(array, labels.geometry, labels.start), alone


def write_label_map(path: Path, parts: Mapping[int, Part]) -> None:
    """Write parts as a label map of the whole grid, NRRD compressed by gzip; the keys are its values, from 1.

    NRRD, as it holds the grid in full precision, which NIfTI rounds to float32. The file is there whole or not at all.
    """
    import SimpleITK as sitk

    geometry = next(iter(parts.values())).volume.geometry
    whole = np.zeros(geometry.size, np.uint8 if max(parts) < 256 else np.uint16)
    for value, part in parts.items():
        box = tuple(slice(a, b) for a, b in zip(*part.volume.box, strict=True))
        whole[box][part.volume.array] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial.nrrd")
    try:
        sitk.WriteImage(Volume(whole, geometry).to_sitk(), str(partial), useCompression=True)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def raters_table(seen: Iterable[tuple[str, str]]) -> list[tuple[str, int, int, int]]:
    """Return for each rater how many lesions it has, how many others have too, and how many it alone has.

    `seen` are pairs of lesion and segmentation.
    """
    by_lesion: dict[str, set[str]] = {}
    for lesion, rater in seen:
        by_lesion.setdefault(lesion, set()).add(rater)
    table = []
    for rater in sorted(set().union(*by_lesion.values())):
        has = [others for others in by_lesion.values() if rater in others]
        alone = sum(1 for others in has if len(others) == 1)
        table.append((rater, len(has), len(has) - alone, alone))
    return table
