"""A server that speaks S3 on this machine, which other processes reach too: moto's, on a free port."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

BUCKET = "cubes"
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}


@contextmanager
def serving() -> Iterator[str]:
    """Run the server with one empty bucket, `BUCKET`; gives its URL. Skips the test where a package is missing."""
    why = "no S3 here: pip install obstore boto3 'moto[server]'"
    pytest.importorskip("obstore", reason=why)
    boto3 = pytest.importorskip("boto3", reason=why)
    moto = pytest.importorskip("moto.server", reason=why)
    werkzeug = pytest.importorskip("werkzeug.serving", reason=why)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    application = moto.DomainDispatcherApplication(moto.create_backend_app)
    # One request at a time: moto looks at a condition and stores in two steps, which S3 does in one.
    server = werkzeug.make_server("127.0.0.1", 0, application, threaded=False)
    thread = threading.Thread(target=server.serve_forever, name="moto", daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        keys = {name.lower(): value for name, value in KEYS.items()}
        client = boto3.client("s3", endpoint_url=url, region_name="us-east-1", **keys)
        client.create_bucket(Bucket=BUCKET)
        client.close()
        yield url
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
