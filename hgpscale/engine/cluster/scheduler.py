"""A scheduler that somebody else has started."""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import dask
import distributed.comm
from distributed import Client, Security
from distributed.utils import silence_logging_cmgr

from hgpscale.engine.cluster.workers import TCP_TIMEOUT
from hgpscale.errors import EngineError

logger = logging.getLogger(__name__)

_TLS = ", and the certificates that it asks for in Dask's configuration (docs/clusters.md)"


@contextmanager
def connect(address: str, timeout: float = 10) -> Iterator[Client]:
    """Connect to the Dask scheduler at `address`, such as ``tcp://10.0.0.1:8786``; leave it running at the end.

    Raises
    ------
    EngineError
        No scheduler answers there within `timeout` seconds.

    """
    try:
        with dask.config.set({"distributed.comm.timeouts.tcp": TCP_TIMEOUT}):
            # In a thread of its own: notebooks have a running loop in this one.
            with ThreadPoolExecutor(1) as pool:
                pool.submit(asyncio.run, _probe(address, timeout)).result()
            client = Client(address, timeout=timeout, set_as_default=False)
    except (OSError, TypeError, ValueError) as error:  # TypeError: TLS without certificates
        raise _no_answer(address, timeout, error) from error
    try:
        try:
            workers = client.nthreads()
        except OSError as error:  # gone again
            raise _no_answer(address, timeout, error) from error
        if not workers:
            warnings.warn(f"the scheduler at {address} has no workers yet; waiting for the first one", stacklevel=3)
        yield client
    finally:
        _close(client)


def _no_answer(address: str, timeout: float, error: Exception) -> EngineError:
    reason = f" ({' '.join(str(error).split())})" if str(error) else ""
    return EngineError(
        f"no Dask scheduler answers at {address} within {timeout:g} s{reason}; give the address that the "
        f"scheduler logs when it starts, such as tcp://10.0.0.1:8786{_TLS if address.startswith('tls:') else ''}"
    )


def _close(client: Client) -> None:
    """Let the scheduler go; one that is gone already is no error, and must not take the place of what is."""
    if client.status == "running":
        client.close()
        return
    # Dask tries to connect again meanwhile, and logs with a traceback that it is to stop.
    with silence_logging_cmgr(logging.CRITICAL):
        try:
            client.close()
        except Exception as error:  # noqa: BLE001 (whatever it met in that)
            logger.debug("closing the client of a lost scheduler: %r", error)


async def _probe(address: str, timeout: float) -> None:
    """Shake hands with a scheduler; `Client` would wait for ever for a server of another kind to answer."""
    arguments = Security().get_connection_args("client")
    comm = await asyncio.wait_for(distributed.comm.connect(address, **arguments), timeout)
    await comm.close()
