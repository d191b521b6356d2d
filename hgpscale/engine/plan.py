"""From the manifest's rows that lack something to one task a scan. Pure: touches no file."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping
from itertools import chain, pairwise
from typing import TYPE_CHECKING

import numpy as np

from hgpscale.contents import Contents, Key
from hgpscale.engine.outlined import Outline, surrounding, surroundings_digest
from hgpscale.engine.tasks import LesionTask, ScanTask
from hgpscale.settings import Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hgpscale.cohort.manifest import Cohort, LesionRow

Row = tuple[str, str]

_BYTES_A_SECOND, _SECONDS_A_LESION = 5e7, 0.1
"""Of reading and of extraction, roughly: what matters is the order of scans, not the time."""


def plan(
    cohort: Cohort,
    missing: Mapping[Row, tuple[Key, ...]],
    digests: Mapping[Row, tuple[str, str, str]],
    settings: Settings,
) -> Iterator[ScanTask]:
    """Group the rows to be done by image file, so that every image is read once; a task is made when it is asked for.

    Of a file that has changed, some rows may have numbers of before and others of now, when each run named only some of
    them. So each row is held to the files that its own numbers are of; such an image is read once a version.

    Parameters
    ----------
    cohort
        All rows, done or not.
    missing
        What is to be computed of each row, by ``(lesion, segmentation)``. Rows may leave it when they are done.
    digests
        Digests of image, mask and surroundings behind the rows that have numbers, by ``(lesion, segmentation)``.
    settings
        What the tasks will be called with.

    Yields
    ------
    ScanTask
        In the order in which the manifest first names each image; lesions in the manifest's order.

    """
    known = _known(cohort, missing, digests)
    everything = Contents.of(settings).keys
    for group in _by_image(cohort):
        rows = [cohort.rows[i] for i in group]
        image = str(rows[0].image)
        lesions: dict[str, list[LesionTask]] = {}
        for row in rows:
            key = row.lesion, row.segmentation
            wanted = missing.get(key)
            if wanted:
                mask = str(row.mask)
                of_image, of_mask, around = digests.get(key, (known.get(image, ""), known.get(mask, ""), ""))
                keys = None if wanted == everything else wanted
                liver = str(row.liver) if row.liver is not None else ""
                task = LesionTask(
                    row.lesion, row.segmentation, mask, row.label, of_mask, keys, row.roi, liver, row.liver_roi, around
                )
                lesions.setdefault(of_image, []).append(task)
        drawn = [_outline(row) for row in rows] if settings.reach else []
        for digest, tasks in lesions.items():
            yield ScanTask(image, tuple(tasks), digest, _others(drawn, tasks))


def _known(cohort: Cohort, missing: Container[Row], digests: Mapping[Row, tuple[str, str, str]]) -> dict[str, str]:
    """Return the digests of files of rows to be done, behind the numbers that other rows have."""
    if not digests:
        return {}
    columns = ("lesion", "segmentation", "image", "mask")
    wanted: set[str] = set()
    for lesion, segmentation, *files in cohort.cells(*columns):
        if (lesion, segmentation) in missing:
            wanted.update(map(str, files))
    known: dict[str, str] = {}
    for lesion, segmentation, *files in cohort.cells(*columns):
        if wanted.intersection(map(str, files)) and (lesion, segmentation) in digests:
            found = zip(map(str, files), digests[lesion, segmentation][:2], strict=True)
            known |= {file: digest for file, digest in found if file in wanted}
    return known


def _by_image(cohort: Cohort) -> Iterator[NDArray[np.int32]]:
    """Yield the numbers of each image's rows, in the order in which the manifest first names the images."""
    numbers: dict[str, int] = {}
    found = (numbers.setdefault(str(image), len(numbers)) for (image,) in cohort.cells("image"))
    of_row = np.fromiter(found, np.int32, len(cohort.rows))
    numbers.clear()  # paths of all scans
    rows = np.argsort(of_row, kind="stable").astype(np.int32)
    bounds = np.searchsorted(of_row[rows], np.arange(of_row.max(initial=-1) + 2)).astype(np.int32)
    del of_row
    for start, stop in pairwise(bounds):
        yield rows[start:stop]


def biggest_first(scans: Iterable[ScanTask], image_bytes: Callable[[str], int], block: int) -> Iterator[ScanTask]:
    """Order scans by the time that they will take, so that no long one is left alone at the end of a run.

    Only within about `block` lesions that follow each other: what arrives together shall go into few chunks.

    Parameters
    ----------
    scans
        In the order of the cube; those that take as long stay in it.
    image_bytes
        Returns the size of an image's files.
    block
        Lesions that are put in order together.

    """

    def seconds(scan: ScanTask) -> float:
        return image_bytes(scan.image) / _BYTES_A_SECOND + len(scan.lesions) * _SECONDS_A_LESION

    some: list[ScanTask] = []
    lesions = 0
    for scan in scans:
        some.append(scan)
        lesions += len(scan.lesions)
        if lesions >= block:
            yield from sorted(some, key=seconds, reverse=True)
            some, lesions = [], 0
    yield from sorted(some, key=seconds, reverse=True)


def _outlines(cohort: Cohort) -> dict[str, list[Outline]]:
    """Return where each scan's lesions are drawn."""
    drawn: dict[str, list[Outline]] = {}
    for row in cohort.rows:
        drawn.setdefault(str(row.image), []).append(_outline(row))
    return drawn


def _outline(row: LesionRow) -> Outline:
    return Outline(row.lesion, row.segmentation, str(row.mask), row.label, row.roi)


def _others(drawn: Iterable[Outline], tasks: Iterable[LesionTask]) -> tuple[Outline, ...]:
    planned = {(task.lesion, task.segmentation) for task in tasks}
    return tuple(outline for outline in drawn if outline[:2] not in planned)


def changed_surroundings(
    cohort: Cohort, digests: Mapping[Row, tuple[str, str, str]], now: Mapping[str, str]
) -> set[Row]:
    """Return the rows whose liver mask or other lesions are other ones than their numbers were bounded by.

    Parameters
    ----------
    cohort
        All rows.
    digests
        As of `plan`; a row without a digest of its surroundings has no numbers that depend on them.
    now
        Digests by file.

    """
    drawn = _outlines(cohort)
    changed = set()
    for row in cohort.rows:
        key = row.lesion, row.segmentation
        if not digests.get(key, ("", "", ""))[2]:
            continue
        liver = now.get(str(row.liver), "") if row.liver is not None else ""
        around = surrounding(_outline(row), drawn[str(row.image)])
        others = [(now.get(other.mask, ""), other.label, other.roi) for other in around]
        if surroundings_digest((liver, row.liver_roi), others) != digests[key][2]:
            changed.add(key)
    return changed


def lesions_added(
    cohort: Cohort, missing: Collection[Row], digests: Mapping[Row, tuple[str, str, str]]
) -> dict[str, list[str]]:
    """Return lesions without numbers in scans whose other lesions were bounded without them, by the scan's path."""
    bounded = {str(row.image) for row in cohort.rows if digests.get((row.lesion, row.segmentation), ("",))[-1]}
    known = {lesion for lesion, _ in digests}
    added: dict[str, list[str]] = {}
    for row in cohort.rows:
        if (row.lesion, row.segmentation) in missing and row.lesion not in known and str(row.image) in bounded:
            added.setdefault(row.image_text, []).append(row.lesion)
    return added


def changed_files(
    cohort: Cohort, digests: Mapping[Row, tuple[str, str, str]], now: Mapping[str, str]
) -> dict[Row, tuple[str, ...]]:
    """Return the rows whose files are other ones than some numbers are of, each with the files that changed.

    Rows without numbers are among them: they may have failed because the file had changed.

    Parameters
    ----------
    cohort
        All rows.
    digests
        Digests of image, mask and surroundings behind the rows that have numbers.
    now
        Digests by file, without those that cannot be read.

    """
    others: dict[Row, tuple[str, ...]] = {}
    files = {(row.lesion, row.segmentation): (str(row.image), str(row.mask)) for row in cohort.rows}
    for row, digest in digests.items():
        others[row] = tuple(f for f, old in zip(files[row], digest[:2], strict=True) if now.get(f, old) != old)
    changed = set(chain(*others.values()))
    for row in files.keys() - others.keys():
        others[row] = tuple(f for f in files[row] if f in changed)
    return {row: others[row] for row in files if others[row]}
