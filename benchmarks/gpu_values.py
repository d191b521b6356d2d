"""A region's values on a GPU against the CPU's: gathered, put into bins, laid out as ranks, summed up and sorted.

    python benchmarks/gpu_values.py [--diameters 20 45 90] [--images 1 8 64] [--drawn 20]

Bins, ranks and percentiles are compared to the bit, sums to 1e-9, all twice. Needs NumPy, numba, numba-cuda and a GPU;
times begin with images that are on the GPU.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import gpu_kernels
import numpy as np
from gpu_kernels import Kernel

from hgpscale.kernels.cast import level_grid, padded_box
from hgpscale.kernels.cuda import digitize as cuda_digitize
from hgpscale.kernels.cuda import statistics as cuda_statistics
from hgpscale.kernels.cuda.memory import empty, put
from hgpscale.kernels.digitize import digitize
from hgpscale.kernels.statistics import statistics_of

Array = np.ndarray[Any, Any]
N_BIN = 32


def gathered(mask: Array, images: list[Array]) -> Any:
    """Return the region's values of images, on the GPU."""
    voxels, values = put(np.flatnonzero(mask)), empty((len(images), int(mask.sum())), np.float64)
    for k, image in enumerate(images):
        cuda_statistics.gather(put(image), voxels, values[k])
    return values


def kernels(mask: Array, images: list[Array]) -> list[Kernel]:
    """Return steps as calls on a region and its images, float32 or float64."""
    rows = [image[mask].astype(np.float64) for image in images]
    edges = [np.linspace(row.min(), row.max() + 1, N_BIN + 1) for row in rows]
    box, values = padded_box(mask, 1), gathered(mask, images)
    sorted_in = [digitize(row, own) for row, own in zip(rows, edges, strict=True)]
    levels = [np.flatnonzero(counts) for _, counts in sorted_in]
    bins = put(np.stack([found for found, _ in sorted_in]))

    def on_gpu() -> list[Array]:
        found, counts = cuda_digitize.digitize_of(values, edges)
        return [*np.asarray(found.copy_to_host()), *counts]

    def statistics() -> list[Array]:
        extremes = cuda_statistics.extremes_of(values)
        return [np.hstack(found) for found in cuda_statistics.statistics_of(values, extremes, [0.0] * len(rows))]

    stack = range(len(rows))
    return [
        Kernel("gather", lambda: rows, lambda: [*np.asarray(gathered(mask, images).copy_to_host())], None),
        Kernel("digitize", lambda: [*(b for b, _ in sorted_in), *(n for _, n in sorted_in)], on_gpu, None),
        Kernel(
            "lay out ranks",
            lambda: [level_grid(b, own, box).flat for (b, _), own in zip(sorted_in, levels, strict=True)],
            lambda: [*np.asarray(cuda_digitize.lay_ranks(bins, stack, levels, box).flats.copy_to_host())],
            None,
        ),
        Kernel("first order", lambda: [np.hstack(statistics_of(row, 0.0)) for row in rows], statistics, None),
    ]


def same(one: Kernel, found: list[Array]) -> bool:
    """Whether a result is the CPU's."""
    if one.name != "first order":
        return gpu_kernels.same(found, one.on_cpu())
    return all(np.allclose(a, b, rtol=1e-9, atol=1e-9) for a, b in zip(found, one.on_cpu(), strict=True))


def ball(diameter: int, n_image: int, rng: np.random.Generator) -> tuple[Array, list[Array]]:
    """Return a sphere, and images of noise of both types in turn."""
    axis = np.arange(diameter) - (diameter - 1) / 2
    mask = (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2) <= (diameter / 2) ** 2
    types = (np.float32, np.float64)
    return mask, [rng.normal(60, 40, mask.shape).astype(types[k % 2]) for k in range(n_image)]


def main() -> int:
    """Compare and time; 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--diameters", type=int, nargs="+", default=[20, 45, 90])
    parser.add_argument("--images", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--drawn", type=int, default=20)
    chosen = parser.parse_args()
    print(gpu_kernels.machine(), flush=True)
    rng, wrong = np.random.default_rng(0), 0
    for k in range(chosen.drawn):
        for one in kernels(*ball(int(rng.integers(3, 14)), int(rng.integers(1, 4)), rng)):
            if not all(same(one, one.on_gpu()) for _ in range(2)):
                wrong += 1
                print(f"drawn region {k}: {one.name} differs")
    print(f"\n{chosen.drawn} drawn regions, each step twice: {wrong} differ\n")
    print("| sphere mm | images | step | GPU ms | same |\n|---|---|---|---|---|")
    for diameter, n_image in [(d, n) for d in chosen.diameters for n in chosen.images]:
        for one in kernels(*ball(diameter, n_image, rng)):
            equal = all(same(one, one.on_gpu()) for _ in range(2))
            wrong += not equal
            row = [diameter, n_image, one.name, f"{gpu_kernels.best(3, one.on_gpu):.2f}", "yes" if equal else "NO"]
            print("|", " | ".join(map(str, row)), "|", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
