"""Gradient: magnitude of the central differences, by SimpleITK."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from hgpscale.filters.source import Reach, Source, box_in
from hgpscale.kernels.target import CPU, Target
from hgpscale.volume import Vector

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hgpscale.settings import Settings


def reach(spacing: Vector, settings: Settings) -> Reach:
    """Return one voxel."""
    return Reach((1, 1, 1))


def derive(source: Source, settings: Settings, on: Target = CPU) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield one image, float32: the change per mm, or per voxel without `gradientUseSpacing`."""
    import SimpleITK as sitk

    part, start = source.around((1, 1, 1))
    image = sitk.GetImageFromArray(part)
    image.SetSpacing(source.spacing[::-1])
    magnitude = sitk.GradientMagnitude(image, settings.gradientUseSpacing)
    yield "gradient", sitk.GetArrayFromImage(magnitude)[box_in(source.box, start)]
