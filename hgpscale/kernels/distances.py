"""The longest distance between two points of a set."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hgpscale.kernels.jit import kernel


def longest_distance(points: NDArray[np.float64], groups: NDArray[np.int64]) -> float:
    """Return the longest distance between two points of the same group; 0 where no group has two.

    Exact: points are tried from the outside in, and a pair is left out only when the sum of its distances to the
    group's centre is no longer than what is found already.

    Parameters
    ----------
    points
        float64, shape ``(n, 3)``.
    groups
        int64, shape ``(n,)``: which group each point belongs to.

    """
    order = np.argsort(groups, kind="stable")
    points, groups = points[order], groups[order]
    starts = np.flatnonzero(np.concatenate([[True], groups[1:] != groups[:-1]]))
    sizes = np.diff(np.append(starts, groups.size))
    centres = (np.minimum.reduceat(points, starts) + np.maximum.reduceat(points, starts)) / 2
    radii = np.sqrt(((points - np.repeat(centres, sizes, axis=0)) ** 2).sum(axis=1))
    outside_in = np.lexsort((-radii, groups))
    # Widest groups first: they set the mark that spares the others.
    widest = np.argsort(-np.maximum.reduceat(radii, starts), kind="stable")
    return float(_longest(points[outside_in], radii[outside_in], starts[widest], sizes[widest]))


@kernel
def _longest(
    points: NDArray[np.float64],
    radii: NDArray[np.float64],
    starts: NDArray[np.int64],
    sizes: NDArray[np.int64],
) -> float:
    best = 0.0
    squared = 0.0
    for g in range(starts.size):
        first = starts[g]
        for i in range(first + 1, first + sizes[g]):
            # Radii carry rounding errors: a hair of slack keeps the cut exact.
            if (radii[i] + radii[first]) * (1 + 1e-12) <= best:
                break
            for j in range(first, i):
                if (radii[i] + radii[j]) * (1 + 1e-12) <= best:
                    break
                dz = points[i, 0] - points[j, 0]
                dy = points[i, 1] - points[j, 1]
                dx = points[i, 2] - points[j, 2]
                distance = dz * dz + dy * dy + dx * dx
                if distance > squared:
                    squared = distance
                    best = np.sqrt(distance)
    return best
