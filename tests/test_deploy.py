"""What deploy/ holds: cluster files that are read, manifests by the schemas of Kubernetes and of Dask's operator."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from hgpscale._version import __version__
from hgpscale.engine.cluster.file import parse
from hgpscale.engine.cluster.jobqueue import declaring_gpu, job_script

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
OURS = {"DaskCluster", "DaskJob"}


def manifests() -> list[tuple[str, dict[str, Any]]]:
    paths = [path for path in sorted(KUBERNETES.glob("*.yaml")) if path.name != "cluster.yaml"]
    return [(path.name, each) for path in paths for each in yaml.safe_load_all(path.read_text())]


def operators() -> list[Any]:
    return [pytest.param(each, id=name) for name, each in manifests() if each["kind"] in OURS]


def parts(manifest: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Yield the role, the pod's spec and the service's, where it has one, of each part of the operator's kinds."""
    spec = manifest["spec"]
    if manifest["kind"] == "DaskJob":
        yield "driver", spec["job"]["spec"], {}
        spec = spec["cluster"]["spec"]
    yield "worker", spec["worker"]["spec"], {}
    yield "scheduler", spec["scheduler"]["spec"], spec["scheduler"]["service"]


def test_all_kinds_are_there() -> None:
    assert {each["kind"] for _, each in manifests()} == {*OURS, "Namespace", "NetworkPolicy", "PersistentVolumeClaim"}


@pytest.mark.parametrize("manifest", [pytest.param(each, id=each["kind"]) for _, each in manifests()])
def test_manifests_are_what_kubernetes_takes(manifest: dict[str, Any]) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")

    def validate(kind: str, spec: dict[str, Any]) -> None:
        whole = {"apiVersion": "v1", "kind": kind, "metadata": {"name": "part"}, "spec": spec}
        kubernetes_validate.validate(whole, kubernetes_validate.latest_version(), strict=True)

    if manifest["kind"] not in OURS:
        kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)
        return
    for _, pod, service in parts(manifest):
        validate("Pod", pod)
        if service:
            validate("Service", service)
    with pytest.raises(kubernetes_validate.ValidationError):
        validate("Pod", {**pod, "unknown": 1})


@pytest.mark.parametrize("manifest", operators())
def test_manifests_are_what_the_operator_takes(manifest: dict[str, Any]) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    package = find_spec("dask_kubernetes")
    if package is None or package.origin is None:
        pytest.skip("dask-kubernetes is not installed")
    charts = Path(package.origin).parent / "operator" / "deployment" / "helm"
    (path,) = charts.rglob(f"crds/{manifest['kind'].lower()}.yaml")
    definition = yaml.safe_load(path.read_text())["spec"]
    (version,) = definition["versions"]
    assert manifest["apiVersion"] == f"{definition['group']}/{version['name']}"
    jsonschema.validate(manifest, version["schema"]["openAPIV3Schema"])


@pytest.mark.parametrize("manifest", operators())
def test_pods_may_do_nothing_that_they_need_not(manifest: dict[str, Any]) -> None:
    for role, pod, _ in parts(manifest):
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001
        (container,) = pod["containers"]
        assert container["image"].endswith(f"/hgpscale:{__version__}")
        security = {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["securityContext"] == security
        assert container["resources"]["requests"] == container["resources"]["limits"]
        environment = {each["name"]: each["value"] for each in container["env"]}
        volumes = {each["name"]: each for each in pod["volumes"]}
        assert "emptyDir" in volumes["scratch"]
        for name in ("HOME", "TMPDIR", "NUMBA_CACHE_DIR"):
            assert environment[name].startswith("/scratch"), (role, name)
        assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)


def test_the_job_encrypts_all_that_it_says() -> None:
    ((_, job),) = [(name, each) for name, each in manifests() if each["kind"] == "DaskJob"]
    for role, pod, _ in parts(job):
        (container,) = pod["containers"]
        environment = {each["name"]: each["value"] for each in container["env"]}
        assert environment["DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION"] == "True"
        part = "CLIENT" if role == "driver" else role.upper()
        assert environment[f"DASK_DISTRIBUTED__COMM__TLS__{part}__KEY"] == "/tls/key.pem"
        if role != "scheduler":
            assert environment["DASK_SCHEDULER_ADDRESS"].startswith("tls://")


@pytest.mark.parametrize(
    "path", sorted(DEPLOY.glob("*/cluster*.yaml")), ids=lambda path: f"{path.parent.name}/{path.name}"
)
def test_cluster_files_can_be_read(path: Path) -> None:
    cluster = parse(path)
    assert cluster.kind == path.parent.name
    if cluster.kind == "kubernetes":
        assert cluster.insecure
        assert cluster.beside(cluster.options["custom_cluster_spec"]).is_file()


@pytest.mark.skipif(find_spec("dask_jobqueue") is None, reason="dask-jobqueue is not installed")
@pytest.mark.parametrize("name", ["cluster.yaml", "cluster-gpu.yaml"])
def test_workers_end_before_their_job_does(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # dask-jobqueue makes the folder of logs at once
    script = job_script(parse(DEPLOY / "slurm" / name))
    (hours,) = re.findall(r"#SBATCH -t 0(\d):00:00", script)
    ((lifetime, stagger),) = re.findall(r"--lifetime (\d+)m --lifetime-stagger (\d+)m", script)
    assert int(lifetime) + int(stagger) < 60 * int(hours)


@pytest.mark.skipif(find_spec("dask_jobqueue") is None, reason="dask-jobqueue is not installed")
def test_a_job_for_a_gpu_asks_for_one_and_declares_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    script = job_script(declaring_gpu(parse(DEPLOY / "slurm" / "cluster-gpu.yaml")))
    assert "#SBATCH --gres=gpu:1\n" in script
    assert "--resources GPU=1 " in script
    assert "--nthreads 1 " in script


@pytest.mark.parametrize(
    "path", [*sorted(DEPLOY.rglob("*.sh")), DEPLOY / "slurm" / "extract.sbatch"], ids=lambda path: path.name
)
def test_scripts_are_bash(path: Path) -> None:
    subprocess.run(["bash", "-n", str(path)], check=True)
    assert "set -euo pipefail" in path.read_text()


def test_the_image_is_not_root_s() -> None:
    users = re.findall(r"^USER (.+)$", (DEPLOY / "Containerfile").read_text(), re.M)
    assert users == ["10001:10001"]


@pytest.mark.parametrize("page", sorted(DEPLOY.rglob("README.md")), ids=lambda page: page.parent.name)
def test_every_relative_link_leads_to_a_file(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:|#)([^)#]+)[^)]*\)", page.read_text()):
        assert (page.parent / link).exists(), link
