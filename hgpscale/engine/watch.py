"""What the scheduler tells of its cluster while a run goes on: workers that it lost, and its dashboard."""

from __future__ import annotations

import http
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from distributed import Client

_TOPIC = "all"  # what the scheduler logs of all workers
_MISSING = b"<p>Dask needs bokeh"
_SECONDS = 2.0  # how long the dashboard may take to answer


class Loss(NamedTuple):
    """A worker that went away unasked: its address, when, and the keys of the tasks that it had been given."""

    address: str
    when: float
    keys: frozenset[Any]


class _Notice:
    """Collects losses, in the thread of the client's loop."""

    def __init__(self) -> None:
        self.noticed: deque[Loss] = deque()

    def __call__(self, event: tuple[float, dict[str, Any]]) -> None:
        when, told = event
        if told.get("action") == "remove-worker" and not told.get("expected", False):
            self.noticed.append(Loss(told["worker"], when, frozenset(told.get("processing-tasks", ()))))

    def taken(self) -> list[Loss]:
        return [self.noticed.popleft() for _ in range(len(self.noticed))]


@contextmanager
def losses_noticed(client: Client) -> Iterator[Callable[[], list[Loss]]]:
    """Yield a function that returns the workers lost since it was last called.

    The scheduler sends word of each before it sends what became of its tasks. A client whose owner listens to the
    scheduler already is left to them: then no loss is told.
    """
    notice = _Notice()
    # Dask keeps one handler a topic, and for good: one of an earlier run of ours may be there.
    handler = getattr(client, "_event_handlers", {}).get(_TOPIC)
    if handler is not None and not isinstance(handler, _Notice):
        yield notice.taken
        return
    client.subscribe_topic(_TOPIC, notice)
    try:
        yield notice.taken
    finally:
        if client.status == "running":
            client.unsubscribe_topic(_TOPIC)


def dashboard_link(client: Client) -> str:
    """Return the address of the cluster's dashboard; empty where there is none.

    A scheduler names an address whether it serves the page or not, so it is asked for. Without the package bokeh some
    say there what is missing.
    """
    try:
        link: str = client.dashboard_link or ""
    except KeyError:  # a scheduler without any server of pages
        return ""
    if not link.startswith(("http://", "https://")):
        return link  # as Dask's configuration words it: beside a notebook server, relative to it
    try:
        with urllib.request.build_opener().open(link, timeout=_SECONDS) as page:
            return "" if _MISSING in page.read(500) else link
    except urllib.error.HTTPError as error:
        return "" if error.code == http.HTTPStatus.NOT_FOUND else link  # such as one that asks who is there
    except (OSError, ValueError):
        return ""
