"""A scheduler that somebody else has started."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import distributed.comm
from distributed import Client, Security

from hgpscale.errors import EngineError

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
        # In a thread of its own: notebooks have a running loop in this one.
        with ThreadPoolExecutor(1) as pool:
            pool.submit(asyncio.run, _probe(address, timeout)).result()
        client = Client(address, timeout=timeout, set_as_default=False)
    except (OSError, TypeError, ValueError) as error:  # TypeError: TLS without certificates
        reason = f" ({' '.join(str(error).split())})" if str(error) else ""
        raise EngineError(
            f"no Dask scheduler answers at {address} within {timeout:g} s{reason}; give the address that the "
            f"scheduler logs when it starts, such as tcp://10.0.0.1:8786{_TLS if address.startswith('tls:') else ''}"
        ) from error
    with client:
        if not client.nthreads():
            warnings.warn(f"the scheduler at {address} has no workers yet; waiting for the first one", stacklevel=2)
        yield client


async def _probe(address: str, timeout: float) -> None:
    """Shake hands with a scheduler; `Client` would wait for ever for a server of another kind to answer."""
    arguments = Security().get_connection_args("client")
    comm = await asyncio.wait_for(distributed.comm.connect(address, **arguments), timeout)
    await comm.close()
