"""Whether a GPU is there and runs our kernels: never an error, whatever state its software is in."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

from hgpscale.device import Device, described, try_gpu
from hgpscale.doctor.found import Gpu
from hgpscale.doctor.software import package
from hgpscale.errors import told

_DRIVER = Path("/proc/driver/nvidia/version")


def find_gpus() -> Gpu:
    """Look for GPUs and run a kernel on one."""
    devices: tuple[Device, ...] = ()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            devices = described()
            reason = try_gpu()
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
