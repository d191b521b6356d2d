"""A cohort on disk as networks are trained on it: scans and outlines on one grid, in one zarr store."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import zarr
from numpy.typing import NDArray

from hgpscale._version import __version__
from hgpscale.deep.regrid import AIR
from hgpscale.errors import DeepError
from hgpscale.limits import memory_limit
from hgpscale.volume import Box, Geometry, Index, Vector

SCHEMA = "hgpscale-prepared-1"
IMAGE, INSTANCES, LIVER = "image", "instances", "liver"
"""Arrays of a scan: int16 HU; 0 and the numbers of lesions; 0 and 1. Shape ``(z, y, x)``."""

_CHUNK = 64
_OUTSIDE = {IMAGE: int(AIR), INSTANCES: 0, LIVER: 0}


@dataclass(frozen=True)
class PreparedLesion:
    """One lesion of a scan.

    Attributes
    ----------
    lesion
        As the manifest names it.
    number
        Its value in the scan's `INSTANCES`.
    start, stop
        First index ``(z, y, x)`` of its box, and the one after the last.
    volume
        In mm3, on the prepared grid.
    growth
        Fractions of `PARTS`; None: not known.

    """

    lesion: str
    number: int
    start: Index
    stop: Index
    volume: float
    growth: tuple[float, float, float] | None

    @property
    def centre(self) -> Vector:
        """Middle of its box as a continuous index ``(z, y, x)``."""
        z, y, x = ((a + b - 1) / 2 for a, b in zip(self.start, self.stop, strict=True))
        return z, y, x

    @property
    def area(self) -> float:
        """Surface in mm2 of the ball of the same volume: what it weighs among a patient's lesions."""
        return float((36 * np.pi * self.volume**2) ** (1 / 3))


@dataclass(frozen=True)
class PreparedScan:
    """One scan.

    Attributes
    ----------
    name
        Of the case, see `deep.cases.case_names`.
    patient, split
        Whose it is; ``train`` or ``external``.
    lesions
        As one segmentation outlines them.
    grid
        Where its voxels lie.
    source
        Digest of the files that it was made of.
    liver_box
        First index of the liver, and the one after the last; None where it is not outlined, or nowhere.
    arrays
        `IMAGE`, `INSTANCES` and, where there is one, `LIVER`: in the store, or in memory.

    """

    name: str
    patient: str
    split: str
    lesions: tuple[PreparedLesion, ...]
    grid: Geometry
    source: str
    liver_box: Box | None
    arrays: Mapping[str, Any] = field(repr=False, compare=False)

    @property
    def has_liver(self) -> bool:
        """Whether the liver is outlined too."""
        return LIVER in self.arrays

    def read(self, array: str, start: Index, size: Index) -> NDArray[Any]:
        """Return a box of `IMAGE`, `INSTANCES` or `LIVER`; what lies outside of the scan is air, and no lesion."""
        voxels = self.arrays[array]
        found = np.full(size, _OUTSIDE[array], voxels.dtype)
        lower = [max(a, 0) for a in start]
        upper = [min(a + n, m) for a, n, m in zip(start, size, self.grid.size, strict=True)]
        if all(a < b for a, b in zip(lower, upper, strict=True)):
            there = tuple(slice(a, b) for a, b in zip(lower, upper, strict=True))
            here = tuple(slice(a - s, b - s) for a, b, s in zip(lower, upper, start, strict=True))
            found[here] = voxels[there]
        return found

    def whole(self, array: str) -> NDArray[Any]:
        """Return all voxels of an array."""
        return np.asarray(self.arrays[array][...])


class Written(NamedTuple):
    """What is to be stored of a scan besides its arrays; see `PreparedScan`."""

    name: str
    patient: str
    split: str
    lesions: Sequence[PreparedLesion]
    grid: Geometry
    source: str
    liver_box: Box | None = None


@dataclass(frozen=True)
class PreparedCohort:
    """All scans of a store.

    Attributes
    ----------
    path
        Of the store.
    spacing
        In mm ``(z, y, x)``.
    segmentation
        Whose outlines.
    scans
        In the order of the manifest.

    """

    path: Path
    spacing: Vector
    segmentation: str
    scans: tuple[PreparedScan, ...]

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open what `prepare` wrote.

        Raises
        ------
        DeepError
            There is no such store, or its preparation did not come to an end.

        """
        try:
            root = zarr.open_group(str(path), mode="r", zarr_format=3, use_consolidated=False)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DeepError(f"{path}: no prepared cohort; make one with 'hgpscale deep prepare'") from error
        said = dict(root.attrs)
        if said.get("schema") != SCHEMA:
            raise DeepError(
                f"{path}: expected {SCHEMA}, found {said.get('schema')}; make it with 'hgpscale deep prepare'"
            )
        if not said.get("whole"):
            raise DeepError(f"{path}: its preparation did not end; run 'hgpscale deep prepare' again, it goes on")
        z, y, x = said["spacing"]
        try:
            scans = tuple(scan_of(root[name]) for name in said["scans"])
        except KeyError as error:
            raise DeepError(f"{path}: is damaged: {error} is not there; run 'hgpscale deep prepare' again") from error
        return cls(Path(path), (z, y, x), str(said["segmentation"]), scans)

    def held(self) -> Self:
        """Return the cohort with all voxels in memory, where they take no more than a quarter of it."""
        size = sum(array.nbytes for scan in self.scans for array in scan.arrays.values())
        together = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # processes that torchrun has started here
        if size * together > memory_limit().size // 4:
            return self
        scans = [replace(one, arrays={name: one.whole(name) for name in one.arrays}) for one in self.scans]
        return replace(self, scans=tuple(scans))

    @cached_property
    def patients(self) -> dict[str, list[PreparedScan]]:
        """The scans of each patient."""
        found: dict[str, list[PreparedScan]] = {}
        for scan in self.scans:
            found.setdefault(scan.patient, []).append(scan)
        return found


def begin(path: Path, spacing: Vector, segmentation: str, *, anew: bool) -> zarr.Group:
    """Open the store of a preparation, or make it; it is not whole until `finish`.

    Raises
    ------
    DeepError
        Something else is there, or scans of another spacing or segmentation and not `anew`.

    """
    said: dict[str, Any] = {"schema": SCHEMA, "spacing": list(spacing), "segmentation": segmentation}
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        try:
            root = zarr.open_group(str(path), mode="r+", zarr_format=3, use_consolidated=False)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DeepError(f"{path}: is there already and no prepared cohort; give another path") from error
        before = {name: root.attrs.get(name) for name in said}
        if before["schema"] != SCHEMA:
            raise DeepError(f"{path}: is there already and no prepared cohort; give another path")
        if before != said and not anew:
            raise DeepError(
                f"{path}: holds scans at {before['spacing']} mm outlined by {before['segmentation']}, now asked for "
                f"are {list(spacing)} mm and {segmentation}; give --force to make all anew, or another path"
            )
    else:
        root, anew = zarr.create_group(str(path), zarr_format=3), False
    # First, so that nobody takes what is removed below for a cohort.
    root.attrs.put({**said, "version": __version__, "whole": False, "scans": []})
    for name in list(root.group_keys()) if anew else ():
        _remove(path, name)
    return root


def is_written(root: zarr.Group, name: str, source: str) -> bool:
    """Whether a scan is there whole, made of the same source."""
    return name in root and dict(root[name].attrs).get("source") == source


def _remove(path: Path, name: str) -> None:
    """Remove a scan, what makes it one first: zarr takes chunks that are missing for air."""
    (path / name / "zarr.json").unlink(missing_ok=True)
    if (path / name).exists():
        shutil.rmtree(path / name)


def write_scan(path: Path, about: Written, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write a scan; what is said of it comes last, so that half a scan is none."""
    _remove(path, about.name)
    root = zarr.open_group(str(path), mode="r+", zarr_format=3, use_consolidated=False)
    group = root.create_group(about.name)
    for name, values in arrays.items():
        chunks = tuple(min(_CHUNK, n) for n in values.shape)
        group.create_array(name, data=values, chunks=chunks, fill_value=_OUTSIDE[name])
    grid = about.grid
    group.attrs.put(
        {
            "patient": about.patient,
            "split": about.split,
            "lesions": [_as_json(lesion) for lesion in about.lesions],
            "grid": [list(grid.size), list(grid.spacing), list(grid.origin), list(grid.direction)],
            "source": about.source,
            "liver_box": None if about.liver_box is None else [list(corner) for corner in about.liver_box],
        }
    )


def finish(path: Path, root: zarr.Group, names: Sequence[str]) -> None:
    """Say that these scans, and no others, are the whole cohort; others that are there are removed."""
    for name in set(root.group_keys()).difference(names):
        _remove(path, name)
    root.attrs.put({**dict(root.attrs), "scans": list(names), "whole": True})


def _as_json(lesion: PreparedLesion) -> dict[str, Any]:
    return {
        "lesion": lesion.lesion,
        "number": lesion.number,
        "start": list(lesion.start),
        "stop": list(lesion.stop),
        "volume": lesion.volume,
        "growth": None if lesion.growth is None else list(lesion.growth),
    }


def scan_of(group: zarr.Group) -> PreparedScan:
    """Return what `write_scan` wrote."""
    said: Any = dict(group.attrs)
    size, spacing, origin, direction = said["grid"]
    lesions = tuple(
        PreparedLesion(
            one["lesion"],
            one["number"],
            tuple(one["start"]),
            tuple(one["stop"]),
            one["volume"],
            None if one["growth"] is None else tuple(one["growth"]),
        )
        for one in said["lesions"]
    )
    grid = Geometry(tuple(size), tuple(spacing), tuple(origin), tuple(direction))
    name = group.path.rpartition("/")[2]
    box = None if said["liver_box"] is None else (tuple(said["liver_box"][0]), tuple(said["liver_box"][1]))
    return PreparedScan(name, said["patient"], said["split"], lesions, grid, said["source"], box, dict(group.arrays()))
