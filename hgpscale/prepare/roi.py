"""The region of interest: which voxels of a mask, and whether features can be computed on them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hgpscale.errors import GeometryError, MaskError
from hgpscale.volume import Geometry, Index, Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hgpscale.settings import Settings

_MANY = 10
"""Labels that a message lists before it says how many more there are."""


def choose_label(mask: Volume, label: int | None) -> int:
    """Return the mask value that marks the region.

    Parameters
    ----------
    mask
        Label map, whole non-negative numbers.
    label
        The value asked for, or None for the mask's only non-zero one.

    Raises
    ------
    MaskError
        The mask is empty, lacks `label`, or has several labels where none was asked for.

    """
    if label is not None and bool((mask.array == label).any()):
        return label
    highest = int(mask.array.max())
    if label is None and highest and not ((mask.array != 0) & (mask.array != highest)).any():
        return highest
    found = [int(value) for value in np.unique(mask.array) if value != 0]
    if not found:
        raise MaskError("the mask is empty: it holds no voxel other than 0; check that the right file was given")
    shown = ", ".join(map(str, found[:_MANY])) + (f" and {len(found) - _MANY} more" if len(found) > _MANY else "")
    if label is not None:
        raise MaskError(f"label {label} is not in the mask; it holds {shown}")
    if len(found) > 1:
        raise MaskError(f"the mask holds {len(found)} labels ({shown}); say which by a 'label' column or setting")
    return found[0]


def select(mask: Volume, label: int) -> Volume:
    """Return the region as a boolean volume cropped to its own box."""
    lower, upper = bounding_box(mask.array == label)
    shift = mask.start
    box = mask.crop(
        (lower[0] + shift[0], lower[1] + shift[1], lower[2] + shift[2]),
        (upper[0] + shift[0], upper[1] + shift[1], upper[2] + shift[2]),
    )
    return replace(box, array=box.array == label)


def bounding_box(mask: NDArray[np.bool_]) -> tuple[Index, Index]:
    """Return the first index and the index after the last ``(z, y, x)`` at which `mask` is set.

    Raises
    ------
    MaskError
        No voxel is set.

    """
    lower, upper = [], []
    for axis in range(3):
        hit = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        if hit.size == 0:
            raise MaskError("no voxel of the region is left on the grid that features are computed on")
        lower.append(int(hit[0]))
        upper.append(int(hit[-1]) + 1)
    return (lower[0], lower[1], lower[2]), (upper[0], upper[1], upper[2])


def check_size(roi: NDArray[np.bool_], settings: Settings) -> None:
    """Refuse a region, cropped to its box, that pyradiomics refuses too.

    Raises
    ------
    MaskError
        It is a single voxel, extends in fewer axes than `minimumROIDimensions`, or has `minimumROISize` voxels
        or fewer.

    """
    extent = sum(n > 1 for n in roi.shape)
    count = int(np.count_nonzero(roi))
    if count == 1:
        raise MaskError("the region is a single voxel; no texture or shape can be computed on it")
    if extent < settings.minimumROIDimensions:
        raise MaskError(
            f"the region's box of {_size(roi.shape)} voxels (z, y, x) extends in {extent} axis; "
            f"minimumROIDimensions is {settings.minimumROIDimensions}"
        )
    if settings.minimumROISize is not None and count <= settings.minimumROISize:
        raise MaskError(f"the region has {count} voxels; more than minimumROISize {settings.minimumROISize} needed")


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def corners_in(roi: Volume, grid: Geometry) -> NDArray[np.float64]:
    """Return the outer corners of `roi`'s box as continuous indices ``(z, y, x)`` of `grid`, shape ``(8, 3)``."""
    lower = np.array(roi.start) - 0.5
    upper = lower + roi.array.shape
    picks = np.array(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij")).reshape(3, 8).T
    points = [roi.geometry.point(tuple(corner)) for corner in np.where(picks, upper, lower)]
    to_index = np.linalg.inv(np.reshape(grid.direction, (3, 3)) * np.array(grid.spacing[::-1]))
    indices: NDArray[np.float64] = (np.array(points) - np.array(grid.origin)) @ to_index.T
    return indices[:, ::-1]


def check_inside(roi: Volume, image: Geometry) -> None:
    """Refuse a region on another grid whose box reaches outside the image; pyradiomics' rule, 0.001 voxel slack.

    Raises
    ------
    GeometryError
        Names the box in the image's continuous indices and the image's size.

    """
    corners = corners_in(roi, image)
    low, high = corners.min(axis=0), corners.max(axis=0)
    if np.any(low < -0.5 - 1e-3) or np.any(high > np.array(image.size) - 0.5 + 1e-3):
        raise GeometryError(
            f"the region reaches outside the image: its box is {_index(low)} to {_index(high)} in voxels "
            f"(z, y, x) of an image of {_size(image.size)}; the mask may belong to another scan"
        )


def _index(values: NDArray[Any]) -> str:
    return "(" + ", ".join(f"{value:.1f}" for value in values) + ")"
