"""What a pyradiomics extractor's three dictionaries ask for, as `Settings` and as names in pyradiomics' order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from hgpscale.catalog import FAMILIES, IMAGE_TYPES, LESION, ORIGINAL, SHAPE_FAMILIES
from hgpscale.contents import Key
from hgpscale.filters import FILTERS, missing
from hgpscale.parameters import PER_IMAGE_TYPE, VOXEL_SETTINGS
from hgpscale.settings import Settings


class Request(NamedTuple):
    """What to compute, and in which order to return it.

    Attributes
    ----------
    settings
        For the computation. They hold defaults where nothing is asked for: ask `ordered_keys`.
    image_types
        pyradiomics' names of the image types, in the order in which they were enabled.
    features
        Names by family, both in the order in which they were enabled.
    remarks
        What is left out, as pyradiomics does, and why: one sentence each.

    """

    settings: Settings
    image_types: tuple[str, ...]
    features: dict[str, tuple[str, ...]]
    remarks: tuple[str, ...]

    def ordered_keys(self) -> Iterator[Key]:
        """Yield ``(region, image, family)`` in the order in which pyradiomics returns them."""
        for family in SHAPE_FAMILIES:
            if family in self.features:
                yield LESION, ORIGINAL, family
        textures = [family for family in self.features if family not in SHAPE_FAMILIES]
        for image_type in self.image_types:
            for image in IMAGE_TYPES[image_type].names(self.settings.of_image_type(image_type)):
                for family in textures:
                    yield LESION, image, family


def understand(setting: Mapping[str, Any], image_types: Mapping[str, Any], features: Mapping[str, Any]) -> Request:
    """Translate what an extractor holds.

    Parameters
    ----------
    setting, image_types, features
        An extractor's `settings`, `enabledImagetypes` and `enabledFeatures`.

    Raises
    ------
    SettingsError
        A setting, image type, feature class or feature is unknown, or a value is out of range.

    """
    remarks: list[str] = []
    values = {name: value for name, value in setting.items() if name not in VOXEL_SETTINGS}
    own = {name: _own(name, found or {}, remarks) for name, found in image_types.items()}
    log = own.get("LoG")
    if isinstance(log, dict) and not log.get("sigma", values.get("sigma")):
        remarks.append("image type LoG is left out: it needs sigma, a list of widths in mm")
        del own["LoG"]
    for name, problem in _without_packages(own).items():
        remarks.append(f"{problem}; it is left out")
        del own[name]
    chosen = _chosen(features, bool(values.get("force2D")), remarks)
    settings = Settings.from_parameters({"setting": values, "imageType": own, "featureClass": chosen})
    if not own:
        chosen = {family: names for family, names in chosen.items() if family in SHAPE_FAMILIES}
    return Request(settings, tuple(own), chosen, tuple(remarks))


def _without_packages(image_types: Mapping[str, Any]) -> dict[str, str]:
    """Return why an image type cannot be computed here, for those that cannot."""
    return {
        name: problem
        for name in image_types
        if name in FILTERS and FILTERS[name].packages
        for problem in missing(Settings(image_types={name: {}}))
    }


def _own(image_type: str, found: Any, remarks: list[str]) -> Any:
    """Return an image type's own settings without those that pyradiomics reads of the whole extraction only."""
    if image_type not in IMAGE_TYPES or not isinstance(found, Mapping):
        return found  # for `Settings` to refuse
    unread = set(Settings.model_fields) - {*PER_IMAGE_TYPE, *IMAGE_TYPES[image_type].settings}
    remarks.extend(
        f"image type {image_type}: {name} cannot be set for one image type and is ignored"
        for name in found
        if name in unread
    )
    return {name: value for name, value in found.items() if name not in unread}


def _chosen(features: Mapping[str, Any], force2d: bool, remarks: list[str]) -> dict[str, Any]:
    """Return the names by family; what pyradiomics has no value of is left out."""
    chosen = {}
    for family, names in features.items():
        if family not in FAMILIES or not isinstance(names, (list, tuple, type(None))):
            chosen[family] = names  # for `Settings` to refuse
            continue
        if family == "shape2D" and not force2d:
            remarks.append("feature class shape2D is left out: it needs force2D=True")
            continue
        removed = dict(FAMILIES[family].removed)
        kept = tuple(name for name in dict.fromkeys(names or FAMILIES[family].default_names) if name not in removed)
        remarks.extend(
            f"{family} {name} is no longer computed by pyradiomics; same as: {removed[name]}"
            for name in names or ()
            if name in removed
        )
        if kept:
            chosen[family] = kept
    return chosen
