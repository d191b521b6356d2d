"""Calls of one function side by side: in this process, or on the workers of a Dask client."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hgpscale.errors import EngineError

if TYPE_CHECKING:
    from distributed import Client, Future

Each = Callable[[Callable[[Any, Any], Any], Any, Sequence[Any]], list[Any]]
"""Takes a function of two arguments, the first one, which all calls share, and the second ones; returns the results."""


def here(function: Callable[[Any, Any], Any], shared: Any, items: Sequence[Any]) -> list[Any]:
    """Call a function for each item in this process, one after the other."""
    return [function(shared, item) for item in items]


def on_workers(client: Client) -> Each:
    """Return what does as `here` on the workers of a client, to each of which the shared argument travels once.

    Raises
    ------
    EngineError
        When called: a worker died.

    """

    def each(function: Callable[[Any, Any], Any], shared: Any, items: Sequence[Any]) -> list[Any]:
        there = client.scatter(shared, broadcast=True, hash=False)
        futures = client.map(lambda item, shared: function(shared, item), items, shared=there, pure=False)
        with watched(client, futures):
            return list(client.gather(futures))

    return each


@contextmanager
def watched(client: Client, futures: Sequence[Future]) -> Iterator[None]:
    """Wait within for futures: where one fails or the run is interrupted, the others are left on no scheduler.

    Raises
    ------
    EngineError
        A worker died.

    """
    from distributed import KilledWorker

    try:
        yield
    except BaseException as error:
        client.cancel(futures)
        if isinstance(error, KilledWorker):
            raise EngineError(
                f"a worker died while it learned: {error}; if it ran out of memory, use fewer workers"
            ) from error
        raise
