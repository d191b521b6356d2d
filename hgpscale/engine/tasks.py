"""What workers do: read a scan and cut out its lesions, then extract one lesion. No Dask in here.

`extract_lesion` walks the same path for one lesion in this process.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hgpscale import lesion as one_lesion
from hgpscale.catalog import flat_name
from hgpscale.cohort import read_image, read_mask
from hgpscale.errors import Failure, GeometryError, HgpscaleError, ImageError, VoxelError
from hgpscale.prepare.resample import nearest, needed_box, target_grid, target_spacing
from hgpscale.prepare.roi import bounding_box, check_inside, check_size, choose_label, select
from hgpscale.record import Key, Record, failed_record
from hgpscale.settings import Settings
from hgpscale.volume import Geometry, Index, Volume, geometry_differences

if TYPE_CHECKING:
    import numpy as np
    import SimpleITK as sitk
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

    """

    lesion: str
    segmentation: str
    mask: str
    label: int | None = None


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
    """All that the extraction of one lesion needs: a crop of the image and the region.

    Attributes
    ----------
    task
        Which lesion.
    image
        The voxels that the settings make necessary, in the stored type.
    roi
        The region, bool, cropped to its box.
    label
        The mask value that was used.
    image_digest, mask_digest
        Digests of the two files.
    image_name
        The image's path, for messages.

    """

    task: LesionTask
    image: Volume
    roi: Volume
    label: int
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
        if scan.image_digest and digest != scan.image_digest:
            raise ImageError(
                f"{scan.image}: changed since other lesions of it were extracted (digest {scan.image_digest} then, "
                f"{digest} now); put the old file back or make a new cube"
            )
    except HgpscaleError as error:
        failure = Failure.of(error)
        return [failed_record(task.lesion, task.segmentation, failure, settings) for task in scan.lesions]
    return [_prepared_or_failed(task, image, scan.image, digest, settings) for task in scan.lesions]


def _prepared_or_failed(
    task: LesionTask, image: Volume, image_path: str, image_digest: str, settings: Settings
) -> PreparedLesion | Record:
    mask_digest = ""
    try:
        mask, mask_digest = read_mask(task.mask)
        label = task.label if task.label is not None else settings.label
        crop, roi, label = _cut(image, mask, label, settings, image_path, task.mask)
    except HgpscaleError as error:
        return failed_record(
            task.lesion,
            task.segmentation,
            Failure.of(error),
            settings,
            image_digest=image_digest,
            mask_digest=mask_digest,
        )
    return PreparedLesion(task, crop, roi, label, image_digest, mask_digest, image_path)


def _cut(
    image: Volume, mask: Volume, label: int | None, settings: Settings, image_name: str, mask_name: str
) -> tuple[Volume, Volume, int]:
    differences = geometry_differences(image.geometry, mask.geometry, settings.geometryTolerance)
    if differences and not settings.correctMask:
        raise GeometryError(
            f"{mask_name} does not lie on the grid of {image_name}: {'; '.join(differences)}; resample the mask, "
            "raise geometryTolerance or set correctMask"
        )
    try:
        label = choose_label(mask, label)
        roi = select(mask, label)
        if differences:
            check_inside(roi, image.geometry)
            if not settings.resamples:
                roi = _onto(roi, image.geometry)
        elif roi.geometry != image.geometry:
            # Within tolerance: pyradiomics takes mask voxels by index, on the image's grid.
            roi = roi if settings.resamples else Volume(roi.array, image.geometry, roi.start)
        check_size(roi.array, settings)
        lower, upper = _image_box(image.geometry, roi, settings)
    except HgpscaleError as error:
        raise _named(error, mask_name) from error
    return image.crop(lower, upper), roi, label


def _named(error: HgpscaleError, name: str) -> HgpscaleError:
    """Return the same error with the file that it is about."""
    return type(error)(f"{name}: {error}")


def _extract(
    image: Volume, roi: Volume, settings: Settings, image_name: str, mask_name: str
) -> tuple[dict[Key, NDArray[np.float64]], dict[Key, Failure]]:
    try:
        return one_lesion.extract(image, roi, settings)
    except VoxelError as error:
        raise _named(error, image_name) from error
    except HgpscaleError as error:
        raise _named(error, mask_name) from error


def _onto(roi: Volume, grid: Geometry) -> Volume:
    """Return the region on another grid by nearest neighbour, cropped to its box."""
    array = nearest(roi, grid)
    lower, upper = bounding_box(array)
    return Volume(array, grid).crop(lower, upper)


def _image_box(image: Geometry, roi: Volume, settings: Settings) -> tuple[Index, Index]:
    spacing = target_spacing(image, roi, settings)
    if spacing is None or settings.interpolator is None:
        z, y, x = (start + n for start, n in zip(roi.start, roi.array.shape, strict=True))
        return roi.start, (z, y, x)
    return needed_box(image, target_grid(roi, spacing, settings.padDistance), settings.interpolator)


def extract_prepared(item: PreparedLesion | Record, settings: Settings) -> Record:
    """Compute one lesion's record; a failure's record passes through."""
    if isinstance(item, Record):
        return item
    try:
        values, failures = _extract(item.image, item.roi, settings, item.image_name, item.task.mask)
    except HgpscaleError as error:
        return failed_record(
            item.task.lesion,
            item.task.segmentation,
            Failure.of(error),
            settings,
            image_digest=item.image_digest,
            mask_digest=item.mask_digest,
        )
    return Record(
        item.task.lesion,
        item.task.segmentation,
        item.image_digest,
        item.mask_digest,
        item.label,
        values,
        failures,
    )


def extract_lesion(
    image: str | Path | sitk.Image,
    mask: str | Path | sitk.Image,
    settings: Settings | Mapping[str, Any] | str | Path | None = None,
    *,
    label: int | None = None,
) -> dict[str, float]:
    """Compute the features of one lesion, in this process, without Dask.

    Parameters
    ----------
    image, mask
        Paths of NIfTI, NRRD or MetaImage files, or 3D SimpleITK images. HU for CT.
    settings
        `Settings`, a pyradiomics parameter mapping, or the path of a parameter file; None: pyradiomics' defaults.
    label
        The lesion's value in the mask; None: the settings' label, or the only one there is.

    Returns
    -------
    dict
        Feature values by pyradiomics' names, such as ``original_glcm_Contrast``. A family that is undefined on
        this region is NaN throughout, and a `UserWarning` says why.

    Raises
    ------
    ImageError, GeometryError, MaskError, VoxelError
        The files or the region cannot be used; the message says what was expected and found.
    SettingsError
        The settings cannot be used.

    """
    chosen = Settings.of(settings)
    voxels = read_image(image)[0] if isinstance(image, (str, Path)) else _in_memory(image, "image")
    labels = read_mask(mask)[0] if isinstance(mask, (str, Path)) else _in_memory(mask, "mask")
    names = [
        str(source) if isinstance(source, (str, Path)) else kind for source, kind in ((image, "image"), (mask, "mask"))
    ]
    wanted = label if label is not None else chosen.label
    crop, roi, _ = _cut(voxels, labels, wanted, chosen, *names)
    values, failures = _extract(crop, roi, chosen, *names)
    for (_, _, family), failure in failures.items():
        warnings.warn(f"{names[1]}: {family} has no values: {failure}", UserWarning, stacklevel=2)
    nan = float("nan")
    return {
        flat_name("original", family, feature): float(values[key][at]) if key in values else nan
        for family, features in chosen.features.items()
        for key in [("lesion", "original", family)]
        for at, feature in enumerate(features)
    }


def _in_memory(image: sitk.Image, kind: str) -> Volume:
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise ImageError(
            f"the {kind} must be a 3D image with one value a voxel, found {image.GetDimension()}D with "
            f"{image.GetNumberOfComponentsPerPixel()}"
        )
    return Volume.of(image)
