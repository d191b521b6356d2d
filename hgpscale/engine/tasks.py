"""What workers do: read a scan and cut out its lesions, then compute one lesion. No Dask in here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from hgpscale.catalog import LESION
from hgpscale.cohort import open_image, read_parts
from hgpscale.contents import Contents, Key, restricted
from hgpscale.engine.outlined import Outline, Outlined
from hgpscale.errors import Failure, HgpscaleError, ImageError, MaskError, VoxelError
from hgpscale.lesion import compute_lesion
from hgpscale.prepare.cut import Cut, Plan, Surroundings, plan, take
from hgpscale.prepare.scan import needs_scan, scan_statistics
from hgpscale.record import Record, failed_record
from hgpscale.settings import Settings
from hgpscale.volume import Geometry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hgpscale.cohort.images import ImageFile


@dataclass(frozen=True, slots=True)
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
    liver, liver_roi
        Path of the liver's mask, and which part of it, see `Outlines.organ`; empty: not known.
    surroundings_digest
        Digest that the cube holds for what bounds the lesion's regions outside; empty if none.

    """

    lesion: str
    segmentation: str
    mask: str
    label: int | None = None
    mask_digest: str = ""
    keys: tuple[Key, ...] | None = None
    roi: str = ""
    liver: str = ""
    liver_roi: str = ""
    surroundings_digest: str = ""

    def settings(self, settings: Settings) -> Settings:
        """Return the settings for what is to be computed."""
        return settings if self.keys is None else restricted(settings, self.keys)

    def outline(self) -> Outline:
        """Return where it is drawn."""
        return Outline(self.lesion, self.segmentation, self.mask, self.label, self.roi)

    def failed(self, failure: Failure, settings: Settings, image_digest: str = "", mask_digest: str = "") -> Record:
        """Return the record that says why nothing of it could be computed."""
        keys = Contents.of(settings).keys if self.keys is None else self.keys
        return failed_record(
            self.lesion, self.segmentation, failure, keys, image_digest=image_digest, mask_digest=mask_digest
        )


@dataclass(frozen=True, slots=True)
class ScanTask:
    """One image file and the lesions to be cut out of it.

    Attributes
    ----------
    image
        Path of the image file.
    lesions
        At least one.
    others
        Where lesions of this scan are drawn that are not among `lesions`: the regions of these do not enter them.
    image_digest
        Digest that the cube holds for this file; empty if none. A file that changed since is refused, so that
        numbers of two versions of a scan never stand side by side.

    """

    image: str
    lesions: tuple[LesionTask, ...]
    image_digest: str = ""
    others: tuple[Outline, ...] = ()

    def only(self, lesion: LesionTask) -> ScanTask:
        """Return the task of one of the lesions; the regions around it keep out of the rest as before."""
        rest = tuple(other.outline() for other in self.lesions if other is not lesion)
        return replace(self, lesions=(lesion,), others=self.others + rest)


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
    surroundings_digest
        Digest of what bounds the regions outside; empty where nothing does.
    unbounded
        Why the regions outside cannot be bounded, so that there are none; None where they can.

    """

    task: LesionTask
    cut: Cut
    image_digest: str
    mask_digest: str
    image_name: str
    surroundings_digest: str = ""
    unbounded: Failure | None = None

    def __sizeof__(self) -> int:
        """Return bytes, voxels included, by which Dask decides where tasks go and what is spilled to the disk."""
        return object.__sizeof__(self) + self.cut.nbytes


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
        PreparedLesion(task, next(left), digest, item.mask_digest, scan.image, item.surroundings_digest, item.unbounded)
        if item.failure is None
        else task.failed(item.failure, settings, digest, item.mask_digest)
        for task, item in zip(scan.lesions, planned, strict=True)
    ]


class _Planned(NamedTuple):
    """What one lesion needs of the image, or why that cannot be told: one of the two is there."""

    mask_digest: str
    plan: Plan | None = None
    failure: Failure | None = None
    surroundings_digest: str = ""
    unbounded: Failure | None = None


def _planned(scan: ScanTask, image: Geometry, settings: Settings) -> Iterator[_Planned]:
    outlined = Outlined(image, settings)
    neighbours = (*(task.outline() for task in scan.lesions), *scan.others)
    for task in scan.lesions:
        mask_digest = digest = ""
        around, unbounded = Surroundings(), None
        try:
            mask_digest = outlined.digest(task.mask)
            _require_unchanged(task.mask, task.mask_digest, mask_digest)
            chosen = task.settings(settings)
            if settings.reach:
                try:
                    around, digest = outlined.surroundings(task.outline(), neighbours, task.liver, task.liver_roi)
                except HgpscaleError as error:
                    unbounded = Failure.of(error)
                    inside = [name for name, band in chosen.bands.items() if not band.reach]
                    kept = {name: chosen.regions[name] for name in chosen.regions if name in (LESION, *inside)}
                    if not kept:
                        raise
                    chosen = chosen.model_copy(update={"regions": kept})
                _require_same_surroundings(task, digest)
            with naming(task.mask):
                mask, label = outlined.region(task.outline())
                wanted = plan(image, mask, label, chosen, around)
        except HgpscaleError as error:
            yield _Planned(mask_digest, failure=Failure.of(error))
        else:
            yield _Planned(mask_digest, wanted, None, digest, unbounded)


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


def _require_same_surroundings(task: LesionTask, now: str) -> None:
    if task.surroundings_digest and now and now != task.surroundings_digest:
        raise MaskError(
            "the liver's mask, or the masks of other lesions of this scan, are other ones than when the cube's numbers "
            "of the regions around this lesion were made; run with --update to extract them anew"
        )


def extract_prepared(item: PreparedLesion | Record, settings: Settings) -> Record:
    """Compute one lesion's record; a failure's record passes through."""
    if isinstance(item, Record):
        return item
    task = item.task
    chosen = task.settings(settings)
    unbounded: dict[Key, Failure] = {}
    if item.unbounded is not None:
        outside = [name for name, band in chosen.bands.items() if band.reach]
        unbounded = {key: item.unbounded for key in Contents.of(chosen).keys if key[0] in outside}
        left = {name: value for name, value in chosen.regions.items() if name not in outside}
        chosen = chosen.model_copy(update={"regions": left})
    try:
        values, failures = compute_named(item.cut, chosen, item.image_name, task.mask)
        failures |= unbounded
    except HgpscaleError as error:
        return task.failed(Failure.of(error), settings, item.image_digest, item.mask_digest)
    if task.keys is not None:  # of an image type that has several, one alone may have been missing
        values = {key: vector for key, vector in values.items() if key in task.keys}
        failures = {key: failure for key, failure in failures.items() if key in task.keys}
    label = item.cut.plan.label
    digests = item.image_digest, item.mask_digest
    return Record(task.lesion, task.segmentation, *digests, label, values, failures, item.surroundings_digest)


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
