"""Sums over matrices and values against plain numpy over whole arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hgpscale.kernels.reduce import EPS, PAIR_SUMS, SIZE_SUMS, occurring, sum_level_pairs, sum_pairs, sum_sizes
from hgpscale.kernels.statistics import central_sums, deviation_between, order_statistics

Array = np.ndarray[Any, Any]

level_sets = st.sets(st.integers(1, 40), min_size=1, max_size=6).map(lambda found: np.array(sorted(found)))
finite = st.floats(-1e6, 1e6, allow_subnormal=False)
value_sets = hnp.arrays(np.float64, st.integers(1, 80), elements=finite)


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@st.composite
def matrices(draw: st.DrawFn, n_columns: int | None = None) -> tuple[Array, Array]:
    """Draw levels and counts of two directions; with one column a level unless a number is given."""
    levels = draw(level_sets)
    shape = (2, levels.size, n_columns or levels.size)
    counts = draw(hnp.arrays(np.int64, shape, elements=st.integers(0, 5)))
    counts[:, 0, 0] += 1
    return levels, counts.astype(np.float64)


@given(level_sets)
def test_occurring(levels: Array) -> None:
    sums, differences = occurring(levels)
    assert np.flatnonzero(sums >= 0).tolist() == np.unique(levels[:, None] + levels).tolist()
    assert np.flatnonzero(differences >= 0).tolist() == np.unique(np.abs(levels[:, None] - levels)).tolist()
    for places in (sums, differences):
        assert places[places >= 0].tolist() == list(range(np.count_nonzero(places >= 0)))


@given(matrices())
def test_sums_over_pairs(drawn: tuple[Array, Array]) -> None:
    levels, counts = drawn
    p = counts / counts.sum(axis=(1, 2), keepdims=True)
    totals, sums, differences = sum_pairs(p, levels, *occurring(levels))
    i, j = levels[:, None], levels[None, :]
    for d in range(2):
        px, py = p[d].sum(axis=1), p[d].sum(axis=0)
        ux, uy = (px * levels).sum(), (py * levels).sum()
        independent = px[:, None] * py
        expected = {
            "ux": ux,
            "uy": uy,
            "var_x": (px * (levels - ux) ** 2).sum(),
            "var_y": (py * (levels - uy) ** 2).sum(),
            "covariance": (p[d] * (i - ux) * (j - uy)).sum(),
            "autocorrelation": (p[d] * i * j).sum(),
            "energy": (p[d] ** 2).sum(),
            "maximum": p[d].max(),
            "hx": -(px * np.log2(px + EPS)).sum(),
            "hy": -(py * np.log2(py + EPS)).sum(),
            "hxy": -(p[d] * np.log2(p[d] + EPS)).sum(),
            "hxy1": -(p[d] * np.log2(independent + EPS)).sum(),
            "hxy2": -(independent * np.log2(independent + EPS)).sum(),
        }
        close(totals[d], [expected[name] for name in PAIR_SUMS])
        close(sums[d], [p[d][i + j == k].sum() for k in np.unique(i + j)])
        close(differences[d], [p[d][np.abs(i - j) == k].sum() for k in np.unique(np.abs(i - j))])


@given(matrices(n_columns=4), st.sets(st.integers(1, 90), min_size=4, max_size=4))
def test_sums_over_sizes(drawn: tuple[Array, Array], chosen: set[int]) -> None:
    levels, sizes, counts = drawn[0].astype(float), np.array(sorted(chosen), dtype=float), drawn[1]
    i, j = levels[:, None] ** 2, sizes[None, :] ** 2
    share = counts / counts.sum(axis=(1, 2), keepdims=True)
    expected = {
        "entropy": -(share * np.log2(share + EPS)).sum(axis=(1, 2)),
        "small low": (counts / i / j).sum(axis=(1, 2)),
        "small high": (counts * i / j).sum(axis=(1, 2)),
        "large low": (counts * j / i).sum(axis=(1, 2)),
        "large high": (counts * i * j).sum(axis=(1, 2)),
    }
    close(sum_sizes(counts, levels, sizes), np.stack([expected[name] for name in SIZE_SUMS], axis=1))


@given(level_sets, st.integers(0, 2**32 - 1))
def test_sums_over_pairs_of_levels(found: Array, seed: int) -> None:
    rng = np.random.default_rng(seed)
    i, n, s = found.astype(float), rng.integers(1, 9, found.size), rng.random(found.size)
    p = n / n.sum()
    gap, both = i[:, None] - i, p[:, None] + p
    expected = (
        (p[:, None] * p * gap**2).sum(),
        np.abs((i * p)[:, None] - i * p).sum(),
        (np.abs(gap) * ((p * s)[:, None] + p * s) / both).sum(),
        (both * gap**2).sum(),
    )
    close(sum_level_pairs(i, p, s), expected)


@given(value_sets, st.data())
def test_order_statistics_are_those_of_a_sort(values: Array, data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.integers(0, values.size - 1), min_size=1, max_size=10).map(sorted))
    np.testing.assert_array_equal(order_statistics(values, np.array(chosen)), np.sort(values)[chosen])


@pytest.mark.parametrize("values", [[7.0] * 3, [0.0, 5e-324], [-1.7e308, 1.7e308, 0.0], [1.0, 1.0 + 2**-52]], ids=str)
def test_order_statistics_of_extreme_ranges(values: list[float]) -> None:
    with np.errstate(over="ignore"):
        found = order_statistics(np.array(values), np.arange(len(values)))
    assert found.tolist() == sorted(values)


@given(value_sets, st.floats(-300, 300))
def test_central_sums(values: Array, shift: float) -> None:
    deviation = values - values.mean()
    found = central_sums(values, values.mean(), shift)
    expected = [(np.abs(deviation) ** k).sum() for k in (1, 2, 3, 4)]
    np.testing.assert_allclose(
        found,
        [expected[0], expected[1], (deviation**3).sum(), expected[3], ((values + shift) ** 2).sum()],
        rtol=1e-12,
        # Of the third, positive and negative terms cancel.
        atol=1e-12 * max(1.0, expected[2]),
    )


@given(value_sets, finite, finite)
def test_deviation_between(values: Array, one: float, other: float) -> None:
    low, high = sorted((one, other))
    kept = values[(values >= low) & (values <= high)]
    found = deviation_between(values, low, high)
    if not kept.size:
        assert np.isnan(found)
    else:
        # A mean is off by rounding of the values' size, however close they lie.
        slack = 1e-12 * np.abs(kept).max()
        np.testing.assert_allclose(found, np.abs(kept - kept.mean()).mean(), rtol=1e-12, atol=slack)
