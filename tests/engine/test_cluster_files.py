"""What a cluster file may say, what is refused before anything starts, and what it makes of Dask's classes."""

import os
import signal
import stat
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from hgpscale.engine import extract, kernel_cache
from hgpscale.engine.cluster import open_client, read_cluster
from hgpscale.engine.cluster.jobqueue import job_options, job_script
from hgpscale.engine.cluster.kubernetes import cluster_options
from hgpscale.engine.cluster.security import on_loopback
from hgpscale.errors import EngineError, SettingsError

SLURM = {"kind": "slurm", "workers": 2, "options": {"memory": "1GB", "interface": "lo"}}
# By their names: importing dask_jobqueue takes Ctrl-C from the other tests.
needs_jobqueue = pytest.mark.skipif(find_spec("dask_jobqueue") is None, reason="dask-jobqueue is not installed")
needs_kubernetes = pytest.mark.skipif(find_spec("dask_kubernetes") is None, reason="dask-kubernetes is not installed")


@pytest.fixture
def batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of commands that a batch system has; they do nothing."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sbatch", "qsub", "bsub"):
        (folder / name).write_text("#!/bin/sh\necho refused by the queue >&2\nexit 1\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return folder


def write(folder: Path, content: Any, **more: Any) -> Path:
    path = folder / "cluster.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump({**content, **more}))
    return path


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param("- slurm", "expected a mapping with kind and workers, found list", id="a list"),
        pytest.param("", "found nothing", id="empty"),
        pytest.param("kind: [", "not a YAML cluster file", id="no YAML"),
        pytest.param("workers: 2", "kind is missing, expected slurm, pbs, lsf or kubernetes", id="no kind"),
        pytest.param(
            {**SLURM, "kind": "sge"},
            "kind: expected 'slurm', 'pbs', 'lsf' or 'kubernetes', found 'sge'",
            id="another kind",
        ),
        pytest.param(
            "kind: slurm", "workers is missing, expected a number, or a mapping with minimum", id="no workers"
        ),
        pytest.param(
            {**SLURM, "workers": {"minimum": 1}}, "workers.maximum is missing, expected a whole", id="no most"
        ),
        pytest.param(
            {**SLURM, "workers": {"minimum": 3, "maximum": 2}}, "workers: minimum must be at most", id="order"
        ),
        pytest.param({**SLURM, "workers": 0}, "workers.maximum: .*greater than or equal to 1, found 0", id="none"),
        pytest.param({**SLURM, "workers": "many"}, "workers: expected a number, or .*, found 'many'", id="a word"),
        pytest.param({**SLURM, "workers": 2.5}, "workers: expected a number, or .*, found 2.5", id="half a worker"),
        pytest.param({**SLURM, "worker": 2}, "unknown key 'worker'; did you mean 'workers'?", id="unknown key"),
        pytest.param({**SLURM, "path": "x"}, "unknown key 'path'", id="a key of ours"),
        pytest.param(
            {**SLURM, "workers": {"minimum": 1, "maximun": 2}}, "workers.maximum is missing", id="unknown key below"
        ),
        pytest.param(
            {**SLURM, "tls": {"ca": "ca.pem"}}, "tls: expected the word temporary, or the paths", id="half TLS"
        ),
        pytest.param(
            {**SLURM, "tls": "always"}, "tls: expected the word temporary, or .*, found 'always'", id="TLS word"
        ),
        pytest.param(
            {**SLURM, "tls": "temporary", "insecure": True}, "give tls or insecure: true, not both", id="both"
        ),
        pytest.param({**SLURM, "insecure": "yes"}, "insecure: expected a valid boolean, found 'yes'", id="no boolean"),
        pytest.param({**SLURM, "wait": "soon"}, "wait: expected a time with its unit, such as 24 hours", id="no time"),
        pytest.param({**SLURM, "options": [1]}, "options: expected a valid dictionary, found", id="options"),
        pytest.param({**SLURM, "options": {"security": 1}}, "options.security is set by hgpscale", id="our option"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(batch: Path, tmp_path: Path, content: Any, said: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(SettingsError, match=rf"^{path}: .*{said}") as caught:
        read_cluster(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none.yaml: cannot read the cluster file: No such file"):
        read_cluster(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("kind", "module", "extra"),
    [("slurm", "dask_jobqueue", "jobqueue"), ("kubernetes", "dask_kubernetes", "kubernetes")],
)
def test_a_missing_package_is_named_with_its_extra(
    batch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, module: str, extra: str
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=rf"needs the package {module.replace('_', '-')}.*'hgpscale\[{extra}\]'"):
        read_cluster(write(tmp_path, SLURM, kind=kind))


@needs_jobqueue
def test_a_machine_without_the_batch_system_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SettingsError, match="kind slurm submits jobs with sbatch, which is not found on PATH"):
        read_cluster(write(tmp_path, SLURM))


@needs_jobqueue
@needs_kubernetes
def test_a_scheduler_that_others_reach_needs_tls_or_a_word(batch: Path, tmp_path: Path) -> None:
    open_to_all: dict[str, Any] = {"options": {"memory": "1GB"}}
    read_cluster(write(tmp_path, SLURM))
    with pytest.raises(SettingsError, match=r"listen to other machines without TLS.*tls: temporary.*insecure: true"):
        read_cluster(write(tmp_path, SLURM, **open_to_all))
    half = {"memory": "1GB", "scheduler_options": {"host": "127.0.0.1"}}
    with pytest.raises(SettingsError, match="scheduler and workers would listen to other machines"):
        read_cluster(write(tmp_path, SLURM, options=half))
    read_cluster(write(tmp_path, SLURM, **open_to_all, insecure=True))
    read_cluster(write(tmp_path, SLURM, **open_to_all, tls="temporary"))
    with pytest.raises(SettingsError, match="kind kubernetes: dask-kubernetes connects without TLS"):
        read_cluster(write(tmp_path, SLURM, kind="kubernetes"))


@pytest.mark.parametrize(
    ("options", "loopback"),
    [
        ({"interface": "lo"}, True),
        ({"host": "127.0.0.1"}, True),
        ({"host": "localhost"}, True),
        ({"host": "0.0.0.0"}, False),
        ({"interface": "none0"}, False),
        ({}, False),
    ],
)
def test_loopback_is_known(options: dict[str, str], loopback: bool) -> None:
    assert on_loopback(options) is loopback


@needs_jobqueue
def test_certificates_are_files_whose_key_nobody_else_reads(batch: Path, tmp_path: Path) -> None:
    files = {"ca": "tls/ca.pem", "certificate": "tls/cert.pem", "key": "tls/key.pem"}
    path = write(tmp_path, SLURM, tls=files)
    with pytest.raises(SettingsError, match=r"tls\.ca: expected a file, found none at .*/tls/ca\.pem"):
        read_cluster(path)
    (tmp_path / "tls").mkdir()
    for file in files.values():
        (tmp_path / file).touch(mode=0o644)
    with pytest.raises(SettingsError, match=r"others may read .*key.pem: chmod 600 it"):
        read_cluster(path)
    (tmp_path / "tls/key.pem").chmod(0o600)
    read_cluster(path)


@needs_jobqueue
@pytest.mark.parametrize(("kind", "option"), [("slurm", "queue"), ("pbs", "resource_spec"), ("lsf", "ncpus")])
def test_job_scripts_of_every_batch_system(batch: Path, tmp_path: Path, kind: str, option: str) -> None:
    options = {"cores": 2, "memory": "4GB", option: 4, "worker_extra_args": ["--lifetime", "55m"]}
    options |= {"job_script_prologue": ["module load python"], "interface": "lo"}
    cluster = read_cluster(write(tmp_path, SLURM, kind=kind, options=options))
    script = job_script(cluster)
    assert "--nthreads 1 " in script
    assert "--nworkers 2 " in script
    assert "--dashboard-address 127.0.0.1:0 --lifetime 55m" in script
    assert script.index("MALLOC_TRIM_THRESHOLD_") < script.index("module load python")
    scheduler = job_options(cluster)["scheduler_options"]
    assert (scheduler["interface"], scheduler["dashboard_address"]) == ("lo", "127.0.0.1:0")


@needs_jobqueue
@pytest.mark.parametrize("kind", ["slurm", "pbs", "lsf"])
def test_jobs_for_a_gpu_declare_it(batch: Path, tmp_path: Path, kind: str) -> None:
    options = {"memory": "4GB", "interface": "lo", "ncpus": 1, "resource_spec": "x", "worker_extra_args": []}
    if kind != "lsf":
        del options["ncpus"]
    if kind != "pbs":
        del options["resource_spec"]

    def script(device: str, *arguments: str, **more: int) -> str:
        made = {**options, **more, "worker_extra_args": list(arguments)}
        return job_script(read_cluster(write(tmp_path, SLURM, kind=kind, options=made), device))

    lifetime = ("--lifetime", "55m")
    assert "--dashboard-address 127.0.0.1:0 --resources GPU=1 --lifetime 55m" in script("gpu", *lifetime)
    assert "--nworkers" not in script("gpu")
    assert "--nthreads 4" in script("gpu", cores=4, processes=1)
    for device in ("cpu", "auto"):
        assert "--resources" not in script(device, *lifetime)
    own = script("gpu", "--resources", "GPU=1 memory=2")
    assert own.count("--resources") == 1
    assert script("gpu", "--resources=GPU=1").count("--resources") == 1
    for several in ({"cores": 4}, {"cores": 4, "processes": 4}):
        with pytest.raises(SettingsError, match=r"cluster.yaml: device gpu: .* options.processes: 1, found 4 "):
            script("gpu", **several)


@needs_jobqueue
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"memory": "1GB", "colour": "red"},
            "SLURMCluster cannot be made of them: unexpected keyword argument 'colour'",
        ),
        ({}, "You must specify how much cores and memory"),
        ({"memory": "much"}, "Could not interpret 'much' as a byte unit"),
    ],
)
def test_options_that_dask_does_not_take(batch: Path, tmp_path: Path, options: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        read_cluster(write(tmp_path, SLURM, options={"interface": "lo", **options}))


@needs_jobqueue
def test_ctrl_c_stays_ours(batch: Path, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    job_script(read_cluster(write(tmp_path, SLURM)))
    assert "dask_jobqueue.runner" in sys.modules
    assert signal.getsignal(signal.SIGINT) is before


@needs_jobqueue
def test_jobs_that_the_batch_system_refuses(batch: Path, tmp_path: Path) -> None:
    cluster = read_cluster(write(tmp_path, SLURM))
    with pytest.raises(EngineError, match=r"sbatch does not take the job: .*refused by"), open_client(cluster=cluster):
        pass


def test_extract_reads_the_cluster_file_before_it_makes_a_cube(tmp_path: Path) -> None:
    cube = tmp_path / "cube.zarr"
    with pytest.raises(SettingsError, match=r"cluster.yaml: kind is missing"):
        extract(tmp_path / "cohort.csv", cube, cluster=write(tmp_path, "workers: 2"))
    with pytest.raises(SettingsError, match="one of client, workers, scheduler and cluster"):
        extract(tmp_path / "cohort.csv", cube, workers=1, cluster=tmp_path / "cluster.yaml")
    assert not cube.exists()


@needs_kubernetes
def test_kubernetes_options(tmp_path: Path) -> None:
    operator = pytest.importorskip("dask_kubernetes.operator")
    options = {"custom_cluster_spec": "pods.yaml", "namespace": "radiomics"}
    content = {"kind": "kubernetes", "workers": {"minimum": 1, "maximum": 9}, "insecure": True, "options": options}
    path = write(tmp_path, content)
    with pytest.raises(SettingsError, match=r"custom_cluster_spec: expected a file, found none at .*/pods\.yaml"):
        read_cluster(path)
    (tmp_path / "pods.yaml").touch()
    made = cluster_options(read_cluster(path))
    assert made["custom_cluster_spec"] == str(tmp_path / "pods.yaml")
    assert made.keys() <= operator.KubeCluster.__init__.__kwdefaults__.keys()


@needs_kubernetes
def test_a_kubernetes_that_does_not_answer_is_an_engine_error_and_nothing_else_at_exit(tmp_path: Path) -> None:
    server = {"name": "none", "cluster": {"server": "http://127.0.0.1:9"}}
    context = {"name": "none", "context": {"cluster": "none", "user": "none"}}
    content = {"apiVersion": "v1", "kind": "Config", "clusters": [server], "contexts": [context]}
    content |= {"current-context": "none", "users": [{"name": "none", "user": {"token": "none"}}]}
    (tmp_path / "config").write_text(yaml.safe_dump(content))
    path = write(tmp_path, {"kind": "kubernetes", "workers": 1, "insecure": True, "options": {"namespace": "none"}})
    script = f"""
from hgpscale.engine.cluster import open_client, read_cluster
from hgpscale.errors import EngineError
try:
    with open_client(cluster=read_cluster({str(path)!r})):
        pass
except EngineError as error:
    print(error)
"""
    environment = os.environ | {"KUBECONFIG": str(tmp_path / "config")}
    command = [sys.executable, "-c", script]
    said = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    assert f"{path}: cannot start a cluster on Kubernetes: All connection attempts failed; is the Dask" in said.stdout
    assert said.stderr == ""


def test_kernels_of_a_cluster_s_workers_stay_on_their_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("NUMBA_CACHE_DIR", "")  # so that what is set here is taken back
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    monkeypatch.setitem(sys.modules, "numba", SimpleNamespace(config=SimpleNamespace(CACHE_DIR="")))
    kernel_cache.use_folder_of_this_node()
    folder = Path(os.environ["NUMBA_CACHE_DIR"])
    assert str(folder) == sys.modules["numba"].config.CACHE_DIR
    assert folder.is_relative_to(tmp_path)
    assert os.uname().nodename in folder.name
    assert stat.S_IMODE(folder.stat().st_mode) == stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
    assert kernel_cache.node_folder() == folder
    # Whoever could write there could have us run programs.
    folder.parent.chmod(0o777)
    other = kernel_cache.node_folder()
    assert other.parent != folder.parent
    assert stat.S_IMODE(other.parent.stat().st_mode) == 0o700


WORKER = """
import asyncio, os, sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from hgpscale.engine import plugin

def prepare():  # one kernel instead of all
    from hgpscale.kernels.statistics import central_sums
    import numpy as np
    central_sums(np.arange(8.0), 0.0, 0.0)

plugin.prepare_process = prepare
scheduler = SimpleNamespace(address=sys.argv[1])
memory = SimpleNamespace(memory_limit=1 << 30)
worker = SimpleNamespace(scheduler=scheduler, memory_manager=memory, executors={"default": ThreadPoolExecutor(1)})
asyncio.run(plugin.WorkerSetup().setup(worker))
print(os.environ.get("NUMBA_CACHE_DIR", ""))
"""


@pytest.mark.parametrize("address", ["tcp://10.0.0.1:8786", "tcp://127.0.0.1:8786"])
def test_workers_set_up_from_afar_compile_into_that_folder(tmp_path: Path, address: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    command = [sys.executable, "-c", WORKER, address]
    said = subprocess.run(
        command, check=True, capture_output=True, text=True, env=environment | {"TMPDIR": str(tmp_path)}
    )
    folder = said.stdout.strip()
    if "10.0.0.1" in address:
        assert Path(folder).is_relative_to(tmp_path)
        assert list(Path(folder).rglob("*.nbi"))
    else:
        assert (folder, list(tmp_path.iterdir())) == ("", [])


def test_a_chosen_folder_of_kernels_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", "chosen")
    kernel_cache.use_folder_of_this_node()
    assert os.environ["NUMBA_CACHE_DIR"] == "chosen"


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("tcp://127.0.0.1:8786", True),
        ("tls://127.0.0.1:8786", True),
        ("inproc://10.0.0.1/1/1", True),
        ("tcp://10.0.0.1:8786", False),
        ("tls://head.cluster:8786", False),
        ("tcp://[::1]:8786", True),
    ],
)
def test_addresses_of_this_machine(address: str, loopback: bool) -> None:
    assert kernel_cache.on_loopback(address) is loopback
