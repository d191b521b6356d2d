"""What each step of an extraction takes, by lesion size and by number of grey levels: for pytest-benchmark.

    python -m pytest benchmarks/bench_stages.py --benchmark-json stages.json
    python benchmarks/plot_stages.py stages.json stages.png

Sizes from 10 to 150 mm at 1 mm; grey levels from 8 to 512 on the lesion of 45 mm. `-k "45 and not levels"` and the like
choose some.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from hgpscale.catalog import DEFAULT_FAMILIES, IMAGE_TYPES, SHAPE_FAMILIES
from hgpscale.features import CpuRegion, Footprint, compute
from hgpscale.filters import FILTERS
from hgpscale.kernels import warm_up
from hgpscale.prepare.prepared import Prepared, prepare
from hgpscale.settings import Settings
from hgpscale.single import cut_lesion
from hgpscale.testing import sphere

SIZES = (10, 20, 45, 90, 150)
LEVELS = (8, 32, 128, 512)
FILTERED = [name for name in IMAGE_TYPES if name != "Original"]
TEXTURES = [name for name in DEFAULT_FAMILIES if name not in SHAPE_FAMILIES]
COUNTED: dict[str, Callable[[CpuRegion], Any]] = {
    "discretise": lambda region: region.discretised,
    "lay out levels": lambda region: region.grid,
    "count glcm and glrlm": lambda region: region.chains((1,)),
}
SETTINGS = Settings(
    resampledPixelSpacing=(1, 1, 1),
    image_types={name: {"sigma": (1, 3, 5)} if name == "LoG" else {} for name in IMAGE_TYPES},
)


@pytest.fixture(scope="session", autouse=True)
def _compiled() -> None:
    warm_up()


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], tuple[Path, Path]]:
    """Return a function from a diameter in mm to the paths of an image and a mask, written once."""
    folder = tmp_path_factory.mktemp("lesions")

    def write(diameter: int) -> tuple[Path, Path]:
        paths = folder / f"{diameter}_image.nii.gz", folder / f"{diameter}_mask.nii.gz"
        if not paths[0].exists():
            for path, volume in zip(paths, sphere(diameter, (1.5, 0.8, 0.8), noise=30), strict=True):
                sitk.WriteImage(volume, path)
        return paths

    return write


@pytest.fixture(scope="session")
def prepared(files: Callable[[int], tuple[Path, Path]]) -> Iterator[Callable[[int], Prepared]]:
    """Return a function from a diameter in mm to the lesion resampled to 1 mm."""
    known: dict[int, Prepared] = {}

    def of(diameter: int) -> Prepared:
        if diameter not in known:
            known[diameter] = prepare(cut_lesion(*files(diameter), 1, SETTINGS), SETTINGS)
        return known[diameter]

    yield of
    known.clear()


def region(lesion: Prepared, settings: Settings = SETTINGS) -> CpuRegion:
    """Return the original image's region, with nothing computed yet."""
    values = lesion.source.wanted()[lesion.source.mask]
    return CpuRegion(Footprint(lesion.source.mask, lesion.spacing), settings, values)


@pytest.mark.parametrize("size", SIZES)
def test_read_and_cut(benchmark: Any, size: int, files: Any) -> None:
    benchmark(cut_lesion, *files(size), 1, SETTINGS)


@pytest.mark.parametrize("size", SIZES)
def test_resample(benchmark: Any, size: int, files: Any) -> None:
    benchmark(prepare, cut_lesion(*files(size), 1, SETTINGS), SETTINGS)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", FILTERED)
def test_filter(benchmark: Any, name: str, size: int, prepared: Any) -> None:
    if name == "LBP3D" and size > 45:
        pytest.skip("minutes; it grows with the number of voxels")
    own = SETTINGS.of_image_type(name)
    benchmark(lambda: list(FILTERS[name].derive(prepared(size).source, own)))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("step", list(COUNTED))
def test_count(benchmark: Any, step: str, size: int, prepared: Any) -> None:
    _count(benchmark, step, lambda: region(prepared(size)))


@pytest.mark.parametrize("size", SIZES)
def test_count_glcm_and_glrlm_of_12_images(benchmark: Any, size: int, prepared: Any) -> None:
    _count_12_images(benchmark, prepared(size), SETTINGS)


@pytest.mark.parametrize("size", SIZES[:4])
def test_count_glcm_of_12_images_at_distances_1_and_2(benchmark: Any, size: int, prepared: Any) -> None:
    _count_12_images(benchmark, prepared(size), SETTINGS.model_copy(update={"distances": (1, 2)}))


@pytest.mark.parametrize("levels", LEVELS)
def test_count_glcm_and_glrlm_of_12_images_levels(benchmark: Any, levels: int, prepared: Any) -> None:
    _count_12_images(benchmark, prepared(45), SETTINGS.model_copy(update={"binCount": levels}))


def _count_12_images(benchmark: Any, lesion: Prepared, settings: Settings) -> None:
    def fresh() -> list[CpuRegion]:
        first = region(lesion, settings)
        regions = [CpuRegion(first.footprint, settings, first.values) for _ in range(12)]
        return [_done(one, list(COUNTED)[:2]) for one in regions]

    distances = [settings.distances] * 12
    benchmark.pedantic(
        lambda regions: CpuRegion.count_together(regions, distances), setup=lambda: ((fresh(),), {}), rounds=7
    )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("family", TEXTURES)
def test_family(benchmark: Any, family: str, size: int, prepared: Any) -> None:
    _family(benchmark, family, lambda: region(prepared(size)))


@pytest.mark.parametrize("size", SIZES)
def test_shape(benchmark: Any, size: int, prepared: Any) -> None:
    benchmark.pedantic(_compute, setup=lambda: (("shape", region(prepared(size))), {}), rounds=15)


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("step", list(COUNTED))
def test_count_levels(benchmark: Any, step: str, levels: int, prepared: Any) -> None:
    _count(benchmark, step, lambda: region(prepared(45), SETTINGS.model_copy(update={"binCount": levels})))


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("family", TEXTURES)
def test_family_levels(benchmark: Any, family: str, levels: int, prepared: Any) -> None:
    _family(benchmark, family, lambda: region(prepared(45), SETTINGS.model_copy(update={"binCount": levels})))


def _count(benchmark: Any, step: str, fresh: Callable[[], CpuRegion]) -> None:
    """Time one step of counting; the steps before it are done beforehand."""
    before = list(COUNTED)[: list(COUNTED).index(step)]
    benchmark.pedantic(COUNTED[step], setup=lambda: ((_done(fresh(), before),), {}), rounds=15)


def _family(benchmark: Any, family: str, fresh: Callable[[], CpuRegion]) -> None:
    """Time a family's own counting and its formulas; what several families share is done beforehand."""
    shared = list(COUNTED) if family in ("glcm", "glrlm") else list(COUNTED)[:2]
    benchmark.pedantic(_compute, setup=lambda: ((family, _done(fresh(), shared)), {}), rounds=15)


def _done(one: CpuRegion, steps: list[str]) -> CpuRegion:
    for step in steps:
        COUNTED[step](one)
    return one


def _compute(family: str, one: CpuRegion) -> list[np.ndarray[Any, Any]]:
    found = compute(family, [one], SETTINGS.features[family])
    assert isinstance(found[0], np.ndarray), found[0]
    return found
