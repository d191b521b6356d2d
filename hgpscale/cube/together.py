"""Wait for several reads or writes of zarr side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")

_AT_A_TIME = 64
"""Hides the way to S3; on a local disk a few would do."""


def together(jobs: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Run coroutines side by side and return their results.

    When one fails, the others are waited for before the error is raised, so that nothing is under way afterwards;
    zarr itself does not wait.
    """
    # In a thread of its own, because the caller's may have a loop that runs, as in Jupyter.
    with ThreadPoolExecutor(1) as pool:
        results = pool.submit(asyncio.run, _gathered(jobs)).result()
    for error in (result for result in results if isinstance(result, BaseException)):
        raise error
    return [result for result in results if not isinstance(result, BaseException)]


async def _gathered(jobs: Sequence[Coroutine[Any, Any, T]]) -> list[T | BaseException]:
    turn = asyncio.Semaphore(_AT_A_TIME)

    async def run(job: Coroutine[Any, Any, T]) -> T:
        async with turn:
            return await job

    return await asyncio.gather(*map(run, jobs), return_exceptions=True)
