"""From the manifest's rows that lack something to one task a scan. Pure: touches no file."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import TYPE_CHECKING

from hgpscale.contents import Contents, Key
from hgpscale.engine.tasks import LesionTask, ScanTask
from hgpscale.settings import Settings

if TYPE_CHECKING:
    from hgpscale.cohort.manifest import Cohort

Row = tuple[str, str]


def plan(
    cohort: Cohort,
    missing: Mapping[Row, tuple[Key, ...]],
    digests: Mapping[Row, tuple[str, str]],
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
        Digests of image and mask behind the rows that have numbers, by ``(lesion, segmentation)``.
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
            known[str(row.image)], known[str(row.mask)] = digests[key]
    for row in cohort.rows:
        key = row.lesion, row.segmentation
        wanted = missing.get(key)
        if wanted:
            image, mask = str(row.image), str(row.mask)
            of_image, of_mask = digests.get(key, (known.get(image, ""), known.get(mask, "")))
            keys = None if wanted == everything else wanted
            task = LesionTask(row.lesion, row.segmentation, mask, row.label, of_mask, keys, row.roi)
            lesions.setdefault((image, of_image), []).append(task)
    return [ScanTask(image, tuple(tasks), digest) for (image, digest), tasks in lesions.items()]


def changed_files(
    cohort: Cohort, digests: Mapping[Row, tuple[str, str]], now: Mapping[str, str]
) -> dict[Row, tuple[str, ...]]:
    """Return the rows whose files are other ones than some numbers are of, each with the files that changed.

    Rows without numbers are among them: they may have failed because the file had changed.

    Parameters
    ----------
    cohort
        All rows.
    digests
        Digests of image and mask behind the rows that have numbers.
    now
        Digests by file, without those that cannot be read.

    """
    others: dict[Row, tuple[str, ...]] = {}
    files = {(row.lesion, row.segmentation): (str(row.image), str(row.mask)) for row in cohort.rows}
    for row, digest in digests.items():
        others[row] = tuple(f for f, old in zip(files[row], digest, strict=True) if now.get(f, old) != old)
    changed = set(chain(*others.values()))
    for row in files.keys() - others.keys():
        others[row] = tuple(f for f in files[row] if f in changed)
    return {row: others[row] for row in files if others[row]}
