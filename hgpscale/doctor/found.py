"""What a check of this machine finds, as plain values: they become JSON as they are."""

from __future__ import annotations

from dataclasses import dataclass

from hgpscale.device import Device


@dataclass(frozen=True)
class Package:
    """A package and its version; None: not installed."""

    name: str
    version: str | None


@dataclass(frozen=True)
class Extra:
    """An optional part: what it is for, its packages, and how to install it if one is missing (else empty)."""

    name: str
    purpose: str
    packages: tuple[Package, ...]
    install: str


@dataclass(frozen=True)
class Software:
    """What runs; `folder` is where hgpscale is imported from."""

    version: str
    folder: str
    python: str
    platform: str
    processor: str
    packages: tuple[Package, ...]
    extras: tuple[Extra, ...]


@dataclass(frozen=True)
class Resources:
    """What this process may use, control groups regarded.

    Attributes
    ----------
    cores
        Processors.
    memory, available
        Bytes that it may use, and that are free on the machine now.
    workers
        How many worker processes `extract` starts by itself.

    """

    cores: int
    memory: int
    available: int
    workers: int


@dataclass(frozen=True)
class Scratch:
    """Where workers put temporary files, and how many bytes are free there."""

    folder: str
    free: int


@dataclass(frozen=True)
class Kernels:
    """Compiled kernels.

    Attributes
    ----------
    folder, origin
        Where numba keeps them, and what says so. Empty where they run as plain Python.
    loaded, compiled
        How many were there already, and how many had to be compiled just now.
    seconds
        What that took.
    processor
        What they are compiled for, by LLVM's name.

    """

    folder: str
    origin: str
    loaded: int
    compiled: int
    seconds: float
    processor: str


@dataclass(frozen=True)
class Pool:
    """A library that starts threads by itself, and how many in this process; workers have one each."""

    library: str
    threads: int


@dataclass(frozen=True)
class Gpu:
    """What numba's CUDA target finds; `reason` says in one line why that is nothing, or why no kernel runs there."""

    devices: tuple[Device, ...]
    driver: str | None
    numba_cuda: str | None
    reason: str


@dataclass(frozen=True)
class SelfTest:
    """One synthetic lesion that was extracted in this process."""

    diameter_mm: float
    features: int
    seconds: float


@dataclass(frozen=True)
class Started:
    """One worker process that was started, asked and stopped."""

    seconds: float


@dataclass(frozen=True)
class Problem:
    """Something that extraction needs and does not have, and what to do."""

    what: str
    remedy: str


@dataclass(frozen=True)
class Diagnosis:
    """All that was found; None where a check failed (see `problems`) or was not reached because of another."""

    software: Software
    resources: Resources | None
    scratch: Scratch | None
    kernels: Kernels | None
    self_test: SelfTest | None
    worker: Started | None
    threads: tuple[Pool, ...] | None
    gpu: Gpu
    notes: tuple[str, ...]
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """Whether extraction can run."""
        return not self.problems
