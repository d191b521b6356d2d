"""Every feature against pyradiomics, run live on the same voxels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from reference import assert_same, assert_same_values, our_features, reference_features
from strategies import examples, phantoms, texture_settings

from hgpscale.catalog import FAMILIES

pytestmark = pytest.mark.reference

ONE_MM = {"resampledPixelSpacing": [1, 1, 1], "interpolator": "sitkBSpline"}

REAL = {
    "brain1": ("pyradiomics/data/brain1_image.nrrd", "pyradiomics/data/brain1_label.nrrd"),
    "breast1": ("pyradiomics/data/breast1_image.nrrd", "pyradiomics/data/breast1_label.nrrd"),
    "lung1": ("pyradiomics/data/lung1_image.nrrd", "pyradiomics/data/lung1_label.nrrd"),
    "prostate phantom": (
        "pyradiomics/data/prostate_phantom_subvolume.nrrd",
        "pyradiomics/data/prostate_phantom_subvolume-label.nrrd",
    ),
    "STS_002": (
        "ibsi1_validation_sts/nifti/STS_002/CT_image.nii.gz",
        "ibsi1_validation_sts/nifti/STS_002/CT_mask.nii.gz",
    ),
    "STS_003": (
        "ibsi1_validation_sts/nifti/STS_003/CT_image.nii.gz",
        "ibsi1_validation_sts/nifti/STS_003/CT_mask.nii.gz",
    ),
    "PAT1": (
        "ibsi1/data_sets/ibsi_1_ct_radiomics_phantom/nifti/image/phantom.nii.gz",
        "ibsi1/data_sets/ibsi_1_ct_radiomics_phantom/nifti/mask/mask.nii.gz",
    ),
    "liver": (
        "liver/totalsegmentator/tests/reference_files/example_ct_sm.nii.gz",
        "liver/totalsegmentator/tests/reference_files/example_seg_fast/liver.nii.gz",
    ),
}


def _labels(mask: sitk.Image) -> Iterator[int]:
    yield from (int(value) for value in np.unique(sitk.GetArrayViewFromImage(mask)) if value != 0)


@pytest.mark.shared_data
@pytest.mark.slow
@pytest.mark.parametrize("setting", [{}, ONE_MM], ids=["as stored", "1 mm B-spline"])
@pytest.mark.parametrize("case", list(REAL))
def test_real_scans(case: str, setting: dict[str, Any], shared_data: Path) -> None:
    image, mask = (sitk.ReadImage(str(shared_data / name)) for name in REAL[case])
    for label in _labels(mask):
        theirs = reference_features(image, mask, setting, label)
        assert theirs is not None
        assert len(theirs) == 107
        assert_same_values(theirs, our_features(image, mask, setting, label), f"label {label}")


@examples(150)
@given(phantoms())
def test_phantoms_as_stored(phantom: tuple[sitk.Image, sitk.Image]) -> None:
    assert_same(*phantom, {})


@examples(150)
@given(phantoms())
def test_phantoms_at_1_mm(phantom: tuple[sitk.Image, sitk.Image]) -> None:
    assert_same(*phantom, ONE_MM)


@examples(150)
@given(phantoms(shortest=3), texture_settings())
def test_settings(phantom: tuple[sitk.Image, sitk.Image], setting: dict[str, Any]) -> None:
    # No neighbour fits and too many bins for the values: pyradiomics refuses the lesion, hgpscale only the families.
    theirs = reference_features(*phantom, setting)
    ours = our_features(*phantom, setting)
    if theirs is None and ours is not None:
        lost = {name.split("_")[1] for name, value in ours.items() if np.isnan(value)}
        assert lost >= {"glcm", "gldm", "ngtdm"}
        return
    assert_same_values(theirs, ours, str(setting))


@pytest.mark.parametrize(
    "setting",
    [
        {"resampledPixelSpacing": [2, 2, 2], "padDistance": 8},
        {"resampledPixelSpacing": [0, 0, 1.7], "padDistance": 0},
        {**ONE_MM, "interpolator": "sitkLinear"},
        {**ONE_MM, "interpolator": "sitkNearestNeighbor"},
        {**ONE_MM, "interpolator": "sitkLanczosWindowedSinc"},
        {**ONE_MM, "interpolator": 2},
    ],
    ids=str,
)
@examples(25)
@given(phantom=phantoms(shortest=3))
def test_resampling(phantom: tuple[sitk.Image, sitk.Image], setting: dict[str, Any]) -> None:
    assert_same(*phantom, setting)


@pytest.mark.parametrize("seed", [834, 1100, 1122, 1174, 1191])
def test_directions_of_one_level_only(seed: int) -> None:
    # Few pairs a direction: a level's deviation must be exactly 0 where pyradiomics' is, or Correlation is off by 1/13.
    rng = np.random.default_rng(seed)
    voxels = np.clip(rng.normal(60, 40, (3, 3, 3)), 0, None).astype(np.uint16)
    mask = np.ones((3, 3, 3), np.uint8) if rng.random() < 0.4 else (rng.random((3, 3, 3)) < 0.5).astype(np.uint8)
    setting = {"distances": [2], "symmetricalGLCM": False, "minimumROIDimensions": 1, "binCount": 4}
    assert_same(sitk.GetImageFromArray(voxels), sitk.GetImageFromArray(mask), setting)


def test_names_are_the_107_defaults_in_pyradiomics_order() -> None:
    rng = np.random.default_rng(0)
    image = sitk.GetImageFromArray(rng.normal(0, 50, (6, 6, 6)).astype(np.int16))
    mask = sitk.GetImageFromArray(np.ones((6, 6, 6), np.uint8))
    theirs, ours = reference_features(image, mask, {}), our_features(image, mask, {})
    assert theirs is not None
    assert ours is not None
    for family in FAMILIES:
        prefix = f"original_{family}_"
        assert [n for n in ours if n.startswith(prefix)] == [n for n in theirs if n.startswith(prefix)]
    assert len(ours) == 107


def test_deprecated_features_that_pyradiomics_still_computes() -> None:
    radiomics_features = {
        "firstorder": ["StandardDeviation"],
        "shape": ["Compactness1", "Compactness2", "SphericalDisproportion"],
    }
    from reference import radiomics

    radiomics()
    import radiomics.featureextractor as reference_extractor

    from hgpscale.single import extract_lesion

    rng = np.random.default_rng(1)
    image = sitk.GetImageFromArray(rng.normal(0, 50, (6, 7, 8)).astype(np.int16))
    mask = sitk.GetImageFromArray((rng.random((6, 7, 8)) < 0.7).astype(np.uint8))
    extractor = reference_extractor.RadiomicsFeatureExtractor(additionalInfo=False)
    extractor.disableAllFeatures()
    extractor.enableFeaturesByName(**radiomics_features)
    theirs = {name: float(value) for name, value in extractor.execute(image, mask).items()}
    assert extract_lesion(image, mask, {"featureClass": radiomics_features}) == pytest.approx(theirs, rel=1e-12)
