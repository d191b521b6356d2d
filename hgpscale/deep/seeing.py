"""What trained networks see of lesions that are outlined already."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from hgpscale.deep.crops import Crop, take_lesion
from hgpscale.deep.network import LESION

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hgpscale.deep.network import Network
    from hgpscale.deep.prepared import PreparedScan
    from hgpscale.deep.recipe import Recipe

_AT_ONCE = 8
_MIRRORED = ((), (3,), (4,), (3, 4))
"""Axes of a patch that answers are averaged over the mirror images of: those of a slice."""


class Seen(NamedTuple):
    """What one network sees.

    Attributes
    ----------
    embedding
        float32, shape ``(lesion, n)``.
    logits
        float32, shape ``(lesion, 5)``; see `network.OUTPUTS`.

    """

    embedding: NDArray[np.float32]
    logits: NDArray[np.float32]


def see(network: Network, crops: Iterable[Crop], device: torch.device) -> Seen:
    """Return what a network sees of crops around lesions, the mean over their mirror images."""
    embedding: list[NDArray[np.float32]] = []
    logits: list[NDArray[np.float32]] = []
    some: list[Crop] = []
    network.eval()
    for crop in crops:
        some.append(crop)
        if len(some) == _AT_ONCE:
            _see_some(network, some, device, embedding, logits)
            some = []
    if some:
        _see_some(network, some, device, embedding, logits)
    if not embedding:
        return Seen(np.zeros((0, 0), np.float32), np.zeros((0, 5), np.float32))
    return Seen(np.concatenate(embedding), np.concatenate(logits))


def crops_of(scans: Sequence[PreparedScan], recipe: Recipe) -> Iterable[Crop]:
    """Yield the crop around each lesion of scans."""
    for scan in scans:
        for lesion in scan.lesions:
            yield take_lesion(scan, lesion, recipe.patch, recipe.window)


def patient_logits(network: Network, embedding: NDArray[np.float32], patient: Sequence[str]) -> NDArray[np.float32]:
    """Return a network's logits of each patient, in the order of their first lesions, from lesions' embeddings."""
    names = list(dict.fromkeys(patient))
    place = torch.tensor([names.index(name) for name in patient])
    weight = next(network.parameters())
    with torch.no_grad():
        found = network.of_patients(torch.tensor(embedding, device=weight.device), place.to(weight.device), len(names))
    return np.asarray(found.cpu().numpy())


@torch.no_grad()
def _see_some(
    network: Network,
    crops: Sequence[Crop],
    device: torch.device,
    embedding: list[NDArray[np.float32]],
    logits: list[NDArray[np.float32]],
) -> None:
    image = torch.tensor(np.stack([crop.image for crop in crops])[:, None], device=device)
    distance = torch.tensor(np.stack([crop.distance for crop in crops if crop.distance is not None])[:, None])
    distance = distance.to(device)
    found = []
    for axes in _MIRRORED:
        turned = image.flip(axes) if axes else image
        found.append(network.of_lesions(network.features(turned), turned, distance.flip(axes) if axes else distance))
    embedding.append(torch.stack([one.embedding for one in found]).mean(0).cpu().numpy())
    logits.append(torch.stack([one.logits for one in found]).mean(0).cpu().numpy())


@torch.no_grad()
def overlap(network: Network, crops: Iterable[Crop], device: torch.device) -> float:
    """Return the mean Dice of outlined and drawn lesions in crops, at a probability of one half."""
    found = []
    network.eval()
    for crop in crops:
        image = torch.tensor(crop.image, device=device)[None, None]
        said = network(image)[0, LESION].cpu().numpy() > 0
        drawn = crop.lesions > 0
        found.append(2 * float((said & drawn).sum()) / max(float(said.sum() + drawn.sum()), 1.0))
    return float(np.mean(found)) if found else float("nan")
