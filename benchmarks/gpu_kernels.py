"""The kernels for a GPU against those of the CPU, on a GPU: the same integers, and the time that they take.

    python benchmarks/gpu_kernels.py [--diameters 20 45 90] [--images 1 8 64] [--drawn 40]

Every result is compared with the CPU kernel's, twice. Needs NumPy, numba, numba-cuda and a GPU; times are those of the
kernels alone, which begin with a region's grey levels and end with integers on the host.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numba import cuda

from hgpscale.kernels import chains, gldm, glszm, ngtdm
from hgpscale.kernels.cast import Box, LevelGrid, level_grid, padded_box
from hgpscale.kernels.cuda import chains as cuda_chains
from hgpscale.kernels.cuda import gldm as cuda_gldm
from hgpscale.kernels.cuda import glszm as cuda_glszm
from hgpscale.kernels.cuda import ngtdm as cuda_ngtdm
from hgpscale.kernels.cuda.stack import upload
from hgpscale.kernels.offsets import all_offsets, half_offsets

Array = np.ndarray[Any, Any]
N_LEVEL = 32
NEIGHBOURS: list[tuple[tuple[int, ...], int | None]] = [((1,), None), ((2,), None), ((1, 2), None), ((1,), 0)]


class Region(NamedTuple):
    """Images of one region."""

    box: Box
    bins: list[Array]
    levels: list[Array]
    grids: list[LevelGrid]
    longest: int


class Kernel(NamedTuple):
    """One kernel: two calls that return arrays to compare, and what a GPU does once it has the images."""

    name: str
    on_cpu: Callable[[], list[Array]]
    on_gpu: Callable[[], list[Array]]
    resident: Callable[[], object] | None


def lay(mask: Array, bins: list[Array], reach: int) -> Region:
    """Lay images into a padded box."""
    box = padded_box(mask, reach)
    levels = [np.unique(found).astype(np.int64) for found in bins]
    grids = [level_grid(found, present, box) for found, present in zip(bins, levels, strict=True)]
    return Region(box, bins, levels, grids, max(mask.shape))


def phantom(diameter: int, n_image: int, rng: np.random.Generator) -> Region:
    """Fill a sphere, 1 mm voxels, with images of smooth noise in `N_LEVEL` levels."""
    axis = np.arange(diameter) - (diameter - 1) / 2
    mask = (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2) <= (diameter / 2) ** 2
    wave = [np.fft.fftfreq(diameter), np.fft.fftfreq(diameter), np.fft.rfftfreq(diameter)]
    square = wave[0][:, None, None] ** 2 + wave[1][:, None] ** 2 + wave[2] ** 2
    images = []
    for _ in range(n_image):
        noise = np.fft.rfftn(rng.standard_normal(mask.shape)) * np.exp(-2 * (np.pi * 1.5) ** 2 * square)
        values = np.fft.irfftn(noise, mask.shape, axes=(0, 1, 2))[mask]
        share = (values - values.min()) / np.ptp(values)
        images.append(np.minimum(1 + share * N_LEVEL, N_LEVEL).astype(np.int32))
    return lay(mask, images, 1)


def drawn_region(rng: np.random.Generator) -> Region:
    """Draw a small region with holes, and one to three images with gaps between their levels."""
    mask = rng.random(rng.integers(1, 13, 3)) < rng.choice([0.5, 0.9, 1.0])
    mask.flat[0] = True
    levels = np.array([1, 2, 3, 7, 40], dtype=np.int32)[: rng.integers(1, 6)]
    return lay(mask, [rng.choice(levels, int(mask.sum())) for _ in range(rng.integers(1, 4))], 2)


def kernels(region: Region, distances: tuple[int, ...], across: int | None, follow: bool, alpha: int) -> list[Kernel]:
    """Return the kernels as calls on a region."""
    box, bins, levels, grids, longest = region
    half, whole = half_offsets(distances, across), all_offsets(distances, across)
    follows = longest if follow else None
    n_level = np.array([grid.n_levels for grid in grids])
    widths = np.array([chains.n_states(grid, follows) for grid in grids])
    inside = box.fill(np.zeros(box.voxels.size, np.int32), np.ones(1, np.int32))
    near = ngtdm.sum_neighbours(inside, box, distances, across)
    stack = upload(grids)
    near_there = cuda.to_device(near)
    return [
        Kernel(
            "count_chains (GLCM, GLRLM)",
            lambda: [found.counts for found in chains.count_chains(grids, half, follows)],
            lambda: [found.counts for found in cuda_chains.count_chains(grids, half, follows)],
            lambda: cuda_chains.count_chains_of(stack, n_level, widths, half, follow),
        ),
        Kernel(
            "zones (GLSZM)",
            lambda: list(chain.from_iterable(glszm.zones(grid, across) for grid in grids)),
            lambda: list(chain.from_iterable(cuda_glszm.zones_of_images(grids, across))),
            lambda: cuda_glszm.zones_of(stack, across),
        ),
        Kernel(
            "count_dependence (GLDM)",
            lambda: [gldm.count_dependence(g, found, whole, alpha) for g, found in zip(grids, levels, strict=True)],
            lambda: cuda_gldm.count_dependence_of_images(grids, levels, whole, alpha),
            lambda: cuda_gldm.count_dependence_of(stack, levels, whole, alpha),
        ),
        Kernel(
            "sum_neighbours (NGTDM), mask",
            lambda: [ngtdm.sum_neighbours(inside, box, distances, across)[box.voxels]],
            lambda: [cuda_ngtdm.sum_neighbours(inside, box, distances, across)[box.voxels]],
            None,
        ),
        Kernel(
            "count_differences (NGTDM)",
            lambda: [
                ngtdm.count_differences(image, found, box, distances, across, near)
                for image, found in zip(bins, levels, strict=True)
            ],
            lambda: cuda_ngtdm.count_differences_of_images(bins, levels, box, distances, across, near),
            lambda: cuda_ngtdm.count_differences_of(stack, near_there, levels, distances, across),
        ),
    ]


def same(found: list[Array], expected: list[Array]) -> bool:
    """Whether all arrays have the same integers in the same type."""
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def best(rounds: int, call: Callable[[], object]) -> float:
    """Return the shortest time in ms."""
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        call()
        cuda.synchronize()
        times.append(1000 * (time.perf_counter() - begun))
    return min(times)


def machine() -> str:
    """Name the GPU, its driver, the CPU and the packages."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    cpu = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    packages = [f"{name} {version(name)}" for name in ("numpy", "numba", "numba-cuda", "cuda-bindings")]
    gpu = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    capability = ".".join(map(str, cuda.get_current_device().compute_capability))
    release = ".".join(map(str, cuda.runtime.get_version()))
    python = f"Python {platform.python_version()}, {', '.join(packages)}"
    return f"{gpu} (name, driver), compute capability {capability}, CUDA {release}; {cpu[0]}; {python}"


def main() -> int:
    """Compare and time; 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--diameters", type=int, nargs="+", default=[20, 45, 90])
    parser.add_argument("--images", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--drawn", type=int, default=40)
    chosen = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*[Gg]rid size")  # small regions leave most of a GPU idle
    print(machine(), flush=True)
    rng, wrong = np.random.default_rng(0), 0
    for k in range(chosen.drawn):
        for one in kernels(drawn_region(rng), *NEIGHBOURS[k % len(NEIGHBOURS)], k % 3 > 0, k % 5):
            if not all(same(one.on_gpu(), one.on_cpu()) for _ in range(2)):
                wrong += 1
                print(f"drawn region {k}: {one.name} differs")
    print(f"\n{chosen.drawn} drawn regions, each kernel twice: {wrong} differ\n")
    print("| sphere mm | voxels | images | kernel | CPU ms | GPU ms | CPU / GPU | GPU, images there, ms | same |")
    print("|---|---|---|---|---|---|---|---|---|")
    for diameter, n_image in [(d, n) for d in chosen.diameters for n in chosen.images]:
        region = phantom(diameter, n_image, rng)
        for one in kernels(region, (1,), None, follow=True, alpha=0):
            expected = one.on_cpu()
            equal = all(same(one.on_gpu(), expected) for _ in range(2))
            wrong += not equal
            cpu, gpu = best(2, one.on_cpu), best(3, one.on_gpu)
            there = f"{best(3, one.resident):.2f}" if one.resident else "-"
            row = [diameter, region.box.voxels.size, n_image, one.name, f"{cpu:.2f}", f"{gpu:.2f}", f"{cpu / gpu:.1f}"]
            print("|", " | ".join(map(str, [*row, there, "yes" if equal else "NO"])), "|", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
