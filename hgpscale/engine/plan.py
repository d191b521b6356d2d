"""From the manifest's rows that are still missing to one task a scan. Pure: touches no file."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import TYPE_CHECKING

from hgpscale.engine.tasks import LesionTask, ScanTask

if TYPE_CHECKING:
    from hgpscale.cohort.manifest import Cohort


def plan(
    cohort: Cohort, pending: Container[tuple[str, str]], digests: Mapping[tuple[str, str], tuple[str, str]]
) -> list[ScanTask]:
    """Group the pending rows by image file, so that every image is read once.

    Parameters
    ----------
    cohort
        All rows, done or not.
    pending
        ``(lesion, segmentation)`` of the rows to be done.
    digests
        Digests of image and mask behind the rows that have numbers, by ``(lesion, segmentation)``.

    Returns
    -------
    list of ScanTask
        In the order in which the manifest first names each image; lesions in the manifest's order.

    """
    lesions: dict[str, list[LesionTask]] = {}
    known: dict[str, str] = {}
    for row in cohort.rows:
        key = row.lesion, row.segmentation
        if key in digests and key not in pending:
            known[str(row.image)], known[str(row.mask)] = digests[key]
    for row in cohort.rows:
        if (row.lesion, row.segmentation) in pending:
            mask = str(row.mask)
            task = LesionTask(row.lesion, row.segmentation, mask, row.label, known.get(mask, ""))
            lesions.setdefault(str(row.image), []).append(task)
    return [ScanTask(image, tuple(tasks), known.get(image, "")) for image, tasks in lesions.items()]


def rows_to_retry(cohort: Cohort, failed: Container[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return the failed rows and all others of the same images.

    A file that was mended is another file: what was computed of the old one must not stand beside the new numbers.
    """
    images = {row.image for row in cohort.rows if (row.lesion, row.segmentation) in failed}
    return {(row.lesion, row.segmentation) for row in cohort.rows if row.image in images}
