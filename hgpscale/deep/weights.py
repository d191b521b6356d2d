"""Weights on disk: safetensors alone, which hold numbers and no code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from hgpscale.deep.files import writing
from hgpscale.errors import DeepError


class Stored(NamedTuple):
    """The content of a file: tensors by name, and what is said of them."""

    tensors: dict[str, torch.Tensor]
    about: dict[str, str]


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], about: Mapping[str, str]) -> None:
    """Write tensors, whole or not at all.

    Raises
    ------
    DeepError
        The file cannot be written.

    """
    partial = path.with_name(f"{path.name}.partial")
    with writing(path):
        save_file({name: value.detach().contiguous() for name, value in tensors.items()}, partial, dict(about))
        partial.replace(path)


def read_tensors(path: Path) -> Stored:
    """Read what `write_tensors` wrote, to the CPU.

    Raises
    ------
    DeepError
        It is missing or damaged.

    """
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            return Stored({name: file.get_tensor(name) for name in file.keys()}, about)  # noqa: SIM118
    except FileNotFoundError:
        raise DeepError(f"{path}: the file is missing; train the network again, or copy it from where it was") from None
    except (SafetensorError, OSError) as error:
        raise DeepError(f"{path}: cannot be read: {error}; it is no file of weights, or was damaged") from error


def fill(module: torch.nn.Module, tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Give a network its weights.

    Raises
    ------
    DeepError
        They are those of a network of another shape.

    """
    try:
        module.load_state_dict(dict(tensors))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise DeepError(f"{path}: these are the weights of another network: {reason}") from error
