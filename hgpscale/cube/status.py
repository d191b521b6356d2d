"""What a cube holds so far: how much is done, what failed and why, how much room it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from hgpscale.cube import schema
from hgpscale.cube.reader import open_cube
from hgpscale.settings import Settings

_STATES = (schema.DONE, schema.FAILED, schema.PENDING)


@dataclass(frozen=True)
class FamilyCount:
    """How many keys of one family are in each state."""

    family: str
    done: int
    failed: int
    pending: int


@dataclass(frozen=True)
class FailedRow:
    """Families of one row of the manifest that failed, or lack a feature, for one and the same reason."""

    lesion: str
    segmentation: str
    images: tuple[str, ...]
    families: tuple[str, ...]
    stage: str
    reason: str


@dataclass(frozen=True)
class CubeStatus:
    """The state of a cube. A row is one lesion seen by one segmentation.

    Attributes
    ----------
    path
        The cube.
    rows
        Rows of the manifest: `done` + `failed` + `pending`.
    done
        Rows of which everything was computed.
    failed
        Rows that are finished, but of which something failed.
    partial
        Those of `failed` that have some numbers.
    pending
        Rows that are not finished.
    families
        The same by family; a row counts once for each region and image type.
    failures
        What failed, in the order of the manifest.
    notes
        Families that are done, but of which a feature is undefined on that lesion and NaN.
    bytes, files
        What the cube takes on the disk.
    settings
        What is extracted.
    versions
        Of the layout, of the hgpscale that made the cube, and of the numbers of each family.

    """

    path: Path
    rows: int
    done: int
    failed: int
    partial: int
    pending: int
    families: tuple[FamilyCount, ...]
    failures: tuple[FailedRow, ...]
    notes: tuple[FailedRow, ...]
    bytes: int
    files: int
    settings: Settings
    versions: Mapping[str, str]

    def table(self) -> list[tuple[str, str]]:
        """Return names and values for a table of two columns; families and failures are lists of their own."""
        return [
            ("cube", str(self.path)),
            ("rows", str(self.rows)),
            ("done", str(self.done)),
            ("done in part", str(self.partial)),
            ("failed", str(self.failed - self.partial)),
            ("pending", str(self.pending)),
            ("size", f"{self.bytes / 1e6:.3g} MB in {self.files} files"),
            ("made by", f"hgpscale {self.versions['hgpscale']}, layout {self.versions['layout']}"),
        ]


def status(path: str | Path) -> CubeStatus:
    """Count what a cube holds; a run may be writing to it meanwhile.

    Raises
    ------
    CubeError
        Nothing is there, it is not a cube, or it has another layout version.

    """
    cube = open_cube(path)
    records = cube.hgp.records()
    keys = _count(records, ["lesion", "segmentation"])
    finished = keys[schema.PENDING] == 0
    failed = finished & (keys[schema.FAILED] > 0)
    families = _count(records, ["family"])
    sizes = _file_sizes(Path(path))
    return CubeStatus(
        path=Path(path),
        rows=len(keys),
        done=int((finished & ~failed).sum()),
        failed=int(failed.sum()),
        partial=int((failed & (keys[schema.DONE] > 0)).sum()),
        pending=int((~finished).sum()),
        families=tuple(
            FamilyCount(str(name), *(int(count) for count in counts))
            for name, counts in zip(families.index, families.to_numpy(), strict=True)
        ),
        failures=_failures(records[records["state"] == schema.FAILED]),
        notes=_failures(records[(records["state"] == schema.DONE) & (records["error"] != "")]),
        bytes=sum(sizes),
        files=len(sizes),
        settings=schema.settings_of(cube.attrs, path),
        versions={
            "layout": str(cube.attrs[schema.LAYOUT]),
            "hgpscale": str(cube.attrs[schema.VERSION]),
            **{str(name): str(cube[str(name)].attrs["version"]) for name in families.index},
        },
    )


def _count(records: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Return the number of records in each state, one row a group, one column a state, in order of appearance."""
    states = pd.DataFrame({state: records["state"] == state for state in _STATES})
    return states.groupby([records[name] for name in by], sort=False).sum()


def _failures(failed: pd.DataFrame) -> tuple[FailedRow, ...]:
    groups: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
    columns = (failed[name].astype(str) for name in ("lesion", "segmentation", "error", "image_type", "family"))
    for lesion, segmentation, error, image, family in zip(*columns, strict=True):
        groups.setdefault((lesion, segmentation, error), []).append((image, family))
    return tuple(
        FailedRow(lesion, segmentation, _different(keys, 0), _different(keys, 1), *_parts(error))
        for (lesion, segmentation, error), keys in groups.items()
    )


def _different(keys: list[tuple[str, str]], at: int) -> tuple[str, ...]:
    return tuple(dict.fromkeys(key[at] for key in keys))


def _parts(error: str) -> tuple[str, str]:
    stage, reason = error.split(": ", 1)
    return stage, reason


def _file_sizes(folder: Path) -> list[int]:
    sizes = []
    for path in folder.rglob("*"):
        try:
            if path.is_file():
                sizes.append(path.stat().st_size)
        except FileNotFoundError:  # renamed by a run that is writing
            continue
    return sizes
