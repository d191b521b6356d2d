"""Certificates of deploy/tls: with one a scheduler can be used, without, or with another authority's, it cannot."""

import shutil
import socket
import ssl
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import dask
import fault_table
import pytest
from distributed import LocalCluster

from hgpscale.engine.cluster import connect
from hgpscale.engine.cluster.file import parse
from hgpscale.engine.cluster.security import security_of
from hgpscale.engine.flow import stream_records
from hgpscale.errors import EngineError
from hgpscale.settings import Settings

SCRIPT = Path(__file__).resolve().parents[2] / "deploy" / "tls" / "make-certificates.sh"

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


def make_certificates(folder: Path) -> Path:
    subprocess.run([str(SCRIPT), str(folder)], check=True)
    return folder


def dask_config(folder: Path) -> dict[str, str]:
    """Return Dask's configuration of what lies in `folder`."""
    files = {"distributed.comm.tls.ca-file": str(folder / "ca.pem")}
    for role in ("client", "scheduler", "worker"):
        files[f"distributed.comm.tls.{role}.cert"] = str(folder / "cert.pem")
        files[f"distributed.comm.tls.{role}.key"] = str(folder / "key.pem")
    return files


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture(scope="module")
def address(certificates: Path) -> Iterator[str]:
    """Address of a scheduler with TLS on this machine, of the certificates that a cluster file names."""
    path = certificates.parent / "cluster.yaml"
    files = "{ca: ours/ca.pem, certificate: ours/cert.pem, key: ours/key.pem}"
    path.write_text(f"kind: slurm\nworkers: 1\ntls: {files}\n")
    with (
        security_of(parse(path), certificates) as security,
        LocalCluster(
            n_workers=1,
            processes=False,
            host="127.0.0.1",
            protocol="tls://",
            security=security,
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False, "allowed_failures": 0},
        ) as cluster,
    ):
        yield cluster.scheduler_address


def test_only_the_owner_may_read_what_the_script_makes_and_it_replaces_nothing(certificates: Path) -> None:
    made = {path.name: stat.S_IMODE(path.stat().st_mode) for path in certificates.iterdir()}
    assert made == dict.fromkeys(("ca.pem", "ca-key.pem", "cert.pem", "key.pem"), 0o600)
    again = subprocess.run([str(SCRIPT), str(certificates)], capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert "is there already" in again.stderr


def test_the_certificate_passes_the_strictest_check(certificates: Path) -> None:
    for purpose in ("sslclient", "sslserver"):
        command = ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile", str(certificates / "ca.pem")]
        subprocess.run([*command, str(certificates / "cert.pem")], check=True)


def test_a_client_with_the_certificate_extracts(address: str, certificates: Path, tmp_path: Path) -> None:
    assert address.startswith("tls://127.0.0.1:")
    cohort = fault_table.Cohort(tmp_path, [1, 2])
    with dask.config.set(dask_config(certificates)), connect(address) as client:
        records = stream_records(client, cohort.scans, Settings(), read=fault_table.read, extract=fault_table.extract)
        assert sorted(record.lesion for record, _ in records if not record.failure) == ["s0-0", "s1-0", "s1-1"]


@pytest.mark.parametrize("how", ["no certificate", "no TLS", "another authority", "only the authority"])
def test_a_client_without_the_certificate_is_refused(
    address: str, certificates: Path, tmp_path: Path, how: str
) -> None:
    config: dict[str, str] = {}
    if how == "another authority":
        config = dask_config(make_certificates(tmp_path / "theirs"))
        # It trusts our scheduler: refused is what it shows.
        config["distributed.comm.tls.ca-file"] = str(certificates / "ca.pem")
    if how == "only the authority":
        config = {"distributed.comm.tls.ca-file": str(certificates / "ca.pem")}
    if how == "no TLS":
        address = address.replace("tls://", "tcp://")
    with (
        dask.config.set(config),
        pytest.raises(EngineError, match="no Dask scheduler answers at") as caught,
        connect(address, timeout=2),
    ):
        pass
    assert ("certificates that it asks for" in str(caught.value)) is (how != "no TLS")
    assert "\n" not in str(caught.value)


def test_the_port_itself_asks_for_a_certificate(address: str, certificates: Path) -> None:
    context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    context.check_hostname = False
    host, port = address.removeprefix("tls://").split(":")
    # TLS 1.3 tells the client of its missing certificate when it first reads.
    with (
        socket.create_connection((host, int(port)), timeout=5) as plain,
        context.wrap_socket(plain) as secure,
        pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"),
    ):
        secure.recv(1)
