"""The scans that networks are asked about: of a manifest, of a table without masks, or single files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hgpscale.cohort import Cohort, LesionRow, read_manifest, read_outlines
from hgpscale.cohort.images import about
from hgpscale.cohort.manifest import DEFAULT_SEGMENTATION
from hgpscale.cohort.table import Table, read_table
from hgpscale.deep.cases import Case, case_names, cases_of, choose_segmentation, scans_of
from hgpscale.deep.drawing import draw
from hgpscale.errors import DeepError, GeometryError, HgpscaleError
from hgpscale.volume import Geometry, geometry_differences

_TABLES = (".csv", ".parquet", ".pq")
_OF_ROW = ("lesion", "segmentation", "patient", "image", "mask", "label", "roi", "liver", "liver_roi")
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class AskedScan:
    """A scan to find lesions in.

    Attributes
    ----------
    name
        Stem of its files, see `deep.cases.case_names`.
    patient, image
        Whose it is, and where.
    liver, liver_roi
        Where its liver is outlined, see `Outlines.organ`; None: it is not.
    case
        Its drawn lesions, to judge by; None: there are none.

    """

    name: str
    patient: str
    image: Path
    liver: Path | None = None
    liver_roi: str = ""
    case: Case | None = None

    def liver_on(self, grid: Geometry) -> NDArray[np.bool_] | None:
        """Return the whole grid with the liver; None where it is not outlined.

        Raises
        ------
        HgpscaleError
            The mask cannot be read, or lies on another grid.

        """
        if self.liver is None:
            return None
        outlines = read_outlines(self.liver, grid, hashed=False)
        with about(self.liver, HgpscaleError):
            organ = outlines.organ(self.liver_roi)
            if differences := geometry_differences(grid, organ.geometry, _TOLERANCE):
                raise GeometryError(f"the liver: not on the image's grid: {'; '.join(differences)}; resample the mask")
        whole = np.zeros(grid.size, np.bool_)
        whole[tuple(slice(a, b) for a, b in zip(*organ.box, strict=True))] = organ.array
        return whole

    def drawn_on(self, grid: Geometry) -> NDArray[np.integer] | None:
        """Return the numbers of drawn lesions on the scan's grid; None where there are none. Errors as of `draw`."""
        return None if self.case is None else draw(self.case, grid, with_liver=False).instances


class Asked(NamedTuple):
    """Scans, and what the manifest or table says of them besides, such as the centre; None of a single file."""

    scans: list[AskedScan]
    cohort: Cohort | None


def asked_scans(source: str | Path, *, segmentation: str | None = None) -> Asked:
    """Return the scans of a manifest, of a table with columns `patient` and `image`, or one file or series.

    Parameters
    ----------
    source
        Where; relative paths in a table start at its folder. A manifest, which has masks too, gives lesions to judge
        by.
    segmentation
        Of a manifest: whose outlines these are; None: the only ones.

    Raises
    ------
    ManifestError, DeepError
        It cannot be read or used.

    """
    path = Path(source)
    if path.suffix.lower() not in _TABLES:
        if not path.exists():
            raise DeepError(f"{path}: is missing; expected a scan, or a table of scans (.csv, .parquet)")
        name = path.resolve().name if path.is_dir() else path.name.split(".")[0] or path.name
        return Asked([AskedScan(case_names([name])[0], name, path)], None)
    if "mask" in read_table(path).columns or "Mask" in read_table(path).columns:
        return _of_manifest(path, segmentation)
    return _of_table(path)


def _of_manifest(path: Path, segmentation: str | None) -> Asked:
    cohort = read_manifest(path)
    cases = cases_of(cohort, choose_segmentation(cohort, segmentation))
    scans = [
        AskedScan(case.name, case.patient, case.image, case.rows[0].liver, case.rows[0].liver_roi, case)
        for case in cases
    ]
    return Asked(scans, cohort)


def _of_table(path: Path) -> Asked:
    table = read_table(path)
    missing = [name for name in ("patient", "image") if name not in table.columns]
    if missing:
        raise DeepError(f"{path}: column {' and '.join(missing)} is missing; found {', '.join(table.columns)}")
    if table.problems:
        line, text = table.problems[0]
        raise DeepError(f"{path}: line {line}: {text}")
    rows = list(table.rows)
    for line, row in zip(table.lines, rows, strict=True):
        if empty := [name for name in ("patient", "image") if not row[name]]:
            raise DeepError(f"{path}: line {line}: {empty[0]} is empty")
    images = [path.parent / row["image"] for row in rows]
    _refuse_repeated(path, images, list(table.lines))
    livers = [path.parent / row["liver"] if row.get("liver") else None for row in rows]
    names = case_names([row["patient"] for row in rows])
    scans = [
        AskedScan(name, row["patient"], image, liver, row.get("liver_roi", ""))
        for name, row, image, liver in zip(names, rows, images, livers, strict=True)
    ]
    return Asked(scans, _as_cohort(path, table, scans))


def _as_cohort(path: Path, table: Table, scans: Sequence[AskedScan]) -> Cohort:
    """Return a table of scans as a manifest whose lesions are the scans, each standing for its mask too."""
    rows = tuple(
        LesionRow(
            line=line,
            lesion=scan.name,
            segmentation=DEFAULT_SEGMENTATION,
            patient=scan.patient,
            image=scan.image,
            mask=scan.image,
            image_text=str(scan.image),
            mask_text=str(scan.image),
            label=None,
            roi="",
            liver=scan.liver,
            liver_roi=scan.liver_roi,
        )
        for line, scan in zip(table.lines, scans, strict=True)
    )
    columns = pd.DataFrame({name: cells for name, cells in table.cells.items() if name not in _OF_ROW})
    columns.insert(0, "patient", [scan.patient for scan in scans])
    columns.index = pd.Index([scan.name for scan in scans], name="lesion", dtype="str")
    return Cohort(str(path), rows, columns)


def _refuse_repeated(path: Path, images: Sequence[Path], lines: Sequence[int]) -> None:
    which = scans_of(dict.fromkeys(images))
    first: dict[str, int] = {}
    for image, line in zip(images, lines, strict=True):
        before = first.setdefault(which[image], line)
        if before != line:
            raise DeepError(f"{path}: line {line}: {image} is the scan of line {before} already; give each once")
