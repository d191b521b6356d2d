"""The cube's layout as data: one table that creates a cube, checks one and describes its variables.

A cube is one zarr v3 group. Chunks have length 1 along every dimension except `lesion` and the features, so
that lesions, segmentations, regions, image types and families can be added without rewriting what is there.
Nothing that differs between two runs of the same work (times, host names, paths of the machine) is stored.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import zarr
from zarr.codecs import ZstdCodec

from hgpscale._version import __version__
from hgpscale.catalog import FAMILIES, SHAPE_FAMILIES
from hgpscale.cube.store import local_path, open_store
from hgpscale.errors import CubeError, SettingsError
from hgpscale.record import expected_keys
from hgpscale.settings import Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

LAYOUT_VERSION = 1
"""Raised when a cube made before can no longer be read or resumed."""

LESION_CHUNK = 256
"""Lesions a chunk: few enough to rewrite at each flush, enough that a feature of 100 000 is few files."""

PENDING, DONE, FAILED = "pending", "done", "failed"

LAYOUT, VERSION, SETTINGS, COLUMNS = "hgpscale_layout", "hgpscale_version", "settings", "manifest_columns"
"""Names of the attributes of the whole cube."""

MANIFEST_NAMES = {"image_path": "image", "requested_label": "label"}
"""Variables that hold a manifest column of another name."""

_FILL: dict[str, Any] = {"string": "", "float64": math.nan, "int64": 0, "bool": False}
_KINDS = {"string": "TO", "float64": "f", "int64": "i", "bool": "b"}  # numpy's kind codes
# The level is fixed because the same data must give the same bytes; the checksum tells a damaged file.
_COMPRESSOR = ZstdCodec(level=3, checksum=True)


@dataclass(frozen=True)
class Variable:
    """One array of the cube.

    Attributes
    ----------
    name, dims
        Its name and the names of its dimensions; a coordinate is named as its only dimension.
    dtype
        ``string`` (of variable length), ``float64``, ``int64`` or ``bool``.
    long_name
        What it holds, for a person; stored as the attribute of that name.
    fill
        Value of what was never written; such chunks take no file.
    attributes
        Further attributes.

    """

    name: str
    dims: tuple[str, ...]
    dtype: str
    long_name: str
    fill: Any = None
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def create(self, root: zarr.Group, sizes: Mapping[str, int]) -> zarr.Array:
        """Create the array, empty, with the lengths in `sizes`, and return it."""
        return root.create_array(
            self.name,
            shape=tuple(sizes[dim] for dim in self.dims),
            chunks=tuple(_chunk(dim, sizes[dim]) for dim in self.dims),
            dtype=self.dtype,
            fill_value=_FILL[self.dtype] if self.fill is None else self.fill,
            dimension_names=self.dims,
            compressors=[_COMPRESSOR],
            attributes={"long_name": self.long_name, **self.attributes},
        )

    def problem(self, root: zarr.Group) -> str:
        """Say how the array in `root` differs from this description; empty where it does not."""
        array = root.get(self.name)
        if not isinstance(array, zarr.Array):
            return f"variable {self.name!r} is missing"
        if array.metadata.dimension_names != self.dims:
            return f"variable {self.name!r} has dimensions {array.metadata.dimension_names}, not {self.dims}"
        if array.dtype.kind not in _KINDS[self.dtype]:
            return f"variable {self.name!r} holds {array.dtype}, not {self.dtype}"
        chunks = tuple(_chunk(dim, size) for dim, size in zip(self.dims, array.shape, strict=True))
        return "" if array.chunks == chunks else f"variable {self.name!r} has chunks {array.chunks}, not {chunks}"


def _chunk(dim: str, size: int) -> int:
    if dim == "lesion":
        return LESION_CHUNK
    return max(size, 1) if dim.endswith("_feature") else 1


_PAIR = ("lesion", "segmentation")
_CELL = (*_PAIR, "region", "image_type", "family")

VARIABLES: tuple[Variable, ...] = (
    Variable("lesion", ("lesion",), "string", "lesion, unique in the cohort"),
    Variable("segmentation", ("segmentation",), "string", "who or what outlined the lesion"),
    Variable("region", ("region",), "string", "part of the lesion that was measured"),
    Variable("image_type", ("image_type",), "string", "filter that the image went through"),
    Variable("family", ("family",), "string", "feature class of pyradiomics"),
    Variable("image_path", ("lesion",), "string", "image, as the manifest writes it"),
    Variable("mask", _PAIR, "string", "mask, as the manifest writes it; empty: no such row in the manifest"),
    Variable("requested_label", _PAIR, "int64", "mask value that the manifest asks for; 0: left open"),
    Variable("roi", _PAIR, "string", "name of the region of interest in the manifest; empty: none given"),
    Variable("label", _PAIR, "int64", "mask value that was measured; 0: not known"),
    Variable("image_digest", _PAIR, "string", "digest of the image file; empty: not read"),
    Variable("mask_digest", _PAIR, "string", "digest of the mask file; empty: not read"),
    Variable("state", _CELL, "string", "whether the features are there: pending, done or failed", PENDING),
    Variable("error", _CELL, "string", "why the features are not there, as 'stage: reason'; empty: no failure"),
)
"""What every cube has, besides the arrays of its families and of the manifest's own columns."""


def family_variables(family: str, names: tuple[str, ...]) -> tuple[Variable, Variable]:
    """Return the two arrays of a family: the names of its features, and their values."""
    known = FAMILIES[family]
    features = {feature.name: feature for feature in known.features}
    dim = f"{family}_feature"
    # Shape is measured on the mask, so it is the same for every image type.
    dims = (*_PAIR, "region", dim) if family in SHAPE_FAMILIES else (*_PAIR, "region", "image_type", dim)
    about = {
        "feature_units": [features[name].unit for name in names],
        "ibsi_ids": [features[name].ibsi_id for name in names],
        "ibsi_notes": [features[name].ibsi_note for name in names],
        "sources": [features[name].source for name in names],
    }
    return (
        Variable(dim, (dim,), "string", f"{known.long_name}: features", attributes=about),
        Variable(family, dims, "float64", known.long_name, attributes={"version": known.version}),
    )


def column_variable(name: str, values: NDArray[Any]) -> Variable:
    """Return the array of a manifest's own column, whose `values` come from `column_values`."""
    dtype = {"f": "float64", "i": "int64", "b": "bool"}.get(values.dtype.kind, "string")
    return Variable(name, ("lesion",), dtype, f"column {name} of the manifest")


def column_values(column: pd.Series[Any]) -> NDArray[Any]:
    """Return a manifest's column as the cube stores it: float64, int64, bool or strings.

    A missing number is NaN (and makes whole numbers float64), a missing text is empty. Whole numbers beyond
    64 bits, dates and mixtures are stored as text.
    """
    types = pd.api.types
    if types.is_bool_dtype(column) and not column.hasnans:
        return column.to_numpy(dtype=bool)
    if types.is_integer_dtype(column) and not column.hasnans:
        if column.empty or column.max() <= np.iinfo(np.int64).max:
            return column.to_numpy(dtype=np.int64)
    elif types.is_numeric_dtype(column) and not types.is_complex_dtype(column):
        return column.to_numpy(dtype=np.float64, na_value=math.nan)
    texts = ["" if missing else str(value) for value, missing in zip(column, column.isna(), strict=True)]
    return np.array(texts, object)


def variables_of(settings: Settings, columns: tuple[Variable, ...] = ()) -> tuple[Variable, ...]:
    """Return all arrays of a cube, in the order in which a dataset shows them."""
    families = [v for family, names in settings.features.items() for v in family_variables(family, names)]
    return (*VARIABLES, *columns, *families)


def prefix(segmentation: str, region: str, *, several: bool) -> str:
    """Return what a flat column's name starts with: the segmentation where there are several, the region."""
    parts = [segmentation] * several + [region] * (region != "lesion")
    return "".join(f"{part}__" for part in parts)


def create_root(folder: Path, settings: Settings, columns: Iterable[str]) -> zarr.Group:
    """Write the root of a new cube into `folder`: settings, versions, the names of the manifest's own columns.

    The root file is written once and never again: the lock on a cube is on this file.
    """
    return zarr.create_group(
        open_store(folder, read_only=False),
        attributes={
            LAYOUT: LAYOUT_VERSION,
            VERSION: __version__,
            SETTINGS: settings.to_parameters(),
            COLUMNS: list(columns),
        },
    )


def create_arrays(
    root: zarr.Group, settings: Settings, tables: Mapping[str, NDArray[Any]], columns: Mapping[str, NDArray[Any]]
) -> None:
    """Lay out every array of a new cube, with what the manifest says filled in and all else pending.

    Parameters
    ----------
    root
        From `create_root`.
    settings
        Decide regions, image types, families and features.
    tables
        Content of those of `VARIABLES` that come from the manifest, `lesion` and `segmentation` among them.
    columns
        The manifest's own columns, one value a lesion, as `column_values` returns them.

    """
    keys = list(expected_keys(settings))
    contents: dict[str, Any] = {
        **tables,
        **columns,
        "region": list(dict.fromkeys(region for region, _, _ in keys)),
        "image_type": list(dict.fromkeys(image_type for _, image_type, _ in keys)),
        "family": list(settings.features),
        **{f"{family}_feature": list(names) for family, names in settings.features.items()},
    }
    variables = variables_of(settings, tuple(column_variable(*item) for item in columns.items()))
    sizes = {v.name: len(contents[v.name]) for v in variables if v.dims == (v.name,)}
    for variable in variables:
        array = variable.create(root, sizes)
        if variable.name in contents:
            values = contents[variable.name]
            array[...] = np.asarray(values, object) if variable.dtype == "string" else values


def open_root(path: str | Path, *, read_only: bool) -> zarr.Group:
    """Open a cube's zarr group and check its layout.

    Raises
    ------
    CubeError
        Nothing is there, it is not a cube, it has another layout version, or an array is not as described.

    """
    folder = local_path(path)
    if not folder.exists():
        raise CubeError(f"{path}: no such cube; make one with 'hgpscale extract'")
    try:
        root = zarr.open_group(
            open_store(folder, read_only=read_only),
            mode="r" if read_only else "r+",
            zarr_format=3,
            use_consolidated=False,
        )
        layout = root.attrs.get(LAYOUT)
    except (OSError, ValueError, TypeError, KeyError) as error:
        reason = f" ({error.strerror})" if isinstance(error, OSError) and error.strerror else ""
        raise CubeError(f"{path}: not an hgpscale cube{reason}; give another path") from error
    if layout is None:
        raise CubeError(f"{path}: not an hgpscale cube but another zarr store; give another path")
    if layout != LAYOUT_VERSION:
        made_by = root.attrs.get(VERSION, "unknown")
        raise CubeError(
            f"{path}: has cube layout {layout} (made by hgpscale {made_by}), this hgpscale {__version__} knows layout "
            f"{LAYOUT_VERSION}; use the version that made it, or extract to another path"
        )
    _check_layout(path, root)
    return root


def settings_of(attributes: Mapping[str, Any], source: str | Path = "cube") -> Settings:
    """Return the settings that a cube was made with, from its attributes; `CubeError` where they are unusable."""
    try:
        return Settings.from_parameters(attributes[SETTINGS], str(source))
    except (KeyError, SettingsError) as error:
        raise CubeError(f"{source}: the cube's settings cannot be read: {error}; extract to another path") from error


def manifest_columns(root: zarr.Group) -> tuple[str, ...]:
    """Return the names of the manifest's own columns in a cube, in the manifest's order."""
    return tuple(root.attrs[COLUMNS])


def _check_layout(path: str | Path, root: zarr.Group) -> None:
    settings = settings_of(root.attrs, path)
    problems = [variable.problem(root) for variable in variables_of(settings)]
    problems += [f"variable {name!r} is missing" for name in root.attrs.get(COLUMNS, ()) if name not in root]
    for problem in filter(None, problems):
        raise CubeError(f"{path}: damaged cube: {problem}; restore it from a copy, or extract to another path")
