"""What workers do: read a scan and cut out its lesions, then compute one lesion. No Dask in here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hgpscale.cohort import read_image, read_mask
from hgpscale.errors import Failure, HgpscaleError, ImageError, MaskError, VoxelError
from hgpscale.lesion import compute_lesion
from hgpscale.prepare.cut import Cut, cut
from hgpscale.record import Key, Record, failed_record
from hgpscale.settings import Settings
from hgpscale.volume import Volume

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class LesionTask:
    """One lesion as one segmentation outlines it: where its mask is.

    Attributes
    ----------
    lesion, segmentation
        Which row of the manifest.
    mask
        Path of the mask file.
    label
        Value of the lesion in the mask; None: the settings' label, or the only one there is.
    mask_digest
        Digest that the cube holds for this file with another lesion; empty if none. As `ScanTask.image_digest`.

    """

    lesion: str
    segmentation: str
    mask: str
    label: int | None = None
    mask_digest: str = ""


@dataclass(frozen=True)
class ScanTask:
    """One image file and the lesions to be cut out of it.

    Attributes
    ----------
    image
        Path of the image file.
    lesions
        At least one.
    image_digest
        Digest that the cube holds for this file; empty if none. A file that changed since is refused, so that
        numbers of two versions of a scan never stand side by side.

    """

    image: str
    lesions: tuple[LesionTask, ...]
    image_digest: str = ""


@dataclass(frozen=True)
class PreparedLesion:
    """All that the extraction of one lesion needs.

    Attributes
    ----------
    task
        Which lesion.
    cut
        A crop of the image, and the region.
    image_digest, mask_digest
        Digests of the two files.
    image_name
        The image's path, for messages.

    """

    task: LesionTask
    cut: Cut
    image_digest: str
    mask_digest: str
    image_name: str


def read_scan(scan: ScanTask, settings: Settings) -> list[PreparedLesion | Record]:
    """Read an image and the masks of its lesions; cut out what each lesion needs.

    Returns one item a lesion, in the order of `scan.lesions`; a lesion that cannot be prepared comes back as a
    record of its failure.
    """
    try:
        image, digest = read_image(scan.image)
        _require_unchanged(scan.image, scan.image_digest, digest)
    except HgpscaleError as error:
        failure = Failure.of(error)
        return [failed_record(task.lesion, task.segmentation, failure, settings) for task in scan.lesions]
    return list(_prepared(scan, image, digest, settings))


def _prepared(
    scan: ScanTask, image: Volume, image_digest: str, settings: Settings
) -> Iterator[PreparedLesion | Record]:
    held: tuple[str, Volume, str] | None = None
    for task in scan.lesions:
        mask_digest = ""
        try:
            # Lesions of one label map mostly stand one after the other: it is read once for them.
            if held is None or held[0] != task.mask:
                held = None
                held = (task.mask, *read_mask(task.mask))
            _, mask, mask_digest = held
            _require_unchanged(task.mask, task.mask_digest, mask_digest)
            with naming(task.mask):
                found = cut(image, mask, task.label if task.label is not None else settings.label, settings)
        except HgpscaleError as error:
            yield _failed(task, error, settings, image_digest, mask_digest)
        else:
            yield PreparedLesion(task, found, image_digest, mask_digest, scan.image)


def _require_unchanged(path: str, before: str, now: str) -> None:
    if before and now != before:
        raise ImageError(
            f"{path}: changed since other lesions of it were extracted (digest {before} then, {now} now); put the "
            "old file back, or run with --retry-failed to extract all lesions of the scan anew"
        )


def extract_prepared(item: PreparedLesion | Record, settings: Settings) -> Record:
    """Compute one lesion's record; a failure's record passes through."""
    if isinstance(item, Record):
        return item
    task = item.task
    try:
        values, failures = compute_named(item.cut, settings, item.image_name, task.mask)
    except HgpscaleError as error:
        return _failed(task, error, settings, item.image_digest, item.mask_digest)
    return Record(task.lesion, task.segmentation, item.image_digest, item.mask_digest, item.cut.label, values, failures)


def compute_named(
    found: Cut, settings: Settings, image_name: str, mask_name: str
) -> tuple[dict[Key, NDArray[np.float64]], dict[Key, Failure]]:
    """Compute a lesion; an error names the file that it is about."""
    with naming(image_name, VoxelError), naming(mask_name, MaskError):
        return compute_lesion(found, settings)


@contextmanager
def naming(name: str, kind: type[HgpscaleError] = HgpscaleError) -> Iterator[None]:
    """Put a file's name before the message of errors of one kind."""
    try:
        yield
    except kind as error:
        raise type(error)(f"{name}: {error}") from error


def _failed(task: LesionTask, error: HgpscaleError, settings: Settings, image_digest: str, mask_digest: str) -> Record:
    return failed_record(
        task.lesion,
        task.segmentation,
        Failure.of(error),
        settings,
        image_digest=image_digest,
        mask_digest=mask_digest,
    )
