"""One lesion in this process: the way of a cohort's lesions, without Dask and without a cube."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hgpscale.catalog import LESION, flat_name
from hgpscale.cohort import LabelMap, Outlines, labels_of, open_image, read_outlines, read_parts
from hgpscale.contents import Contents
from hgpscale.device import resolve
from hgpscale.engine.tasks import compute_named, naming
from hgpscale.errors import ImageError
from hgpscale.filters import require_packages
from hgpscale.prepare.cut import Cut, Surroundings, plan, take
from hgpscale.prepare.scan import needs_scan, scan_statistics
from hgpscale.settings import Settings
from hgpscale.volume import Geometry, Volume

if TYPE_CHECKING:
    import SimpleITK as sitk


_MOST_KEPT = (32 << 20) - (1 << 16)
"""Bytes; the largest piece that glibc learns from, less a little."""


def extract_lesion(
    image: str | Path | sitk.Image,
    mask: str | Path | sitk.Image,
    settings: Settings | Mapping[str, Any] | str | Path | None = None,
    *,
    label: int | None = None,
    roi: str = "",
    liver: str | Path | sitk.Image | None = None,
    liver_roi: str = "",
    device: str | None = None,
) -> dict[str, float]:
    """Compute the features of one lesion, in this process, without Dask.

    The mask's file is read to its end. Of the image's file only the planes that the lesion needs are read, unless a
    setting asks for statistics of the whole image (normalize, Square, ...): what lies behind the last of them is not
    looked at, so that damage there goes unnoticed. `extract` reads and checks whole files.

    Parameters
    ----------
    image, mask
        Paths of NIfTI, NRRD, MetaImage or DICOM files, or 3D SimpleITK images. HU for CT. A DICOM image is a folder
        that holds one series, or a file of a series; a DICOM mask is a SEG, an RTSTRUCT, or a folder that holds one.
    settings
        `Settings`, a pyradiomics parameter mapping, or the path of a parameter file; None: pyradiomics' defaults.
    label
        The lesion's value in the mask; None: the settings' label, or the only one there is.
    roi
        Name, number or pattern of the segments that make the lesion, in a mask file that has such.
    liver, liver_roi
        Mask of the liver, which the setting `regions` does not leave, and which part of it; None: not known. Other
        lesions are not known here, either: `extract` keeps regions out of them.
    device
        Where to compute: ``cpu``, ``gpu``, or ``auto``, a GPU where this process can use one; None: as the settings
        say, which is the CPU unless they name another.

    Returns
    -------
    dict
        Feature values by pyradiomics' names, such as ``original_glcm_Contrast``; those of another region than the
        lesion have its name before: ``rim__original_glcm_Contrast``. A family that is undefined on
        this region is NaN throughout, and a `UserWarning` says why.

    Raises
    ------
    ImageError, GeometryError, MaskError, VoxelError
        The files or the region cannot be used; the message says what was expected and found.
    SettingsError
        The settings cannot be used, or no GPU where ``gpu`` is asked for.

    """
    chosen = Settings.of(settings).on(device)
    if chosen.device == "gpu":
        resolve("gpu")  # or files would be read for one that is not there
    require_packages(chosen)
    found = cut_lesion(image, mask, label, chosen, roi, (liver, liver_roi))
    mask_name = name_of(mask, "mask")
    values, failures = compute_named(found, chosen, name_of(image, "image"), mask_name)
    for key, failure in failures.items():
        what = "a feature is NaN" if key in values else f"{key[-1]} has no values"
        warnings.warn(f"{mask_name}: {what}: {failure}", UserWarning, stacklevel=2)
    return {
        prefix + flat_name(image_type, family, feature): float(values[key][at]) if key in values else float("nan")
        for key in Contents.of(chosen).keys
        for region, image_type, family in [key]
        for prefix in ["" if region == LESION else f"{region}__"]
        for at, feature in enumerate(chosen.features[family])
    }


def cut_lesion(
    image: str | Path | sitk.Image,
    mask: str | Path | sitk.Image,
    label: int | None,
    settings: Settings,
    roi: str = "",
    liver: tuple[str | Path | sitk.Image | None, str] = (None, ""),
) -> Cut:
    """Read of a scan what one lesion needs: parameters, and what is read of a file, as of `extract_lesion`.

    Raises
    ------
    ImageError, GeometryError, MaskError, VoxelError
        The files or the region cannot be used.

    """
    keep_freed_memory()
    scan = open_image(image) if isinstance(image, (str, Path)) else view_of(image)
    outlines = outlines_from(mask, scan.geometry, settings.label_channel)
    surroundings = Surroundings()
    if liver[0] is not None and settings.reach:
        drawn = outlines_from(liver[0], scan.geometry, settings.label_channel)
        with naming(name_of(liver[0], "liver")):
            surroundings = Surroundings(liver=drawn.organ(liver[1]))
    with naming(name_of(mask, "mask")):
        labels, value = outlines.region(roi, label if label is not None else settings.label)
        wanted = plan(scan.geometry, labels, value, settings, surroundings)
    if not isinstance(scan, Volume):
        whole = (0, 0, 0), scan.geometry.size
        (scan,), _ = read_parts(scan, [whole if needs_scan(settings) else wanted.needed], entire=False)
        if not needs_scan(settings):
            return Cut(wanted, scan, None)
    with naming(name_of(image, "image")):
        statistics = scan_statistics(scan.array, settings)
    return take(scan, wanted, statistics)


@cache
def keep_freed_memory() -> None:
    """Have glibc keep up to 64 MiB of freed memory for the next lesion; elsewhere nothing happens.

    It keeps up to twice the largest piece that was freed so far, and fresh pages for every lesion cost up to a sixth of
    its time. So free a large piece, which is never touched.
    """
    np.empty(_MOST_KEPT, np.uint8)


def name_of(source: str | Path | sitk.Image, otherwise: str) -> str:
    """Return what messages call an image: its path, or `otherwise` for one in memory."""
    return str(source) if isinstance(source, (str, Path)) else otherwise


def outlines_from(source: str | Path | sitk.Image, image: Geometry, channel: int) -> Outlines:
    """Return what a mask outlines; of a mask with several values a voxel, those of one channel."""
    if isinstance(source, (str, Path)):
        return read_outlines(source, image, channel, hashed=False)
    with naming("mask"):
        return LabelMap(labels_of(source, channel), "")


def view_of(image: sitk.Image) -> Volume:
    """Return an image's own voxels, not a copy."""
    import SimpleITK as sitk

    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise ImageError(
            f"the image must be a 3D image with one value a voxel, found {image.GetDimension()}D with "
            f"{image.GetNumberOfComponentsPerPixel()}"
        )
    return Volume(sitk.GetArrayViewFromImage(image), Geometry.of(image))
