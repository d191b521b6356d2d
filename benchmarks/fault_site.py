"""A small cluster for `faults.py`: scheduler, nodes and driver are processes of their own, and can be cut off.

A node is one ``dask worker`` with its nannies and workers. Where a network is to be cut, one side of it is in a network
namespace of its own, behind a pair of virtual interfaces.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import fault_preload
import psutil
from distributed import Client

NODES = 2
LAST = NODES - 1  # the node that faults are about
PATIENCE = 90.0  # seconds that anything but a whole run may take
_LOOPBACK = "127.0.0.1"
_MEMORY = "1GiB"  # of a worker
_NOWHERE = "02:00:00:00:00:01"  # an address that no interface has


class Network:
    """Two ends of a wire, `here` and `there`, the latter in a namespace of its own."""

    def __init__(self) -> None:
        number = os.getpid()
        self.name = f"hgp{number}"
        self.ends = f"{self.name}a", f"{self.name}b"
        # Of the range that is set aside for tests of networks: RFC 2544.
        self.here, self.there = (f"198.18.{number % 250}.{end}" for end in (1, 2))

    @property
    def within(self) -> list[str]:
        """What a command begins with that runs at the far end."""
        return ["ip", "netns", "exec", self.name]

    def __enter__(self) -> Self:
        here, there = self.ends
        try:
            for command in (
                f"netns add {self.name}",
                f"link add {here} type veth peer name {there} netns {self.name}",
                f"address add {self.here}/30 dev {here}",
                f"link set {here} up",
                f"-n {self.name} address add {self.there}/30 dev {there}",
                f"-n {self.name} link set {there} up",
                f"-n {self.name} link set lo up",
            ):
                _ip(command)
        except subprocess.CalledProcessError:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for command in (f"link delete {self.ends[0]}", f"netns delete {self.name}"):
            with suppress(subprocess.CalledProcessError):
                _ip(command)

    def cut(self) -> None:
        """Let all that is sent vanish, either way, without a word to the sender: as for a machine that is not there."""
        _ip(f"neighbour replace {self.there} lladdr {_NOWHERE} nud permanent dev {self.ends[0]}")
        _ip(f"-n {self.name} neighbour replace {self.here} lladdr {_NOWHERE} nud permanent dev {self.ends[1]}")

    def mend(self) -> None:
        """Let it through again."""
        _ip(f"neighbour delete {self.there} dev {self.ends[0]}")
        _ip(f"-n {self.name} neighbour delete {self.here} dev {self.ends[1]}")


def _ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True, capture_output=True)


def network_missing() -> str:
    """Say why no network can be made here; empty where one can."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "cutting a network takes root on Linux"
    if shutil.which("ip") is None:
        return "cutting a network takes the command ip (apt-get install iproute2)"
    try:
        with Network() as network:
            network.cut()
    except subprocess.CalledProcessError as error:
        return f"no network namespace can be made here: {error.stderr.decode().strip()}"
    return ""


class Site:
    """A scheduler and two nodes; all that is started here ends with it.

    Parameters
    ----------
    folder
        Its own.
    workers
        How many each node has.
    network
        A wire to the last node; where `driver_apart`, to the driver.
    driver_apart
        Which of the two.
    timeout
        After how long a silent connection counts as broken.

    """

    def __init__(
        self,
        folder: Path,
        workers: int = 1,
        network: Network | None = None,
        *,
        driver_apart: bool = False,
        timeout: str = "2 minutes",
    ) -> None:
        self.timeout = timeout
        self.folder, self.workers, self.network, self.driver_apart = folder, workers, network, driver_apart
        self.host = _LOOPBACK if network is None else network.here
        with socket.create_server((self.host, 0)) as free:
            self.address = f"tcp://{self.host}:{free.getsockname()[1]}"
        self.nodes: list[subprocess.Popen[bytes]] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with self._stack as stack:
            self._output = stack.enter_context((self.folder / "processes.log").open("ab"))
            stack.callback(self.stop)
            self.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def start(self) -> None:
        """Start scheduler and nodes, and wait for all workers."""
        self.scheduler = self._spawn(
            "distributed.cli.dask_scheduler", "--host", self.host, "--port", self.address.rpartition(":")[2]
        )
        self.nodes = []
        for _ in range(NODES):
            self.start_node()
        self.wait_for_workers()

    def wait_for_workers(self) -> None:
        """Wait until all workers are there, those also that come after some that died."""
        with Client(self.address, timeout=PATIENCE, set_as_default=False) as client:
            client.wait_for_workers(NODES * self.workers, timeout=PATIENCE)

    def start_node(self) -> None:
        """Start one more node."""
        far = self.network if len(self.nodes) == LAST and not self.driver_apart else None
        self.nodes.append(
            self._spawn(
                "distributed.cli.dask_worker", self.address, "--nworkers", str(self.workers), "--nthreads", "1",
                "--host", self.host if far is None else far.there, "--memory-limit", _MEMORY,
                "--local-directory", str(self.folder), "--preload", fault_preload.__file__,
                within=[] if far is None else far.within,
            )
        )  # fmt: skip

    def drive(self, *arguments: str, output: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start what a user types."""
        within = self.network.within if self.network is not None and self.driver_apart else []
        arguments = "extract", *arguments, "-q", "--scheduler", self.address
        driver = self._spawn("hgpscale", *arguments, within=within, output=output)
        self._stack.callback(_end, driver)
        return driver

    def _spawn(
        self, module: str, *arguments: str, within: Iterable[str] = (), output: IO[bytes] | None = None
    ) -> subprocess.Popen[bytes]:
        pages = ["--no-dashboard", "--dashboard-address", f"{_LOOPBACK}:0"] if module.startswith("distributed") else []
        environment = os.environ | {
            fault_preload.FOLDER: str(self.folder),
            # As docs/clusters.md says.
            "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0",
            "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": self.timeout,
        }
        command = [*within, sys.executable, "-m", module, *arguments, *pages]
        said = output or self._output
        return subprocess.Popen(command, env=environment, stdout=said, stderr=said)

    def stop(self) -> None:
        """End scheduler and nodes at once."""
        _end(self.scheduler)
        for number in range(len(self.nodes)):
            self.stop_node(number)

    def stop_node(self, number: int) -> None:
        """End a node's nannies and workers at once; the nannies first, which would start others."""
        processes = _tree(self.nodes[number].pid)
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.nodes[number].wait()
        psutil.wait_procs(processes, timeout=PATIENCE)

    def processes(self, number: int) -> set[int]:
        """Return the processes of a node."""
        return {process.pid for process in _tree(self.nodes[number].pid)}


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def _tree(pid: int) -> list[psutil.Process]:
    """Return a process and all below it."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


class Run:
    """One extraction on a site, and what its driver and the workers tell of it.

    Attributes
    ----------
    struck
        Processes that a fault reached.
    exposed
        Lesions that it reached, whichever process had them.

    """

    def __init__(self, site: Site, folder: Path, manifest: Path, deadline: float, plan: dict[str, Any]) -> None:
        self.site, self.folder, self.manifest, self.deadline = site, folder, manifest, deadline
        self.cube, self.log, self.output = folder / "cube.zarr", folder / "run.jsonl", folder / "driver.log"
        self.struck: set[int] = set()
        self.exposed: set[str] = set()
        (site.folder / fault_preload.PLAN).write_text(json.dumps({"folder": str(folder), **plan}))

    def drive(self) -> None:
        """Start the driver, or start it again."""
        with self.output.open("ab") as output:
            self.driver = self.site.drive(
                str(self.manifest), str(self.cube), "--log", str(self.log), "--deadline", str(self.deadline),
                output=output,
            )  # fmt: skip

    def wait(self, condition: Callable[[], object]) -> None:
        """Wait until something is so."""
        ends = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > ends or self.driver.poll() is not None:
                raise TimeoutError(f"what is waited for never came; see {self.folder}")
            time.sleep(0.05)

    def calls(self, kind: str = "started") -> dict[str, list[tuple[int, str]]]:
        """Return process and address of each extraction that was started, or ended, by lesion."""
        return {
            path.stem: [(int(pid), address) for pid, address in map(str.split, path.read_text().splitlines())]
            for path in self.folder.glob(f"*.{kind}")
        }

    @property
    def busy(self) -> set[int]:
        """Processes that are within a lesion, or died in one."""
        started, ended = (Counter(chain(*self.calls(kind).values())) for kind in ("started", "ended"))
        return {process for process, _ in started - ended}

    @property
    def delivered(self) -> dict[str, str]:
        """Lesions whose record came from a worker, and that worker's address."""
        told = (event for event in self._events() if event["event"] == "lesion_done")
        return {event["lesion"]: event["address"] for event in told if "address" in event}

    @property
    def in_flight(self) -> set[str]:
        """Lesions that the driver has given to the scheduler and is waiting for."""
        given: set[str] = set()
        for event in self._events():
            match event["event"]:
                case "lesion_submitted":
                    given.add(event["lesion"])
                case "lesion_done":
                    given.discard(event["lesion"])
        return given

    def _events(self) -> list[dict[str, Any]]:
        """Return what the driver has told until now; a line that it is just writing is left out."""
        text = self.log.read_text() if self.log.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
