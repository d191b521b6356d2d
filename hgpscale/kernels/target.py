"""Where images and surfaces are made: what filters, resampling and shape need of the machine that computes them."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from hgpscale.kernels import bspline, gradient, recursive_gaussian, surface, wavelet


class Target(NamedTuple):
    """Arrays that lie in one place, and the kernels that compute there: the same bits everywhere.

    Attributes
    ----------
    put
        From an array on the host and a type to a contiguous array there.
    empty, zeros
        From a shape and a type to a new array there.
    cut
        From an array there and three slices that say where they begin and end to that part of it, a copy or not.
    convolve
        See `hgpscale.kernels.wavelet`; all arrays lie there.
    filter_lines, add_scaled
        See `hgpscale.kernels.recursive_gaussian`; all arrays lie there.
    spline_coefficients
        See `hgpscale.kernels.bspline`: from an array on the host to coefficients there.
    interpolate_box
        See `hgpscale.kernels.bspline`: from coefficients there to samples on the host.
    gradient_magnitude
        See `hgpscale.kernels.gradient`; all arrays lie there.
    count_cubes, surface_points
        See `hgpscale.kernels.surface`: from a mask on the host to counts and points on the host.

    """

    put: Callable[..., Any]
    empty: Callable[..., Any]
    zeros: Callable[..., Any]
    cut: Callable[..., Any]
    convolve: Callable[..., None]
    filter_lines: Callable[..., None]
    add_scaled: Callable[..., None]
    spline_coefficients: Callable[..., Any]
    interpolate_box: Callable[..., Any]
    gradient_magnitude: Callable[..., None]
    count_cubes: Callable[..., Any]
    surface_points: Callable[..., Any]


CPU = Target(
    put=np.ascontiguousarray,
    empty=np.empty,
    zeros=np.zeros,
    cut=operator.getitem,
    convolve=wavelet.convolve,
    filter_lines=recursive_gaussian.filter_lines,
    add_scaled=recursive_gaussian.add_scaled,
    spline_coefficients=bspline.spline_coefficients,
    interpolate_box=bspline.interpolate_box,
    gradient_magnitude=gradient.gradient_magnitude,
    count_cubes=surface.count_cubes,
    surface_points=surface.surface_points,
)
