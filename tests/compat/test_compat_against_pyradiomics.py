"""The drop-in class beside pyradiomics' own: the same state, names, order, diagnostics and values."""

from __future__ import annotations

import json
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st
from reference import differences, overflows, radiomics
from strategies import ROUGH, examples, phantoms, preparation_settings

from hgpscale.catalog import FAMILIES, IMAGE_TYPES
from hgpscale.compat import RadiomicsFeatureExtractor

pytestmark = pytest.mark.reference

STATE = ("settings", "enabledImagetypes", "enabledFeatures", "featureClassNames")
OWN_VERSION = "diagnostics_Versions_PyRadiomics"
FIRST_ORDER = {"firstorder": ["Mean", "Energy"]}
FIRST_ORDER_PARAMETERS = {"featureClass": FIRST_ORDER}


Build = Callable[[Any], Any]


def extractors(build: Build) -> tuple[Any, Any]:
    """Return pyradiomics' extractor and ours, both made by `build` from the class."""
    radiomics()
    from radiomics.featureextractor import RadiomicsFeatureExtractor as Reference

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # how pyradiomics checks parameters warns
        theirs = build(Reference)
    return theirs, build(RadiomicsFeatureExtractor)


def phantom() -> tuple[sitk.Image, sitk.Image]:
    """Return 20 x 18 x 16 voxels of noise; label 1 is a block and a single voxel, label 2 one slice of a disc."""
    rng = np.random.default_rng(11)
    image = sitk.GetImageFromArray(rng.normal(60, 40, (16, 18, 20)).astype(np.int16))
    labels = np.zeros((16, 18, 20), dtype=np.uint8)
    labels[4:10, 5:12, 6:13] = 1
    labels[12, 12, 12] = 1
    y, x = np.indices((18, 20))
    labels[14][(y - 8) ** 2 + (x - 9) ** 2 < 40] = 2
    mask = sitk.GetImageFromArray(labels)
    for volume in (image, mask):
        volume.SetSpacing((0.78125, 0.9, 2.5))
        volume.SetOrigin((-153.7, -70.1, 12.0))
    return image, mask


def results(build: Build, *args: Any, **kwargs: Any) -> tuple[OrderedDict[str, Any] | None, ...]:
    """Return what pyradiomics' extractor gives and what ours gives; None where one refuses."""
    theirs, ours = extractors(build)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        # Where a region vanishes by resampling, what describes it fails before it is checked, with SimpleITK's error.
        expected = _unless((ValueError, RuntimeError), theirs, *args, **kwargs)
    return expected, _unless(ValueError, ours, *args, **kwargs)


def _unless(refusal: Any, extractor: Any, *args: Any, **kwargs: Any) -> OrderedDict[str, Any] | None:
    try:
        result: OrderedDict[str, Any] = extractor.execute(*args, **kwargs)
    except refusal:
        return None
    return result


def assert_same_result(theirs: OrderedDict[str, Any], ours: OrderedDict[str, Any]) -> None:
    assert type(ours) is OrderedDict
    assert list(ours) == list(theirs)
    described = [name for name in theirs if name.startswith("diagnostics_") and name != OWN_VERSION]
    assert {name: ours[name] for name in described} == {name: theirs[name] for name in described}
    assert [type(ours[name]) for name in described] == [type(theirs[name]) for name in described]
    measured = [name for name in theirs if not name.startswith("diagnostics_")]
    assert all(ours[name].dtype == np.float64 and ours[name].shape == () for name in measured)
    wrong = differences({name: complex(theirs[name]) for name in measured}, {name: ours[name] for name in measured})
    assert not wrong, wrong


def assert_same(build: Build, *args: Any, **kwargs: Any) -> None:
    theirs, ours = results(build, *args, **kwargs)
    assert theirs is not None
    assert ours is not None
    assert_same_result(theirs, ours)


def assert_same_state(theirs: Any, ours: Any) -> None:
    for name in STATE:
        assert getattr(ours, name) == getattr(theirs, name), name
    for name in ("settings", "enabledImagetypes", "enabledFeatures"):
        assert list(getattr(ours, name)) == list(getattr(theirs, name)), name


PARAMETERS: dict[str, dict[str, Any]] = {
    "empty": {},
    "settings": {"setting": {"binWidth": 10, "label": 1, "distances": [1, 2], "additionalInfo": True}},
    "features": {"featureClass": {"glcm": ["Contrast", "Autocorrelation"], "shape": None, "firstorder": []}},
    "image types": {"imageType": {"Original": {"binWidth": 7}}, "featureClass": {"firstorder": None, "gldm": None}},
    "voxel settings": {
        "setting": {"normalize": True},
        "voxelSetting": {"kernelRadius": 2},
        "featureClass": FIRST_ORDER,
    },
    "2D": {"setting": {"force2D": True, "label": 2}},
}


@pytest.mark.parametrize("parameters", PARAMETERS.values(), ids=PARAMETERS)
def test_parameters_as_mapping_file_and_json(parameters: dict[str, Any], tmp_path: Path) -> None:
    as_yaml, as_json = tmp_path / "parameters.yaml", tmp_path / "parameters.json"
    as_yaml.write_text(yaml.safe_dump(parameters, sort_keys=False))
    as_json.write_text(json.dumps(parameters))

    def loaded(method: str, argument: Any) -> Build:
        def build(cls: Any) -> Any:
            extractor = cls(binWidth=3, force2Ddimension=1)
            getattr(extractor, method)(argument)
            return extractor

        return build

    builds: list[Build] = [lambda cls: cls(parameters), lambda cls: cls(parameters, binWidth=33)]
    if parameters:  # pyradiomics takes an empty file for a missing one
        builds += [lambda cls: cls(str(as_yaml)), lambda cls: cls(str(as_json)), lambda cls: cls(str(as_yaml), label=2)]
        builds += [loaded("loadParams", str(as_yaml)), loaded("loadJSONParams", json.dumps(parameters))]
    for build in builds:
        assert_same_state(*extractors(build))


@pytest.mark.parametrize("parameters", [PARAMETERS[name] for name in ("features", "image types", "voxel settings")])
def test_parameters_give_the_same_result(parameters: dict[str, Any]) -> None:
    assert_same(lambda cls: cls(parameters), *phantom())


@pytest.mark.parametrize(
    "setting",
    [
        {},
        {"additionalInfo": False, "binWidth": 10},
        {"binCount": 16, "voxelArrayShift": 300, "distances": [1, 2]},
        {"resampledPixelSpacing": [1, 1, 1]},
        {"resampledPixelSpacing": [0.78125, 0.9, 2.5], "normalize": True, "normalizeScale": 50},
        {"resampledPixelSpacing": [1, 1, 2], "resegmentRange": [20, 120], "padDistance": 2},
        {"resegmentRange": [-1, 2], "resegmentMode": "sigma", "resegmentShape": True},
        {"preCrop": True, "resegmentRange": [-0.5], "normalize": True, "removeOutliers": 2, "binWidth": 0.3},
    ],
    ids=str,
)
def test_keywords_give_the_same_result(setting: dict[str, Any]) -> None:
    def build(cls: Any) -> Any:
        return cls(**setting)

    assert_same_state(*extractors(build))
    assert_same(build, *phantom())


def test_label_of_execute_wins_and_is_reported() -> None:
    assert_same(lambda cls: cls(FIRST_ORDER_PARAMETERS, label=1), *phantom(), label=2, label_channel=0)


def test_named_features_come_in_the_order_given_deprecated_ones_too() -> None:
    def build(cls: Any) -> Any:
        extractor = cls()
        extractor.disableAllFeatures()
        extractor.enableFeaturesByName(
            ngtdm=["Strength", "Busyness"],
            firstorder=["Variance", "StandardDeviation", "Mean", "Variance"],
            glcm=["Homogeneity1", "Idn"],
            gldm=["DependencePercentage"],
            shape=["Compactness2", "MeshVolume"],
        )
        return extractor

    assert_same(build, *phantom())


@pytest.mark.parametrize("disable", ["disableAllFeatures", "disableAllImageTypes"])
def test_little_or_nothing_enabled(disable: str) -> None:
    def build(cls: Any) -> Any:
        extractor = cls()
        getattr(extractor, disable)()
        return extractor

    assert_same(build, *phantom())


CALLS = st.one_of(
    st.tuples(st.just("addProvenance"), st.tuples(st.booleans()), st.just({})),
    st.tuples(
        st.sampled_from(
            ["enableAllImageTypes", "disableAllImageTypes", "enableAllFeatures", "disableAllFeatures", "addProvenance"]
        ),
        st.just(()),
        st.just({}),
    ),
    st.tuples(
        st.just("enableImageTypeByName"),
        st.tuples(st.sampled_from([*IMAGE_TYPES, "Laplace"]), st.booleans(), st.sampled_from([None, {"binWidth": 5}])),
        st.just({}),
    ),
    st.tuples(
        st.just("enableFeatureClassByName"),
        st.tuples(st.sampled_from([*FAMILIES, "texture"]), st.booleans()),
        st.just({}),
    ),
    st.tuples(st.just("enableImageTypes"), st.just(()), st.sampled_from([{"LoG": {"sigma": [3.0]}}, {"Wavelet": {}}])),
    st.tuples(st.just("enableFeaturesByName"), st.just(()), st.sampled_from([{"glcm": ["Idn"]}, {"shape": None}])),
)


@examples(60)
@given(st.lists(CALLS, max_size=8))
def test_methods_leave_the_same_state(calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]]) -> None:
    theirs, ours = extractors(lambda cls: cls())
    for name, args, kwargs in calls:
        getattr(theirs, name)(*args, **kwargs)
        getattr(ours, name)(*args, **kwargs)
    assert_same_state(theirs, ours)


@examples(60)
@given(phantoms(shortest=3, textures=ROUGH), preparation_settings())
def test_diagnostics_of_any_phantom(images: tuple[sitk.Image, sitk.Image], setting: dict[str, Any]) -> None:
    assume(not overflows(images[0], setting))

    def build(cls: Any) -> Any:
        return cls(FIRST_ORDER_PARAMETERS, **setting)

    theirs, ours = results(build, *images)
    assert (theirs is None) == (ours is None)
    if theirs is not None and ours is not None:
        assert_same_result(theirs, ours)


@pytest.mark.parametrize(
    "setting",
    [
        {"correctMask": True},
        {"correctMask": True, "preCrop": True, "resegmentRange": [0]},
        {"correctMask": True, "normalize": True, "resegmentRange": [-3, 3], "resegmentMode": "sigma"},
        {"resampledPixelSpacing": [1, 1, 1]},
        {"resampledPixelSpacing": [0.78125, 0.9, 2.5], "resegmentRange": [0]},
    ],
    ids=str,
)
def test_mask_on_another_grid(setting: dict[str, Any]) -> None:
    image, mask = phantom()
    mask.SetOrigin((-153.1, -70.6, 13.0))
    assert_same(lambda cls: cls(FIRST_ORDER_PARAMETERS, **setting), image, mask)


@pytest.mark.parametrize("setting", [{}, {"resegmentRange": [0]}, {"preCrop": True, "resegmentRange": [0]}], ids=str)
def test_mask_within_the_tolerance(setting: dict[str, Any]) -> None:
    image, mask = phantom()
    mask.SetSpacing((0.78125 + 1e-8, 0.9, 2.5 - 1e-7))
    mask.SetOrigin((-153.7, -70.1 + 2e-7, 12.0))
    assert_same(lambda cls: cls(FIRST_ORDER_PARAMETERS, **setting), image, mask)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("kind", [sitk.sitkInt16, sitk.sitkFloat32, sitk.sitkFloat64])
def test_files(suffix: str, kind: int, tmp_path: Path) -> None:
    image, mask = phantom()
    paths = str(tmp_path / f"image{suffix}"), str(tmp_path / f"mask{suffix}")
    sitk.WriteImage(sitk.Cast(image, kind), paths[0])
    sitk.WriteImage(mask, paths[1])
    for setting in ({}, {"additionalInfo": False}, {"resampledPixelSpacing": [1, 1, 1]}):
        assert_same(lambda cls, own=setting: cls(FIRST_ORDER_PARAMETERS, **own), *paths, label=2)  # type: ignore[misc]


FILTERED = {
    "usual": {"Wavelet": {"wavelet": "coif1"}, "Original": {}, "LoG": {"sigma": [2.0, 1, 400]}, "Gradient": {}},
    "bins of their own": {
        "SquareRoot": {"binWidth": 10},
        "Exponential": {},
        "Square": {},
        "Logarithm": {"binCount": 8},
    },
    "patterns": {"LBP3D": {"binWidth": 0.5}, "LBP2D": {"binWidth": 1}},
}


@pytest.mark.parametrize(
    "setting", [{}, {"resampledPixelSpacing": [1, 1, 1], "normalize": True, "binWidth": 0.3}], ids=str
)
@pytest.mark.parametrize("image_types", FILTERED.values(), ids=FILTERED)
def test_image_types(image_types: dict[str, dict[str, Any]], setting: dict[str, Any]) -> None:
    def build(cls: Any) -> Any:
        extractor = cls(**setting)
        extractor.disableAllImageTypes()
        for name, own in image_types.items():
            extractor.enableImageTypeByName(name, customArgs=own)
        return extractor

    assert_same(build, *phantom())


def test_all_image_types_and_features() -> None:
    def build(cls: Any) -> Any:
        extractor = cls()
        extractor.enableAllImageTypes()
        extractor.enableAllFeatures()
        return extractor

    assert_same(build, *phantom())


@pytest.mark.parametrize("channel", [None, 0, 1])
def test_mask_with_several_values_a_voxel(channel: int | None) -> None:
    image, mask = phantom()
    layers = sitk.Compose(mask == 1, mask == 2)
    assert_same(lambda cls: cls(FIRST_ORDER_PARAMETERS), image, layers, label_channel=channel)
    assert_same(lambda cls: cls(FIRST_ORDER_PARAMETERS, label_channel=channel or 0), image, layers)


def test_shape_of_one_slice() -> None:
    assert_same(lambda cls: cls({"setting": {"force2D": True}, "featureClass": {"shape2D": None}}), *phantom(), label=2)


@pytest.mark.parametrize(
    "change",
    [
        lambda image, mask: (image, mask, 3),
        lambda image, mask: (image, mask * 0, 1),
        lambda image, mask: ("missing.nii.gz", mask, 1),
    ],
    ids=["no such label", "empty mask", "no file"],
)
def test_both_raise_value_error(change: Callable[[sitk.Image, sitk.Image], tuple[Any, Any, int]]) -> None:
    image, mask, label = change(*phantom())
    assert results(lambda cls: cls(), image, mask, label=label) == (None, None)
