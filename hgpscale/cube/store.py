"""Where a cube lies: in a local folder or under an S3 address; its zarr store, and single files of it.

Everything here takes the cube's path as the user gave it. The settings of S3 are the usual ``AWS_*`` environment
variables: obstore reads keys, region and endpoint by itself, `_client` adds what it does not.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from zarr.storage import LocalStore, ObjectStore

from hgpscale.errors import CubeError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, S3Store

ROOT_FILE = "zarr.json"
"""Where this is, there is a cube."""

_DRAFT = ".creating"
_PARTIAL = ".partial"  # how zarr's LocalStore names a file that it has not renamed yet
# Two letters at least, as C:/ is a drive; one slash will do, as Path("s3://bucket") keeps no more.
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.*)", re.DOTALL)
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")  # the first that is set counts
_METADATA_SERVICE = "169.254.169.254"  # where obstore asks for keys when the environment has none


def is_address(path: str | Path) -> bool:
    """Return whether a path is an address such as ``s3://bucket/cube.zarr``, of whatever scheme, and no folder."""
    return _ADDRESS.match(str(path)) is not None


def location(path: str | Path) -> str | Path:
    """Return the normal form of a cube's path: a `Path`, or ``s3://bucket/key`` without a slash at the end.

    Raises
    ------
    CubeError
        An address of another scheme, or one that lacks the bucket or the key; a path that has no name, as ``/``.

    """
    found = _ADDRESS.match(str(path))
    if found is None:
        if not Path(path).resolve().name:
            raise CubeError(f"{path}: this cannot be a cube; give the path of a folder")
        return Path(path)
    scheme, rest = found[1].lower(), found[2].rstrip("/")
    if scheme != "s3":
        raise CubeError(f"{path}: a cube lies in a local folder or at s3://bucket/name.zarr, not at {scheme}://")
    bucket, _, key = rest.partition("/")
    if not bucket or not key or {"", ".", ".."} & set(key.split("/")) or str(path).startswith("s3:///"):
        raise CubeError(f"{path}: not the address of a cube; give s3://bucket/name.zarr")
    return f"s3://{rest}"


def name_of(path: str | Path) -> str:
    """Return the last name of a cube's path, of what it leads to where it is a link."""
    place = location(path)
    return place.rpartition("/")[2] if isinstance(place, str) else place.resolve().name


def sibling(path: str | Path, name: str) -> str | Path:
    """Return the place beside a cube that has another last name: the same by every link that leads to the cube."""
    place = location(path)
    return f"{place.rpartition('/')[0]}/{name}" if isinstance(place, str) else place.resolve().with_name(name)


def open_store(path: str | Path, *, read_only: bool) -> LocalStore | ObjectStore[S3Store]:
    """Return the zarr store of a cube.

    Raises
    ------
    CubeError
        See `location`; or obstore, which S3 needs, is not installed.

    """
    place = location(path)
    if isinstance(place, str):
        return ObjectStore(_client(place), read_only=read_only)
    return LocalStore(place, read_only=read_only)


def object_at(address: str) -> tuple[S3Store, str]:
    """Return the client of an address' bucket, and the key in it."""
    return _client(address, whole_bucket=True), address.removeprefix("s3://").partition("/")[2]


def is_there(path: str | Path) -> bool:
    """Return whether there is anything at a cube's path: a folder, a file, an object below the address."""
    place = location(path)
    if isinstance(place, Path):
        return place.exists()
    client = _client(place)
    import obstore

    return any(some for some in obstore.list(client, chunk_size=1))


def has_root(path: str | Path) -> bool:
    """Return whether there is a cube's root file at its path."""
    place = location(path)
    if isinstance(place, Path):
        return (place / ROOT_FILE).is_file()
    client = _client(place)
    import obstore

    try:
        obstore.get(client, ROOT_FILE)  # not head: only the answer's body tells a missing bucket from a missing object
    except FileNotFoundError as error:
        if "NoSuchBucket" in str(error):
            raise
        return False
    return True


def sizes(path: str | Path) -> dict[str, int]:
    """Return the size in bytes of each file or object below a cube's path, by key; none where nothing is."""
    place = location(path)
    if isinstance(place, str):
        client = _client(place)
        import obstore

        return {item["path"]: item["size"] for some in obstore.list(client) for item in some}
    found = {}
    for folder, _, names in os.walk(place, onerror=_raise_unless_gone):
        for file in (Path(folder, name) for name in names):
            try:
                found[file.relative_to(place).as_posix()] = file.stat().st_size
            except FileNotFoundError:  # renamed or removed by the run that writes
                continue
    return found


def read(path: str | Path, key: str) -> bytes:
    """Return the content of one file or object of a cube; FileNotFoundError where it is missing."""
    place = location(path)
    if isinstance(place, Path):
        return (place / key).read_bytes()
    client = _client(place)
    import obstore

    return bytes(obstore.get(client, key).bytes())


def write(path: str | Path, key: str, data: bytes) -> None:
    """Store one file or object of a cube whole: whoever reads it sees the old content or the new one."""
    place = location(path)
    if isinstance(place, str):
        client = _client(place)
        import obstore

        obstore.put(client, key, data)
        return
    file = place / key
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f"{file.name}.{uuid4().hex}{_PARTIAL}")  # what a kill leaves is for sweep_partial
    try:
        draft.write_bytes(data)
        draft.replace(file)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def delete(path: str | Path, key: str) -> None:
    """Remove one file or object of a cube, if it is there."""
    place = location(path)
    if isinstance(place, Path):
        (place / key).unlink(missing_ok=True)
        return
    client = _client(place)
    import obstore

    obstore.delete(client, key)


def empty(path: str | Path) -> None:
    """Remove a cube: everything below its path, and the folder. The root file goes first, so no half is a cube."""
    place = location(path)
    if isinstance(place, Path):
        if place.exists():
            delete(place, ROOT_FILE)
            shutil.rmtree(place)
        return
    client = _client(place)
    import obstore

    delete(place, ROOT_FILE)
    obstore.delete(client, list(sizes(place)))


def sweep_partial(path: str | Path) -> None:
    """Remove the half-written files of a killed run, and their folders if nothing else is in them.

    Only the holder of the cube's lock may; S3 has none.
    """
    place = location(path)
    if isinstance(place, Path):
        for folder, _, names in os.walk(place, topdown=False):
            left = [Path(folder, name) for name in names if name.endswith(_PARTIAL)]
            for file in left:
                file.unlink(missing_ok=True)
            if left and len(left) == len(names) and Path(folder) != place:
                with suppress(OSError):  # it holds another folder
                    Path(folder).rmdir()


def storage_errors() -> tuple[type[Exception], ...]:
    """Return what to catch when a storage refuses; obstore's own errors only where it is in use."""
    loaded = sys.modules.get("obstore.exceptions")
    return (OSError, loaded.BaseError) if loaded else (OSError,)


def reason(error: Exception) -> str:
    """Return in one short line why a storage refused: obstore's messages are pages of XML and debug output."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    said, _, debug = str(error).partition("\n\nDebug source:")
    said = " ".join(said.split())
    what, _, detail = said.partition("Error performing ")
    server = found[0] if (found := re.search(r"https?://[^/\s]+", detail)) else "the endpoint"
    answer = dict(re.findall(r"<(Code|Message|BucketName)>([^<]+)<", said))
    if _METADATA_SERVICE in server or said.endswith(("Missing AccessKeyId", "Missing SecretAccessKey")):
        return "no keys for S3; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    if answer.get("Code") == "NoSuchBucket":
        return f"no such bucket: {answer.get('BucketName', 'make it first')}"
    if answer.get("Code"):
        line = f"{answer.get('Message', '')} ({answer['Code']})".strip()
    elif re.search("InvalidCertificate", debug):
        return f"the certificate of {server} is not trusted; AWS_CA_BUNDLE names the file of your own authority"
    elif re.search(r"kind: (Connect|Timeout)\b", debug):
        why = re.search(r'(?:message|error): "([^"]+)"', debug)
        return f"{server} does not answer: {why[1] if why else 'timed out'}"
    else:
        line = (detail.partition(" - ")[2] or said).rstrip(" :")
    if re.search(r"status code: 40[13]\b", detail):
        line = f"access denied: {line}"
    elif isinstance(error, FileNotFoundError):
        line = what.strip(" :") or line
    return textwrap.shorten(line, 200)


def _client(address: str, *, whole_bucket: bool = False) -> S3Store:
    """Return the client of what is below an address, or of its bucket, with the environment's settings."""
    try:
        from obstore.store import S3Store
    except ImportError as error:
        raise CubeError(f"{address}: S3 needs obstore; pip install 'hgpscale[s3]'") from error
    options: ClientConfig = {}
    endpoints = [(name, os.environ[name]) for name in _ENDPOINTS if name in os.environ]
    for name, endpoint in endpoints:
        if not re.match("https?://.", endpoint):  # obstore panics at the first request
            raise CubeError(f"{address}: {name} is {endpoint!r}; unset it, or begin it with https:// or http://")
    if endpoints and endpoints[0][1].startswith("http://"):  # only who writes so wants to go without TLS
        options["allow_http"] = True
    if os.environ.get("AWS_CA_BUNDLE"):
        options["root_certificate"] = Path(os.environ["AWS_CA_BUNDLE"]).read_bytes()
    bucket, _, prefix = address.removeprefix("s3://").partition("/")
    return S3Store(bucket, prefix=None if whole_bucket else prefix, client_options=options)


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
