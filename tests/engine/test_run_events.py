"""What a run tells on its way, against tables that say which task fails when, and what the tasks do."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import fault_table
import numpy as np
import psutil
import pytest
from distributed import Client, LocalCluster

from hgpscale.engine import run
from hgpscale.engine.calls import Settled
from hgpscale.engine.cluster import local_client
from hgpscale.engine.events import ClusterReady, Event, LesionDone, LesionSubmitted, WorkerLost, WorkersCounted
from hgpscale.engine.flow import stream_records
from hgpscale.engine.measure import memory
from hgpscale.engine.run import extract
from hgpscale.engine.watch import dashboard_link
from hgpscale.settings import Settings

WORKERS = 2


@pytest.fixture(scope="module")
def cluster() -> Iterator[Client]:
    with local_client(WORKERS) as client:
        yield client


@pytest.fixture
def client(cluster: Client) -> Client:
    cluster.wait_for_workers(WORKERS)
    return cluster


def told(client: Client, cohort: fault_table.Cohort) -> tuple[list[Event], list[Settled]]:
    events: list[Event] = []
    stream = stream_records(
        client, cohort.scans, Settings(), read=fault_table.read, extract=fault_table.extract, on_event=events.append
    )
    return events, list(stream)


# One scan, where nothing else can take a worker down: what each death leads to is known exactly.
@pytest.mark.parametrize(
    ("lesions", "faults", "lost", "again"),
    [
        pytest.param(2, {}, [], [], id="no death"),
        pytest.param(1, {"extract s0-0": {1: "exit"}}, [{0}], [0], id="one death"),
        pytest.param(1, {"extract s0-0": {1: "exit", 2: "exit"}}, [{0}] * 2, [0, 0], id="two deaths"),
        pytest.param(3, {"read s0": {1: "exit"}}, [{0, 1, 2}], [0, 1, 2], id="a death while reading"),
        pytest.param(1, {"extract s0-0": {1: "bug"}}, [], [], id="an error is no death"),
    ],
)
def test_every_lost_worker_is_told_with_the_lesions_it_had(
    client: Client,
    tmp_path: Path,
    lesions: int,
    faults: dict[str, dict[int, str]],
    lost: list[set[int]],
    again: list[int],
) -> None:
    before, addresses = time.time(), set(client.nthreads())
    events, _ = told(client, fault_table.Cohort(tmp_path, [lesions], faults))
    losses = [event for event in events if isinstance(event, WorkerLost)]
    assert [{int(lesion[-1]) for lesion, _ in loss.lesions} for loss in losses] == lost
    assert all(before <= loss.when <= time.time() for loss in losses)
    assert {loss.address for loss in losses[:1]} <= addresses
    submitted = [event for event in events if isinstance(event, LesionSubmitted)]
    assert [event for event in submitted if not event.alone] == [
        LesionSubmitted(f"s0-{number}", "default") for number in range(lesions)
    ]
    assert sorted(int(event.lesion[-1]) for event in submitted if event.alone) == again


def test_an_observer_s_error_is_its_own(client: Client, tmp_path: Path) -> None:
    def closed(event: Event) -> None:
        raise BrokenPipeError("nobody reads this")

    cohort = fault_table.Cohort(tmp_path, [1])
    stream = stream_records(
        client, cohort.scans, Settings(), read=fault_table.read, extract=fault_table.extract, on_event=closed
    )
    with pytest.raises(BrokenPipeError, match="nobody reads this"):
        list(stream)


def test_work_says_when_and_where(client: Client, tmp_path: Path) -> None:
    slow = {f"extract s{number}-0": {1: "slow"} for number in range(4)}  # half a second each
    before = time.time()
    events, settled = told(client, fault_table.Cohort(tmp_path, [1] * 4, {**slow, "read s0": {1: "slow"}}))
    addresses = client.nthreads()
    works = {record.lesion: work for record, work in settled if work is not None}
    assert set(works) == {f"s{number}-0" for number in range(4)}
    for work in works.values():
        assert 0.5 <= work.extract_seconds < 5
        assert work.end - work.start == pytest.approx(work.extract_seconds, abs=1e-3)
        assert before <= work.start < work.end <= time.time()
        assert {work.worker, work.reader} <= {"0", "1"}
        assert work.address in addresses
        assert 0 < work.memory <= work.peak
    assert works["s0-0"].read_seconds >= 0.5
    assert max(works[f"s{number}-0"].read_seconds for number in (1, 2, 3)) < 0.5
    assert [event for event in events if isinstance(event, WorkersCounted)] == [WorkersCounted(WORKERS, WORKERS)]


def test_lesions_of_a_scan_share_its_reading(client: Client, tmp_path: Path) -> None:
    _, settled = told(client, fault_table.Cohort(tmp_path, [5], {"read s0": {1: "slow"}}))
    seconds = {work.read_seconds for _, work in settled if work is not None}
    assert len(seconds) == 1
    assert 0.5 / 5 <= seconds.pop() < 0.5


def test_a_lesion_without_an_end_has_no_work(client: Client, tmp_path: Path) -> None:
    _, (settled,) = told(client, fault_table.Cohort(tmp_path, [1], {"extract s0-0": {1: "bug"}}))
    assert settled.work is None


def _greedy(size: int) -> tuple[tuple[int, int], tuple[int, int], int]:
    first = memory()
    assert np.ones(size, np.uint8)[-1]
    return first, memory(), psutil.Process().memory_info().rss


def test_the_peak_remembers_what_was_given_back(client: Client) -> None:
    size = 300 << 20
    (before, _), (after, peak), now = client.submit(_greedy, size, pure=False).result()
    # Less a little: pages that stood empty before are used again.
    assert peak - before >= 0.9 * size
    assert abs(after - now) < size / 10


def test_vectors_are_counted(client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        run, "stream_records", partial(stream_records, read=fault_table.read, extract=fault_table.extract)
    )
    manifest = fault_table.write_manifest(tmp_path, [1, 2])
    fault_table.Cohort(tmp_path, [1, 2], {"extract s0-0": {1: "no glcm"}, "extract s1-0": {1: "bug"}})
    events: list[Event] = []
    summary = extract(manifest, tmp_path / "cube.zarr", client=client, on_event=events.append)
    done = {event.lesion: event for event in events if isinstance(event, LesionDone)}
    assert {lesion: event.vectors for lesion, event in done.items()} == {"s0-0": 6, "s1-0": 0, "s1-1": 7}
    assert [lesion for lesion, event in done.items() if event.failed] == ["s1-0"]
    assert [lesion for lesion, event in done.items() if event.partial] == ["s0-0"]
    assert 0 <= sum(event.write_seconds for event in done.values()) <= summary.seconds
    (ready,) = [event for event in events if isinstance(event, ClusterReady)]
    assert ready == ClusterReady(client.scheduler.address, "")


class Page(BaseHTTPRequestHandler):
    """A dashboard that is there, asks who is there, or is not there."""

    def do_GET(self) -> None:
        self.send_response({"/status": 200, "/private": 403}.get(self.path, 404))
        self.end_headers()
        self.wfile.write(b"<html>tasks</html>")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_a_dashboard_is_linked_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(link: str) -> str:
        return dashboard_link(SimpleNamespace(dashboard_link=link))

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        place = f"http://127.0.0.1:{server.server_port}"
        assert found(f"{place}/status") == f"{place}/status"
        assert found(f"{place}/private") == f"{place}/private"
        assert found(f"{place}/other") == ""
        server.shutdown()
    assert found(f"{place}/status") == ""  # nobody answers there any more
    assert found("/user/me/proxy/8787/status") == "/user/me/proxy/8787/status"


def test_schedulers_say_whether_they_have_a_dashboard(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    options = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "processes": True}
    with LocalCluster(n_workers=0, **options) as cluster, Client(cluster.scheduler_address) as other:
        link = f"http://127.0.0.1:{cluster.scheduler.http_server.port}/status"
        assert other.dashboard_link == link
        assert dashboard_link(other) == (link if find_spec("bokeh") else "")
    assert client.dashboard_link  # ours has the server but not the page
    assert dashboard_link(client) == ""


def test_a_client_that_listens_already_is_left_alone(client: Client, tmp_path: Path) -> None:
    heard: list[object] = []
    with Client(client.scheduler.address, set_as_default=False) as other:
        other.subscribe_topic("all", heard.append)
        events, settled = told(other, fault_table.Cohort(tmp_path, [1], {"extract s0-0": {1: "exit"}}))
    assert len(settled) == 1
    assert heard
    assert not [event for event in events if isinstance(event, WorkerLost)]
