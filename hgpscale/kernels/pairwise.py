"""NumPy's order of adding up an array: pieces of up to 128 numbers, whose sums are added up as a tree.

A sum whose parts are computed elsewhere is then `numpy.sum`'s to the bit, and a mean `numpy.mean`'s.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hgpscale.kernels.jit import kernel

PIECE = 128
"""Numbers of a piece at most."""


def piece_starts(n: int) -> NDArray[np.int64]:
    """Return where the pieces of `n` numbers begin, and where the last ends, int64, shape ``(n_piece + 1,)``."""
    starts = np.empty(2 * n // PIECE + 3, dtype=np.int64)
    return np.append(starts[: _split(starts, 0, 0, n)], n)


def piece_sum(values: NDArray[np.float64]) -> float:
    """Add up one piece: eight sums side by side, then what is left over. Plain Python, for whatever compiles it."""
    whole = values.size - values.size % 8
    total = 0.0
    if whole:
        a, b, c, d = values[0], values[1], values[2], values[3]
        e, f, g, h = values[4], values[5], values[6], values[7]
        for k in range(8, whole, 8):
            a += values[k]
            b += values[k + 1]
            c += values[k + 2]
            d += values[k + 3]
            e += values[k + 4]
            f += values[k + 5]
            g += values[k + 6]
            h += values[k + 7]
        total = ((a + b) + (c + d)) + ((e + f) + (g + h))
    for k in range(whole, values.size):
        total += values[k]
    return total


def sum_of_pieces(sums: NDArray[np.float64], n: int) -> float:
    """Add up the sums of the pieces of `n` numbers, float64, shape ``(n_piece,)``."""
    total, _ = _add_up(sums, 0, n)
    return float(total)


@kernel
def _split(starts: NDArray[np.int64], n_piece: int, first: int, n: int) -> int:
    """Write where pieces begin after `n_piece` earlier ones, and return how many there are then."""
    if n <= PIECE:
        starts[n_piece] = first
        return n_piece + 1
    half = n // 2
    half -= half % 8
    n_piece = _split(starts, n_piece, first, half)
    return _split(starts, n_piece, first + half, n - half)


@kernel
def _add_up(sums: NDArray[np.float64], piece: int, n: int) -> tuple[float, int]:
    """Return the sum of `n` numbers from one piece on, and which piece comes after them."""
    if n <= PIECE:
        return sums[piece], piece + 1
    half = n // 2
    half -= half % 8
    left, piece = _add_up(sums, piece, half)
    right, piece = _add_up(sums, piece, n - half)
    return left + right, piece
