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
from dataclasses import dataclass, field
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


@dataclass
class Site:
    """A scheduler, nodes, and the folder in which workers count; all that it has started ends with it.

    `network` is the wire to the last node; where `driver_apart`, to the driver.
    """

    folder: Path
    manifest: Path
    cube: Path
    workers: int = 1  # of each node
    network: Network | None = None
    driver_apart: bool = False
    deadline: float = 60.0
    nodes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    struck: set[int] = field(default_factory=set)  # processes that the fault reached
    exposed: set[str] = field(default_factory=set)  # lesions that it reached, whichever process had them

    def __post_init__(self) -> None:
        self.host = _LOOPBACK if self.network is None else self.network.here
        with socket.create_server((self.host, 0)) as free:
            self.address = f"tcp://{self.host}:{free.getsockname()[1]}"
        self.log, self.said = self.folder / "run.jsonl", self.folder / "driver.log"
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with self._stack:
            self._output = self._stack.enter_context((self.folder / "processes.log").open("ab"))
            self._stack.callback(self.stop)
            self.start()
            self._stack = self._stack.pop_all()
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

    def drive(self) -> None:
        """Start what a user types."""
        with self.said.open("ab") as said:
            self.driver = self._spawn(
                "hgpscale", "extract", str(self.manifest), str(self.cube), "-q", "--scheduler", self.address,
                "--log", str(self.log), "--deadline", str(self.deadline),
                within=self.network.within if self.network is not None and self.driver_apart else [], output=said,
            )  # fmt: skip
        self._stack.callback(_end, self.driver)

    def _spawn(
        self, module: str, *arguments: str, within: Iterable[str] = (), output: IO[bytes] | None = None
    ) -> subprocess.Popen[bytes]:
        pages = ["--no-dashboard", "--dashboard-address", f"{_LOOPBACK}:0"] if module.startswith("distributed") else []
        environment = os.environ | {
            fault_preload.FOLDER: str(self.folder),
            # As in deploy/kubernetes: hgpscale itself decides how often a lesion is tried.
            "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0",
        }
        return subprocess.Popen(
            [*within, sys.executable, "-m", module, *arguments, *pages],
            env=environment,
            stdout=output or self._output,
            stderr=output or self._output,
        )

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

    def wait(self, condition: Callable[[], object]) -> None:
        """Wait until something is so."""
        ends = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > ends:
                raise TimeoutError(f"nothing went on for {PATIENCE:g} s; see {self.folder}")
            time.sleep(0.02)

    @property
    def started(self) -> dict[str, list[tuple[int, str]]]:
        """Process and address of each start of each lesion's extraction."""
        return self._calls("started")

    @property
    def busy(self) -> set[int]:
        """Processes that are within a lesion, or died in one."""
        started, ended = (Counter(chain(*self._calls(kind).values())) for kind in ("started", "ended"))
        return {process for process, _ in started - ended}

    def _calls(self, kind: str) -> dict[str, list[tuple[int, str]]]:
        return {
            path.stem: [(int(pid), address) for pid, address in map(str.split, path.read_text().splitlines())]
            for path in self.folder.glob(f"*.{kind}")
        }

    @property
    def events(self) -> list[dict[str, Any]]:
        """What the driver has told until now; a line that it is just writing is left out."""
        text = self.log.read_text() if self.log.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    @property
    def delivered(self) -> dict[str, str]:
        """Lesions whose record came from a worker, and that worker's address."""
        return {
            event["lesion"]: event["address"]
            for event in self.events
            if event["event"] == "lesion_done" and "address" in event
        }

    @property
    def flying(self) -> set[str]:
        """Lesions that the driver has given to the scheduler and is waiting for."""
        given: set[str] = set()
        for event in self.events:
            match event["event"]:
                case "lesion_submitted":
                    given.add(event["lesion"])
                case "lesion_done":
                    given.discard(event["lesion"])
        return given


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
