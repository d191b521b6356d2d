"""pyradiomics parameter files: from their sections to the values of `hgpscale.settings.Settings`.

Names are checked here, values by `Settings`. What pyradiomics accepts although it changes no number is accepted
with a warning; what nobody knows is refused.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from hgpscale.catalog import DEFAULT_FAMILIES, FAMILIES, IMAGE_TYPES
from hgpscale.errors import SettingsError

SECTIONS = ("setting", "imageType", "featureClass", "voxelSetting")

INTERPOLATORS = (
    "sitkNearestNeighbor",
    "sitkLinear",
    "sitkBSpline",
    "sitkGaussian",
    "sitkLabelGaussian",
    "sitkHammingWindowedSinc",
    "sitkCosineWindowedSinc",
    "sitkWelchWindowedSinc",
    "sitkLanczosWindowedSinc",
    "sitkBlackmanWindowedSinc",
)
"""SimpleITK's interpolators in the order of their codes, which start at 1."""

PER_IMAGE_TYPE = (
    *("binWidth", "binCount", "distances", "symmetricalGLCM", "weightingNorm", "gldm_a", "voxelArrayShift"),
    *("force2D", "force2Ddimension"),
)
"""Settings that an image type can have of its own, besides those that only its filter reads."""

# Read by `hgpscale.compat` alone: it decides what is reported of an extraction, not a number.
_REPORTING = ("additionalInfo",)
VOXEL_SETTINGS = ("kernelRadius", "maskedKernel", "initValue", "voxelBatch")
"""Read by pyradiomics' voxel-based extraction alone, which hgpscale does not have."""


def read_parameters(path: str | Path) -> Mapping[str, Any]:
    """Return the content of a parameter file in YAML or JSON; an empty file has no section.

    Raises
    ------
    SettingsError
        The file is missing, or not YAML with sections.

    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: cannot read the settings: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise SettingsError(f"{path}: not a YAML parameter file: {reason}") from error
    if content is None:
        return {}
    if not isinstance(content, Mapping):
        raise SettingsError(f"{path}: expected sections {', '.join(SECTIONS)}, found {type(content).__name__}")
    return content


def settings_values(parameters: Mapping[str, Any], known: Collection[str], source: str) -> dict[str, Any]:
    """Return the values that a parameter mapping gives to `Settings`.

    Parameters
    ----------
    parameters
        Mapping with any of the sections ``setting``, ``imageType``, ``featureClass``, ``voxelSetting``.
    known
        Names of all settings.
    source
        Named in messages.

    Raises
    ------
    SettingsError
        A section, setting, image type, feature class or feature has a name that is not known.

    """
    refuse_unknown(parameters, SECTIONS, source, "section")
    values = dict(_mapping(parameters, "setting", source))
    refuse_unknown(values, [*known, *_REPORTING], source, "setting")
    for key in _REPORTING:
        values.pop(key, None)
    refuse_unknown(_mapping(parameters, "voxelSetting", source), VOXEL_SETTINGS, source, "voxel setting")
    image_types = _mapping(parameters, "imageType", source)
    if image_types:
        values["image_types"] = _chosen_image_types(image_types, known, source)
    force2d = bool(values.get("force2D", False))
    classes = _mapping(parameters, "featureClass", source)
    if classes:
        values["features"] = _chosen_features(classes, source, force2d=force2d)
    elif force2d:
        values["features"] = {name: FAMILIES[name].default_names for name in (*DEFAULT_FAMILIES, "shape2D")}
    if values.get("geometryTolerance", ...) is None:
        del values["geometryTolerance"]
    return values


def _mapping(parameters: Mapping[str, Any], section: str, source: str) -> Mapping[str, Any]:
    value = parameters.get(section)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise SettingsError(f"{source}: {section} must hold names and values, found {type(value).__name__}")
    return value


def refuse_unknown(found: Mapping[str, Any], known: Collection[str], source: str, kind: str) -> None:
    """Raise `SettingsError` for the first name that is not known; it names the nearest one that is."""
    for key in found:
        if key not in known:
            raise SettingsError(f"{source}: unknown {kind} {key!r}{nearest(str(key), known)}")


def nearest(key: str, known: Collection[str]) -> str:
    """Return the end of a message about an unknown name: the nearest known one, or all of them."""
    names = {name.lower(): name for name in known}
    match = difflib.get_close_matches(key.lower(), names, n=1, cutoff=0.6)
    return f"; did you mean {names[match[0]]!r}?" if match else f"; known: {', '.join(sorted(known))}"


def _chosen_image_types(
    image_types: Mapping[str, Any], known: Collection[str], source: str
) -> dict[str, dict[str, Any]]:
    refuse_unknown(image_types, IMAGE_TYPES, source, "image type")
    chosen: dict[str, dict[str, Any]] = {}
    for name in image_types:
        own = _mapping(image_types, name, f"{source}: imageType")
        refuse_unknown(own, [*known, *_REPORTING], f"{source}: image type {name}", "setting")
        read = (*PER_IMAGE_TYPE, *IMAGE_TYPES[name].settings)
        for key in own:
            if key not in read:
                warnings.warn(
                    f"{source}: image type {name}: {key} cannot be set for one image type and is ignored, as "
                    "pyradiomics does; put it under 'setting'",
                    stacklevel=2,
                )
        chosen[name] = {key: value for key, value in own.items() if key in read}
    return chosen


def _chosen_features(classes: Mapping[str, Any], source: str, *, force2d: bool) -> dict[str, tuple[str, ...]]:
    refuse_unknown(classes, FAMILIES, source, "feature class")
    chosen = {}
    for family, names in classes.items():
        if family == "shape2D" and not force2d:
            warnings.warn(f"{source}: feature class shape2D needs force2D: true; it is left out", stacklevel=2)
            continue
        if names is not None and not isinstance(names, (list, tuple)):
            raise SettingsError(
                f"{source}: feature class {family} must hold a list of features or nothing, found {names!r}"
            )
        chosen[family] = _feature_names(family, names, source) if names else FAMILIES[family].default_names
    return chosen


def _feature_names(family: str, names: Collection[str], source: str) -> tuple[str, ...]:
    removed = dict(FAMILIES[family].removed)
    kept = [name for name in names if name not in removed]
    refuse_unknown(dict.fromkeys(kept), FAMILIES[family].names, source, f"{family} feature")
    for name in names:
        if name in removed:
            message = f"{source}: {family} {name} is no longer computed by pyradiomics; same as: {removed[name]}"
            warnings.warn(message, stacklevel=2)
    if not kept:
        raise SettingsError(f"{source}: feature class {family}: none of {', '.join(names)} is computed any more")
    return tuple(kept)
