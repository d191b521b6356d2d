"""Looks at every file of a cohort and lists every problem in one pass, without reading any voxel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hgpscale.cohort.headers import inspect
from hgpscale.cohort.images import is_dicom_image, open_image
from hgpscale.cohort.itk import read_geometry
from hgpscale.cohort.manifest import Cohort, LesionRow, read_manifest
from hgpscale.cohort.masks import channel_problem
from hgpscale.cohort.outlines import is_slicer
from hgpscale.cohort.segments import choose
from hgpscale.cohort.slicer import slicer_segments
from hgpscale.errors import GeometryError, HgpscaleError, ImageError, MaskError
from hgpscale.settings import Settings
from hgpscale.volume import Geometry, geometry_differences

if TYPE_CHECKING:
    from hgpscale.cohort.dicom.masks import DicomMask

_THREADS = 8
"""Reading headers waits for the disk most of the time."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with one row of a manifest.

    Attributes
    ----------
    line
        Line in the manifest.
    lesion, segmentation
        Which row it is.
    file
        The file that it is about, as the manifest writes it.
    stage
        Where an extraction would fail: ``read``, ``mask`` or ``geometry``.
    problem
        One sentence: what was expected, what was found.

    """

    line: int
    lesion: str
    segmentation: str
    file: str
    stage: str
    problem: str


def check_cohort(
    cohort: Cohort | str | Path,
    settings: Settings | Mapping[str, Any] | str | Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Problem]:
    """Read the header of every image and mask once and report all problems of all rows.

    Parameters
    ----------
    cohort
        A manifest's path, or what `read_manifest` returned.
    settings
        Settings, or what `Settings.of` makes some of. They decide how far image and mask may lie apart
        (`geometryTolerance`, `correctMask`, resampling), and which channel a mask must have (`label_channel`).
    on_progress
        Called with the number of files done and the number of all files, in the caller's thread.

    Returns
    -------
    list of Problem
        In the order of the manifest's rows; empty where all is well. Broken voxel data that no header shows
        (a damaged gzip stream, an empty mask) are found by extraction only.

    Raises
    ------
    ManifestError
        The manifest at that path cannot be used, see `read_manifest`.
    SettingsError
        The settings cannot be used.

    """
    wanted = Settings.of(settings)
    rows = (read_manifest(cohort) if isinstance(cohort, (str, Path)) else cohort).rows
    files = list(dict.fromkeys(file for row in rows for file in ((row.image, False), (row.mask, True))))
    looks: dict[tuple[Path, bool], _Look] = {}
    with ThreadPoolExecutor(_THREADS) as pool:
        futures = {pool.submit(_look, *file): file for file in files}
        for done, future in enumerate(as_completed(futures), start=1):
            looks[futures[future]] = future.result()
            if on_progress is not None:
                on_progress(done, len(files))
    # Here, not above: it loads the compiler of the kernels, which no manifest needs.
    from hgpscale.prepare.resample import is_resampled

    same_grid = not (wanted.correctMask or is_resampled(wanted))
    # Rows of one mask follow each other here, so that it is read once and one is held at a time.
    masks, problems = _DicomMasks(), {}
    for n in sorted(range(len(rows)), key=lambda n: (rows[n].mask, rows[n].image)):
        problems[n] = list(_row_problems(rows[n], looks, masks, wanted, same_grid))
    return [problem for n in range(len(rows)) for problem in problems[n]]


@dataclass(frozen=True)
class _Look:
    geometry: Geometry | None
    problems: tuple[str, ...]
    channels: int = 1
    dicom: bool = False


def _look(path: Path, is_mask: bool) -> _Look:
    try:
        if is_dicom_image(path):
            return _Look(None, (), dicom=True) if is_mask else _Look(open_image(path).geometry, ())
    except ImageError as error:
        return _Look(None, (str(error).removeprefix(f"{path}: "),))
    except OSError as error:
        return _Look(None, (f"cannot be read: {error.strerror or error}",))
    header = inspect(path, several=is_mask)
    if header.problems:
        return _Look(None, header.problems)
    try:
        return _Look(read_geometry(header), (), header.channels)
    except ImageError as error:
        return _Look(None, (str(error),))


@dataclass
class _DicomMasks:
    """Reads DICOM masks, and remembers the last one, or why it cannot be read."""

    paths: tuple[Path, Path] | None = None
    found: DicomMask | HgpscaleError | None = None

    def read(self, row: LesionRow, image: Geometry | None) -> DicomMask:
        """Return a row's mask, read for the grid of its image."""
        from hgpscale.cohort.dicom.masks import read_dicom_mask

        if self.paths != (row.mask, row.image):
            try:
                self.found, _ = read_dicom_mask(row.mask, image)
            except HgpscaleError as error:
                self.found = error
            self.paths = row.mask, row.image
        if isinstance(self.found, HgpscaleError):
            raise self.found
        assert self.found is not None, "it was read"
        return self.found


def _row_problems(
    row: LesionRow, looks: dict[tuple[Path, bool], _Look], masks: _DicomMasks, settings: Settings, same_grid: bool
) -> Iterator[Problem]:
    image, mask = looks[row.image, False], looks[row.mask, True]
    try:
        mask = _segments_look(row, image.geometry, mask, masks, settings)
    except HgpscaleError as error:
        yield Problem(row.line, row.lesion, row.segmentation, row.mask_text, error.stage, str(error))
    for file, look in ((row.image_text, image), (row.mask_text, mask)):
        for problem in look.problems:
            yield Problem(row.line, row.lesion, row.segmentation, file, ImageError.stage, problem)
    channel = channel_problem(settings.label_channel, mask.channels)
    if channel:
        yield Problem(row.line, row.lesion, row.segmentation, row.mask_text, MaskError.stage, channel)
    if image.geometry and mask.geometry and same_grid:
        for problem in geometry_differences(image.geometry, mask.geometry, settings.geometryTolerance):
            yield Problem(row.line, row.lesion, row.segmentation, row.mask_text, GeometryError.stage, problem)


def _segments_look(
    row: LesionRow, image: Geometry | None, mask: _Look, masks: _DicomMasks, settings: Settings
) -> _Look:
    """Check that a mask's segments are what a row asks for, and return the mask's grid as far as it has one."""
    if mask.problems:
        return mask
    if is_slicer(row.mask) and row.roi:
        segments, _ = slicer_segments(row.mask)
        if segments:
            choose(segments, row.roi)
    if not mask.dicom:
        return mask
    from hgpscale.cohort.dicom.rtstruct import StructureSet

    found = masks.read(row, image)
    chosen = choose(found.segments, row.roi, row.label if row.label is not None else settings.label)
    if image is None:
        return mask
    if isinstance(found, StructureSet):
        for segment in chosen:
            found.check(segment)
        return mask
    return _Look(found.grid, ())
