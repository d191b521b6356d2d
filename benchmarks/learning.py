"""The study that learning is judged by: 400 patients to develop on and 200 external ones, through the real extraction.

    python benchmarks/learning.py FOLDER [--patients 400] [--external 200] [--seed 0] [--workers 2]

Makes FOLDER/study.csv and FOLDER/cube.zarr, goes on with what is there, and prints what it took; then evaluates models
of pure and of mixed growth beside their baselines, of single regions, and with labels shuffled, a hundred times.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from hgpscale.cohort import read_manifest
from hgpscale.cube import status
from hgpscale.learn import Plan, evaluate
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


PLANS = {
    "pure": Plan("pure", scheme="external"),
    "pure, rim": Plan("pure", scheme="external", features=("rim__*",)),
    "pure, core": Plan("pure", scheme="external", features=("core__*",)),
    "pure, chemotherapy too": Plan("pure", scheme="external", covariates=("chemotherapy", "age")),
    "pure, ComBat": Plan("pure", "elastic-net", scheme="external", harmonise="combat"),
    "multitask": Plan("multitask", scheme="external"),
    "multitask, rim": Plan("multitask", "elastic-net", scheme="external", features=("rim__*",)),
    "multitask, core": Plan("multitask", "elastic-net", scheme="external", features=("core__*",)),
    "pure, centre out": Plan("pure", "elastic-net", scheme="leave-centre-out"),
    "pure, 100 splits": Plan("pure", "elastic-net"),
    "labels shuffled": Plan("pure", scheme="external", shuffle_labels=True),
    "labels shuffled, multitask": Plan("multitask", "elastic-net", scheme="external", shuffle_labels=True),
    "labels shuffled, 100 splits": Plan("pure", "elastic-net", shuffle_labels=True),
}
SHUFFLES = 100
SHOWN = ("auc", "mae_desmoplastic", "cross_entropy", "spearman_desmoplastic", "interval_coverage", "interval_width")


def learn(cube: Path, results: Path, workers: int) -> None:
    """Evaluate each plan and print the model and its baselines; what has been evaluated already is only printed."""
    for name, plan in PLANS.items():
        out = results / name.replace(", ", "-").replace(" ", "-")
        file = out / "metrics.json"
        found = json.loads(file.read_text("utf-8")) if file.exists() else evaluate(cube, plan, out, workers=workers)
        print(f"{name}: {plan.model}, {found['cohort']['lesions']} lesions, {found['seconds']:.0f} s")
        for who, metrics in {"model": found, **found["baselines"]}.items():
            parts = [f"{m} {_interval(metrics[m])}" for m in SHOWN if m in metrics]
            print(f"  {who}: {'; '.join(parts)}", flush=True)


def shuffle(cube: Path, results: Path, workers: int) -> None:
    """Shuffle the labels again and again, and print how often the AUC's 95 % interval holds 0.5: 19 of 20 times."""
    held: Counter[str] = Counter()
    for seed in range(SHUFFLES):
        plan = Plan("pure", "elastic-net", scheme="external", shuffle_labels=True, seed=seed)
        file = results / f"shuffle-{seed}" / "metrics.json"
        found = (
            json.loads(file.read_text("utf-8")) if file.exists() else evaluate(cube, plan, file.parent, workers=workers)
        )
        for who, metrics in {"model": found, **found["baselines"]}.items():
            held[who] += metrics["auc"]["low"] <= 0.5 <= metrics["auc"]["high"]
    print(f"labels shuffled {SHUFFLES} times, elastic-net, external: intervals of the AUC that hold 0.5")
    for who, times in held.items():
        print(f"  {who}: {times}", flush=True)


def _interval(metric: dict[str, Any]) -> str:
    numbers = [math.nan if metric[key] is None else metric[key] for key in ("mean", "low", "high")]
    return "{:.3f} ({:.3f} to {:.3f})".format(*numbers)


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
    learn(options.folder / "cube.zarr", options.folder / "results", options.workers)
    shuffle(options.folder / "cube.zarr", options.folder / "results", options.workers)


if __name__ == "__main__":
    main()
