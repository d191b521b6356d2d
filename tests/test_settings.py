"""Settings: pyradiomics parameter files in, exact refusals out."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from strategies import texture_settings

from hgpscale.catalog import FAMILIES, IMAGE_TYPES
from hgpscale.contents import image_names
from hgpscale.errors import SettingsError
from hgpscale.settings import Settings


def parameters(**setting: Any) -> dict[str, Any]:
    return {"setting": setting}


def test_defaults_are_pyradiomics() -> None:
    settings = Settings()
    assert (settings.binWidth, settings.padDistance, settings.distances) == (25, 5, (1,))
    assert settings.resampledPixelSpacing is None
    assert sum(len(names) for names in settings.features.values()) == 107


def test_an_empty_file_means_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("")
    assert Settings.read(tmp_path / "empty.yaml") == Settings()


def test_a_pyradiomics_file_is_read_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(
        "imageType:\n  Original: {}\n"
        "featureClass:\n  shape:\n  firstorder: []\n  glcm: ['Contrast', 'Autocorrelation']\n"
        "setting:\n  normalize: false\n  normalizeScale: 100\n  interpolator: 'sitkBSpline'\n"
        "  resampledPixelSpacing: [1, 1, 3]\n  binWidth: 12\n  label: 2\n  additionalInfo: true\n"
        "voxelSetting:\n  kernelRadius: 2\n"
    )
    settings = Settings.read(file)
    assert settings.resampledPixelSpacing == (1, 1, 3)
    assert (settings.binWidth, settings.label) == (12, 2)
    assert settings.features == {
        "firstorder": FAMILIES["firstorder"].default_names,
        "shape": FAMILIES["shape"].default_names,
        "glcm": ("Autocorrelation", "Contrast"),
    }


def test_a_file_may_say_where_to_compute_and_what_is_written_does_not(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("setting: {device: gpu, binWidth: 12}")
    settings = Settings.read(tmp_path / "params.yaml")
    assert settings.device == "gpu"
    settings.write(tmp_path / "again.yaml")
    assert "device" not in (tmp_path / "again.yaml").read_text()
    assert Settings.read(tmp_path / "again.yaml") == settings.on("cpu") == Settings(binWidth=12)
    assert settings.on(None) is settings
    assert settings.on("auto").device == "auto"


@given(texture_settings())
def test_written_settings_read_back_the_same(setting: dict[str, Any]) -> None:
    settings = Settings.from_parameters({"setting": setting})
    assert Settings.from_parameters(yaml.safe_load(yaml.safe_dump(settings.to_parameters()))) == settings


def test_no_interpolator_survives_writing(tmp_path: Path) -> None:
    settings = Settings.from_parameters(parameters(resampledPixelSpacing=[1, 1, 1], interpolator=None))
    assert settings.interpolator is None
    settings.write(tmp_path / "params.yaml")
    assert Settings.read(tmp_path / "params.yaml") == settings


def test_written_settings_pass_pyradiomics_own_check(tmp_path: Path) -> None:
    from reference import radiomics

    radiomics()
    from radiomics.featureextractor import RadiomicsFeatureExtractor

    Settings(resampledPixelSpacing=(1, 1, 1), distances=(1, 2), label=3).write(tmp_path / "params.yaml")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pyradiomics' schema checker loads its extension in a deprecated way
        extractor = RadiomicsFeatureExtractor(str(tmp_path / "params.yaml"))
    assert extractor.settings["resampledPixelSpacing"] == [1, 1, 1]
    assert extractor.settings["distances"] == [1, 2]
    assert extractor.settings["label"] == 3


@pytest.mark.reference
def test_every_name_that_pyradiomics_knows_is_known() -> None:
    from reference import radiomics

    reference = radiomics()
    schema, _ = reference.getParameterValidationFiles()
    known = yaml.safe_load(Path(schema).read_text())["mapping"]["setting"]["mapping"]
    ours = {"image_types", "features", "regions", "airThreshold", "device"}
    assert set(known) - {"additionalInfo"} == set(Settings.model_fields) - ours
    assert set(reference.getImageTypes()) == set(IMAGE_TYPES)
    assert set(reference.getFeatureClasses()) == set(FAMILIES)
    for name, family in reference.getFeatureClasses().items():
        listed = family.getFeatureNames()
        assert FAMILIES[name].default_names == tuple(key for key, deprecated in listed.items() if not deprecated)
        removed = dict(FAMILIES[name].removed)
        assert {*FAMILIES[name].names, *removed} == set(listed)


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (parameters(binWith=25), "unknown setting 'binWith'; did you mean 'binWidth'?"),
        (parameters(frobnicate=1), "unknown setting 'frobnicate'; known: "),
        ({"settings": {}}, "unknown section 'settings'; did you mean 'setting'?"),
        (parameters(binWidth=0), "setting binWidth: Input should be greater than 0, found 0"),
        (parameters(binWidth="wide"), "setting binWidth: "),
        (parameters(binCount=2.5), "setting binCount: "),
        (parameters(resampledPixelSpacing=[1, 1]), "setting resampledPixelSpacing"),
        (parameters(resampledPixelSpacing=[1, 1, -1]), "every spacing must be 0"),
        (parameters(interpolator="spline"), "must be one of sitkNearestNeighbor"),
        (parameters(interpolator=11), "must be one of sitkNearestNeighbor"),
        (parameters(distances=[]), "list of different whole numbers"),
        (parameters(distances=[1, 1]), "list of different whole numbers"),
        (parameters(distances=[0]), "list of different whole numbers"),
        (parameters(minimumROIDimensions=4), "setting minimumROIDimensions: "),
        (parameters(normalizeScale=0), "setting normalizeScale: Input should be greater than 0, found 0"),
        (parameters(removeOutliers=-3), "setting removeOutliers: "),
        (parameters(resegmentRange=[]), "must be one threshold, or a lower and an upper one"),
        (parameters(resegmentRange=[1, 2, 3]), "must be one threshold, or a lower and an upper one"),
        (
            parameters(resegmentMode="relativ"),
            "setting resegmentMode: Input should be 'absolute', 'relative'",
        ),
        (parameters(weightingNorm="euclid"), "setting weightingNorm: Input should be 'manhattan', 'euclidean'"),
        (parameters(force2Ddimension=3), "setting force2Ddimension: "),
        (parameters(label_channel=-1), "setting label_channel: "),
        (parameters(device="tpu"), "setting device: Input should be 'cpu', 'gpu' or 'auto', found 'tpu'"),
        (parameters(sigma=3), "setting sigma: Input should be a list, found 3"),
        (parameters(sigma=[0]), "setting sigma: must be a list of different widths in mm"),
        (parameters(wavelet="coif99"), "setting wavelet: unknown wavelet; did you mean 'coif9'?, found 'coif99'"),
        (parameters(wavelet="morl"), "setting wavelet: unknown wavelet"),
        ({"imageType": {"Wavelets": {}}}, "unknown image type 'Wavelets'; did you mean 'Wavelet'?"),
        ({"imageType": {"LoG": {"sigmas": [1]}}}, "image type LoG: unknown setting 'sigmas'; did you mean 'sigma'?"),
        ({"imageType": {"LoG": {}}}, "image type LoG needs sigma: a list of widths in mm"),
        ({"imageType": {"LoG": {"sigma": [-1]}}}, "image type LoG: setting sigma: must be a list of different widths"),
        ({"imageType": {"LoG": [1]}}, "LoG must hold names and values, found list"),
        ({"featureClass": {"GLCM": None}}, "unknown feature class 'GLCM'; did you mean 'glcm'?"),
        ({"featureClass": {"glcm": ["Kontrast"]}}, "unknown glcm feature 'Kontrast'; did you mean 'Contrast'?"),
        ({"featureClass": {"glcm": "Contrast"}}, "must hold a list of features"),
        ({"setting": ["binWidth"]}, "setting must hold names and values, found list"),
    ],
)
def test_refusals_name_what_is_wrong(found: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        Settings.from_parameters(found, "params.yaml")
    assert says in str(refusal.value)
    assert str(refusal.value).startswith("params.yaml: ")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"setting: [", "not a YAML parameter file"),
        (b"\xff\xfe\x00", "not a YAML parameter file"),
        (b"- 1", "found list"),
    ],
)
def test_a_file_that_is_no_parameter_file(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "params.yaml").write_bytes(content)
    with pytest.raises(SettingsError, match=says):
        Settings.read(tmp_path / "params.yaml")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.yaml: cannot read the settings: No such file"):
        Settings.read(tmp_path / "nowhere.yaml")


def test_yaml_cannot_run_code(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text("setting: !!python/object/apply:os.system ['true']")
    with pytest.raises(SettingsError, match="not a YAML parameter file"):
        Settings.read(file)


def test_image_types_have_settings_of_their_own() -> None:
    settings = Settings.from_parameters(
        {
            "setting": {"binWidth": 25, "sigma": [2.0]},
            "imageType": {"LoG": {"binWidth": 5}, "Original": {}, "Wavelet": {"wavelet": "db2", "level": 2}},
        }
    )
    assert list(settings.image_types) == ["Original", "Wavelet", "LoG"]
    assert settings.of_image_type("Original").binWidth == 25
    assert (settings.of_image_type("LoG").binWidth, settings.of_image_type("LoG").sigma) == (5, (2.0,))
    assert settings.of_image_type("Wavelet").level == 2
    assert Settings.from_parameters(yaml.safe_load(yaml.safe_dump(settings.to_parameters()))) == settings


def test_a_sigma_keeps_the_way_it_was_written() -> None:
    names = image_names(Settings.from_parameters({"imageType": {"LoG": {"sigma": [1, 3.0, 2.5]}}}))
    assert names == ["log-sigma-1-mm-3D", "log-sigma-3-0-mm-3D", "log-sigma-2-5-mm-3D"]
    again = Settings.from_parameters(
        Settings.from_parameters({"imageType": {"LoG": {"sigma": [1, 3.0, 2.5]}}}).to_parameters()
    )
    assert image_names(again) == names


def test_what_an_image_type_cannot_change_is_ignored_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="image type Wavelet: padDistance cannot be set for one image type"):
        settings = Settings.from_parameters({"imageType": {"Wavelet": {"padDistance": 9}}})
    assert settings.image_types == {"Wavelet": {}}


def test_shape2d_needs_force2d() -> None:
    with pytest.warns(UserWarning, match="shape2D needs force2D: true; it is left out"):
        settings = Settings.from_parameters({"featureClass": {"shape2D": None, "glcm": None}})
    assert set(settings.features) == {"glcm"}
    assert set(Settings.from_parameters(parameters(force2D=True)).features) == set(FAMILIES)
    with pytest.raises(SettingsError, match="feature class shape2D needs force2D: true"):
        Settings(features={"shape2D": ("Perimeter",)})


def test_features_that_pyradiomics_dropped_are_left_out_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="glcm Dissimilarity is no longer computed.*same as: DifferenceAverage"):
        settings = Settings.from_parameters({"featureClass": {"glcm": ["Dissimilarity", "Contrast"]}})
    assert settings.features == {"glcm": ("Contrast",)}
