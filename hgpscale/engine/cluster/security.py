"""Who may listen to scheduler and workers, and how they know each other."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from distributed import Security
from distributed.utils import get_ip_interface

from hgpscale.engine.cluster.file import ClusterFile


def encrypted(cluster: ClusterFile) -> bool:
    """Say whether a cluster's connections are to be TLS.

    Raises
    ------
    SettingsError
        A file of certificates is not there, or others may read the key.

    """
    return not cluster.insecure and ((cluster.tls is not None and cluster.tls.temporary) or _files(cluster) is not None)


@contextmanager
def security_of(cluster: ClusterFile, shared: Path) -> Iterator[Security | None]:
    """Yield the TLS settings of a cluster file; without any, those of Dask's own configuration; None: no TLS.

    Temporary certificates are files in the folder `shared`, which the workers' nodes see too, and only this user may
    read; they are gone at the end.

    Raises
    ------
    SettingsError
        A file of certificates is not there, or others may read the key.

    """
    if cluster.insecure:
        yield None
    elif cluster.tls is not None and cluster.tls.temporary:
        made = Security.temporary()
        with TemporaryDirectory(prefix=".hgpscale-tls-", dir=shared) as folder:  # mode 700
            contents = {"ca.pem": made.tls_ca_file, "cert.pem": made.tls_worker_cert, "key.pem": made.tls_worker_key}
            for name, content in contents.items():
                (Path(folder) / name).write_text(content)
            yield _same_for_all(*(Path(folder) / name for name in contents))
    else:
        yield _files(cluster)


def _files(cluster: ClusterFile) -> Security | None:
    if cluster.tls is None:
        configured = Security()
        # Dask's own files count where they are complete: half of them would make a scheduler that nobody reaches.
        whole = configured.tls_ca_file and configured.tls_scheduler_cert and configured.tls_worker_cert
        return Security(require_encryption=True) if whole else None
    files = {}
    for name in ("ca", "certificate", "key"):
        files[name] = cluster.beside(getattr(cluster.tls, name))
        if not files[name].is_file():
            raise cluster.refuse(f"tls.{name}: expected a file, found none at {files[name]}")
    if files["key"].stat().st_mode & 0o077:
        raise cluster.refuse(f"tls.key: others may read {files['key']}: chmod 600 it")
    return _same_for_all(*files.values())


def _same_for_all(ca: Path, certificate: Path, key: Path) -> Security:
    roles = ("client", "scheduler", "worker")
    certificates = {f"tls_{role}_cert": str(certificate) for role in roles}
    keys = {f"tls_{role}_key": str(key) for role in roles}
    return Security(require_encryption=True, tls_ca_file=str(ca), **certificates, **keys)


def on_loopback(options: Mapping[str, Any]) -> bool:
    """Say whether a scheduler with these options (``host`` or ``interface``) hears this machine alone."""
    host, interface = options.get("host"), options.get("interface")
    try:
        address = socket.gethostbyname(host) if host else get_ip_interface(interface) if interface else ""
        return ipaddress.ip_address(address).is_loopback
    except (OSError, ValueError):  # no such name or interface, or none: then it listens everywhere
        return False
