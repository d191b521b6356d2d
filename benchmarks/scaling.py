"""What the engine costs beside the extraction itself, on one worker and two, and on lesions that are hardly any work.

    python benchmarks/scaling.py real DATA [--copies 8] [--rounds 3]
    python benchmarks/scaling.py simulated [--lesions 10000 100000] [--workers 2]

``real`` extracts the regions of `real_scans.py`, each scan several times under another name, so that none is read once
for all: `extract_lesion` in a loop; the same with each scan read once, to its end, for its checksum and digest, as the
engine does it; two such loops side by side; and the rows as a cohort on one worker and on two. Overheads are the
engine's time on one worker, cube included, over those of the loops. Efficiency is the time on one worker over twice
that on two; the last column, a loop's time over the time that it takes beside another, is what this machine has to
give. Rounds go in turn, and the medians count. Starting the workers is not in the times.

``simulated`` sends lesions of three a scan, whose reading and extraction do nothing, through the real planner, window,
scheduler and writer. The scheduler is a process of its own, as on a cluster.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
from real_scans import write_manifest

import hgpscale
from hgpscale.cohort import read_manifest
from hgpscale.contents import Contents
from hgpscale.cube import CubeWriter
from hgpscale.engine.cluster import connect, local_client
from hgpscale.engine.flow import stream_records
from hgpscale.engine.plan import plan
from hgpscale.engine.plugin import prepare_process
from hgpscale.engine.tasks import extract_prepared, read_scan
from hgpscale.record import Record
from hgpscale.settings import Settings

if TYPE_CHECKING:
    from hgpscale.engine.tasks import LesionTask, ScanTask

SETTINGS: dict[str, tuple[int, dict[str, Any]]] = {
    "as stored": (8, {}),
    "1 mm, wavelet, LoG": (
        1,
        {
            "setting": {"resampledPixelSpacing": [1, 1, 1]},
            "imageType": {"Original": {}, "Wavelet": {}, "LoG": {"sigma": [1, 3]}},
        },
    ),
}
"""How many times `--copies`, because small lesions are soon done, and the parameters."""
SMALL = {"featureClass": {"firstorder": ["Mean", "Energy"]}}
KEY = ("lesion", "original", "firstorder")


def copied(data: Path, folder: Path, copies: int) -> Path:
    """Write a manifest of the real regions, each scan under several names."""
    write_manifest(data.resolve(), folder / "once.csv")
    with (folder / "once.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with (folder / "cohort.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        for copy in range(copies):
            (folder / f"{copy}").mkdir()
            for row in rows:
                names = {}
                for kind in ("image", "mask"):
                    source = Path(row[kind])
                    names[kind] = folder / f"{copy}" / f"{row['patient']}-{kind}{''.join(source.suffixes)}"
                    if not names[kind].exists():
                        names[kind].symlink_to(source)
                ids = {kind: f"{row[kind]}-{copy}" for kind in ("patient", "lesion")}
                table.writerow(row | ids | names)
    return folder / "cohort.csv"


def loop(manifest: Path, settings: Settings) -> float:
    """Extract each row by `extract_lesion`, and return the seconds."""
    rows = read_manifest(manifest).rows
    start = time.perf_counter()
    for row in rows:
        hgpscale.extract_lesion(row.image, row.mask, settings, label=row.label)
    return time.perf_counter() - start


def entire(manifest: Path, settings: Settings) -> float:
    """Read each scan once, to its end, and extract its rows; return the seconds."""
    cohort = read_manifest(manifest)
    keys = Contents.of(settings).keys
    scans = list(plan(cohort, {(row.lesion, row.segmentation): keys for row in cohort.rows}, {}, settings))
    start = time.perf_counter()
    for scan in scans:
        for item in read_scan(scan, settings):
            extract_prepared(item, settings)
    return time.perf_counter() - start


def side_by_side(pool: Executor, manifest: Path, settings: Settings) -> float:
    """Do all in each of two processes at once, and return the seconds."""
    return statistics.mean(pool.map(entire, [manifest] * 2, [settings] * 2))


def engine(manifest: Path, settings: Settings, client: Any, cube: Path) -> float:
    """Extract the same rows as a cohort, and return the seconds."""
    start = time.perf_counter()
    summary = hgpscale.extract(manifest, cube, settings, client)
    assert not summary.failed, summary.failed[:1]
    return time.perf_counter() - start


def real(data: Path, copies: int, rounds: int) -> None:
    """Print a line for each of `SETTINGS`."""
    prepare_process()
    with (
        tempfile.TemporaryDirectory() as name,
        local_client(1) as one,
        local_client(2) as two,
        ProcessPoolExecutor(2, mp_context=get_context("spawn"), initializer=prepare_process) as pool,
    ):
        print(
            "| settings | lesions | loop | read to the end | 1 worker | overhead | 2 workers | efficiency | of loops |"
        )
        print("|---|---|---|---|---|---|---|---|---|", flush=True)
        for title, (more, parameters) in SETTINGS.items():
            folder = Path(name) / title
            folder.mkdir()
            manifest, chosen = copied(data, folder, copies * more), Settings.from_parameters(parameters)
            times = []
            for number in range(-1, rounds):  # the first warms up
                cubes = [folder / f"{number}-{workers}.zarr" for workers in (1, 2)]
                found = (
                    loop(manifest, chosen),
                    entire(manifest, chosen),
                    side_by_side(pool, manifest, chosen),
                    *(engine(manifest, chosen, client, cube) for client, cube in zip((one, two), cubes, strict=True)),
                )
                times += [found] if number >= 0 else []
            n = len(read_manifest(manifest).rows)
            alone, whole, beside, first, both = (
                1000 * statistics.median(column) / n for column in zip(*times, strict=True)
            )
            print(
                f"| {title} | {n} | {alone:.1f} | {whole:.1f} | {first:.1f} | {first / alone - 1:+.1%}, "
                f"{first / whole - 1:+.1%} | {both:.1f} | {first / both / 2:.2f} | {whole / beside:.2f} |",
                flush=True,
            )


def read_nothing(scan: ScanTask, settings: Settings) -> list[LesionTask]:
    """Stand in for reading: the lesions themselves are what is passed on."""
    return list(scan.lesions)


def extract_nothing(lesion: LesionTask, settings: Settings) -> Record:
    """Stand in for extraction: two numbers."""
    return Record(lesion.lesion, lesion.segmentation, "i", "m", 1, {KEY: np.ones(2)}, {})


@contextmanager
def cluster(workers: int) -> Iterator[tuple[str, psutil.Process]]:
    """Start a scheduler and workers as processes of their own; yield its address and process."""
    module = [sys.executable, "-m"]
    environment = os.environ | {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"}  # as docs/clusters.md says
    command = [*module, "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    with (
        subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as scheduler,
        tempfile.TemporaryDirectory() as folder,
    ):
        assert scheduler.stderr is not None
        address = next(m[0] for line in scheduler.stderr if (m := re.search(r"tcp://127\.0\.0\.1:\d+", line)))
        command = [*module, "distributed.cli.dask_worker", address, "--nworkers", str(workers), "--nthreads", "1"]
        command += ["--host", "127.0.0.1", "--no-dashboard", "--local-directory", folder]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as nannies:
            try:
                yield address, psutil.Process(scheduler.pid)
            finally:
                nannies.terminate()
                nannies.wait()
                scheduler.terminate()


def simulated(lesions: int, workers: int) -> None:
    """Print a row: lesions a second, and the memory of driver and scheduler."""
    settings = Settings.from_parameters(SMALL)
    warnings.filterwarnings("ignore", message=".*has no workers yet")
    with tempfile.TemporaryDirectory() as name, cluster(workers) as (address, scheduler), connect(address) as client:
        client.wait_for_workers(workers)
        manifest = Path(name) / "cohort.csv"
        with manifest.open("w") as file:
            file.write("lesion,patient,image,mask,label\n")
            file.writelines(
                f"P{i // 3}-{i % 3},P{i // 3},P{i // 3}.nii,P{i // 3}-m.nii,{i % 3 + 1}\n" for i in range(lesions)
            )
        me = psutil.Process()
        cohort = read_manifest(manifest)
        manifest_mib = mib(me)
        writer = CubeWriter.open(Path(name) / "cube.zarr", cohort, settings)
        scans = plan(cohort, writer.missing, writer.digests(), settings)
        planned_mib, driver, keeper, done = mib(me), mib(me), mib(scheduler), 0
        start = time.perf_counter()
        with writer:
            for record, _ in stream_records(client, scans, settings, read=read_nothing, extract=extract_nothing):
                writer.add(record)
                done += 1
                if done % 1000 == 0:
                    driver, keeper = max(driver, mib(me)), max(keeper, mib(scheduler))
        seconds = time.perf_counter() - start
        assert done == lesions
        memory = " | ".join(f"{value:.0f}" for value in (manifest_mib, planned_mib, driver, keeper))
        print(f"| {lesions} | {seconds:.0f} | {lesions / seconds:.0f} | {memory} |", flush=True)


def mib(process: psutil.Process) -> float:
    """Return what a process holds in memory."""
    return float(process.memory_info().rss) / 2**20


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    of_real = parts.add_parser("real")
    of_real.add_argument("data", type=Path)
    of_real.add_argument("--copies", type=int, default=8)
    of_real.add_argument("--rounds", type=int, default=3)
    of_simulated = parts.add_parser("simulated")
    of_simulated.add_argument("--lesions", type=int, nargs="+", default=[10_000, 100_000])
    of_simulated.add_argument("--workers", type=int, default=2)
    of_simulated.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part == "simulated" and options.one:
        simulated(options.lesions[0], options.workers)
        return
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}")
    if options.part == "real":
        real(options.data, options.copies, options.rounds)
        return
    print("| lesions | s | lesions/s | manifest MiB | planned MiB | driver, most MiB | scheduler, most MiB |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for lesions in options.lesions:  # each in a process of its own
        command = [sys.executable, __file__, "simulated", "--one", "--lesions", str(lesions)]
        subprocess.run([*command, "--workers", str(options.workers)], check=True)


if __name__ == "__main__":
    main()
