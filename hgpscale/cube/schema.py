"""The cube's arrays as data: one table that creates them, checks them and describes them.

Feature arrays have chunks of length 1 along every dimension except `lesion` and the features, so that lesions,
segmentations, regions, image types and families can be added without rewriting what is there. Nothing that differs
between two runs of the same work (times, host names, paths of the machine) is stored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from hgpscale.catalog import DEEP, FAMILIES, TABLE, is_of_region

if TYPE_CHECKING:
    from numpy.typing import NDArray

LESION_CHUNK = 256
"""Lesions a chunk: few enough to rewrite at each flush, enough that a feature of 100 000 is few files."""

LABEL_CHUNK = 16
"""Image types and families whose states share a chunk: one small file instead of a hundred, rewritten as a whole."""

PENDING, DONE, FAILED = "pending", "done", "failed"

FINISHED = "finished"
"""Attribute of a cube that says that nothing of it is pending, besides what networks make."""

OWN_TITLES = {TABLE: "Columns of an imported table", DEEP: "Numbers that networks made"}
"""Long names of the families that no settings ask for."""

MANIFEST_NAMES = {"image_path": "image", "requested_label": "label"}
"""Variables that hold a manifest column of another name."""

_FILL: dict[str, Any] = {"string": "", "float64": math.nan, "int64": 0}
_KINDS = {"string": "TO", "float64": "f", "int64": "i"}  # numpy's kind codes
# The level is fixed because the same data must give the same bytes; the checksum covers every byte of a chunk.
CODECS = (ZstdCodec(level=3, checksum=False), Crc32cCodec())


@dataclass(frozen=True)
class Variable:
    """One array of the cube.

    Attributes
    ----------
    name, dims
        Its name and the names of its dimensions; a coordinate is named as its only dimension.
    dtype
        ``string`` (of variable length), ``float64`` or ``int64``.
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

    @property
    def fill_value(self) -> Any:
        """Value of what was never written."""
        return _FILL[self.dtype] if self.fill is None else self.fill

    def shape(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """Return the array's shape for given lengths of the dimensions."""
        return tuple(sizes[dim] for dim in self.dims)

    def create(self, root: zarr.Group, sizes: Mapping[str, int]) -> zarr.Array:
        """Create the array, empty, with the lengths in `sizes`, in place of any other of that name."""
        shape = self.shape(sizes)
        return root.create_array(
            self.name,
            shape=shape,
            chunks=self.chunks(shape),
            dtype=self.dtype,
            fill_value=self.fill_value,
            dimension_names=self.dims,
            compressors=CODECS,
            attributes={"long_name": self.long_name, **self.attributes},
            overwrite=True,
        )

    def chunks(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the shape of a chunk."""
        return tuple(self._chunk(dim, size) for dim, size in zip(self.dims, shape, strict=True))

    def _chunk(self, dim: str, size: int) -> int:
        if dim == "lesion":
            return LESION_CHUNK
        if dim.endswith("_feature"):
            return max(size, 1)
        return LABEL_CHUNK if dim in ("image_type", "family") and self.dims == _CELL else 1

    def problem(self, root: zarr.Group, sizes: Mapping[str, int]) -> str:
        """Say how the array in `root` differs from this description; empty where it does not.

        It may be longer than `sizes`: a run that adds to the cube may be under way, or have been killed.
        """
        try:
            array = root[self.name]
        except (KeyError, ValueError, TypeError, ArithmeticError) as error:  # whatever damaged JSON leads to
            return f"variable {self.name!r} is missing, or its zarr.json is damaged ({type(error).__name__})"
        if not isinstance(array, zarr.Array):
            return f"variable {self.name!r} is not an array"
        if array.metadata.dimension_names != self.dims:
            return f"variable {self.name!r} has dimensions {array.metadata.dimension_names}, not {self.dims}"
        if array.dtype.kind not in _KINDS[self.dtype]:
            return f"variable {self.name!r} holds {array.dtype}, not {self.dtype}"
        if any(has < wanted for has, wanted in zip(array.shape, self.shape(sizes), strict=True)):
            return f"variable {self.name!r} has shape {array.shape}, not {self.shape(sizes)}"
        if not _same(array.fill_value, self.fill_value):
            return f"variable {self.name!r} has fill value {array.fill_value!r}, not {self.fill_value!r}"
        if array.shards is None and array.chunks != self.chunks(array.shape):
            return f"variable {self.name!r} has chunks {array.chunks}, not {self.chunks(array.shape)}"
        if dict(array.attrs) != {"long_name": self.long_name, **self.attributes}:
            return f"variable {self.name!r} has other attributes than the catalogue of this version"
        return ""


def _same(one: Any, other: Any) -> bool:
    return bool(one == other) or (one != one and other != other)


_PAIR = ("lesion", "segmentation")
_CELL = (*_PAIR, "region", "image_type", "family")
LABELS = _CELL
"""The dimensions that can grow; each has a coordinate of that name."""

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
    Variable(
        "surroundings_digest",
        _PAIR,
        "string",
        "digest of the masks of liver and other lesions, which bound regions outside; empty: none does",
    ),
    Variable("state", _CELL, "string", "whether the features are there: pending, done or failed", PENDING),
    Variable("error", _CELL, "string", "why the features are not there, as 'stage: reason'; empty: no failure"),
)
"""What every cube has, besides the arrays of its families and of the manifest's own columns."""


def family_variables(family: str, names: tuple[str, ...]) -> tuple[Variable, Variable]:
    """Return the two arrays of a family: the names of its features, and their values."""
    dim = f"{family}_feature"
    # Shape is measured on the mask, so it is the same for every image type.
    dims = (*_PAIR, "region", dim) if is_of_region(family) else (*_PAIR, "region", "image_type", dim)
    about: dict[str, Any] = {}
    if family in OWN_TITLES:
        long_name = OWN_TITLES[family]
    else:
        features = {feature.name: feature for feature in FAMILIES[family].features}
        long_name = FAMILIES[family].long_name
        about = {
            "feature_units": [features[name].unit for name in names],
            "ibsi_ids": [features[name].ibsi_id for name in names],
            "ibsi_notes": [features[name].ibsi_note for name in names],
            "sources": [features[name].source for name in names],
        }
    return (
        Variable(dim, (dim,), "string", f"{long_name}: features", attributes=about),
        Variable(family, dims, "float64", long_name),
    )


def column_variable(name: str, dtype: str) -> Variable:
    """Return the array of a manifest's own column."""
    return Variable(name, ("lesion",), dtype, f"column {name} of the manifest")


def column_values(column: pd.Series[Any]) -> NDArray[Any]:
    """Return a manifest's column as the cube stores it: float64 or strings.

    All numbers are float64, because lesions that come later may have none; a missing number is NaN, a missing text is
    empty. Whole numbers beyond 2^53, dates and mixtures are stored as text.
    """
    types = pd.api.types
    exact = 2**53
    if types.is_bool_dtype(column) or (
        types.is_numeric_dtype(column)
        and not types.is_complex_dtype(column)
        and not (types.is_integer_dtype(column) and (column.abs() > exact).any())
    ):
        return column.to_numpy(dtype=np.float64, na_value=math.nan)
    known: dict[str, str] = {}  # so that equal texts are one in memory
    texts = ("" if missing else str(value) for value, missing in zip(column, column.isna(), strict=True))
    return np.array([known.setdefault(text, text) for text in texts], object)


def prefix(segmentation: str, region: str, *, several: bool) -> str:
    """Return what a flat column's name starts with: the segmentation where there are several, the region."""
    parts = [segmentation] * several + [region] * (region != "lesion")
    return "".join(f"{part}__" for part in parts)
