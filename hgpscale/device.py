"""Where to compute: whether this process can use a GPU, and if not, why.

`hgpscale.doctor` stands on this, so nothing that may be broken is imported at the top.
"""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from hgpscale.errors import SettingsError, told

DEVICES = ("cpu", "gpu", "auto")
"""What the setting `device` may be."""

VISIBLE = "CUDA_VISIBLE_DEVICES"
"""Environment variable that names the devices a process may see, by number or by UUID, joined by commas."""

_TRY_SECONDS = 120.0  # that a process may take to compile a kernel and run it
_TRY = "from hgpscale.device import gpu_problem; print(gpu_problem())"


@dataclass(frozen=True)
class Device:
    """A GPU; memory in bytes."""

    name: str
    capability: str
    free: int
    total: int


def resolve(device: str, ask: Callable[[], str] | None = None) -> Literal["cpu", "gpu"]:
    """Return where to compute.

    Parameters
    ----------
    device
        ``cpu``; ``gpu``; or ``auto``: a GPU if one can be used, else the CPU. In numba's simulator, which is far
        slower than any CPU, only ``gpu`` takes it.
    ask
        Says why no GPU can be used; None: `gpu_problem`.

    Raises
    ------
    SettingsError
        `device` is none of `DEVICES`, or ``gpu`` and none can be used.

    """
    if device not in DEVICES:
        raise SettingsError(f"device must be {', '.join(DEVICES[:-1])} or {DEVICES[-1]}, found {device!r}")
    if device == "cpu":
        return "cpu"
    if device == "gpu" and simulated():
        return "gpu"
    reason = (ask or gpu_problem)()
    if reason and device == "gpu":
        raise SettingsError(
            f"device gpu: no GPU can be used here: {in_short(reason)}; hgpscale doctor says more, device auto goes "
            "on without"
        )
    return "cpu" if reason else "gpu"


def in_short(reason: str) -> str:
    """Return the first sentence of why no GPU can be used, without its full stop."""
    return reason.partition(". ")[0].rstrip(" .:")


@cache
def gpu_problem() -> str:
    """Say in one line why this process can use no GPU; empty where it can. Asked once: a kernel is compiled and run."""
    return try_gpu()


def gpu_problem_elsewhere() -> str:
    """Say the same of a process like this one.

    A process that has run a kernel keeps a CUDA context, which takes hundreds of MB of the GPU's memory, and on a GPU
    that is set to one process keeps all others off. One that only starts workers shall have none.
    """
    if simulated():
        return gpu_problem()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", _TRY]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TRY_SECONDS, env=environment)  # noqa: S603 (ours)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"a process that was to try one did not end well: {told(error)}"
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"status {done.returncode}"]
        return f"a process that was to try one did not end well: {last[0].strip()}"
    return done.stdout.strip()


def try_gpu() -> str:
    """Say the same as `gpu_problem`, found out now: never an error, whatever state the software is in."""
    with _quiet():
        try:
            if simulated() or not _count():
                return _no_device()
            _count_there()
        except Exception as error:  # noqa: BLE001 (a broken CUDA raises anything)
            return told(error)
    return ""


def simulated() -> bool:
    """Say whether numba plays a GPU: plain Python, for tests."""
    from numba import config

    return bool(config.ENABLE_CUDASIM)


def n_gpus() -> int:
    """Return how many devices this process sees; the simulator has one."""
    with _quiet():
        try:
            return 1 if simulated() else _count()
        except Exception:  # noqa: BLE001 (as above)
            return 0


def gpu_names() -> tuple[str, ...]:
    """Return the devices that this process sees as `VISIBLE` has them, for processes that shall see one each."""
    number = n_gpus()
    return tuple((_listed(os.environ.get(VISIBLE, "")) or list(map(str, range(number))))[:number])


def described() -> tuple[Device, ...]:
    """Return the devices that this process sees, whose memory only a context on each can tell; raises anything."""
    from numba import cuda

    return tuple(map(_device, cuda.gpus)) if not simulated() and cuda.is_available() else ()


def _listed(given: str) -> list[str]:
    return [name for name in map(str.strip, given.split(",")) if name]


def _count() -> int:
    """Ask the driver, which reads `VISIBLE` as CUDA does and makes no context for it: no memory of a GPU is taken."""
    from numba import cuda

    number = len(cuda.gpus) if cuda.is_available() else 0
    # Of a GPU that is cut in parts (MIG) a process sees one part at most, however many are named.
    parts = [name for name in _listed(os.environ.get(VISIBLE, "")) if name.startswith("MIG-")]
    return max(number, len(parts)) if number else 0


def _device(handle: Any) -> Device:
    from numba import cuda

    with handle:
        free, total = cuda.current_context().get_memory_info()
    name = handle.name.decode() if isinstance(handle.name, bytes) else str(handle.name)
    return Device(name, ".".join(map(str, handle.compute_capability)), int(free), int(total))


def _no_device() -> str:
    if simulated():
        return "NUMBA_ENABLE_CUDASIM is set: CUDA is simulated"
    from numba import cuda

    said = " ".join(str(cuda.cuda_error() or "").split())
    return said or "no device, or no CUDA toolkit that fits the driver"


def _count_there() -> None:
    """Run a kernel, which is when a driver that is too old or a toolkit that does not fit is noticed."""
    import numpy as np

    from hgpscale.kernels.cast import level_grid, padded_box
    from hgpscale.kernels.cuda.gldm import count_dependence
    from hgpscale.kernels.offsets import all_offsets

    levels = np.array([1])
    box = padded_box(np.ones((2, 2, 2), dtype=bool), reach=1)
    count_dependence(level_grid(np.ones(8, np.int64), levels, box), levels, all_offsets((1,)), 0)


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
