"""Reads a cohort scan by scan and shows every lesion: a picture each and a page that lists all."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hgpscale.cohort import open_image, read_outlines, read_parts
from hgpscale.cohort.raters import rater_agreement
from hgpscale.errors import HgpscaleError
from hgpscale.report.concerns import Outlined, concerns
from hgpscale.report.montage import Outline, montage, within
from hgpscale.settings import Settings
from hgpscale.volume import Geometry, Volume, geometry_differences

if TYPE_CHECKING:
    from hgpscale.cohort import Cohort, LesionRow, Outlines

CONTEXT_MM = 25.0
"""Shown around a lesion."""
_TOLERANCE = 1e-6
"""ITK's; a fraction of the spacing, see `geometry_differences`."""


@dataclass(frozen=True)
class LesionLook:
    """What the page says of one lesion.

    Attributes
    ----------
    lesion, patient, centre
        From the manifest; centre is empty where it has none.
    volumes
        mm³ by rater, of those that could be read.
    dice, mean_dice, spread
        Lowest and mean Dice of all pairs of raters, largest volume over the smallest; None for one rater.
    hu
        5th, 50th and 95th percentile in the first rater's outline; None where nothing could be read.
    spacing, size
        mm ``(z, y, x)``: of voxels, and of the first rater's outline.
    slices
        That the first rater's outline is in.
    warnings, failures
        A sentence each; failures name the rater and why it cannot be shown.
    picture
        File beside the page; empty where there is none.

    """

    lesion: str
    patient: str
    centre: str
    volumes: dict[str, float] = field(default_factory=dict)
    dice: float | None = None
    mean_dice: float | None = None
    spread: float | None = None
    hu: tuple[float, float, float] | None = None
    spacing: tuple[float, float, float] | None = None
    size: tuple[float, float, float] | None = None
    slices: int | None = None
    warnings: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    picture: str = ""


def write_figures(
    cohort: Cohort,
    folder: str | Path,
    *,
    settings: Settings | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[Path, list[LesionLook]]:
    """Write a picture of every lesion and ``index.html``, which lists all; one scan is in memory at a time.

    Parameters
    ----------
    cohort
        What `read_manifest` returned.
    folder
        Made where absent. Of what is in it only files of the same names are replaced.
    settings
        Their regions are drawn too, and `label_channel` counts of masks with several values a voxel.
    on_progress
        Called with the number of scans done and of all.

    Returns
    -------
    Path
        The page.
    list of LesionLook
        In the manifest's order; what cannot be read has failures, the others go on.

    Raises
    ------
    FileExistsError
        The folder holds an ``index.html`` that is not from here.
    OSError
        The folder cannot be written to.

    """
    from hgpscale.report.page import MARK, page

    chosen = settings if settings is not None else Settings()
    folder = Path(folder)
    (folder / "lesions").mkdir(parents=True, exist_ok=True)
    index = folder / "index.html"
    if index.exists() and MARK not in index.read_text("utf-8", errors="replace"):
        raise FileExistsError(f"{index}: is a page of something else; choose another folder for --figures")
    scans: dict[Path, list[LesionRow]] = {}
    for row in cohort.rows:
        scans.setdefault(row.image, []).append(row)
    names = {lesion: picture_name(number, lesion) for number, lesion in enumerate(cohort.lesions, start=1)}
    looks: dict[str, LesionLook] = {}
    for done, rows in enumerate(scans.values(), start=1):
        for look in _of_scan(rows, cohort, folder, names, chosen):
            # Raters may have used copies of a scan: those seen later are told, not compared.
            before = looks.get(look.lesion)
            looks[look.lesion] = look if before is None else _joined(before, look)
        if on_progress is not None:
            on_progress(done, len(scans))
    found = [looks[lesion] for lesion in cohort.lesions]
    index.write_text(page(cohort.source, found), encoding="utf-8")
    return index, found


def picture_name(number: int, lesion: str) -> str:
    """Return a file name for any id; the number makes it unique, also where case does not count."""
    return f"{number:05d}-{re.sub(r'[^A-Za-z0-9._-]+', '_', lesion)[:60]}.png"


def outlines_of_regions(
    lesion: Volume, image: Volume, settings: Settings, others: Iterable[Volume] = (), liver: Volume | None = None
) -> list[Outline]:
    """Return the regions of one lesion to be drawn, on the scan's own voxels, without the lesion itself.

    Parameters
    ----------
    lesion
        Its box, bool, on the scan's grid.
    image
        The part of the scan that is shown.
    settings
        Say which regions.
    others, liver
        What bounds them: boxes, bool, on the scan's grid.

    """
    if not settings.bands:
        return []
    # Here, not above: it loads the compiler of the kernels, which --help needs not.
    from hgpscale.prepare.regions import region_masks

    blocked = np.zeros(image.array.shape, bool)
    for other in others:
        blocked |= within(image, other)
    if liver is not None:
        blocked |= ~within(image, liver)
    masks = region_masks(
        within(image, lesion), image.geometry.spacing, settings.bands, blocked, image.array, settings.airThreshold
    )
    return [Outline(name, "region", Volume(mask, image.geometry, image.start)) for name, mask in masks.items()]


def _joined(first: LesionLook, second: LesionLook) -> LesionLook:
    if not first.volumes:
        return replace(second, failures=first.failures + second.failures)
    told = tuple(f"{rater} outlines another scan: not compared" for rater in second.volumes)
    return replace(first, failures=first.failures + second.failures, warnings=first.warnings + told)


@dataclass(frozen=True)
class ReadLesion:
    """One lesion by one rater on the scan's grid; `grid` says how the mask's own differs, empty where it does not."""

    row: LesionRow
    mask: Volume
    grid: str


def _of_scan(
    rows: Sequence[LesionRow], cohort: Cohort, folder: Path, names: Mapping[str, str], settings: Settings
) -> Iterator[LesionLook]:
    failures: dict[str, list[str]] = {row.lesion: [] for row in rows}
    reads: list[ReadLesion] = []
    livers: dict[tuple[Path, str], Volume | str] = {}
    try:
        image = open_image(rows[0].image)
        files: dict[Path, Outlines | HgpscaleError] = {}
        for row in rows:
            try:
                reads.append(read_lesion(row, image.geometry, files, settings))
            except HgpscaleError as error:
                failures[row.lesion].append(f"{row.segmentation}: {error}")
        boxes = [around(read.mask) for read in reads]
        lower = min((box[0][0] for box in boxes), default=0)
        upper = max((box[1][0] for box in boxes), default=0)
        # Whole planes: the air around the patient tells whether these are HU.
        _, ny, nx = image.geometry.size
        (planes,), _ = read_parts(image, [((lower, 0, 0), (upper, ny, nx))], entire=False)
    except HgpscaleError as error:
        reads = []
        failures = {lesion: [str(error)] for lesion in failures}
    for lesion, failed in failures.items():
        mine = [read for read in reads if read.row.lesion == lesion]
        first = next(row for row in rows if row.lesion == lesion)
        centre = str(cohort.columns["centre"].get(lesion, "")) if "centre" in cohort.columns else ""
        look = LesionLook(lesion, first.patient, centre, failures=tuple(failed))
        if mine:
            look = _look(look, mine, reads, planes, livers, settings, folder / "lesions" / names[lesion])
            look = replace(look, picture=f"lesions/{names[lesion]}")
        yield look


def read_lesion(
    row: LesionRow, image: Geometry, files: dict[Path, Outlines | HgpscaleError], settings: Settings
) -> ReadLesion:
    """Read the outline of one row; `files` keeps masks that several rows share."""
    # Here, not above: it loads the compiler of the kernels, which --help needs not.
    from hgpscale.prepare.resample import nearest
    from hgpscale.prepare.roi import choose_label, select

    if row.mask not in files:
        try:
            files[row.mask] = read_outlines(row.mask, image, settings.label_channel, hashed=False)
        except HgpscaleError as error:
            files[row.mask] = error
    outlines = files[row.mask]
    if isinstance(outlines, HgpscaleError):
        raise outlines
    labels, label = outlines.region(row.roi, row.label if row.label is not None else settings.label)
    mask = select(labels, choose_label(labels, label))
    differences = geometry_differences(image, mask.geometry, _TOLERANCE)
    if differences:
        mask = select(Volume(nearest(mask, image), image), 1)
    return ReadLesion(row, replace(mask, geometry=image), "; ".join(differences))


def around(mask: Volume) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Return the box of a mask with `CONTEXT_MM` on each side, as far as the scan goes."""
    margins = [int(np.ceil(CONTEXT_MM / step)) for step in mask.geometry.spacing]
    (z0, y0, x0), (z1, y1, x1) = mask.box
    (mz, my, mx), (nz, ny, nx) = margins, mask.geometry.size
    lower = (max(0, z0 - mz), max(0, y0 - my), max(0, x0 - mx))
    return lower, (min(nz, z1 + mz), min(ny, y1 + my), min(nx, x1 + mx))


def _liver(row: LesionRow, image: Geometry, livers: dict[tuple[Path, str], Volume | str]) -> Volume | str:
    """Return the liver's mask, or why there is none; empty where the manifest names none."""
    if row.liver is None:
        return ""
    from hgpscale.prepare.resample import nearest

    key = row.liver, row.liver_roi
    if key not in livers:
        try:
            liver = read_outlines(row.liver, image, hashed=False).organ(row.liver_roi)
            differences = geometry_differences(image, liver.geometry, _TOLERANCE)
            # Extraction takes it by nearest voxel too, so the bands that are drawn are those that are measured.
            livers[key] = Volume(nearest(liver, image), image) if differences else liver
        except HgpscaleError as error:
            livers[key] = f"liver mask not used: {error}"
    return livers[key]


def _look(
    look: LesionLook,
    mine: Sequence[ReadLesion],
    reads: Sequence[ReadLesion],
    planes: Volume,
    livers: dict[tuple[Path, str], Volume | str],
    settings: Settings,
    picture: Path,
) -> LesionLook:
    masks = {read.row.segmentation: read.mask for read in mine}
    agreement = rater_agreement(masks)
    by_text: dict[str, list[str]] = {}
    for read in mine:
        rater = read.row.segmentation
        liver = _liver(read.row, planes.geometry, livers)
        outlined = Outlined(
            read.mask,
            float(np.median(planes.crop(*read.mask.box).array[read.mask.array])),
            float(planes.array.min()),
            agreement,
            liver if isinstance(liver, Volume) else None,
            {o.row.lesion: o.mask for o in reads if o.row.segmentation == rater and o.row.lesion != look.lesion},
            read.grid,
        )
        found = concerns(outlined) + ([liver] if isinstance(liver, str) and liver else [])
        by_text |= {text: [*by_text.get(text, []), rater] for text in found}
    # What all raters share is said without their names.
    warnings = [text if len(who) == len(mine) else f"{', '.join(who)}: {text}" for text, who in by_text.items()]
    mask = mine[0].mask
    values = planes.crop(*mask.box).array[mask.array]
    p5, p50, p95 = (float(value) for value in np.percentile(values, (5, 50, 95)))
    boxes = [around(read.mask) for read in mine]
    lower, upper = np.min([a for a, _ in boxes], axis=0), np.max([b for _, b in boxes], axis=0)
    shown = planes.crop((lower[0], lower[1], lower[2]), (upper[0], upper[1], upper[2]))
    outlines = [Outline(rater, "rater", box) for rater, box in masks.items()]
    spacing = planes.geometry.spacing
    volume = agreement.volumes[mine[0].row.segmentation] / 1000
    steps = " x ".join(f"{step:.3g}" for step in spacing)
    title = f"{look.lesion}: {volume:.3g} mL, voxels {steps} mm (z, y, x)"
    first = mine[0].row
    others = [o.mask for o in reads if o.row.segmentation == first.segmentation and o.row.lesion != look.lesion]
    organ = _liver(first, planes.geometry, livers)
    regions = outlines_of_regions(mask, shown, settings, others, organ if isinstance(organ, Volume) else None)
    montage(shown, [*outlines, *regions], title).savefig(picture)
    sz, sy, sx = (n * step for n, step in zip(mask.array.shape, spacing, strict=True))
    return replace(
        look,
        volumes=agreement.volumes,
        dice=agreement.worst_dice,
        mean_dice=agreement.mean_dice,
        spread=agreement.spread,
        hu=(p5, p50, p95),
        spacing=spacing,
        size=(sz, sy, sx),
        slices=int(mask.array.any(axis=(1, 2)).sum()),
        warnings=tuple(warnings),
    )
