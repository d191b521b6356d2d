"""Rows of a cube as arrays: what models are fitted on and judged by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from hgpscale.catalog import LESION, flat_name
from hgpscale.cube.arrays import PAIR, has_row, labels_of, ordered
from hgpscale.cube.head import COLUMNS
from hgpscale.cube.schema import prefix
from hgpscale.errors import CubeError, LearnError

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

    from hgpscale.contents import Key

EXTERNAL = "external"
"""Value of the manifest's column `split` of lesions that are kept for validation."""

EXTERNAL_REASON = "external validation set (--everything takes it in)"

VOLUMES = ("original_shape_MeshVolume", "original_shape_VoxelVolume")
INTERFACE = "original_shape_SurfaceArea"
"""Features of the region `lesion` that have a meaning of their own: mm³, and mm²."""


@dataclass(frozen=True)
class Samples:
    """Features and what the manifest says of lesions, a row for each segmentation of each lesion.

    Attributes
    ----------
    values
        float64, shape ``(row, feature)``; NaN where a feature is not known.
    features
        Names of the columns of `values`, as ``rim__original_glcm_Contrast``.
    lesion, segmentation, patient
        Whose each row is: str objects, shape ``(row,)``.
    columns
        The manifest's columns, a row for each row; numbers are float64.
    volume, interface
        Volume in mm³ and surface in mm² of the lesion, float64, shape ``(row,)``; NaN where the cube does not have it.
    excluded
        How many lesions were left out so far, by reason.

    """

    values: NDArray[np.float64]
    features: tuple[str, ...]
    lesion: NDArray[Any]
    segmentation: NDArray[Any]
    patient: NDArray[Any]
    columns: pd.DataFrame
    volume: NDArray[np.float64]
    interface: NDArray[np.float64]
    excluded: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of(cls, cube: xr.Dataset, features: Sequence[str] = ()) -> Self:
        """Read a cube, or a part of it, into memory.

        Parameters
        ----------
        cube
            As `hgpscale.open_cube` gives it.
        features
            Names or shell patterns of flat names, such as ``rim__*`` or ``*_glcm_*``; none: all features.

        Raises
        ------
        CubeError
            A pattern matches no feature.

        """
        tables = cube.hgp
        has_patient = "patient" in cube.attrs[COLUMNS]
        names, blocks = _chosen(cube, features)
        rows = has_row(cube)
        lesion, rater = np.nonzero(rows)
        if blocks:
            values = np.concatenate([tables.vectors(key)[lesion, rater][:, at] for key, at in blocks], axis=1)
        else:
            values = np.empty((len(lesion), 0))
        columns = pd.DataFrame({name: ordered(cube[name], ("lesion",))[lesion] for name in cube.attrs[COLUMNS]})
        lesions = labels_of(cube, "lesion")[lesion].astype(object)
        samples = cls(
            np.where(np.isfinite(values), values, np.nan),
            names,
            lesions,
            labels_of(cube, "segmentation")[rater].astype(object),
            columns["patient"].to_numpy(object) if has_patient else lesions,
            columns,
            _feature(cube, VOLUMES)[lesion, rater],
            _feature(cube, (INTERFACE,))[lesion, rater],
        )
        unknown = np.asarray(~np.isfinite(samples.values).any(axis=1))
        return samples.without(unknown, "no features (failed or pending)")

    @classmethod
    def of_batch(cls, numbers: pd.DataFrame, columns: pd.DataFrame) -> Self:
        """Return a batch of `cube.hgp.batches`, with all columns of the manifest as its target."""
        lesion, segmentation = (numbers.index.get_level_values(name).to_numpy(object) for name in PAIR)
        columns = columns.reset_index(drop=True)
        patient = columns["patient"].to_numpy(object) if "patient" in columns else lesion
        values = numbers.to_numpy(float)
        values = np.where(np.isfinite(values), values, np.nan)
        unknown = np.full(len(lesion), np.nan)
        return cls(values, tuple(numbers.columns), lesion, segmentation, patient, columns, unknown, unknown)

    def __len__(self) -> int:
        return len(self.lesion)

    def take(self, rows: Any) -> Self:
        """Return some of the rows, by positions or by a mask."""
        return replace(
            self,
            values=self.values[rows],
            lesion=self.lesion[rows],
            segmentation=self.segmentation[rows],
            patient=self.patient[rows],
            columns=self.columns.iloc[np.arange(len(self))[rows]].reset_index(drop=True),
            volume=self.volume[rows],
            interface=self.interface[rows],
        )

    def without(self, rows: NDArray[np.bool_], reason: str) -> Self:
        """Leave rows out and count the lesions that have none left."""
        kept = self.take(~rows)
        lost = len(set(self.lesion) - set(kept.lesion))
        return replace(kept, excluded=(*self.excluded, (reason, lost))) if lost else kept

    def column(self, name: str) -> pd.Series:
        """Return a column of the manifest.

        Raises
        ------
        LearnError
            There is none of this name.

        """
        if name not in self.columns:
            there = ", ".join(map(str, self.columns)) or "none"
            raise LearnError(f"no column {name!r} in the manifest behind the cube; it has {there}")
        return self.columns[name]


def chosen_features(cube: xr.Dataset, patterns: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the features that patterns choose; `CubeError` where one chooses none."""
    return _chosen(cube, patterns)[0]


def _chosen(cube: xr.Dataset, patterns: Sequence[str]) -> tuple[tuple[str, ...], list[tuple[Key, NDArray[np.int64]]]]:
    """Return the names of the chosen features, and for each key which of its features they are."""
    names: list[str] = []
    blocks = []
    # A name may look like a pattern, and many names are found faster than many patterns.
    exact = set(patterns) & set(cube.hgp.names(prefixed=False))
    loose = [pattern for pattern in patterns if pattern not in exact]
    met: set[str] = set()
    for key in cube.hgp.keys:
        here = features_of(cube, key)
        at = []
        for i, name in enumerate(here):
            found = [pattern for pattern in loose if fnmatchcase(name, pattern)]
            met.update(found)
            if not patterns or found or name in exact:
                at.append(i)
        if at:
            names.extend(here[i] for i in at)
            blocks.append((key, np.array(at)))
    lost = [pattern for pattern in loose if pattern not in met]
    if lost:
        some = ", ".join(cube.hgp.names(prefixed=False)[:3])
        raise CubeError(f"no feature matches {lost[0]!r}; names are such as {some}")
    return tuple(names), blocks


def features_of(cube: xr.Dataset, key: Key) -> list[str]:
    """Return the flat names of the features of a key, without a segmentation."""
    region, image, family = key
    front = prefix("", region, several=False)
    return [front + flat_name(image, family, str(name)) for name in labels_of(cube, f"{family}_feature")]


def _feature(cube: xr.Dataset, names: Sequence[str]) -> NDArray[np.float64]:
    """Return the first feature of the region `lesion` that the cube has, shape ``(lesion, segmentation)``."""
    for key in cube.hgp.keys:
        if key[0] != LESION:
            continue
        here = features_of(cube, key)
        for name in names:
            if name in here:
                values: NDArray[np.float64] = cube.hgp.vectors(key)[..., here.index(name)]
                return values
    return np.full((labels_of(cube, "lesion").size, labels_of(cube, "segmentation").size), np.nan)


def without_external(cube: xr.Dataset) -> tuple[xr.Dataset, int]:
    """Return the part of a cube that is not kept for validation, and how many lesions are.

    Raises
    ------
    LearnError
        All are.

    """
    if "split" not in cube.attrs[COLUMNS]:
        return cube, 0
    external = ordered(cube["split"], ("lesion",)) == EXTERNAL
    if external.all():
        raise LearnError("every lesion is of the external validation set; use them with --everything")
    kept = cube.isel(lesion=np.flatnonzero(~external)) if external.any() else cube
    return kept, int(external.sum())


def lesion_weight(lesion: NDArray[Any]) -> NDArray[np.float64]:
    """Return one over the number of rows of each row's lesion: however many raters, a lesion counts once."""
    _, inverse, counts = np.unique(lesion, return_inverse=True, return_counts=True)
    return np.asarray(1 / counts[inverse])
