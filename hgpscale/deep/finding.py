"""Finds lesions in a whole scan and says how each grows: sliding window, instances, then a look at each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from monai.inferers.utils import sliding_window_inference

from hgpscale.deep.crops import Crop, distance_from, start_around, windowed
from hgpscale.deep.instances import Instances, find_instances
from hgpscale.deep.network import LESION, ORGAN
from hgpscale.deep.regrid import AIR, image_on, part, share_on, working_grid
from hgpscale.deep.seeing import Seen, see
from hgpscale.volume import Geometry, Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hgpscale.deep.network import Network
    from hgpscale.deep.recipe import Recipe
    from hgpscale.volume import Vector

_BODY = -300.0  # HU; air and the table's foam are below
_OUTSIDE = -0.5  # what `windowed` makes of air
_AT_ONCE = 4
_LIVER_MARGIN_MM = 5.0
"""How far beyond an outlined liver a lesion may reach: at its capsule, and at tumours, livers are drawn too small."""


@dataclass(frozen=True, eq=False)
class FoundInScan:
    """What networks found in a scan, weak candidates included.

    Attributes
    ----------
    instances
        On the working grid; see `find_instances`.
    labels
        The same on the scan's grid ``(z, y, x)``, uint16.
    seen
        What each network sees of each lesion; of weak candidates, which come after those, nothing is asked.
    crops
        The boxes that they were seen in.

    """

    instances: Instances
    labels: NDArray[np.uint16]
    seen: tuple[Seen, ...]
    crops: tuple[Crop, ...]


def find_lesions(
    networks: Sequence[Network],
    image: Volume,
    recipe: Recipe,
    spacing: Vector,
    *,
    liver: NDArray[np.bool_] | None = None,
    within_liver: bool = False,
    threshold: float = 0.5,
    overlap: float = 0.5,
    device: torch.device,
    on_window: Callable[[int, int], None] | None = None,
) -> FoundInScan:
    """Find lesions in a scan.

    Parameters
    ----------
    networks
        Whose probabilities are averaged.
    image
        The whole scan, HU.
    recipe, spacing
        What the networks were trained with.
    liver
        Where lesions may be, on the scan's grid.
    within_liver
        Where `liver` is not given: whether lesions may be only in the liver that the networks outline, and around it.
    threshold
        Probability from which a voxel belongs to a lesion.
    overlap
        Share of a window that the next one looks at again.
    device
        Where the networks are.
    on_window
        Called with windows that are done, and their total.

    """
    grid = working_grid(image.geometry, spacing)
    hu = image_on(grid, image)
    said = probabilities(networks, hu, recipe, device, overlap=overlap, on_window=on_window)
    region = None
    if liver is not None:
        region = _near(share_on(grid, Volume(liver, image.geometry)) >= 0.5, spacing)
    elif within_liver:
        region = _near(_largest(said[ORGAN] >= 0.5), spacing)
    instances = find_instances(said[LESION], spacing, threshold=threshold, weak=min(0.1, threshold), region=region)
    boxes = _boxes(instances)
    count = int((instances.scores >= threshold).sum())
    crops = tuple(_crop(hu, instances.labels, at, boxes[at], recipe, spacing) for at in range(1, count + 1))
    seen = tuple(see(network, crops, device) for network in networks)
    return FoundInScan(instances, _on_scan(instances.labels, boxes, grid, image.geometry), seen, crops)


def probabilities(
    networks: Sequence[Network],
    hu: NDArray[np.float32],
    recipe: Recipe,
    device: torch.device,
    *,
    overlap: float = 0.5,
    on_window: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """Return the mean probabilities of lesion and liver at each voxel, float32 ``(2, z, y, x)``; 0 outside the body."""
    found = np.zeros((2, *hu.shape), np.float32)
    body = _body(hu)
    if body is None:
        return found
    image = torch.tensor(windowed(hu[body], recipe.window))[None, None]
    total = len(networks) * _windows(image.shape[2:], recipe.patch, overlap)
    done = 0

    def predict(windows: torch.Tensor, network: Network) -> torch.Tensor:
        nonlocal done
        done += len(windows)
        if on_window:
            on_window(min(done, total), total)
        return torch.sigmoid(network(windows).float())

    with torch.no_grad():
        for network in networks:
            network.eval()
            said = sliding_window_inference(
                image, recipe.patch, _AT_ONCE, lambda windows, network=network: predict(windows, network),
                overlap=overlap, mode="gaussian", sw_device=device, device="cpu", padding_mode="constant",
                cval=_OUTSIDE,
            )  # fmt: skip
            found[(slice(None), *body)] += torch.as_tensor(said)[0].numpy() / len(networks)
    return np.clip(found, 0, 1)


def _windows(size: Sequence[int], patch: Sequence[int], overlap: float) -> int:
    steps = [max(int(n * (1 - overlap)), 1) for n in patch]
    return int(np.prod([max(-(-(n - p) // s), 0) + 1 for n, p, s in zip(size, patch, steps, strict=True)]))


def _body(hu: NDArray[np.float32]) -> tuple[slice, ...] | None:
    """Return the box of all that is no air."""
    inside = hu > _BODY
    found = []
    for axis in range(3):
        there = np.flatnonzero(inside.any(axis=tuple(other for other in range(3) if other != axis)))
        if not there.size:
            return None
        found.append(slice(int(there[0]), int(there[-1]) + 1))
    return tuple(found)


def _largest(liver: NDArray[np.bool_]) -> NDArray[np.bool_]:
    from scipy import ndimage

    labels, count = ndimage.label(liver)
    return labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:])) if count else liver


def _near(liver: NDArray[np.bool_], spacing: Vector) -> NDArray[np.bool_] | None:
    """Return a liver with its holes, where tumours are, and what is near to it; None where there is no liver."""
    from scipy import ndimage

    if not liver.any():
        return None
    filled = ndimage.binary_fill_holes(liver)
    return np.asarray(ndimage.distance_transform_edt(~filled, spacing) <= _LIVER_MARGIN_MM)


def _boxes(instances: Instances) -> dict[int, tuple[slice, ...]]:
    from scipy.ndimage import find_objects

    found = find_objects(instances.labels, len(instances.scores))
    return {number: box for number, box in enumerate(found, start=1) if box is not None}


def _crop(
    hu: NDArray[np.float32],
    labels: NDArray[np.uint16],
    number: int,
    box: tuple[slice, ...],
    recipe: Recipe,
    spacing: Vector,
) -> Crop:
    """Return the box around a candidate, as `take_lesion` has it of a drawn one."""
    z, y, x = ((side.start + side.stop - 1) / 2 for side in box)
    start = start_around((z, y, x), recipe.patch)
    image = windowed(_padded(hu, start, recipe.patch, AIR), recipe.window)
    distance = distance_from(_padded(labels, start, recipe.patch, 0) == number, spacing)
    nothing = np.broadcast_to(np.float32(0), image.shape)  # it is asked about, not learned from
    return Crop(image, nothing, nothing, distance)


def _padded(array: NDArray[Any], start: Sequence[int], size: Sequence[int], outside: float) -> NDArray[Any]:
    found = np.full(size, outside, array.dtype)
    lower = [max(a, 0) for a in start]
    upper = [min(a + n, m) for a, n, m in zip(start, size, array.shape, strict=True)]
    there = tuple(slice(a, b) for a, b in zip(lower, upper, strict=True))
    here = tuple(slice(a - s, b - s) for a, b, s in zip(lower, upper, start, strict=True))
    found[here] = array[there]
    return found


def _on_scan(
    labels: NDArray[np.uint16], boxes: dict[int, tuple[slice, ...]], grid: Geometry, scan: Geometry
) -> NDArray[np.uint16]:
    """Return candidates on the scan's grid, the surer ones over the others; each has a voxel at least.

    Not by the nearest voxel, which would leave the steps of the wider grid in every outline: a voxel belongs to a
    candidate where half of it does, linear between the centres of the working grid's voxels.
    """
    whole = np.zeros(scan.size, np.uint16)
    to_scan = np.linalg.inv(np.reshape(scan.direction, (3, 3)))
    for number, box in sorted(boxes.items(), reverse=True):
        lower = [max(side.start - 1, 0) for side in box]
        size = [min(side.stop + 1, n) - a for side, n, a in zip(box, grid.size, lower, strict=True)]
        inside = np.asarray(labels[tuple(slice(a, a + n) for a, n in zip(lower, size, strict=True))] == number)
        corners = [[a - 1 + c * (n + 1) for a, n, c in zip(lower, size, bits, strict=True)] for bits in _CORNERS]
        points = np.array([grid.point((z, y, x)) for z, y, x in corners]) - scan.origin
        index = (points @ to_scan.T)[:, ::-1] / scan.spacing
        first = np.clip(np.floor(index.min(axis=0)), 0, np.array(scan.size) - 1).astype(int)
        last = np.clip(np.ceil(index.max(axis=0)) + 1, first + 1, scan.size).astype(int)
        target = part(scan, first, last - first)
        share = share_on(target, Volume(inside, part(grid, lower, size)))
        chosen = share >= min(0.5, float(share.max())) if share.max() > 0 else np.zeros(share.shape, bool)
        place = whole[tuple(slice(a, b) for a, b in zip(first.tolist(), last.tolist(), strict=True))]
        place[chosen] = number
    return whole


_CORNERS = [(z, y, x) for z in (0, 1) for y in (0, 1) for x in (0, 1)]
