"""Which feature vectors there are: of settings, of a cube, and of what is still missing.

A vector is the features of one family on one image type of one region of a lesion; its `Key` names it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from hgpscale.catalog import IMAGE_TYPES, LESION, ORIGINAL, OWN_FAMILIES, is_of_region

if TYPE_CHECKING:
    from hgpscale.settings import Settings

Key = tuple[str, str, str]
"""``(region, image_type, family)``: the smallest part of a record that is done or failed."""


@dataclass(frozen=True)
class Contents:
    """The vectors that a cube has room for, as the product of its labels.

    Attributes
    ----------
    regions, image_types
        Their names, in the order in which tables show them.
    features
        Names of the features by family, in the same order.

    """

    regions: tuple[str, ...]
    image_types: tuple[str, ...]
    features: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, settings: Settings) -> Contents:
        """Return what `settings` ask for."""
        return cls(tuple(settings.regions), tuple(image_names(settings)), dict(settings.features))

    @classmethod
    def from_attribute(cls, attribute: Mapping[str, Any]) -> Contents:
        """Return what `to_attribute` wrote; raises KeyError or TypeError where it did not."""
        features = {str(family): tuple(names) for family, names in attribute["features"].items()}
        return cls(tuple(attribute["regions"]), tuple(attribute["image_types"]), features)

    def to_attribute(self) -> dict[str, Any]:
        """Return the same as JSON has it."""
        features = {family: list(names) for family, names in self.features.items()}
        return {"regions": list(self.regions), "image_types": list(self.image_types), "features": features}

    @cached_property
    def keys(self) -> tuple[Key, ...]:
        """The key of every vector: region by region, shape first, then image by image, as pyradiomics.

        Families that no settings ask for come last: one vector a lesion, whatever the regions.
        """
        of_region = [family for family in self.features if is_of_region(family) and family not in OWN_FAMILIES]
        of_image = [family for family in self.features if not is_of_region(family)]
        product = [
            (region, image, family)
            for region in self.regions
            for images, families in (((ORIGINAL,), of_region), (self.image_types, of_image))
            for image in images
            for family in families
        ]
        return (*product, *((LESION, ORIGINAL, family) for family in OWN_FAMILIES if family in self.features))

    @cached_property
    def extracted(self) -> tuple[Key, ...]:
        """Those of `keys` that settings ask for, so that `extract` can make them."""
        return tuple(key for key in self.keys if key[2] not in OWN_FAMILIES)


def image_names(settings: Settings) -> list[str]:
    """Return the names of all images that features are computed on, in pyradiomics' order."""
    return [
        image
        for image_type in settings.image_types
        for image in IMAGE_TYPES[image_type].names(settings.of_image_type(image_type))
    ]


def restricted(settings: Settings, keys: Collection[Key]) -> Settings:
    """Return settings for no more than some vectors need.

    Other regions, image types, widths of LoG and families are left out. Single images of an image type that has
    several, such as one wavelet band, cannot be left out. The vectors that are left have the same numbers: they depend
    on no other image type or family.
    """
    images = {image for _, image, family in keys if not is_of_region(family)}
    types: dict[str, dict[str, Any]] = {}
    for name, own in settings.image_types.items():
        chosen = settings.of_image_type(name)
        if name == "LoG":
            sigma = tuple(s for s in chosen.sigma if _names(name, chosen, sigma=(s,)) & images)
            if sigma:
                types[name] = {**own, "sigma": sigma}
        elif _names(name, chosen) & images:
            types[name] = own
    families = {family for _, _, family in keys}
    features = {family: names for family, names in settings.features.items() if family in families}
    # Shape needs no filter, but a lesion is cut out by the reach of some.
    measured = {region for region, _, _ in keys}
    regions = {name: value for name, value in settings.regions.items() if name in measured}
    return settings.model_copy(
        update={"image_types": types or {"Original": {}}, "features": features, "regions": regions}
    )


def _names(image_type: str, settings: Settings, **changed: Any) -> set[str]:
    return set(IMAGE_TYPES[image_type].names(settings.model_copy(update=changed)))
