"""LBP3D: local binary patterns on a sphere, described by spherical harmonics, and the kurtosis of its samples.

Banerjee, Moelker, Niessen and van Walsum, "3D LBP-based rotationally invariant region description", ACCV 2012
workshops, doi:10.1007/978-3-642-37410-4_3. Samples are compared with ``>=``, so in flat areas the last bit of a
coordinate decides: all operations are pyradiomics', in its order.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hgpscale.filters.source import Reach, Source
from hgpscale.kernels.bspline import MARGIN
from hgpscale.kernels.target import CPU, Target
from hgpscale.volume import Index, Vector

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hgpscale.settings import Settings

_NUMBERS_AT_A_TIME = 4_000_000
"""Complex products held at once: 64 MB."""


class _Sphere(NamedTuple):
    """Sample points, added to ``(z, y, x)``, float64, shape ``(n, 3)``; the harmonics there, and their degrees."""

    points: NDArray[np.float64]
    harmonics: NDArray[np.complex128]
    degrees: NDArray[np.int64]


def reach(spacing: Vector, settings: Settings) -> Reach:
    """Return the sphere's radius and the tail of the B-spline's coefficients."""
    return Reach(_margin(settings))


def derive(source: Source, settings: Settings, on: Target = CPU) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Yield one image a level and the kurtosis, float64, 0 outside the region.

    The kurtosis is NaN where all samples are equal.
    """
    from scipy.ndimage import spline_filter

    part, start = source.around(_margin(settings))
    coefficients = spline_filter(part, order=3, output=np.float64)
    sphere = _sphere(settings)
    found = np.concatenate(
        [
            _patterns(part, coefficients, start, indices, sphere)
            for indices in _chunks(source, sphere.points.shape[0] * settings.lbp3DLevels**2)
        ]
    )
    names = [*(f"lbp-3D-m{level}" for level in range(1, settings.lbp3DLevels + 1)), "lbp-3D-k"]
    for name, values in zip(names, found.T, strict=True):
        image = np.zeros(source.mask.shape)
        image[source.mask] = values
        yield name, image


def _margin(settings: Settings) -> Index:
    margin = math.ceil(settings.lbp3DIcosphereRadius) + MARGIN
    return margin, margin, margin


def _chunks(source: Source, numbers_a_voxel: int) -> list[NDArray[np.int64]]:
    """Return the region's indices in the whole image, shape ``(n, 3)``, in pieces of bounded size."""
    indices = np.argwhere(source.mask) + np.array(source.box[0])
    n = max(1, _NUMBERS_AT_A_TIME // numbers_a_voxel)
    return [indices[i : i + n] for i in range(0, len(indices), n)]


def _sphere(settings: Settings) -> _Sphere:
    """Return points and harmonics; pyradiomics gives the polar angle for the azimuth and the reverse, kept here."""
    from scipy.special import sph_harm_y
    from trimesh.creation import icosphere

    radius = settings.lbp3DIcosphereRadius
    points = np.array(icosphere(settings.lbp3DIcosphereSubdivision, radius).vertices)
    polar = np.arccos(np.true_divide(points[:, 2], radius))
    azimuth = np.arctan2(points[:, 1], points[:, 0])
    kinds = [(degree, order) for degree in range(settings.lbp3DLevels) for order in range(-degree, degree + 1)]
    harmonics = np.column_stack([sph_harm_y(degree, order, azimuth, polar) for degree, order in kinds])
    return _Sphere(points, harmonics, np.array([degree for degree, _ in kinds]))


def _patterns(
    part: NDArray[Any], coefficients: NDArray[np.float64], start: Index, indices: NDArray[np.int64], sphere: _Sphere
) -> NDArray[np.float64]:
    """Return the level's patterns and the kurtosis, shape ``(n, levels + 1)``, at indices of the whole image."""
    from scipy.ndimage import map_coordinates
    from scipy.stats import kurtosis

    # Rounded as coordinates of the whole image, then moved, which is exact.
    points = indices[:, None, :] + sphere.points[None, :, :] - np.array(start)
    samples = map_coordinates(coefficients, points.transpose(2, 0, 1), order=3, prefilter=False, output=part.dtype)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # Equal samples: said by NaN.
        warnings.simplefilter("ignore")
        tails = kurtosis(samples, axis=1)
    at = tuple((indices - np.array(start)).T)
    signs = np.greater_equal(samples, part[at][:, None]).astype(int)
    return np.column_stack([_lengths(signs, sphere), tails])


def _lengths(signs: NDArray[np.int64], sphere: _Sphere) -> NDArray[np.float64]:
    """Return the length of the part of the signs that each degree of harmonics describes, shape ``(n, levels)``."""
    weights = np.multiply(signs[:, :, None], sphere.harmonics[None, :, :]).sum(axis=1)
    described = []
    for degree in range(sphere.degrees[-1] + 1):
        own = sphere.degrees == degree
        # Memory order decides the order of sums: index and multiply as pyradiomics does.
        products = np.multiply(weights[:, None, own], sphere.harmonics[None, :, own])
        described.append(np.sum(products, axis=2, keepdims=True))
    return np.real(np.sqrt(np.sum(np.concatenate(described, axis=2) ** 2, axis=1)))
