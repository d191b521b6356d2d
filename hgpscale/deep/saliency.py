"""Which voxels around a lesion speak for which pattern."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hgpscale.deep.crops import Crop
    from hgpscale.deep.network import Network

_STEPS = 8
_TINY = 1e-6


def attribute(networks: Sequence[Network], crop: Crop, device: torch.device) -> NDArray[np.float32]:
    """Return how much each voxel adds to the log-odds of each pattern, float32 ``(3, z, y, x)``.

    Integrated gradients (Sundararajan, Taly and Yan 2017) along the straight way from a crop in which every voxel has
    the mean of the crop to the crop itself, in eight steps, the mean over networks. The sum over all voxels is, but
    for the steps, what the image changes in the log-odds of the expected fraction. The lesion's outline is kept.

    Parameters
    ----------
    networks
        That were asked.
    crop
        Around a lesion.
    device
        Where the networks are.

    """
    assert crop.distance is not None, "it is a lesion's"
    image = torch.tensor(crop.image, device=device)[None, None]
    distance = torch.tensor(crop.distance, device=device)[None, None]
    start = image.mean().expand_as(image)
    total = torch.zeros((3, *image.shape[2:]), device=device)
    for network in networks:
        for step in range(_STEPS):
            at = (start + (image - start) * ((step + 0.5) / _STEPS)).clone().requires_grad_(True)
            odds = _log_odds(network.of_lesions(network.features(at), at, distance).logits)
            for pattern in range(3):
                (slope,) = torch.autograd.grad(odds[pattern], at, retain_graph=pattern < 2)
                total[pattern] += slope[0, 0]
    return np.asarray((total * (image - start)[0, 0] / (_STEPS * len(networks))).cpu().numpy())


def _log_odds(logits: torch.Tensor) -> torch.Tensor:
    """Return the log-odds of the expected fraction of each pattern from logits ``(1, 5)``; see `hurdle.parts_of`."""
    gate = torch.softmax(logits[0, :3], 0)
    d = gate[2] + gate[1] * torch.sigmoid(logits[0, 3])
    r = (1 - d) * torch.sigmoid(logits[0, 4])
    return torch.stack([torch.logit(value, _TINY) for value in (d, r, 1 - d - r)])
