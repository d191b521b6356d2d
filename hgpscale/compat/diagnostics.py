"""pyradiomics' ``diagnostics_*``: what image, mask and their intermediate stages were.

Names, order, types and values are those of pyradiomics' `generalinfo` module; of the versions the first is
hgpscale's own.
"""

from __future__ import annotations

import copy
import hashlib
import sys
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from hgpscale._version import __version__
from hgpscale.compat.scan import Scan
from hgpscale.prepare.prepared import Prepared, prepare
from hgpscale.prepare.resample import is_resampled
from hgpscale.prepare.resegment import resegment
from hgpscale.prepare.roi import bounding_box, select
from hgpscale.prepare.scan import normalise
from hgpscale.volume import Geometry, Volume, geometry_differences

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hgpscale.prepare.cut import Cut
    from hgpscale.settings import Settings

_PREFIX = "diagnostics_"


def diagnostics(
    scan: Scan, settings: Settings, setting: Mapping[str, Any], image_types: Mapping[str, Any]
) -> dict[str, Any]:
    """Describe an extraction.

    Parameters
    ----------
    scan
        What features are computed of.
    settings
        That decide the stages between the files and the features.
    setting, image_types
        As the extractor holds them; reported as they are.

    Raises
    ------
    MaskError, VoxelError
        As `prepare`.

    """
    image, mask, cut = scan
    found = {
        **_versions(),
        "Configuration_Settings": copy.deepcopy(dict(setting)),
        "Configuration_EnabledImageTypes": copy.deepcopy(dict(image_types)),
        "Image-original_Hash": _hash(image.array),
        "Image-original_Dimensionality": "3D",
        **_of_image("original", image.array, image.geometry),
        "Mask-original_Hash": _mask_hash(mask),
        **_of_mask("original", select(mask, cut.plan.label)),
        **_stages(scan, settings),
    }
    return {_PREFIX + name: value for name, value in found.items()}


@cache
def _versions() -> dict[str, str]:
    import pywt
    import SimpleITK as sitk

    return {
        "Versions_PyRadiomics": f"hgpscale {__version__}",
        "Versions_Numpy": np.__version__,
        "Versions_SimpleITK": sitk.Version().VersionString(),
        "Versions_PyWavelet": pywt.__version__,
        "Versions_Python": ".".join(map(str, sys.version_info[:3])),
    }


def _stages(scan: Scan, settings: Settings) -> dict[str, Any]:
    """Describe what comes between the files and the filters, as far as the settings ask for it."""
    image, mask, cut = scan
    moved = bool(geometry_differences(image.geometry, mask.geometry, settings.geometryTolerance))
    # With preCrop the mask is corrected too, but pyradiomics does not report it.
    corrected = moved and not settings.preCrop
    found: dict[str, Any] = {}
    if not (is_resampled(settings) or corrected or settings.resegmentRange is not None):
        return found
    whole = prepare(cut, settings.model_copy(update={"resegmentRange": None}))
    grid = _grid(image.geometry, image.geometry if moved or is_resampled(settings) else mask.geometry, cut)
    start = whole.source.box[0]
    voxels = _in_box(whole)
    roi = whole.source.mask
    if is_resampled(settings):
        found |= _of_image("interpolated", _framed(image, whole, cut, settings), grid)
        found |= _of_mask("interpolated", Volume(roi, grid, start), voxels[roi])
    elif corrected:
        found |= _of_mask("corrected", Volume(roi, grid, start), voxels[roi])
    if settings.resegmentRange is not None:
        kept = resegment(roi, voxels, settings)
        found |= _of_mask("resegmented", Volume(kept, grid, start), voxels[kept])
    return found


def _grid(image: Geometry, own: Geometry, cut: Cut) -> Geometry:
    """Return the grid that filters see: the new one, or a crop of the region's own."""
    if cut.plan.grid is not None:
        return cut.plan.grid
    lower, upper = cut.plan.frame
    if upper == image.size and not any(lower):
        return own
    size = (upper[0] - lower[0], upper[1] - lower[1], upper[2] - lower[2])
    return Geometry(size, own.spacing, _point(own, lower), own.direction)


def _framed(image: Volume, whole: Prepared, cut: Cut, settings: Settings) -> NDArray[Any]:
    """Return the voxels of the whole image that filters see."""
    if cut.plan.grid is not None:
        return whole.source.voxels
    voxels = image.crop(*cut.plan.frame).array
    if cut.scan is not None and settings.normalize:
        return normalise(voxels, cut.scan, settings)
    return voxels


def _in_box(prepared: Prepared) -> NDArray[Any]:
    source = prepared.source
    lower, upper = source.box
    return source.voxels[tuple(slice(a - s, b - s) for a, b, s in zip(lower, upper, source.start, strict=True))]


def _of_image(stage: str, voxels: NDArray[Any], grid: Geometry) -> dict[str, Any]:
    return {
        f"Image-{stage}_Spacing": grid.spacing[::-1],
        f"Image-{stage}_Size": grid.size[::-1],
        **_intensities(f"Image-{stage}", voxels),
    }


def _of_mask(stage: str, roi: Volume, values: NDArray[Any] | None = None) -> dict[str, Any]:
    """Describe a region, bool, on a grid; `values` are the image's voxels inside it."""
    lower, upper = bounding_box(roi.array)
    inside = np.argwhere(roi.array)
    # Whole numbers until the division: the sum of the coordinates on the whole grid is exact, as pyradiomics' is.
    z, y, x = (inside.sum(axis=0) + np.array(roi.start) * len(inside)) / len(inside)
    return {
        f"Mask-{stage}_Spacing": roi.geometry.spacing[::-1],
        f"Mask-{stage}_Size": roi.geometry.size[::-1],
        f"Mask-{stage}_BoundingBox": (
            *(start + low for start, low in zip(roi.start[::-1], lower[::-1], strict=True)),
            *(high - low for high, low in zip(upper[::-1], lower[::-1], strict=True)),
        ),
        f"Mask-{stage}_VoxelNum": len(inside),
        f"Mask-{stage}_VolumeNum": _connected(roi.array),
        f"Mask-{stage}_CenterOfMassIndex": (x, y, z),
        f"Mask-{stage}_CenterOfMass": _point(roi.geometry, (z, y, x)),
        **({} if values is None else _intensities(f"Mask-{stage}", values)),
    }


def _intensities(what: str, voxels: NDArray[Any]) -> dict[str, np.float64]:
    # A sum of whole numbers is exact in whatever order; that of others is numpy's over a float64 array.
    numbers = voxels if voxels.dtype.kind in "iu" else voxels.astype(np.float64)
    return {
        f"{what}_Mean": np.mean(numbers, dtype=np.float64),
        f"{what}_Minimum": np.float64(np.min(numbers)),
        f"{what}_Maximum": np.float64(np.max(numbers)),
    }


def _hash(voxels: NDArray[Any]) -> str:
    """Return SHA-1 of the voxels' bytes, x fastest, as `sitk.Hash` does."""
    return hashlib.sha1(np.ascontiguousarray(voxels).data, usedforsecurity=False).hexdigest()


def _mask_hash(mask: Volume) -> str:
    """Return SHA-1 of a whole label map as uint32, one plane at a time: pyradiomics hashes the mask in that type."""
    digest = hashlib.sha1(usedforsecurity=False)
    (z0, y0, x0), (z1, y1, x1) = mask.box
    for z in range(mask.geometry.size[0]):
        plane = np.zeros(mask.geometry.size[1:], dtype=np.uint32)
        if z0 <= z < z1:
            plane[y0:y1, x0:x1] = mask.array[z - z0]
        digest.update(plane.data)
    return digest.hexdigest()


def _connected(roi: NDArray[np.bool_]) -> int:
    """Return the number of groups of voxels that touch by a face, an edge or a corner."""
    import SimpleITK as sitk

    groups = sitk.ConnectedComponentImageFilter()
    groups.FullyConnectedOn()
    groups.Execute(sitk.GetImageFromArray(roi.view(np.uint8)))
    return int(groups.GetObjectCount())


def _point(grid: Geometry, index: tuple[float, float, float]) -> tuple[float, float, float]:
    """Return the physical point ``(x, y, z)`` of a continuous index ``(z, y, x)``, by ITK itself to the last bit."""
    import SimpleITK as sitk

    probe = sitk.Image(1, 1, 1, sitk.sitkUInt8)
    probe.SetSpacing(grid.spacing[::-1])
    probe.SetOrigin(grid.origin)
    probe.SetDirection(grid.direction)
    x, y, z = probe.TransformContinuousIndexToPhysicalPoint([float(at) for at in index[::-1]])
    return x, y, z
