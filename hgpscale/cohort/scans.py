"""The lesions of one scan of an archive: masks split, raters matched, label maps written where a mask held several."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hgpscale.cohort.images import is_dicom_image, open_image, open_voxel_file
from hgpscale.cohort.layouts import Found, LeftOut, Outline
from hgpscale.cohort.match import check_named, match_parts
from hgpscale.cohort.outlines import read_outlines
from hgpscale.cohort.place import onto, turned
from hgpscale.cohort.split import Part, part_of, split_region
from hgpscale.cohort.stems import MaskFiles
from hgpscale.errors import HgpscaleError, ImageError
from hgpscale.settings import Settings
from hgpscale.volume import Geometry, Volume, geometry_differences

_TOLERANCE = 1e-3
"""Of `geometry_differences`: how far a mask's grid may be from its image's."""
_CHECKED = Settings().geometryTolerance
"""How far it may be for an extraction: a mask in between is laid onto the image's grid."""
_MARK = ("made_by", "hgpscale cohort")
"""A field in the header of label maps: they may be removed again."""
_HEADER = 4096


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
    """One lesion as one segmentation outlines it.

    `lesion` is its number or name within the patient; `matched`, whether it overlaps another segmentation's outline
    of that lesion.
    """

    lesion: str
    segmentation: str
    mask: Path
    label: int | None
    roi: str
    matched: bool = False


@dataclass
class ScanReport:
    """What came of one scan: lesions, sentences for a person, what could not be used, and the liver's mask."""

    seen: list[Seen]
    notes: list[str]
    problems: list[LeftOut]
    liver: Path | None = None


def lesions_of(scan: Found, masks: MaskFiles, name: str, splitting: Splitting) -> ScanReport:
    """Return the lesions of a scan.

    Outlines that name their lesion keep it; where several raters have one, their overlap is checked. The others are
    split, matched across raters and numbered from 1 by position. A mask that holds one lesion is used as it is; of one
    that holds several a label map ``<name>[_<rater>].nrrd`` is written, whose values are the lesions' numbers.

    Parameters
    ----------
    scan
        What a layout found.
    masks
        Names label maps; their folder is made when one is written.
    name
        What their names begin with.
    splitting
        How masks are split.

    """
    report = ScanReport([], [], [])
    try:
        image = open_image(scan.image).geometry
    except (HgpscaleError, OSError) as error:
        report.problems.append(_left_out(scan, scan.image, error))
        return report
    if scan.liver is not None:
        try:
            report.liver = _liver(scan, image, masks, f"{name}.liver")
        except (HgpscaleError, OSError) as error:
            report.problems.append(_left_out(scan, scan.liver, error))
    named = [outline for outline in scan.outlines if outline.lesion is not None]
    _add_named(report, scan, named, image)
    _add_split(report, scan, [o for o in scan.outlines if o.lesion is None], image, masks, name, splitting)
    return report


def _left_out(scan: Found, path: Path, error: HgpscaleError | OSError) -> LeftOut:
    # A missing file is both kinds, and says so itself.
    reason = str(error) if isinstance(error, HgpscaleError) else f"cannot be read: {error.strerror or error}"
    return LeftOut(scan.patient, str(path), reason)


def _liver(scan: Found, image: Geometry, masks: MaskFiles, name: str) -> Path:
    """Return the liver's mask: the file itself, or a copy that is laid onto the image's grid."""
    path = scan.liver
    assert path is not None, "the caller has looked"
    if not path.exists():
        raise ImageError(f"{path}: the liver's mask is missing: the lesions are listed without liver")
    if is_dicom_image(path):  # a layout has read the header of a SEG object
        return path
    try:
        grid = open_voxel_file(path, several=True).geometry
        _require_grid(path, image, turned(grid, image))
        if not geometry_differences(image, grid, _CHECKED):
            return path
        organ = _laid(path, read_outlines(path, image, hashed=False).organ(scan.liver_roi), image)
        if not organ.array.any():
            raise ImageError(f"{path}: the liver's mask is empty")
    except ImageError as error:
        raise ImageError(f"{error}: the lesions are listed without liver") from error
    copy = masks.new(name)
    write_label_map(copy, {1: part_of(organ)})
    return copy


def _laid(path: Path, part: Volume, image: Geometry) -> Volume:
    """Return voxels on the image's grid, of a mask whose own grid is that one within tolerance, perhaps turned."""
    laid = onto(part, image)
    if laid.geometry is not image:  # small differences of spacing or direction add up over many voxels
        raise ImageError(f"{path}: not on the image's grid: its voxels do not lie on the image's everywhere")
    return laid


def _require_grid(path: Path, image: Geometry, mask: Geometry) -> None:
    differences = geometry_differences(image, mask, _TOLERANCE)
    if differences:
        raise ImageError(f"{path}: not on the image's grid: {'; '.join(differences)}")


def _add_named(report: ScanReport, scan: Found, outlines: list[Outline], image: Geometry) -> None:
    several = len({outline.segmentation for outline in outlines}) > 1
    taken: dict[tuple[str, str], Outline] = {}
    parts: dict[tuple[str, str], Part] = {}
    seen: list[Seen] = []
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
                parts[lesion, outline.segmentation] = part_of(region)
            elif not is_dicom_image(outline.mask):  # a layout has read the header of a SEG object
                open_voxel_file(outline.mask, several=True)
        except (HgpscaleError, OSError) as error:
            report.problems.append(_left_out(scan, outline.mask, error))
            continue
        seen.append(Seen(lesion, outline.segmentation, outline.mask, outline.label, outline.roi))
    matched, notes = check_named(parts)
    report.notes += notes
    report.seen += [replace(one, matched=(one.lesion, one.segmentation) in matched) for one in seen]


def _add_split(
    report: ScanReport,
    scan: Found,
    outlines: list[Outline],
    image: Geometry,
    masks: MaskFiles,
    name: str,
    splitting: Splitting,
) -> None:
    raters: dict[str, list[Part]] = {}
    whole: dict[str, Outline | None] = {}  # the outline of a rater that can be used as it is
    for outline in outlines:
        try:
            region, alone = _region(outline, image, split=True)
        except (HgpscaleError, OSError) as error:
            report.problems.append(_left_out(scan, outline.mask, error))
            continue
        parts = split_region(region, splitting.merge_mm)
        kept = [part for part in parts if part.mm3 >= splitting.min_volume]
        if len(kept) < len(parts):
            small = ", ".join(f"{part.mm3:.3g}" for part in parts if part.mm3 < splitting.min_volume)
            report.notes.append(f"{outline.mask.name}: left out below --min-volume: {small} mm³")
        if not kept:
            report.notes.append(f"{outline.mask.name}: no lesion in it")
            continue
        raters.setdefault(outline.segmentation, []).extend(kept)
        usable = alone and len(parts) == 1 and outline.segmentation not in whole
        whole[outline.segmentation] = outline if usable else None
    matched = match_parts(raters)
    report.notes += matched.notes
    shared = {str(number) for number, by in enumerate(matched.lesions, start=1) if len(by) > 1}
    for rater in sorted(raters):
        numbered = {number: by[rater] for number, by in enumerate(matched.lesions, start=1) if rater in by}
        source = whole[rater]
        if source is not None:
            report.seen += [
                Seen(str(n), rater, source.mask, source.label, source.roi, str(n) in shared) for n in numbered
            ]
            continue
        path = masks.new(f"{name}_{rater}" if len({o.segmentation for o in outlines}) > 1 else name)
        write_label_map(path, numbered)
        report.seen += [Seen(str(n), rater, path, n, "", str(n) in shared) for n in numbered]
    report.seen.sort(key=lambda seen: (int(seen.lesion) if seen.lesion.isdecimal() else 0, seen.segmentation))


def _region(outline: Outline, image: Geometry, *, split: bool = False) -> tuple[Volume, bool]:
    """Return an outline's boolean box, and whether the manifest can name just these voxels.

    One that is to be split may be empty, and is laid onto the image's grid where its own is that one turned, or differs
    from it by so little that only an extraction would refuse it.
    """
    labels, value = read_outlines(outline.mask, image, hashed=False).region(outline.roi, outline.label)
    _require_grid(outline.mask, image, turned(labels.geometry, image) if split else labels.geometry)
    moved = split and bool(geometry_differences(image, labels.geometry, _CHECKED))
    if moved:
        labels = _laid(outline.mask, labels, image)
    array = labels.array != 0 if value is None else labels.array == value
    if not array.any() and not split:
        raise ImageError(f"{outline.mask}: the region is empty")
    alone = value is not None or np.unique(labels.array[array]).size == 1
    return Volume(array, labels.geometry, labels.start), alone and not moved


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
        image = Volume(whole, geometry).to_sitk()
        image.SetMetaData(*_MARK)
        sitk.WriteImage(image, str(partial), useCompression=True)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def remove_label_maps(folder: Path, keep: Iterable[Path]) -> None:
    """Remove label maps that `write_label_map` once wrote to a folder, except those to keep; no other file."""
    kept = {path.resolve() for path in keep}
    for path in sorted(folder.glob("*.nrrd")):
        if path.resolve() in kept or path.is_symlink() or not path.is_file():
            continue
        with path.open("rb") as file:
            ours = f"{_MARK[0]}:={_MARK[1]}\n".encode() in file.read(_HEADER)
        if ours:
            path.unlink()


def raters_table(seen: Iterable[tuple[str, bool]]) -> list[tuple[str, int, int, int]]:
    """Return for each rater how many lesions it has, how many overlap another rater's, and how many do not.

    `seen` are pairs of segmentation and whether it is matched.
    """
    by_rater: dict[str, list[bool]] = {}
    for rater, matched in seen:
        by_rater.setdefault(rater, []).append(matched)
    return [(rater, len(all_), sum(all_), len(all_) - sum(all_)) for rater, all_ in sorted(by_rater.items())]
