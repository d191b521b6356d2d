"""One network: a residual U-Net whose features become outlines, a lesion's growth and a patient's."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import torch
from monai.networks.nets.dynunet import DynUNet
from monai.networks.nets.segresnet import SegResNet
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

if TYPE_CHECKING:
    from hgpscale.deep.recipe import Recipe

LESION, ORGAN = 0, 1
"""Channels of what is outlined: lesions, the liver."""

OUTPUTS = 5
"""Logits of growth: pure other, mixed and pure desmoplastic (the gate); the desmoplastic part of a mixed lesion;
replacement against pushing in what is not desmoplastic. See `learn.composition`."""

_SOFT_MM = 0.4
_FEWEST = 0.5  # voxels; a shell of less is empty
_SLOWEST, _FLAT, _FARTHEST = 0.01, 1e-3, 8.0
"""Of `Standardise`: share of a new batch, deviation below which a column counts as flat, largest value."""


class Growth(NamedTuple):
    """What the network says of lesions.

    Attributes
    ----------
    embedding
        Shape ``(lesion, n)``.
    logits
        Shape ``(lesion, 5)``, see `OUTPUTS`.

    """

    embedding: torch.Tensor
    logits: torch.Tensor


class Network(nn.Module):
    """Outlines lesions and liver, and says how lesions and patients grow.

    Parameters
    ----------
    recipe
        Sizes of all parts.

    """

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        channels, width, size = recipe.filters, recipe.width, recipe.embedding
        self.backbone = _backbone(recipe)
        self.outlines = nn.Conv3d(channels, 2, 1)
        # Rare voxels: begin by saying that there is no lesion.
        nn.init.constant_(self.outlines.bias, -2.0)  # type: ignore[arg-type]
        self.interface = nn.Sequential(
            nn.Conv3d(channels + 1, width, 3, padding=1),
            nn.GroupNorm(_groups(width), width),
            nn.SiLU(),
            nn.Conv3d(width, width, 3, padding=1),
            nn.GroupNorm(_groups(width), width),
            nn.SiLU(),
        )
        shells = len(recipe.shells)  # the core, and what lies between each two edges
        pooled = shells * 2 * (width + 1)
        self.embed = nn.Sequential(
            Standardise(pooled), nn.Linear(pooled, 2 * width), nn.SiLU(),
            nn.Dropout(recipe.dropout), nn.Linear(2 * width, size), nn.Tanh(),
        )  # fmt: skip
        self.growth = nn.Linear(size, OUTPUTS)
        self.attention = nn.ModuleDict({"tanh": nn.Linear(size, size), "gate": nn.Linear(size, size)})
        self.attend = nn.Linear(size, 1)
        self.patient = nn.Linear(size, OUTPUTS)
        self.log_variance = nn.Parameter(torch.zeros(4))
        self._edges, self._checkpointing = recipe.shells, recipe.checkpointing

    def features(self, image: torch.Tensor) -> torch.Tensor:
        """Return the backbone's features ``(patch, channel, z, y, x)`` of images ``(patch, 1, z, y, x)``."""
        if self._checkpointing and self.training:
            return torch.as_tensor(checkpoint(self.backbone, image, use_reentrant=False))
        return torch.as_tensor(self.backbone(image))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits of lesion and liver, ``(patch, 2, z, y, x)``."""
        return torch.as_tensor(self.outlines(self.features(image)))

    def of_lesions(self, features: torch.Tensor, image: torch.Tensor, distance: torch.Tensor) -> Growth:
        """Return what is seen at the interface of lesions.

        Parameters
        ----------
        features, image
            Of patches around lesions.
        distance
            In mm from each lesion's surface, ``(lesion, 1, z, y, x)``.

        """
        # Means of squares minus squares of means: in half precision nothing would be left of them.
        with torch.autocast(image.device.type, enabled=False):
            contrast = image.float() - around(image.float(), distance, self._edges)
        seen = self.interface(torch.cat([features, contrast], 1))
        with torch.autocast(image.device.type, enabled=False):
            embedding = self.embed(pool(torch.cat([seen.float(), contrast], 1), distance, self._edges))
            return Growth(embedding, self.growth(embedding))

    def of_patients(self, embedding: torch.Tensor, patient: torch.Tensor, count: int) -> torch.Tensor:
        """Return logits of patients, ``(patient, 5)``: attention over their lesions (Ilse, Tomczak and Welling 2018).

        Parameters
        ----------
        embedding
            Of lesions, ``(lesion, n)``.
        patient
            Position of each lesion's patient, int64 ``(lesion,)``.
        count
            How many patients there are, each with a lesion.

        """
        gated = torch.tanh(self.attention["tanh"](embedding)) * torch.sigmoid(self.attention["gate"](embedding))
        score = self.attend(gated)[:, 0]
        pooled = []
        for number in range(count):
            mine = patient == number
            pooled.append((functional.softmax(score[mine], 0)[:, None] * embedding[mine]).sum(0))
        return torch.as_tensor(self.patient(torch.stack(pooled)))


class Standardise(nn.Module):
    """Shift and scale each column by the mean and deviation that it has had over the last batches.

    Those of the batch itself, as a batch norm takes them, would be noise: a step sees a handful of lesions.

    Parameters
    ----------
    size
        Number of columns.

    """

    mean: torch.Tensor
    square: torch.Tensor
    count: torch.Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("square", torch.ones(size))
        self.register_buffer("count", torch.zeros(()))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Return rows ``(row, column)`` about 0 with a deviation about 1; in training they are learned from first."""
        if self.training:
            with torch.no_grad():
                self.count += 1
                share = torch.clamp(1 / self.count, min=_SLOWEST)
                self.mean.lerp_(rows.detach().mean(0), share)
                self.square.lerp_((rows.detach() ** 2).mean(0), share)
        deviation = torch.sqrt((self.square - self.mean**2).clamp(min=0) + _FLAT**2)
        return ((rows - self.mean) / deviation).clamp(-_FARTHEST, _FARTHEST)


def around(image: torch.Tensor, distance: torch.Tensor, edges: tuple[float, ...]) -> torch.Tensor:
    """Return the mean of the outermost shell of each lesion, ``(lesion, 1, 1, 1, 1)``: mostly liver.

    What is seen of a lesion is seen against it, so that contrast phase and scanner matter less. Where a lesion is too
    large for the patch, it is the mean of what is outside of the lesion, and where nothing is, of the whole patch.
    """
    inner, outer = (torch.sigmoid((edge - distance) / _SOFT_MM) for edge in edges[-2:])
    axes = (2, 3, 4)
    shell, outside = outer - inner, (distance > 0).to(image.dtype)
    enough = [weight.sum(axes, keepdim=True) > _FEWEST for weight in (shell, outside)]
    weight = torch.where(enough[0], shell, torch.where(enough[1], outside, torch.ones_like(outside)))
    return torch.as_tensor((image * weight).sum(axes, keepdim=True) / weight.sum(axes, keepdim=True))


def pool(seen: torch.Tensor, distance: torch.Tensor, edges: tuple[float, ...]) -> torch.Tensor:
    """Return mean and deviation of each channel within the core and each shell around a lesion's surface.

    Borders of shells are soft over some tenths of a mm, so that a shell thinner than a voxel has some of it.

    Parameters
    ----------
    seen
        ``(lesion, channel, z, y, x)``.
    distance
        In mm, ``(lesion, 1, z, y, x)``.
    edges
        In mm; all that is below the first one is the core.

    Returns
    -------
    Tensor
        ``(lesion, shell * 2 * channel)``; zeros where a shell is empty.

    """
    inside = [torch.sigmoid((edge - distance) / _SOFT_MM) for edge in edges]
    shares = torch.cat([inside[0], *(outer - inner for inner, outer in pairwise(inside))], 1)
    weight = shares.flatten(2)
    total = weight.sum(2)
    flat = seen.flatten(2)
    scale = 1 / total.clamp(min=1e-3)
    mean = torch.einsum("lsv,lcv->lsc", weight, flat) * scale[..., None]
    square = torch.einsum("lsv,lcv->lsc", weight, flat**2) * scale[..., None]
    # The gradient of a root at 0 is infinite.
    deviation = torch.sqrt((square - mean**2).clamp(min=0) + 1e-4)
    there = (total > _FEWEST)[..., None].to(mean.dtype)
    return torch.cat([mean * there, deviation * there], 2).flatten(1)


def _backbone(recipe: Recipe) -> nn.Module:
    """Return MONAI's network with its last features as output."""
    levels, filters = recipe.levels, recipe.filters
    if recipe.backbone == "segresnet":
        return SegResNet(
            spatial_dims=3,
            init_filters=filters,
            in_channels=1,
            blocks_down=(1,) * levels if levels < 4 else (1, 2, 2, 4, 4, 4, 4)[:levels],
            blocks_up=(1,) * (levels - 1),
            norm=("GROUP", {"num_groups": _groups(filters)}),
            use_conv_final=False,
        )
    return DynUNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=filters,
        kernel_size=[3] * levels,
        strides=[1] + [2] * (levels - 1),
        upsample_kernel_size=[2] * (levels - 1),
        filters=[min(filters * 2**level, 320) for level in range(levels)],
        norm_name=("INSTANCE", {"affine": True}),
        res_block=True,
    )


def _groups(channels: int) -> int:
    """Return the largest of 8, 4, 2 and 1 that divides a number of channels."""
    return next(n for n in (8, 4, 2, 1) if channels % n == 0)
