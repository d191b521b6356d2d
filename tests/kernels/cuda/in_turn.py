"""A plugin for pytest: numba's simulator runs the threads of a block one after the other, in an order of chance.

By itself it starts a thread of the operating system for each, which takes most of its time. In turn they cannot wait
for each other: kernels that call `cuda.syncthreads` fail. Tests marked `threads` have the simulator as it is.
"""

from __future__ import annotations

import random
import threading
from typing import Any

import numpy as np
import pytest
from numba.cuda.simulator.kernel import BlockManager
from numba.cuda.simulator.kernelapi import Dim3

ORDER = random.Random(0)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "threads: kernels run in threads of the operating system")


def run(manager: Any, block: tuple[int, ...], *arguments: Any) -> None:
    """Run one block, in place of `BlockManager.run`."""
    thread: Any = threading.current_thread()  # which kernels ask for their numbers
    thread.blockIdx = Dim3(*block)
    numbers = list(np.ndindex(*manager._block_dim))
    ORDER.shuffle(numbers)
    for number in numbers:
        thread.threadIdx = Dim3(*number)
        manager._f(*arguments)


@pytest.fixture(autouse=True)
def in_turn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do so in all tests but those marked otherwise."""
    if not request.node.get_closest_marker("threads"):
        monkeypatch.setattr(BlockManager, "run", run)
