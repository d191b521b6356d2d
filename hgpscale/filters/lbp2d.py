"""LBP2D: local binary patterns of the slices, by scikit-image."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from hgpscale.filters.source import Reach, Source
from hgpscale.kernels.target import CPU, Target
from hgpscale.volume import Index, Vector

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hgpscale.settings import Settings


def reach(spacing: Vector, settings: Settings) -> Reach:
    """Return the circle's radius and one voxel for interpolation, within the slice."""
    return Reach(_margin(settings))


def derive(source: Source, settings: Settings, on: Target = CPU) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield one image, in the image's own type.

    As pyradiomics writes the patterns back into the image, the method "var" loses its fractions where that is of
    integers, and its NaN (all points of a circle equal) becomes whatever the processor makes of it, 0 as a rule.
    """
    part, start = source.around(_margin(settings))
    across = settings.force2Ddimension
    slices = part.swapaxes(0, across)
    first = _swapped(start, across)
    lower, upper = _swapped(source.box[0], across), _swapped(source.box[1], across)
    patterns = np.empty((slices.shape[0], upper[1] - lower[1], upper[2] - lower[2]), part.dtype)
    for index, voxels in enumerate(slices):
        found = _patterns(voxels, first[1:], settings)
        with np.errstate(invalid="ignore"):
            patterns[index] = found[lower[1] : upper[1], lower[2] : upper[2]]
    yield "lbp-2D", patterns.swapaxes(0, across)


def _patterns(voxels: NDArray[Any], first: list[int], settings: Settings) -> NDArray[np.float64]:
    """Return the patterns of a slice from its origin on.

    Where voxels are equal the last bit of a coordinate decides, so they must count from the slice's origin: what is
    not held is filled in.
    """
    from skimage.feature import local_binary_pattern

    canvas = np.zeros([a + n for a, n in zip(first, voxels.shape, strict=True)], voxels.dtype)
    canvas[first[0] :, first[1] :] = voxels
    with warnings.catch_warnings():
        # That voxels are not integers is as pyradiomics has it.
        warnings.simplefilter("ignore")
        patterns: NDArray[np.float64] = local_binary_pattern(
            canvas, P=settings.lbp2DSamples, R=settings.lbp2DRadius, method=settings.lbp2DMethod
        )
    return patterns


def _margin(settings: Settings) -> Index:
    radius = math.ceil(settings.lbp2DRadius) + 1
    z, y, x = (0 if axis == settings.force2Ddimension else radius for axis in range(3))
    return z, y, x


def _swapped(index: Index, across: int) -> list[int]:
    """Exchange the first entry with that of the axis across the slices."""
    swapped = list(index)
    swapped[0], swapped[across] = swapped[across], swapped[0]
    return swapped
