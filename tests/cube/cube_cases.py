"""Small cohorts and records made by hand, and a store that dies, for the tests of the cube."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from zarr.storage import LocalStore

from hgpscale.cohort.manifest import Cohort, LesionRow
from hgpscale.cube import CubeWriter
from hgpscale.errors import Failure
from hgpscale.record import Record, expected_keys
from hgpscale.settings import Settings

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


def record(lesion: str, segmentation: str, settings: Settings = SMALL, **failed: Failure) -> Record:
    """Make a record whose numbers follow from its ids; families named in `failed` have none."""
    numbers = np.random.default_rng(zlib.crc32(f"{lesion}/{segmentation}".encode()))
    values, failures = {}, {}
    for key in expected_keys(settings):
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


class Killed(Exception):  # noqa: N818 (it stands for no error)
    """What stands for the end of the process."""


class DyingStore(LocalStore):  # type: ignore[misc]
    """A local store in which, after `left` writes, each write fails with `error` and leaves a torn file."""

    left: ClassVar[float] = float("inf")
    error: ClassVar[Exception] = Killed()

    def _write_or_die(self, key: str) -> None:
        cls = type(self)
        if cls.left <= 0:
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

    def set_sync(self, key: str, value: Any) -> None:
        self._write_or_die(key)
        super().set_sync(key, value)

    def delete_sync(self, key: str) -> None:
        self._write_or_die(key)
        super().delete_sync(key)
