"""Lesions on a GPU against the same on one core: the same numbers, and the time by stage, by size and by batch.

    python benchmarks/gpu.py [--diameters 20 45 90 150] [--batches 1 8 64] [--rounds 3]
    NUMBA_ENABLE_CUDASIM=1 python benchmarks/gpu.py --parity 10

Times hold all copies to and from the GPU. Spheres of noise, resampled to 1 mm; the original image, eight wavelet bands
and LoG of three widths. A batch that would take one core more than half a minute is left out. `--parity` only compares,
on spheres of the diameters given, and runs in numba's simulator too. Exits with 1 if any feature differs by a bit.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
from numba import config, cuda

from hgpscale.catalog import DEFAULT_FAMILIES, SHAPE_FAMILIES
from hgpscale.contents import Key
from hgpscale.features import Region, compute, on_cpu, on_gpu
from hgpscale.filters import FILTERS
from hgpscale.kernels import warm_up
from hgpscale.kernels.cuda.target import GPU
from hgpscale.kernels.target import CPU, Target
from hgpscale.lesion import compute_lesion
from hgpscale.prepare.cut import Cut
from hgpscale.prepare.prepared import prepare
from hgpscale.settings import Settings
from hgpscale.single import cut_lesion
from hgpscale.testing import sphere

SETTINGS = Settings(
    resampledPixelSpacing=(1, 1, 1),
    image_types={"Original": {}, "Wavelet": {}, "LoG": {"sigma": (1, 3, 5)}},
)
FAMILIES = [name for name in DEFAULT_FAMILIES if name not in SHAPE_FAMILIES]
LONGEST = 30.0
"""Seconds of one core that a batch may take."""


class Place(NamedTuple):
    """A core or a GPU."""

    device: str
    on: Target
    batches: Callable[..., Iterator[dict[str, Any]]]


CORE, DEVICE = Place("cpu", CPU, on_cpu.batches), Place("gpu", GPU, on_gpu.batches)


def lesion(diameter: int) -> Cut:
    """Return a sphere of noise in a thick-sliced scan."""
    return cut_lesion(*sphere(diameter, (1.5, 0.8, 0.8), noise=30), 1, SETTINGS)


def stages(cut: Cut, place: Place) -> dict[str, float]:
    """Return the seconds of each stage of a lesion, one after the other, all of its images together."""
    clock = Clock()
    prepared = prepare(cut, SETTINGS, place.on)
    clock.note("resample")
    for name in ("Wavelet", "LoG"):
        list(FILTERS[name].derive(prepared.source, SETTINGS.of_image_type(name), place.on))
        clock.note(name)
    regions: list[Region] = [found for batch in place.batches(prepared, SETTINGS) for found in batch.values()]
    clock.note("all images, and their values")
    steps: dict[str, Callable[[Region], object]] = {
        "discretise": lambda region: region.levels,
        "firstorder": lambda region: region.statistics(),
        "count glcm, glrlm": lambda region: region.chains((1,)),
        "count glszm": lambda region: region.zones(),
        "count gldm": lambda region: region.dependence(),
        "count ngtdm": lambda region: region.differences(),
    }
    for name, step in steps.items():
        if name == "count glcm, glrlm":
            type(regions[0]).count_together(regions, [(1,)] * len(regions))
        for region in regions:
            step(region)
        clock.note(name)
    for family in FAMILIES:
        if place is DEVICE or family in ("glcm", "glrlm"):  # elsewhere a core would count once more
            compute(family, regions, SETTINGS.features[family])
    clock.note("formulas" if place is DEVICE else "formulas of glcm, glrlm")
    return clock.seconds


class Clock:
    """Notes how long each step took, until the GPU is done with it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._begun = time.perf_counter()

    def note(self, name: str) -> None:
        """Say what has been done since the last note."""
        cuda.synchronize()
        now = time.perf_counter()
        self.seconds[name], self._begun = now - self._begun, now


def best(rounds: int, cut: Cut, place: Place) -> dict[str, float]:
    """Return the shortest time of each stage in some rounds, after one that compiles."""
    stages(cut, place)
    found = [stages(cut, place) for _ in range(rounds)]
    return {name: min(one[name] for one in found) for name in found[0]}


def whole(cuts: list[Cut], place: Place) -> float:
    """Return the milliseconds that a lesion takes in a batch, all families, shape among them."""
    settings = SETTINGS.model_copy(update={"device": place.device})
    begun = time.perf_counter()
    for cut in cuts:
        compute_lesion(cut, settings)
    return 1000 * (time.perf_counter() - begun) / len(cuts)


def compare(cut: Cut) -> dict[str, tuple[int, int, float]]:
    """Return, by family: how many numbers, how many of them with other bits, and the largest relative difference."""
    ours, theirs = (compute_lesion(cut, SETTINGS.model_copy(update={"device": device}))[0] for device in ("gpu", "cpu"))
    found: dict[str, tuple[int, int, float]] = {}
    for key, row in theirs.items():
        own, (n, other, most) = ours[key], found.get(family_of(key), (0, 0, 0.0))
        apart = np.nan_to_num(np.abs(own - row) / np.maximum(np.abs(row), 1e-300))
        same = (own == row) | (np.isnan(own) & np.isnan(row))
        found[family_of(key)] = n + row.size, other + int((~same).sum()), max(most, float(apart.max()))
    return found


def family_of(key: Key) -> str:
    """Return the family that a vector is of."""
    return key[2]


def parity(diameters: list[int]) -> bool:
    """Print how features differ; whether they do so more than they may."""
    wrong = False
    print("\n| sphere mm | family | features | other bits | largest relative difference |\n|---|---|---|---|---|")
    for diameter in diameters:
        for family, (n, other, most) in compare(lesion(diameter)).items():
            wrong |= other > 0
            print(f"| {diameter} | {family} | {n} | {other} | {most:.1e} |", flush=True)
    return wrong


def times(diameters: list[int], batches: list[int], rounds: int) -> None:
    """Print both tables of times."""
    print("\n| sphere mm | stage | CPU ms | GPU ms | CPU / GPU |\n|---|---|---|---|---|")
    for diameter in diameters:
        cut = lesion(diameter)
        core, device = best(rounds, cut, CORE), best(rounds, cut, DEVICE)
        for name in dict.fromkeys([*core, *device]):
            row(diameter, name, core.get(name), device.get(name))
    print("\n| sphere mm | lesions | CPU ms a lesion | GPU ms a lesion | CPU / GPU |\n|---|---|---|---|---|")
    for diameter in diameters:
        cut, one = lesion(diameter), 0.0
        for n in batches:
            if n * one > LONGEST:
                print(f"| {diameter} | {n} | left out | | |")
                continue
            one = whole([cut] * n, CORE) / 1000
            row(diameter, n, one, whole([cut] * n, DEVICE) / 1000)


def row(diameter: int, name: object, core: float | None, device: float | None) -> None:
    """Print one row of a table; seconds become ms."""
    cells = ["-" if seconds is None else f"{1000 * seconds:.2f}" for seconds in (core, device)]
    ratio = f"{core / device:.1f}" if core and device else "-"
    print(f"| {diameter} | {name} | {' | '.join(cells)} | {ratio} |", flush=True)


def machine() -> str:
    """Name the GPU and the packages."""
    if config.ENABLE_CUDASIM:
        return f"numba's simulator, no GPU; numba {version('numba')}, numpy {np.__version__}"
    device = cuda.get_current_device()
    name = device.name.decode() if isinstance(device.name, bytes) else device.name
    packages = ", ".join(f"{package} {version(package)}" for package in ("numpy", "numba", "numba-cuda"))
    return f"{name}, compute capability {device.compute_capability}; Python {platform.python_version()}, {packages}"


def main() -> int:
    """Compare, then time; 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--diameters", type=int, nargs="+", default=[20, 45, 90, 150])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parity", type=int, nargs="+", metavar="DIAMETER", help="only compare")
    chosen = parser.parse_args()
    print(machine(), flush=True)
    warm_up()
    wrong = parity(chosen.parity or chosen.diameters)
    if not chosen.parity:
        times(chosen.diameters, chosen.batches, chosen.rounds)
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
