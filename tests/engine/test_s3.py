"""A cube on S3 from end to end: extract, kill, resume, verify, export; the same bytes as on a disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from distributed import Client

from hgpscale.cube import export, open_cube, pack, status, store, verify
from hgpscale.engine import extract
from hgpscale.engine.cluster import local_client

DRIVER = """
import sys
from hgpscale.cube import CubeWriter
from hgpscale.engine import extract
from hgpscale.engine.events import LesionDone
CubeWriter.open.__func__.__kwdefaults__.update(flush_records=2)
def tell(event):
    if isinstance(event, LesionDone):
        print("done", flush=True)
if __name__ == "__main__":
    extract(sys.argv[1], sys.argv[2], workers=1, on_event=tell)
"""


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with local_client(1) as client:
        yield client


@pytest.mark.slow
def test_extract_kill_resume_verify(
    s3_bucket: str, client: Client, tmp_path: Path, copy_cohort: Callable[[Path, int], Path]
) -> None:
    manifest, path = copy_cohort(tmp_path / "cohort", 4), f"{s3_bucket}/study/cube.zarr"
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    command = [sys.executable, str(script), str(manifest), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as driver:
        assert driver.stdout is not None
        for count, _ in enumerate(driver.stdout, 1):
            if count == 3:
                driver.send_signal(signal.SIGKILL)
    held = status(path)
    assert 2 <= held.done < held.rows == 6
    assert verify(path).findings == []
    summary = extract(manifest, path, client=client)
    assert (summary.done_before, summary.done, summary.ok) == (held.done, 6 - held.done, True)
    assert summary.computed == summary.missing == 7 * (6 - held.done)
    assert verify(path, inputs=tmp_path / "cohort").findings == []
    assert verify(path, inputs=tmp_path / "cohort").inputs > 0
    local = tmp_path / "cube.zarr"
    extract(manifest, local, client=client)
    assert {key: store.read(path, key) for key in store.sizes(path)} == {
        key: store.read(local, key) for key in store.sizes(local)
    }
    assert not store.is_there(store.sibling(path, "cube.zarr.lock"))
    assert open_cube(path).load().equals(open_cube(local).load())
    assert export(path, tmp_path / "s3.csv").read_bytes() == export(local, tmp_path / "local.csv").read_bytes()
    assert open_cube(pack(path).packed).load().equals(open_cube(local).load())
