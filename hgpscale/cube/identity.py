"""Is this cube the one that a run would make? What a manifest puts into a cube, and how the two may differ.

A cube is resumed only by the work that made it: same settings, same numeric versions of the families, same
manifest. Anything else is refused with both values, never mixed.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from hgpscale.catalog import FAMILIES, column_problems
from hgpscale.cube import schema
from hgpscale.errors import CubeError
from hgpscale.settings import Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hgpscale.cohort.manifest import Cohort

_ANOTHER = "or extract to another path"


def manifest_tables(cohort: Cohort) -> dict[str, NDArray[Any]]:
    """Return what a manifest says, as the variables of a cube that hold it.

    `lesion` and `segmentation` are the two coordinates; `image_path` has shape ``(lesion,)``; `mask`,
    `requested_label` and `roi` have shape ``(lesion, segmentation)``.
    """
    lesions = {name: i for i, name in enumerate(cohort.lesions)}
    segmentations = {name: i for i, name in enumerate(cohort.segmentations)}
    shape = len(lesions), len(segmentations)
    image_path = np.full(shape[0], "", object)
    mask, roi = np.full(shape, "", object), np.full(shape, "", object)
    requested_label = np.zeros(shape, np.int64)
    for row in reversed(cohort.rows):  # of a lesion's rows the first one names the image
        cell = lesions[row.lesion], segmentations[row.segmentation]
        image_path[cell[0]] = row.image_text
        mask[cell], roi[cell], requested_label[cell] = row.mask_text, row.roi, row.label or 0
    return {
        "lesion": np.array(cohort.lesions, object),
        "segmentation": np.array(cohort.segmentations, object),
        "image_path": image_path,
        "mask": mask,
        "requested_label": requested_label,
        "roi": roi,
    }


def manifest_columns(cohort: Cohort) -> dict[str, NDArray[Any]]:
    """Return the manifest's own columns, patient first, one value a lesion in the order of `cohort.lesions`."""
    table = cohort.columns.loc[list(cohort.lesions)]
    names = sorted(table.columns, key=lambda name: name != "patient")
    return {str(name): schema.column_values(table[name]) for name in names}


def check_names(path: str | Path, cohort: Cohort) -> None:
    """Refuse a cohort with columns that no cube can hold; `read_manifest` has refused those of a file."""
    wrong = column_problems(map(str, cohort.columns.columns))
    if wrong:
        raise CubeError(f"{path}: {cohort.source}: {'; '.join(wrong)}; rename {'it' if len(wrong) == 1 else 'them'}")


def check_settings(path: str | Path, root: zarr.Group, settings: Settings) -> None:
    """Refuse a cube that was made with other settings or by other numeric versions of a family."""
    stored = schema.settings_of(root.attrs, path)
    differences = _settings_differences(stored, settings)
    if differences:
        raise CubeError(
            f"{path}: made with other settings: {'; '.join(differences)}; use the cube's settings {_ANOTHER}"
        )
    for family in settings.features:
        version = root[family].attrs["version"]
        if version != FAMILIES[family].version:
            raise CubeError(
                f"{path}: its {family} numbers are of version {version}, this hgpscale computes version "
                f"{FAMILIES[family].version}; use hgpscale {root.attrs[schema.VERSION]} {_ANOTHER}"
            )


def _settings_differences(stored: Settings, asked: Settings) -> list[str]:
    old, new = stored.model_dump(mode="json"), asked.model_dump(mode="json")
    old_features, new_features = old.pop("features"), new.pop("features")
    said = [f"{key} is {old[key]!r} in the cube, now {new[key]!r}" for key in old if old[key] != new[key]]
    for family in {**old_features, **new_features}:
        was, now = old_features.get(family), new_features.get(family)
        if was is None or now is None:
            said.append(f"feature class {family} is {_switch(was)} in the cube, now {_switch(now)}")
        elif was != now:
            only = [f"{name} (only in the cube)" for name in was if name not in now]
            only += [f"{name} (only now)" for name in now if name not in was]
            said.append(f"feature class {family} differs in {', '.join(only)}")
    return said


def _switch(names: list[str] | None) -> str:
    return "off" if names is None else "on"


MENDABLE = ("image_path", "mask", "requested_label", "roi")
"""What a manifest may say anew of rows that failed."""


def check_manifest(
    path: str | Path, root: zarr.Group, cohort: Cohort, mended: Container[tuple[str, str]] = frozenset()
) -> None:
    """Refuse a manifest that says something else than the one the cube was made from, whatever its order.

    Rows in `mended`, ``(lesion, segmentation)``, may differ in what is `MENDABLE`.
    """
    asked, columns = manifest_tables(cohort), manifest_columns(cohort)
    names = schema.manifest_columns(root)
    stored = {name: root[name][...] for name in (*asked, *names)}
    problem = (
        _row_difference(pairs_of(stored), pairs_of(asked))
        or _column_difference(names, tuple(columns))
        or _value_difference(stored, {**asked, **columns}, mended)
    )
    if problem:
        raise CubeError(
            f"{path}: not made from {cohort.source}: {problem}; use the manifest that it was made from, {_ANOTHER}; "
            "file paths and labels of rows that failed may be mended together with --retry-failed"
        )


def pairs_of(tables: Mapping[str, NDArray[Any]]) -> list[tuple[str, str]]:
    """Return the rows of a manifest, ``(lesion, segmentation)``: wherever there is a mask."""
    cells = np.argwhere(tables["mask"] != "")
    return [(str(tables["lesion"][i]), str(tables["segmentation"][j])) for i, j in cells]


def _row_difference(stored: list[tuple[str, str]], asked: list[tuple[str, str]]) -> str:
    for extra, side in ((set(asked) - set(stored), "manifest"), (set(stored) - set(asked), "cube")):
        if extra:
            lesion, segmentation = min(extra)
            more = f" (and {len(extra) - 1} more)" if len(extra) > 1 else ""
            return f"lesion {lesion!r} with segmentation {segmentation!r} is only in the {side}{more}"
    return ""


def _column_difference(stored: tuple[str, ...], asked: tuple[str, ...]) -> str:
    for name in sorted(set(stored) ^ set(asked)):
        return f"column {name!r} is only in the {'cube' if name in stored else 'manifest'}"
    return ""


def _value_difference(
    stored: Mapping[str, NDArray[Any]], asked: Mapping[str, NDArray[Any]], mended: Container[tuple[str, str]]
) -> str:
    """Say where the first value differs. Both have the same rows and columns, perhaps in another order."""
    pairs = pairs_of(asked)
    lesions, segmentations = (_order(stored[dim], asked[dim]) for dim in ("lesion", "segmentation"))
    for name in asked:
        if name in ("lesion", "segmentation"):
            continue
        new = asked[name].astype(object)
        old = stored[name].astype(object)[lesions]
        if old.ndim == 2:
            old = old[:, segmentations]
        both_missing = (old != old) & (new != new)  # NaN is the one value that differs from itself
        for cell in np.argwhere((old != new) & ~both_missing):
            lesion = asked["lesion"][cell[0]]
            rows = [pair for pair in pairs if pair[0] == lesion]
            if old.ndim == 2:
                rows = [(lesion, asked["segmentation"][cell[1]])]
            if name in MENDABLE and all(row in mended for row in rows):
                continue
            where = f"lesion {lesion!r}"
            if old.ndim == 2:
                where += f", segmentation {asked['segmentation'][cell[1]]!r}"
            column = schema.MANIFEST_NAMES.get(name, name)
            return f"{where}: {column} is {old[tuple(cell)]!r} in the cube, now {new[tuple(cell)]!r}"
    return ""


def _order(stored: NDArray[Any], asked: NDArray[Any]) -> list[int]:
    position = {name: i for i, name in enumerate(stored)}
    return [position[name] for name in asked]
