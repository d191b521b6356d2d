"""What workers do: read a scan and cut out its lesions, then compute one lesion. No Dask in here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from hgpscale.cohort import Outlines, open_image, read_outlines, read_parts
from hgpscale.contents import Contents, Key, restricted
from hgpscale.errors import Failure, HgpscaleError, ImageError, MaskError, VoxelError
from hgpscale.lesion import compute_lesion
from hgpscale.prepare.cut import Cut, Plan, plan, take
from hgpscale.prepare.scan import needs_scan, scan_statistics
from hgpscale.record import Record, failed_record
from hgpscale.settings import Settings
from hgpscale.volume import Geometry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hgpscale.cohort.images import ImageFile


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
        Digest that the cube holds for this file; empty if none. As `ScanTask.image_digest`.
    keys
        What is to be computed; None: all that the settings say.
    roi
        Which segments of the mask make the lesion, see `Outlines.region`.

    """

    lesion: str
    segmentation: str
    mask: str
    label: int | None = None
    mask_digest: str = ""
    keys: tuple[Key, ...] | None = None
    roi: str = ""

    def settings(self, settings: Settings) -> Settings:
        """Return the settings for what is to be computed."""
        return settings if self.keys is None else restricted(settings, self.keys)

    def failed(self, failure: Failure, settings: Settings, image_digest: str = "", mask_digest: str = "") -> Record:
        """Return the record that says why nothing of it could be computed."""
        keys = Contents.of(settings).keys if self.keys is None else self.keys
        return failed_record(
            self.lesion, self.segmentation, failure, keys, image_digest=image_digest, mask_digest=mask_digest
        )


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
    """Read the masks of an image's lesions, then the image once; keep what each lesion needs.

    Returns one item a lesion, in the order of `scan.lesions`; a lesion that cannot be prepared comes back as a
    record of its failure.
    """
    try:
        image = open_image(scan.image)
        planned = list(_planned(scan, image.geometry, settings))
        cuts, digest = _cuts(image, [item.plan for item in planned if item.plan is not None], settings)
        _require_unchanged(scan.image, scan.image_digest, digest)
    except HgpscaleError as error:
        failure = Failure.of(error)
        return [task.failed(failure, settings) for task in scan.lesions]
    left = iter(cuts)
    return [
        PreparedLesion(task, next(left), digest, item.mask_digest, scan.image)
        if item.failure is None
        else task.failed(item.failure, settings, digest, item.mask_digest)
        for task, item in zip(scan.lesions, planned, strict=True)
    ]


class _Planned(NamedTuple):
    """What one lesion needs of the image, or why that cannot be told: one of the two is there."""

    mask_digest: str
    plan: Plan | None = None
    failure: Failure | None = None


def _planned(scan: ScanTask, image: Geometry, settings: Settings) -> Iterator[_Planned]:
    held: tuple[str, Outlines] | None = None
    for task in scan.lesions:
        mask_digest = ""
        try:
            # Lesions of one label map mostly stand one after the other: it is read once for them.
            if held is None or held[0] != task.mask:
                held = None
                held = (task.mask, read_outlines(task.mask, image, settings.label_channel))
            outlines = held[1]
            mask_digest = outlines.digest
            _require_unchanged(task.mask, task.mask_digest, mask_digest)
            with naming(task.mask):
                mask, label = outlines.region(task.roi, task.label if task.label is not None else settings.label)
                wanted = plan(image, mask, label, task.settings(settings))
        except HgpscaleError as error:
            yield _Planned(mask_digest, failure=Failure.of(error))
        else:
            yield _Planned(mask_digest, wanted)


def _cuts(image: ImageFile, plans: list[Plan], settings: Settings) -> tuple[list[Cut], str]:
    """Read the image's file once, to its end, and keep what each plan needs; return its digest too."""
    if not needs_scan(settings):
        parts, digest = read_parts(image, [wanted.needed for wanted in plans], entire=True)
        return [Cut(wanted, part, None) for wanted, part in zip(plans, parts, strict=True)], digest
    (whole,), digest = read_parts(image, [((0, 0, 0), image.geometry.size)], entire=True)
    with naming(str(image.path)):
        statistics = scan_statistics(whole.array, settings)
    return [take(whole, wanted, statistics) for wanted in plans], digest


def _require_unchanged(path: str, before: str, now: str) -> None:
    if before and now != before:
        raise ImageError(
            f"{path}: changed since numbers in the cube were made of it (digest {before} then, {now} now); put the old "
            "file back and run with --retry-failed, or run with --update to extract all that was made of it anew"
        )


def extract_prepared(item: PreparedLesion | Record, settings: Settings) -> Record:
    """Compute one lesion's record; a failure's record passes through."""
    if isinstance(item, Record):
        return item
    task = item.task
    try:
        values, failures = compute_named(item.cut, task.settings(settings), item.image_name, task.mask)
    except HgpscaleError as error:
        return task.failed(Failure.of(error), settings, item.image_digest, item.mask_digest)
    if task.keys is not None:  # of an image type that has several, one alone may have been missing
        values = {key: vector for key, vector in values.items() if key in task.keys}
        failures = {key: failure for key, failure in failures.items() if key in task.keys}
    label = item.cut.plan.label
    return Record(task.lesion, task.segmentation, item.image_digest, item.mask_digest, label, values, failures)


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
