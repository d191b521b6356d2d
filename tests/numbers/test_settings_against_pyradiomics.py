"""Every setting and image type against pyradiomics, run live on the same voxels, alone and together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st
from reference import assert_same, overflows
from strategies import ROUGH, examples, image_types, phantoms, plane_settings, preparation_settings

from hgpscale.catalog import IMAGE_TYPES

pytestmark = pytest.mark.reference

Phantom = tuple[sitk.Image, sitk.Image]
LIGHT = {"firstorder": None, "glcm": None, "gldm": None}

EXAMPLES = sorted((Path(__file__).parents[2] / "examples" / "settings").glob("*.yaml"))

EVERYTHING = {
    "setting": {
        "resegmentRange": [-3, 3],
        "resegmentMode": "sigma",
        "removeOutliers": 3,
        "normalize": True,
        "normalizeScale": 50,
        "binWidth": 5,
    },
    "imageType": {name: {"sigma": [1.5]} if name == "LoG" else {} for name in IMAGE_TYPES},
}

REAL = {
    "lung1": ("pyradiomics/data/lung1_image.nrrd", "pyradiomics/data/lung1_label.nrrd"),
    "breast1": ("pyradiomics/data/breast1_image.nrrd", "pyradiomics/data/breast1_label.nrrd"),
    "brain1": ("pyradiomics/data/brain1_image.nrrd", "pyradiomics/data/brain1_label.nrrd"),
    "STS_003": (
        "ibsi1_validation_sts/nifti/STS_003/CT_image.nii.gz",
        "ibsi1_validation_sts/nifti/STS_003/CT_mask.nii.gz",
    ),
}


@examples(60)
@given(phantoms(shortest=3, textures=(*ROUGH, "half flat")), preparation_settings())
def test_preparation(phantom: Phantom, setting: dict[str, Any]) -> None:
    assume(not overflows(phantom[0], setting))
    assert_same(*phantom, setting)


@examples(80)
@given(phantoms(shortest=3), plane_settings())
def test_planes_and_weights(phantom: Phantom, setting: dict[str, Any]) -> None:
    assert_same(*phantom, setting)


def test_a_region_too_small_for_its_distance() -> None:
    """pyradiomics refuses the lesion, hgpscale only the classes that look that far."""
    voxels = np.pad(np.arange(0, 240, 30, dtype=np.int16).reshape(2, 2, 2), 3)
    region = np.pad(np.ones((2, 2, 2), np.uint8), 3)
    assert_same(sitk.GetImageFromArray(voxels), sitk.GetImageFromArray(region), {"distances": [2]})


@pytest.fixture
def _own_tolerance() -> Iterator[None]:
    """Take back what pyradiomics' geometryTolerance sets in SimpleITK for the whole process."""
    process = sitk.ProcessObject
    before = process.GetGlobalDefaultCoordinateTolerance(), process.GetGlobalDefaultDirectionTolerance()
    yield
    process.SetGlobalDefaultCoordinateTolerance(before[0])
    process.SetGlobalDefaultDirectionTolerance(before[1])


@pytest.mark.usefixtures("_own_tolerance")
@pytest.mark.parametrize("spacing", [(1, 1, 1), (1.5, 1.5, 1.5)])
@pytest.mark.parametrize("shift", [0.8, -5])
def test_resampling_goes_by_position_within_a_wide_tolerance(spacing: tuple[float, ...], shift: float) -> None:
    voxels = np.random.default_rng(1).integers(-50, 200, (9, 10, 11)).astype(np.int16)
    region = np.zeros(voxels.shape, np.uint8)
    region[2:7, 2:8, 2:8] = 1
    image, mask = sitk.GetImageFromArray(voxels), sitk.GetImageFromArray(region)
    mask.SetOrigin((shift, 0, 0))
    assert_same(image, mask, {"geometryTolerance": 9.0, "resampledPixelSpacing": spacing})


@pytest.mark.parametrize("name", [name for name in IMAGE_TYPES if name != "Original"])
@examples(15)
@given(phantom=phantoms(shortest=4, textures=ROUGH), data=st.data())
def test_each_image_type(name: str, phantom: Phantom, data: st.DataObject) -> None:
    assert_same(*phantom, {}, image_types=data.draw(image_types(name)), features=LIGHT)


@examples(40)
@given(phantoms(shortest=4, textures=ROUGH), preparation_settings(), image_types())
def test_image_types_after_preparation(phantom: Phantom, setting: dict[str, Any], types: dict[str, Any]) -> None:
    assume(not overflows(phantom[0], setting))
    assert_same(*phantom, setting, image_types=types, features=LIGHT)


@pytest.mark.parametrize("name", ["Square", "SquareRoot", "Logarithm", "Exponential"])
@pytest.mark.parametrize(
    "setting",
    [
        {},
        {"preCrop": True},
        {"preCrop": True, "normalize": True, "normalizeScale": 100},
        {"resampledPixelSpacing": [1, 1, 1]},
        {"resampledPixelSpacing": [0, 0, 0], "padDistance": 2},
        {"resampledPixelSpacing": [2, 2, 2]},
    ],
    ids=str,
)
def test_the_peak_is_that_of_what_filters_see(setting: dict[str, Any], name: str) -> None:
    # The brightest voxel lies far from the region: whether it counts decides the scale.
    rng = np.random.default_rng(0)
    voxels = rng.normal(60, 30, (30, 40, 40)).astype(np.int16)
    voxels[2, 2, 2] = 3000
    mask = np.zeros(voxels.shape, np.uint8)
    mask[15:22, 18:28, 20:30] = 1
    image_types = {name: {"binWidth": 5}}
    assert_same(sitk.GetImageFromArray(voxels), sitk.GetImageFromArray(mask), setting, image_types=image_types)


@examples(25)
@given(phantoms(shortest=4, textures=ROUGH), plane_settings(), image_types("Original", "Wavelet", "LBP2D", "LoG"))
def test_image_types_in_planes(phantom: Phantom, setting: dict[str, Any], types: dict[str, Any]) -> None:
    assert_same(*phantom, setting, image_types=types, features=LIGHT)


@pytest.mark.shared_data
@pytest.mark.slow
@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
@pytest.mark.parametrize("case", list(REAL))
def test_real_scans_with_the_example_files(case: str, file: Path, shared_data: Path) -> None:
    image, mask = (sitk.ReadImage(str(shared_data / name)) for name in REAL[case])
    _assert_same(image, mask, yaml.safe_load(file.read_text()))


@pytest.mark.shared_data
@pytest.mark.slow
def test_a_real_scan_with_every_image_type(shared_data: Path) -> None:
    image, mask = (sitk.ReadImage(str(shared_data / name)) for name in REAL["breast1"])
    _assert_same(image, mask, EVERYTHING)


def _assert_same(image: sitk.Image, mask: sitk.Image, parameters: dict[str, Any]) -> None:
    setting, types = parameters["setting"], parameters["imageType"]
    assert_same(image, mask, setting, image_types=types, features=parameters.get("featureClass"))
