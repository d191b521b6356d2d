"""Where a cube lies, on disk and on S3."""

from __future__ import annotations

import http.server
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import zarr

from hgpscale.cube import store
from hgpscale.errors import CubeError

Place = Callable[[str], str | Path]


@pytest.fixture
def cube(place: Place) -> str | Path:
    return place("cohort one.zarr")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a/b.zarr", Path("a/b.zarr")),
        (Path("/a/b.zarr"), Path("/a/b.zarr")),
        ("C:/a/b.zarr", Path("C:/a/b.zarr")),
        (".", Path()),
        ("s3://bucket/b.zarr", "s3://bucket/b.zarr"),
        ("s3://bucket/a/b.zarr//", "s3://bucket/a/b.zarr"),
        ("S3://bucket/a b/c%20d.zarr/", "s3://bucket/a b/c%20d.zarr"),
        (Path("s3://bucket/a/b.zarr"), "s3://bucket/a/b.zarr"),  # which has lost a slash
    ],
)
def test_a_path_has_a_normal_form(path: str | Path, expected: str | Path) -> None:
    assert store.location(path) == expected
    assert type(store.location(path)) in {type(expected), type(Path())}
    assert store.is_address(path) == isinstance(expected, str)


@pytest.mark.parametrize("path", ["gs://bucket/b.zarr", "http://host/b.zarr", "file:///a/b.zarr", "memory://b"])
def test_another_scheme_is_refused(path: str) -> None:
    scheme = path.partition(":")[0]
    assert store.is_address(path)
    with pytest.raises(CubeError) as caught:
        store.location(path)
    assert str(caught.value) == (
        f"{path}: a cube lies in a local folder or at s3://bucket/name.zarr, not at {scheme}://"
    )


@pytest.mark.parametrize(
    "path", ["s3://", "s3://bucket", "s3://bucket/", "s3:///b.zarr", "s3://bucket//b.zarr", "s3://bucket/../b.zarr"]
)
def test_half_an_address_is_refused(path: str) -> None:
    for action in (store.location, store.is_there, store.has_root, store.name_of):
        with pytest.raises(CubeError) as caught:
            action(path)
        assert str(caught.value) == f"{path}: not the address of a cube; give s3://bucket/name.zarr"


def test_the_root_of_the_file_system_is_no_cube() -> None:
    with pytest.raises(CubeError) as caught:
        store.location("/")
    assert str(caught.value) == "/: this cannot be a cube; give the path of a folder"


def test_names_and_siblings(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cube = place("a.zarr")
    assert store.name_of(cube) == "a.zarr"
    assert store.sibling(cube, "b") == place("b")
    assert store.sibling("s3://bucket/a.zarr", "b") == "s3://bucket/b"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("a.zarr")
    for path in ("link", "a.zarr", "./x/../a.zarr"):
        assert (store.name_of(path), store.sibling(path, "b")) == ("a.zarr", tmp_path / "b")
    assert store.name_of(".") == tmp_path.name


def test_files_come_and_go(cube: str | Path) -> None:
    assert not store.is_there(cube)
    assert not store.has_root(cube)
    assert store.sizes(cube) == {}
    store.empty(cube)
    store.write(cube, "a/c/0.0", b"12345")
    assert store.is_there(cube)
    assert not store.has_root(cube)
    store.write(cube, "zarr.json", b"{}")
    store.write(cube, "zarr.json", b"")
    assert store.has_root(cube)
    assert store.read(cube, "a/c/0.0") == b"12345"
    assert store.read(cube, "zarr.json") == b""
    assert store.sizes(cube) == {"a/c/0.0": 5, "zarr.json": 0}
    store.delete(cube, "zarr.json")
    store.delete(cube, "zarr.json")
    store.delete(cube, "no/such/file")
    assert not store.has_root(cube)
    with pytest.raises(FileNotFoundError) as caught:
        store.read(cube, "zarr.json")
    assert len(store.reason(caught.value).splitlines()) == 1
    store.empty(cube)
    assert not store.is_there(cube)
    assert store.sizes(cube) == {}


def test_places_whose_names_begin_alike_are_apart(place: Place) -> None:
    store.write(place("a.zarr.lock"), "x", b"1")
    store.write(place("a.zarr2"), "zarr.json", b"1")
    assert not store.is_there(place("a.zarr"))
    assert store.sizes(place("a.zarr")) == {}
    store.empty(place("a.zarr"))
    assert store.sizes(place("a.zarr2")) == {"zarr.json": 1}


def test_a_cube_of_many_files_is_emptied(s3_bucket: str) -> None:
    cube = f"{s3_bucket}/many/cohort.zarr"
    client, key = store.object_at(cube)
    assert key == "many/cohort.zarr"
    for i in range(1010):  # S3 lists and deletes a thousand at a time
        client.put(f"{key}/{i}", b"")
    assert len(store.sizes(cube)) == 1010
    store.empty(cube)
    assert store.sizes(cube) == {}


def test_zarr_reads_what_it_wrote(cube: str | Path) -> None:
    root = zarr.create_group(store.open_store(cube, read_only=False))
    root.create_array("a", shape=(4, 3), chunks=(2, 3), dtype="f8", fill_value=np.nan)[:2] = 7
    assert store.has_root(cube)
    assert set(store.sizes(cube)) == {"zarr.json", "a/zarr.json", "a/c/0/0"}
    again = zarr.open_group(store.open_store(cube, read_only=True), mode="r")
    np.testing.assert_array_equal(again["a"][...], [[7] * 3] * 2 + [[np.nan] * 3] * 2)
    with pytest.raises(ValueError, match="read-only"):
        again["a"][0] = 1


def test_a_file_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cube = tmp_path / "cohort.zarr"
    store.write(cube, "zarr.json", b"old")

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:1])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space left"):
            store.write(cube, "zarr.json", b"new")
    assert store.read(cube, "zarr.json") == b"old"
    assert store.sizes(cube) == {"zarr.json": 3}


def test_what_a_kill_left_half_written_is_swept(cube: str | Path) -> None:
    store.write(cube, "a/c/0.0", b"1")
    store.write(cube, "a/c/0.0123abc.partial", b"1")
    store.write(cube, "zarr.0123abc.partial", b"1")
    store.sweep_partial(cube)
    left = set() if isinstance(cube, Path) else {"a/c/0.0123abc.partial", "zarr.0123abc.partial"}
    assert set(store.sizes(cube)) == {"a/c/0.0"} | left


def test_files_that_vanish_are_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("a/1", "a/2", "b/1"):
        store.write(tmp_path, key, b"1")
    real = Path.stat

    def vanish(self: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        if self.name == "2":
            self.unlink()
        return real(self, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "stat", vanish)
    assert store.sizes(tmp_path) == {"a/1": 1, "b/1": 1}


def test_a_file_is_no_cube_but_there(tmp_path: Path) -> None:
    (tmp_path / "cube").write_text("")
    assert store.is_there(tmp_path / "cube")
    assert not store.has_root(tmp_path / "cube")
    with pytest.raises(NotADirectoryError):
        store.empty(tmp_path / "cube")


def test_local_cubes_need_no_obstore() -> None:
    code = (
        "import sys; sys.modules['obstore'] = None; sys.modules['obstore.store'] = None\n"
        "from hgpscale.cube import store\n"
        "from hgpscale.cube.lock import Lock\n"
        "from hgpscale.errors import CubeError\n"
        "store.open_store('cube', read_only=True)\n"
        "print(store.is_there('cube'), store.storage_errors())\n"
        "try:\n    store.open_store('s3://bucket/cube', read_only=True)\n"
        "except CubeError as error:\n    print(error)\n"
        "try:\n    Lock.take('s3://bucket/cube')\n"
        "except CubeError as error:\n    print(error)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines() == [
        "False (<class 'OSError'>,)",
        "s3://bucket/cube: S3 needs obstore; pip install 'hgpscale[s3]'",
        "s3://bucket/cube.lock: S3 needs obstore; pip install 'hgpscale[s3]'",
    ]


class Recorder(http.server.BaseHTTPRequestHandler):
    """Answers each request with `answer` and keeps what it was asked."""

    asked: ClassVar[list[tuple[str, dict[str, str]]]] = []
    answer: ClassVar[tuple[int, str]] = (404, "")

    def do_GET(self) -> None:
        self.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        status, body = self.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Give the URL of a server for `Recorder`; the environment holds two keys and no other setting of S3."""
    pytest.importorskip("obstore")
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setattr(Recorder, "asked", [])
    server = http.server.HTTPServer(("127.0.0.1", 0), Recorder)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("settings", "region", "token"),
    [
        ({"AWS_ENDPOINT_URL": "{url}"}, "us-east-1", None),
        ({"AWS_ENDPOINT_URL": "{url}/", "AWS_REGION": "eu-west-3"}, "eu-west-3", None),
        ({"AWS_ENDPOINT_URL": "{url}", "AWS_DEFAULT_REGION": "eu-west-3", "AWS_SESSION_TOKEN": "t"}, "eu-west-3", "t"),
        ({"AWS_ENDPOINT_URL_S3": "{url}", "AWS_ENDPOINT_URL": "https://127.0.0.1:9"}, "us-east-1", None),
    ],
)
def test_the_usual_environment_is_obeyed(
    settings: dict[str, str], region: str, token: str | None, recorder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value.format(url=recorder))
    assert not store.has_root("s3://bucket/a b/cohort.zarr")
    ((path, headers),) = Recorder.asked
    assert path == "/bucket/a%20b/cohort.zarr/zarr.json"  # not bucket.127.0.0.1
    assert re.match(rf"AWS4-HMAC-SHA256 Credential=key/\d+/{region}/s3/aws4_request,", headers["authorization"])
    assert headers.get("x-amz-security-token") == token


def test_an_endpoint_without_tls_is_only_reached_when_it_says_so(
    recorder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", recorder.replace("http:", "https:"))
    with pytest.raises(store.storage_errors()):
        store.read("s3://bucket/cohort.zarr", "zarr.json")
    assert Recorder.asked == []


@pytest.mark.parametrize("endpoint", ["", "minio:9000", "ftp://host"])
def test_an_endpoint_that_is_no_url_is_refused(endpoint: str, recorder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(CubeError) as caught:
        store.open_store("s3://bucket/cohort.zarr", read_only=True)
    assert str(caught.value) == (
        f"s3://bucket/cohort.zarr: AWS_ENDPOINT_URL is {endpoint!r}; unset it, or begin it with https:// or http://"
    )


def test_a_file_of_certificates_that_is_missing_is_named(recorder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/no/such/file.pem")
    with pytest.raises(FileNotFoundError, match=re.escape("/no/such/file.pem")):
        store.open_store("s3://bucket/cohort.zarr", read_only=True)


def why_not(action: Callable[[], object]) -> str:
    with pytest.raises(store.storage_errors()) as caught:
        action()
    return store.reason(caught.value)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (
            403,
            "<Error><Code>AccessDenied</Code>\n<Message>Access Denied</Message></Error>",
            "access denied: Access Denied (AccessDenied)",
        ),
        (
            403,
            "<Error><Code>InvalidAccessKeyId</Code><Message>No such key id.</Message></Error>",
            "access denied: No such key id. (InvalidAccessKeyId)",
        ),
        (403, "", "access denied: Server returned non-2xx status code: 403 Forbidden"),
        (
            404,
            "<Error><Code>NoSuchBucket</Code><Message>-</Message><BucketName>bucket</BucketName></Error>",
            "no such bucket: bucket",
        ),
        (400, "<Error><Code>Odd</Code><Message>Something else</Message></Error>", "Something else (Odd)"),
        (418, "a\n  teapot", "Server returned non-2xx status code: 418 I'm a teapot: a teapot"),
    ],
)
def test_the_reason_of_a_refusal_is_one_line(
    status: int, body: str, expected: str, recorder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", recorder)
    monkeypatch.setattr(Recorder, "answer", (status, body))
    assert why_not(lambda: store.read("s3://bucket/cohort.zarr", "zarr.json")) == expected
    assert why_not(lambda: store.has_root("s3://bucket/cohort.zarr")) == expected
    assert why_not(lambda: store.is_there("s3://bucket/cohort.zarr")) == expected


def test_the_reason_of_a_missing_object(s3_bucket: str) -> None:
    cube = f"{s3_bucket}/nothing/cohort.zarr"
    assert (
        why_not(lambda: store.read(cube, "zarr.json")) == "Object at location nothing/cohort.zarr/zarr.json not found"
    )


def test_the_reason_where_nobody_answers(recorder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert why_not(lambda: store.is_there("s3://bucket/cohort.zarr")) == (
        "http://127.0.0.1:9 does not answer: Connection refused"
    )


def test_the_reason_where_there_are_no_keys(recorder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = "no keys for S3; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    monkeypatch.setenv("AWS_ENDPOINT_URL", recorder)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    assert why_not(lambda: store.is_there("s3://bucket/cohort.zarr")) == expected
    asked = "Generic S3 error: Error performing PUT http://169.254.169.254/latest/api/token in 2ms - HTTP error: -"
    assert store.reason(Exception(asked)) == expected


def test_the_reason_of_an_error_of_the_disk(tmp_path: Path) -> None:
    assert why_not(lambda: store.read(tmp_path, "x")) == "No such file or directory"
    assert store.reason(OSError("several\nlines")) == "several lines"
