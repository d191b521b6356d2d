"""Square, SquareRoot, Logarithm and Exponential: functions of one voxel, scaled by the whole image's peak.

pyradiomics' operations in its order, in float64. An image of zeros gives NaN where pyradiomics divides by its peak.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from hgpscale.filters.source import Derive, Reach, Source
from hgpscale.kernels.target import CPU, Target
from hgpscale.volume import Vector

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hgpscale.settings import Settings


def reach(spacing: Vector, settings: Settings) -> Reach:
    """Return no margin at all."""
    return Reach((0, 0, 0))


def voxelwise(name: str, function: Callable[[NDArray[np.float64], np.float64], NDArray[np.float64]]) -> Derive:
    """Return the filter that applies `function`, of the voxels and the image's peak, under `name`."""

    def derive(source: Source, settings: Settings, on: Target = CPU) -> Iterator[tuple[str, NDArray[np.float64]]]:
        # Overflow and 0 / 0 give infinities and NaN, which whoever takes the values looks for.
        with np.errstate(all="ignore"):
            image = function(source.wanted().astype(np.float64), np.float64(source.peak))
        yield name, image

    return derive


def square(voxels: NDArray[np.float64], peak: np.float64) -> NDArray[np.float64]:
    """Return ``(c x)^2`` with ``c = 1 / sqrt(peak)``."""
    result: NDArray[np.float64] = (1 / np.sqrt(peak) * voxels) ** 2
    return result


def square_root(voxels: NDArray[np.float64], peak: np.float64) -> NDArray[np.float64]:
    """Return ``sqrt(c |x|)`` with the sign of x and ``c = peak``."""
    return np.copysign(np.sqrt(np.abs(voxels) * peak), voxels)


def logarithm(voxels: NDArray[np.float64], peak: np.float64) -> NDArray[np.float64]:
    """Return ``c log(|x| + 1)`` with the sign of x and ``c = peak / log(peak + 1)``."""
    result: NDArray[np.float64] = np.copysign(np.log(np.abs(voxels) + 1), voxels) * (peak / np.log(peak + 1))
    return result


def exponential(voxels: NDArray[np.float64], peak: np.float64) -> NDArray[np.float64]:
    """Return ``exp(c x)`` with ``c = log(peak) / peak``."""
    result: NDArray[np.float64] = np.exp(np.log(peak) / peak * voxels)
    return result
