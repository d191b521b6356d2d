"""The batches of training: what is drawn for a step depends on the seed and the step alone, so that a run resumes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from monai.transforms.intensity.array import (
    RandGaussianNoise,
    RandGaussianSmooth,
    RandScaleIntensityFixedMean,
    RandShiftIntensity,
)

from hgpscale.deep.crops import Crop, take, take_lesion
from hgpscale.deep.prepared import LIVER

if TYPE_CHECKING:
    from hgpscale.deep.prepared import PreparedLesion, PreparedScan
    from hgpscale.deep.recipe import Recipe
    from hgpscale.volume import Index

_TRIES = 16
_IN_LIVER = 0.5
_UNSURE_MM = 0.25
"""Standard deviation by which a lesion's outline is drawn larger or smaller, as raters and networks draw it."""


@dataclass(frozen=True)
class Batch:
    """What one step learns from; all float32 but positions.

    Attributes
    ----------
    image, lesions, liver
        Shape ``(patch, 1, z, y, x)``, see `Crop`.
    at
        Patches that are of a lesion, int64 ``(lesion,)``.
    distance
        Of these, shape ``(lesion, 1, z, y, x)`` in mm.
    growth
        Fractions of each lesion, ``(lesion, 3)``; NaN where not known.
    patient
        Position of each lesion's patient, int64 ``(lesion,)``.
    patient_growth
        Fractions of each patient, weighted by the areas of all lesions, ``(patient, 3)``; NaN where not known.

    """

    image: torch.Tensor
    lesions: torch.Tensor
    liver: torch.Tensor
    at: torch.Tensor
    distance: torch.Tensor
    growth: torch.Tensor
    patient: torch.Tensor
    patient_growth: torch.Tensor

    def to(self, device: torch.device | str) -> Self:
        """Return the batch on a device."""
        return type(self)(*(getattr(self, one.name).to(device, non_blocking=True) for one in fields(self)))


class Sampler(torch.utils.data.Dataset[Batch]):
    """Draws a batch for each step.

    Parameters
    ----------
    patients
        The scans of each patient that is trained on.
    recipe
        How many patches of what size.
    stream
        Number of the process among those that train together: each draws its own.

    """

    def __init__(self, patients: Sequence[Sequence[PreparedScan]], recipe: Recipe, stream: int = 0) -> None:
        drawn = [[(scan, lesion) for scan in scans for lesion in scan.lesions] for scans in patients]
        self._patients = [lesions for lesions in drawn if lesions]
        self._scans = [scan for scans in patients for scan in scans]
        self._voxels = np.cumsum([np.prod(scan.grid.size, dtype=np.int64) for scan in self._scans])
        self._growth = [patient_growth([lesion for _, lesion in lesions]) for lesions in self._patients]
        self._recipe, self._stream = recipe, stream

    def __getitem__(self, step: int) -> Batch:
        """Return the batch of a step."""
        recipe = self._recipe
        rng = np.random.default_rng([recipe.seed, self._stream, step])
        crops: list[Crop] = []
        growth: list[tuple[float, ...]] = []
        patient: list[int] = []
        chosen = self._choose(step, rng)
        for place, number in enumerate(chosen):
            lesions = self._patients[number]
            for at in rng.permutation(len(lesions))[: recipe.lesions]:
                scan, lesion = lesions[at]
                crops.append(_augmented(self._lesion(scan, lesion, rng), rng))
                growth.append(lesion.growth or (np.nan,) * 3)
                patient.append(place)
        of_lesions = len(crops)
        crops += [_augmented(self._background(rng), rng) for _ in range(recipe.background)]
        return Batch(
            _stack([crop.image for crop in crops]),
            _stack([crop.lesions for crop in crops]),
            _stack([crop.liver for crop in crops]),
            torch.arange(of_lesions),
            _stack([crop.distance for crop in crops if crop.distance is not None]),
            torch.tensor(np.array(growth), dtype=torch.float32),
            torch.tensor(patient),
            torch.tensor(np.array([self._growth[number] for number in chosen]), dtype=torch.float32),
        )

    def __len__(self) -> int:
        """Return the number of steps."""
        return self._recipe.steps

    def _choose(self, step: int, rng: np.random.Generator) -> list[int]:
        """Return the patients of a step: each comes once before any comes again."""
        n, count = len(self._patients), self._recipe.patients
        first = step * count
        chosen = []
        for at in range(first, first + count):
            order = np.random.default_rng([self._recipe.seed, self._stream, 1, at // n]).permutation(n)
            chosen.append(int(order[at % n]))
        return chosen

    def _lesion(self, scan: PreparedScan, lesion: PreparedLesion, rng: np.random.Generator) -> Crop:
        reach = np.array(self._recipe.patch) // 8
        z, y, x = (int(value) for value in rng.integers(-reach, reach + 1))
        crop = take_lesion(scan, lesion, self._recipe.patch, self._recipe.window, (z, y, x))
        assert crop.distance is not None, "it is a lesion's"
        distance = crop.distance + np.float32(rng.normal(0, _UNSURE_MM))
        return Crop(crop.image, crop.lesions, crop.liver, distance)

    def _background(self, rng: np.random.Generator) -> Crop:
        """Return a patch from anywhere in all scans, each voxel as likely; half of them in a liver, if one is drawn."""
        scan = self._scans[int(np.searchsorted(self._voxels, rng.uniform(0, self._voxels[-1]), side="right"))]
        size, box = self._recipe.patch, ((0, 0, 0), scan.grid.size)
        in_liver = scan.liver_box is not None and rng.uniform() < _IN_LIVER
        if in_liver and scan.liver_box is not None:
            box = scan.liver_box
        for _ in range(_TRIES):
            centre = _index(rng.integers(*box))
            if not in_liver or scan.read(LIVER, centre, (1, 1, 1)).any():
                break
        z, y, x = (c - n // 2 for c, n in zip(centre, size, strict=True))
        return take(scan, (z, y, x), size, self._recipe.window)


def patient_growth(lesions: Sequence[PreparedLesion]) -> tuple[float, ...]:
    """Return a patient's fractions of growth, weighted by lesions' areas; NaN where one is not known."""
    if not lesions or any(lesion.growth is None for lesion in lesions):
        return (np.nan,) * 3
    mean = np.average([lesion.growth or () for lesion in lesions], axis=0, weights=[one.area for one in lesions])
    return tuple(float(value) for value in mean)


def _augmented(crop: Crop, rng: np.random.Generator) -> Crop:
    """Return a crop mirrored, turned in the plane of the slices, and with other contrast, blur and noise."""
    axes = [axis for axis in range(3) if rng.uniform() < 0.5]
    turns = int(rng.integers(4)) if crop.image.shape[1] == crop.image.shape[2] else 2 * int(rng.integers(2))

    def move(values: Any) -> Any:
        return np.rot90(np.flip(values, tuple(axes)), turns, axes=(1, 2))

    moved = crop.moved(move)
    image = torch.tensor(np.ascontiguousarray(moved.image))[None]
    changes: tuple[Any, ...] = (
        RandScaleIntensityFixedMean(prob=0.5, factors=0.1),
        RandShiftIntensity(offsets=0.05, prob=0.5),
        RandGaussianSmooth(prob=0.15, sigma_x=(0.3, 0.6), sigma_y=(0.3, 0.6), sigma_z=(0.3, 0.6)),
        RandGaussianNoise(prob=0.3, std=0.03),
    )
    for change in changes:
        image = change.set_random_state(seed=int(rng.integers(2**31)))(image)
    return Crop(np.asarray(image[0]), moved.lesions, moved.liver, moved.distance)


def _stack(arrays: Sequence[Any]) -> torch.Tensor:
    return torch.tensor(np.stack(arrays)[:, None], dtype=torch.float32)


def _index(values: Any) -> Index:
    z, y, x = (int(value) for value in values)
    return z, y, x
