"""A class that is used as pyradiomics' `RadiomicsFeatureExtractor` is."""
# ruff: noqa: N802, N803 (methods and parameters have pyradiomics' names)

from __future__ import annotations

import copy
import json
import logging
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hgpscale.catalog import FAMILIES, IMAGE_TYPES, flat_name
from hgpscale.compat.diagnostics import diagnostics
from hgpscale.compat.request import Request, understand
from hgpscale.compat.scan import read_whole
from hgpscale.contents import Key
from hgpscale.engine.tasks import compute_named
from hgpscale.errors import Failure, FilterError, SettingsError, VoxelBasedError
from hgpscale.parameters import SECTIONS, read_parameters, refuse_unknown
from hgpscale.single import cut_lesion, name_of

if TYPE_CHECKING:
    import SimpleITK as sitk
    from numpy.typing import NDArray

logger = logging.getLogger("hgpscale.compat")

_DEFAULTS: dict[str, Any] = {
    "minimumROIDimensions": 2,
    "minimumROISize": None,
    "normalize": False,
    "normalizeScale": 1,
    "removeOutliers": None,
    "resampledPixelSpacing": None,
    "interpolator": "sitkBSpline",
    "preCrop": False,
    "padDistance": 5,
    "distances": [1],
    "force2D": False,
    "force2Ddimension": 0,
    "resegmentRange": None,
    "label": 1,
    "additionalInfo": True,
}
"""What pyradiomics writes into `settings`, and reports, where nothing is set. The other settings have defaults too."""


class RadiomicsFeatureExtractor:
    """Computes pyradiomics' features of a region, by pyradiomics' names and in its order.

    Parameters
    ----------
    parameters
        Path of a parameter file in YAML or JSON, or its content; None: pyradiomics' defaults.
    **settings
        Settings that override those.

    Attributes
    ----------
    settings : dict
        Settings by name; may be changed, and are checked when they are used.
    enabledImagetypes : dict
        By image type, the settings that differ for it.
    enabledFeatures : dict
        By feature class, a list of features; None or an empty list: all but the deprecated ones.
    featureClassNames : list of str
        All feature classes.

    Raises
    ------
    SettingsError
        The file cannot be read, a name is unknown, or a value is out of range. It is a ValueError.

    """

    def __init__(self, parameters: str | Path | Mapping[str, Any] | None = None, /, **settings: Any) -> None:
        self.featureClassNames = sorted(FAMILIES)
        self.settings: dict[str, Any] = dict(_DEFAULTS)
        self.enabledImagetypes: dict[str, Any] = {"Original": {}}
        self.enabledFeatures: dict[str, Any] = {name: [] for name in self.featureClassNames if name != "shape2D"}
        if parameters is not None:
            content, source = (parameters, "settings") if isinstance(parameters, Mapping) else _read(parameters)
            self._apply(content, source)
        self.settings.update(settings)
        self._request(self.settings)

    def addProvenance(self, provenance_on: bool = True) -> None:
        """Report ``diagnostics_*`` with the features, or stop it."""
        self.settings["additionalInfo"] = provenance_on

    def loadParams(self, paramsFile: str | Path) -> None:
        """Replace all settings, image types and features by those of a parameter file in YAML or JSON.

        Raises
        ------
        SettingsError
            As when the extractor is made.

        """
        self._apply(*_read(paramsFile))
        self._request(self.settings)

    def loadJSONParams(self, JSON_configuration: str) -> None:
        """Replace all settings, image types and features by those of a JSON text; raises as `loadParams`."""
        try:
            content = json.loads(JSON_configuration)
        except json.JSONDecodeError as error:
            raise SettingsError(f"expected the content of a parameter file in JSON, found: {error}") from error
        if not isinstance(content, Mapping):
            raise SettingsError(f"expected sections {', '.join(SECTIONS)} in JSON, found {type(content).__name__}")
        self._apply(content, "JSON settings")
        self._request(self.settings)

    def enableAllImageTypes(self) -> None:
        """Enable every image type without settings of its own; LoG is left out unless ``settings`` has a sigma."""
        self.enabledImagetypes.update({name: {} for name in sorted(IMAGE_TYPES)})

    def disableAllImageTypes(self) -> None:
        """Disable every image type; shape is measured all the same."""
        self.enabledImagetypes = {}

    def enableImageTypeByName(
        self,
        imageType: str,
        enabled: bool = True,
        customArgs: Mapping[str, Any] | None = None,
    ) -> None:
        """Enable or disable an image type, with settings of its own; one that is unknown is logged and ignored."""
        if imageType not in IMAGE_TYPES:
            logger.warning("image type %s is not known; known: %s", imageType, ", ".join(IMAGE_TYPES))
        elif enabled:
            self.enabledImagetypes[imageType] = dict(customArgs or {})
        else:
            self.enabledImagetypes.pop(imageType, None)

    def enableImageTypes(self, **enabledImagetypes: Mapping[str, Any]) -> None:
        """Enable image types by keyword, each with a mapping of its own settings; see `enabledImagetypes`."""
        self.enabledImagetypes.update(enabledImagetypes)

    def enableAllFeatures(self) -> None:
        """Enable all features of all classes, but for the deprecated ones."""
        self.enabledFeatures.update({name: [] for name in self.featureClassNames})

    def disableAllFeatures(self) -> None:
        """Disable all feature classes."""
        self.enabledFeatures = {}

    def enableFeatureClassByName(self, featureClass: str, enabled: bool = True) -> None:
        """Enable or disable a class as a whole; one that is unknown is logged and ignored."""
        if featureClass not in self.featureClassNames:
            logger.warning("feature class %s is not known; known: %s", featureClass, ", ".join(FAMILIES))
        elif enabled:
            self.enabledFeatures[featureClass] = []
        else:
            self.enabledFeatures.pop(featureClass, None)

    def enableFeaturesByName(self, **enabledFeatures: Collection[str] | None) -> None:
        """Enable features by keyword: a list of names by class; see `enabledFeatures`."""
        self.enabledFeatures.update(enabledFeatures)

    def execute(
        self,
        imageFilepath: str | Path | sitk.Image,
        maskFilepath: str | Path | sitk.Image,
        label: int | None = None,
        label_channel: int | None = None,
        voxelBased: bool = False,
    ) -> OrderedDict[str, Any]:
        """Compute what is enabled of one region.

        Parameters
        ----------
        imageFilepath, maskFilepath
            Paths of NIfTI, NRRD or MetaImage files, or 3D SimpleITK images. HU for CT.
        label
            The region's value in the mask; None: the settings' label.
        label_channel
            Component of a mask with several values a voxel; None: the settings', or the first.
        voxelBased
            Must be False.

        Returns
        -------
        OrderedDict
            ``diagnostics_*`` unless `additionalInfo` is off, then features by name, float64 arrays without dimension;
            NaN where one is not defined, and the log says why.

        Raises
        ------
        VoxelBasedError
            `voxelBased` is set.
        SettingsError
            A setting, image type, feature class or feature is unknown, or a value is out of range.
        ImageError, GeometryError, MaskError, VoxelError
            The files or the region cannot be used; all are ValueErrors.

        """
        if voxelBased:
            raise VoxelBasedError("voxelBased=True: hgpscale has no voxel-based extraction; use pyradiomics for it")
        setting = dict(self.settings)
        if label is not None:
            setting["label"] = label
        if label_channel is not None:
            setting["label_channel"] = label_channel
        request = self._request(setting)
        for remark in request.remarks:
            logger.warning("%s", remark)
        result: OrderedDict[str, Any] = OrderedDict()
        if setting.get("additionalInfo"):
            scan = read_whole(imageFilepath, maskFilepath, request.settings)
            cut = scan.cut
            result.update(diagnostics(scan, request.settings, setting, self.enabledImagetypes))
        else:
            cut = cut_lesion(imageFilepath, maskFilepath, None, request.settings)
        if request.features:
            names = name_of(imageFilepath, "image"), name_of(maskFilepath, "mask")
            values, failures = compute_named(cut, request.settings, *names)
            _report(failures)
            result.update(_features(request, values, failures))
        return result

    def _apply(self, parameters: Mapping[str, Any], source: str) -> None:
        """Take over a parameter file's content; what it does not set is pyradiomics' default."""
        refuse_unknown(parameters, SECTIONS, source, "section")
        image_types, features, setting, voxel = (
            _section(parameters, name, source) for name in ("imageType", "featureClass", "setting", "voxelSetting")
        )
        self.settings = {**_DEFAULTS, **setting, **voxel}
        self.enabledImagetypes = {name: own or {} for name, own in image_types.items()} or {"Original": {}}
        self.enabledFeatures = features or {name: [] for name in self.featureClassNames}

    def _request(self, setting: Mapping[str, Any]) -> Request:
        return understand(setting, self.enabledImagetypes, self.enabledFeatures)


def _read(path: str | Path) -> tuple[Mapping[str, Any], str]:
    return read_parameters(path), str(path)


def _section(parameters: Mapping[str, Any], name: str, source: str) -> dict[str, Any]:
    content = parameters.get(name) or {}
    if not isinstance(content, Mapping):
        raise SettingsError(f"{source}: {name} must hold names and values, found {type(content).__name__}")
    return copy.deepcopy(dict(content))


def _report(failures: Mapping[Key, Failure]) -> None:
    """Log each reason once, with all that it is about."""
    about: dict[tuple[str, Failure], list[str]] = {}
    for (_, image, family), failure in failures.items():
        about.setdefault((image, failure), []).append(family)
    for (image, failure), families in about.items():
        logger.warning("%s %s: %s", image, ", ".join(families), failure)


def _features(
    request: Request, values: Mapping[Key, NDArray[np.float64]], failures: Mapping[Key, Failure]
) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Yield names and values in pyradiomics' order; an image that could not be made is left out, as there."""
    computed = request.settings.features
    places = {family: [computed[family].index(name) for name in names] for family, names in request.features.items()}
    for key in request.ordered_keys():
        _, image, family = key
        if key not in values and failures[key].stage == FilterError.stage:
            continue
        vector = values[key] if key in values else np.full(len(computed[family]), np.nan)
        for name, place in zip(request.features[family], places[family], strict=True):
            yield flat_name(image, family, name), vector[place, ...]
