"""One lesion in this process: the way of a cohort's lesions, without Dask and without a cube."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hgpscale.catalog import flat_name
from hgpscale.cohort import read_image, read_mask
from hgpscale.cohort.images import as_labels
from hgpscale.engine.tasks import compute_named, naming
from hgpscale.errors import ImageError
from hgpscale.prepare.cut import cut
from hgpscale.record import expected_keys
from hgpscale.settings import Settings
from hgpscale.volume import Volume

if TYPE_CHECKING:
    import SimpleITK as sitk


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
    image_name, voxels = _read_image(image)
    mask_name, labels = _read_mask(mask)
    with naming(mask_name):
        found = cut(voxels, labels, label if label is not None else chosen.label, chosen)
    values, failures = compute_named(found, chosen, image_name, mask_name)
    for key, failure in failures.items():
        what = "a feature is NaN" if key in values else f"{key[-1]} has no values"
        warnings.warn(f"{mask_name}: {what}: {failure}", UserWarning, stacklevel=2)
    return {
        flat_name(image_type, family, feature): float(values[key][at]) if key in values else float("nan")
        for key in expected_keys(chosen)
        for _, image_type, family in [key]
        for at, feature in enumerate(chosen.features[family])
    }


def _read_image(source: str | Path | sitk.Image) -> tuple[str, Volume]:
    if isinstance(source, (str, Path)):
        return str(source), read_image(source)[0]
    return "image", _in_memory(source, "image")


def _read_mask(source: str | Path | sitk.Image) -> tuple[str, Volume]:
    if isinstance(source, (str, Path)):
        return str(source), read_mask(source)[0]
    volume = _in_memory(source, "mask")
    with naming("mask"):
        return "mask", Volume(as_labels(volume.array), volume.geometry)


def _in_memory(image: sitk.Image, kind: str) -> Volume:
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise ImageError(
            f"the {kind} must be a 3D image with one value a voxel, found {image.GetDimension()}D with "
            f"{image.GetNumberOfComponentsPerPixel()}"
        )
    return Volume.of(image)
