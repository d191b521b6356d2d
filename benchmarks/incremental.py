"""A model learned batch by batch from a cube of many lesions, beside one learned in memory; then more lesions come.

    python benchmarks/incremental.py [--lesions 200000] [--features 1000] [--part 20000] [--folder DIR] [--keep]

The cube is written by the cube's own writer, record by record, of made-up numbers; nothing is extracted. A patient has
three lesions. Ten features hang on a hidden growth pattern, of patient and lesion, the others do not; means are up to
a million times the standard deviation. Three in five lesions are pure, and those are learned: desmoplastic or not.
The last tenth of the lesions is held out. Then a tenth more are added, with `CubeWriter` as an extraction would, and
the model is updated with those alone. `--part` lesions are learned in memory too. Every step is a process of its own,
and its peak memory in MiB is its own; `cpu` is its seconds of
work, with imports; `read` counts chunks of features that the storage was asked for.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hgpscale.settings import Settings

    Array = NDArray[np.float64]

FAMILIES = ("firstorder", "glcm", "glrlm")
PER_IMAGE, BLOCK = 50, 1024
SIGNAL = 10
HELD_OUT, MORE = 0.1, 0.1
BATCH, EPOCHS, KEPT = 1024, 5, 100
PARTS = ("hgp_desmoplastic", "hgp_replacement", "hgp_pushing")


def settings(features: int) -> Settings:
    """Return settings with `features` features: fifty on each of some image types."""
    from hgpscale.catalog import FAMILIES as KNOWN
    from hgpscale.settings import Settings

    left, classes = PER_IMAGE, {}
    for family in FAMILIES:
        names = list(KNOWN[family].names)[:left]
        classes[family], left = names, left - len(names)
    images = -(-features // PER_IMAGE)
    sigma = [0.5 + 0.25 * i for i in range(images - 1)]
    kinds: dict[str, Any] = {"Original": {}} | ({"LoG": {"sigma": sigma}} if sigma else {})
    return Settings.from_parameters({"imageType": kinds, "featureClass": classes})


def hidden(lesions: int) -> Array:
    """Return how desmoplastic each lesion is at heart; those of a patient are alike."""
    patients = np.random.default_rng(1).normal(size=-(-lesions // 3)).repeat(3)[:lesions]
    return 0.7 * patients + 0.7 * np.random.default_rng(2).normal(size=lesions)


def write_manifest(path: Path, lesions: int) -> None:
    """Write a manifest of lesions whose files nobody needs."""
    # Each from its own seed, so that more lesions leave those before them as they are.
    noisy = hidden(lesions) + 0.5 * np.random.default_rng(3).normal(size=lesions)
    pure, share = np.random.default_rng(6).random(lesions) < 0.6, np.random.default_rng(7).random(lesions)
    d = np.where(pure, 100 * (noisy > 0), np.clip(np.rint(50 + 25 * noisy), 1, 99)).astype(int)
    r = np.rint((100 - d) * share).astype(int)
    with path.open("w") as file:
        file.write("lesion,patient,image,mask," + ",".join(PARTS) + "\n")
        for i in range(lesions):
            patient = f"P{i // 3:06d}"
            file.write(f"{patient}-{i % 3 + 1},{patient},{patient}/ct.nii.gz,{patient}/{i % 3 + 1}.nii.gz,")
            file.write(f"{d[i]},{r[i]},{100 - d[i] - r[i]}\n")


def numbers(score: Array, start: int, features: int) -> Array:
    """Return the features of lesions from `start` on, a multiple of `BLOCK`."""
    rng = np.random.default_rng(4)
    spread = 10 ** rng.uniform(-3, 3, features)
    mean = spread * 10 ** rng.uniform(-1, 6, features)
    carrying = rng.choice(features, min(SIGNAL, features), replace=False)
    rows = np.random.default_rng([5, start]).normal(size=(BLOCK, features))[: len(score)]
    rows[:, carrying] = 0.45 * score[:, None] + 0.9 * rows[:, carrying]
    return np.asarray(mean + spread * rows)


def write(folder: Path, options: argparse.Namespace, lesions: int) -> dict[str, Any]:
    """Write the cube of a manifest, or what it lacks."""
    from hgpscale.cohort import read_manifest
    from hgpscale.contents import Contents
    from hgpscale.cube import CubeWriter
    from hgpscale.record import Record

    begun = time.perf_counter()
    write_manifest(folder / "manifest.csv", lesions)
    cohort, chosen = read_manifest(folder / "manifest.csv"), settings(options.features)
    keys = Contents.of(chosen).keys
    ends = np.cumsum([len(chosen.features[family]) for _, _, family in keys])
    with CubeWriter.open(folder / "cube.zarr", cohort, chosen) as writer:
        opened = time.perf_counter() - begun
        score, missing = hidden(lesions), set(writer.missing)
        for start in range(0, lesions, BLOCK):
            rows = cohort.rows[start : start + BLOCK]
            if not any((row.lesion, row.segmentation) in missing for row in rows):
                continue
            for row, vector in zip(rows, numbers(score[start : start + BLOCK], start, ends[-1]), strict=True):
                if (row.lesion, row.segmentation) in missing:
                    values = dict(zip(keys, np.split(vector, ends[:-1]), strict=True))
                    writer.add(Record(row.lesion, row.segmentation, row.image_text, row.mask_text, 1, values))
    size = sum(path.stat().st_size for path in (folder / "cube.zarr").rglob("*") if path.is_file())
    return {
        "lesions": len(missing),
        "features": int(ends[-1]),
        "opened": opened,
        "seconds": time.perf_counter() - begun,
        "bytes": size,
        "peak": peak_mib(),
    }


def pure(d: Any) -> Array:
    """Return 1 for pure desmoplastic lesions, 0 for those that are not at all, NaN for mixed ones."""
    percent = np.asarray(d, dtype=np.float64)
    return np.where(percent == 100, 1.0, np.where(percent == 0, 0.0, np.nan))


class Reads:
    """Counts chunks that are read while it is entered."""

    def __init__(self) -> None:
        self.count: Counter[str] = Counter()

    def __enter__(self) -> Reads:
        from zarr.storage import LocalStore

        self._get = get = LocalStore.get

        async def counted(store: Any, key: str, *rest: Any, **more: Any) -> Any:
            name, slash, _ = key.partition("/c/")
            if slash:
                self.count[name] += 1
            return await get(store, key, *rest, **more)

        LocalStore.get = counted
        return self

    def __exit__(self, *_: object) -> None:
        from zarr.storage import LocalStore

        LocalStore.get = self._get

    @property
    def features(self) -> int:
        """Chunks of features."""
        return sum(self.count[family] for family in FAMILIES)


def counted(batches: Callable[[int], Iterator[Any]]) -> tuple[Callable[[int], Iterator[Any]], dict[int, int]]:
    """Return the same batches, and how many rows each pass has had."""
    rows: dict[int, int] = {}

    def through(epoch: int) -> Iterator[Any]:
        rows[epoch] = 0
        for batch in batches(epoch):
            rows[epoch] += len(batch[0])
            yield batch

    return through, rows


def learn(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Learn from all lesions that are not held out, batch by batch."""
    import skops.io

    from hgpscale.cube import open_cube
    from hgpscale.learn.streaming import StreamingModel, cube_batches

    before, start = peak_mib(), time.perf_counter()
    cube = open_cube(folder / "cube.zarr").isel(lesion=slice(0, train(options)))
    batches, rows = counted(cube_batches(cube, PARTS[0], pure, size=BATCH))
    with Reads() as reads:
        model = StreamingModel(n_features=KEPT, epochs=EPOCHS).fit_batches(batches)
    seconds = time.perf_counter() - start
    skops.io.dump(model, folder / "model.skops")
    return {"seconds": seconds, "peak": peak_mib(), "start": before, "rows": rows, "read": reads.features}


def compare(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Learn from a part of the lesions in memory and batch by batch; test these two, and the model of all lesions."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.preprocessing import StandardScaler

    from hgpscale.cube import open_cube
    from hgpscale.learn.streaming import StreamingModel, cube_batches

    cube = open_cube(folder / "cube.zarr")
    part = cube.isel(lesion=slice(0, min(options.part, train(options))))
    model = StreamingModel(n_features=KEPT, epochs=EPOCHS).fit_batches(cube_batches(part, PARTS[0], pure, size=BATCH))
    batches = list(cube_batches(part, PARTS[0], pure, size=BATCH)(0))
    X, y = np.vstack([batch[0].to_numpy() for batch in batches]), np.concatenate([batch[1] for batch in batches])
    names = batches[0][0].columns
    scaler = StandardScaler().fit(X)
    centred = X - X[0]  # without the loss of digits to large means
    scaled = (centred - centred.mean(axis=0)) / centred.std(axis=0)
    ours = (centred - (model.pivot_ - X[0]) - model.offset_) / model.scale_
    whole = LogisticRegression(max_iter=1000).fit(scaled, y)
    kept = LogisticRegression(max_iter=1000).fit(scaled[:, model.kept_], y)
    all_lesions = load(folder / "model.skops")
    found: dict[str, list[Any]] = {name: [] for name in ("truth", "part", "memory", "memory, kept", "all")}
    held = cube.isel(lesion=slice(train(options), options.lesions))
    for frame, truth, _ in cube_batches(held, PARTS[0], pure, size=BATCH)(0):
        found["truth"].append(truth)
        found["part"].append(model.predict_proba(frame)[:, 1])
        found["all"].append(all_lesions.predict_proba(frame)[:, 1])
        row = (frame[names].to_numpy() - X[0] - centred.mean(axis=0)) / centred.std(axis=0)
        found["memory"].append(whole.predict_proba(row)[:, 1])
        found["memory, kept"].append(kept.predict_proba(row[:, model.kept_])[:, 1])
    joined = {name: np.concatenate(parts) for name, parts in found.items()}
    aucs = {name: roc_auc_score(joined["truth"], joined[name]) for name in found if name != "truth"}
    return {
        "rows": len(y),
        "held out": len(joined["truth"]),
        "scaled values": float(np.abs(ours - scaled).max()),
        "deviations": float(np.abs(model.scale_ / centred.std(axis=0) - 1).max()),
        "means of StandardScaler": float(np.abs((scaler.mean_ - model.mean_) / model.scale_).max()),
        "deviations of StandardScaler": float(np.abs(model.scale_ / scaler.scale_ - 1).max()),
        "auc": aucs,
        "peak": peak_mib(),
    }


def update(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Go on with the lesions that were added."""
    from hgpscale.cube import open_cube
    from hgpscale.learn.streaming import cube_batches

    model = load(folder / "model.skops")
    start = time.perf_counter()
    cube = open_cube(folder / "cube.zarr")
    known = set(cube.lesion.values[: options.lesions].tolist())
    new = [name for name in cube.lesion.values.tolist() if name not in known]
    chosen = cube.hgp.select(lesions=new)
    opened = time.perf_counter() - start
    batches, rows = counted(cube_batches(chosen, PARTS[0], pure, size=BATCH))
    with Reads() as reads:
        model.update_batches(batches)
    seconds = time.perf_counter() - start
    # Dask reads 1024 lesions at once, of a selection that may begin within them.
    chunks = 4 * (-(-len(new) // 1024) + 1) * len(FAMILIES) * len(cube.image_type)
    drift = float(np.abs(model.drift()).max())
    found = {"lesions": len(new), "select": opened, "seconds": seconds, "rows": rows, "read": reads.features}
    return found | {"at most": chunks * (EPOCHS + 1), "drift": drift, "peak": peak_mib()}


def scattered(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Read a tenth of the lesions that lie anywhere in the cube, by their names."""
    from hgpscale.cube import open_cube
    from hgpscale.learn.streaming import cube_batches

    cube = open_cube(folder / "cube.zarr")
    names = cube.lesion.values
    some = np.random.default_rng(0).permutation(len(names))[: len(names) // 10]
    start = time.perf_counter()
    batches, rows = counted(
        cube_batches(cube.hgp.select(lesions=names[np.sort(some)].tolist()), PARTS[0], pure, size=BATCH)
    )
    with Reads() as reads:
        for _ in batches(0):
            pass
    return {"lesions": len(some), "seconds": time.perf_counter() - start, "rows": rows, "read": reads.features}


def train(options: argparse.Namespace) -> int:
    """Return how many lesions are not held out; patients are whole."""
    return int(options.lesions * (1 - HELD_OUT)) // 3 * 3


def load(path: Path) -> Any:
    """Return a model that this program has stored."""
    import skops.io

    return skops.io.load(path, trusted=skops.io.get_untrusted_types(file=path))


def peak_mib() -> float:
    """Return the peak memory of this process so far."""
    # Not getrusage: a process inherits its parent's peak there.
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(peak.split()[1]) / 1024


STEPS: dict[str, Callable[[Path, argparse.Namespace], dict[str, Any]]] = {
    "write": lambda folder, options: write(folder, options, options.lesions),
    "learn": learn,
    "compare": compare,
    "add": lambda folder, options: write(folder, options, int(options.lesions * (1 + MORE))),
    "update": update,
    "scattered": scattered,
}


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lesions", type=int, default=200_000)
    parser.add_argument("--features", type=int, default=1000, help="a multiple of 50")
    parser.add_argument("--part", type=int, default=20_000, help="lesions that are learned in memory too")
    parser.add_argument("--folder", type=Path, help="where the cube is written")
    parser.add_argument("--keep", action="store_true", help="leave it there")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        found = STEPS[options.step](options.folder, options)
        print(json.dumps(found | {"cpu": time.process_time()}))
        return
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    sizes = [f"--{name}={getattr(options, name)}" for name in ("lesions", "features", "part")]
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}, {' '.join(sizes)}")
    try:
        for step in STEPS:
            command = [sys.executable, __file__, "--folder", str(folder), "--step", step, *sizes]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            print(f"{step}: {done.stdout.strip()}", flush=True)
    finally:
        if not options.keep:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
