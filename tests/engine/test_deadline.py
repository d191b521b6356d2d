"""A deadline ends the process that holds it, whatever it hangs in, and only then."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

HEAD = "import re, threading, time\nfrom hgpscale.engine.deadline import ended_after\n"
HANGS = {
    "in Python": "while True: pass",
    "in C, with Python's lock": "re.match('(a+)+$', 'a' * 60 + 'b')",
    "asleep": "time.sleep(600)",
}


def run(code: str) -> tuple[int, str, float]:
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", HEAD + code], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr, time.monotonic() - began


@pytest.mark.parametrize("name", HANGS)
def test_what_hangs_is_ended_and_says_where(name: str) -> None:
    status, said, seconds = run(f"with ended_after(0.5):\n    {HANGS[name]}\n")
    assert status == 1
    assert seconds < 30
    assert "Timeout (0:00:00." in said
    assert 'File "<string>", line 4' in said


def test_what_is_in_time_is_left_alone() -> None:
    status, said, _ = run(
        "with ended_after(0.3):\n    pass\nwith ended_after(None):\n    time.sleep(0.6)\nprint('alive')\n"
    )
    assert (status, said) == (0, "alive\n")


def test_of_several_threads_the_first_deadline_that_passes_counts() -> None:
    long = "def long():\n    with ended_after(0.6):\n        time.sleep(600)\n"
    short = "threading.Thread(target=long, daemon=True).start()\nwith ended_after(600):\n    time.sleep(0.1)\n"
    status, said, _ = run(f"{long}{short}time.sleep(600)\n")
    assert status == 1
    assert "in long" in said


def test_an_error_within_takes_the_deadline_away() -> None:
    code = "try:\n    with ended_after(0.3):\n        raise ValueError\nexcept ValueError:\n    time.sleep(0.6)\n"
    assert run(f"{code}print('alive')\n")[:2] == (0, "alive\n")
