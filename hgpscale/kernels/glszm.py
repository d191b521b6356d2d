"""Grey level zones: groups of voxels of one level that touch by face, edge or corner."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from hgpscale.kernels.cast import LevelGrid
from hgpscale.kernels.jit import kernel
from hgpscale.kernels.offsets import half_offsets


def zones(grid: LevelGrid, across: int | None = None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find all zones; with `across`, those in the planes at right angles to that axis.

    Returns
    -------
    tuple of ndarrays
        Rank and size in voxels of each zone, int64, shape ``(n_zone,)``.

    """
    steps = grid.box.steps(half_offsets((1,), across))
    sizes = _zone_sizes(grid.flat, grid.box.spans, grid.box.longest_span, steps, *_representatives(across))
    return _listed(grid.flat, grid.box.voxels, sizes)


@cache
def _representatives(across: int | None) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """Return tables by which predecessors of a voxel have its level, as bits in the order of `half_offsets`.

    Two predecessors of that level that touch one another are in one zone already, so one of them is enough. The
    first table keeps a predecessor only where it touches no earlier one, beginning with those that touch most; the
    second gives the place of the lowest bit.
    """
    offsets = half_offsets((1,), across)
    found = np.arange(2 ** len(offsets))
    has = [(found >> d) & 1 for d in range(len(offsets))]
    touching = np.abs(offsets[:, None] - offsets[None]).max(axis=2) <= 1
    order = np.argsort(-touching.sum(axis=1), kind="stable")
    kept = np.zeros(found.size, dtype=np.int64)
    for place, d in enumerate(order):
        spared = np.zeros(found.size, dtype=np.int64)
        for earlier in order[:place]:
            if touching[d, earlier]:
                spared |= has[earlier]
        kept |= (has[d] & ~spared) << d
    lowest = np.argmax(np.stack(has), axis=0)
    return kept.astype(np.uint16), lowest.astype(np.uint8)


@kernel
def _root(parent: NDArray[np.uint32], p: np.uint32) -> np.uint32:
    while parent[p] != p:
        parent[p] = parent[parent[p]]
        p = parent[p]
    return p


@kernel
def _zone_sizes(
    flat: NDArray[np.uint16],
    spans: NDArray[np.int64],
    longest: int,
    steps: NDArray[np.int64],
    kept: NDArray[np.uint16],
    lowest: NDArray[np.uint8],
) -> NDArray[np.int32]:
    """Union-find over the predecessors; the size stands at each zone's root, 0 elsewhere."""
    parent = np.zeros(flat.size, dtype=np.uint32)
    sizes = np.zeros(flat.size, dtype=np.int32)
    equal = np.empty(longest, dtype=np.uint16)
    for s in range(spans.shape[0]):
        first = np.uint64(spans[s, 0])
        length = np.uint64(spans[s, 1])
        equal[:] = 0
        for d in range(steps.size):
            before = np.uint64(spans[s, 0] - steps[d])
            bit = np.uint16(1 << d)
            for k in range(length):
                equal[k] |= bit if flat[before + k] == flat[first + k] else np.uint16(0)
        for k in range(length):
            p = np.uint32(first + k)
            if flat[p] == 0:
                continue
            root = p
            parent[p] = p
            size = 1
            left = kept[equal[k]]
            while left != 0:
                other = _root(parent, np.uint32(p - np.uint32(steps[lowest[left]])))
                left &= left - np.uint16(1)
                if other != root:
                    parent[root] = other
                    size += sizes[other]
                    sizes[root] = 0
                    root = other
            sizes[root] = size
    return sizes


@kernel
def _listed(
    flat: NDArray[np.uint16], voxels: NDArray[np.int64], sizes: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    # One place more: every voxel is written, and the next one overwrites it unless it is a root.
    found_rank = np.empty(voxels.size + 1, dtype=np.int64)
    found_size = np.empty(voxels.size + 1, dtype=np.int64)
    n = 0
    for k in range(voxels.size):
        p = voxels[k]
        found_rank[n] = flat[p]
        found_size[n] = sizes[p]
        n += sizes[p] > 0
    return found_rank[:n], found_size[:n]
