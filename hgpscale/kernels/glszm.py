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
    box, steps = grid.box, grid.box.steps(half_offsets((1,), across))
    return _zones(grid.flat, box.spans, box.longest_span, box.voxels.size, steps, *_representatives(across))


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
def _zones(
    flat: NDArray[np.uint16],
    spans: NDArray[np.int64],
    longest: int,
    n_voxel: int,
    steps: NDArray[np.int64],
    kept: NDArray[np.uint16],
    lowest: NDArray[np.uint8],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Label voxel by voxel; a label found to mean the same zone as an earlier one names that one as its parent."""
    label = np.empty(flat.size, dtype=np.uint32)
    parent = np.empty(n_voxel, dtype=np.uint32)
    rank_of = np.empty(n_voxel, dtype=np.uint16)
    sizes = np.zeros(n_voxel, dtype=np.uint32)
    equal = np.empty(longest, dtype=np.uint16)
    n_label = np.uint32(0)
    for s in range(spans.shape[0]):
        first, length = spans[s]
        _mark_equal(flat, first, length, steps, equal)
        for k in range(length):
            p = np.uint64(first + k)
            if flat[p] == 0:
                continue
            left = kept[equal[k]]
            if left == 0:
                found = n_label
                parent[found] = found
                rank_of[found] = flat[p]
                n_label += np.uint32(1)
            else:
                found = parent[label[p - np.uint64(steps[lowest[left]])]]
                left &= left - np.uint16(1)
                while left != 0:
                    other = parent[label[p - np.uint64(steps[lowest[left]])]]
                    left &= left - np.uint16(1)
                    if other != found:
                        found = _unite(parent, found, other)
            label[p] = found
            sizes[found] += np.uint32(1)
    return _gather(parent[:n_label], rank_of, sizes)


@kernel
def _mark_equal(
    flat: NDArray[np.uint16], first: int, length: int, steps: NDArray[np.int64], equal: NDArray[np.uint16]
) -> None:
    """Set bit d of `equal` where a voxel of the span has the level of the voxel `steps[d]` before it."""
    here = flat[first : first + length]
    equal[:] = 0
    for d in range(steps.size):
        before = flat[first - steps[d] : first - steps[d] + length]
        bit = np.uint16(1 << d)
        for k in range(length):
            equal[k] |= bit if before[k] == here[k] else np.uint16(0)


@kernel
def _unite(parent: NDArray[np.uint32], a: np.uint32, b: np.uint32) -> np.uint32:
    """Make two labels mean one zone, and return its first label."""
    while parent[a] != a:
        parent[a] = parent[parent[a]]
        a = parent[a]
    while parent[b] != b:
        parent[b] = parent[parent[b]]
        b = parent[b]
    first = min(a, b)
    parent[max(a, b)] = first
    return first


@kernel
def _gather(
    parent: NDArray[np.uint32], rank_of: NDArray[np.uint16], sizes: NDArray[np.uint32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Add up the sizes of labels that mean one zone: parents come first, so the last label hands on first."""
    ranks = np.empty(parent.size, dtype=np.int64)
    totals = np.empty(parent.size, dtype=np.int64)
    n_zone = 0
    for found in range(parent.size - 1, -1, -1):
        if parent[found] != found:
            sizes[parent[found]] += sizes[found]
        else:
            ranks[n_zone] = rank_of[found]
            totals[n_zone] = sizes[found]
            n_zone += 1
    return ranks[:n_zone], totals[:n_zone]
