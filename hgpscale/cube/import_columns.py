"""Where a column of an imported table goes: to a feature, to the family `table`, along with the lesion, or nowhere.

Numbers under names as the family `deep` has them in exported tables go to that family.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from typing import NamedTuple

from hgpscale.catalog import (
    DEEP,
    FAMILIES,
    LESION,
    ORIGINAL,
    OWN_FAMILIES,
    TABLE,
    column_problems,
    deep_feature,
    flat_name,
    is_of_region,
    parts_of_name,
)
from hgpscale.contents import Contents, Key
from hgpscale.cube.import_read import UNNAMED

_FRONT = frozenset({"lesion", "patient", "segmentation", "image", "mask", "label", "roi"})
"""What tables made of a cube call their own columns: numbers under these names, a label's say, are no features."""

_DIAGNOSTICS = re.compile(r"(.*_)?(diagnostics|general_info)_.+")
_LONGEST = 200


class Place(NamedTuple):
    """Where a number of an imported table stands in the cube."""

    region: str
    image_type: str
    family: str
    feature: str

    @property
    def key(self) -> Key:
        """The vector that it is a part of."""
        return self.region, self.image_type, self.family


@dataclass(frozen=True)
class Named:
    """The columns of a table that have a name as pyradiomics writes it.

    Attributes
    ----------
    places
        Where each goes, in the order of the table.
    prefixes
        What the names of a region's columns begin with, as far as its first one shows it.

    """

    places: dict[str, Place]
    prefixes: dict[str, str]


def named_features(columns: Iterable[str]) -> Named:
    """Map columns ``[PREFIX_]<pyradiomics name>``: the prefix is a region, or is dropped where all have the same one.

    Beside columns with a prefix, those without one are of the region ``lesion``. Two columns can have one and the same
    place, which `clashes` finds.
    """
    parts = {column: found for column in columns if (found := parts_of_name(column)) is not None}
    names = {prefix: prefix.rstrip("_") for prefix, *_ in parts.values()}
    one = len(set(names.values())) == 1
    places: dict[str, Place] = {}
    prefixes: dict[str, str] = {}
    for column, (prefix, *rest) in parts.items():
        region = LESION if one else names[prefix] or LESION
        places[column] = Place(region, *rest)
        prefixes.setdefault(region, prefix)
    return Named(places, prefixes)


def clashes(places: Mapping[str, Place]) -> list[tuple[str, str]]:
    """Return pairs of columns that would have the same place."""
    first: dict[Place, str] = {}
    return [(first[place], column) for column, place in places.items() if first.setdefault(place, column) != column]


def contents_of(places: Mapping[str, Place]) -> Contents:
    """Return room for all places: ``lesion`` first, families and features in the catalogue's order."""
    named = [place for place in places.values() if place.family not in OWN_FAMILIES]
    regions = sorted(dict.fromkeys(place.region for place in named), key=lambda region: region != LESION)
    images = dict.fromkeys(place.image_type for place in named if not is_of_region(place.family))
    there = {(place.family, place.feature) for place in named}
    features = {
        family.name: tuple(name for name in family.names if (family.name, name) in there)
        for family in FAMILIES.values()
        if any(name == family.name for name, _ in there)
    }
    for family in OWN_FAMILIES:
        if own := tuple(place.feature for place in places.values() if place.family == family):
            features[family] = own
    return Contents(tuple(regions), tuple(images), features)


def column_name(prefixes: Mapping[str, str], place: Place) -> str:
    """Return the name that a column of this place would have in the table."""
    return prefixes.get(place.region, "") + flat_name(place.image_type, place.family, place.feature)


class Columns:
    """Where each column of a table goes, one after the other.

    Attributes
    ----------
    named
        Those with a name as pyradiomics writes it.
    places
        Columns of numbers: those of `named`, and those that go to the families `table` and `deep`.
    carried
        The name in the cube of each column that goes along with the lesion.
    said
        Columns by a description of where they went.

    """

    def __init__(self, header: Sequence[str], reserved: Collection[str]) -> None:
        self._header = frozenset(header)
        self.named = named_features(name for name in header if name not in reserved)
        self.places = dict(self.named.places)
        self.carried: dict[str, str] = {}
        self.said: dict[str, list[str]] = {}

    def say(self, where: str, column: str) -> None:
        """Note where a column went."""
        self.said.setdefault(where, []).append(column)

    def carry(self, column: str, what: str) -> None:
        """Have a column go along with the lesion, under another name where the cube cannot hold its own."""
        name = _free_name(column, ["patient", *self.carried.values()], self._header)
        self.carried[column] = name
        self.say(what if name == column else f"{what}, named {name}", column)

    def add(self, column: str, *, is_empty: Callable[[str], bool], is_numeric: Callable[[str], bool]) -> None:
        """Find the place of a column that is neither an id nor a target."""
        if place := self.places.get(column):
            self.say(f"region {place.region}: {place.family}", column)
        elif UNNAMED.fullmatch(column):
            self.say("left out: no name", column)
        elif _DIAGNOSTICS.fullmatch(column):
            self.say("left out: pyradiomics' diagnostics", column)
        elif is_empty(column):
            self.say("left out: empty", column)
        elif not is_numeric(column):
            self.carry(column, "carried as text")
        elif column.rpartition("__")[2].casefold() in _FRONT:
            self.carry(column, "carried as a number")
        elif (feature := deep_feature(column)) is not None:
            self.places[column] = Place(LESION, ORIGINAL, DEEP, feature)
            self.say(DEEP, column)
        else:
            self.places[column] = Place(LESION, ORIGINAL, TABLE, column)
            self.say(TABLE, column)


def _free_name(column: str, taken: Sequence[str], header: Collection[str]) -> str:
    if not column_problems([*taken, column]):
        return column
    plain = "".join(c if c.isprintable() and c not in "/\\" else "_" for c in column)
    plain = re.sub("__+", "_", f"{TABLE}_{plain}").encode()[:_LONGEST].decode(errors="ignore")
    candidates = chain([plain], (f"{plain}_{number}" for number in count(2)))
    return next(name for name in candidates if name not in header and not column_problems([*taken, name]))
