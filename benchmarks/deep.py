"""The study that networks are judged by: a synthetic cohort, every command as a user types it, radiomics beside it.

    python benchmarks/deep.py FOLDER [--patients 300] [--external 150] [--abdomens 36] [--folds 3] [--steps 1000]

Makes the cohort, its cube of radiomics and its networks in FOLDER, goes on with what is there, and prints what each
command took and said; then the tables of docs/deep.md: lesions that were found in scans of patients that nobody has
trained on, growth by the networks, by radiomics, by both and by baselines on the same patients, the same without masks,
and networks whose labels were dealt out at random.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from learning import PARAMETERS

import hgpscale
from hgpscale.cohort import read_image
from hgpscale.learn.metrics import binary_metrics
from hgpscale.learn.resampling import bootstrap, bootstrap_difference
from hgpscale.testing import make_study
from hgpscale.testing.cohort import write_volume
from hgpscale.testing.models import GrowthPattern, Scanner
from hgpscale.testing.phantoms import liver_phantom, place_lesions
from hgpscale.volume import Volume

PARTS = ("desmoplastic", "replacement", "pushing")
HGP = [f"hgp_{part}" for part in PARTS]


def run(*arguments: object) -> str:
    """Type a command, say what it took, and return what it printed."""
    words = [str(word) for word in arguments]
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "hgpscale", *words], check=False, capture_output=True, text=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"$ hgpscale {' '.join(words)}\n{done.stdout.rstrip()}", flush=True)
    print(
        f"  ({time.perf_counter() - began:.0f} s, exit status {done.returncode}, peak so far {peak:.0f} MiB)",
        flush=True,
    )
    if done.returncode not in (0, 1):  # 1: single lesions failed, such as a core that nothing of a lesion is in
        raise SystemExit(done.stderr)
    return done.stdout


def make(folder: Path, patients: int, external: int, abdomens: int, seed: int) -> dict[str, Path]:
    """Write the cohort unless it is there; return manifests: of blocks of liver, of all, and of external patients.

    Blocks of liver have growth patterns; whole abdomens have outlines only, as archives do, and a third is external.
    """
    if not (folder / "study.csv").exists():
        make_study(folder, patients, external, seed)
    blocks = pd.read_csv(folder / "study.csv")
    blocks = blocks[blocks.segmentation == "RAD"].assign(liver="livers/" + blocks.patient + ".nii.gz")
    (folder / "livers").mkdir(exist_ok=True)
    for image, liver in dict(zip(blocks.image, blocks.liver, strict=True)).items():
        if not (folder / liver).exists():  # all of a block is liver
            volume, _ = read_image(folder / image)
            write_volume(Volume(np.ones(volume.array.shape, np.uint8), volume.geometry), folder / liver)
    rows = [row for number in range(abdomens) for row in _abdomen(folder, number, seed)]
    whole = pd.concat([blocks, pd.DataFrame(rows)], ignore_index=True)
    outside = whole.split == "external"
    # Without livers: whoever asks networks about a scan has no mask of it.
    asked = whole.drop(columns="liver")
    tables = {
        "blocks": blocks,
        "all": whole,
        "external blocks": asked[outside & asked.patient.isin(blocks.patient)],
        "external abdomens": asked[outside & ~asked.patient.isin(blocks.patient)],
    }
    paths = {name: folder / f"{name.replace(' ', '-')}.csv" for name in tables}
    for name, table in tables.items():
        table.to_csv(paths[name], index=False)
        print(f"{name}: {table.patient.nunique()} patients, {len(table)} lesions", flush=True)
    return paths


def _abdomen(folder: Path, number: int, seed: int) -> list[dict[str, object]]:
    """Write a phantom of the upper abdomen with one to four lesions of 10 to 45 mm, unless it is there."""
    rng = np.random.default_rng([seed, ord("A"), number])
    name = f"A{number + 1:03d}"
    diameters = np.exp(rng.uniform(np.log(10), np.log(45), int(rng.integers(1, 5))))
    patterns = [GrowthPattern(*rng.dirichlet((0.6, 0.6, 0.6))) for _ in diameters]
    lesions = place_lesions(sorted(diameters, reverse=True), patterns, rng)
    files = {"image": f"scans/{name}.nii.gz", "mask": f"masks/{name}.nii.gz", "liver": f"livers/{name}.nii.gz"}
    if not (folder / files["liver"]).exists():
        scanner = Scanner((float(rng.uniform(2, 3)), *(float(rng.uniform(1.2, 1.6)),) * 2), float(rng.uniform(8, 13)))
        phantom = liver_phantom(lesions, scanner, rng)
        for volume, file in zip((phantom.image, phantom.labels, phantom.liver), files.values(), strict=True):
            write_volume(volume, folder / file)
    common = {"patient": name, **files, "segmentation": "RAD", "centre": "abdomens"}
    split = "external" if number % 3 == 2 else "train"
    return [{**common, "split": split, "lesion": f"{name}_L{at}", "label": at} for at in range(1, len(lesions) + 1)]


def detect(found: Path) -> None:
    """Print how lesions compare with drawn ones."""
    said = json.loads((found / "metrics.json").read_text("utf-8"))
    print(f"{said['scans']} scans, {said['lesions']} lesions, {said['detected']} found, {said['false']} false")
    print("| measure | mean | low | high |\n|---|---|---|---|")
    rows = {f"sensitivity at {rate} false a scan": one for rate, one in said["sensitivity_at"].items()}
    rows |= {name: said[name] for name in ("sensitivity", "false_positives", "dice_lesions", "dice_scans")}
    for name, one in rows.items():
        cells = ("" if one[part] is None else f"{one[part]:.3f}" for part in ("mean", "low", "high"))
        print(f"| {name} | {' | '.join(cells)} |")
    curve = list(zip(said["froc"]["false_positives"], said["froc"]["sensitivity"], strict=True))
    print("FROC:", ", ".join(f"({x:.3f}, {y:.3f})" for x, y in curve[:: max(len(curve) // 12, 1)]), flush=True)


def growth(results: Path) -> None:
    """Print metrics of all contenders of an evaluation, and how they differ from the first."""
    said = json.loads((results / "metrics.json").read_text("utf-8"))
    metrics = ("auc", "mae_desmoplastic", "mae_replacement", "mae_pushing", "cross_entropy")
    print(f"| contender | {' | '.join(metrics)} |\n|---|{'---|' * len(metrics)}")
    for name, one in {"model": said, **said["baselines"]}.items():
        print(f"| {name} | {' | '.join(_interval(one.get(metric)) for metric in metrics)} |")
    for name, one in said["baselines"].items():
        for metric in ("auc", "mae_desmoplastic"):
            if found := one["difference"].get(metric):
                print(f"model minus {name}, {metric}: {_interval(found)}, p {found['p']:.3f}")
    sys.stdout.flush()


def networks_alone(manifest: Path, cube: Path) -> None:
    """Print what the networks themselves say of drawn lesions of external patients, beside the mean predictor."""
    table = hgpscale.open_cube(cube).hgp.to_frame().set_index("lesion")
    known = pd.read_csv(manifest).set_index("lesion").loc[table.index]
    out = (known.split == "external").to_numpy()
    truth = known[HGP].to_numpy(float) / 100
    said = table[[f"deep_{name}" for name in ("Desmoplastic", "Replacement", "Pushing")]].to_numpy(float)
    pure = table["deep_PureDesmoplastic"].to_numpy(float)
    mean = np.tile(truth[~out].mean(axis=0), (out.sum(), 1))
    _judge("networks, drawn lesions", known.patient[out], truth[out], said[out], mean, pure[out])


def without_masks(manifest: Path, cube: Path, found: Path, with_masks: Path, without: Path) -> None:
    """Print patients' answers of radiomics on lesions that networks found beside those on drawn ones."""
    known = pd.read_csv(manifest).set_index("lesion")
    known = known[known.split == "external"]
    area = hgpscale.open_cube(cube).hgp.to_frame().set_index("lesion")["original_shape_SurfaceArea"]
    known = known.assign(area=area, d=known[HGP[0]] / 100 * area)
    truth = known.groupby("patient")["d"].sum() / known.groupby("patient")["area"].sum()
    one, other = (_patients(path) for path in (with_masks, without))
    patients = [name for name in truth.index if name in one.index and name in other.index]
    print(f"patients of the external set {len(truth)}, with an answer without masks {len(patients)}")
    d = truth.loc[patients].to_numpy()
    for name, table in {"with masks": one, "without": other, "networks alone": _patients(found)}.items():
        said = table.loc[patients, "desmoplastic"].to_numpy(float)
        error = bootstrap(lambda a, b: float(np.abs(a - b).mean()), patients, d, said)
        print(f"  {name}: mean absolute error of the patient's desmoplastic fraction {_interval(error._asdict())}")
    a, b = (table.loc[patients, "desmoplastic"].to_numpy(float) for table in (one, other))
    print(f"  with against without: correlation {np.corrcoef(a, b)[0, 1]:.3f}, mean difference {np.mean(b - a):+.3f}")
    sys.stdout.flush()


def shuffled(networks: Path) -> None:
    """Print the AUC of networks that were trained on labels of other lesions, for patients that they had not seen."""
    table = pd.read_csv(networks / "unseen.csv")
    pure = table[(table.true_desmoplastic == 1) | (table.true_desmoplastic == 0)]
    truth = (pure.true_desmoplastic == 1).to_numpy(float)
    found = bootstrap(lambda y, p: binary_metrics(y, p)["auc"], pure.patient, truth, pure.p_pure_desmoplastic)
    print(f"labels dealt out at random: AUC {_interval(found._asdict())} of {len(pure)} lesions", flush=True)


def _patients(path: Path) -> pd.DataFrame:
    table = pd.read_csv(path)
    return table[table.level == "patient"].set_index("patient")


def _judge(name: str, patient: Any, truth: Any, said: Any, mean: Any, pure: Any) -> None:
    def error(y: Any, p: Any) -> Mapping[str, float]:
        return {part: float(np.abs(y - p)[:, at].mean()) for at, part in enumerate(PARTS)}

    both = bootstrap_difference(error, patient, truth, said, mean)
    for part, one in bootstrap(error, patient, truth, said).items():
        base = bootstrap(error, patient, truth, mean)[part]
        difference = both[part]
        print(
            f"{name}, {part}: error {_interval(one._asdict())}, of the mean predictor {_interval(base._asdict())}, "
            f"difference {_interval(difference._asdict())}"
        )
    clear = (truth[:, 0] == 0) | (truth[:, 0] == 1)
    auc = bootstrap(lambda y, p: binary_metrics(y, p)["auc"], np.asarray(patient)[clear], truth[clear, 0], pure[clear])
    print(f"{name}: AUC of pure desmoplastic {_interval(auc._asdict())}, {clear.sum()} lesions", flush=True)


def _interval(metric: Any) -> str:
    if not metric or metric["mean"] is None:
        return ""
    return f"{metric['mean']:.3f} ({metric['low']:.3f} to {metric['high']:.3f})"


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--patients", type=int, default=300)
    parser.add_argument("--external", type=int, default=150)
    parser.add_argument("--abdomens", type=int, default=36)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    folder = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    paths = make(folder, options.patients, options.external, options.abdomens, options.seed)
    everybody = paths["blocks"]
    parameters = folder / "params.yaml"
    parameters.write_text(PARAMETERS, encoding="utf-8")
    cube, found = folder / "cube.zarr", folder / "found"
    run("extract", everybody, cube, "--settings", parameters, "--workers", 2, "--quiet")
    run("deep", "prepare", paths["all"], folder / "prepared.zarr", "--workers", 2)
    train = ("deep", "train", folder / "prepared.zarr")
    run(*train, folder / "networks", "--size", "tiny", "--folds", options.folds, "--steps", options.steps)
    run("deep", "predict", folder / "networks", paths["external blocks"], found, "--no-saliency")
    detect(found)
    run("deep", "predict", folder / "networks", paths["external abdomens"], folder / "abdomens", "--overlap", 0.25)
    detect(folder / "abdomens")
    run("deep", "embed", folder / "networks", folder / "prepared.zarr", cube)
    networks_alone(everybody, cube)
    for fusion in ("early", "stack"):
        out = folder / f"results-{fusion}"
        evaluate = ("evaluate", cube, "--target", "multitask", "--model", "elastic-net", "--external")
        run(*evaluate, "--fusion", fusion, "--out", out, "--quiet")
        growth(out)
    run("extract", found / "lesions.csv", folder / "found.zarr", "--settings", parameters, "--workers", 2, "--quiet")
    model = folder / "model.skops"
    fit = ("fit", cube, "--target", "composition", "--model", "elastic-net", "--out", model)
    run(*fit, *(word for name in ("core__*", "rim__*", "original_*") for word in ("--features", name)))
    for name in ("cube", "found"):
        run("predict", folder / f"{name}.zarr", "--model", model, "--out", folder / f"{name}.csv", "--overwrite")
    without_masks(everybody, cube, found / "predictions.csv", folder / "cube.csv", folder / "found.csv")
    # Half the steps, at which networks with true labels are nearly as right as at the end (their metrics.jsonl).
    control = (*train, folder / "control", "--size", "tiny", "--folds", 2, "--shuffle-labels")
    run(*control, "--steps", options.steps // 2)
    shuffled(folder / "control")


if __name__ == "__main__":
    main()
