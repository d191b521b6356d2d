"""A synthetic study on disk: enough patients to learn from, small scans, and the signal at the interface alone.

Where `make_cohort` shows what manifests may look like, this shows what learning must find and must not. The growth
pattern changes the capsule, the border and the liver next to it, by an amount that differs from lesion to lesion and
is sometimes nothing; the middle of a lesion, its size and its place are drawn without regard to the pattern. Centres
differ in voxels, noise, kernel and enhancement, and those of the external set scan no one else.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hgpscale.testing.cohort import GROWTH, write_volume
from hgpscale.testing.models import CORE, LIVER, Appearance, GrowthPattern, LesionModel, Scanner
from hgpscale.testing.phantoms import liver_block, outline
from hgpscale.volume import Geometry, Volume


@dataclass(frozen=True)
class Centre:
    """A hospital.

    Attributes
    ----------
    scanner
        Grid, noise and blur of its scans.
    liver
        Mean HU of its patients' livers, which its contrast protocol decides.
    split
        ``train`` or ``external``.

    """

    scanner: Scanner
    liver: float
    split: str


STUDY_CENTRES = {
    "north": Centre(Scanner((2.0, 1.0, 1.0), noise=10.0, kernel=1.6), 110.0, "train"),
    "south": Centre(Scanner((2.5, 1.2, 1.2), noise=8.0, kernel=2.2), 102.0, "train"),
    "west": Centre(Scanner((3.0, 1.1, 1.1), noise=12.0, kernel=2.4), 119.0, "train"),
    "east": Centre(Scanner((2.5, 1.3, 1.3), noise=9.0, kernel=2.0), 98.0, "external"),
    "coast": Centre(Scanner((1.5, 0.9, 0.9), noise=13.0, kernel=1.8), 115.0, "external"),
}
"""The centres of `make_study`; patients are dealt out to those of their split at random."""

RATERS = {
    "RAD": {"grown": 0.0, "shifted": 0.2, "uneven": 0.2},
    "PhD": {"grown": 0.4, "shifted": 0.5, "uneven": 0.4},
    "STUD": {"grown": -0.4, "shifted": 0.7, "uneven": 0.6},
}
"""How far each rater's outlines are from the truth, in mm: see `hgpscale.testing.outline`."""

STUDY_COLUMNS = (
    "patient",
    "lesion",
    "image",
    "mask",
    "label",
    "segmentation",
    "centre",
    "split",
    *GROWTH,
    "age",
    "chemotherapy",
)
"""Columns of the manifest."""

_BLOCK_MM = 44.0  # edge of the cube of liver around each lesion
_DIAMETERS_MM = 11.0, 23.0
_SEVERAL_RATERS = 7  # every how many patients all three have drawn


def make_study(folder: str | Path, patients: int = 400, external: int = 200, seed: int = 0) -> Path:
    """Write a study of small liver metastases in blocks of liver.

    A patient has one scan with one, two or three lesions of 11-23 mm. More than half of the lesions are pure, and
    lesions of one patient tend to grow alike. Every seventh patient was outlined by all three of `RATERS`, the others
    by ``RAD`` alone. Age has nothing to do with growth; chemotherapy goes with desmoplastic growth of the first
    lesion. The manifest is written last, so a folder that has one is complete.

    Parameters
    ----------
    folder
        Made where absent; files of the same names in it are overwritten.
    patients, external
        How many to develop on and to validate on; the second may be 0.
    seed
        Equal seeds give the same bytes in every file, and a patient's are the same in a larger study.

    Returns
    -------
    Path
        The manifest, ``folder/study.csv``. Its paths are relative to `folder`.

    Raises
    ------
    ValueError
        `patients` is less than 1, or `external` less than 0.
    OSError
        The folder cannot be written to.

    """
    if patients < 1 or external < 0:
        raise ValueError(f"patients must be at least 1 and external at least 0, found {patients} and {external}")
    folder = Path(folder)
    for name in ("scans", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, object]] = []
    for split, prefix, count in (("train", "D", patients), ("external", "E", external)):
        for number in range(count):
            rng = np.random.default_rng([seed, ord(prefix), number])
            rows += _write_patient(folder, f"{prefix}{number + 1:04d}", split, number % _SEVERAL_RATERS == 0, rng)
    manifest = folder / "study.csv"
    with manifest.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, STUDY_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return manifest


def _write_patient(
    folder: Path, patient: str, split: str, several: bool, rng: np.random.Generator
) -> list[dict[str, object]]:
    """Write a patient's scan and outlines; return the manifest's rows."""
    centre = str(rng.choice([name for name, known in STUDY_CENTRES.items() if known.split == split]))
    compositions = _compositions(int(rng.choice(3, p=(0.5, 0.3, 0.2))) + 1, rng)
    liver = STUDY_CENTRES[centre].liver + rng.normal(0, 8)
    lesions = [_lesion(i, percentages, liver, rng) for i, percentages in enumerate(compositions)]
    edges = (_BLOCK_MM, _BLOCK_MM, _BLOCK_MM * len(lesions))
    scan = liver_block(lesions, STUDY_CENTRES[centre].scanner, edges, rng, liver).image
    common: dict[str, object] = {
        "patient": patient,
        "image": f"scans/{patient}.nii.gz",
        "centre": centre,
        "split": split,
        "age": int(np.clip(rng.normal(64, 10), 30, 88)),
        "chemotherapy": int(rng.uniform() < 0.25 + 0.5 * compositions[0][0] / 100),
    }
    write_volume(scan, folder / str(common["image"]))
    rows: list[dict[str, object]] = []
    for rater in RATERS if several else ("RAD",):
        mask = f"masks/{patient}_{rater}.nii.gz"
        write_volume(_outlines(lesions, scan.geometry, rater, rng), folder / mask)
        for i, percentages in enumerate(compositions):
            drawn = {"lesion": f"{patient}_L{i + 1}", "mask": mask, "label": i + 1, "segmentation": rater}
            rows.append({**common, **drawn, **dict(zip(GROWTH, percentages, strict=True))})
    return rows


def _compositions(lesions: int, rng: np.random.Generator) -> list[tuple[int, int, int]]:
    """Return percentages of a patient's lesions, in steps of 5; all of them lean to one pattern."""
    leaning = int(rng.choice(3, p=(0.4, 0.35, 0.25)))
    found = []
    for _ in range(lesions):
        if rng.uniform() < 0.55:
            pattern = leaning if rng.uniform() < 0.6 else int(rng.integers(3))
            steps = 20 * np.eye(3, dtype=np.int64)[pattern]
        else:
            steps = rng.multinomial(20, rng.dirichlet(0.8 + np.eye(3)[leaning]))
        d, r, p = (5 * int(step) for step in steps)
        found.append((d, r, p))
    return found


def _lesion(place: int, percentages: tuple[int, int, int], liver: float, rng: np.random.Generator) -> LesionModel:
    """Return the lesion in the middle, more or less, of its block; only its pattern looks at `percentages`."""
    stretch = np.exp(rng.normal(0, 0.1, 3))
    radii = rng.uniform(*_DIAMETERS_MM) / 2 * stretch / np.cbrt(stretch.prod())
    centre = _BLOCK_MM / 2 + rng.uniform(-3, 3, 3) + (0, 0, place * _BLOCK_MM)
    core = CORE + 0.3 * (liver - LIVER) + rng.normal(0, 12)
    appearance = Appearance(
        core=core,
        necrosis=core - abs(rng.normal(0, 20)),
        texture=rng.uniform(4, 16),
        capsule=liver + rng.normal(14, 20),
        capsule_mm=(rng.uniform(0, 0.4), rng.uniform(0.8, 2.0)),
        infiltration_mm=rng.uniform(0.5, 1.3),
        blurred_mm=rng.uniform(0.3, 0.8),
        compression=rng.normal(14, 10),
        compressed_mm=rng.uniform(2, 5),
    )
    pattern = GrowthPattern(*(percent / 100 for percent in percentages))
    z, y, x = (float(value) for value in centre)
    a, b, c = (float(value) for value in radii)
    return LesionModel((z, y, x), (a, b, c), pattern, appearance)


def _outlines(lesions: list[LesionModel], geometry: Geometry, rater: str, rng: np.random.Generator) -> Volume:
    """Return a rater's label map."""
    labels = np.zeros(geometry.size, np.uint8)
    for i, lesion in enumerate(lesions):
        labels[outline(lesion, geometry, rng, **RATERS[rater])] = i + 1
    return Volume(labels, geometry)
