"""Small cohorts to export, and what a manifest's masks select."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import archives
import numpy as np
from numpy.typing import NDArray

from hgpscale.cohort import Cohort, open_image, read_image, read_manifest, read_outlines
from hgpscale.prepare.roi import choose_label, select

A, B, C = archives.A, archives.B, archives.C
LIVER = (slice(0, 6), slice(0, 11), slice(0, 11))
Places = Sequence[tuple[slice, slice, slice]]


def small(
    folder: Path,
    scans: Mapping[str, Places],
    *,
    patients: Mapping[str, str] | None = None,
    **columns: Mapping[str, Any],
) -> Path:
    """Write a scan a name with a lesion a place, each in a mask of its own, and their manifest.

    `patients` says of whom a scan is, where that is not its name; `columns` have a cell for each scan or lesion.
    """
    rows = []
    for scan, places in scans.items():
        archives.nifti(folder / f"{scan}.nii.gz", archives.ct())
        for number, place in enumerate(places, start=1):
            lesion = f"{scan}_L{number}"
            archives.nifti(folder / f"{lesion}.nii.gz", archives.mask(place))
            row = {"patient": (patients or {}).get(scan, scan), "lesion": lesion, "image": f"{scan}.nii.gz"}
            cells = {name: values.get(lesion, values.get(scan, "")) for name, values in columns.items()}
            rows.append({**row, "mask": f"{lesion}.nii.gz", **cells})
    return manifest(folder / "cohort.csv", rows)


def manifest(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def with_liver(path: Path, *scans: str) -> Path:
    """Give scans of a manifest a liver, and write it anew."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for scan in scans:
        archives.nifti(path.parent / f"{scan}_liver.nii.gz", archives.mask(LIVER))
    for row in rows:
        scan = row["image"].partition(".")[0]
        row["liver"] = f"{scan}_liver.nii.gz" if scan in scans else ""
    return manifest(path, rows)


def selected(cohort: Cohort | Path, segmentation: str = "default") -> dict[tuple[str, str], NDArray[np.bool_]]:
    """Return the voxels of each lesion on the whole grid, by patient and lesion."""
    known = read_manifest(cohort) if isinstance(cohort, Path) else cohort
    found = {}
    for row in known.rows:
        if row.segmentation == segmentation:
            grid = open_image(row.image).geometry
            labels, value = read_outlines(row.mask, grid).region(row.roi, row.label)
            roi = select(labels, choose_label(labels, value))
            whole = np.zeros(grid.size, np.bool_)
            whole[tuple(slice(a, b) for a, b in zip(*roi.box, strict=True))] = roi.array
            found[row.patient, row.lesion] = whole
    return found


def by_patient(cohort: Cohort | Path) -> dict[str, set[bytes]]:
    """Return the same, lesions in no order."""
    found: dict[str, set[bytes]] = {}
    for (patient, _), voxels in selected(cohort).items():
        found.setdefault(patient, set()).add(voxels.tobytes())
    return found


def voxels(path: Path) -> NDArray[Any]:
    return read_image(path)[0].array
