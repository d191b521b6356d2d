"""What a run's workers compute on."""

from __future__ import annotations

from typing import NamedTuple

from hgpscale.device import gpu_names, gpu_problem_elsewhere, in_short, resolve
from hgpscale.engine.cluster.local import default_workers
from hgpscale.errors import SettingsError


class Where(NamedTuple):
    """Where workers compute.

    Attributes
    ----------
    device
        What their settings say: ``auto`` where each decides for itself.
    gpus
        For workers on this machine: the devices, one a worker, as ``CUDA_VISIBLE_DEVICES`` has them; empty: the CPU.
    workers
        How many workers on this machine; None: as many as `local_client` starts by itself.
    notes
        What a run says of it.

    """

    device: str
    gpus: tuple[str, ...] = ()
    workers: int | None = None
    notes: tuple[str, ...] = ()


def on_this_machine(device: str, workers: int | None) -> Where:
    """Find out what workers on this machine can compute on.

    For ``gpu`` there is one worker a GPU, and no other. For ``auto`` there are as many as there would be without a GPU,
    and some of them have one each, for lesions that are worth it: so it is never slower for the GPU's sake.

    Parameters
    ----------
    device
        What is asked for.
    workers
        How many there shall be; None: one a GPU, for ``auto`` one a core.

    Raises
    ------
    SettingsError
        No GPU can be used where ``gpu`` is asked for, or there are fewer of them than workers.

    """
    reasons: list[str] = []

    def ask() -> str:
        reasons.append(gpu_problem_elsewhere())
        return reasons[0]

    if resolve(device, ask) == "cpu":
        reason = in_short("".join(reasons))
        return Where("cpu", (), workers, (f"computed on the CPU: {reason}",) if device == "auto" else ())
    gpus = gpu_names()
    if device == "auto":
        number = max(default_workers(), len(gpus)) if workers is None else workers
        gpus = gpus[:number]
        have = f"{len(gpus)} of {number} workers {'has' if len(gpus) == 1 else 'have'} a GPU"
        note = f"{have} for large lesions"
        return Where("auto", gpus, number, (note,))
    if workers is not None and workers > len(gpus):
        raise SettingsError(f"a GPU takes one worker: this machine has {len(gpus)}, found --workers {workers}")
    return Where("gpu", gpus[:workers], workers)
