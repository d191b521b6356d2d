"""Kill the extracting process at random moments, resume it each time, and compare the cube with an undisturbed one.

    python benchmarks/kill_resume.py [--kills 10] [--patients 12] [--copies 100] [--workers 2] [--seed 0]

Exit status 0 if every file of the two cubes has the same bytes and no worker outlives its driver by 10 seconds.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import psutil

from hgpscale.cube import status
from hgpscale.testing import make_cohort


def command(manifest: Path, cube: Path, workers: int) -> list[str]:
    """Return the command that a user types."""
    return [sys.executable, "-m", "hgpscale", "extract", str(manifest), str(cube), "-q", "--workers", str(workers)]


def repeat(manifest: Path, copies: int) -> Path:
    """Write a manifest in which every scan and lesion stands several times, under names and ids of its own."""
    table = pd.read_csv(manifest, dtype=str)
    parts = []
    for copy in range(copies):
        images = {name: name.replace(".nii.gz", f"_{copy}.nii.gz") for name in table["image"].unique()}
        for name, link in images.items():
            (manifest.parent / link).symlink_to(manifest.parent / name)
        parts.append(table.assign(lesion=table["lesion"] + f"_{copy}", image=table["image"].map(images)))
    path = manifest.with_name("repeated.csv")
    pd.concat(parts).to_csv(path, index=False)
    return path


def content(folder: Path) -> dict[str, bytes]:
    """Return every file of a cube."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def survivors(pids: list[int], seconds: float) -> int:
    """Return how many processes are still alive after at most `seconds`."""
    _, alive = psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=seconds)
    return len(alive)


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--patients", type=int, default=12, help="of the synthetic cohort")
    parser.add_argument("--copies", type=int, default=100, help="how often each of its lesions stands in the manifest")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    folder = Path(tempfile.mkdtemp())
    manifest = repeat(make_cohort(folder / "cohort", patients=options.patients, seed=options.seed), options.copies)
    whole, killed = folder / "whole.zarr", folder / "killed.zarr"
    start = time.perf_counter()
    subprocess.run(command(manifest, whole, options.workers), check=True)
    seconds = time.perf_counter() - start
    print(f"undisturbed: {status(whole).done} rows in {seconds:.1f} s")
    left = 0
    for number in range(1, options.kills + 1):
        driver = subprocess.Popen(command(manifest, killed, options.workers))
        # Short enough that some work is left for the last kill.
        moment = rng.uniform(0.3, 3 * seconds / options.kills)
        time.sleep(moment)
        children = [child.pid for child in psutil.Process(driver.pid).children(recursive=True)]
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        left += survivors(children, 10)
        done = status(killed).done if killed.exists() else 0
        print(f"kill {number} after {moment:.1f} s: {done} rows done, {len(children)} child processes")
    subprocess.run(command(manifest, killed, options.workers), check=True)
    one, other = content(whole), content(killed)
    same = one == other
    print(f"resumed to the end: {status(killed).done} rows; {len(other)} files, same bytes: {same}")
    print(f"processes that outlived their driver by 10 s: {left}; scratch folder {os.path.relpath(folder)}")
    return 0 if same and not left else 1


if __name__ == "__main__":
    sys.exit(main())
