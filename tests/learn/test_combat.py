"""ComBat against the numbers of its authors' R code, the paper's equations in loops, and what must not matter."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, variance

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.estimator_checks import parametrize_with_checks

from hgpscale.errors import LearnError
from hgpscale.learn.combat import ComBat

Array = NDArray[np.float64]


def cohort(seed: int = 0, n: int = 60, features: int = 8) -> Array:
    """Return a centre, a covariate, and features that both of them shift; centres also scale."""
    rng = np.random.default_rng(seed)
    centre = np.arange(n) % 3.0
    covariate = rng.normal(size=n) + centre
    noise = rng.normal(size=(n, features)) * (1 + centre[:, None])
    return np.column_stack([centre, covariate, noise + 4 * centre[:, None] + covariate[:, None]])


@pytest.mark.shared_data
@pytest.mark.parametrize("covariate", [False, True])
def test_r_reference(covariate: bool, shared_data: Path) -> None:
    """The test of ComBatHarmonization: two batches of five, every other sample with a phenotype."""
    folder = shared_data / "tabular" / "combat_reference"
    name = "adjusted" if covariate else "unadjusted"
    given = np.loadtxt(folder / "inputData" / "testdata.csv", delimiter=",", skiprows=1).T
    output = folder / "outputData" / f"testdata_combat_parametric_{name}_r.csv"
    expected = np.loadtxt(output, delimiter=",", skiprows=1).T
    batch = np.repeat([1.0, 2.0], 5)
    phenotype = np.array([1.0, 0.0] * 5)
    if covariate:
        combat = ComBat(batch=0, covariates=(1,))
        found = combat.fit_transform(np.column_stack([batch, phenotype, given]))
        np.testing.assert_array_equal(found[:, 0], phenotype)
        found = found[:, 1:]
    else:
        found = ComBat(batch=-1).fit_transform(np.column_stack([given, batch]))
    largest = np.abs(found - expected).max()
    print(f"largest difference from R, {name}: {largest:.1e}")  # noqa: T201
    assert largest < 1e-12


def by_hand(values: list[list[list[float]]]) -> list[list[tuple[float, float]]]:
    """Return gamma* and delta* of each batch and feature, not parametric, of ``values[batch][feature][row]``.

    Each feature's shift and scale are means of the other features', each weighted by the likelihood of the feature's
    standardised values under it: the sums that stand for the integrals over the empirical prior.
    """
    features = range(len(values[0]))
    standard: list[list[list[float]]] = [[[] for _ in features] for _ in values]
    for g in features:
        total = sum(len(batch[g]) for batch in values)
        grand = sum(sum(batch[g]) for batch in values) / total
        pooled = sum((x - fmean(batch[g])) ** 2 for batch in values for x in batch[g]) / total
        for i, batch in enumerate(values):
            standard[i][g] = [(x - grand) / math.sqrt(pooled) for x in batch[g]]
    out = []
    for batch in standard:
        gamma = [fmean(z) for z in batch]
        delta = [variance(z) for z in batch]
        row = []
        for g in features:
            above_gamma = above_delta = below = 0.0
            for other in features:
                if other == g:
                    continue
                likelihood = 1.0
                for z in batch[g]:
                    density = math.exp(-((z - gamma[other]) ** 2) / (2 * delta[other]))
                    likelihood *= density / math.sqrt(2 * math.pi * delta[other])
                above_gamma += gamma[other] * likelihood
                above_delta += delta[other] * likelihood
                below += likelihood
            row.append((above_gamma / below, above_delta / below))
        out.append(row)
    return out


def test_not_parametric_by_hand() -> None:
    first = [[1.0, 2.0, 4.0], [3.0, 3.5, 5.0], [0.0, 2.0, 2.5]]
    second = [[6.0, 4.0, 7.0, 9.0], [5.0, 5.5, 8.0, 6.0], [3.0, 1.0, 6.0, 4.5]]
    x = np.vstack([np.column_stack([np.full(3, 7.0), *first]), np.column_stack([np.full(4, 9.0), *second])])
    combat = ComBat(batch=0, parametric=False).fit(x)
    expected = np.array(by_hand([first, second]))
    np.testing.assert_allclose(combat.gamma_, expected[:, :, 0], rtol=1e-12)
    np.testing.assert_allclose(combat.delta_, expected[:, :, 1], rtol=1e-12)
    found = combat.transform(x)
    for g in range(3):
        values = np.array(first[g] + second[g])
        means = np.array([fmean(first[g])] * 3 + [fmean(second[g])] * 4)
        deviation = math.sqrt(float(((values - means) ** 2).sum()) / 7)
        for row, value in enumerate(values):
            gamma, delta = expected[int(row > 2), g]
            z = (value - values.mean()) / deviation
            assert found[row, g] == pytest.approx(deviation * (z - gamma) / math.sqrt(delta) + values.mean(), rel=1e-12)


def test_parametric_satisfies_the_equations() -> None:
    """The fixed point of the paper's two posterior means, priors by the method of moments."""
    x = cohort()[:, [0, 2, 3, 4, 5, 6]]
    combat = ComBat(batch=0, tolerance=1e-14).fit(x)
    z = (x[:, 1:] - combat.grand_mean_) / np.sqrt(combat.pooled_variance_)
    for i, code in enumerate((0.0, 1.0, 2.0)):
        mine = z[x[:, 0] == code]
        n = len(mine)
        gamma, delta = mine.mean(axis=0), mine.var(axis=0, ddof=1)
        m, s2 = delta.mean(), delta.var(ddof=1)
        shape, rate = (2 * s2 + m**2) / s2, (m * s2 + m**3) / s2
        for g in range(mine.shape[1]):
            star, squared = combat.gamma_[i, g], combat.delta_[i, g]
            tau2 = gamma.var(ddof=1)
            assert star == pytest.approx((n * tau2 * gamma[g] + squared * gamma.mean()) / (n * tau2 + squared))
            assert squared == pytest.approx((rate + ((mine[:, g] - star) ** 2).sum() / 2) / (n / 2 + shape - 1))


@parametrize_with_checks([ComBat(), ComBat(batch=0), ComBat(batch=0, parametric=False, min_rows=2)])  # type: ignore[untyped-decorator]
def test_scikit_learn_conventions(estimator: BaseEstimator, check: Callable[[BaseEstimator], None]) -> None:
    check(estimator)


@pytest.mark.parametrize("parametric", [True, False])
def test_centres_are_alike_afterwards(parametric: bool) -> None:
    x = cohort(n=600)
    before = np.delete(x, 0, axis=1)
    found = ComBat(batch=0, covariates=[1], parametric=parametric).fit_transform(x)
    rest = found[:, 1:] - found[:, :1]  # the covariate's effect is 1, and stays
    untouched = before[:, 1:] - before[:, :1]
    level, spread = (
        [f(v[x[:, 0] == c], axis=0).mean() for c in range(3)] for f, v in ((np.mean, rest), (np.std, rest))
    )
    assert np.ptp(level) < 0.3 < np.ptp([untouched[x[:, 0] == c].mean() for c in range(3)])
    assert np.ptp(spread) < 0.1


def test_rows_outside_the_fit_change_nothing() -> None:
    x = cohort()
    rows = np.arange(len(x)) % 4 != 0
    first = ComBat(batch=0, covariates=[1]).fit(x[rows])
    changed = np.where(rows[:, None], x, 1e6)
    second = ComBat(batch=0, covariates=[1]).fit(changed[rows])
    for name in vars(first):
        if name.endswith("_"):
            np.testing.assert_array_equal(getattr(first, name), getattr(second, name), err_msg=name)
    # A row that is transformed does not see the others beside it.
    together = first.transform(x)
    alone = np.vstack([first.transform(row[None]) for row in x])
    np.testing.assert_allclose(together, alone, rtol=1e-12)


def test_rows_of_weight_nought_change_nothing_and_weights_count_as_rows() -> None:
    x = cohort(n=30)
    rng = np.random.default_rng(5)
    weight = rng.integers(0, 3, size=len(x)).astype(float)
    weighted = ComBat(batch=0, covariates=[1]).fit(x, sample_weight=weight)
    repeated = ComBat(batch=0, covariates=[1]).fit(np.repeat(x, weight.astype(int), axis=0))
    np.testing.assert_allclose(weighted.transform(x), repeated.transform(x), rtol=1e-10)
    thirds = ComBat(batch=0, covariates=[1]).fit(np.repeat(x, 3, axis=0), sample_weight=np.full(3 * len(x), 1 / 3))
    np.testing.assert_allclose(thirds.transform(x), ComBat(batch=0, covariates=[1]).fit_transform(x), rtol=1e-10)


@pytest.mark.parametrize("parametric", [True, False])
def test_unknown_values_stay_unknown_and_do_not_count(parametric: bool) -> None:
    x = cohort(n=45)
    x[::7, 3] = np.nan
    x[5, 1] = np.nan
    found = ComBat(batch=0, covariates=[1], parametric=parametric).fit_transform(x)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(np.delete(x, 0, axis=1)))
    # Each feature for itself: grand mean, covariate and variance are those of its own known rows.
    combat = ComBat(batch=0, covariates=[1], parametric=parametric).fit(x)
    rows = np.isfinite(x[:, [1, 3]]).all(axis=1)
    single = ComBat(batch=0, covariates=[1], parametric=parametric).fit(x[rows][:, [0, 1, 3]])
    for name in ("pooled_variance_", "coefficients_"):
        np.testing.assert_allclose(getattr(combat, name)[..., 1], getattr(single, name)[..., 0], rtol=1e-10)


def test_a_feature_unknown_in_a_centre_passes_there() -> None:
    x = cohort(n=45)
    x[(x[:, 0] == 2) & (np.arange(45) > 6), 4] = np.nan
    combat = ComBat(batch=0, covariates=[1]).fit(x)
    assert np.isnan(combat.gamma_[2, 2])
    assert np.isfinite(np.delete(combat.gamma_.ravel(), 2 * 8 + 2)).all()
    found = combat.transform(x)
    here = x[:, 0] == 2
    np.testing.assert_array_equal(found[here, 3], x[here, 4])
    assert (found[~here, 3] != x[~here, 4]).all()


def test_centres_that_are_not_known() -> None:
    x = cohort(n=30)
    x[0, 0], x[1:3, 0], x[3, 0] = 5, 6, np.nan
    combat = ComBat(batch=0, covariates=[1]).fit(x)
    assert combat.batches_.tolist() == [0, 1, 2]
    rest = ComBat(batch=0, covariates=[1]).fit(x[4:])
    np.testing.assert_array_equal(combat.gamma_, rest.gamma_)
    np.testing.assert_array_equal(combat.transform(x)[:4], x[:4, 1:])
    with pytest.raises(LearnError, match="centre 5, 6, nan has fewer than 3 rows"):
        ComBat(batch=0, unseen="error").fit(x).transform(x)
    ComBat(batch=0, unseen="error").fit(x).transform(x[4:])


def test_constant_features_and_one_centre_pass() -> None:
    x = cohort(n=30)
    x[:, 3], x[:, 4], x[:, 5], x[:, 6] = 0.1, x[:, 0] * 1e8, np.nan, x[:, 6] * 1e300
    found = ComBat(batch=0, covariates=[1]).fit_transform(x)
    np.testing.assert_array_equal(found[:, 2:6], x[:, 3:7])
    assert (found[:, 6:] != x[:, 7:]).any(axis=0).all()
    others = ComBat(batch=0, covariates=[1]).fit_transform(np.delete(x, [3, 4, 5, 6], axis=1))
    np.testing.assert_allclose(np.delete(found, [2, 3, 4, 5], axis=1), others, rtol=1e-12)
    x[:, 0] = 4
    np.testing.assert_array_equal(ComBat(batch=0).fit_transform(x), x[:, 1:])
    np.testing.assert_array_equal(ComBat().fit_transform(x), x)


def test_a_feature_constant_in_one_centre_and_large_offsets() -> None:
    x = cohort(n=30)
    x[x[:, 0] == 1, 3] = 2
    assert np.isfinite(ComBat(batch=0).fit_transform(x)).all()
    far = x.copy()
    far[:, 2:] += 2.0**30
    near, moved = (ComBat(batch=0).fit_transform(v)[:, 1:] for v in (x, far))
    np.testing.assert_allclose(moved - 2.0**30, near, atol=1e-5)


def test_a_single_feature_has_its_own_location_and_scale_removed() -> None:
    x = cohort(n=300)[:, [0, 2]]
    for parametric in (True, False):
        found = ComBat(batch=0, parametric=parametric).fit_transform(x)
        means = [found[x[:, 0] == c].mean() for c in range(3)]
        assert np.ptp(means) == pytest.approx(0, abs=1e-12)


def test_features_that_are_copies_have_a_sure_prior() -> None:
    x = cohort(n=30)[:, [0, 2, 2, 2]]
    found = ComBat(batch=0).fit_transform(x)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[:, 0], found[:, 2])


def test_constant_covariates_explain_nothing_and_confounded_ones_are_refused() -> None:
    x = cohort(n=30)
    x[:, 1] = 3
    found = ComBat(batch=0, covariates=[1]).fit_transform(x)[:, 1:]
    np.testing.assert_allclose(found, ComBat(batch=0).fit_transform(np.delete(x, 1, axis=1)), rtol=1e-12)
    x[:, 1] = x[:, 0] == 2
    with pytest.raises(LearnError, match=r"columns 1\) cannot be told from those of the centre"):
        ComBat(batch=0, covariates=[1]).fit(x)


def test_names_of_columns() -> None:
    names = ["centre", "age", "a", "b"]
    combat = ComBat(batch=0, covariates=[1]).fit(cohort(features=2))
    assert combat.get_feature_names_out(names).tolist() == names[1:]
    assert combat.get_feature_names_out().tolist() == ["x1", "x2", "x3"]
    assert ComBat(batch=-1).fit(cohort(features=2)).get_feature_names_out(names).tolist() == names[:-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 10}, "column 10 is asked for; X has 10 columns"),
        ({"batch": 0, "covariates": [0]}, "name one twice"),
        ({"batch": 0, "covariates": [1, -9]}, "name one twice"),
        ({"min_rows": 1}, "min_rows is 1"),
        ({"unseen": "drop"}, "unseen is 'drop'"),
        ({"tolerance": 0}, "tolerance is 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(LearnError, match=message):
        ComBat(**options).fit(cohort())  # type: ignore[arg-type]
