"""The study that learning is judged by: 400 patients to develop on and 200 external ones, through the real extraction.

    python benchmarks/learning.py FOLDER [--patients 400] [--external 200] [--seed 0] [--workers 2]

Makes FOLDER/study.csv and FOLDER/cube.zarr, goes on with what is there, and prints what it took.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from hgpscale.cohort import read_manifest
from hgpscale.cube import status
from hgpscale.testing import make_study

PARAMETERS = """\
# Bins of 10 HU, because lesions differ by tens; the core begins where no pattern reaches.
setting:
  binWidth: 10
  resampledPixelSpacing: [1.5, 1.5, 1.5]
  interpolator: sitkLinear
  regions:
    lesion:
    core: 4
    rim: 3
imageType:
  Original: {}
"""


def make(folder: Path, patients: int, external: int, seed: int) -> Path:
    """Write the study unless it is there; return its manifest."""
    manifest = folder / "study.csv"
    if not manifest.exists():
        began = time.perf_counter()
        make_study(folder, patients, external, seed)
        print(f"writing the study: {time.perf_counter() - began:.0f} s", flush=True)
    cohort = read_manifest(manifest)
    patient, split = cohort.columns["patient"], cohort.columns["split"]
    counts = ", ".join(f"{patient[split == name].nunique()} patients {name}" for name in split.unique())
    print(f"{counts}; {len(cohort.lesions)} lesions, {len(cohort.rows)} outlines", flush=True)
    return manifest


def extract(manifest: Path, cube: Path, workers: int) -> None:
    """Type what a user types, and say what it took and what failed."""
    parameters = manifest.with_name("params.yaml")
    parameters.write_text(PARAMETERS, encoding="utf-8")
    command = [sys.executable, "-m", "hgpscale", "extract", str(manifest), str(cube), "--quiet"]
    command += ["--settings", str(parameters), "--workers", str(workers)]
    began = time.perf_counter()
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    print(f"extraction: {time.perf_counter() - began:.0f} s, {workers} workers, exit status {done.returncode}")
    if done.returncode == 2:
        raise SystemExit(done.stderr)
    counts = status(cube)
    for name, value in counts.table():
        print(f"  {name}: {value}")
    failures = Counter((failure.images[0].split("/")[0], failure.stage, failure.reason) for failure in counts.failures)
    for (image, stage, reason), times in failures.most_common(10):
        print(f"  {times} x {image}, {stage}: {reason}", flush=True)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--patients", type=int, default=400)
    parser.add_argument("--external", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    manifest = make(options.folder, options.patients, options.external, options.seed)
    extract(manifest, options.folder / "cube.zarr", options.workers)


if __name__ == "__main__":
    main()
