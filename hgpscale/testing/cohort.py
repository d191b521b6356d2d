"""A synthetic cohort on disk: scans, masks and a manifest, as two hospitals would send them.

It exercises what real manifests do: two centres with their own spacing, noise and kernel; patients with two
lesions, as two mask files or as one label map; pure and mixed growth patterns; covariates.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from hgpscale.testing.models import GrowthPattern, Scanner
from hgpscale.testing.phantoms import LiverPhantom, liver_phantom, place_lesions
from hgpscale.volume import Volume

CENTRES = {
    "north": Scanner(spacing=(2.5, 1.4, 1.4), noise=8.0, kernel=1.8),
    "south": Scanner(spacing=(3.0, 1.75, 1.75), noise=11.0, kernel=2.6),
}
"""Scanner of each centre; the second one is the external validation set."""

GROWTH = ("hgp_desmoplastic", "hgp_replacement", "hgp_pushing")
"""The manifest's columns of percentages."""

COLUMNS = ("patient", "lesion", "image", "mask", "label", "centre", "split", *GROWTH, "age", "chemotherapy")
"""Columns of the manifest."""

_PURE = ((100, 0, 0), (0, 100, 0), (0, 0, 100))


def make_cohort(folder: str | Path, patients: int = 12, seed: int = 0) -> Path:
    """Write a cohort of liver CT phantoms.

    Of every four patients the second has two lesions in one label map and the fourth two lesions in two mask
    files; the others have one. First lesions have diameters of 12-60 mm, second ones of 8-24 mm. The manifest
    is written last, so a folder that has one is complete.

    Parameters
    ----------
    folder
        Made where absent; files of the same names in it are overwritten.
    patients
        At least 1.
    seed
        Equal seeds (and numbers of patients) give the same bytes in every file.

    Returns
    -------
    Path
        The manifest, ``folder/cohort.csv``. Its paths are relative to `folder`.

    Raises
    ------
    ValueError
        `patients` is less than 1.
    OSError
        The folder cannot be written to.

    """
    if patients < 1:
        raise ValueError(f"patients must be at least 1, found {patients}")
    folder = Path(folder)
    for name in ("scans", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    first = rng.permutation(np.geomspace(12, 60, patients))
    second = rng.permutation(np.geomspace(8, 24, patients))
    compositions = _compositions(patients + patients // 2, rng)
    rows: list[dict[str, object]] = []
    for number in range(patients):
        diameters = [first[number], second[number]] if number % 2 else [first[number]]
        percentages = compositions[len(rows) : len(rows) + len(diameters)]
        patterns = [GrowthPattern(*(percent / 100 for percent in scores)) for scores in percentages]
        centre = list(CENTRES)[number // 2 % len(CENTRES)]
        phantom = liver_phantom(place_lesions(diameters, patterns, rng), CENTRES[centre], rng)
        patient = {
            "patient": f"P{number + 1:02d}",
            "image": f"scans/P{number + 1:02d}.nii.gz",
            "centre": centre,
            "split": "train" if centre == "north" else "external",
            "age": int(np.clip(rng.normal(64, 10), 30, 88)),
            # Chemotherapy before surgery goes with desmoplastic growth: the confounder of the real question.
            "chemotherapy": int(rng.uniform() < 0.25 + 0.5 * patterns[0].desmoplastic),
        }
        write_volume(phantom.image, folder / str(patient["image"]))
        masks = _write_masks(phantom, str(patient["patient"]), folder, label_map=number % 4 == 1)
        for i, (scores, (mask, label)) in enumerate(zip(percentages, masks, strict=True)):
            lesion = f"{patient['patient']}_L{i + 1}"
            growth = dict(zip(GROWTH, scores, strict=True))
            rows.append({**patient, "lesion": lesion, "mask": mask, "label": label, **growth})
    manifest = folder / "cohort.csv"
    with manifest.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return manifest


def _compositions(lesions: int, rng: np.random.Generator) -> list[tuple[int, int, int]]:
    """Return percentages in steps of 5 in random order; half of the lesions are pure, each pattern as often."""
    pure = [_PURE[i % 3] for i in range((lesions + 1) // 2)]
    mixed = 5 * rng.multinomial(20, rng.dirichlet((1.2, 1.2, 1.2), lesions // 2))
    return [(int(d), int(r), int(p)) for d, r, p in rng.permutation(np.vstack([pure, mixed]))]


def _write_masks(phantom: LiverPhantom, patient: str, folder: Path, *, label_map: bool) -> list[tuple[str, int | None]]:
    """Write the lesions' outlines; return the file and label of each, no label where the file has one lesion."""
    if label_map:
        name = f"masks/{patient}.nii.gz"
        write_volume(phantom.labels, folder / name)
        return [(name, i + 1) for i in range(len(phantom.lesions))]
    names = [f"masks/{patient}_L{i + 1}.nii.gz" for i in range(len(phantom.lesions))]
    for i, name in enumerate(names):
        mask = (phantom.labels.array == i + 1).astype(np.uint8)
        write_volume(Volume(mask, phantom.labels.geometry), folder / name)
    return [(name, None) for name in names]


def write_volume(volume: Volume, path: Path) -> None:
    """Write an image, compressed.

    Raises
    ------
    OSError
        It cannot be written.

    """
    import SimpleITK as sitk

    try:
        sitk.WriteImage(volume.to_sitk(), str(path), True)
    except RuntimeError as error:  # SimpleITK's only kind
        raise OSError(f"{path}: SimpleITK cannot write the image; is there room on the disk?") from error
