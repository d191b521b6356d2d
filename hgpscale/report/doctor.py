"""What the command doctor prints."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from hgpscale.limits import bytes_text
from hgpscale.report.tables import count_of, print_line, print_table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hgpscale.device import Device
    from hgpscale.doctor.found import Diagnosis, Extra, Gpu, Kernels, Package


def print_diagnosis(found: Diagnosis) -> None:
    """Print what was found, notes and problems, and whether extraction can run: all to stdout, for a report."""
    print_table((), [*_rows(found, _SOFTWARE), *map(_extra, found.software.extras), *_rows(found, _MACHINE)])
    for note in found.notes:
        print_line(f"note: {note}")
    for problem in found.problems:
        print_line(f"problem: {problem.what}; {problem.remedy}")
    wrong = f"extraction cannot run here, {count_of(len(found.problems), 'problem')}"
    print_line("extraction can run here" if found.ok else wrong)


def print_diagnosis_json(found: Diagnosis) -> None:
    """Print the same as one JSON object."""
    print(json.dumps({"ok": found.ok, **asdict(found)}, indent=2))  # noqa: T201


def _packages(packages: Sequence[Package]) -> str:
    found = (f"=={package.version}" if package.version else " missing" for package in packages)
    return ", ".join(package.name + version for package, version in zip(packages, found, strict=True))


def _extra(extra: Extra) -> tuple[str, str]:
    install = f": {extra.install}" if extra.install else ""
    return f"extra {extra.name}", f"{_packages(extra.packages)} ({extra.purpose}{install})"


def _kernels(kernels: Kernels) -> str:
    if not kernels.folder:
        return f"run as plain Python on {kernels.processor}"
    counts = f"{kernels.loaded} loaded, {kernels.compiled} compiled just now"
    return f"{counts}, in {kernels.seconds:.1f} s, for {kernels.processor}"


def _gpu(gpu: Gpu) -> str:
    found = "; ".join(map(_device, gpu.devices)) or "none"
    reason = f"{', but no kernel runs' if gpu.devices else ''}: {gpu.reason.rstrip('.')}" if gpu.reason else ""
    return f"{found}{reason}{'' if gpu.reason else ' (extraction uses it with --device gpu or auto)'}"


def _device(device: Device) -> str:
    memory = f"{bytes_text(device.free)} of {bytes_text(device.total)} free"
    return f"{device.name}, compute capability {device.capability}, {memory}"


_Rows = tuple[tuple[str, str, "Callable[[Any], str]"], ...]

_SOFTWARE: _Rows = (
    ("hgpscale", "software", lambda software: f"{software.version} in {software.folder}"),
    ("Python", "software", lambda software: f"{software.python} on {software.platform}"),
    ("packages", "software", lambda software: _packages(software.packages)),
)
_MACHINE: _Rows = (
    ("processor", "software", lambda software: software.processor),
    ("cores", "resources", lambda resources: f"{resources.cores} may be used"),
    (
        "memory",
        "resources",
        lambda found: f"{bytes_text(found.memory)} may be used, {bytes_text(found.available)} are free now",
    ),
    ("workers", "resources", lambda found: f"{found.workers} if extract is not told how many, of one thread each"),
    (
        "threads here",
        "threads",
        lambda pools: ", ".join(f"{pool.library} {pool.threads}" for pool in pools) or "no library starts any",
    ),
    ("temporary files", "scratch", lambda scratch: f"{scratch.folder}, {bytes_text(scratch.free)} free"),
    ("kernels", "kernels", _kernels),
    ("kernel cache", "kernels", lambda kernels: f"{kernels.folder} ({kernels.origin})" if kernels.folder else "none"),
    (
        "self test",
        "self_test",
        lambda test: (
            f"a lesion of {test.diameter_mm:g} mm in {test.seconds * 1000:.0f} ms: {test.features} features, all finite"
        ),
    ),
    ("a worker", "worker", lambda worker: f"started and answered after {worker.seconds:.1f} s"),
    ("GPU", "gpu", _gpu),
    (
        "GPU software",
        "gpu",
        lambda gpu: (
            f"{f'driver {gpu.driver}' if gpu.driver else 'no driver seen'}, "
            f"numba-cuda {gpu.numba_cuda or 'missing'} (docs/gpu.md)"
        ),
    ),
)
"""Label, part of the diagnosis, and what is said of it."""


def _rows(found: Diagnosis, rows: _Rows) -> list[tuple[str, str]]:
    parts = [(label, getattr(found, part), words) for label, part, words in rows]
    return [(label, "no, see below" if part is None else words(part)) for label, part, words in parts]
