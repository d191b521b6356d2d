"""The kernels as the Python that they are written in, where no compiler hides an overflow or a wrong index."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="this is the run without a compiler")
def test_without_a_compiler() -> None:
    files = [str(HERE / name) for name in ("test_counts.py", "test_reduce.py", "test_surface.py")]
    # The same tests with all their examples run compiled: what the compiler hides shows in few, if not in this run.
    few = ["--hypothesis-profile", "few examples"]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *few, *files]
    done = subprocess.run(
        command, cwd=HERE.parents[1], env={**os.environ, "NUMBA_DISABLE_JIT": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:]
