"""What a cube holds so far: how much is done, what failed and why, how much room it takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from hgpscale.catalog import DEEP
from hgpscale.cube import store
from hgpscale.cube.head import LAYOUT_VERSION, Head
from hgpscale.cube.reader import open_cube
from hgpscale.cube.schema import DONE, FAILED, PENDING
from hgpscale.settings import Settings

_STATES = (DONE, FAILED, PENDING)


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
        Rows that are not finished. What networks are still to make leaves no row pending: see `families`.
    families
        The same by family; a row counts once for each region and image type.
    failures
        What failed, in the order of the manifest.
    notes
        Families that are done, but of which a feature is undefined on that lesion and NaN.
    bytes, files
        What the cube takes on the disk.
    settings
        What is extracted; None for an imported table.
    versions
        Of the layout, of the hgpscale that made the cube, and of the numbers of each family.
    kind
        How it came to be, where not by `extract` alone; in words.

    """

    path: str | Path
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
    settings: Settings | None
    versions: Mapping[str, str]
    kind: str = ""

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
            ("made by", f"hgpscale {self.versions['hgpscale']}, layout {self.versions['layout']}{self.kind}"),
        ]


def status(path: str | Path) -> CubeStatus:
    """Count what a cube holds; a run may be writing to it meanwhile.

    Raises
    ------
    CubeError
        Nothing is there, it is not a cube, or it has another layout version.

    """
    cube = open_cube(path)
    head = Head.of(cube.attrs, path)
    rows: Counter[str] = Counter()
    families: dict[str, Counter[str]] = {family: Counter() for family in head.contents.features}
    failed, noted = [], []
    for records in cube.hgp.records_by_block():
        of_networks = (records["family"] == DEEP) & (records["state"] == PENDING)
        keys = _count(records.assign(state=records["state"].mask(of_networks, "")), ["lesion", "segmentation"])
        finished = keys[PENDING] == 0
        lacking = finished & (keys[FAILED] > 0)
        rows["rows"] += len(keys)
        rows[DONE] += int((finished & ~lacking).sum())
        rows[FAILED] += int(lacking.sum())
        rows["partial"] += int((lacking & (keys[DONE] > 0)).sum())
        for family, counts in _count(records, ["family"]).iterrows():
            families[str(family)].update({state: int(counts[state]) for state in _STATES})
        failed.append(records[records["state"] == FAILED])
        noted.append(records[(records["state"] == DONE) & (records["error"] != "")])
    sizes = store.sizes(path)
    return CubeStatus(
        path=path,
        rows=rows["rows"],
        done=rows[DONE],
        failed=rows[FAILED],
        partial=rows["partial"],
        pending=rows["rows"] - rows[DONE] - rows[FAILED],
        families=tuple(
            FamilyCount(family, *(counts[state] for state in _STATES)) for family, counts in families.items()
        ),
        failures=_failures(pd.concat(failed)),
        notes=_failures(pd.concat(noted)),
        bytes=sum(sizes.values()),
        files=len(sizes),
        settings=head.settings,
        versions={"layout": str(LAYOUT_VERSION), "hgpscale": head.made_by, **_text(head.versions)},
        kind="".join([", imported from a table" * (head.settings is None), ", packed" * head.sealed]),
    )


def _text(versions: Mapping[str, int]) -> dict[str, str]:
    return {family: str(version) for family, version in versions.items()}


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
