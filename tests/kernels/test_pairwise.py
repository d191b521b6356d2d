"""Sums in pieces against NumPy's own, to the bit."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from hgpscale.kernels.pairwise import PIECE, piece_starts, piece_sum, sum_of_pieces

Array = np.ndarray[Any, Any]


@given(st.integers(1, 5000), st.integers(0, 2**32 - 1), st.booleans())
@example(1, 0, False)
@example(PIECE, 0, False)
@example(PIECE + 1, 0, False)
@example(1_000_003, 0, False)
@example(1_000_003, 0, True)
def test_sums_and_means_have_numpy_s_bits(n: int, seed: int, constant: bool) -> None:
    rng = np.random.default_rng(seed)
    values: Array = np.full(n, rng.normal()) if constant else rng.normal(1e3, 1e6, n)
    starts = piece_starts(n)
    assert starts[0] == 0
    assert starts[-1] == n
    assert 0 < np.diff(starts).min() <= np.diff(starts).max() <= PIECE
    sums = np.array([piece_sum(values[a:b]) for a, b in pairwise(starts)])
    assert sum_of_pieces(sums, n) == np.sum(values)
    assert sum_of_pieces(sums, n) / n == np.mean(values)
