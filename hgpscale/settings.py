"""What to extract: one frozen object, read from and written to a pyradiomics parameter file.

Field names are pyradiomics' own. A key that nobody knows is an error that names it and the nearest known one; a
setting that pyradiomics knows and this version cannot compute is an error as soon as it would change a number.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from hgpscale.catalog import FAMILIES
from hgpscale.errors import SettingsError

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

# Settings of pyradiomics that this version does not compute, with the values that leave the numbers as they are.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "normalize": (False,),
    "resegmentRange": (None,),
    "force2D": (False,),
    "weightingNorm": (None,),
    "preCrop": (False, True),
    "label_channel": (0,),
    "additionalInfo": (False, True),
}
# Settings that pyradiomics reads only where one of those above, or an image type, is on.
_DEPENDENT = (
    "normalizeScale",
    "removeOutliers",
    "resegmentMode",
    "resegmentShape",
    "force2Ddimension",
    "sigma",
    "start_level",
    "level",
    "wavelet",
    "gradientUseSpacing",
    "lbp2DRadius",
    "lbp2DSamples",
    "lbp2DMethod",
    "lbp3DLevels",
    "lbp3DIcosphereRadius",
    "lbp3DIcosphereSubdivision",
)
# Read by pyradiomics' voxel-based extraction alone, which this version does not have.
_VOXEL_SETTINGS = ("kernelRadius", "maskedKernel", "initValue", "voxelBatch")
_SECTIONS = ("setting", "imageType", "featureClass", "voxelSetting")
_UNAVAILABLE_FAMILIES = ("shape2D",)


class Settings(BaseModel):
    """Everything that decides a feature's value besides the voxels.

    Attributes
    ----------
    binWidth
        Width of a grey-level bin in the image's unit; bins start at multiples of it.
    binCount
        Fixed number of bins over the region's range instead; wins over `binWidth`.
    resampledPixelSpacing
        Spacing in mm **in pyradiomics' order (x, y, z)** to resample to; 0 keeps an axis; None leaves the grid.
    interpolator
        SimpleITK's interpolator for the image (masks take nearest neighbour); None: no resampling.
    padDistance
        Voxels of the new grid resampled around the region's box.
    label
        Value of the region in the mask; None: the mask's only non-zero value. A manifest's `label` wins.
    minimumROISize
        A region with this number of voxels or fewer is refused.
    minimumROIDimensions
        A region that extends in fewer axes than this is refused.
    geometryTolerance
        How far the mask's grid may lie from the image's, see `volume.geometry_differences`.
    correctMask
        Resample a mask on another grid onto the image's, by nearest neighbour.
    distances
        Chebyshev distances in voxels between neighbours, for glcm, gldm and ngtdm.
    symmetricalGLCM
        Count each pair in both directions.
    gldm_a
        Largest difference of grey level at which a neighbour is dependent.
    voxelArrayShift
        Added to the voxels for Energy, TotalEnergy and RootMeanSquared.
    features
        Names of the enabled features by family.

    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)

    binWidth: float = Field(25.0, gt=0, allow_inf_nan=False)  # noqa: N815 (pyradiomics' names, here and below)
    binCount: int | None = Field(None, gt=0)  # noqa: N815
    resampledPixelSpacing: tuple[float, float, float] | None = None  # noqa: N815
    interpolator: str | None = "sitkBSpline"
    padDistance: int = Field(5, ge=0)  # noqa: N815
    label: int | None = Field(None, gt=0)
    minimumROISize: int | None = Field(None, gt=0)  # noqa: N815
    minimumROIDimensions: int = Field(2, ge=1, le=3)  # noqa: N815
    geometryTolerance: float = Field(1e-6, gt=0, allow_inf_nan=False)  # noqa: N815
    correctMask: bool = False  # noqa: N815
    distances: tuple[int, ...] = (1,)
    symmetricalGLCM: bool = True  # noqa: N815
    gldm_a: int = Field(0, ge=0)
    voxelArrayShift: int = 0  # noqa: N815
    features: dict[str, tuple[str, ...]] = Field(
        default_factory=lambda: {name: family.default_names for name, family in FAMILIES.items()}
    )

    def __init__(self, **values: Any) -> None:
        """Check all values; raises `SettingsError` for the first that is unknown or out of range."""
        for name in values:
            if name not in type(self).model_fields:
                raise SettingsError(f"unknown setting {name!r}{_nearest(name, type(self).model_fields)}")
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise SettingsError(_first_problem(error)) from error

    @field_validator("resampledPixelSpacing")
    @classmethod
    def _spacing_not_negative(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if value is not None and not all(0 <= step < float("inf") for step in value):
            raise ValueError("every spacing must be 0 (keep that axis) or a positive number of mm")
        return value

    @field_validator("interpolator", mode="before")
    @classmethod
    def _known_interpolator(cls, value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= len(INTERPOLATORS):
            return INTERPOLATORS[value - 1]
        if value is not None and value not in INTERPOLATORS:
            raise ValueError(f"must be one of {', '.join(INTERPOLATORS)}, 1-{len(INTERPOLATORS)}, or null")
        return value

    @field_validator("distances")
    @classmethod
    def _useful_distances(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or min(value) < 1 or len(set(value)) < len(value):
            raise ValueError("must be a list of different whole numbers of voxels, each at least 1")
        return value

    @field_validator("features")
    @classmethod
    def _known_features(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        if not value:
            raise ValueError("no feature class is enabled")
        for family, chosen in value.items():
            if family not in FAMILIES:
                raise ValueError(f"unknown feature class {family!r}{_nearest(family, FAMILIES)}")
            for name in chosen:
                if name not in FAMILIES[family].names:
                    raise ValueError(f"unknown {family} feature {name!r}{_nearest(name, FAMILIES[family].names)}")
            if not chosen:
                raise ValueError(f"feature class {family!r} has no feature")
        return {
            family: tuple(name for name in FAMILIES[family].names if name in value[family])
            for family in FAMILIES
            if family in value
        }

    @model_validator(mode="after")
    def _resampling_is_whole(self) -> Settings:
        if self.resampledPixelSpacing is not None and not any(self.resampledPixelSpacing):
            raise ValueError("resampledPixelSpacing keeps every axis: give at least one spacing above 0, or null")
        return self

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any], source: str = "settings") -> Settings:
        """Build settings from the content of a pyradiomics parameter file.

        Parameters
        ----------
        parameters
            Mapping with any of the sections ``setting``, ``imageType``, ``featureClass``, ``voxelSetting``.
        source
            Named in messages.

        Raises
        ------
        SettingsError
            A key is unknown, a value is out of range, or this version does not compute what it asks for.

        """
        _refuse_unknown(parameters, _SECTIONS, source, "section")
        setting = dict(_mapping(parameters, "setting", source))
        _refuse_unknown(setting, [*_own_fields(), *_NEUTRAL, *_DEPENDENT], source, "setting")
        for key, neutral in _NEUTRAL.items():
            value = setting.pop(key, neutral[0])
            if value not in neutral:
                raise SettingsError(f"{source}: setting {key}: {value!r} is not available in this version; remove it")
        for key in _DEPENDENT:
            setting.pop(key, None)
        _refuse_unknown(_mapping(parameters, "voxelSetting", source), _VOXEL_SETTINGS, source, "voxel setting")
        _check_image_types(_mapping(parameters, "imageType", source), source)
        if parameters.get("featureClass"):
            setting["features"] = _chosen_features(_mapping(parameters, "featureClass", source), source)
        if setting.get("geometryTolerance", ...) is None:
            del setting["geometryTolerance"]
        try:
            return cls(**setting)
        except SettingsError as error:
            raise SettingsError(f"{source}: {error}") from error

    @classmethod
    def read(cls, path: str | Path) -> Settings:
        """Read a pyradiomics parameter YAML (or JSON) file.

        Raises
        ------
        SettingsError
            The file is missing, is not YAML, or `from_parameters` refuses its content.

        """
        try:
            content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise SettingsError(f"{path}: cannot read the settings: {error.strerror or error}") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            reason = " ".join(str(error).split())
            raise SettingsError(f"{path}: not a YAML parameter file: {reason}") from error
        if content is None:
            content = {}
        if not isinstance(content, Mapping):
            raise SettingsError(f"{path}: expected sections {', '.join(_SECTIONS)}, found {type(content).__name__}")
        return cls.from_parameters(content, str(path))

    @classmethod
    def of(cls, settings: Settings | Mapping[str, Any] | str | Path | None) -> Settings:
        """Return settings from whatever a caller has: settings, a parameter mapping, a file, or None (defaults)."""
        if settings is None:
            return cls()
        if isinstance(settings, Settings):
            return settings
        if isinstance(settings, Mapping):
            return cls.from_parameters(settings)
        return cls.read(settings)

    def to_parameters(self) -> dict[str, Any]:
        """Return the content of a pyradiomics parameter file that says the same; `from_parameters` reads it back."""
        setting = self.model_dump(mode="json", exclude={"features"})
        return {
            "imageType": {"Original": {}},
            "featureClass": {family: list(names) for family, names in self.features.items()},
            # A setting of None is pyradiomics' default, except for the interpolator, where it turns resampling off.
            "setting": {key: value for key, value in setting.items() if value is not None or key == "interpolator"},
        }

    def write(self, path: str | Path) -> None:
        """Write a parameter file that `read`, and pyradiomics, can read."""
        Path(path).write_text(yaml.safe_dump(self.to_parameters(), sort_keys=False), encoding="utf-8")


def _own_fields() -> list[str]:
    return [name for name in Settings.model_fields if name != "features"]


def _mapping(parameters: Mapping[str, Any], section: str, source: str) -> Mapping[str, Any]:
    value = parameters.get(section)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise SettingsError(f"{source}: {section} must hold names and values, found {type(value).__name__}")
    return value


def _refuse_unknown(found: Mapping[str, Any], known: Any, source: str, kind: str) -> None:
    for key in found:
        if key not in known:
            raise SettingsError(f"{source}: unknown {kind} {key!r}{_nearest(str(key), known)}")


def _nearest(key: str, known: Any) -> str:
    match = difflib.get_close_matches(key.lower(), [name.lower() for name in known], n=1, cutoff=0.6)
    names = {name.lower(): name for name in known}
    return f"; did you mean {names[match[0]]!r}?" if match else f"; known: {', '.join(sorted(known))}"


def _check_image_types(image_types: Mapping[str, Any], source: str) -> None:
    for name, custom in image_types.items():
        if name != "Original":
            raise SettingsError(f"{source}: image type {name!r} is not available in this version; available: Original")
        if custom:
            raise SettingsError(
                f"{source}: image type Original has settings of its own ({', '.join(custom)}); put them under 'setting'"
            )


def _chosen_features(classes: Mapping[str, Any], source: str) -> dict[str, tuple[str, ...]]:
    chosen = {}
    for family, names in classes.items():
        if family in _UNAVAILABLE_FAMILIES:
            raise SettingsError(f"{source}: feature class {family!r} is not available in this version")
        _refuse_unknown({family: None}, list(FAMILIES), source, "feature class")
        if names is not None and not isinstance(names, list):
            raise SettingsError(
                f"{source}: feature class {family} must hold a list of features or nothing, found {names!r}"
            )
        chosen[family] = _feature_names(family, names, source) if names else FAMILIES[family].default_names
    return chosen


def _feature_names(family: str, names: list[str], source: str) -> tuple[str, ...]:
    removed = dict(FAMILIES[family].removed)
    kept = [name for name in names if name not in removed]
    _refuse_unknown(dict.fromkeys(kept), FAMILIES[family].names, source, f"{family} feature")
    for name in names:
        if name in removed:
            message = f"{source}: {family} {name} is no longer computed by pyradiomics; same as: {removed[name]}"
            warnings.warn(message, stacklevel=2)
    if not kept:
        raise SettingsError(f"{source}: feature class {family}: none of {', '.join(names)} is computed any more")
    return tuple(kept)


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    prefix = f"setting {where}: " if where else ""
    return f"{prefix}{problem['msg'].removeprefix('Value error, ')}, found {problem['input']!r}"
