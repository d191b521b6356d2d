"""Who may listen to scheduler and workers, and how they know each other."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from typing import Any

from distributed import Security
from distributed.utils import get_ip_interface

from hgpscale.engine.cluster.file import ClusterFile


def security_of(cluster: ClusterFile) -> Security | None:
    """Return the TLS settings of a cluster file; without any, those of Dask's own configuration; None: no TLS.

    Raises
    ------
    SettingsError
        A file of certificates is not there, or others may read the key.

    """
    if cluster.insecure:
        return None
    if cluster.tls is None:
        configured = Security()
        # Dask's own files count where they are complete: half of them would make a scheduler that nobody reaches.
        whole = configured.tls_ca_file and configured.tls_scheduler_cert and configured.tls_worker_cert
        return Security(require_encryption=True) if whole else None
    if cluster.tls.temporary:
        return Security.temporary()
    files = {}
    for name in ("ca", "certificate", "key"):
        files[name] = cluster.beside(getattr(cluster.tls, name))
        if not files[name].is_file():
            raise cluster.refuse(f"tls.{name}: expected a file, found none at {files[name]}")
    if files["key"].stat().st_mode & 0o077:
        raise cluster.refuse(f"tls.key: others may read {files['key']}: chmod 600 it")
    roles = {f"tls_{role}_cert": str(files["certificate"]) for role in ("client", "scheduler", "worker")}
    keys = {f"tls_{role}_key": str(files["key"]) for role in ("client", "scheduler", "worker")}
    return Security(require_encryption=True, tls_ca_file=str(files["ca"]), **roles, **keys)


def on_loopback(options: Mapping[str, Any]) -> bool:
    """Say whether a scheduler with these options (``host`` or ``interface``) hears this machine alone."""
    host, interface = options.get("host"), options.get("interface")
    try:
        address = socket.gethostbyname(host) if host else get_ip_interface(interface) if interface else ""
        return ipaddress.ip_address(address).is_loopback
    except (OSError, ValueError):  # no such name or interface, or none: then it listens everywhere
        return False
