"""Whether a GPU is there and runs our kernels: never an error, whatever state its software is in."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

from hgpscale.doctor.found import Device, Gpu
from hgpscale.doctor.software import package, told

_DRIVER = Path("/proc/driver/nvidia/version")


def find_gpus() -> Gpu:
    """Look for GPUs and run a kernel on one."""
    devices: tuple[Device, ...] = ()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            devices = _devices()
            reason = "" if devices else _no_device()
            if devices:
                _count_there()
        except Exception as error:  # noqa: BLE001 (a broken CUDA raises anything)
            reason = told(error)
    return Gpu(devices, _driver(), package("numba-cuda").version, reason)


def _driver() -> str | None:
    """Return the version of the kernel's driver, which a container may have without the library that goes with it."""
    try:
        found = re.search(r"\d+\.\d+(\.\d+)?", _DRIVER.read_text())
    except OSError:
        return None
    return found[0] if found else None


def _devices() -> tuple[Device, ...]:
    from numba import config, cuda

    if config.ENABLE_CUDASIM or not cuda.is_available():
        return ()
    return tuple(map(_device, cuda.gpus))


def _device(handle: Any) -> Device:
    from numba import cuda

    with handle:
        free, total = cuda.current_context().get_memory_info()
    name = handle.name.decode() if isinstance(handle.name, bytes) else str(handle.name)
    return Device(name, ".".join(map(str, handle.compute_capability)), int(free), int(total))


def _no_device() -> str:
    from numba import config, cuda

    if config.ENABLE_CUDASIM:
        return "NUMBA_ENABLE_CUDASIM is set: CUDA is simulated"
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
