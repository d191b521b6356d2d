"""Binning against numpy.digitize, and the longest distance against all pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hgpscale.kernels.digitize import digitize
from hgpscale.kernels.distances import longest_distance

finite = st.floats(-1e4, 1e4, allow_subnormal=False)


@given(
    hnp.arrays(np.float64, st.integers(1, 50), elements=finite),
    st.floats(-500, 500),
    st.sampled_from([0.1, 7.3, 25.0, 1e3]),
    st.integers(1, 60),
)
def test_digitize_is_numpys(values: np.ndarray[Any, Any], low: float, width: float, bins: int) -> None:
    edges = np.arange(bins + 1, dtype=np.float64) * width + low
    on_edges = np.concatenate([values, edges])
    found, counts = digitize(on_edges, edges)
    np.testing.assert_array_equal(found, np.digitize(on_edges, edges))
    np.testing.assert_array_equal(counts, np.bincount(found, minlength=edges.size + 1))


@given(
    hnp.arrays(np.int64, st.tuples(st.integers(1, 60), st.just(3)), elements=st.integers(-20, 20)),
    st.sampled_from([(1.0, 1.0, 1.0), (2.5, 0.7, 0.7)]),
    st.booleans(),
)
def test_longest_distance_is_that_of_all_pairs(
    points: np.ndarray[Any, Any], spacing: tuple[float, ...], grouped: bool
) -> None:
    places = points * np.array(spacing)
    groups = points[:, 0] if grouped else np.zeros(len(points), dtype=np.int64)
    apart = np.sqrt(((places[:, None] - places[None]) ** 2).sum(axis=-1))
    expected = apart[groups[:, None] == groups[None]].max()
    assert longest_distance(places, groups) == expected
