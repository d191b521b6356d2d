"""What comes before each voxel along a direction: the counts behind co-occurrence (GLCM) and run length (GLRLM).

Walking along a direction, a voxel either continues a run of its own level or follows a voxel of another level (or
one outside, rank 0). One counter for each of these *states* tells both matrices: the states that name another level
are the pairs, and the voxels at which a run reaches length r tell how many runs are that long or longer.

The images of one region are counted side by side: what belongs to a voxel stands together for all of them, so that
one step along a direction, the same for each, is taken for many at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hgpscale.kernels.cast import LevelGrid
from hgpscale.kernels.jit import kernel

_MOST_COUNTERS = 1 << 17
"""Counters of one direction that images are counted side by side with: they shall stay in the processor's cache."""
_MOST_BYTES = 1 << 26
"""Memory that laying images side by side may take; one image takes what it must."""


class Chains(NamedTuple):
    """Voxels by direction, rank and what comes before.

    Attributes
    ----------
    counts
        int32, shape ``(n_offset, n_levels, n_states)``, second axis rank - 1. State 0: the voxel before is
        outside the region; 1 to n_levels: it has that other rank; n_levels + r: it has the same rank, and r voxels
        of it come before without a gap.

    """

    counts: NDArray[np.int32]

    @property
    def n_levels(self) -> int:
        """Number of distinct grey levels."""
        return self.counts.shape[1]

    def pairs(self) -> NDArray[np.int64]:
        """Return pairs of voxels by their ranks.

        Returns
        -------
        ndarray
            int64, shape ``(n_offset, n_levels, n_levels)``: voxels of rank i + 1 whose neighbour at the offset has
            rank j + 1.

        """
        n = self.n_levels
        pairs = self.counts[:, :, 1 : n + 1].transpose(0, 2, 1).astype(np.int64)
        same = np.arange(n)
        pairs[:, same, same] = self.counts[:, :, n + 1 :].sum(axis=2)
        return pairs

    def runs(self) -> NDArray[np.int64]:
        """Return runs by rank and length.

        Returns
        -------
        ndarray
            int64, shape ``(n_offset, n_levels, longest)``: runs of rank i + 1 and length j + 1.

        """
        n = self.n_levels
        reached = self.counts[:, :, n:].astype(np.int64)
        reached[:, :, 0] = self.counts[:, :, : n + 1].sum(axis=2)
        reached[:, :, :-1] -= reached[:, :, 1:].copy()
        return reached

    def touching(self) -> NDArray[np.bool_]:
        """Whether any two voxels of the region are neighbours at each offset, shape ``(n_offset,)``."""
        return np.asarray(self.counts[:, :, 1:].any(axis=(1, 2)))


def count_chains(grids: Sequence[LevelGrid], offsets: NDArray[np.int64], longest: int | None) -> list[Chains]:
    """Count what comes before each voxel along each offset.

    Parameters
    ----------
    grids
        The region's ranks in its images, in one box that is padded at least as far as the offsets reach.
    offsets
        Offsets ``(dz, dy, dx)`` that lead forward in raster order, shape ``(n_offset, 3)``.
    longest
        Longest run that fits: the longest side of the region's box. None: only `Chains.pairs` is wanted; then no run
        is followed, which takes less time and memory.

    Raises
    ------
    ValueError
        States do not fit into 16 bits: `longest` and the number of levels are more than 65535 together.

    """
    refuse_too_many_states(grids, longest)
    return [chains for group in _groups(grids, offsets, longest) for chains in _count_group(group, offsets, longest)]


def refuse_too_many_states(grids: Sequence[LevelGrid], longest: int | None) -> None:
    """Raise the ValueError of `count_chains`."""
    if max(grid.n_levels for grid in grids) + (longest or 1) > np.iinfo(np.uint16).max:
        raise ValueError(f"runs of up to {longest} voxels and the grey levels take more than 65535 states")


def n_states(grid: LevelGrid, longest: int | None) -> int:
    """Return how many states a voxel of the image can have: the last axis of `Chains.counts`."""
    return grid.n_levels + n_more_states(longest)


def n_more_states(longest: int | None) -> int:
    """Return how many states there are besides one for each grey level."""
    return 2 if longest is None else longest


def _groups(
    grids: Sequence[LevelGrid], offsets: NDArray[np.int64], longest: int | None
) -> Iterator[Sequence[LevelGrid]]:
    z, y, x = grids[0].box.shape
    kept = (int(offsets[:, 0].max()) + 1) * y * x
    n_byte = 2 * (z * y * x + kept + (0 if longest is None else len(offsets) * kept))
    most = max(1, _MOST_BYTES // n_byte)
    first, n_counter = 0, 0
    for k, grid in enumerate(grids):
        own = (grid.n_levels + 1) * n_states(grid, longest)
        if k > first and (k - first == most or n_counter + own > _MOST_COUNTERS):
            yield grids[first:k]
            first, n_counter = k, 0
        n_counter += own
    yield grids[first:]


def _count_group(grids: Sequence[LevelGrid], offsets: NDArray[np.int64], longest: int | None) -> Iterator[Chains]:
    box = grids[0].box
    levels = np.array([grid.n_levels for grid in grids])
    # An image's counters are rows of states, one a rank; that of rank 0 is for voxels between those of the region.
    widths = np.array([n_states(grid, longest) for grid in grids])
    ends = np.cumsum((levels + 1) * widths)
    starts = np.append(0, ends[:-1])
    counts = np.zeros((len(offsets), ends[-1]), dtype=np.int32)
    images = _Images(
        np.tile(levels.astype(np.uint16), box.shape[2]),
        np.tile(widths.astype(np.uint32), box.shape[2]),
        np.tile(starts.astype(np.uint32), box.shape[2]),
    )
    _, y, x = box.shape
    n_kept = int(offsets[:, 0].max()) + 1
    ranks = np.zeros((n_kept, y * x * len(grids)), dtype=np.uint16)
    # Old states need no clearing as old ranks do: one is looked at only where a rank was laid, and then it is new.
    states = np.zeros((0 if longest is None else len(offsets), *ranks.shape), dtype=np.uint16)
    flats = np.stack([grid.flat for grid in grids])
    _count_chains(flats, box.rows, (y, x), offsets, images, ranks, states, counts)
    for start, end, n_levels in zip(starts, ends, levels, strict=True):
        yield Chains(counts[:, start:end].reshape(len(offsets), n_levels + 1, -1)[:, 1:])


class _Images(NamedTuple):
    """What differs by image, repeated for each place in a row of voxels, images innermost: ``(x * n_image,)``.

    Attributes
    ----------
    n_levels
        Grey levels of the image, uint16.
    n_states
        Counters a rank, uint32.
    start
        Where the image's counters begin, uint32.

    """

    n_levels: NDArray[np.uint16]
    n_states: NDArray[np.uint32]
    start: NDArray[np.uint32]


@kernel
def _count_chains(
    flats: NDArray[np.uint16],
    rows: NDArray[np.int64],
    plane_shape: tuple[int, int],
    offsets: NDArray[np.int64],
    images: _Images,
    ranks: NDArray[np.uint16],
    states: NDArray[np.uint16],
    counts: NDArray[np.int32],
) -> None:
    """Walk through the box row by row, keeping in `ranks` and `states` the planes that the offsets reach back to.

    Without room for `states` no run is followed: each is as if it began at the voxel before.
    """
    n_image = flats.shape[0]
    n_kept = ranks.shape[0]
    ny, nx = plane_shape
    plane = ny * nx
    first_key = np.empty(nx * n_image, dtype=np.uint32)
    keys = np.empty(nx * n_image, dtype=np.uint32)
    unused = np.empty(nx * n_image, dtype=np.uint16)
    z = -1
    for row in range(len(rows)):
        first, length = rows[row]
        while z < first // plane:
            z += 1
            ranks[z % n_kept] = 0
        n = length * n_image
        now = (first - z * plane) * n_image
        here = ranks[z % n_kept, now : now + n]
        _lay(flats, first, here)
        for k in range(n):
            first_key[k] = images.start[k] + here[k] * images.n_states[k]
        state, state_there = unused[:n], images.n_levels[:n]
        for d in range(len(offsets)):
            dz, dy, dx = offsets[d]
            then = now - (dy * nx + dx) * n_image
            there = ranks[(z - dz) % n_kept, then : then + n]
            if len(states):
                state = states[d, z % n_kept, now : now + n]
                state_there = states[d, (z - dz) % n_kept, then : then + n]
            _step(here, there, state_there, images.n_levels, first_key, state, keys)
            _count(keys[:n], counts[d])


@kernel
def _lay(flats: NDArray[np.uint16], first: int, here: NDArray[np.uint16]) -> None:
    """Put the ranks of a row of voxels side by side."""
    n_image = flats.shape[0]
    for image in range(n_image):
        flat = flats[image, first:]
        for k in range(here.size // n_image):
            here[np.uint64(k * n_image + image)] = flat[k]


@kernel
def _step(
    here: NDArray[np.uint16],
    there: NDArray[np.uint16],
    state_there: NDArray[np.uint16],
    n_levels: NDArray[np.uint16],
    first_key: NDArray[np.uint32],
    state: NDArray[np.uint16],
    keys: NDArray[np.uint32],
) -> None:
    """Find the states of a row, and which counters they are: outside of the region no run goes on."""
    for k in range(here.size):
        longer = np.uint16(max(state_there[k], n_levels[k]) + np.uint16(1))
        found = longer if (here[k] == there[k]) & (here[k] != 0) else there[k]
        state[k] = found
        keys[k] = first_key[k] + np.uint32(found)


@kernel
def _count(keys: NDArray[np.uint32], counts: NDArray[np.int32]) -> None:
    for k in range(keys.size):
        counts[np.uint64(keys[k])] += np.int32(1)
