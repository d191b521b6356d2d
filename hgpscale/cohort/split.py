"""Splits a region into lesions: voxels that touch, and parts nearer than a distance, are one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hgpscale.volume import Volume

if TYPE_CHECKING:
    from scipy.spatial import cKDTree

_TOUCHING = np.ones((3, 3, 3), bool)
_ROUNDING = 1 + 1e-9


@dataclass(frozen=True, eq=False)
class Part:
    """One lesion of a region.

    Attributes
    ----------
    volume
        Boolean box ``(z, y, x)`` around it.
    mm3
        Its volume in mm³.
    centre
        Physical point ``(x, y, z)`` in mm, LPS, of the mean of its voxel centres.

    """

    volume: Volume
    mm3: float
    centre: tuple[float, float, float]

    @property
    def place(self) -> tuple[float, float, float]:
        """What parts are ordered by: z, then y, then x of the centre in LPS, to a micrometre."""
        x, y, z = (round(value, 3) for value in self.centre)
        return z, y, x


def part_of(region: Volume) -> Part:
    """Return a region as one part, cut to its voxels; `region` is a boolean box with at least one voxel set."""
    from scipy import ndimage  # here and below where it is used: workers that only extract never wait for it

    (box,) = ndimage.find_objects(region.array.astype(np.uint8), max_label=1)
    cut = region.array[box].astype(bool)
    start = [a + s.start for a, s in zip(region.start, box, strict=True)]
    mean = [float(at.mean()) + a for at, a in zip(np.nonzero(cut), start, strict=True)]
    volume = Volume(cut, region.geometry, (start[0], start[1], start[2]))
    mm3 = float(np.count_nonzero(cut)) * math.prod(region.geometry.spacing)
    return Part(volume, mm3, region.geometry.point((mean[0], mean[1], mean[2])))


def split_region(region: Volume, merge_mm: float = 0.0) -> list[Part]:
    """Split a region into parts whose voxels touch by face, edge or corner.

    Parameters
    ----------
    region
        Boolean box ``(z, y, x)``.
    merge_mm
        Parts are one lesion where the distance of their nearest voxel centres is at most this, in mm.

    Returns
    -------
    list of Part
        Ordered by `Part.place`; none where no voxel is set.

    """
    from scipy import ndimage

    labels, count = ndimage.label(region.array, _TOUCHING)
    if merge_mm > 0 and count > 1:
        labels, count = _merged(labels, count, region.geometry.spacing, merge_mm)
    parts = []
    for value, box in enumerate(ndimage.find_objects(labels, max_label=count), start=1):
        start = [a + s.start for a, s in zip(region.start, box, strict=True)]
        parts.append(part_of(Volume(labels[box] == value, region.geometry, (start[0], start[1], start[2]))))
    return sorted(parts, key=lambda part: part.place)


def _merged(
    labels: NDArray[Any], count: int, spacing: tuple[float, float, float], merge_mm: float
) -> tuple[NDArray[Any], int]:
    from scipy import ndimage
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    boxes = ndimage.find_objects(labels)
    faces = ndimage.generate_binary_structure(3, 1)
    lower = np.array([[s.start for s in box] for box in boxes]) * spacing
    upper = np.array([[s.stop - 1 for s in box] for box in boxes]) * spacing
    reach = merge_mm * _ROUNDING
    trees: dict[int, cKDTree] = {}

    def tree(part: int) -> cKDTree:
        if part not in trees:
            inside = np.pad(labels[boxes[part]] == part + 1, 1)
            # The nearest voxels of two parts are on their surfaces: from any other, a step leads nearer.
            surface = (inside & ~ndimage.binary_erosion(inside, faces))[1:-1, 1:-1, 1:-1]
            trees[part] = cKDTree(np.argwhere(surface) * spacing + lower[part])
        return trees[part]

    first, second = [], []
    for a in range(count - 1):
        gaps = np.maximum(0, np.maximum(lower[a + 1 :] - upper[a], lower[a] - upper[a + 1 :]))
        for b in np.flatnonzero(np.linalg.norm(gaps, axis=1) <= reach) + a + 1:
            nearest, _ = tree(a).query(tree(int(b)).data, distance_upper_bound=reach * _ROUNDING)
            if np.min(nearest) <= reach:
                first.append(a)
                second.append(int(b))
    edges = coo_array((np.ones(len(first)), (first, second)), (count, count))
    number, group = connected_components(edges, directed=False)
    return np.concatenate(([0], group + 1))[labels], int(number)
