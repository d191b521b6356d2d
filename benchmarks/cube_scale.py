"""A cube of many lesions: how fast it is written and resumed, in how much memory, and read beside a Parquet table.

    python benchmarks/cube_scale.py [--lesions 10000 100000] [--rounds 5] [--folder DIR] [--keep]

A lesion has 4 regions, 12 image types and 93 features: 4464 random numbers, which hardly compress. The writer takes
records one by one; making them is not in its time. Parquet holds the same wide table: row groups of 4096 lesions, zstd,
no dictionaries. Every figure comes from a process of its own and the page cache is warm; times of reading are medians
over `--rounds` calls, each of which opens cube or file anew, and what was read is compared.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hgpscale.cohort.manifest import Cohort
    from hgpscale.record import Record
    from hgpscale.settings import Settings

ROW_GROUP = 4096
BATCH = 512
PARAMETERS = {
    "setting": {"regions": {"lesion": None, "core": 4, "rim": 3, "margin": 4}},
    "imageType": {"Original": {}, "Wavelet": {}, "LoG": {"sigma": [1, 3, 5]}},
    "featureClass": dict.fromkeys(("firstorder", "glcm", "glrlm", "glszm", "gldm", "ngtdm")),
}
FEATURE = {"region": "rim", "image_type": "wavelet-LLH", "name": "Contrast"}
READS = {
    "feature": "one feature, all lesions",
    "batch": f"a batch of {BATCH}, all features",
    "frame": "one region's 1116 columns",
}


def settings() -> Settings:
    """Return the settings of the cube."""
    from hgpscale.settings import Settings

    return Settings.from_parameters(PARAMETERS)


def write_manifest(path: Path, lesions: int) -> None:
    """Write a manifest of lesions whose files nobody needs."""
    with path.open("w") as file:
        file.write("lesion,patient,image,mask,centre,age\n")
        for i in range(lesions):
            patient = f"P{i // 3:05d}"
            file.write(f"{patient}-{i % 3 + 1},{patient},{patient}/ct.nii.gz,{patient}/{i % 3 + 1}.nii.gz,")
            file.write(f"{'ABCD'[i % 4]},{40 + i // 3 % 40}\n")


def records(cohort: Cohort, keys: dict[tuple[str, str, str], int]) -> Iterator[Record]:
    """Yield a record of random numbers for each lesion; `keys` say how many each vector has."""
    import numpy as np

    from hgpscale.record import Record

    random = np.random.default_rng(0)
    ends = np.cumsum(list(keys.values()))
    parts = {key: slice(end - width, end) for (key, width), end in zip(keys.items(), ends, strict=True)}
    for row in cohort.rows:
        numbers = random.random(ends[-1])
        values = {key: numbers[part] for key, part in parts.items()}
        yield Record(row.lesion, row.segmentation, row.image_text, row.mask_text, 1, values)


def write(folder: Path) -> dict[str, Any]:
    """Write the cube."""
    from hgpscale.cohort import read_manifest
    from hgpscale.contents import Contents
    from hgpscale.cube import CubeWriter

    chosen = settings()
    keys = {key: len(chosen.features[key[2]]) for key in Contents.of(chosen).keys}
    cohort = read_manifest(folder / "manifest.csv")
    peak_cohort = peak_mib()
    start = time.perf_counter()
    writer = CubeWriter.open(folder / "cube.zarr", cohort, chosen)
    opened = time.perf_counter() - start
    peak_before, seconds = peak_mib(), 0.0
    made = records(cohort, keys)
    while record := next(made, None):
        start = time.perf_counter()
        writer.add(record)
        seconds += time.perf_counter() - start
    start = time.perf_counter()
    with writer:
        pass
    seconds += time.perf_counter() - start
    files = [entry.stat().st_size for entry in walk(folder / "cube.zarr")]
    return {
        "numbers": len(cohort.rows) * sum(keys.values()),
        "make_seconds": opened,
        "seconds": seconds,
        "files": len(files),
        "bytes": sum(files),
        "peak_cohort": peak_cohort,
        "peak_before": peak_before,
        "peak": peak_mib(),
    }


def resume(folder: Path) -> dict[str, Any]:
    """Open the finished cube with the same manifest, as a run does that finds nothing to do."""
    from hgpscale.cohort import read_manifest
    from hgpscale.cube import CubeWriter

    chosen, cohort = settings(), read_manifest(folder / "manifest.csv")
    start = time.perf_counter()
    with CubeWriter.open(folder / "cube.zarr", cohort, chosen) as writer:
        seconds = time.perf_counter() - start
        assert not writer.missing
    return {"seconds": seconds, "peak": peak_mib()}


def pack(folder: Path) -> dict[str, Any]:
    """Pack the cube."""
    import hgpscale.cube

    start = time.perf_counter()
    packed = hgpscale.cube.pack(folder / "cube.zarr", folder / "packed.zarr")
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "files": packed.packed_files, "bytes": packed.packed_bytes, "peak": peak_mib()}


def parquet(folder: Path) -> dict[str, Any]:
    """Write the same table to Parquet, from the same random numbers."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from hgpscale.catalog import flat_name
    from hgpscale.cohort import read_manifest
    from hgpscale.contents import Contents
    from hgpscale.cube.schema import prefix

    chosen, cohort = settings(), read_manifest(folder / "manifest.csv")
    names = [
        prefix("", region, several=False) + flat_name(image, family, name)
        for region, image, family in Contents.of(chosen).keys
        for name in chosen.features[family]
    ]
    table = cohort.columns.reset_index()
    front = [pa.array(table[name]) for name in table]
    schema = pa.schema([(name, part.type) for name, part in zip(table, front, strict=True)])
    schema = pa.unify_schemas([schema, pa.schema([(name, pa.float64()) for name in names])])
    random = np.random.default_rng(0)
    start, path = time.perf_counter(), folder / "table.parquet"
    with pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=False) as writer:
        for first in range(0, len(table), ROW_GROUP):
            numbers = random.random((min(ROW_GROUP, len(table) - first), len(names)))
            columns = [part[first : first + ROW_GROUP] for part in front]
            columns += [pa.array(np.ascontiguousarray(column)) for column in numbers.T]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
    return {"seconds": time.perf_counter() - start, "files": 1, "bytes": path.stat().st_size, "peak": peak_mib()}


def read(folder: Path, what: str, source: str, rounds: int) -> dict[str, Any]:
    """Read some of the table several times."""
    call = {"table.parquet": read_parquet, "cube.zarr": read_cube, "packed.zarr": read_cube}[source](
        folder / source, what
    )
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        found = call()
        times.append(time.perf_counter() - start)
    peak = peak_mib()
    return {"seconds": statistics.median(times), "peak": peak, "shape": found.shape, "crc": checksum(found)}


def read_cube(path: Path, what: str) -> Callable[[], Any]:
    """Return what reads a cube."""
    from hgpscale.cube import open_cube

    def feature() -> Any:
        glcm = open_cube(path).glcm.sel(segmentation="default")
        region, image, name = FEATURE.values()
        return glcm.sel(region=region, image_type=image, glcm_feature=name).values

    def frame() -> Any:
        return open_cube(path).hgp.select(regions="lesion").hgp.to_frame()

    return {"feature": feature, "batch": lambda: next(open_cube(path).hgp.batches(BATCH)), "frame": frame}[what]


def read_parquet(path: Path, what: str) -> Callable[[], Any]:
    """Return what reads a Parquet file."""
    import pandas as pd
    import pyarrow.parquet as pq

    region, image, name = FEATURE.values()
    column = f"{region}__{image}_glcm_{name}"
    columns = [name for name in pq.read_schema(path).names if "__" not in name]

    def batch() -> Any:
        with pq.ParquetFile(path) as file:
            return next(file.iter_batches(BATCH)).to_pandas()

    return {
        "feature": lambda: pd.read_parquet(path, columns=[column])[column].to_numpy(),
        "batch": batch,
        "frame": lambda: pd.read_parquet(path, columns=columns),
    }[what]


def checksum(found: Any) -> int:
    """Return one number that tells two arrays or frames of features from one another."""
    import numpy as np

    if found.ndim == 1:
        return zlib.crc32(np.ascontiguousarray(found))
    features = [name for name in found.columns if "_" in name]
    return zlib.crc32(np.ascontiguousarray(found[features].to_numpy()))


def walk(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Yield every file below a folder."""
    for entry in os.scandir(folder):
        if entry.is_dir():
            yield from walk(Path(entry.path))
        else:
            yield entry


def peak_mib() -> float:
    """Return the peak memory of this process so far."""
    # Not getrusage: a process inherits its parent's peak there.
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(peak.split()[1]) / 1024


STEPS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "write": write,
    "resume": resume,
    "pack": pack,
    "parquet": parquet,
}


def step(folder: Path, *what: str) -> dict[str, Any]:
    """Run a step in a process of its own."""
    command = [sys.executable, __file__, "--folder", str(folder), "--step", *what]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout))


def measure(lesions: int, folder: Path, rounds: int) -> tuple[list[str], list[str]]:
    """Do everything with one number of lesions; return rows of the two tables."""
    write_manifest(folder / "manifest.csv", lesions)
    wrote, again, packed, table = (step(folder, name) for name in STEPS)
    rate = wrote["numbers"] * 8 / 1e6 / wrote["seconds"]
    rows = [
        f"| {lesions} | {wrote['make_seconds']:.1f} | {wrote['seconds']:.1f} | {lesions / wrote['seconds']:.0f} | "
        f"{rate:.0f} | {wrote['files']} | {wrote['bytes'] / 1e6:.0f} | {wrote['peak_cohort']:.0f} | "
        f"{wrote['peak_before']:.0f} | {wrote['peak']:.0f} | {again['seconds']:.2f} | {again['peak']:.0f} | "
        f"{packed['seconds']:.1f} | {packed['files']} | {packed['peak']:.0f} | {table['seconds']:.1f} | "
        f"{table['bytes'] / 1e6:.0f} |"
    ]
    reading = []
    for what, text in READS.items():
        sources = ("cube.zarr", "packed.zarr", "table.parquet")
        found = [step(folder, what, source, str(rounds)) for source in sources]
        assert len({one["crc"] for one in found}) == 1, f"{what}: not the same numbers: {found}"
        cube, sealed, theirs = (1e3 * one["seconds"] for one in found)
        peaks = " | ".join(f"{one['peak']:.0f}" for one in found)
        reading.append(
            f"| {lesions} | {text} | {cube:.0f} | {sealed:.0f} | {theirs:.0f} | {theirs / cube:.2f} | "
            f"{theirs / sealed:.2f} | {peaks} |"
        )
    return rows, reading


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lesions", nargs="+", type=int, default=[10_000, 100_000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where the cubes are written")
    parser.add_argument("--keep", action="store_true", help="leave them there")
    parser.add_argument("--step", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        name, *more = options.step
        found = STEPS[name](options.folder) if not more else read(options.folder, name, more[0], int(more[1]))
        print(json.dumps(found))
        return
    folder = options.folder or Path(tempfile.mkdtemp())
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}")
    written, reading = [], []
    for lesions in options.lesions:
        here = folder / str(lesions)
        here.mkdir(parents=True)
        try:
            rows, more = measure(lesions, here, options.rounds)
        finally:
            if not options.keep:
                shutil.rmtree(here)
        written += rows
        reading += more
    print(
        "| lesions | make s | write s | lesions/s | MB/s | files | MB | manifest MiB | made MiB | written MiB "
        "| resume s | resume MiB | pack s | packed files | pack MiB | Parquet s | Parquet MB |"
    )
    print("|---" * 17 + "|")
    print("\n".join(written))
    print()
    print(
        "| lesions | read | cube ms | packed ms | Parquet ms | Parquet/cube | Parquet/packed | cube MiB | packed MiB "
        "| Parquet MiB |"
    )
    print("|---" * 10 + "|")
    print("\n".join(reading))


if __name__ == "__main__":
    main()
