"""Filters and resampling on a GPU against the CPU's: the same bits, and the time that they take.

    python benchmarks/gpu_filters.py [--sides 20 60 120] [--drawn 20]

Every result is compared with the CPU's, twice. Needs NumPy, numba, numba-cuda and a GPU; taps are drawn, so that
PyWavelets is not needed. Times begin with an image on the host and end with filtered images on it.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import gpu_kernels
import numpy as np
from gpu_kernels import Kernel

from hgpscale.filters import log
from hgpscale.filters.source import Source
from hgpscale.kernels.bspline import EXACT, SINGLE, WHOLE
from hgpscale.kernels.cuda.target import GPU
from hgpscale.kernels.target import CPU, Target

Array = np.ndarray[Any, Any]
N_TAPS = 6
"""As many as the default, coif1, has."""
ROUNDING = {np.int16: WHOLE, np.float32: SINGLE, np.float64: EXACT}


def fetched(there: Any, on: Target) -> Array:
    """Copy an array to the host if it is on the GPU."""
    return np.asarray(there if on is CPU else there.copy_to_host())


def convolved(voxels: Array, taps: Array, on: Target) -> list[Array]:
    """Convolve along each axis of an image that is twice as long as its period; the last samples once more, cut out."""
    found = []
    for axis, n in enumerate(voxels.shape):
        before, after = int(np.prod(voxels.shape[:axis])), int(np.prod(voxels.shape[axis + 1 :]))
        out = on.empty((before, n - N_TAPS + 1, after), voxels.dtype)
        lines = on.put(voxels, voxels.dtype).reshape(before, n, after)
        on.convolve(lines, on.put(taps, voxels.dtype), 1, n // 2, out)
        last = on.cut(out, (slice(0, before), slice(n - N_TAPS, n - N_TAPS + 1), slice(0, after)))
        found += [fetched(out, on), fetched(last, on)]
    return found


def laplacian(voxels: Array, on: Target) -> list[Array]:
    """Filter with LoG for the middle quarter of each axis."""
    lower, upper = ([n * eighths // 8 for n in voxels.shape] for eighths in (3, 5))
    mask = np.ones([b - a for a, b in zip(lower, upper, strict=True)], bool)
    where: Any = (0, 0, 0), voxels.shape, (1.0, 1.0, 1.0), (lower, upper)
    settings: Any = SimpleNamespace(sigma=(1.5,))
    return [fetched(image, on) for _, image in log.derive(Source(voxels, *where, mask, 1.0), settings, on)]


def interpolated(voxels: Array, on: Target) -> list[Array]:
    """Interpolate at steps of 1.4 voxels; what that takes, and the samples as resampling leaves them."""
    coefficients = on.spline_coefficients(voxels, tuple((0, n) for n in voxels.shape))
    along = [np.arange(0.3, n - 0.6, 1.4) for n in voxels.shape]
    samples = on.interpolate_box(coefficients, (0, 0, 0), voxels.shape, *along, ROUNDING[voxels.dtype.type])
    return [fetched(coefficients, on), samples.astype(voxels.dtype)]


def gradient(voxels: Array, on: Target) -> list[Array]:
    """Compute the gradient's magnitude at all but the outermost voxels."""
    out = on.empty(tuple(n - 2 for n in voxels.shape), np.float32)
    on.gradient_magnitude(on.put(voxels, voxels.dtype), 0.5, 0.7, 0.7, out)
    return [fetched(out, on)]


def surface(mask: Array, on: Target) -> list[Array]:
    """Count the cubes that the surface of a mask cuts, and list the edges."""
    return [*on.count_cubes(mask), on.surface_points(mask)]


def on_both(name: str, voxels: Array, function: Callable[..., list[Array]], *arguments: Any) -> Kernel:
    """Return a function of an image as a call on the CPU and one on the GPU."""
    calls = (partial(function, voxels, *arguments, on) for on in (CPU, GPU))
    return Kernel(f"{name}, {voxels.dtype.name}", *calls, None)


def kernels(shape: tuple[int, ...], rng: np.random.Generator) -> list[Kernel]:
    """Return filters and resampling as calls on an image of noise, half of which is flat."""
    image = np.where(np.arange(shape[2]) < shape[2] // 2, 37, rng.normal(60, 40, shape)).astype(np.int16)
    taps = rng.normal(size=N_TAPS)
    single, double = image.astype(np.float32), image.astype(np.float64)
    return [
        *(on_both("convolve (Wavelet)", voxels, convolved, taps) for voxels in (single, double)),
        *(on_both("filter_lines, add_scaled (LoG)", voxels, laplacian) for voxels in (single, double)),
        *(on_both("splines (resampling)", voxels, interpolated) for voxels in (image, single, double)),
        *(on_both("gradient", voxels, gradient) for voxels in (image, single, double)),
        on_both("surface (shape)", np.pad(image[1:-1, 1:-1, 1:-1] > 40, 1), surface),
    ]


def main() -> int:
    """Compare and time; 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[20, 60, 120])
    parser.add_argument("--drawn", type=int, default=20)
    chosen = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*[Gg]rid size")  # small images leave most of a GPU idle
    print(gpu_kernels.machine(), flush=True)
    rng, wrong = np.random.default_rng(0), 0
    for k in range(chosen.drawn):
        for one in kernels(tuple(rng.integers(8, 24, 3)), rng):
            if not all(gpu_kernels.same(one.on_gpu(), one.on_cpu()) for _ in range(2)):
                wrong += 1
                print(f"drawn image {k}: {one.name} differs")
    print(f"\n{chosen.drawn} drawn images, each kernel twice: {wrong} differ\n")
    print("| voxels a side | kernel | CPU ms | GPU ms | CPU / GPU | same |\n|---|---|---|---|---|---|")
    for side in chosen.sides:
        for one in kernels((side,) * 3, rng):
            expected = one.on_cpu()
            equal = all(gpu_kernels.same(one.on_gpu(), expected) for _ in range(2))
            wrong += not equal
            cpu, gpu = gpu_kernels.best(2, one.on_cpu), gpu_kernels.best(3, one.on_gpu)
            row = [side, one.name, f"{cpu:.2f}", f"{gpu:.2f}", f"{cpu / gpu:.1f}", "yes" if equal else "NO"]
            print("|", " | ".join(map(str, row)), "|", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
