"""pyradiomics, run live beside hgpscale on the same voxels, and how the two are compared."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import currently_in_test_context, event

from hgpscale.catalog import DEFAULT_FAMILIES
from hgpscale.errors import HgpscaleError
from hgpscale.settings import Settings
from hgpscale.single import extract_lesion

RELATIVE = 1e-6
ABSOLUTE = 1e-9

# Values that pyradiomics computes of an empty matrix without looking at it; its other features are NaN then.
_BLIND = {"glcm_MCC": 1.0, "glcm_InverseVariance": 0.0, "glrlm_RunEntropy": 0.0, "glrlm_RunVariance": 0.0}

ImageTypes = Mapping[str, Mapping[str, Any]]
ORIGINAL: ImageTypes = {"Original": {}}


def radiomics() -> Any:
    """Return the reference package; skip the test where it is not installed."""
    with warnings.catch_warnings():
        # Its own imports and regular expressions, not ours.
        warnings.simplefilter("ignore")
        module = pytest.importorskip(
            "radiomics", reason="the reference is not installed: pip install 'hgpscale[reference]' needs a C compiler"
        )
    logging.getLogger("radiomics").setLevel(logging.CRITICAL)
    return module


def reference_features(
    image: sitk.Image,
    mask: sitk.Image,
    setting: Mapping[str, Any],
    label: int = 1,
    image_types: ImageTypes = ORIGINAL,
    features: Mapping[str, Any] | None = None,
) -> dict[str, complex] | None:
    """Return pyradiomics' features, of the default classes unless `features` chooses some, or None where it refuses.

    Where a class has no room for any neighbour, its C code ends the extraction: then there is none.
    """
    radiomics()
    from radiomics.featureextractor import RadiomicsFeatureExtractor

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        extractor = RadiomicsFeatureExtractor(additionalInfo=False, **setting)
        extractor.enabledImagetypes = {name: dict(own) for name, own in image_types.items()}
        if features is not None:
            extractor.enabledFeatures = dict(features)
        try:
            return {name: complex(value) for name, value in extractor.execute(image, mask, label=label).items()}
        except ValueError:
            return None
        except RuntimeError as error:
            if "angle count" in str(error):
                return {}
            raise


def our_features(
    image: sitk.Image,
    mask: sitk.Image,
    setting: Mapping[str, Any],
    label: int = 1,
    image_types: ImageTypes = ORIGINAL,
    features: Mapping[str, Any] | None = None,
) -> dict[str, float] | None:
    """Return hgpscale's features, or None where it refuses the lesion."""
    chosen = features or dict.fromkeys(DEFAULT_FAMILIES)
    settings = Settings.from_parameters(
        {"setting": dict(setting), "imageType": dict(image_types), "featureClass": dict(chosen)}
    )
    with warnings.catch_warnings():
        # A family without values warns; here its NaNs are compared.
        warnings.simplefilter("ignore", UserWarning)
        try:
            return extract_lesion(image, mask, settings, label=label)
        except HgpscaleError:
            return None


def differences(theirs: Mapping[str, complex], ours: Mapping[str, float]) -> dict[str, tuple[complex, float]]:
    """Return the features that differ by more than the promise, after checking that the names are the same.

    An image that pyradiomics leaves out is NaN here. Left out, because pyradiomics' own value means nothing there:
    what it computes of an empty matrix, the axis lengths of a line (roots of a rounding error, sometimes complex),
    NaN for a second eigenvalue that should be 0 and was rounded below it, and a ratio to a volume that should be 0.
    """
    missing = set(ours) - set(theirs)
    assert set(theirs) <= set(ours)
    assert all(name.startswith("log-sigma") and np.isnan(ours[name]) for name in missing), sorted(missing)[:3]
    kurtosis = [value for name, value in ours.items() if name.startswith("lbp-3D-k_")]
    flat_kurtosis = bool(np.isnan(kurtosis).all())
    wrong = {}
    for name, expected in theirs.items():
        found = ours[name]
        feature = name.split("_", 1)[1]
        if np.isnan(found):
            # LBP3D's kurtosis is NaN at voxels with flat surroundings: here that image fails (docs/parity.md).
            fine = bool(np.isnan(expected)) or expected == _BLIND.get(feature)
            fine |= flat_kurtosis and name.startswith("lbp-3D-k_")
            volume = theirs.get(name.replace("SurfaceVolumeRatio", "MeshVolume"), expected)
            fine |= feature == "shape_SurfaceVolumeRatio" and abs(volume) < 1e-12
        elif np.isnan(expected):
            fine = feature in {"glcm_MCC", "glcm_Imc2"} and found == 0
        elif expected.imag != 0 and abs(expected) < 1e-6:
            fine = feature.startswith("shape") and abs(found) < 1e-6
        else:
            fine = abs(expected.real - found) <= max(ABSOLUTE, RELATIVE * abs(expected))
        if not fine:
            wrong[name] = (expected, found)
    return wrong


def _classes_without_values(ours: Mapping[str, float]) -> set[str]:
    """Return image type and class of those whose features are all NaN."""
    classes = {name.rsplit("_", 1)[0] for name in ours}
    valued = {name.rsplit("_", 1)[0] for name, value in ours.items() if not np.isnan(value)}
    return classes - valued


def overflows(image: sitk.Image, setting: Mapping[str, Any]) -> bool:
    """Whether pyradiomics takes a multiple of the maximum in the image's integer type, and may leave that type."""
    multiples = setting.get("resegmentRange") or [0]
    integer = "integer" in image.GetPixelIDTypeAsString()
    return integer and setting.get("resegmentMode") == "relative" and (max(multiples) > 1 or min(multiples) < 0)


def assert_same(
    image: sitk.Image,
    mask: sitk.Image,
    setting: Mapping[str, Any],
    label: int = 1,
    image_types: ImageTypes = ORIGINAL,
    features: Mapping[str, Any] | None = None,
) -> None:
    """Fail unless both give the same features, or both refuse."""
    theirs = reference_features(image, mask, setting, label, image_types, features)
    ours = our_features(image, mask, setting, label, image_types, features)
    assert_same_values(theirs, ours, f"{_about(image)} {setting} {dict(image_types)}")


def assert_same_values(theirs: Mapping[str, complex] | None, ours: Mapping[str, float] | None, about: str) -> None:
    """Do what `assert_same` does, with features that are there already."""
    if currently_in_test_context():
        event("refused" if theirs is None else "compared")
    if theirs == {}:
        assert ours is None or _classes_without_values(ours), "pyradiomics finds no room for a neighbour, hgpscale does"
        return
    if theirs is None or ours is None:
        assert (theirs is None) == (ours is None), f"pyradiomics: {theirs is not None}, hgpscale: {ours is not None}"
        return
    wrong = differences(theirs, ours)
    assert not wrong, f"{about}: {wrong}"


def _about(image: sitk.Image) -> str:
    return f"{image.GetSize()} {image.GetSpacing()} {image.GetPixelIDTypeAsString()}"
