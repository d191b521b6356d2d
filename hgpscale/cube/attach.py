"""Put numbers that networks made into a cube that is there: one more family, beside what was extracted or imported.

It is done as everything in a cube is: the keys are pending until their numbers are stored, so a kill leaves nothing but
pending ones, and the same call goes on.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hgpscale.catalog import DEEP, LESION, ORIGINAL, column_problems, is_deep_feature
from hgpscale.cube import schema
from hgpscale.cube.by_row import rows_at
from hgpscale.cube.grow import Grown, labels_in, make_pending, without
from hgpscale.cube.head import Head, lay_out, open_root, settle
from hgpscale.cube.making import opening
from hgpscale.cube.states import States
from hgpscale.cube.writer import CubeWriter
from hgpscale.errors import CubeError, Failure
from hgpscale.record import Record

if TYPE_CHECKING:
    import zarr
    from numpy.typing import NDArray

    from hgpscale.cube.manifest import Row

KEY = LESION, ORIGINAL, DEEP
"""The one vector that the family `DEEP` has of a row."""

_FLUSH_SECONDS = 5.0


class Put(NamedTuple):
    """What `put_family` did with the rows that it was given, and what is left.

    Attributes
    ----------
    done, failed
        Rows whose numbers, or whose failure, were stored.
    kept
        Rows that the cube had them of already.
    pending
        Rows of the cube without them.

    """

    done: int
    failed: int
    kept: int
    pending: int


def put_family(
    path: str | Path,
    family: str,
    features: Sequence[str],
    rows: Iterable[tuple[str, str, NDArray[np.float64] | Failure]],
    *,
    about: Mapping[str, Any],
    replace: bool = False,
    break_lock: bool = False,
) -> Put:
    """Add a family of features that networks made to a cube, or fill what is pending of it.

    Each row of the cube has one vector, under the region ``lesion`` and the image type ``original``. Rows that are not
    given stay pending. In flat tables the columns are called ``deep_<feature>``.

    Parameters
    ----------
    path
        The cube, extracted or imported.
    family
        ``deep``: no other family can be put.
    features
        Names of the features: letters and digits, first a capital letter, as in ``Embedding00``.
    rows
        ``(lesion, segmentation, values)``, each row of the cube at most once, in any order; values are float64, shape
        ``(feature,)``, all finite, or the `Failure` that says why there are none. Best in the cube's order: then each
        chunk is written once.
    about
        What made the numbers, as JSON: which networks, by their digests. Kept in the cube's root. Two cubes whose
        numbers have the same meaning must say the same here; a model learned on one refuses the other otherwise.
    replace
        Where the cube has the family already: make all of it pending first. Without it, other features or another
        `about` than the cube's are refused, and only what is pending is stored.
    break_lock
        Take the cube from another run, which must be known to be gone.

    Raises
    ------
    CubeError
        There is no such cube, it is packed, another run is writing to it; the names cannot be used or clash with a
        column; a row is not the cube's or comes twice, or its values are not as many finite numbers as features; the
        family is there, made by something else, and `replace` is off. Rows given before the wrong one are stored.
    CubeWriteError
        The storage refuses; what was written until then is kept.

    """
    names, said = tuple(features), _json(path, about)
    _check_names(path, family, names)
    with opening(path, break_lock=break_lock) as lock:
        grown = _added(path, names, said, anew=replace)
        there = rows_at(grown.labels, _has_row(grown))
        times = {"flush_records": schema.LESION_CHUNK, "flush_seconds": _FLUSH_SECONDS}
        writer = CubeWriter(path, grown, there, [KEY], lock, **times)  # type: ignore[arg-type]
    with writer:
        done, failed, kept = _stored(path, writer, grown, rows)
    return Put(done, failed, kept, len(writer.missing))


def _json(path: str | Path, about: Mapping[str, Any]) -> dict[str, Any]:
    """Return `about` as it is read back."""
    try:
        text = json.dumps(about, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise CubeError(f"{path}: what made the numbers must be JSON, found something else: {error}") from error
    said: dict[str, Any] = json.loads(text)
    return said


def _check_names(path: str | Path, family: str, names: Sequence[str]) -> None:
    if family != DEEP:
        raise CubeError(f"{path}: expected the family {DEEP!r}, found {family!r}; no other can be put into a cube")
    wrong = [name for name in names if not is_deep_feature(name)]
    if wrong or not names or len(set(names)) < len(names):
        found = f"{wrong[0]!r}" if wrong else "none" if not names else "one twice"
        raise CubeError(
            f"{path}: expected different names of features, letters and digits after a capital letter, found {found}"
        )


def _added(path: str | Path, names: tuple[str, ...], about: dict[str, Any], *, anew: bool) -> Grown:
    """Give a cube room for the family; see `grow.grow` for the order of writes."""
    root, before = open_root(path, read_only=False)
    if before.sealed:
        raise CubeError(f"{path}: was packed for sharing and takes no more records; use the cube it was made of")
    if wrong := column_problems(before.columns):
        raise CubeError(f"{path}: {'; '.join(wrong)}; extract to another path with another name in the manifest")
    old = before.contents.features.get(DEEP)
    is_same = old == names and before.about.get(DEEP) == about
    if old is not None and not is_same and not anew:
        raise CubeError(
            f"{path}: has numbers of the family {DEEP} that {_difference(before, names)}; replace them, or put these "
            "into a cube of their own"
        )
    settle(root, before)
    stored = labels_in(root)
    if old is not None and anew:
        states = States(root["state"], stored)
        make_pending(root, states, stored, [KEY], np.ones(states.shape, bool))
        if old != names:
            before = without(root, before, [DEEP])
    more = dict(zip(("region", "image_type", "family"), KEY, strict=True))
    labels = {
        dim: positions if more.get(dim, "") in {"", *positions} else {**positions, more[dim]: len(positions)}
        for dim, positions in stored.items()
    }
    after = dataclasses.replace(
        before,
        contents=dataclasses.replace(before.contents, features={**before.contents.features, DEEP: names}),
        sizes={dim: len(positions) for dim, positions in labels.items()},
        about={**before.about, DEEP: about},
    )
    lay_out(root, before, after, {dim: list(positions) for dim, positions in labels.items()})
    if after != before:
        after.commit(root)
    return Grown(root, after, labels, ())


def _difference(head: Head, names: Sequence[str]) -> str:
    old = head.contents.features[DEEP]
    if tuple(names) != old:
        return f"are {len(old)} features such as {old[0]}, not {len(names)} such as {names[0]}"
    return "other networks made"


def _has_row(grown: Grown) -> NDArray[np.bool_]:
    """Return which rows the cube has, shape ``(lesion, segmentation)``."""
    return np.asarray(grown.root["mask"][...] != "", bool)


class _Known:
    """What the cube says of its rows' files, which numbers of networks leave as it is."""

    def __init__(self, root: zarr.Group) -> None:
        names = ("image_digest", "mask_digest", "label", "surroundings_digest")
        self._arrays = [root[name][...] for name in names]

    def record(self, row: Row, cell: tuple[int, int], numbers: NDArray[np.float64] | Failure) -> Record:
        image, mask, label, around = (array[cell] for array in self._arrays)
        values = {} if isinstance(numbers, Failure) else {KEY: numbers}
        failures = {KEY: numbers} if isinstance(numbers, Failure) else {}
        return Record(*row, str(image), str(mask), int(label), values, failures, str(around))


def _stored(
    path: str | Path,
    writer: CubeWriter,
    grown: Grown,
    rows: Iterable[tuple[str, str, NDArray[np.float64] | Failure]],
) -> tuple[int, int, int]:
    """Have the writer store all rows that are pending; return how many were done, failed and there already."""
    known, there = _Known(grown.root), _has_row(grown)
    seen = np.zeros(there.shape, bool)
    width = len(grown.head.contents.features[DEEP])
    done = failed = kept = 0
    for lesion, segmentation, numbers in rows:
        name = f"{path}: lesion {lesion!r}, segmentation {segmentation!r}"
        cell = grown.labels["lesion"].get(lesion, -1), grown.labels["segmentation"].get(segmentation, -1)
        if min(cell) < 0 or not there[cell]:
            raise CubeError(f"{name}: the cube has no such row; put numbers of its own rows")
        if seen[cell]:
            raise CubeError(f"{name}: came twice, expected each row once")
        seen[cell] = True
        row = lesion, segmentation
        if row not in writer.missing:
            kept += 1
            continue
        if isinstance(numbers, Failure):
            failed += 1
        else:
            numbers = np.asarray(numbers, np.float64)
            if numbers.shape != (width,) or not np.isfinite(numbers).all():
                raise CubeError(
                    f"{name}: expected {width} finite numbers or a failure, found shape {numbers.shape} with "
                    f"{int((~np.isfinite(numbers)).sum())} that are not finite"
                )
            done += 1
        writer.add(known.record(row, cell, numbers))
    return done, failed, kept
