"""Where the workers of a cluster keep compiled kernels: on their own node, a folder for each processor.

By itself numba keeps them beside the package or in the home folder. On a cluster nodes share both, over a network, and
their processors may differ: workers would wait for each other's files, and nodes take turns to overwrite them.
"""

from __future__ import annotations

import getpass
import ipaddress
import os
import platform
import stat
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

from distributed.comm import get_address_host

_VARIABLE = "NUMBA_CACHE_DIR"


def on_loopback(address: str) -> bool:
    """Say whether a Dask address is one that only this machine can reach."""
    if address.startswith("inproc://"):
        return True
    try:
        return ipaddress.ip_address(get_address_host(address)).is_loopback
    except ValueError:  # a name
        return False


def use_folder_of_this_node() -> None:
    """Have numba keep kernels in `node_folder`, unless ``NUMBA_CACHE_DIR`` says where."""
    if _VARIABLE in os.environ:
        return
    folder = str(node_folder())
    os.environ[_VARIABLE] = folder
    if "numba" in sys.modules:  # it has read the environment already
        sys.modules["numba"].config.CACHE_DIR = folder


def node_folder() -> Path:
    """Make and return the folder of this user, host and processor in the folder of temporary files."""
    top = Path(tempfile.gettempdir()) / f"hgpscale-kernels-{_user()}"
    top.mkdir(mode=0o700, exist_ok=True)
    # What lies there is loaded as code. Everybody may write to /tmp, so somebody else may have made the folder first.
    found = top.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        top = Path(tempfile.mkdtemp(prefix="hgpscale-kernels-"))
    folder = top / f"{platform.node()}-{_processor()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # containers run as numbers without a name
        return str(os.getuid())


def _processor() -> str:
    import llvmlite.binding as llvm

    features = llvm.get_host_cpu_features().flatten()
    return f"{llvm.get_host_cpu_name()}-{sha256(features.encode()).hexdigest()[:8]}"
