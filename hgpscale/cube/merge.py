"""What a second run's settings mean for a cube that exists: what they add, and which numbers they would alter.

Regions, image types, families and widths of LoG can be added: what is there keeps its numbers. Every other setting
that differs makes numbers that must not stand beside the old ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from hgpscale.catalog import FAMILIES, IMAGE_TYPES, is_of_region
from hgpscale.contents import Contents, Key
from hgpscale.parameters import PER_IMAGE_TYPE
from hgpscale.settings import Settings

_NAMED = ("sigma",)
"""Settings that decide which images there are, but no image's voxels: the images' names tell them apart."""

_OF_SHAPE = ("force2D", "force2Ddimension")
"""Settings of image types that shape depends on as well."""

_OWN = tuple(dict.fromkeys(name for image_type in IMAGE_TYPES.values() for name in image_type.settings))
_GENERAL = tuple(
    name
    for name in Settings.model_fields
    if name not in (*PER_IMAGE_TYPE, *_OWN, "image_types", "features", "regions", "airThreshold", "device")
)


class Merged(NamedTuple):
    """Settings of a cube after a run, and what the run's settings say otherwise than the cube's.

    Attributes
    ----------
    settings
        What the cube holds afterwards: all that it had and all that is asked for; shape2D only with `force2D`.
    differences
        One line for each difference that makes other numbers.
    stale
        Keys of the cube whose numbers those differences alter.
    replaced
        Families whose list of features differs: their arrays have another shape afterwards.

    """

    settings: Settings
    differences: tuple[str, ...]
    stale: frozenset[Key]
    replaced: tuple[str, ...]


def merge(stored: Settings, versions: Mapping[str, int], asked: Settings) -> Merged:
    """Compare the settings and numeric versions of a cube with what a run asks for.

    Parameters
    ----------
    stored
        The cube's settings.
    versions
        Numeric version of each of its families.
    asked
        The run's settings.

    """
    same = _text(asked.to_parameters()) == _text(stored.to_parameters())
    if same and all(FAMILIES[family].version == versions[family] for family in stored.features):
        return Merged(stored, (), frozenset(), ())
    keys = Contents.of(stored).keys
    general = _differences({name: getattr(stored, name) for name in _GENERAL}, asked)
    # What the cube has no numbers of cannot differ.
    has_shape, has_images = any(map(is_of_region, stored.features)), not all(map(is_of_region, stored.features))
    of_shape = _differences({name: getattr(stored, name) for name in _OF_SHAPE if has_shape}, asked)
    both = [name for name in stored.image_types if name in asked.image_types and has_images]
    own = {name: _own_differences(name, stored, asked) for name in both}
    regions = _region_differences(stored, asked)
    said = [*general, *dict.fromkeys(regions.values()), *_summed_up({"": of_shape, **own})]
    stale = set(keys) if general else {key for key in keys if is_of_region(key[2]) and of_shape}
    stale.update(key for key in keys if key[0] in regions)
    for name, differences in own.items():
        if differences:
            images = IMAGE_TYPES[name].names(stored.of_image_type(name))
            stale.update(key for key in keys if key[1] in images and not is_of_region(key[2]))
    replaced = []
    for family, names in stored.features.items():
        if family not in asked.features:
            continue
        more = [name for name in asked.features[family] if name not in names]
        if more:
            said.append(f"feature class {family} lacks {', '.join(more)} in the cube")
            replaced.append(family)
        if FAMILIES[family].version != versions[family]:
            said.append(
                f"its {family} numbers are of version {versions[family]}, this hgpscale computes version "
                f"{FAMILIES[family].version}"
            )
        if more or FAMILIES[family].version != versions[family]:
            stale.update(key for key in keys if key[2] == family)
    return Merged(_union(stored, asked), tuple(said), frozenset(stale), tuple(replaced))


def _differences(before: Mapping[str, Any], asked: Settings) -> list[str]:
    now = {name: getattr(asked, name) for name in before}
    return [
        f"{name} is {_text(value)} in the cube, now {_text(now[name])}"
        for name, value in before.items()
        if value != now[name]
    ]


def _region_differences(stored: Settings, asked: Settings) -> dict[str, str]:
    """Return what is said otherwise of the cube's regions, by the name of each that it alters."""
    differences = {
        name: f"region {name} is {_text(value)} mm in the cube, now {_text(asked.regions[name])} mm"
        for name, value in stored.regions.items()
        if name in asked.regions and value != asked.regions[name]
    }
    if stored.airThreshold != asked.airThreshold and asked.reach:
        line = f"airThreshold is {_text(stored.airThreshold)} in the cube, now {_text(asked.airThreshold)}"
        outside = [name for name, band in stored.bands.items() if band.reach]
        differences = {**dict.fromkeys(outside, line), **differences}
    return differences


def _own_differences(image_type: str, stored: Settings, asked: Settings) -> list[str]:
    before = {name: value for name, value in _effective(image_type, stored).items() if name not in _NAMED}
    return _differences(before, asked.of_image_type(image_type))


def _summed_up(differences: Mapping[str, list[str]]) -> list[str]:
    """Say once what holds for every image type alike."""
    types = [image_type for image_type in differences if image_type]
    lines = list(dict.fromkeys(line for some in differences.values() for line in some))
    said = []
    for line in lines:
        having = [image_type for image_type in types if line in differences[image_type]]
        everywhere = len(having) == len(types) or line in differences[""]
        said.append(line if everywhere else f"image type {', '.join(having)}: {line}")
    return said


def _effective(image_type: str, settings: Settings) -> dict[str, Any]:
    """Return what an image type's numbers hang on, besides the general settings."""
    chosen = settings.of_image_type(image_type)
    return {name: getattr(chosen, name) for name in (*PER_IMAGE_TYPE, *IMAGE_TYPES[image_type].settings)}


def _text(value: Any) -> str:
    """Show a value; 1 and 1.0, which are equal, are two widths of LoG and so two images."""
    return repr(list(value) if isinstance(value, tuple) else value)


def _union(stored: Settings, asked: Settings) -> Settings:
    """Return settings with the regions, image types and families of both; where the two differ, `asked` wins."""
    types: dict[str, dict[str, Any]] = {}
    for name in IMAGE_TYPES:
        if name not in stored.image_types and name not in asked.image_types:
            continue
        wins = asked if name in asked.image_types else stored
        wanted = _effective(name, wins)
        if name == "LoG" and name in stored.image_types and name in asked.image_types:
            wanted["sigma"] = _both(stored.of_image_type(name).sigma, wanted["sigma"])
        said = asked.image_types.get(name, {})
        types[name] = {
            key: value for key, value in wanted.items() if key in said or _text(value) != _text(getattr(asked, key))
        }
    features = {
        family: tuple(
            name
            for name in FAMILIES[family].names
            if name in stored.features.get(family, ()) or name in asked.features.get(family, ())
        )
        for family in FAMILIES
        if family in stored.features or family in asked.features
        if family != "shape2D" or asked.force2D  # it was of slices: what there is of it is stale
    }
    air = asked.airThreshold if asked.reach or not stored.reach else stored.airThreshold
    return asked.model_copy(
        update={
            "image_types": types,
            "features": features,
            "regions": {**stored.regions, **asked.regions},
            "airThreshold": air,
            "device": stored.device,  # decides no number
        }
    )


def _both(old: tuple[float, ...], new: tuple[float, ...]) -> tuple[float, ...]:
    named = set(map(str, old))
    return (*old, *(sigma for sigma in new if str(sigma) not in named))
