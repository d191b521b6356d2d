"""Image types: from the voxels around a region to filtered images of its box, one type a file.

Filters know arrays and where an image's borders are, nothing of files; what they need around the box they say by
`Filter.reach`. The images' names are in `hgpscale.catalog.IMAGE_TYPES`.

Wavelet, LoG and Gradient make their images where they are told to. The others make theirs on the host, whatever that
is: they are functions of one voxel, of which a GPU's exponentials and logarithms have other bits, or other libraries'.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from hgpscale.errors import SettingsError
from hgpscale.filters import gradient, intensity, lbp2d, lbp3d, log, wavelet
from hgpscale.filters.source import Derive, Reach, Source
from hgpscale.kernels.target import CPU, Target
from hgpscale.volume import Vector

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hgpscale.settings import Settings

__all__ = ["FILTERS", "SCALED_BY_PEAK", "Filter", "Reach", "Source", "missing", "require_packages"]


class Filter(NamedTuple):
    """One image type.

    Attributes
    ----------
    reach
        From spacing in mm ``(z, y, x)`` and settings to what is needed around a box.
    derive
        From a source, settings and a `Target` to names and images of the box, in the type that pyradiomics' image has;
        a `FilterError` in place of an image that pyradiomics leaves out. Images that were made on a GPU are there.
    packages
        What must be importable, by import name, and the name to install it by.

    """

    reach: Callable[[Vector, Settings], Reach]
    derive: Derive
    packages: Mapping[str, str] = MappingProxyType({})


def _original(source: Source, settings: Settings, on: Target = CPU) -> Iterator[tuple[str, NDArray[Any]]]:
    yield "original", source.wanted()


def _voxelwise(name: str, function: Any) -> Filter:
    return Filter(intensity.reach, intensity.voxelwise(name, function))


FILTERS: dict[str, Filter] = {
    "Original": Filter(intensity.reach, _original),
    "Wavelet": Filter(wavelet.reach, wavelet.derive, {"pywt": "PyWavelets"}),
    "LoG": Filter(log.reach, log.derive),
    "Square": _voxelwise("square", intensity.square),
    "SquareRoot": _voxelwise("squareroot", intensity.square_root),
    "Logarithm": _voxelwise("logarithm", intensity.logarithm),
    "Exponential": _voxelwise("exponential", intensity.exponential),
    "Gradient": Filter(gradient.reach, gradient.derive),
    "LBP2D": Filter(lbp2d.reach, lbp2d.derive, {"skimage": "scikit-image"}),
    "LBP3D": Filter(lbp3d.reach, lbp3d.derive, {"scipy": "scipy>=1.15", "trimesh": "trimesh"}),
}
"""By pyradiomics' name, in the order of `hgpscale.catalog.IMAGE_TYPES`."""

SCALED_BY_PEAK = frozenset({"Square", "SquareRoot", "Logarithm", "Exponential"})
"""The types that need `Source.peak`."""


def missing(settings: Settings) -> list[str]:
    """Return one line for each enabled image type whose packages are not installed: which, and what to install."""
    problems = []
    for name in settings.image_types:
        absent = [install for module, install in FILTERS[name].packages.items() if find_spec(module) is None]
        if absent:
            wanted = " ".join(f"'{package}'" for package in absent)
            problems.append(f"image type {name} needs packages that are not installed: pip install {wanted}")
    return problems


def require_packages(settings: Settings) -> None:
    """Raise `SettingsError` where an enabled image type needs a package that is not installed."""
    problems = missing(settings)
    if problems:
        raise SettingsError("; ".join(problems))
