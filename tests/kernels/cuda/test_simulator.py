"""Start `simulated*.py` in a process of their own: whether numba simulates a GPU is settled when it is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FILES = ("simulated.py", "simulated_filters.py", "simulated_features.py", "simulated_lesions.py")


@pytest.mark.slow
def test_in_the_simulator() -> None:
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}
    probe = [sys.executable, "-c", "from numba import cuda; cuda.jit"]
    if subprocess.run(probe, env=environment, capture_output=True).returncode:
        pytest.skip("numba's CUDA target cannot be imported")
    files = [str(HERE / name) for name in FILES]
    environment["PYTHONPATH"] = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "in_turn", *files]
    done = subprocess.run(command, cwd=HERE.parents[2], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
