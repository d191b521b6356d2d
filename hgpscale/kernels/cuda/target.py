"""A GPU as a place where images are made."""

from __future__ import annotations

from hgpscale.kernels.cuda import bspline, gradient, recursive_gaussian, surface, wavelet
from hgpscale.kernels.cuda.memory import empty, put, zeros
from hgpscale.kernels.target import Target

GPU = Target(
    put,
    empty,
    zeros,
    wavelet.cut,
    wavelet.convolve,
    recursive_gaussian.filter_lines,
    recursive_gaussian.add_scaled,
    bspline.spline_coefficients,
    bspline.interpolate_box,
    gradient.gradient_magnitude,
    surface.count_cubes,
    surface.surface_points,
)
"""The GPU that numba has chosen for this process."""
