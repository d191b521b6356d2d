"""What to extract: one frozen object, read from and written to a pyradiomics parameter file.

Field names are pyradiomics' own. A key that nobody knows is an error that names it and the nearest known one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from hgpscale.bands import Band, band_of
from hgpscale.catalog import DEFAULT_FAMILIES, FAMILIES, IMAGE_TYPES, LESION
from hgpscale.errors import SettingsError
from hgpscale.parameters import INTERPOLATORS, PER_IMAGE_TYPE, nearest, read_parameters, settings_values

_DEFAULT_WAVELET = "coif1"


PRESETS = Path(__file__).parent / "presets"
"""Parameter files that come along; `presets` lists their names."""


def presets() -> tuple[str, ...]:
    """Return the names of the settings that come along."""
    return tuple(sorted(path.stem for path in PRESETS.glob("*.yaml")))


def _original_alone() -> dict[str, dict[str, Any]]:
    return {"Original": {}}


def _lesion_alone() -> dict[str, Any]:
    return {LESION: None}


class Settings(BaseModel):
    """Everything that decides a feature's value besides the voxels, and where to compute it.

    Attributes
    ----------
    binWidth
        Width of a grey-level bin in the image's unit; bins start at multiples of it.
    binCount
        Fixed number of bins over the region's range instead; wins over `binWidth`.
    normalize, normalizeScale, removeOutliers
        Bring the whole image to mean 0 and deviation `normalizeScale` before all else; values more than
        `removeOutliers` deviations away are moved to that limit.
    resampledPixelSpacing
        Spacing in mm **in pyradiomics' order (x, y, z)** to resample to; 0 keeps an axis; None leaves the grid.
    interpolator
        SimpleITK's interpolator for the image (masks take nearest neighbour); None: no resampling.
    padDistance
        Voxels around the region's box that are resampled, and that filters see, where the image is cropped.
    preCrop
        Filters see the region's box and `padDistance` voxels around it, not the whole image.
    label
        Value of the region in the mask; None: the mask's only non-zero value. A manifest's `label` wins.
    label_channel
        Which component of a mask with several values a voxel, from 0.
    minimumROISize
        A region with this number of voxels or fewer is refused.
    minimumROIDimensions
        A region that extends in fewer axes than this is refused.
    geometryTolerance
        How far the mask's grid may lie from the image's, see `volume.geometry_differences`.
    correctMask
        Resample a mask on another grid onto the image's, by nearest neighbour.
    resegmentRange, resegmentMode, resegmentShape
        Keep the region's voxels from the lower to the upper threshold (or from the only one up): as they are
        (``absolute``), times the region's maximum (``relative``) or in deviations from its mean (``sigma``);
        shape is measured before, or after with `resegmentShape`.
    force2D, force2Ddimension
        Look for neighbours in slices only; the axis across them is 0 for z, 1 for y, 2 for x.
    distances
        Chebyshev distances in voxels between neighbours, for glcm, gldm and ngtdm.
    weightingNorm
        Merge the directions of glcm and glrlm, weighted by the neighbour's distance in mm in this norm.
    symmetricalGLCM
        Count each pair in both directions.
    gldm_a
        Largest difference of grey level at which a neighbour is dependent.
    voxelArrayShift
        Added to the voxels for Energy, TotalEnergy and RootMeanSquared.
    sigma
        LoG: widths of the Gaussian in mm. The image's name repeats the number as it was written.
    wavelet, start_level, level
        Wavelet: PyWavelets' name; levels of approximation before the first one used; number of levels used.
    gradientUseSpacing
        Gradient: a change by mm, else by voxel.
    lbp2DRadius, lbp2DSamples, lbp2DMethod
        LBP2D: circle in voxels, points on it, scikit-image's method.
    lbp3DLevels, lbp3DIcosphereRadius, lbp3DIcosphereSubdivision
        LBP3D: levels of spherical harmonics, sphere in voxels, how finely it is divided.
    regions
        What to measure, by name: ``lesion`` (the mask), ``core``, ``rim`` and ``margin`` at distances in mm from the
        lesion's surface, see `bands.band_of`. Several of a kind have names such as ``margin-2mm``.
    airThreshold
        Outside of the lesion no region takes a voxel below it (HU for CT); None: any voxel.
    image_types
        The settings that differ from the above for one image type, by pyradiomics' name of each enabled type.
    features
        Names of the enabled features by family.
    device
        Where to compute: ``cpu``, ``gpu``, or ``auto``, a GPU where there is one. It decides how long that takes, never
        a number, so it is no part of what `to_parameters` says: no cube is of another device.

    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)

    binWidth: float = Field(25.0, gt=0, allow_inf_nan=False)  # noqa: N815 (pyradiomics' names, here and below)
    binCount: int | None = Field(None, gt=0)  # noqa: N815
    normalize: bool = False
    normalizeScale: float = Field(1.0, gt=0, allow_inf_nan=False)  # noqa: N815
    removeOutliers: float | None = Field(None, gt=0, allow_inf_nan=False)  # noqa: N815
    resampledPixelSpacing: tuple[float, float, float] | None = None  # noqa: N815
    interpolator: str | None = "sitkBSpline"
    padDistance: int = Field(5, ge=0)  # noqa: N815
    preCrop: bool = False  # noqa: N815
    label: int | None = Field(None, gt=0)
    label_channel: int = Field(0, ge=0)
    minimumROISize: int | None = Field(None, gt=0)  # noqa: N815
    minimumROIDimensions: int = Field(2, ge=1, le=3)  # noqa: N815
    geometryTolerance: float = Field(1e-6, gt=0, allow_inf_nan=False)  # noqa: N815
    correctMask: bool = False  # noqa: N815
    resegmentRange: tuple[float, ...] | None = None  # noqa: N815
    resegmentMode: Literal["absolute", "relative", "sigma"] = "absolute"  # noqa: N815
    resegmentShape: bool = False  # noqa: N815
    force2D: bool = False  # noqa: N815
    force2Ddimension: int = Field(0, ge=0, le=2)  # noqa: N815
    distances: tuple[int, ...] = (1,)
    weightingNorm: Literal["manhattan", "euclidean", "infinity", "no_weighting"] | None = None  # noqa: N815
    symmetricalGLCM: bool = True  # noqa: N815
    gldm_a: int = Field(0, ge=0)
    voxelArrayShift: int = 0  # noqa: N815
    sigma: tuple[int | float, ...] = ()
    wavelet: str = _DEFAULT_WAVELET
    start_level: int = Field(0, ge=0)
    level: int = Field(1, gt=0)
    gradientUseSpacing: bool = True  # noqa: N815
    lbp2DRadius: float = Field(1.0, gt=0, allow_inf_nan=False)  # noqa: N815
    lbp2DSamples: int = Field(8, ge=1)  # noqa: N815
    lbp2DMethod: Literal["default", "ror", "uniform", "nri_uniform", "var"] = "uniform"  # noqa: N815
    lbp3DLevels: int = Field(2, ge=1)  # noqa: N815
    lbp3DIcosphereRadius: float = Field(1.0, gt=0, allow_inf_nan=False)  # noqa: N815
    lbp3DIcosphereSubdivision: int = Field(1, ge=0)  # noqa: N815
    regions: dict[str, Any] = Field(default_factory=_lesion_alone)
    airThreshold: float | None = Field(-200.0, allow_inf_nan=False)  # noqa: N815
    image_types: dict[str, dict[str, Any]] = Field(default_factory=_original_alone)
    features: dict[str, tuple[str, ...]] = Field(
        default_factory=lambda: {name: FAMILIES[name].default_names for name in DEFAULT_FAMILIES}
    )
    device: Literal["cpu", "gpu", "auto"] = "cpu"

    def __init__(self, **values: Any) -> None:
        """Check all values; raises `SettingsError` for the first that is unknown or out of range."""
        for name in values:
            if name not in type(self).model_fields:
                raise SettingsError(f"unknown setting {name!r}{nearest(name, type(self).model_fields)}")
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

    @field_validator("resegmentRange")
    @classmethod
    def _one_or_two_thresholds(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if value is not None and not 1 <= len(value) <= 2:
            raise ValueError("must be one threshold, or a lower and an upper one")
        return value

    @field_validator("sigma")
    @classmethod
    def _widths_in_mm(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0 < sigma < float("inf") for sigma in value) or len(set(map(str, value))) < len(value):
            raise ValueError("must be a list of different widths in mm, each above 0")
        return value

    @field_validator("wavelet")
    @classmethod
    def _known_wavelet(cls, value: str) -> str:
        if value != _DEFAULT_WAVELET:
            import pywt

            known = pywt.wavelist(kind="discrete")
            if value not in known:
                raise ValueError(f"unknown wavelet{nearest(value, known)}")
        return value

    @field_validator("regions", mode="before")
    @classmethod
    def _known_regions(cls, value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping) or not value:
            raise ValueError("must hold names and distances in mm, such as lesion: and rim: 3")
        for name, given in value.items():
            band_of(str(name), given)
        ordered = sorted(value.items(), key=lambda item: item[0] != LESION)
        return {str(name): None if name == LESION else _plain(given) for name, given in ordered}

    @field_validator("image_types")
    @classmethod
    def _known_image_types(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        if not value:
            raise ValueError("no image type is enabled")
        for name, own in value.items():
            if name not in IMAGE_TYPES:
                raise ValueError(f"unknown image type {name!r}{nearest(name, IMAGE_TYPES)}")
            possible = (*PER_IMAGE_TYPE, *IMAGE_TYPES[name].settings)
            for key in own:
                if key not in possible:
                    raise ValueError(f"image type {name} has no setting {key!r} of its own{nearest(key, possible)}")
        return {name: _checked(name, value[name]) for name in IMAGE_TYPES if name in value}

    @field_validator("features")
    @classmethod
    def _known_features(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        if not value:
            raise ValueError("no feature class is enabled")
        for family, chosen in value.items():
            if family not in FAMILIES:
                raise ValueError(f"unknown feature class {family!r}{nearest(family, FAMILIES)}")
            for name in chosen:
                if name not in FAMILIES[family].names:
                    raise ValueError(f"unknown {family} feature {name!r}{nearest(name, FAMILIES[family].names)}")
            if not chosen:
                raise ValueError(f"feature class {family!r} has no feature")
        return {
            family: tuple(name for name in FAMILIES[family].names if name in value[family])
            for family in FAMILIES
            if family in value
        }

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        if "shape2D" in self.features and not self.force2D:
            raise ValueError("feature class shape2D needs force2D: true")
        if "LoG" in self.image_types and not self.of_image_type("LoG").sigma:
            raise ValueError("image type LoG needs sigma: a list of widths in mm")
        return self

    @property
    def bands(self) -> dict[str, Band]:
        """The regions besides the lesion itself, by name."""
        return {name: band_of(name, value) for name, value in self.regions.items() if name != LESION}

    @property
    def reach(self) -> float:
        """How far the regions go beyond the lesion's surface, in mm."""
        return max((band.reach for band in self.bands.values()), default=0.0)

    def of_image_type(self, name: str) -> Settings:
        """Return the settings that hold for the images of one enabled type, by pyradiomics' name of it."""
        return self.model_copy(update=self.image_types[name])

    def on(self, device: str | None) -> Settings:
        """Return the same to be computed on another device; None: on the one that these settings say.

        Raises
        ------
        SettingsError
            There is no such device.

        """
        return self if device is None else self.model_copy(update={"device": type(self)(device=device).device})

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
            A key is unknown or a value is out of range.

        """
        known = [name for name in cls.model_fields if name not in ("image_types", "features")]
        values = settings_values(parameters, known, source)
        try:
            return cls(**values)
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
        return cls.from_parameters(read_parameters(path), str(path))

    @classmethod
    def of(cls, settings: Settings | Mapping[str, Any] | str | Path | None) -> Settings:
        """Return settings from whatever a caller has.

        Settings, a parameter mapping, a file, a preset's name such as ``hgp-ct``, or None (defaults).
        """
        if settings is None:
            return cls()
        if isinstance(settings, Settings):
            return settings
        if isinstance(settings, Mapping):
            return cls.from_parameters(settings)
        if str(settings) in presets():
            return cls.read(PRESETS / f"{settings}.yaml")
        if not Path(settings).suffix and not Path(settings).exists():
            raise SettingsError(f"{settings}: is neither a parameter file nor a preset ({', '.join(presets())})")
        return cls.read(settings)

    def to_parameters(self) -> dict[str, Any]:
        """Return the content of a pyradiomics parameter file that gives the same numbers, wherever they are computed.

        `from_parameters` reads it back.
        """
        setting = self.model_dump(mode="json", exclude={"device"})
        image_types, features = setting.pop("image_types"), setting.pop("features")
        # pyradiomics knows no regions: a file that asks for none stays one that it reads.
        if setting["regions"] == _lesion_alone():
            del setting["regions"], setting["airThreshold"]
        return {
            "imageType": image_types,
            "featureClass": features,
            # A setting of None is pyradiomics' default, except for the interpolator, where it turns resampling off.
            "setting": {key: value for key, value in setting.items() if value is not None or key == "interpolator"},
        }

    def write(self, path: str | Path) -> None:
        """Write a parameter file that `read`, and pyradiomics, can read."""
        Path(path).write_text(yaml.safe_dump(self.to_parameters(), sort_keys=False), encoding="utf-8")


def _plain(value: Any) -> float | tuple[float, ...]:
    """Return distances as numbers, a single one alone."""
    given = tuple(map(float, value)) if isinstance(value, (list, tuple)) else (float(value),)
    return given if len(given) > 1 else given[0]


def _checked(name: str, own: Mapping[str, Any]) -> dict[str, Any]:
    """Return an image type's own settings as `Settings` would hold them."""
    try:
        checked = Settings(**own)
    except SettingsError as error:
        raise ValueError(f"image type {name}: {error}") from error
    return {key: getattr(checked, key) for key in own}


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    prefix = "" if where in ("", "image_types") else f"setting {where}: "
    found = "" if where in ("", "image_types", "features") else f", found {problem['input']!r}"
    reason = problem["msg"].removeprefix("Value error, ").replace("valid tuple", "list")
    return f"{prefix}{reason}{found}"
