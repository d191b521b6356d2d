"""LoG: Laplacian of Gaussian by ITK's recursive filters, with ITK's bits.

As in ``itk::LaplacianRecursiveGaussianImageFilter``: for x, y and z the second derivative along that axis, then
smoothing along the others in that order, each pass computed in double and rounded to single precision; the three are
added in single precision. Where an image is flat for many deviations around, the result is a mere rounding error that
depends on where a line begins: there a part of an image and the whole of it differ in that error.
Coefficients: Farneback and Westin, "Improving Deriche-style recursive Gaussian filters",
Journal of Mathematical Imaging and Vision 26, 2006, as in ``itk::RecursiveGaussianImageFilter``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hgpscale.errors import FilterError
from hgpscale.filters.source import Reach, Source
from hgpscale.kernels.target import CPU, Target
from hgpscale.volume import Index, Vector

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hgpscale.settings import Settings

_AXES = (2, 1, 0)
"""ITK's order: x, y, z."""

_TAIL = 28.0
"""Margin in deviations of the Gaussian; a sample beyond it weighs less than exp(-28 * 1.37) = 2e-17."""

_SHORTEST = 4
"""Voxels that ITK's filter needs along each axis."""

# Deriche's operator: cosine and sine weights of two damped waves for the Gaussian and its second derivative,
# their frequencies and their decay.
_GAUSSIAN = (1.3530, 1.8151, -0.3531, 0.0902)
_SECOND = (-1.3563, 5.2318, 0.3446, -2.2355)
_WAVES = (0.6681, 2.0787)
_DECAYS = (-1.3932, -1.3732)


class _Recursion(NamedTuple):
    """Weights of both directions as `filter_lines` takes them."""

    forwards: NDArray[np.float64]
    backwards: NDArray[np.float64]


def reach(spacing: Vector, settings: Settings) -> Reach:
    """Return the margin of the widest filter, a number of its deviations."""
    return Reach(_margin(spacing, max(settings.sigma, default=0)))


def derive(
    source: Source, settings: Settings, on: Target = CPU
) -> Iterator[tuple[str, NDArray[np.float32] | FilterError]]:
    """Yield one image a sigma, float32, or why the image is too small for it."""
    for sigma in settings.sigma:
        problem = _problem(source, sigma)
        found = FilterError(problem) if problem else _laplacian(source, sigma, on)
        yield f"log-sigma-{str(sigma).replace('.', '-')}-mm-3D", found


def _margin(spacing: Vector, sigma: float) -> Index:
    z, y, x = (math.ceil(_TAIL * sigma / step) + _SHORTEST for step in spacing)
    return z, y, x


def _problem(source: Source, sigma: float) -> str | None:
    size = " x ".join(map(str, source.size))
    if min(source.size) < _SHORTEST:
        return f"LoG needs at least {_SHORTEST} voxels along every axis, the image has {size} (z, y, x)"
    if sigma <= 0:
        return f"LoG needs a sigma above 0 mm, found {sigma:g}"
    least = [math.ceil(sigma / step) + 1 for step in source.spacing]
    if any(n < need for n, need in zip(source.size, least, strict=True)):
        needed = " x ".join(map(str, least))
        return f"LoG with sigma {sigma:g} mm needs {needed} voxels (z, y, x), the image has {size}; use a smaller sigma"
    return None


def _laplacian(source: Source, sigma: float, on: Target) -> NDArray[np.float32]:
    part, start = source.around(_margin(source.spacing, sigma))
    # Single precision holds these exactly, in half the memory.
    exact = np.can_cast(part.dtype, np.float32)
    there = on.put(part, np.float32 if exact else np.float64)
    needed = [(a - s, b - s) for a, b, s in zip(*source.box, start, strict=True)]
    total: NDArray[np.float32] = on.zeros(source.mask.shape, np.float32)
    for across in _AXES:
        step = source.spacing[across]
        work: NDArray[Any] = there
        for axis in (across, *(axis for axis in _AXES if axis != across)):
            recursion = (_second_derivative if axis == across else _smoothing)(sigma, source.spacing[axis])
            work = _filtered(work, axis, needed[axis], recursion, on)
        on.add_scaled(work, 1.0 / (step * step), total)
    return total


def _filtered(
    voxels: NDArray[Any], axis: int, needed: tuple[int, int], recursion: _Recursion, on: Target
) -> NDArray[np.float32]:
    """Filter along one axis, which then has done its duty and loses its margin."""
    shape = list(voxels.shape)
    lines = voxels.reshape(math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]))
    shape[axis] = needed[1] - needed[0]
    out: NDArray[np.float32] = on.empty(tuple(shape), np.float32)
    kept = out.reshape(lines.shape[0], shape[axis], lines.shape[2])
    weights = (on.put(each, np.float64) for each in recursion)
    on.filter_lines(lines, *weights, needed[0], kept)
    return out


def _smoothing(sigma: float, step: float) -> _Recursion:
    """Return the filter of order 0: its weights sum up to 1."""
    d = _output_weights(sigma / step)
    n = _input_weights(sigma / step, *_GAUSSIAN)
    total = _sum(d)
    gain = 2 * _moments(n)[0] / total - n[0]
    return _both_ways([weight * (1.0 / gain) for weight in n], d)


def _second_derivative(sigma: float, step: float) -> _Recursion:
    """Return the filter of order 2, times sigma squared: 0 for constants, right for parabolas."""
    d = _output_weights(sigma / step)
    n0, n2 = _input_weights(sigma / step, *_GAUSSIAN), _input_weights(sigma / step, *_SECOND)
    (sn0, dn0, en0), (sn2, dn2, en2) = _moments(n0), _moments(n2)
    sd = _sum(d)
    dd = d[0] + 2 * d[1] + 3 * d[2] + 4 * d[3]
    ed = d[0] + 4 * d[1] + 9 * d[2] + 16 * d[3]
    beta = -(2 * sn2 - sd * n2[0]) / (2 * sn0 - sd * n0[0])
    n = [b + beta * a for a, b in zip(n0, n2, strict=True)]
    sn, dn, en = sn2 + beta * sn0, dn2 + beta * dn0, en2 + beta * en0
    gain = en * sd * sd - ed * sn * sd - 2 * dn * dd * sd + 2 * dd * dd * sn
    gain /= sd * sd * sd
    return _both_ways([weight * (sigma * sigma / gain) for weight in n], d)


def _input_weights(width: float, a1: float, b1: float, a2: float, b2: float) -> list[float]:
    """Return the four weights of the input for a width in voxels."""
    sin1, sin2 = (math.sin(wave / width) for wave in _WAVES)
    cos1, cos2 = (math.cos(wave / width) for wave in _WAVES)
    exp1, exp2 = (math.exp(decay / width) for decay in _DECAYS)
    n1 = exp2 * (b2 * sin2 - (a2 + 2 * a1) * cos2)
    n1 += exp1 * (b1 * sin1 - (a1 + 2 * a2) * cos1)
    n2 = (a1 + a2) * cos2 * cos1
    n2 -= b1 * cos2 * sin1 + b2 * cos1 * sin2
    n2 *= 2 * exp1 * exp2
    n2 += a2 * exp1 * exp1 + a1 * exp2 * exp2
    n3 = exp2 * exp1 * exp1 * (b2 * sin2 - a2 * cos2)
    n3 += exp1 * exp2 * exp2 * (b1 * sin1 - a1 * cos1)
    return [a1 + a2, n1, n2, n3]


def _output_weights(width: float) -> list[float]:
    """Return the four weights of earlier output for a width in voxels."""
    cos1, cos2 = (math.cos(wave / width) for wave in _WAVES)
    exp1, exp2 = (math.exp(decay / width) for decay in _DECAYS)
    d1 = -2 * (exp2 * cos2 + exp1 * cos1)
    d2 = 4 * cos2 * cos1 * exp1 * exp2
    d2 += exp1 * exp1 + exp2 * exp2
    d3 = -2 * cos1 * exp1 * exp2 * exp2
    d3 += -2 * cos2 * exp2 * exp1 * exp1
    return [d1, d2, d3, exp1 * exp1 * exp2 * exp2]


def _moments(n: list[float]) -> tuple[float, float, float]:
    """Return the sums of the weights, of weight times lag, and of weight times lag squared."""
    return n[0] + n[1] + n[2] + n[3], n[1] + 2 * n[2] + 3 * n[3], n[1] + 4 * n[2] + 9 * n[3]


def _sum(d: list[float]) -> float:
    return 1.0 + d[0] + d[1] + d[2] + d[3]


def _both_ways(n: list[float], d: list[float]) -> _Recursion:
    """Add the backwards pass of a symmetric filter, and what stands for output beyond the ends."""
    m = [n[1] - d[0] * n[0], n[2] - d[1] * n[0], n[3] - d[2] * n[0], -d[3] * n[0]]
    sn, sm, sd = n[0] + n[1] + n[2] + n[3], m[0] + m[1] + m[2] + m[3], _sum(d)
    return _Recursion(
        np.array([n, d, [weight * sn / sd for weight in d]]),
        np.array([m, d, [weight * sm / sd for weight in d]]),
    )
