"""A GPU as a place where images are made."""

from __future__ import annotations

from hgpscale.kernels.cuda import bspline, gradient, recursive_gaussian, surface, wavelet
from hgpscale.kernels.cuda.memory import empty, put, zeros
from hgpscale.kernels.target import Target

GPU = Target(
    put=put,
    empty=empty,
    zeros=zeros,
    cut=wavelet.cut,
    convolve=wavelet.convolve,
    filter_lines=recursive_gaussian.filter_lines,
    add_scaled=recursive_gaussian.add_scaled,
    spline_coefficients=bspline.spline_coefficients,
    interpolate_box=bspline.interpolate_box,
    gradient_magnitude=gradient.gradient_magnitude,
    count_cubes=surface.count_cubes,
    surface_points=surface.surface_points,
)
"""The GPU that numba has chosen for this process."""
