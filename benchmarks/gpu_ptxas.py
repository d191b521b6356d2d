"""What PTX consists of, and what NVIDIA's assembler `ptxas` says that it makes of it."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

Capability = tuple[int, int]
_PREDICATE = re.compile(r"@!?%\w+\s+")
_FLOATING = re.compile(r"\.(b?f16|tf32|f32|f64)")
_FUSED = re.compile(r"fma\.|mul\.(ftz\.)?(sat\.)?f")
"""A product that does not name its rounding, ``mul.f64``, ptxas may contract with a sum."""

WITH_FLOATING = frozenset({"bspline", "digitize", "gradient", "recursive_gaussian", "statistics", "wavelet"})
"""Modules whose kernels compute with floating point numbers. All others count, and counts are integers."""


class Usage(NamedTuple):
    """What one kernel takes, in registers and bytes."""

    registers: int
    shared: int
    stack: int
    spill_stores: int
    spill_loads: int


class Floating(NamedTuple):
    """Numbers of a kernel's instructions on floating point numbers."""

    all: int
    double: int
    fused: int


class Row(NamedTuple):
    """One kernel for one compute capability: what it takes, or why it could not be made."""

    kernel: str
    capability: Capability
    usage: Usage | None = None
    floating: Floating | None = None
    error: str = ""

    @property
    def wrong(self) -> str:
        """What must not be; empty if nothing."""
        if self.usage is None or self.floating is None:
            return self.error
        found = [("spilled bytes", max(self.usage[3:])), ("contracted products and sums", self.floating.fused)]
        if self.kernel.partition(".")[0] not in WITH_FLOATING:
            found.append(("instructions on floating point numbers", self.floating.all))
        return ", ".join(f"{n} {what}" for what, n in found if n)

    def __str__(self) -> str:
        """Write a row of the table."""
        made = [*(self.usage or ["-"] * 5), *(self.floating or ["-"] * 3)]
        cells = [f"`{self.kernel}`", "{}.{}".format(*self.capability), *made]
        return f"| {' | '.join(map(str, cells))} |"


def usage(text: str) -> Usage:
    """Read what `ptxas -v` printed about one kernel; functions that it calls and that were not inlined add to it.

    Raises
    ------
    ValueError
        The text is not that of one kernel.

    """
    if text.count("Compiling entry function") != 1:
        raise ValueError(f"this does not describe one kernel: {text!r}")
    used = re.search(r"Used (\d+) registers", text)
    frames = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", text)
    if used is None or not frames:
        raise ValueError(f"ptxas does not say what the kernel takes: {text!r}")
    shared = re.search(r"(\d+) bytes smem", text)
    stack, stores, loads = (sum(map(int, column)) for column in zip(*frames, strict=True))
    return Usage(int(used[1]), int(shared[1]) if shared else 0, stack, stores, loads)


def floating(ptx: str) -> Floating:
    """Count instructions on floating point numbers.

    A product and a sum contracted into one are among `fused`, and so are products that ptxas may contract.
    """
    lines = (_PREDICATE.sub("", line.strip()) for line in ptx.splitlines())
    operations = [line.split()[0] for line in lines if line[:1].isalpha()]
    found = [operation for operation in operations if _FLOATING.search(operation)]
    return Floating(
        len(found), sum(".f64" in each for each in found), sum(_FUSED.match(each) is not None for each in found)
    )


def find() -> Path:
    """Return the `ptxas` that is installed beside this Python.

    Raises
    ------
    FileNotFoundError
        No package has brought one.

    """
    spec = importlib.util.find_spec("nvidia")
    for folder in (spec and spec.submodule_search_locations) or ():
        for path in sorted(Path(folder).glob("*/bin/ptxas")):
            return path
    raise FileNotFoundError("no ptxas beside this Python; `make gpu-compile` installs one")


def version(ptxas: Path) -> str:
    """Return ptxas' own version."""
    said = subprocess.run([ptxas, "--version"], capture_output=True, text=True, check=True).stdout
    return "ptxas " + said.partition(", V")[2].split()[0]


def assemble(ptxas: Path, ptx: str, capability: Capability) -> Usage:
    """Assemble one kernel.

    Raises
    ------
    ValueError
        ptxas refuses it.

    """
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "kernel.ptx")
        source.write_text(ptx)
        arch = "-arch=sm_{}{}".format(*capability)
        done = subprocess.run(
            [ptxas, "-v", arch, "-o", Path(folder, "kernel.cubin"), source], capture_output=True, text=True
        )
    if done.returncode:
        raise ValueError(f"ptxas {arch}: {done.stderr.strip()}")
    return usage(done.stderr)
