"""Make a cube, or have one grow by what a run's manifest and settings add to it.

Nothing that is there is rewritten, except where an update is asked for: then what the manifest or the settings now say
otherwise is pending again, before the cube says that it is made of the new ones.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import zarr

from hgpscale.catalog import FAMILIES, ORIGINAL, OWN_FAMILIES, is_of_region
from hgpscale.contents import Contents, Key
from hgpscale.cube import manifest, merge, schema, store
from hgpscale.cube.by_row import mask_of
from hgpscale.cube.head import Head, forget, lay_out, open_root, settle
from hgpscale.cube.states import Labels, States
from hgpscale.cube.together import together
from hgpscale.errors import CubeError
from hgpscale.settings import Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hgpscale.cohort.manifest import Cohort
    from hgpscale.cube.manifest import Told

_BLOCKS_AT_A_TIME = 16

_SHOWN = 5
"""Differences that a message lists before it says how many more there are."""


class Grown(NamedTuple):
    """A cube with room for all that a run asks for.

    Attributes
    ----------
    root, head
        The cube.
    labels
        Position of every label, by dimension.
    notes
        What was added or is computed anew, a line each.

    """

    root: zarr.Group
    head: Head
    labels: Labels
    notes: tuple[str, ...]


def make(
    path: str | Path,
    cohort: Cohort,
    contents: Contents,
    settings: Settings | None,
    versions: Mapping[str, int],
    *,
    commit: bool = True,
) -> Grown:
    """Make the cube of a cohort; until it is whole, `open_root` finds none there.

    Parameters
    ----------
    path
        Where; nothing is there.
    cohort
        All its rows.
    contents
        The vectors that it shall hold, all pending.
    settings, versions
        What they will be made with; None and nothing for an imported table.
    commit
        Whether it is whole now; otherwise the caller commits `Grown.head`.

    """
    root = zarr.create_group(store.open_store(path, read_only=False))
    told = manifest.compare(path, cohort, root, None, {}, np.zeros((0, 0), bool))
    labels = _labels(told, {}, contents)
    head = Head(settings, contents, told.columns, _sizes(labels), versions)
    lay_out(root, None, head, {dim: list(names) for dim, names in labels.items()})
    _write(root, told)
    if commit:
        head.commit(root)
    return Grown(root, head, labels, ())


def grow(path: str | Path, cohort: Cohort, settings: Settings, *, update: bool) -> Grown:
    """Open a cube, and add what the manifest and the settings have more than it.

    Raises
    ------
    CubeError
        It is no cube, it is sealed or was imported, or something in it was made of other settings or another manifest
        and `update` is off.

    """
    root, before = open_root(path, read_only=False)
    if before.settings is None:
        raise CubeError(f"{path}: was imported from a table: no scan belongs to it; extract to another path")
    if before.sealed:
        raise CubeError(f"{path}: was packed for sharing and takes no more records; extract to the cube it was made of")
    settle(root, before)
    merged = merge.merge(before.settings, before.versions, settings)
    old = labels_in(root, cohort.lesions)
    states = States(root["state"], old)
    # Numbers that networks made tell nothing of the files: their rows are as free as rows without any.
    numbers = states.rows_with(schema.DONE, before.contents.extracted)
    told = manifest.compare(path, cohort, root, before, old, numbers)
    differences = [*merged.differences, *told.differences]
    # Of a cube without numbers nothing can be mixed with anything.
    if differences and not update and numbers.any():
        raise CubeError(
            f"{path}: holds what was made otherwise: {_listed(differences)}; use the settings and the manifest that it "
            "was made with, add --update to compute anew what this concerns, or extract to another path"
        )
    stale = merged.stale.intersection(before.contents.keys)
    asked = Contents.of(merged.settings)
    own = {family: names for family, names in before.contents.features.items() if family in OWN_FAMILIES}
    regions = tuple(dict.fromkeys((*before.contents.regions, *asked.regions)))
    contents = replace(asked, regions=regions, features={**asked.features, **own})
    labels = _labels(told, old, contents)
    versions = {**before.versions, **{family: FAMILIES[family].version for family in settings.features}}
    after = replace(
        before,
        settings=merged.settings,
        contents=contents,
        columns=told.columns,
        sizes=_sizes(labels),
        versions=versions,
    )
    notes = (*(f"{line}: computed anew" for line in differences), *_added(before, after, told, old, labels))
    more = after.contents != before.contents or after.sizes != before.sizes or told.added
    if before.finished and (more or stale or told.stale or told.mended):
        before, after = replace(before, finished=False), replace(after, finished=False)
        before.commit(root)
    if stale:
        make_pending(root, states, old, stale, np.ones(states.shape, bool))
    if others := told.stale | told.mended:
        make_pending(root, states, old, before.contents.keys, mask_of(old, others, states.shape))
    shown = without(root, before, merged.replaced) if merged.replaced else before
    lay_out(root, shown, after, {dim: list(names) for dim, names in labels.items()})
    _write(root, told)
    if after != shown:
        after.commit(root)
    if not before.contents.features.keys() <= after.contents.features.keys():
        forget(root, after)
    return Grown(root, after, labels, notes)


def make_pending(
    root: zarr.Group, states: States, labels: Labels, keys: Collection[Key], rows: NDArray[np.bool_]
) -> None:
    """Make keys of the rows in `rows`, shape ``(lesion, segmentation)``, pending, then blank their numbers.

    So whoever looks at the arrays alone sees no old numbers beside new ones.
    """
    states.reset(keys, rows)
    for region, image, family in keys:
        array = root[family].async_array
        at: tuple[int, ...] = (labels["region"][region],)
        at += () if is_of_region(family) else (labels["image_type"][image],)
        starts = range(0, rows.shape[0], schema.LESION_CHUNK)
        blocks = [slice(start, min(start + schema.LESION_CHUNK, rows.shape[0])) for start in starts]
        together(
            [
                _blank(array, (lesions, int(rater), *at), rows[lesions, rater])
                for lesions in blocks
                for rater in np.flatnonzero(rows[lesions].any(axis=0))
            ]
        )


async def _blank(array: Any, where: tuple[Any, ...], rows: NDArray[np.bool_]) -> None:
    values = await array.getitem(where)
    if not np.isnan(values[rows]).all():
        values[rows] = np.nan
        await array.setitem(where, values)


def without(root: zarr.Group, head: Head, families: Sequence[str]) -> Head:
    """Have the cube show no families of which all vectors are pending; their arrays are made anew."""
    features = {family: names for family, names in head.contents.features.items() if family not in families}
    fewer = replace(head, contents=replace(head.contents, features=features))
    fewer.commit(root)
    return fewer


def _labels(told: Told, old: Labels, contents: Contents) -> dict[str, dict[str, int]]:
    """Return the positions of all labels by dimension, those that the cube has first."""
    images = [ORIGINAL] if not contents.image_types else list(contents.image_types)
    if any(image == ORIGINAL for _, image, _ in contents.keys) and ORIGINAL not in images:
        images.append(ORIGINAL)
    # The columns of an imported table stand under a region that no other family may have.
    regions = dict.fromkeys((*contents.regions, *(region for region, _, _ in contents.keys)))
    new = {"region": list(regions), "image_type": images, "family": list(contents.features)}
    others = _positions({dim: dict.fromkeys((*old.get(dim, ()), *names)) for dim, names in new.items()})
    return {"lesion": told.lesions, "segmentation": told.segmentations, **others}


def labels_in(root: zarr.Group, known: Iterable[str] = ()) -> dict[str, dict[str, int]]:
    """Return the position of every label of a settled cube, by dimension; known names take no memory twice."""
    return _positions({dim: _stored(root[dim], known) for dim in schema.LABELS})


def _stored(array: zarr.Array, known: Iterable[str]) -> list[str]:
    """Return the labels of a dimension; those that are known already take no memory a second time."""
    same = {label: label for label in known}
    return [same.get(label, label) for label in map(str, array[...])]


def _positions(labels: Mapping[str, Iterable[str]]) -> dict[str, dict[str, int]]:
    return {dim: {label: i for i, label in enumerate(names)} for dim, names in labels.items()}


def _sizes(labels: Labels) -> dict[str, int]:
    return {dim: len(names) for dim, names in labels.items()}


def _added(before: Head, after: Head, told: Told, old: Labels, labels: Labels) -> list[str]:
    notes = [f"{told.added} rows added"] if told.added else []
    for dim, several in (("segmentation", "segmentations"), ("region", "regions"), ("image_type", "image types")):
        new = [name for name in labels[dim] if name not in old[dim]]
        notes += [f"{several} added: {_listed(new, ' ')}"] if new else []
    families = [family for family in after.contents.features if family not in before.contents.features]
    notes += [f"feature classes added: {' '.join(families)}"] if families else []
    columns = [name for name in after.columns if name not in before.columns]
    return notes + ([f"columns added: {' '.join(columns)}"] if columns else [])


def _write(root: zarr.Group, told: Told) -> None:
    arrays = {name: root[name].async_array for name in told.changed}
    blocks = told.blocks()
    while some := list(islice(blocks, _BLOCKS_AT_A_TIME)):
        together([arrays[name].setitem(where, values) for name, where, values in some])


def _listed(lines: Sequence[Any], by: str = "; ") -> str:
    more = f"{by}and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
    return by.join(map(str, lines[:_SHOWN])) + more
