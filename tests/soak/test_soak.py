"""`kill -9` of drivers and workers at random moments: nothing is lost or wrong, and the end has the same bytes.

Four kills by default; `make soak` has a hundred, and a longer run to kill. HGPSCALE_SOAK_KILLS and HGPSCALE_SOAK_SEED
choose others.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import xarray as xr

from hgpscale.cube import open_cube, verify
from hgpscale.errors import CubeError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL"),
]

KILLS = int(os.environ.get("HGPSCALE_SOAK_KILLS", "4"))
SEED = int(os.environ.get("HGPSCALE_SOAK_SEED", "0"))
COPIES = 12 if KILLS > 10 else 6
"""How often each synthetic lesion stands in the manifest."""

# Flushes often, so that many kills fall into one.
DRIVER = """
import sys
from hgpscale.cube import CubeWriter
from hgpscale.engine import extract
CubeWriter.open.__func__.__kwdefaults__.update(flush_records=3, flush_seconds=0.05)
if __name__ == "__main__":
    done = extract(sys.argv[1], sys.argv[2], sys.argv[3], workers=2, on_event=lambda event: print("event", flush=True))
    sys.exit(0 if done.ok else 1)
"""

SETTINGS = """
imageType: {Original: {}, Square: {}}
featureClass: {firstorder: [], shape: [], gldm: []}
"""


class Place:
    """A cohort of several copies of synthetic lesions, and how to extract it."""

    def __init__(self, folder: Path, manifest: Path) -> None:
        self.folder = folder
        self.script, self.settings, self.manifest = folder / "driver.py", folder / "settings.yaml", folder / "all.csv"
        self.script.write_text(DRIVER)
        self.settings.write_text(SETTINGS)
        table = pd.read_csv(manifest, dtype=str)
        parts = []
        for copy in range(COPIES):
            links = {name: f"{name.removesuffix('.nii.gz')}_{copy}.nii.gz" for name in table["image"].unique()}
            for name, link in links.items():
                (folder / link).symlink_to(folder / name)
            parts.append(table.assign(lesion=table["lesion"] + f"_{copy}", image=table["image"].map(links)))
        self.table = pd.concat(parts)
        self.table.to_csv(self.manifest, index=False)

    def start(self, cube: Path) -> subprocess.Popen[str]:
        command = [sys.executable, str(self.script), str(self.manifest), str(cube), str(self.settings)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, copy_cohort: Callable[[Path, int], Path]) -> Place:
    folder = tmp_path_factory.mktemp("soak")
    return Place(folder, copy_cohort(folder, 4))


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def check(cube: Path, whole: xr.Dataset) -> int:
    """Check that all that is said to be done is right; return the number of vectors that are."""
    try:
        found = open_cube(cube).load()
    except CubeError as error:  # killed while it was made
        assert "no such cube" in str(error) or "not an hgpscale cube" in str(error)  # noqa: PT017
        return 0
    assert verify(cube).findings == []
    states = found.state.values
    done = np.asarray(states == "done")
    assert np.isin(states, ["done", "pending"]).all()
    names = list(found.family.values)
    for family in ("firstorder", "gldm"):
        right = np.asarray((found[family] == whole[family]).all(f"{family}_feature"))
        assert right[done[..., names.index(family)]].all()
    at = list(found.image_type.values).index("original")
    right = np.asarray((found["shape"] == whole["shape"]).all("shape_feature"))
    assert right[done[..., at, names.index("shape")]].all()
    return int(done.sum())


def workers_of(driver: subprocess.Popen[str]) -> list[psutil.Process]:
    try:
        children = psutil.Process(driver.pid).children(recursive=True)
        return [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    except psutil.NoSuchProcess:
        return []


def kill(victim: str, driver: subprocess.Popen[str], rng: random.Random) -> bool:
    """Kill the driver or one of its workers; False where there was none to kill."""
    if victim == "driver":
        driver.send_signal(signal.SIGKILL)
        return True
    workers = workers_of(driver)
    if not workers:
        return False
    try:
        rng.choice(workers).kill()
    except psutil.NoSuchProcess:
        return False
    return True


def test_no_kill_loses_or_spoils_anything(place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = random.Random(SEED)
    undisturbed = tmp_path / "whole.zarr"
    began = time.monotonic()
    driver = place.start(undisturbed)
    _, messages = driver.communicate(timeout=300)
    seconds = time.monotonic() - began
    assert driver.returncode == 0, messages
    expected, whole = content(undisturbed), open_cube(undisturbed).load()
    total = int((whole.state == "done").sum())
    assert total == len(place.table) * 5  # shape; firstorder and gldm of two images

    tried: Counter[str] = Counter()
    rounds = 0
    while sum(tried.values()) < KILLS:
        cube = tmp_path / f"{rounds}.zarr"
        rounds += 1
        before = 0
        while before < total:
            driver = place.start(cube)
            victim = rng.choice(["driver", "driver", "worker"])
            last = sum(tried.values()) >= KILLS
            if not last:
                begun = time.monotonic()
                with suppress(subprocess.TimeoutExpired):
                    driver.wait(rng.uniform(0.2, 1.1 * seconds))
                    if before == 0:  # a whole run: the machine has become quicker
                        seconds = min(seconds, time.monotonic() - begun)
                workers = workers_of(driver)
                if driver.poll() is None and kill(victim, driver, rng):
                    tried[victim] += 1
            if last or victim == "worker":
                # A worker that dies costs its run nothing but time.
                _, messages = driver.communicate(timeout=300)
                assert driver.returncode == 0, messages
            else:
                driver.communicate(timeout=300)
                _, alive = psutil.wait_procs(workers, timeout=20)
                assert not alive, "workers outlive their driver"
            done = check(cube, whole)
            assert done >= before, "something that was done is no more"
            before = done
        if not open_cube(cube).attrs["finished"]:  # killed between the last state and saying so: the next run does
            driver = place.start(cube)
            _, messages = driver.communicate(timeout=300)
            assert driver.returncode == 0, messages
        assert content(cube) == expected
    with capsys.disabled():
        print(f"\nkills: {dict(tried)}, in {rounds} cubes of {total} vectors; lost 0, wrong 0")  # noqa: T201
