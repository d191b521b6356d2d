"""Gradient: magnitude of the central differences, with ITK's bits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from hgpscale.filters.source import Reach, Source
from hgpscale.kernels.target import CPU, Target
from hgpscale.volume import Vector

if TYPE_CHECKING:
    from hgpscale.settings import Settings


def reach(spacing: Vector, settings: Settings) -> Reach:
    """Return one voxel."""
    return Reach((1, 1, 1))


def derive(source: Source, settings: Settings, on: Target = CPU) -> Iterator[tuple[str, Any]]:
    """Yield one image, float32: the change per mm, or per voxel without `gradientUseSpacing`."""
    part, start = source.around((1, 1, 1))
    lower, upper = source.box
    # Where the image ends, its last voxel goes on.
    lacking = [(1 - (a - s), int(s + n == b)) for a, b, s, n in zip(lower, upper, start, part.shape, strict=True)]
    voxels = np.pad(part, lacking, "edge") if np.any(lacking) else part
    z, y, x = (0.5 * (1.0 / step) if settings.gradientUseSpacing else 0.5 for step in source.spacing)
    out = on.empty(source.mask.shape, np.float32)
    on.gradient_magnitude(on.put(voxels, voxels.dtype), z, y, x, out)
    yield "gradient", out
