"""Whether extraction will run well on this machine: looked at, tried, and returned as plain values.

Nothing here may die of what it finds, least of all of a package that is broken: so nothing of what hgpscale stands on
is imported at the top, every check is guarded, and what goes wrong becomes a `Problem` with what to do about it.
`hgpscale.report.doctor` prints it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from hgpscale.doctor import checks
from hgpscale.doctor.found import Diagnosis, Problem
from hgpscale.doctor.gpu import find_gpus
from hgpscale.doctor.software import installed
from hgpscale.errors import told

__all__ = ["Diagnosis", "Problem", "diagnose"]

_LEAST = 1 << 30
"""Bytes of memory, and of room for temporary files, below which a note is due."""


class _Check(NamedTuple):
    look: Callable[[], Any]
    wrong: str
    remedy: str
    needs: tuple[str, ...] = ()


_CHECKS: dict[str, _Check] = {
    "resources": _Check(checks.resources, "Dask does not work", "pip install --force-reinstall dask distributed"),
    "scratch": _Check(
        checks.scratch,
        "workers cannot write temporary files",
        "have TMPDIR or DASK_TEMPORARY_DIRECTORY name a folder that can be written to",
    ),
    "kernels": _Check(
        checks.kernels,
        "the kernels cannot be compiled or kept",
        "have NUMBA_CACHE_DIR name a folder that can be written to; if it does, reinstall numba and numpy",
    ),
    "self_test": _Check(
        checks.self_test,
        "a synthetic lesion cannot be extracted",
        "reinstall hgpscale; if that does not help, report it",
        ("kernels",),
    ),
    "worker": _Check(
        checks.worker,
        "no worker starts",
        "see whether a firewall, a sandbox or a limit keeps processes from starting or from 127.0.0.1",
        ("scratch", "kernels"),
    ),
    "threads": _Check(checks.threads, "threadpoolctl does not work", "pip install --force-reinstall threadpoolctl"),
}


def diagnose(on_progress: Callable[[int, int], None] = lambda done, total: None) -> Diagnosis:
    """Look at this machine and try a small extraction and a worker.

    Takes some seconds; half a minute where the kernels must be compiled first. Writes nothing but those.

    Parameters
    ----------
    on_progress
        Called with the number of checks that are done and of all.

    """
    software = installed()
    problems = [
        Problem(f"{package.name} is not installed", f"pip install {package.name}")
        for package in software.packages
        if package.version is None
    ]
    found: dict[str, Any] = {}
    for done, (name, check) in enumerate(_CHECKS.items()):
        on_progress(done, len(_CHECKS) + 1)
        found[name] = None
        if all(found[other] is not None for other in check.needs):
            try:
                found[name] = check.look()
            except Exception as error:  # noqa: BLE001 (whatever it is, it is what was looked for)
                problems.append(Problem(f"{check.wrong}: {told(error)}", check.remedy))
    on_progress(len(_CHECKS), len(_CHECKS) + 1)
    return Diagnosis(software, **found, gpu=find_gpus(), notes=tuple(_notes(found)), problems=tuple(problems))


def _notes(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield what makes extraction slow or fragile without keeping it from running."""
    kernels, resources, scratch = found["kernels"], found["resources"], found["scratch"]
    given = os.environ.get("NUMBA_CACHE_DIR")
    if kernels and not kernels.folder:
        yield "NUMBA_DISABLE_JIT is set: kernels run as plain Python, hundreds of times slower"
    if kernels and kernels.folder and given and kernels.origin != "NUMBA_CACHE_DIR":
        yield f"NUMBA_CACHE_DIR={given} cannot be written to and is passed over"
    if resources and resources.memory < _LEAST:
        yield "less than 1 GiB of memory may be used: large lesions will be refused"
    if scratch and scratch.free < _LEAST:
        yield f"less than 1 GiB is free in {scratch.folder}: workers put there what their memory does not hold"
