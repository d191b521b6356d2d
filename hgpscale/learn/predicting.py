"""Use a model on the lesions of a cube."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from hgpscale.cube import open_cube
from hgpscale.cube.arrays import labels_of
from hgpscale.errors import CubeError, LearnError
from hgpscale.learn.model import Model
from hgpscale.learn.predictions import lesion_table, patient_table
from hgpscale.learn.samples import Samples
from hgpscale.learn.scores import mean_by_lesion

if TYPE_CHECKING:
    import xarray as xr

_LESIONS_AT_A_TIME = 4096


@dataclass(frozen=True)
class Predicted:
    """What `predict` found.

    Attributes
    ----------
    table
        A row a lesion, then a row a patient, see docs/learning.md.
    missing
        Lesions that there is no prediction of, as the cube has no features of them.
    seen
        How many of the lesions the model was fitted on: what it says of those is too good.

    """

    table: pd.DataFrame
    missing: tuple[str, ...]
    seen: int


def predict(
    model: str | Path | Model, cube: str | Path, *, on_progress: Callable[[int, int], None] | None = None
) -> Predicted:
    """Return what a model says of every lesion of a cube.

    Outlines of several raters are averaged. Memory is bounded, whatever the size of the cube.

    Raises
    ------
    CubeError, LearnError
        The cube lacks features, or was made with other settings than the model's.

    """
    model = model if isinstance(model, Model) else Model.load(model)
    dataset = open_cube(cube)
    model.check_cube(dataset, cube)
    ids = labels_of(dataset, "lesion")
    tables: list[pd.DataFrame] = []
    missing: list[str] = []
    for start in range(0, len(ids), _LESIONS_AT_A_TIME):
        here = slice(start, start + _LESIONS_AT_A_TIME)
        table = _of_block(model, dataset.isel(lesion=here))
        there = set(table["lesion"]) if table is not None else set()
        missing.extend(str(lesion) for lesion in ids[here] if lesion not in there)
        if table is not None:
            tables.append(table)
        if on_progress is not None:
            on_progress(min(here.stop, len(ids)), len(ids))
    if not tables:
        raise CubeError(f"{cube}: has no features of any lesion that the model could read; see hgpscale status")
    lesions = pd.concat(tables, ignore_index=True)
    seen = sum(model.has_seen(lesion) for lesion in lesions["lesion"])
    table = pd.concat([lesions, patient_table(model.target, lesions)], ignore_index=True)
    return Predicted(table, tuple(missing), seen)


def _of_block(model: Model, block: xr.Dataset) -> pd.DataFrame | None:
    """Return a row a lesion that has features; None where none has."""
    samples = Samples.of(block, model.design.features)
    if not len(samples):
        return None
    X = model.design.matrix(samples)
    n = model.design.layout.n_features
    with threadpool_limits(limits=1):
        said, typicality = model.fitted.outputs(X), model.typical.score_samples(X[:, :n])
    _, first, inverse, counts = np.unique(samples.lesion, return_index=True, return_inverse=True, return_counts=True)
    order = np.argsort(first)  # the cube's order

    def mean(values: Any) -> Any:
        return mean_by_lesion(values, first, inverse)[order]

    return lesion_table(
        model.target,
        samples.take(first[order]),
        mean(said),
        half_width=model.fitted.half_width,
        typicality=mean(typicality),
        n_segmentations=counts[order],
        n_training=model.typical[-1].distances_.shape[1],
    )


def check_free(path: str | Path, *, overwrite: bool) -> None:
    """Refuse to replace a file unless told to: before lesions are predicted, not after.

    Raises
    ------
    LearnError
        There is a file already and `overwrite` is off.

    """
    if Path(path).exists() and not overwrite:
        raise LearnError(f"{path}: is there already; use --overwrite to replace it, or give another name")


def write_predictions(found: Predicted, path: str | Path, *, overwrite: bool = False) -> None:
    """Write the table as CSV, whole or not at all.

    Raises
    ------
    LearnError
        There is a file already and `overwrite` is off.

    """
    path = Path(path)
    check_free(path, overwrite=overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    found.table.to_csv(partial, index=False, float_format="%.6g", lineterminator="\n")
    partial.replace(path)
