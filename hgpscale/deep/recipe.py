"""What decides a network and how it is trained: one set of options, with a preset for each size."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from hgpscale.errors import DeepError
from hgpscale.parameters import nearest

Size = Literal["tiny", "small", "full"]
Positive = Annotated[int, Field(ge=1)]
Voxels = tuple[Positive, Positive, Positive]

TASKS = ("segmentation", "liver", "growth", "patient")
"""What is learned, each with a loss of its own: lesions' outlines, the liver's, a lesion's growth, a patient's."""


class Recipe(BaseModel):
    """Options of a network and of its training.

    Attributes
    ----------
    size
        The preset that all else is taken from unless it is given.
    backbone
        ``segresnet`` (Myronenko 2018) or ``dynunet`` (nnU-Net's, Isensee et al. 2021), both MONAI's.
    filters
        Channels of the backbone's first level, doubled at each further one.
    levels
        How many levels; each halves all axes, so that `patch` is a multiple of ``2 ** (levels - 1)``.
    width, embedding
        Channels of the layers that look at a lesion's interface; numbers of its embedding.
    patch
        Voxels ``(z, y, x)`` that the network sees at once, on the grid that scans were prepared on.
    window
        HU that become 0 and 1.
    shells
        Edges in mm of signed distance from the lesion's surface, inside is negative. Within each shell between two of
        them what the network sees is pooled; all that is deeper is the core.
    patients, lesions, background
        Of one step: patients, at most how many lesions of each, and patches from anywhere in the scans.
    steps, warmup
        Steps of training; those over which the rate rises before it falls along a cosine.
    rate, decay, dropout
        Learning rate and weight decay of AdamW; dropout within what makes the embedding.
    average
        Weights that predict are an exponential average over about so many steps.
    weights
        Of each task's loss, see `TASKS`; ``uncertainty``: learned (Kendall, Gal and Cipolla 2018).
    precision
        ``bfloat16``: mixed precision.
    checkpointing
        Whether the backbone's activations are computed again instead of kept: slower, in less memory.
    save_every, validate_every
        Steps between checkpoints, and between looks at patients that are not trained on (0: only at the end).
    seed
        Of everything random.

    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    size: Size = "small"
    backbone: Literal["segresnet", "dynunet"]
    filters: Positive
    levels: Annotated[int, Field(ge=2, le=7)]
    width: Positive
    embedding: Positive
    patch: Voxels
    window: tuple[float, float] = (-60.0, 220.0)
    shells: tuple[float, ...] = (-4.0, -2.0, -0.75, 0.75, 2.0, 4.0, 7.0)
    patients: Positive
    lesions: Positive = 4
    background: Annotated[int, Field(ge=0)]
    steps: Positive
    warmup: Annotated[int, Field(ge=0)] = 100
    rate: Annotated[float, Field(gt=0)]
    decay: Annotated[float, Field(ge=0)] = 1e-2
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    average: Annotated[int, Field(ge=1)] = 100
    weights: Mapping[str, float] | Literal["uncertainty"] = {
        "segmentation": 1.0,
        "liver": 0.5,
        "growth": 1.0,
        "patient": 0.25,
    }
    precision: Literal["float32", "bfloat16"] = "float32"
    checkpointing: bool = False
    save_every: Positive = 250
    validate_every: Annotated[int, Field(ge=0)] = 500
    seed: Annotated[int, Field(ge=0)] = 0

    @field_validator("weights")
    @classmethod
    def _check_weights(cls, weights: Mapping[str, float] | str) -> Mapping[str, float] | str:
        if isinstance(weights, str):
            return weights
        if unknown := set(weights) - set(TASKS):
            raise ValueError(f"no task {', '.join(sorted(unknown))}; there are {', '.join(TASKS)}")
        if any(not 0 <= value < math.inf for value in weights.values()) or not weights.get("segmentation"):
            raise ValueError("expected weights from 0 up, that of segmentation above: nothing is found without it")
        return {task: float(weights.get(task, 0.0)) for task in TASKS}

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        step = 2 ** (self.levels - 1)
        if any(n % step for n in self.patch):
            raise ValueError(f"patch is {self.patch}, expected multiples of {step}, as there are {self.levels} levels")
        if self.backbone == "dynunet" and (self.levels < 3 or all(n == step for n in self.patch)):
            raise ValueError(f"levels is {self.levels}, expected 3 or more, and room at the last one")
        if self.window[0] >= self.window[1]:
            raise ValueError(f"window is {self.window}, expected the lower HU first")
        if len(self.shells) < 2 or list(self.shells) != sorted(set(self.shells)) or self.shells[0] >= 0:
            raise ValueError(f"shells are {self.shells}, expected rising distances in mm, the first inside")
        return self

    @classmethod
    def of(cls, size: str = "small", /, **changed: Any) -> Self:
        """Return the preset of a size with some options changed.

        Raises
        ------
        DeepError
            An option is unknown, or its value cannot be used.

        """
        if size not in SIZES:
            raise DeepError(f"size is {size!r}, expected one of {', '.join(SIZES)}")
        try:
            return cls.model_validate({"size": size, **SIZES[size], **changed})
        except ValidationError as error:
            raise DeepError(f"network: {_first_problem(error)}") from error

    @classmethod
    def read(cls, path: Path, size: Size | None = None, **changed: Any) -> Self:
        """Return what a YAML file says, options by name; what is not in it is the preset's.

        Raises
        ------
        DeepError
            It cannot be read, or what it says cannot be used.

        """
        try:
            said = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise DeepError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
        if not isinstance(said, dict):
            raise DeepError(f"{path}: expected options by name, such as 'steps: 4000', found {type(said).__name__}")
        preset = size or said.get("size", "small")
        try:
            return cls.of(str(preset), **{str(name): value for name, value in said.items() if name != "size"} | changed)
        except DeepError as error:
            raise DeepError(f"{path}: {error}") from error

    @property
    def digest(self) -> str:
        """Of all options that weights depend on."""
        said = self.model_dump(mode="json", exclude={"save_every", "validate_every"})
        return hashlib.blake2b(json.dumps(said, sort_keys=True).encode(), digest_size=16).hexdigest()


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"unknown option {where!r}{nearest(where, Recipe.model_fields)}"
    reason = problem["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    return f"{where}: {reason}, found {problem['input']!r}" if where else reason


SIZES: Mapping[str, Mapping[str, Any]] = {
    "tiny": {
        "backbone": "segresnet",
        "filters": 8,
        "levels": 3,
        "width": 16,
        "embedding": 16,
        "patch": (16, 32, 32),
        "patients": 6,
        "lesions": 2,
        "background": 2,
        "steps": 2000,
        "rate": 4e-3,
    },
    "small": {
        "backbone": "segresnet",
        "filters": 16,
        "levels": 4,
        "width": 32,
        "embedding": 32,
        "patch": (32, 64, 64),
        "patients": 4,
        "background": 2,
        "steps": 20_000,
        "rate": 1e-3,
        "warmup": 500,
        "average": 500,
    },
    "full": {
        "backbone": "dynunet",
        "filters": 32,
        "levels": 6,
        "width": 64,
        "embedding": 64,
        "patch": (96, 160, 160),
        "patients": 4,
        "background": 4,
        "steps": 100_000,
        "rate": 5e-4,
        "warmup": 2000,
        "average": 1000,
        "precision": "bfloat16",
        "checkpointing": True,
    },
}
"""What a size means: ``tiny`` has less than half a million weights and trains on two cores, ``small`` on any GPU,
``full`` is meant for one of 80 GB, and has not been run."""
