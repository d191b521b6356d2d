"""The root of a cube: what it says of the whole, how it grows, and how it is opened.

The root is written last, as one object: whatever was laid out before counts only from then on. So a cube is there
whole or not at all, and so is everything that a later run adds.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import zarr

from hgpscale._version import __version__
from hgpscale.catalog import reserved_names
from hgpscale.contents import Contents
from hgpscale.cube import store
from hgpscale.cube.schema import FINISHED, VARIABLES, Variable, column_variable, family_variables
from hgpscale.errors import CubeError, SettingsError
from hgpscale.settings import Settings

LAYOUT_VERSION = 3
"""Raised when a cube made before can no longer be read or resumed."""

LAYOUT, VERSION, SETTINGS, CONTENTS = "hgpscale_layout", "hgpscale_version", "settings", "contents"
COLUMNS, SIZES, VERSIONS, CHECKSUM = "manifest_columns", "sizes", "family_versions", "checksum"
"""Names of the attributes of the whole cube."""

SEALED = "sealed"
"""Attribute of a cube that `pack` made: it takes no more records."""

ABOUT = "about"
"""Attribute of a cube that numbers were put into: what made them, by family. Others have none."""


_RESTORE = "restore it from a copy, or extract to another path"


@dataclass(frozen=True)
class Head:
    """What the root of a cube says of the whole.

    Attributes
    ----------
    settings
        What its numbers were made with; None for a cube that was imported from a table.
    contents
        Which vectors it has room for.
    columns
        The manifest's own columns, in its order: ``string`` or ``float64`` by name.
    sizes
        Number of labels by dimension. Whatever lies beyond belongs to a run that has not come to its end.
    versions
        Numeric version of each family.
    finished
        Whether nothing is pending that settings or a table brought. It is said last, and unsaid before anything of it
        is made pending. Of the family `DEEP` it says nothing.
    made_by
        Version of hgpscale that made it.
    sealed
        Whether it was packed: it takes no more records then.
    about
        What made the numbers of a family that was put into the cube, as JSON, by family.

    """

    settings: Settings | None
    contents: Contents
    columns: Mapping[str, str]
    sizes: Mapping[str, int]
    versions: Mapping[str, int]
    finished: bool = False
    made_by: str = __version__
    sealed: bool = False
    about: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @cached_property
    def variables(self) -> tuple[Variable, ...]:
        """All arrays of the cube, in the order in which a dataset shows them."""
        columns = [column_variable(*item) for item in self.columns.items()]
        families = [v for item in self.contents.features.items() for v in family_variables(*item)]
        return (*VARIABLES, *columns, *families)

    @cached_property
    def lengths(self) -> Mapping[str, int]:
        """Length of every dimension, those of the features too."""
        features = {f"{family}_feature": len(names) for family, names in self.contents.features.items()}
        return {**self.sizes, **features}

    def attributes(self) -> dict[str, Any]:
        """Return the root's attributes, with a checksum of their own."""
        said = {
            LAYOUT: LAYOUT_VERSION,
            VERSION: self.made_by,
            SETTINGS: None if self.settings is None else self.settings.to_parameters(),
            CONTENTS: self.contents.to_attribute(),
            COLUMNS: dict(self.columns),
            SIZES: dict(self.sizes),
            VERSIONS: dict(self.versions),
            FINISHED: self.finished,
            SEALED: self.sealed,
            **({ABOUT: dict(self.about)} if self.about else {}),
        }
        return {**said, CHECKSUM: _checksum(said)}

    @classmethod
    def of(cls, attributes: Mapping[str, Any], source: str | Path = "cube") -> Self:
        """Read what `attributes` wrote; `CubeError` where it cannot be used."""
        try:
            parameters = attributes[SETTINGS]
            settings = None if parameters is None else Settings.from_parameters(parameters, str(source))
            return cls(
                settings,
                Contents.from_attribute(attributes[CONTENTS]),
                dict(attributes[COLUMNS]),
                dict(attributes[SIZES]),
                dict(attributes[VERSIONS]),
                bool(attributes[FINISHED]),
                str(attributes[VERSION]),
                bool(attributes[SEALED]),
                {str(family): dict(about) for family, about in attributes.get(ABOUT, {}).items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reason = str(error) if isinstance(error, SettingsError) else f"{type(error).__name__}: {error}"
            raise CubeError(f"{source}: what the cube says of itself cannot be read: {reason}; {_RESTORE}") from error

    def commit(self, root: zarr.Group) -> None:
        """Write the root, as one object: from now on the cube is what this says."""
        root.attrs.put(self.attributes())


def _checksum(attributes: Mapping[str, Any]) -> str:
    said = {name: value for name, value in attributes.items() if name != CHECKSUM}
    text = json.dumps(said, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def lay_out(root: zarr.Group, before: Head | None, after: Head, labels: Mapping[str, Sequence[str]]) -> None:
    """Give every array the size that `after` says, make those that are new, and write the new labels.

    Nothing of it counts before `Head.commit`; `settle` takes it back.

    Parameters
    ----------
    root
        The cube's group.
    before, after
        What the cube is and shall be; before is None for a new cube.
    labels
        All labels of each of `LABELS`, new ones last.

    """
    names = {f"{family}_feature": features for family, features in after.contents.features.items()}
    had = {} if before is None else {variable.name: variable for variable in before.variables}
    for variable in after.variables:
        shape = variable.shape(after.lengths)
        if had.get(variable.name) != variable:
            array = variable.create(root, after.lengths)
            first = 0
        else:
            assert before is not None, "a new cube had no variable"
            array, first = root[variable.name], before.sizes.get(variable.name, 0)
            if array.shape == shape:
                continue
            array.resize(shape)
        if variable.dims == (variable.name,):
            content = names.get(variable.name) or labels[variable.name]
            array[first:] = np.asarray(content[first:], object)


def settle(root: zarr.Group, head: Head) -> None:
    """Take back what a run added that was killed before its `Head.commit`."""
    forget(root, head)
    for variable in head.variables:
        array, shape = root[variable.name], variable.shape(head.lengths)
        for axis, size in enumerate(shape):
            if array.shape[axis] > size:
                beyond = (slice(None),) * axis + (slice(size, None),)
                array[beyond] = variable.fill_value
        if array.shape != shape:
            array.resize(shape)


def forget(root: zarr.Group, head: Head) -> None:
    """Remove arrays that are not the cube's any more, or not yet; what else lies in it stays.

    Plain xarray would find them to have other lengths than the rest.
    """
    known = {variable.name for variable in head.variables}
    with warnings.catch_warnings():
        # A folder whose array has no zarr.json yet.
        warnings.filterwarnings("ignore", message="Object at .* is not recognized", category=UserWarning)
        arrays = dict(root.arrays())
    for name, array in arrays.items():
        of_manifest = array.attrs.get("long_name") == column_variable(name, "string").long_name
        if name not in known and (of_manifest or name in reserved_names()):
            del root[name]


def open_root(path: str | Path, *, read_only: bool) -> tuple[zarr.Group, Head]:
    """Open a cube's zarr group and check its layout.

    Raises
    ------
    CubeError
        Nothing is there, it is not a cube, it has another layout version, or an array is not as described.

    """
    root = open_group(path, read_only=read_only)
    head = head_of(root, path)
    problem = next(filter(None, (variable.problem(root, head.lengths) for variable in head.variables)), "")
    if not problem:
        return root, head
    if head_of(open_group(path, read_only=True), path) != head:  # meanwhile an update has replaced a family
        return open_root(path, read_only=read_only)
    raise CubeError(f"{path}: damaged cube: {problem}; 'hgpscale verify --repair' can mend it, or {_RESTORE}")


def head_of(root: zarr.Group, path: str | Path) -> Head:
    """Return what a cube's root says; `CubeError` where it is no cube's of this layout, or damaged."""
    attributes = dict(root.attrs)
    layout = attributes.get(LAYOUT)
    if layout is None:
        raise CubeError(
            f"{path}: not an hgpscale cube but another zarr store, or one that a run was killed in making; give "
            "another path, or remove it"
        )
    if layout != LAYOUT_VERSION:
        made_by = attributes.get(VERSION, "unknown")
        raise CubeError(
            f"{path}: has cube layout {layout} (made by hgpscale {made_by}), this hgpscale {__version__} knows layout "
            f"{LAYOUT_VERSION}; export it with hgpscale {made_by} and import the table with 'hgpscale import-table', "
            "or extract to another path"
        )
    if attributes.get(CHECKSUM) != _checksum(attributes):
        raise CubeError(f"{path}: damaged cube: its zarr.json was altered, its checksum differs; {_RESTORE}")
    return Head.of(attributes, path)


def open_group(path: str | Path, *, read_only: bool) -> zarr.Group:
    """Open the zarr group at a path; `CubeError` where there is none."""
    if not store.is_there(path):
        raise CubeError(f"{path}: no such cube; make one with 'hgpscale extract'")
    try:
        return zarr.open_group(
            store.open_store(path, read_only=read_only),
            mode="r" if read_only else "r+",
            zarr_format=3,
            use_consolidated=False,
        )
    except store.storage_errors() as error:
        raise CubeError(f"{path}: not an hgpscale cube ({store.reason(error)}); give another path") from error
    except (ValueError, TypeError, KeyError) as error:
        raise CubeError(f"{path}: not an hgpscale cube; give another path") from error
