"""Small cohorts and records made by hand, and a store that dies, for the tests of the cube."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import dask
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from zarr.storage import LocalStore

from hgpscale.catalog import is_of_region
from hgpscale.cohort.manifest import Cohort, LesionRow
from hgpscale.contents import Contents, Key
from hgpscale.cube import CubeWriter
from hgpscale.cube.head import Head
from hgpscale.cube.schema import LABELS
from hgpscale.errors import Failure
from hgpscale.record import Record
from hgpscale.settings import Settings

Row = tuple[str, str]

SMALL = Settings.from_parameters({"featureClass": {"firstorder": ["Mean", "Energy"], "shape": ["MeshVolume"]}})
FLAT = Failure("features", "glcm is undefined on one grey level; leave it out")
BROKEN = Failure("read", "b.nii.gz: truncated, 10 of 20 bytes; copy it again")


def cohort(*rows: tuple[Any, ...], source: str = "cohort.csv", **columns: list[Any]) -> Cohort:
    """Make a cohort of ``(lesion, segmentation[, label[, roi]])`` with further columns, one value a lesion."""
    built = []
    for i, (lesion, segmentation, *more) in enumerate(rows):
        label, roi = (*more, None, "")[:2] if len(more) < 2 else more
        image, mask = f"{lesion}.nii.gz", f"{lesion}-{segmentation}.nii.gz"
        built.append(
            LesionRow(
                line=i + 2,
                lesion=lesion,
                segmentation=segmentation,
                patient=f"patient of {lesion}",
                image=Path("data") / image,
                mask=Path("data") / mask,
                image_text=image,
                mask_text=mask,
                label=label,
                roi=roi or "",
            )
        )
    lesions = list(dict.fromkeys(row.lesion for row in built))
    table = pd.DataFrame({**columns, "patient": [f"patient of {lesion}" for lesion in lesions]})
    table.index = pd.Index(lesions, name="lesion")
    return Cohort(source=source, rows=tuple(built), columns=table)


def with_regions(settings: Settings, *names: str) -> Settings:
    """Return settings that ask for the lesion and other regions."""
    return settings.model_copy(update={"regions": {"lesion": None, **dict.fromkeys(names, 3.0)}})


def record(
    lesion: str,
    segmentation: str,
    settings: Settings = SMALL,
    keys: Collection[Key] | None = None,
    **failed: Failure,
) -> Record:
    """Make a record whose numbers follow from its ids and the bins; families named in `failed` have none."""
    values, failures = {}, {}
    for key in Contents.of(settings).keys if keys is None else keys:
        bins = "" if is_of_region(key[2]) else str(settings.binWidth)
        numbers = np.random.default_rng(zlib.crc32("/".join((lesion, segmentation, *key, bins)).encode()))
        vector = numbers.normal(scale=1e3, size=len(settings.features[key[2]]))
        if key[2] in failed:
            failures[key] = failed[key[2]]
        else:
            values[key] = vector
    return Record(lesion, segmentation, f"image {lesion}", f"mask {lesion} {segmentation}", 1, values, failures)


def files(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def write(path: Path, rows: Cohort, records: list[Record], settings: Settings = SMALL) -> Path:
    """Make a whole cube in one go."""
    with CubeWriter.open(path, rows, settings) as writer:
        for one in records:
            writer.add(one)
    return path


def fill(path: Path, rows: Cohort, settings: Settings = SMALL, **options: Any) -> dict[Row, set[Key]]:
    """Have a cube grow and store all that it lacks; return what that was."""
    with CubeWriter.open(path, rows, settings, **options) as writer:
        assert writer.settings is not None
        missing = {row: set(keys) for row, keys in writer.missing.items()}
        for row, keys in missing.items():
            writer.add(record(*row, writer.settings, keys))
    return missing


def done(cube: xr.Dataset) -> set[tuple[str, ...]]:
    """Return what a cube calls done, by its five labels; it must be what its settings make, and what tables show."""
    settings = Head.of(cube.attrs).settings
    assert settings is not None
    records = cube.hgp.records()
    found = records.loc[records.state == "done", list(LABELS)]
    for lesion, rater, *key in found.itertuples(index=False):
        region, image, family = key
        where = {"lesion": lesion, "segmentation": rater, "region": region}
        values = cube[family].sel(where if is_of_region(family) else {**where, "image_type": image})
        made = record(lesion, rater, settings, [(region, image, family)]).values[region, image, family]
        np.testing.assert_array_equal(values, made)
    numbers = cube.hgp.to_frame(tidy=True).dropna(subset="value")
    vectors = set(map(tuple, found.to_numpy()))
    assert set(numbers[list(LABELS)].astype(str).itertuples(index=False, name=None)) == vectors
    return vectors


@contextmanager
def in_zarr_s_thread() -> Iterator[None]:
    """Have zarr read, write and code in the thread of its event loop: for so small chunks others only take time."""

    async def here(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch, dask.config.set(scheduler="synchronous"):
        patch.setattr(asyncio, "to_thread", here)
        yield


class Killed(Exception):  # noqa: N818 (it stands for no error)
    """What stands for the end of the process."""


class DyingStore(LocalStore):  # type: ignore[misc]
    """A local store in which, after `left` writes, each write fails with `error` and leaves a torn file.

    The first write of the array `at` fails too. A store that died once stays dead: other writes of the same call may
    be under way.
    """

    left: ClassVar[float] = float("inf")
    at: ClassVar[str | None] = None
    error: ClassVar[Exception] = Killed()
    dead = False

    def _write_or_die(self, key: str) -> None:
        cls = type(self)
        if cls.left <= 0 or self.dead or key.partition("/")[0] == cls.at:
            self.dead = isinstance(self.error, Killed)
            torn = (self.root / key).with_suffix(".0123.partial")
            torn.parent.mkdir(parents=True, exist_ok=True)
            torn.write_bytes(b"to")
            raise cls.error
        cls.left -= 1

    async def set(self, key: str, value: Any) -> None:
        self._write_or_die(key)
        await super().set(key, value)

    async def set_if_not_exists(self, key: str, value: Any) -> None:
        self._write_or_die(key)
        await super().set_if_not_exists(key, value)

    async def delete(self, key: str) -> None:
        self._write_or_die(key)
        await super().delete(key)

    async def delete_dir(self, prefix: str) -> None:
        try:
            self._write_or_die(prefix)
        except Exception:
            found = sorted(p for p in (self.root / prefix).rglob("*") if p.is_file())
            for path in found[: len(found) // 2]:
                path.unlink()
            raise
        await super().delete_dir(prefix)

    def set_sync(self, key: str, value: Any) -> None:
        self._write_or_die(key)
        super().set_sync(key, value)

    def delete_sync(self, key: str) -> None:
        self._write_or_die(key)
        super().delete_sync(key)
