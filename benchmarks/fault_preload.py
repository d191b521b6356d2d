"""What `faults.py` has every worker load: it counts the calls of the extraction, and lets one lesion's go wrong.

Dask imports it for ``--preload`` in each worker process and calls `dask_setup` before the first task. What is to happen
is in the file `PLAN` of the folder that the variable `FOLDER` names; each call leaves a line before and after, in the
folder that is named there.
"""

from __future__ import annotations

import functools
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hgpscale.engine import tasks
from hgpscale.record import Record

if TYPE_CHECKING:
    from distributed import Worker

    from hgpscale.settings import Settings

FOLDER = "HGPSCALE_FAULTS"
PLAN = "plan.json"
BEFORE = 1.0  # seconds until the worker dies: what it has computed before has reached the driver by then
_MOST = 3 << 30  # bytes that no fault goes beyond, should nobody end its worker
_BLOCK = 32 << 20


def dask_setup(worker: Worker) -> None:
    """Put the counted extraction in the place of the real one: tasks find it by its name."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a segmentation fault is to leave no file behind
    real = tasks.extract_prepared

    @functools.wraps(real)
    def counted(item: Any, settings: Settings) -> Record:
        plan = json.loads((Path(os.environ[FOLDER]) / PLAN).read_text())
        lesion = item.lesion if isinstance(item, Record) else item.task.lesion
        who = f"{os.getpid()} {worker.address}\n".encode()
        started, ended = (Path(plan["folder"]) / f"{lesion}.{kind}" for kind in ("started", "ended"))
        _append(started, who)
        time.sleep(plan["slow"])
        if lesion == plan["lesion"] and started.read_bytes().count(b"\n") <= plan["times"]:
            time.sleep(BEFORE)
            go_wrong(plan["kind"])
        record = real(item, settings)
        _append(ended, who)
        return record

    for name, module in list(sys.modules.items()):
        if name.startswith("hgpscale.engine") and getattr(module, real.__name__, None) is real:
            setattr(module, real.__name__, counted)


def _append(path: Path, line: bytes) -> None:
    """Add a line at once: the process may be about to die."""
    with path.open("ab", buffering=0) as file:
        file.write(line)


def go_wrong(kind: str) -> None:
    """Do what a lesion is planned to do; only one that merely takes long comes back."""
    match kind:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit":
            os._exit(1)
        case "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "memory":
            _exhaust()
        case "hang":
            time.sleep(600)
        case _:
            raise ValueError(f"no such fault: {kind}")


def _exhaust() -> None:
    """Take memory and use it, until Dask's nanny ends this process at its limit; slowly enough for it to see."""
    kept: list[bytearray] = []
    while len(kept) * _BLOCK < _MOST:
        kept.append(bytearray(os.urandom(4096)) * (_BLOCK // 4096))
        time.sleep(0.02)
    time.sleep(600)
