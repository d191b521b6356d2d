"""The drop-in class alone: its errors, its log, and that it keeps nothing and can be shared by threads."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from hgpscale.compat import RadiomicsFeatureExtractor
from hgpscale.errors import HgpscaleError, MaskError, SettingsError, VoxelBasedError

ONE_FEATURE = {"featureClass": {"firstorder": ["Mean"]}}


@pytest.fixture
def images() -> tuple[sitk.Image, sitk.Image]:
    """Noise of 12 x 12 x 12 voxels; four labels, a slab each."""
    rng = np.random.default_rng(5)
    labels = np.repeat(np.arange(1, 5, dtype=np.uint8), 3)[:, None, None] * np.ones((1, 12, 12), dtype=np.uint8)
    return sitk.GetImageFromArray(rng.normal(60, 40, (12, 12, 12)).astype(np.int16)), sitk.GetImageFromArray(labels)


def test_value_by_hand(images: tuple[sitk.Image, sitk.Image]) -> None:
    result = RadiomicsFeatureExtractor(ONE_FEATURE, additionalInfo=False).execute(*images, label=2)
    assert list(result) == ["original_firstorder_Mean"]
    assert result["original_firstorder_Mean"] == sitk.GetArrayFromImage(images[0])[3:6].mean()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RadiomicsFeatureExtractor(binwidth=10), "unknown setting 'binwidth'; did you mean 'binWidth'"),
        (lambda: RadiomicsFeatureExtractor(binWidth=-1), "binWidth"),
        (lambda: RadiomicsFeatureExtractor({"settings": {}}), "did you mean 'setting'"),
        (lambda: RadiomicsFeatureExtractor({"imageType": {"Wavelets": {}}}), "did you mean 'Wavelet'"),
        (lambda: RadiomicsFeatureExtractor({"imageType": {"Original": {"binwidth": 1}}}), "did you mean 'binWidth'"),
        (lambda: RadiomicsFeatureExtractor({"featureClass": {"glcms": []}}), "did you mean 'glcm'"),
        (lambda: RadiomicsFeatureExtractor({"featureClass": {"glcm": ["Contrst"]}}), "did you mean 'Contrast'"),
        (lambda: RadiomicsFeatureExtractor({"featureClass": {"glcm": "Contrast"}}), "must hold a list of features"),
        (lambda: RadiomicsFeatureExtractor({"imageType": {"LoG": [3]}}), "LoG must hold names and values, found list"),
        (lambda: RadiomicsFeatureExtractor({"setting": [3]}), "setting must hold names and values, found list"),
        (lambda: RadiomicsFeatureExtractor("missing.yaml"), "missing.yaml: cannot read"),
        (lambda: RadiomicsFeatureExtractor().loadJSONParams("{"), "in JSON"),
        (lambda: RadiomicsFeatureExtractor().loadJSONParams("[]"), "found list"),
        (lambda: RadiomicsFeatureExtractor().loadJSONParams('{"setting": {"label": 0}}'), "label"),
    ],
)
def test_wrong_parameters_are_refused_at_once(make: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        make()


@pytest.mark.parametrize(
    "change",
    [
        lambda extractor: extractor.settings.update(binwidth=10),
        lambda extractor: extractor.enableImageTypes(Wavelets={}),
        lambda extractor: extractor.enableFeaturesByName(glcms=[]),
        lambda extractor: extractor.enableFeaturesByName(glcm=["Contrst"]),
    ],
)
def test_wrong_changes_are_refused_when_used(change: Any, images: tuple[sitk.Image, sitk.Image]) -> None:
    extractor = RadiomicsFeatureExtractor()
    change(extractor)
    with pytest.raises(SettingsError, match="did you mean"):
        extractor.execute(*images)


def test_voxel_based_extraction_is_refused(images: tuple[sitk.Image, sitk.Image]) -> None:
    with pytest.raises(VoxelBasedError, match="use pyradiomics") as caught:
        RadiomicsFeatureExtractor().execute(*images, voxelBased=True)
    assert isinstance(caught.value, HgpscaleError)
    assert isinstance(caught.value, NotImplementedError)


def test_missing_file_is_also_the_builtin_error(images: tuple[sitk.Image, sitk.Image]) -> None:
    with pytest.raises(FileNotFoundError, match=r"missing\.nii"):
        RadiomicsFeatureExtractor().execute("missing.nii", images[1])


def test_names_that_nobody_knows_are_logged_and_ignored(caplog: pytest.LogCaptureFixture) -> None:
    extractor = RadiomicsFeatureExtractor()
    extractor.enableImageTypeByName("Laplace")
    extractor.enableFeatureClassByName("texture")
    assert [record.name for record in caplog.records] == ["hgpscale.compat"] * 2
    assert "Laplace" in caplog.text
    assert "texture" in caplog.text
    assert extractor.enabledImagetypes == {"Original": {}}


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"imageType": {"Original": {}, "LoG": {}}}, "needs sigma"),
        ({"imageType": {"Original": {"resampledPixelSpacing": [1, 1, 1]}}}, "cannot be set for one image type"),
        ({"featureClass": {"firstorder": ["Mean"], "shape2D": None}}, "needs force2D"),
        ({"featureClass": {"firstorder": ["Mean"], "glcm": ["Homogeneity1"]}}, "no longer computed"),
    ],
)
def test_what_is_left_out_is_logged_once(
    parameters: dict[str, Any],
    reason: str,
    images: tuple[sitk.Image, sitk.Image],
    caplog: pytest.LogCaptureFixture,
) -> None:
    extractor = RadiomicsFeatureExtractor({**ONE_FEATURE, **parameters}, additionalInfo=False)
    assert not caplog.records
    assert list(extractor.execute(*images)) == ["original_firstorder_Mean"]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert reason in caplog.text


def test_image_type_without_its_package_is_left_out(
    images: tuple[sitk.Image, sitk.Image], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hgpscale.filters.find_spec", lambda module: None)
    parameters = {**ONE_FEATURE, "imageType": {"LBP2D": {}, "Original": {}}}
    result = RadiomicsFeatureExtractor(parameters, additionalInfo=False).execute(*images)
    assert list(result) == ["original_firstorder_Mean"]
    (record,) = caplog.records
    assert "pip install 'scikit-image'" in record.getMessage()


def test_family_without_values_is_nan_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    image = sitk.GetImageFromArray(np.arange(27, dtype=np.int16).reshape(3, 3, 3))
    parameters = {"setting": {"distances": [5], "additionalInfo": False}, "featureClass": {"ngtdm": ["Busyness"]}}
    result = RadiomicsFeatureExtractor(parameters).execute(image, image * 0 + 1)
    assert np.isnan(result["original_ngtdm_Busyness"])
    (record,) = caplog.records
    assert "original ngtdm" in record.getMessage()


def test_parameters_and_results_are_not_shared(images: tuple[sitk.Image, sitk.Image]) -> None:
    parameters = {"setting": {"distances": [1]}, **ONE_FEATURE}
    extractor = RadiomicsFeatureExtractor(parameters)
    extractor.settings["distances"].append(2)
    result = extractor.execute(*images)
    result["diagnostics_Configuration_Settings"]["distances"].append(3)
    assert parameters["setting"] == {"distances": [1]}
    assert extractor.settings["distances"] == [1, 2]


def test_threads_share_one_extractor(images: tuple[sitk.Image, sitk.Image]) -> None:
    extractor = RadiomicsFeatureExtractor()
    alone = [extractor.execute(*images, label=label) for label in (1, 2, 3, 4)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda label: extractor.execute(*images, label=label), [1, 2, 3, 4] * 3))
    for number, result in enumerate(together):
        assert list(result.items()) == list(alone[number % 4].items())


def test_process_wide_tolerance_stays(images: tuple[sitk.Image, sitk.Image]) -> None:
    before = sitk.ProcessObject.GetGlobalDefaultCoordinateTolerance()
    images[1].SetOrigin((0.01, 0, 0))
    RadiomicsFeatureExtractor(ONE_FEATURE, geometryTolerance=0.1).execute(*images)
    assert sitk.ProcessObject.GetGlobalDefaultCoordinateTolerance() == before


def test_errors_name_the_file(images: tuple[sitk.Image, sitk.Image], tmp_path: Path) -> None:
    mask = tmp_path / "mask.nii.gz"
    sitk.WriteImage(images[1], mask)
    with pytest.raises(MaskError, match=r"mask\.nii\.gz: label 9 is not in the mask"):
        RadiomicsFeatureExtractor().execute(images[0], mask, label=9)
