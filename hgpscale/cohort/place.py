"""Masks on another grid than their image: put onto the image's where each voxel lies on one of its voxels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from hgpscale.volume import Geometry, Index, Volume

_OFF = 0.1
"""Of a voxel: how far a mask's voxel may lie from the image's. Headers round, and slices are not perfectly even."""


def onto(part: Volume, grid: Geometry) -> Volume:
    """Return a box of voxels on another grid, where that is the same one cropped, flipped, turned or of other extent.

    Parameters
    ----------
    part
        Voxels ``(z, y, x)`` and their own grid.
    grid
        Where they shall lie.

    Returns
    -------
    Volume
        The box on `grid`; `part` itself where its voxels do not lie on voxels of `grid`.

    """
    own, shape = part.geometry, part.array.shape
    to_point, from_point = _matrix(own), np.linalg.inv(_matrix(grid))
    turn = from_point @ to_point
    shift = from_point @ (np.subtract(own.origin, grid.origin))
    corners = np.array(
        [
            [s + c * (n - 1) for s, c, n in zip(part.start, corner, shape, strict=True)]
            for corner in product((0, 1), repeat=3)
        ]
    )
    at = corners @ turn.T + shift
    whole = np.rint(at)
    if np.abs(at - whole).max() > _OFF:
        return part
    axes = _axes(turn, shape)
    if axes is None:
        return part
    lower, upper = whole.min(axis=0).astype(int), whole.max(axis=0).astype(int) + 1
    if (upper - lower != np.array(shape)[list(axes)]).any() or (lower < 0).any() or (upper > grid.size).any():
        return part
    array = part.array.transpose(axes)
    flips = tuple(slice(None, None, -1 if turn[axis, source] < 0 else 1) for axis, source in enumerate(axes))
    return Volume(array[flips], grid, (int(lower[0]), int(lower[1]), int(lower[2])))


def turned(own: Geometry, grid: Geometry) -> Geometry:
    """Return a grid with its axes in the order and the directions of another's: the same voxels, counted anew.

    It is `own` where nothing is to be turned, or an axis runs along none of the other's.
    """
    turn = np.linalg.inv(_matrix(grid)) @ _matrix(own)
    axes = _axes(turn, own.size)
    if axes is None:
        return own
    flipped = [source for axis, source in enumerate(axes) if turn[axis, source] < 0]
    if not flipped and axes == (0, 1, 2):
        return own
    z, y, x = (n - 1 if source in flipped else 0 for source, n in enumerate(own.size))
    columns = np.reshape(own.direction, (3, 3))[:, ::-1].copy()
    columns[:, flipped] *= -1
    direction = columns[:, list(axes)][:, ::-1]
    a, b, c = axes
    size, spacing = own.size, own.spacing
    return Geometry(
        (size[a], size[b], size[c]),
        (spacing[a], spacing[b], spacing[c]),
        own.point((z, y, x)),
        tuple(map(float, direction.ravel())),
    )


def _matrix(geometry: Geometry) -> NDArray[np.float64]:
    """Return the matrix from an index ``(z, y, x)`` to a point ``(x, y, z)``, less the origin."""
    matrix: NDArray[np.float64] = np.reshape(geometry.direction, (3, 3))[:, ::-1] * np.array(geometry.spacing)
    return matrix


def _axes(turn: NDArray[np.float64], shape: tuple[int, ...]) -> tuple[int, int, int] | None:
    """Return which axis of the mask runs along each of the grid; None where one runs along none.

    An axis of one voxel takes what the others leave.
    """
    found: dict[int, int] = {}
    for source in sorted(range(3), key=lambda axis: shape[axis] == 1):
        free = [axis for axis in range(3) if axis not in found]
        axis = max(free, key=lambda axis: abs(turn[axis, source]))
        step = np.zeros(3)
        step[axis] = np.sign(turn[axis, source])
        if shape[source] > 1 and np.abs(turn[:, source] - step).max() * (shape[source] - 1) > 2 * _OFF:
            return None
        found[axis] = source
    return found[0], found[1], found[2]


def trimmed(part: Volume) -> Volume | None:
    """Return the smallest box of `part` that holds all voxels other than 0; None where there is none."""
    array = part.array
    if not array.any():
        return None
    lower, box = [], []
    for axis in range(3):
        hit = np.flatnonzero(array.any(axis=tuple(other for other in range(3) if other != axis)))
        lower.append(int(hit[0]))
        box.append(slice(int(hit[0]), int(hit[-1]) + 1))
    z, y, x = (a + b for a, b in zip(lower, part.start, strict=True))
    return Volume(array[tuple(box)], part.geometry, (z, y, x))


def empty(grid: Geometry) -> Volume:
    """Return a region without voxels: one that is False."""
    return Volume(np.zeros((1, 1, 1), np.bool_), grid)


def union(parts: Sequence[Volume]) -> Volume:
    """Return the smallest box that holds boolean parts of one grid, True where any of them is."""
    held = [part for part in map(trimmed, parts) if part is not None]
    if not held:
        return empty(parts[0].geometry)
    lower = np.min([part.box[0] for part in held], axis=0)
    upper = np.max([part.box[1] for part in held], axis=0)
    array = np.zeros(upper - lower, np.bool_)
    for part in held:
        array[tuple(slice(a - o, b - o) for a, b, o in zip(*part.box, lower, strict=True))] |= part.array
    start: Index = (int(lower[0]), int(lower[1]), int(lower[2]))
    return Volume(array, held[0].geometry, start)
