"""What a run's workers compute on."""

from __future__ import annotations

from typing import NamedTuple

from hgpscale.device import gpu_names, gpu_problem_elsewhere, resolve
from hgpscale.errors import SettingsError


class Where(NamedTuple):
    """Where workers compute.

    Attributes
    ----------
    device
        What their settings say: ``auto`` where each decides for itself.
    gpus
        For workers on this machine: the devices, one a worker, as ``CUDA_VISIBLE_DEVICES`` has them; empty: the CPU.
    notes
        What a run says of it.

    """

    device: str
    gpus: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def on_this_machine(device: str, workers: int | None) -> Where:
    """Find out what workers on this machine can compute on.

    Parameters
    ----------
    device
        What is asked for.
    workers
        How many there shall be; None: one a GPU.

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
        reason = "".join(reasons).rstrip(" .:")
        return Where("cpu", notes=(f"computed on the CPU: {reason}",) if device == "auto" else ())
    gpus = gpu_names()
    if workers is not None and workers > len(gpus):
        raise SettingsError(f"a GPU takes one worker: this machine has {len(gpus)}, found --workers {workers}")
    gpus = gpus[:workers]
    note = f"computed on {len(gpus)} GPU{'s' if len(gpus) > 1 else ''}"
    return Where("gpu", gpus, (note,) if device == "auto" else ())
