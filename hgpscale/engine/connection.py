"""A run's connection to its workers: opened when they are needed first, and again where a lost scheduler comes back."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

from distributed import Client

from hgpscale.errors import EngineError, SchedulerLostError

RETURN_SECONDS = 300.0
"""How long a scheduler that was lost may take to answer at its address again."""

_PAUSE_SECONDS = 1.0  # between two attempts


class Connection:
    """Holds one client at a time, until it is closed.

    Parameters
    ----------
    opens
        Returns a context manager that yields a client.
    returns
        Whether the scheduler may come back by itself: it is a process of its own, at an address that stays.

    """

    def __init__(self, opens: Callable[[], AbstractContextManager[Client]], *, returns: bool) -> None:
        self.returns = returns
        self._opens = opens
        self._stack = ExitStack()
        self._client: Client | None = None

    def client(self) -> Client:
        """Return the client, connected when it is first asked for.

        Raises
        ------
        EngineError
            No worker can be started, or no scheduler reached.

        """
        if self._client is None:
            self._client = self._stack.enter_context(self._opens())
        return self._client

    def again(self, lost: SchedulerLostError) -> Client:
        """Return a new client once a scheduler answers again.

        Raises
        ------
        SchedulerLostError
            None does within `RETURN_SECONDS`: `lost` itself.

        """
        deadline = time.monotonic() + RETURN_SECONDS
        while True:
            self.close()
            try:
                return self.client()
            except EngineError:
                if time.monotonic() > deadline:
                    raise lost from lost.__cause__
            time.sleep(_PAUSE_SECONDS)

    def close(self) -> None:
        """Let the client go, and stop what was started for it."""
        self._client = None
        self._stack.close()
