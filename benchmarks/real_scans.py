"""Extract real scans as a cohort and hold every feature against pyradiomics, run live on the same files.

    python benchmarks/real_scans.py DATA [--workers 2] [--folder OUT]

DATA is the folder of real scans (the tests' ``HGPSCALE_TEST_DATA``). Writes a manifest, one cube as stored and
one at 1 mm, exports both, and prints the worst relative difference of each feature class.
"""

from __future__ import annotations

import argparse
import csv
import logging
import os
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import SimpleITK as sitk

import hgpscale
from hgpscale.catalog import FAMILIES

NIFTI = "ibsi1/data_sets/ibsi_1_ct_radiomics_phantom/nifti"
LIVER = "liver/totalsegmentator/tests/reference_files"
STS = "ibsi1_validation_sts/nifti"
SCANS = {
    "brain1": ("pyradiomics/data/brain1_image.nrrd", "pyradiomics/data/brain1_label.nrrd"),
    "breast1": ("pyradiomics/data/breast1_image.nrrd", "pyradiomics/data/breast1_label.nrrd"),
    "lung1": ("pyradiomics/data/lung1_image.nrrd", "pyradiomics/data/lung1_label.nrrd"),
    "prostate": (
        "pyradiomics/data/prostate_phantom_subvolume.nrrd",
        "pyradiomics/data/prostate_phantom_subvolume-label.nrrd",
    ),
    "STS_002": (f"{STS}/STS_002/CT_image.nii.gz", f"{STS}/STS_002/CT_mask.nii.gz"),
    "STS_003": (f"{STS}/STS_003/CT_image.nii.gz", f"{STS}/STS_003/CT_mask.nii.gz"),
    "PAT1": (f"{NIFTI}/image/phantom.nii.gz", f"{NIFTI}/mask/mask.nii.gz"),
    "liver": (f"{LIVER}/example_ct_sm.nii.gz", f"{LIVER}/example_seg_fast/liver.nii.gz"),
}
SETTINGS: dict[str, dict[str, Any]] = {
    "as stored": {},
    "1 mm B-spline": {"resampledPixelSpacing": [1, 1, 1], "interpolator": "sitkBSpline"},
}


def write_manifest(data: Path, path: Path) -> None:
    """Write a row for each label of each mask."""
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["patient", "lesion", "image", "mask", "label"])
        for name, (image, mask) in SCANS.items():
            labels = np.unique(sitk.GetArrayFromImage(sitk.ReadImage(str(data / mask))))
            for label in labels[labels != 0]:
                table.writerow([name, f"{name}-{label}", data / image, data / mask, label])


def reference(row: pd.Series, setting: dict[str, Any]) -> dict[str, float]:
    """Return pyradiomics' features of one row."""
    from radiomics.featureextractor import RadiomicsFeatureExtractor

    extractor = RadiomicsFeatureExtractor(additionalInfo=False, **setting)
    found = extractor.execute(row["image"], row["mask"], label=int(row["label"]))
    return {name: float(value) for name, value in found.items()}


def compare(table: pd.DataFrame, setting: dict[str, Any]) -> dict[str, tuple[float, str, str]]:
    """Return the worst relative difference (absolute below 0.001) by class, with its feature and lesion."""
    worst: dict[str, tuple[float, str, str]] = {}
    for _, row in table.iterrows():
        theirs = reference(row, setting)
        ours = {name for name in row.index if name.startswith("original_")}
        assert ours == set(theirs), f"{row['lesion']}: names differ: {ours ^ set(theirs)}"
        for name, value in theirs.items():
            difference = abs(value - row[name]) / max(abs(value), 1e-3)
            family = name.split("_")[1]
            if not difference <= worst.get(family, (-1.0, "", ""))[0]:
                worst[family] = (difference, name, row["lesion"])
    return worst


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # pyradiomics reports every matrix
    warnings.simplefilter("ignore")
    folder = options.folder or Path(tempfile.mkdtemp())
    write_manifest(options.data.resolve(), folder / "cohort.csv")
    for name, setting in SETTINGS.items():
        cube = folder / f"{name.replace(' ', '_')}.zarr"
        start = time.perf_counter()
        summary = hgpscale.extract(folder / "cohort.csv", cube, {"setting": setting}, workers=options.workers)
        seconds = time.perf_counter() - start
        table = pd.read_csv(hgpscale.export(cube, cube.with_suffix(".csv")))
        start = time.perf_counter()
        worst = compare(table, setting)
        print(
            f"\n{name}: {len(table)} lesions, {len(summary.failed)} failed, {options.workers} workers {seconds:.1f} s"
        )
        print(f"pyradiomics on the same files, one process: {time.perf_counter() - start:.1f} s")
        for family in FAMILIES:
            difference, feature, lesion = worst[family]
            print(f"  {family:<11} {difference:.1e}  {feature} of {lesion}")
    print(f"\ncubes and tables: {os.path.relpath(folder)}")


if __name__ == "__main__":
    main()
