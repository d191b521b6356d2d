"""Agreement of raters against the published example, plain loops over exact fractions, and what must not matter."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from hgpscale.cube import agreement
from hgpscale.cube.agreement import Agreement, icc

Array = NDArray[np.float64]

# Shrout and Fleiss 1979, table 2: six targets, four judges.
PUBLISHED = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], dtype=float)


def one(rows: Array | list[list[float]], confidence: float = 0.95) -> dict[str, float]:
    """Return the numbers of a single feature, values ``(lesion, rater)``."""
    found = icc(np.asarray(rows, dtype=float)[:, :, None], confidence=confidence)
    return {name: float(array[0]) for name, array in found._asdict().items()}


def by_hand(rows: Array, confidence: float = 0.95) -> dict[str, float]:
    """Return the same as `one`, as printed in the papers: exact mean squares, then F's as ratios of them."""
    kept = [[Fraction(float(value)) for value in row] for row in rows if all(np.isfinite(row))]
    n, k = len(kept), len(kept[0])
    grand = sum(sum(row, Fraction()) for row in kept) / Fraction(n * k)
    lesions = [sum(row) / Fraction(k) for row in kept]
    raters = [sum(row[j] for row in kept) / Fraction(n) for j in range(k)]
    cells = [(i, j) for i in range(n) for j in range(k)]
    bms = float(sum((lesions[i] - grand) ** 2 for i, _ in cells) / (n - 1))
    jms = float(sum((raters[j] - grand) ** 2 for _, j in cells) / (k - 1))
    wms = float(sum((kept[i][j] - lesions[i]) ** 2 for i, j in cells) / (n * (k - 1)))
    ems = float(sum((kept[i][j] - lesions[i] - raters[j] + grand) ** 2 for i, j in cells) / ((n - 1) * (k - 1)))

    def quantile(first: float, second: float) -> float:
        return float(stats.f.ppf(1 - (1 - confidence) / 2, first, second))

    found = {"n": float(n)}
    for name, ms, within in (("icc1", wms, n * (k - 1)), ("icc3", ems, (n - 1) * (k - 1))):
        found[name] = (bms - ms) / (bms + (k - 1) * ms)
        low, high = bms / ms / quantile(n - 1, within), bms / ms * quantile(within, n - 1)
        found[f"{name}_low"], found[f"{name}_high"] = (low - 1) / (low + k - 1), (high - 1) / (high + k - 1)
    rho = (bms - ems) / (bms + (k - 1) * ems + k * (jms - ems) / n)
    # McGraw and Wong 1996, table 7.
    a, b = k * rho / (n * (1 - rho)), 1 + k * rho * (n - 1) / (n * (1 - rho))
    df = (a * jms + b * ems) ** 2 / ((a * jms) ** 2 / (k - 1) + (b * ems) ** 2 / ((n - 1) * (k - 1)))
    above, below = quantile(n - 1, df), quantile(df, n - 1)
    other = k * jms + (k * n - k - n) * ems
    found["icc2"] = rho
    found["icc2_low"] = n * (bms / above - ems) / (other + n * bms / above)  # divided by F, which may be infinite
    found["icc2_high"] = n * (below * bms - ems) / (other + n * below * bms)
    return found


def made(
    seed: int,
    shape: tuple[int, int, int],
    *,
    lesion: Array | float = 1.0,
    rater: Array | float = 1.0,
    noise: Array | float = 1.0,
) -> Array:
    """Return normal values whose spreads are given, each for all features or for each."""
    rng = np.random.default_rng(seed)
    lesions = rng.normal(size=(shape[0], 1, shape[2])) * lesion
    return lesions + rng.normal(size=(1, *shape[1:])) * rater + rng.normal(size=shape) * noise


@st.composite
def tables(draw: st.DrawFn) -> Array:
    """Draw values of any magnitude, with gaps, and features that lack one source of variance or more."""
    shape = (draw(st.integers(3, 9)), draw(st.integers(2, 5)), draw(st.integers(1, 7)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    lesion, rater, noise = rng.choice([0.0, 1.0, 1.0, 10.0], size=(3, shape[2]))
    values = made(int(rng.integers(2**32)), shape, lesion=lesion, rater=rater, noise=noise)
    values[rng.random(shape) < draw(st.sampled_from([0.0, 0.05, 0.3]))] = np.nan
    return values * 10.0 ** rng.integers(-12, 13, shape[2])


def same(found: Agreement, expected: Agreement, names: str = "icc") -> None:
    np.testing.assert_array_equal(found.n, expected.n)
    for name, array in expected._asdict().items():
        if name.startswith(names):
            np.testing.assert_allclose(found._asdict()[name], array, rtol=1e-7, atol=1e-9, err_msg=name)


def test_published_example() -> None:
    found = one(PUBLISHED)
    # Exact, from the mean squares 1349/120, 2339/72, 367/360 and 451/72; printed as .17, .29, .71.
    assert found["icc1"] == pytest.approx(448 / 2703, rel=1e-13)
    assert found["icc2"] == pytest.approx(184 / 635, rel=1e-13)
    assert found["icc3"] == pytest.approx(920 / 1287, rel=1e-13)
    # As the example of R's DescTools::ICC prints them; psych::ICC rounds to -0.133 0.72, 0.019 0.76, 0.342 0.95.
    limits = [found[f"icc{i}_{end}"] for i in (1, 2, 3) for end in ("low", "high")]
    expected = [-0.13293232, 0.7225601, 0.01878651, 0.7610844, 0.34246477, 0.9458583]
    assert limits == pytest.approx(expected, abs=6e-8)
    assert found["n"] == 6


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
@pytest.mark.parametrize(("n", "k"), [(2, 2), (3, 2), (2, 4), (5, 3), (8, 5), (40, 2)])
@pytest.mark.parametrize("lesion", [0.3, 1.0, 10.0])
def test_equals_plain_loops(n: int, k: int, lesion: float, confidence: float) -> None:
    for seed in range(4):
        values = made(seed, (n + 2, k, 3), lesion=lesion)
        values[[1, 3], [0, k - 1], 1] = np.nan, -np.inf
        found = icc(values, confidence=confidence)._asdict()
        for feature in range(3):
            expected = by_hand(values[:, :, feature], confidence)
            if np.isnan(found["icc2_low"][feature]):  # no degrees of freedom
                assert not expected["icc2_low"] <= expected["icc2"] <= expected["icc2_high"]
                del expected["icc2_low"], expected["icc2_high"]
            for name, number in expected.items():
                assert found[name][feature] == pytest.approx(number, rel=1e-8, abs=1e-10), name


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    values = made(1, (12, 3, 4000), rater=0.0)  # lesions' variance is half of all, in all three models
    found = icc(values, confidence=0.9)
    for low, high in ((found.icc1_low, found.icc1_high), (found.icc3_low, found.icc3_high)):
        assert np.mean((low <= 0.5) & (high >= 0.5)) == pytest.approx(0.9, abs=0.015)
        assert np.mean(high < 0.5) == pytest.approx(0.05, abs=0.011)
    found = icc(made(2, (12, 6, 4000)), confidence=0.9)  # now a third; the interval is approximate
    assert np.mean((found.icc2_low <= 1 / 3) & (found.icc2_high >= 1 / 3)) == pytest.approx(0.9, abs=0.03)


@given(tables(), st.integers(0, 2**32 - 1))
def test_shift_scale_and_order_do_not_matter(values: Array, seed: int) -> None:
    rng = np.random.default_rng(seed)
    expected = icc(values)
    unit = np.nan_to_num(np.nanmax(np.abs(np.nan_to_num(values)), axis=(0, 1)))
    same(icc(values + unit * rng.normal(0, 100, values.shape[2])), expected)
    same(icc(values * rng.uniform(1e-3, 1e3)), expected)
    same(icc(values[rng.permutation(values.shape[0])][:, rng.permutation(values.shape[1])]), expected)


@given(tables(), st.integers(0, 2**32 - 1))
def test_an_incomplete_lesion_changes_nothing(values: Array, seed: int) -> None:
    rng = np.random.default_rng(seed)
    more = rng.normal(0, 1e15, (1, *values.shape[1:]))
    more[0, rng.integers(values.shape[1], size=values.shape[2]), np.arange(values.shape[2])] = np.nan
    for together in ([values, more], [more, values]):
        same(icc(np.concatenate(together)), icc(values))


@given(tables(), st.integers(0, 2**32 - 1))
def test_consistency_ignores_a_raters_offset(values: Array, seed: int) -> None:
    unit = np.nanmax(np.abs(np.nan_to_num(values)), axis=(0, 1))
    offset = np.random.default_rng(seed).normal(0, 10, values.shape[1:]) * unit
    before, after = icc(values), icc(values + offset)
    same(after, before, "icc3")


@given(tables())
def test_features_are_independent_and_values_stay(values: Array) -> None:
    untouched = values.copy()
    together = icc(values)
    np.testing.assert_array_equal(values, untouched)
    for i in range(values.shape[2]):
        same(icc(values[:, :, i : i + 1]), Agreement._make(array[i : i + 1] for array in together))


@given(tables())
def test_limits_enclose_the_estimate_and_come_in_pairs(values: Array) -> None:
    k = values.shape[1]
    found = icc(values)
    for number, low, high in (found[0:3], found[3:6], found[6:9]):
        np.testing.assert_array_equal(np.isnan(low), np.isnan(high))
        there = ~np.isnan(low)
        assert np.all(low[there] <= number[there] + 1e-12)
        assert np.all(number[there] <= high[there] + 1e-12)
        assert np.all(high[there] <= 1)
    assert np.all(np.isnan(found.icc1) | (found.icc1 >= -1 / (k - 1) - 1e-12))
    assert np.all(np.isnan(found.icc1) == ((found.n < 2) | _flat(values)))


def _flat(values: Array) -> NDArray[np.bool_]:
    """Return where no value of a complete lesion differs from another."""
    kept = [rows[np.isfinite(rows).all(axis=1)] for rows in np.moveaxis(values, 2, 0)]
    return np.array([rows.size == 0 or np.ptp(rows) == 0 for rows in kept])


UNDEFINED: dict[str, tuple[Any, dict[str, float]]] = {
    "no lesion is complete": ([[1, np.nan], [np.nan, 2], [np.inf, 3]], {"n": 0}),
    "one lesion is complete": ([[1, 2], [np.nan, 2]], {"n": 1}),
    "one value everywhere": ([[0.1, 0.1, 0.1]] * 4, {"n": 4}),
    "nothing but zeros": ([[0, 0]] * 3, {"n": 3}),
    "values that differ by rounding": ([[0.3, 0.1 + 0.2], [0.1 + 0.2, 0.3], [0.3, 0.3]], {"n": 3}),
    "raters differ, lesions do not": (
        [[0.1, 0.7, 0.3]] * 7,
        {"n": 7, "icc1": -0.5, "icc2": 0},
    ),
    "two raters swap two lesions": (
        [[0.1, 0.3], [0.3, 0.1]],
        {"n": 2.0} | {f"icc{i}{end}": -1.0 for i in "13" for end in ("", "_low", "_high")},
    ),
}


@pytest.mark.parametrize("case", UNDEFINED)
def test_what_is_undefined_is_nan(case: str) -> None:
    rows, defined = UNDEFINED[case]
    for scale in (1.0, 1e-12, 1e12):
        expected = dict.fromkeys(Agreement._fields, np.nan) | defined
        assert one(np.array(rows) * scale) == pytest.approx(expected, nan_ok=True, abs=1e-12)


def test_perfect_agreement_is_one() -> None:
    found = one([[0.1] * 3, [0.7] * 3, [1.3] * 3, [1e5] * 3])
    assert found == pytest.approx(dict.fromkeys(Agreement._fields, 1.0) | {"n": 4}, abs=1e-15)


def test_perfect_consistency_is_one_for_icc3_only() -> None:
    found = one([[a + 0.1, a + 0.4, a + 0.9] for a in (0.3, 0.4, 1.7, 2.9, 3.3)])
    assert (found["icc3"], found["icc3_low"], found["icc3_high"]) == (1, 1, 1)
    assert found["icc2_low"] < found["icc2"] < found["icc2_high"] < 1


def test_limits_that_would_miss_the_estimate_are_nan() -> None:
    apart = made(3, (9, 3, 1))[:, :, 0]
    equal = apart - apart.mean(axis=1, keepdims=True)
    found = one(equal + 1e-5 * made(4, (9, 1, 1))[:, :, 0])
    assert np.isnan([found["icc2_low"], found["icc2_high"]]).all()
    assert found["icc1_low"] < found["icc1"] < found["icc1_high"] < -0.49
    assert np.isnan(one(PUBLISHED, confidence=1e-3)["icc1_low"])


@pytest.mark.parametrize("exponent", [-1060, -500, 500, 1019])
def test_no_magnitude_overflows(exponent: int) -> None:
    assert one(np.ldexp(PUBLISHED, exponent)) == one(PUBLISHED)


def test_a_large_offset_costs_no_more_than_the_values_lost_to_it() -> None:
    assert one(PUBLISHED * 2.0**-6 + 2.0**35) == pytest.approx(one(PUBLISHED), rel=1e-13)
    assert np.isnan(one(PUBLISHED * 2.0**-6 + 2.0**44)["icc1"])


def test_slabs_bound_memory_and_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    values = made(5, (500, 5, 400))
    values[np.random.default_rng(6).random(values.shape) < 0.01] = np.nan
    expected = icc(values)
    monkeypatch.setattr(agreement, "_SLAB", 2**20)
    tracemalloc.start()
    try:
        found = icc(values)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2.5 * 2**20 < values.nbytes / 3
    same(found, expected)


@pytest.mark.parametrize("shape", [(0, 2, 3), (5, 2, 0), (0, 3, 0)])
def test_nothing_to_agree_on(shape: tuple[int, int, int]) -> None:
    found = icc(np.zeros(shape))
    assert all(array.shape == shape[2:] for array in found)
    assert np.isnan(found[:9]).all()
    assert not found.n.any()


@pytest.mark.parametrize(
    ("values", "confidence", "message"),
    [
        (np.zeros((4, 1, 2)), 0.95, "two raters or more, not 1"),
        (np.zeros((4, 2)), 0.95, "three dimensions"),
        (np.zeros((4, 2, 2)), 1.0, "confidence is between 0 and 1, not 1.0"),
        (np.zeros((4, 2, 2)), 95, "confidence is between 0 and 1, not 95"),
        (np.zeros((4, 2, 2)), np.nan, "confidence"),
    ],
)
def test_wrong_arguments_are_refused(values: Array, confidence: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        icc(values, confidence=confidence)
