"""Compositions: valid whatever comes in, soft labels are cross-entropy, the planted signal and its atoms are found."""

from collections import Counter
from typing import Any, Self

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_expit
from scipy.stats import beta
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.utils.estimator_checks import check_estimator

from hgpscale.learn.composition import HurdleComposition, SoftClassifier, simplex

Array = NDArray[np.float64]

_OWN_TARGETS = "gives labels or single numbers as y, and this estimator takes nothing but compositions"

expected_failed_checks = dict.fromkeys(
    (
        "check_all_zero_sample_weights_error",
        "check_dict_unchanged",
        "check_dont_overwrite_parameters",
        "check_dtype_object",
        "check_estimators_dtypes",
        "check_estimators_fit_returns_self",
        "check_estimators_nan_inf",
        "check_estimators_overwrite_params",
        "check_estimators_pickle",
        "check_f_contiguous_array_estimator",
        "check_fit2d_1feature",
        "check_fit2d_1sample",
        "check_fit2d_predict1d",
        "check_fit_check_is_fitted",
        "check_fit_idempotent",
        "check_fit_score_takes_y",
        "check_methods_sample_order_invariance",
        "check_methods_subset_invariance",
        "check_n_features_in",
        "check_n_features_in_after_fitting",
        "check_pipeline_consistency",
        "check_positive_only_tag_during_fit",
        "check_readonly_memmap_input",
        "check_sample_weight_equivalence_on_dense_data",
        "check_sample_weights_list",
        "check_sample_weights_not_an_array",
        "check_sample_weights_not_overwritten",
        "check_sample_weights_pandas_series",
        "check_sample_weights_shape",
    ),
    _OWN_TARGETS,
)
"""Checks of scikit-learn that `HurdleComposition` cannot pass, with the reason; `OfLabels` passes all of them."""

_COMPOSITIONS = np.array([[1, 0, 0], [0, 0.5, 0.5], [0.5, 0.25, 0.25], [0.2, 0.8, 0], [0, 0, 1]])


class OfLabels(HurdleComposition):
    """The same model with a composition for each of the labels that the checks give."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        return super().fit(X, _composed(y), sample_weight)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        return super().score(X, _composed(y), sample_weight)


class OfLabelsInBatches(OfLabels):
    """The same of a classifier that can go on."""

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, **_: Any) -> Self:
        super().partial_fit(X, _composed(y), sample_weight)
        return self


def _composed(y: Any) -> Any:
    return y if y is None else _COMPOSITIONS[np.abs(np.real(np.asarray(y)).ravel().astype(float)).astype(int) % 5]


def sgd(**options: Any) -> SGDClassifier:
    return SGDClassifier(loss="log_loss", learning_rate="constant", eta0=0.01, random_state=0, **options)


def planted(n: int, seed: int, columns: int = 4) -> tuple[Array, Array]:
    """Return features and compositions that follow the first two of them, with atoms at 0 and 1."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, columns))
    d = np.clip(0.5 + 0.5 * X[:, 0] + 0.15 * rng.normal(size=n), 0, 1)
    r = (1 - d) * np.clip(expit(1.5 * X[:, 1]) + 0.05 * rng.normal(size=n), 0, 1)
    return X, np.column_stack([d, r, 1 - d - r])


def test_scikit_learn_s_checks() -> None:
    found = check_estimator(
        HurdleComposition(), expected_failed_checks=expected_failed_checks, on_fail="raise", on_skip=None
    )
    assert {one["check_name"] for one in found if one["status"] == "xfail"} == set(
        expected_failed_checks
    )  # none is excused that passes
    assert Counter(one["status"] for one in found)["passed"] >= 18


_UNEQUAL_WEIGHTS = {"check_sample_weight_equivalence_on_dense_data": "scikit-learn's own fails it: see its tests"}


@pytest.mark.parametrize(
    ("model", "excused"),
    [
        (OfLabels(), {}),
        (OfLabelsInBatches(sgd()), _UNEQUAL_WEIGHTS),
    ],
    ids=["linear", "sgd"],
)
def test_scikit_learn_s_checks_of_the_same_model_with_labels(model: Any, excused: dict[str, str]) -> None:
    check_estimator(model, expected_failed_checks=excused, on_fail="raise", on_skip=None)


def parts() -> st.SearchStrategy[Array]:
    """Compositions of whole percent, many of them pure."""
    row = st.one_of(
        st.sampled_from([(100, 0, 0), (0, 100, 0), (0, 0, 100)]),
        st.tuples(st.integers(0, 100), st.integers(0, 100)).map(lambda two: (min(two), abs(two[0] - two[1]), 0)),
    )
    return st.lists(row.map(lambda d: (d[0], d[1], 100 - d[0] - d[1])), min_size=1, max_size=30).map(
        lambda rows: np.array(rows) / 100
    )


@settings(deadline=None, max_examples=30)
@given(st.data(), parts(), st.booleans())
def test_predictions_are_compositions_and_pure_is_no_more_likely_than_most(
    data: st.DataObject, Y: Array, in_batches: bool
) -> None:
    numbers = st.floats(-5, 5, allow_subnormal=False)
    X = data.draw(hnp.arrays(np.float64, (len(Y), 2), elements=numbers))
    weight = data.draw(hnp.arrays(np.float64, len(Y), elements=st.sampled_from([0.25, 0.5, 1.0, 3.0])))
    if in_batches:
        model = HurdleComposition(sgd())
        for some in np.array_split(np.arange(len(Y)), min(3, len(Y))):
            model.partial_fit(X[some], Y[some], weight[some])
    else:
        model = HurdleComposition().fit(X, Y, weight)
    found = model.hurdle(np.vstack([X, 100 * X]))
    assert (found.composition.sum(axis=1) == 1).all()
    assert (found.composition >= 0).all()
    for one in found[1:]:
        assert ((one >= 0) & (one <= 1)).all()
    assert (found.pure_desmoplastic <= found.majority_desmoplastic).all()
    assert (found.pure_desmoplastic + found.pure_other <= 1 + 1e-12).all()
    assert (found.pure_desmoplastic <= found.composition[:, 0] + 1e-12).all()


@settings(deadline=None, max_examples=100)
@given(hnp.arrays(np.float64, (1, 3), elements=st.floats(0, 1)), st.floats(0, 1), st.floats(0, 1))
def test_any_probabilities_sum_to_exactly_one(gate: Array, between: float, rest: float) -> None:
    class Fixed:
        def __init__(self, p: Array) -> None:
            self.p = p

        def predict_proba(self, X: Array) -> Array:
            return np.tile(self.p, (len(X), 1))

    model: Any = HurdleComposition().fit([[0.0], [1.0]], [[1, 0, 0], [0, 1, 0]])
    total = gate.sum()
    model.gate_ = Fixed(gate / total if total > 0 else np.full((1, 3), 1 / 3))
    model.between_, model.rest_ = (Fixed(np.array([[1 - p, p]])) for p in (between, rest))
    composition = model.predict([[0.0]])
    assert composition.sum() == 1
    assert (composition >= 0).all()


def test_soft_labels_are_cross_entropy() -> None:
    rng = np.random.default_rng(3)
    X, d, weight = rng.normal(size=(30, 2)), rng.random(30), rng.choice([0.5, 1.0, 2.0], 30)

    def loss(theta: Array) -> float:
        score = X @ theta[:2] + theta[2]
        entropy = -(d * log_expit(score) + (1 - d) * log_expit(-score))
        return float(weight @ entropy + theta[:2] @ theta[:2] / 2)

    best = minimize(loss, np.zeros(3), method="BFGS", options={"gtol": 1e-9}).x
    model = SoftClassifier(LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000))
    model.fit(X, np.column_stack([1 - d, d]), weight)
    np.testing.assert_allclose(model.predict_proba(X)[:, 1], expit(X @ best[:2] + best[2]), atol=1e-6)


def test_the_pieces_see_the_rows_that_are_theirs() -> None:
    X, Y = planted(60, 0)
    weight = np.linspace(0.5, 2, 60)
    tight = LogisticRegression(tol=1e-10, max_iter=10_000)
    model = HurdleComposition(tight).fit(X, Y, weight)
    d, r, p = Y.T
    gate = clone(tight).fit(X, np.where(d == 1, 2, np.where(d == 0, 0, 1)), weight).predict_proba(X)
    mixed, some = (d > 0) & (d < 1), d < 1
    twice = np.vstack([X[mixed], X[mixed]]), np.repeat([1, 0], mixed.sum())
    halves = np.concatenate([weight[mixed] * d[mixed], weight[mixed] * (1 - d[mixed])])
    between = clone(tight).fit(*twice, halves).predict_proba(X)[:, 1]
    twice = np.vstack([X[some], X[some]]), np.repeat([1, 0], some.sum())
    rest = clone(tight).fit(*twice, np.concatenate([weight[some] * r[some], weight[some] * p[some]]))
    found = model.hurdle(X)
    np.testing.assert_allclose(found.pure_desmoplastic, gate[:, 2], atol=1e-6)
    np.testing.assert_allclose(found.pure_other, gate[:, 0], atol=1e-6)
    expected = gate[:, 2] + gate[:, 1] * between
    np.testing.assert_allclose(found.composition[:, 0], expected, atol=1e-6)
    np.testing.assert_allclose(found.composition[:, 1], (1 - expected) * rest.predict_proba(X)[:, 1], atol=1e-6)


@pytest.mark.parametrize(
    ("classifier", "passes"),
    [(None, 0), (sgd(), 5), (MLPClassifier((8,), random_state=0, learning_rate_init=0.02), 15)],
    ids=["all at once", "sgd in batches", "mlp in batches"],
)
def test_a_planted_signal_is_found_and_so_are_the_atoms(classifier: Any, passes: int) -> None:
    X, Y = planted(1200, 1)
    new, truth = planted(400, 2)
    model = HurdleComposition(classifier, random_state=0)
    for _ in range(passes):
        for start in range(0, len(X), 200):
            model.partial_fit(X[start : start + 200], Y[start : start + 200])
    if not passes:
        model.fit(X, Y)
    found = model.hurdle(new)
    error, of_mean = (np.abs(guess - truth).mean(axis=0) for guess in (found.composition, Y.mean(axis=0)))
    assert (error < 0.6 * of_mean).all()
    assert model.score(new, truth) == pytest.approx(-error.mean())
    for probability, true in (
        (found.pure_desmoplastic, truth[:, 0] == 1),
        (found.pure_other, truth[:, 0] == 0),
        (found.majority_desmoplastic, truth[:, 0] > 0.5),
    ):
        assert probability.mean() == pytest.approx(true.mean(), abs=0.04)  # calibrated in the large
        assert ((probability - true) ** 2).mean() < 0.6 * true.var()


def test_the_spread_of_mixed_lesions_is_that_of_a_beta_distribution() -> None:
    rng = np.random.default_rng(4)
    X = rng.normal(size=(3000, 1))
    mean = expit(0.8 * X[:, 0])
    d = rng.beta(6 * mean, 6 * (1 - mean))
    model = HurdleComposition().fit(X, np.column_stack([d, 1 - d, 0 * d]))
    assert model.precision == pytest.approx(6, rel=0.08)
    expected = beta.sf(0.5, 6 * mean, 6 * (1 - mean))
    np.testing.assert_allclose(model.hurdle(X).majority_desmoplastic, expected, atol=0.04)


def test_too_little_to_learn_from_is_a_smoothed_constant() -> None:
    X = np.arange(4.0)[:, None]
    model = HurdleComposition().fit(X, [[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0.5, 0.5]])
    found = model.hurdle([[0.0], [50.0]])
    # By hand: gate (2 + 1, 0 + 1, 2 + 1) / 7, between (1, 1) / 2, rest (r: 1.5 + 1, p: 0.5 + 1) / 4.
    d = 3 / 7 + 1 / 7 / 2
    np.testing.assert_allclose(found.composition, [[d, (1 - d) * 5 / 8, (1 - d) * 3 / 8]] * 2)
    np.testing.assert_allclose(found.pure_desmoplastic, 3 / 7)
    np.testing.assert_allclose(found.pure_other, 3 / 7)
    # One row that is uniform: half of the mixed ones are more than half desmoplastic.
    np.testing.assert_allclose(found.majority_desmoplastic, 3 / 7 + 1 / 14)
    assert model.precision == pytest.approx(2)


def test_batches_that_lack_classes_come_to_the_same_counts() -> None:
    X, Y = planted(300, 5)
    order = np.argsort(Y[:, 0], kind="stable")
    model = HurdleComposition(sgd())
    for some in np.array_split(order, 6):
        model.partial_fit(X[some], Y[some])
    whole = HurdleComposition().fit(X, Y)
    for one, other in ((model.gate_, whole.gate_), (model.between_, whole.between_), (model.rest_, whole.rest_)):
        np.testing.assert_allclose(one.mass_, other.mass_)
        assert one.rows_ == other.rows_
    pure = Y[:, 0] == 1
    found = model.hurdle(X).pure_desmoplastic
    assert found[pure].mean() > 1.5 * found[~pure].mean()


def test_a_classifier_that_cannot_go_on_has_no_partial_fit() -> None:
    assert hasattr(HurdleComposition(sgd()), "partial_fit")
    assert not hasattr(HurdleComposition(), "partial_fit")


def test_a_seed_makes_two_models_equal() -> None:
    X, Y = planted(200, 6)
    one, other = (HurdleComposition(MLPClassifier((4,)), random_state=3).partial_fit(X, Y).predict(X) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    assert not np.array_equal(HurdleComposition(MLPClassifier((4,)), random_state=4).partial_fit(X, Y).predict(X), one)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ([[100, 0, 0], [0, 100, 0]], "divide percentages by 100"),
        ([[1.1, -0.1, 0], [0, 1, 0]], "row 0 is no composition"),
        ([[1, 0, 0], [0.5, 0.4, 0.09]], "row 1 is no composition"),
        ([[1, 0], [0, 1]], "three parts"),
        ([[1, 0, np.nan], [0, 1, 0]], "NaN"),
        (None, "requires y"),
    ],
)
def test_what_is_no_composition_is_refused(wrong: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        HurdleComposition().fit([[0.0], [1.0]], wrong)


def test_rounding_is_forgiven_and_put_right() -> None:
    found = simplex([[1 + 4e-7, -2e-7, 0], [0.3333333, 0.3333333, 0.3333333]])
    assert (found >= 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=0, atol=1e-15)
