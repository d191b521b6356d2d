"""The loss of each task, and their sum; a label that is missing costs nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from monai.losses.dice import DiceCELoss
from torch.nn import functional

from hgpscale.deep.network import LESION, ORGAN
from hgpscale.deep.recipe import TASKS

if TYPE_CHECKING:
    from hgpscale.deep.network import Network
    from hgpscale.deep.recipe import Recipe
    from hgpscale.deep.sampling import Batch

_TOLERANCE = 1e-6
_EPSILON = 1e-5
_overlap = DiceCELoss(sigmoid=True, batch=True)


def losses_of(network: Network, batch: Batch) -> dict[str, torch.Tensor]:
    """Return the loss of each task that the batch has labels of, by name."""
    features = network.features(batch.image)
    outlined = network.outlines(features).float()
    found = {"segmentation": _overlap(outlined[:, LESION, None], batch.lesions)}
    known = ~batch.liver.flatten(1).isnan().any(1)
    if known.any():
        found["liver"] = _overlap(outlined[known][:, ORGAN, None], batch.liver[known])
    if len(batch.at):
        said = network.of_lesions(features[batch.at], batch.image[batch.at], batch.distance)
        typed = ~batch.growth.isnan().any(1)
        if typed.any():
            found["growth"] = hurdle_loss(said.logits[typed], batch.growth[typed])
        typed = ~batch.patient_growth.isnan().any(1)
        if typed.any():
            logits = network.of_patients(said.embedding, batch.patient, len(batch.patient_growth))
            found["patient"] = hurdle_loss(logits[typed], batch.patient_growth[typed])
    return found


def hurdle_loss(logits: torch.Tensor, growth: torch.Tensor) -> torch.Tensor:
    """Return the mean over rows of minus the log-likelihood of a composition, as `learn.HurdleComposition` has it.

    Parameters
    ----------
    logits
        ``(row, 5)``: see `network.OUTPUTS`.
    growth
        Fractions desmoplastic, replacement, pushing, ``(row, 3)``; their sum is 1.

    Notes
    -----
    Factor by factor: cross-entropy of the gate (d = 0, 0 < d < 1, d = 1); of mixed rows that of d; of rows with d < 1
    that of replacement against pushing, weighted by 1 - d. Labels are soft: fractions, not draws.

    """
    d = growth[:, 0]
    kind = torch.ones_like(d, dtype=torch.long)
    kind[d <= _TOLERANCE] = 0
    kind[d >= 1 - _TOLERANCE] = 2
    gate = functional.cross_entropy(logits[:, :3], kind, reduction="none")
    between = functional.binary_cross_entropy_with_logits(logits[:, 3], d, reduction="none")
    rest = (growth[:, 1] / (1 - d).clamp(min=_EPSILON)).clamp(0, 1)
    other = functional.binary_cross_entropy_with_logits(logits[:, 4], rest, reduction="none")
    return (gate + between * (kind == 1) + other * (1 - d)).mean()


def total(network: Network, losses: dict[str, torch.Tensor], recipe: Recipe) -> torch.Tensor:
    """Return the sum of the tasks' losses by the recipe's weights, or by learned ones.

    Learned: each loss times exp(-s), plus s / 2, where s is the task's log variance (Kendall, Gal and Cipolla 2018).
    """
    if isinstance(recipe.weights, str):
        spread = network.log_variance
        parts = [loss * torch.exp(-spread[TASKS.index(t)]) + spread[TASKS.index(t)] / 2 for t, loss in losses.items()]
    else:
        parts = [loss * recipe.weights[task] for task, loss in losses.items()]
    return torch.stack(parts).sum()
