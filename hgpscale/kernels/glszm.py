"""Grey level zones: 26-connected groups of voxels of one level."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hgpscale.kernels.cast import LevelGrid
from hgpscale.kernels.jit import kernel
from hgpscale.kernels.offsets import half_offsets


def zones(grid: LevelGrid) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find all zones.

    Returns
    -------
    tuple of ndarrays
        Rank and size in voxels of each zone, int64, shape ``(n_zone,)``.

    """
    sizes = _zone_sizes(grid.flat, grid.voxels, grid.steps(half_offsets((1,))))
    roots = np.flatnonzero(sizes)
    return grid.flat[roots].astype(np.int64), sizes[roots]


_BELOW = half_offsets((1,)).tolist().index([1, 0, 0])


@kernel
def _root(parent: NDArray[np.int64], p: int) -> int:
    while parent[p] != p:
        parent[p] = parent[parent[p]]
        p = parent[p]
    return p


@kernel
def _zone_sizes(flat: NDArray[np.uint16], voxels: NDArray[np.int64], steps: NDArray[np.int64]) -> NDArray[np.int64]:
    """Union-find over the 13 predecessors; the size stands at each zone's first voxel, 0 elsewhere."""
    parent = np.zeros(flat.size, dtype=np.int64)
    for k in range(voxels.size):
        p = voxels[k]
        level = flat[p]
        below = p - steps[_BELOW]
        if flat[below] == level:
            # It touches all other predecessors, so those of this level are in its zone already.
            parent[p] = _root(parent, below)
            continue
        root = p
        parent[p] = p
        for d in range(steps.size):
            q = p - steps[d]
            if flat[q] == level:
                q = _root(parent, q)
                parent[max(root, q)] = min(root, q)
                root = min(root, q)
    sizes = np.zeros(flat.size, dtype=np.int64)
    for k in range(voxels.size):
        p = voxels[k]
        # Roots come before their members, so one look-up is enough once the parent's own root is known.
        parent[p] = parent[parent[p]]
        sizes[parent[p]] += 1
    return sizes
