"""Speed and peak memory beside pyradiomics: one lesion, one thread, file paths to a dict, at 1 mm.

    python benchmarks/peers.py [--cases 45 90ct] [--rounds 7] [--levels] [--json peers.json] [--folder FILES]

Each program runs in a process of its own that stays warm; calls go to them in turn, so that both meet the same
machine. Prints medians, the median of the ratios pair by pair, and each process's peak memory. `--levels` adds lesions
with 144 and 300 grey levels, `--start` the time from starting Python to the first result, compiling and not.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
ONE_THREAD["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"

SPACING = {"resampledPixelSpacing": [1, 1, 1], "binWidth": 25, "additionalInfo": False}
SETS: dict[str, dict[str, Any]] = {
    "Original": {"imageType": {"Original": {}}, "setting": SPACING},
    "full": {"imageType": {"Original": {}, "Wavelet": {}, "LoG": {"sigma": [1, 3, 5]}}, "setting": SPACING},
}
MODULES = {"hgpscale": "hgpscale.compat", "pyradiomics": "radiomics.featureextractor"}


class Case(NamedTuple):
    """A lesion, and the bins it is counted in."""

    diameter: float
    full_ct: bool
    bin_width: float = 25.0


CASES = {
    "20": Case(20, False),
    "45": Case(45, False),
    "90": Case(90, False),
    "20ct": Case(20, True),
    "45ct": Case(45, True),
    "90ct": Case(90, True),
}
MANY_LEVELS = {"45, Ng 144": Case(45, False, 1.5), "45, Ng 300": Case(45, False, 0.7)}


def write(case: Case, folder: Path) -> list[str]:
    """Write image and mask of a case unless they are there; return their paths."""
    import SimpleITK as sitk

    from hgpscale.testing import sphere

    paths = [folder / f"{case.diameter:g}{'ct' if case.full_ct else ''}_{kind}.nii.gz" for kind in ("image", "mask")]
    if not all(path.exists() for path in paths):
        volumes = sphere(case.diameter, (1.5, 0.8, 0.8), (200, 512, 512) if case.full_ct else None, noise=30)
        for path, volume in zip(paths, volumes, strict=True):
            sitk.WriteImage(volume, path)
    return [str(path) for path in paths]


def serve(program: str, parameters: str, paths: list[str]) -> None:
    """Be one program: for each line read, extract once and print the seconds it took; at the end the peak memory."""
    import importlib
    import logging
    import warnings

    logging.disable(logging.ERROR)
    warnings.simplefilter("ignore")
    extractor = importlib.import_module(MODULES[program]).RadiomicsFeatureExtractor(json.loads(parameters))
    n_features = 0
    for _ in sys.stdin:
        start = time.perf_counter()
        n_features = len(extractor.execute(*paths))
        print(time.perf_counter() - start, flush=True)
    # Not getrusage: a process inherits its parent's peak there.
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(json.dumps({"peak_mib": int(peak.split()[1]) / 1024, "features": n_features}), flush=True)


@contextmanager
def server(program: str, parameters: dict[str, Any], paths: list[str]) -> Iterator[subprocess.Popen[str]]:
    """Start a process that serves."""
    command = [sys.executable, __file__, "--serve", program, json.dumps(parameters), *paths]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | ONE_THREAD
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def call(process: subprocess.Popen[str]) -> float:
    """Let a process extract once; return its seconds."""
    assert process.stdin
    assert process.stdout
    process.stdin.write("\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def finish(process: subprocess.Popen[str]) -> dict[str, float]:
    """Let a process end; return what it says of itself."""
    assert process.stdin
    assert process.stdout
    process.stdin.close()
    return dict(json.loads(process.stdout.readline()))


def measure(case: Case, parameters: dict[str, Any], rounds: int, folder: Path) -> dict[str, Any]:
    """Time both programs on one case, call by call in turn."""
    parameters = {**parameters, "setting": {**parameters["setting"], "binWidth": case.bin_width}}
    paths = write(case, folder)
    with ExitStack() as stack:
        ours, theirs = (stack.enter_context(server(name, parameters, paths)) for name in MODULES)
        call(ours)
        call(theirs)
        pairs = [(call(ours), call(theirs)) for _ in range(rounds)]
        ends = finish(ours), finish(theirs)
    assert ends[0]["features"] == ends[1]["features"], ends
    return {
        "features": int(ends[0]["features"]),
        "ours_ms": 1e3 * statistics.median(a for a, _ in pairs),
        "theirs_ms": 1e3 * statistics.median(b for _, b in pairs),
        "ratio": statistics.median(b / a for a, b in pairs),
        "ours_mib": ends[0]["peak_mib"],
        "theirs_mib": ends[1]["peak_mib"],
    }


def starts(folder: Path) -> dict[str, float]:
    """Return seconds from starting Python to the first result, compiling everything and compiling nothing."""
    code = (
        "from hgpscale.compat import RadiomicsFeatureExtractor as E; import json, sys; "
        "E(json.loads(sys.argv[1])).execute(*sys.argv[2:])"
    )
    command = [sys.executable, "-c", code, json.dumps(SETS["full"]), *write(CASES["20"], folder)]
    found = {}
    with tempfile.TemporaryDirectory() as cache:
        for name in ("cold", "warm"):
            start = time.perf_counter()
            subprocess.run(command, check=True, env=os.environ | ONE_THREAD | {"NUMBA_CACHE_DIR": cache})
            found[name] = time.perf_counter() - start
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import hgpscale.compat"], check=True, env=os.environ | ONE_THREAD)
    return {**found, "import": time.perf_counter() - start}


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=CASES)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--rounds", type=int, default=7, help="calls of each program; a full CT takes a third of them")
    parser.add_argument("--levels", action="store_true", help="many grey levels too")
    parser.add_argument("--start", action="store_true", help="time to the first result too")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--folder", type=Path, help="where the images are written, and found the next time")
    parser.add_argument("--serve", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve[0], options.serve[1], options.serve[2:])
        return
    folder = options.folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    cases = {name: CASES[name] for name in options.cases} | (MANY_LEVELS if options.levels else {})
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}, one thread")
    print("| lesion mm | features | hgpscale ms | pyradiomics ms | ratio | hgpscale MiB | pyradiomics MiB |")
    print("|---|---|---|---|---|---|---|")
    results: dict[str, Any] = {}
    for name, case in cases.items():
        for kind in options.sets:
            rounds = max(3, options.rounds // 3) if case.full_ct else options.rounds
            found = results[f"{name} {kind}"] = measure(case, SETS[kind], rounds, folder)
            print(
                f"| {name} | {found['features']} | {found['ours_ms']:.1f} | {found['theirs_ms']:.0f} | "
                f"{found['ratio']:.1f} | {found['ours_mib']:.0f} | {found['theirs_mib']:.0f} |",
                flush=True,
            )
    if options.start:
        results["start"] = starts(folder)
        print(", ".join(f"{name} {seconds:.2f} s" for name, seconds in results["start"].items()))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
