"""A cohort as the cases of a data set: one a scan, with a name that every file system and tool takes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hgpscale.cohort import Cohort, LesionRow
from hgpscale.cohort.dicom.series import open_series
from hgpscale.cohort.images import is_dicom_image
from hgpscale.cohort.layouts import LeftOut
from hgpscale.errors import DeepError, HgpscaleError
from hgpscale.learn.targets import PARTS

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
_SHOWN = 5


@dataclass(frozen=True)
class Case:
    """One scan of a data set.

    Attributes
    ----------
    name
        Of letters, digits, ``_`` and ``-``; no two cases differ by upper and lower case alone.
    patient
        As the manifest names it.
    split
        ``train`` or ``external``.
    rows
        Its lesions, as one segmentation outlines them.
    classes
        Number of each lesion's class, in the order of `rows`; None: it has none.

    """

    name: str
    patient: str
    split: str
    rows: tuple[LesionRow, ...]
    classes: tuple[int | None, ...]

    @property
    def image(self) -> Path:
        """The scan."""
        return self.rows[0].image


def choose_segmentation(cohort: Cohort, wanted: str | None) -> str:
    """Return the segmentation that was asked for, or the only one.

    Raises
    ------
    DeepError
        There is no such one, or there are several and none was asked for; the message names them.

    """
    names = cohort.segmentations
    if wanted is None and len(names) == 1:
        return names[0]
    if wanted is None:
        raise DeepError(f"{cohort.source}: it has {len(names)} segmentations ({', '.join(names)}): say --segmentation")
    if wanted not in names:
        raise DeepError(f"{cohort.source}: segmentation {wanted!r} is not in it; it has {', '.join(names)}")
    return wanted


def cases_of(cohort: Cohort, segmentation: str, *, by_pattern: bool = False) -> list[Case]:
    """Return a case for each scan that a segmentation outlines lesions in, in the order of the manifest.

    Parameters
    ----------
    cohort, segmentation
        The manifest, and which of its rows count.
    by_pattern
        Whether a lesion's class is its dominant growth pattern, by `PARTS`; otherwise all are of class 0.

    Raises
    ------
    DeepError
        Lesions of two patients are in one scan, or the manifest has no growth patterns.

    """
    chosen = [row for row in cohort.rows if row.segmentation == segmentation]
    which = scans_of(dict.fromkeys(row.image for row in chosen))
    scans: dict[str, list[LesionRow]] = {}
    for row in chosen:
        scans.setdefault(which[row.image], []).append(row)
    for rows in scans.values():
        patients = sorted({row.patient for row in rows})
        if len(patients) > 1:
            raise DeepError(f"{rows[0].image}: it is the scan of {' and '.join(patients)}, expected one patient a scan")
    names = case_names([rows[0].patient for rows in scans.values()])
    splits = cohort.columns.get("split")
    classes = patterns_of(cohort) if by_pattern else None
    return [
        Case(
            name,
            rows[0].patient,
            "external" if splits is not None and splits[rows[0].lesion] == "external" else "train",
            tuple(rows),
            tuple(0 if classes is None else classes[row.lesion] for row in rows),
        )
        for name, rows in zip(names, scans.values(), strict=True)
    ]


def scans_of(images: Iterable[Path]) -> dict[Path, str]:
    """Return what scan each path leads to: a scan of two spellings is one, a file of a DICOM series is its folder."""
    places: dict[str, list[Path]] = {}
    for image in images:
        places.setdefault(_place(image), []).append(image)
    found: dict[Path, str] = {}
    for place, paths in places.items():
        # A folder can hold several series: where it is given in several ways, the files of each tell.
        several = len({os.path.realpath(path) for path in paths}) > 1
        found |= {path: _series(path) if several else place for path in paths}
    return found


def _place(image: Path) -> str:
    try:
        in_folder = image.is_file() and is_dicom_image(image)
    except OSError:  # reading it will say what is wrong
        in_folder = False
    return os.path.realpath(image.parent if in_folder else image)


def _series(path: Path) -> str:
    try:
        return os.path.realpath(min(open_series(path).files))
    except (HgpscaleError, OSError):
        return os.path.realpath(path)


def case_names(patients: Sequence[str]) -> list[str]:
    """Return a name for each scan: the patient's id, other characters than letters, digits, _ and - as -.

    Further scans of a patient, and patients whose names would be equal, get ``-2``, ``-3`` and so on.
    """
    taken: set[str] = set()
    names = []
    for patient in patients:
        plain = _UNSAFE.sub("-", patient).strip("-") or "case"
        name, number = plain, 1
        while name.lower() in taken:
            number += 1
            name = f"{plain}-{number}"
        taken.add(name.lower())
        names.append(name)
    return names


def patterns_of(cohort: Cohort) -> dict[str, int | None]:
    """Return the number of each lesion's dominant pattern in `PARTS`; None where it is not known or two are equal.

    Raises
    ------
    DeepError
        The manifest has no growth patterns.

    """
    columns = [f"hgp_{part}" for part in PARTS]
    if not set(columns) <= set(cohort.columns):
        raise DeepError(f"{cohort.source}: classes hgp take the columns {', '.join(columns)}, which it does not have")
    percent = cohort.columns[columns].to_numpy(float)
    return dict(zip(cohort.columns.index, map(_dominant, percent.tolist()), strict=True))


def _dominant(percent: Sequence[float]) -> int | None:
    # A NaN equals nothing, itself included: such a lesion has no largest part.
    largest = [number for number, value in enumerate(percent) if value == max(percent)]
    return largest[0] if len(largest) == 1 and all(value == value for value in percent) else None


def left_out(case: Case, error: HgpscaleError | OSError) -> LeftOut:
    """Return why a case cannot be used, beside the file that the error is about."""
    # A missing file is both kinds, and says so itself.
    reason = str(error) if isinstance(error, HgpscaleError) else f"cannot be read: {error.strerror or error}"
    files = [str(case.image), *(str(path) for row in case.rows for path in (row.mask, row.liver))]
    file = next((file for file in files if reason.startswith(f"{file}: ")), files[0])
    return LeftOut(case.patient, file, reason)


def some(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
