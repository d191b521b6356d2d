"""From the manifest's rows that lack something to one task a scan. Pure: touches no file."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING

from hgpscale.contents import Contents, Key
from hgpscale.engine.outlined import Outline, surrounding, surroundings_digest
from hgpscale.engine.tasks import LesionTask, ScanTask
from hgpscale.settings import Settings

if TYPE_CHECKING:
    from hgpscale.cohort.manifest import Cohort

Row = tuple[str, str]

_BYTES_A_SECOND, _SECONDS_A_LESION = 5e7, 0.1
"""Of reading and of extraction, roughly: what matters is the order of scans, not the time."""


def plan(
    cohort: Cohort,
    missing: Mapping[Row, tuple[Key, ...]],
    digests: Mapping[Row, tuple[str, str, str]],
    settings: Settings,
) -> list[ScanTask]:
    """Group the rows to be done by image file, so that every image is read once.

    Of a file that has changed, some rows may have numbers of before and others of now, when each run named only some of
    them. So each row is held to the files that its own numbers are of; such an image is read once a version.

    Parameters
    ----------
    cohort
        All rows, done or not.
    missing
        What is to be computed of each row, by ``(lesion, segmentation)``.
    digests
        Digests of image, mask and surroundings behind the rows that have numbers, by ``(lesion, segmentation)``.
    settings
        What the tasks will be called with.

    Returns
    -------
    list of ScanTask
        In the order in which the manifest first names each image; lesions in the manifest's order.

    """
    lesions: dict[tuple[str, str], list[LesionTask]] = {}
    known: dict[str, str] = {}
    everything = Contents.of(settings).keys
    for row in cohort.rows:
        key = row.lesion, row.segmentation
        if key in digests:
            known[str(row.image)], known[str(row.mask)], _ = digests[key]
    for row in cohort.rows:
        key = row.lesion, row.segmentation
        wanted = missing.get(key)
        if wanted:
            image, mask = str(row.image), str(row.mask)
            of_image, of_mask, around = digests.get(key, (known.get(image, ""), known.get(mask, ""), ""))
            keys = None if wanted == everything else wanted
            liver = str(row.liver) if row.liver is not None else ""
            task = LesionTask(
                row.lesion, row.segmentation, mask, row.label, of_mask, keys, row.roi, liver, row.liver_roi, around
            )
            lesions.setdefault((image, of_image), []).append(task)
    drawn = _outlines(cohort) if settings.reach else {}
    return [
        ScanTask(image, tuple(tasks), digest, _others(drawn.get(image, ()), tasks))
        for (image, digest), tasks in lesions.items()
    ]


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
        outline = Outline(row.lesion, row.segmentation, str(row.mask), row.label, row.roi)
        drawn.setdefault(str(row.image), []).append(outline)
    return drawn


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
        outline = Outline(row.lesion, row.segmentation, str(row.mask), row.label, row.roi)
        others = [
            (now.get(other.mask, ""), other.label, other.roi) for other in surrounding(outline, drawn[str(row.image)])
        ]
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
