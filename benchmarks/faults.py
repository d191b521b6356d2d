"""Let things die while a cohort is extracted on a cluster of real processes, and count what that costs and loses.

    python benchmarks/faults.py [FAULT ...]

A row for each fault, all of them by default. ``computed`` is how often the extraction of a lesion was begun, counted by
the workers themselves (`fault_preload.py`), ``recomputed`` how much more often than there are lesions; ``lost`` rows
are still pending at the end, ``wrong`` ones differ in any bit from an undisturbed run's. Exit status 1 if there are
any, or if a count is another one than planned: where the moment of a fault is chance, that is the number of extractions
that it reached and whose record never came to the driver. Rows that cut a network take root and the command ``ip``, and
are left out without. About four minutes on two cores.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import pandas as pd
from fault_site import LAST, Network, Run, Site, network_missing
from kill_resume import content

from hgpscale.cube import open_cube
from hgpscale.errors import CubeError
from hgpscale.testing import make_cohort

LESIONS = 24
GUILTY = "L14"  # the lesion that goes wrong, where one does: with three a scan, the last one of its scan
ALWAYS = 1000
CUT_SECONDS = 30.0
RESTART_SECONDS = 3.0  # until whoever looks after scheduler and nodes has started them anew
_DONE_BEFORE = 6  # lesions, when something from outside happens
_QUIET_SECONDS = 2.0
_RUN_SECONDS = 300.0


def nothing(site: Site, run: Run) -> None:
    """Leave all in peace."""


def node_lost(site: Site, run: Run) -> None:
    """End all of a node while it works."""
    _well_under_way(site, run)
    run.struck |= site.processes(LAST)
    site.stop_node(LAST)


def node_replaced(site: Site, run: Run) -> None:
    """End all of a node, and start another one later."""
    node_lost(site, run)
    time.sleep(RESTART_SECONDS)
    site.start_node()


def scheduler_lost(site: Site, run: Run) -> None:
    """End the scheduler; it and the nodes are started anew, as a cluster's service manager would."""
    _well_under_way(site, run)
    site.scheduler.kill()
    time.sleep(RESTART_SECONDS)
    site.stop()
    run.struck |= {process for calls in run.calls().values() for process, _ in calls}
    site.start()


def node_cut(site: Site, run: Run) -> None:
    """Cut the wire to a node for a while."""
    assert site.network is not None
    _well_under_way(site, run)
    run.struck |= site.processes(LAST)
    site.network.cut()
    time.sleep(CUT_SECONDS)
    site.network.mend()


def driver_cut(site: Site, run: Run) -> None:
    """Cut the wire to the driver for a while."""
    assert site.network is not None
    _well_under_way(site, run)
    site.network.cut()
    time.sleep(CUT_SECONDS)
    run.exposed |= run.in_flight  # nothing came or went meanwhile
    site.network.mend()


def driver_killed(site: Site, run: Run) -> None:
    """End the driver when the cube has some rows, and run it again when the cluster has forgotten the first's tasks."""
    run.wait(lambda: stored(run.cube))
    run.driver.kill()
    run.driver.wait()
    before = -1
    while (now := sum(map(len, run.calls().values()))) != before:
        before = now
        time.sleep(_QUIET_SECONDS)
    run.exposed |= run.calls().keys() - stored(run.cube)
    run.drive()


def _well_under_way(site: Site, run: Run) -> None:
    run.wait(lambda: len(run.delivered) >= _DONE_BEFORE and run.busy & site.processes(LAST))


@dataclass(frozen=True)
class Fault:
    """What goes wrong, and what it may cost.

    Attributes
    ----------
    name, title
        How to call it.
    kind, times
        What the guilty lesion's extraction does, and in how many attempts (`fault_preload.go_wrong`).
    strike
        What is done from outside while the driver runs.
    recomputed
        What it costs; None: what the fault reached.
    failed
        How many lesions fail with it.
    slow
        Seconds that each lesion takes longer, so that there is a while to do something in.
    workers, a_scan
        Of each node; lesions.
    cut
        Who is at the other end of a wire that is cut: node or driver.
    timeout
        After how long a silent connection counts as broken.
    deadline
        Of each task.

    """

    name: str
    title: str
    kind: str = ""
    times: int = 0
    strike: Callable[[Site, Run], None] = nothing
    recomputed: int | None = None
    failed: int = 0
    slow: float = 0.0
    workers: int = 1
    a_scan: int = 1
    cut: str = ""
    timeout: str = "2 minutes"
    deadline: float = 60.0


FAULTS = (
    Fault("nothing", "nothing", recomputed=0),
    Fault("worker", "a worker is killed at a lesion", "kill", 1, recomputed=1),
    Fault("worker-scan", "the same, three lesions a scan", "kill", 1, a_scan=3),
    Fault("workers", "every worker is killed at one lesion", "kill", ALWAYS, recomputed=2, failed=1),
    Fault("segfault", "a lesion crashes its worker, always", "segfault", ALWAYS, recomputed=2, failed=1),
    Fault("memory", "a lesion takes all memory, always", "memory", ALWAYS, recomputed=2, failed=1),
    Fault("hang", "a lesion hangs, always", "hang", ALWAYS, recomputed=2, failed=1, deadline=3),
    Fault("node", "a node of two is lost", strike=node_lost, slow=0.4, workers=2),
    Fault("node-back", "the same, replaced after 3 s", strike=node_replaced, slow=0.4, workers=2),
    Fault("scheduler", "the scheduler is lost, back after 3 s", strike=scheduler_lost, slow=0.2),
    Fault("driver", "the driver is killed, run again", strike=driver_killed, slow=0.6),
    Fault("cut-node", "no network to a node for 30 s", strike=node_cut, slow=0.2, cut="node"),
    Fault("cut-driver", "no network to the driver for 30 s", strike=driver_cut, slow=0.2, cut="driver"),
    Fault(
        "cut-node-30", "the same, a node, Dask's own time-out", strike=node_cut, slow=0.2, cut="node", timeout="30 s"
    ),
    Fault("cut-driver-30", "the same, the driver", strike=driver_cut, slow=0.2, cut="driver", timeout="30 s"),
)


class Row(NamedTuple):
    """What a fault has cost; `planned` is what it may have recomputed, `said` the driver's last words."""

    fault: Fault
    lesions: int
    computed: int
    recomputed: int
    failed: int
    lost: int
    wrong: int
    seconds: float
    planned: int
    said: str

    def __str__(self) -> str:
        counts = (self.lesions, self.computed, self.recomputed, self.failed, self.lost, self.wrong)
        return f"| {self.fault.title} | {' | '.join(map(str, counts))} | {self.seconds:.0f} |"

    @property
    def problems(self) -> list[str]:
        """What is not as it should be."""
        found = {"recomputed": (self.recomputed, self.planned), "failed": (self.failed, self.fault.failed)}
        found |= {"lost": (self.lost, 0), "wrong": (self.wrong, 0)}
        some = [f"{name} {number}, expected {wanted}" for name, (number, wanted) in found.items() if number != wanted]
        return [*some, self.said] if some and self.said else some


class Bench:
    """Runs one fault after another; a context manager, which ends the cluster that some of them share.

    Parameters
    ----------
    folder
        Where all that is made goes.

    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._stack = folder, ExitStack()
        self._cohorts: dict[int, tuple[Path, Path]] = {}
        self._shared: Site | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def measure(self, fault: Fault) -> Row:
        """Extract a cohort while something goes wrong."""
        manifest, whole = self._cohort(fault.a_scan)
        folder = self._folder / fault.name
        folder.mkdir()
        plan = {"lesion": GUILTY, "kind": fault.kind, "times": fault.times, "slow": fault.slow}
        with ExitStack() as stack:
            site = self._site(fault, folder, stack)
            run = Run(site, folder, manifest, fault.deadline, plan)
            began = time.monotonic()
            run.drive()
            fault.strike(site, run)
            with suppress(subprocess.TimeoutExpired):
                run.driver.wait(_RUN_SECONDS)
            seconds = time.monotonic() - began
        return outcome(fault, run, whole, seconds)

    def _cohort(self, a_scan: int) -> tuple[Path, Path]:
        """Return a manifest with so many lesions a scan, and the cube of an undisturbed run on this machine."""
        if a_scan not in self._cohorts:
            manifest = make_manifest(self._folder / f"of-{a_scan}", a_scan)
            cube = manifest.with_name("whole.zarr")
            command = [sys.executable, "-m", "hgpscale", "extract", str(manifest), str(cube), "-q", "--workers", "2"]
            subprocess.run(command, check=True)
            self._cohorts[a_scan] = manifest, cube
        return self._cohorts[a_scan]

    def _site(self, fault: Fault, folder: Path, stack: ExitStack) -> Site:
        """Return a cluster: of its own where it is struck from outside; one whose workers die puts itself right."""
        if fault.strike is not nothing:
            network = stack.enter_context(Network()) if fault.cut else None
            return stack.enter_context(
                Site(folder, fault.workers, network, driver_apart=fault.cut == "driver", timeout=fault.timeout)
            )
        if self._shared is None:
            shared = self._folder / "shared"
            shared.mkdir()
            self._shared = self._stack.enter_context(Site(shared))
        self._shared.wait_for_workers()
        return self._shared


def make_manifest(folder: Path, a_scan: int) -> Path:
    """Write a cohort in which each scan has so many lesions: scans and outlines are a few, under many names."""
    table = pd.read_csv(make_cohort(folder, patients=4), dtype=str).drop_duplicates("image")
    rows = []
    for scan in range(LESIONS // a_scan):
        row = table.iloc[scan % len(table)]
        image = f"scans/{scan}.nii.gz"
        (folder / image).symlink_to(folder / row["image"])
        rows += [{**row, "image": image, "lesion": f"L{scan * a_scan + index}"} for index in range(a_scan)]
    path = folder / "faults.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def outcome(fault: Fault, run: Run, whole: Path, seconds: float) -> Row:
    """Count what has become of a run."""
    found, right = rows(run.cube), rows(whole)
    states = {lesion: found[lesion].state if lesion in found else "pending" for lesion in right}
    failed = {lesion for lesion, state in states.items() if state == "failed"}
    lost = {lesion for lesion, state in states.items() if state == "pending"}
    settled = right.keys() - failed - lost
    wrong = sum(found[lesion] != right[lesion] for lesion in settled) + sum(lesion != GUILTY for lesion in failed)
    if not (failed or lost or wrong):
        wrong += content(run.cube) != content(whole)
    started, delivered = run.calls(), run.delivered
    if fault.kind:
        run.struck |= {process for process, _ in started[GUILTY]}
    computed = sum(map(len, started.values()))
    reached = sum(
        process in run.struck or lesion in run.exposed
        for lesion, calls in started.items()
        for process in in_vain(calls, delivered.get(lesion))
    )
    planned = reached - len(failed) if fault.recomputed is None else fault.recomputed
    said = run.output.read_text().strip().rpartition("\n")[2]
    counts = len(right), computed, computed - len(right), len(failed), len(lost), wrong
    return Row(fault, *counts, seconds, planned, said)


def in_vain(calls: Collection[tuple[int, str]], delivered: str | None) -> list[int]:
    """Return the processes of a lesion's calls, but for the one at the address that its record came from."""
    processes = {address: [process for process, at in calls if at == address] for _, address in calls}
    if delivered is not None:
        processes[delivered].pop()
    return list(chain(*processes.values()))


class Stored(NamedTuple):
    """A row of a cube: done, failed, pending or, in part, several of these; and all that the cube holds for it."""

    state: str
    values: tuple[bytes, ...]


def rows(cube: Path) -> dict[str, Stored]:
    """Return the rows of a cube; of one that was not even made there are none."""
    try:
        data = open_cube(cube).load()
    except CubeError:
        return {}
    found = {}
    for number, lesion in enumerate(data.lesion.values):
        row = {name: values[number] for name, values in data.items() if values.dims[:1] == ("lesion",)}
        held = tuple(
            repr(values.values.tolist()).encode() if values.dtype == object else values.values.tobytes()
            for values in row.values()
        )
        found[str(lesion)] = Stored(" ".join(sorted(set(row["state"].values.ravel()))), held)
    return found


def stored(cube: Path) -> set[str]:
    """Return the lesions that a cube, which a driver may be writing, has something of."""
    return {lesion for lesion, row in rows(cube).items() if row.state != "pending"}


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [fault.name for fault in FAULTS]
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=f"of {', '.join(names)}")
    options = parser.parse_args()
    if unknown := set(options.faults) - set(names):
        parser.error(f"no such fault: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    folder = Path(tempfile.mkdtemp())
    missing, wrong = network_missing(), False
    print("| fault | lesions | computed | recomputed | failed | lost | wrong | s |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    with Bench(folder) as bench:
        for fault in FAULTS:
            if options.faults and fault.name not in options.faults:
                continue
            if fault.cut and missing:
                print(f"{fault.title}: left out, {missing}", file=sys.stderr)
                continue
            row = bench.measure(fault)
            print(row, flush=True)
            wrong |= bool(row.problems)
            for problem in row.problems:
                print(f"{fault.title}: {problem}", file=sys.stderr)
    if wrong:
        print(f"what all processes have said is in {folder}", file=sys.stderr)
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
