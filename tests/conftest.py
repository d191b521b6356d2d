"""What all tests share: where real data, the reference and a browser are, and a visible reason where they are not."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pandas as pd
import pytest
import s3_server
from hypothesis import HealthCheck, settings

# Compiling a kernel takes seconds once; that is no reason to call an example slow.
# In CI every run draws the same examples: more of them would only take longer.
settings.register_profile(
    "hgpscale",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    max_examples=25 if os.environ.get("CI") else 100,
)
settings.register_profile("few examples", settings.get_profile("hgpscale"), max_examples=15)
settings.load_profile("hgpscale")

# A shell starts background jobs deaf to Ctrl-C, which processes inherit: here it is tested.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """Compile the kernels into numba's cache before several processes would each do it, for half a minute."""
    subprocess.run([sys.executable, "-c", "from hgpscale.kernels import warm_up; warm_up()"], check=False)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that have slow tests: of those that run side by side, none shall start last."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real scans: ``HGPSCALE_TEST_DATA``, by default ``../shared/data`` beside the checkout."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("HGPSCALE_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real scans: {folder} is not a folder; set HGPSCALE_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def growth() -> pd.DataFrame:
    """Return a table to learn from: 60 patients with 90 lesions in three centres; see `learn_cases`."""
    from learn_cases import growth_table

    return growth_table()


@pytest.fixture(scope="session")
def growth_cube(growth: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the same as a cube."""
    from learn_cases import cube_of

    return cube_of(growth, tmp_path_factory.mktemp("growth"))


@pytest.fixture(scope="session")
def rated_cube(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cube of 30 patients with 45 lesions, a third of them with three raters."""
    from learn_cases import rated

    return rated(tmp_path_factory.mktemp("rated") / "cube.zarr")


@pytest.fixture(scope="session")
def copy_cohort(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path, int], Path]:
    """Give synthetic cohorts, made once for all processes: ``copy_cohort(folder, patients)`` is the manifest."""
    from hgpscale.testing import make_cohort

    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent

    def copy(folder: Path, patients: int) -> Path:
        made = shared / f"cohort-of-{patients}"
        if not made.is_dir():
            fresh = tmp_path_factory.mktemp("cohort")
            make_cohort(fresh, patients)
            with suppress(OSError):  # another process was quicker
                fresh.rename(made)
        shutil.copytree(made, folder, dirs_exist_ok=True)
        return folder / "cohort.csv"

    return copy


@pytest.fixture(scope="session")
def s3_url() -> Iterator[str]:
    """URL of an S3 server on this machine."""
    with s3_server.serving() as url:
        yield url


@pytest.fixture
def s3_bucket(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Address of a bucket on that server, which the environment now points to, also that of new processes."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {**s3_server.KEYS, "AWS_ENDPOINT_URL": s3_url}.items():
        monkeypatch.setenv(name, value)
    return f"s3://{s3_server.BUCKET}"


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str | Path]:
    """Give fresh places for cubes by name: ``place("a.zarr")``, on disk and on S3."""
    if request.param == "local":
        return lambda name: tmp_path / name
    folder = f"{request.getfixturevalue('s3_bucket')}/{uuid4().hex}"
    return lambda name: f"{folder}/{name}"


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    """Headless Chromium, without network of its own, that keeps what the console says."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("no chromium and chromedriver: see CONTRIBUTING.md")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (
        "headless=new", "no-sandbox", "disable-gpu", "disable-background-networking", "disable-component-update",
        "disable-sync", "no-first-run", f"user-data-dir={tmp_path / 'profile'}",
    ):  # fmt: skip
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield opened
    opened.quit()
