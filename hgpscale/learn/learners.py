"""Learners by name and kind of target, and one shape for what they say."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import ElasticNet, LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from hgpscale.learn.composition import HurdleComposition

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hgpscale.learn.targets import Kind

COMPOSITION_OUTPUTS = ("desmoplastic", "replacement", "pushing", "p_pure_desmoplastic", "p_majority_desmoplastic")
"""What the columns of `outputs` are for a composition."""

Make = Callable[[Mapping[str, Any], int], BaseEstimator]


class SupportVectors(ClassifierMixin, BaseEstimator):
    """A support vector machine with a radial kernel whose probabilities come from held-out folds (Platt's sigmoid).

    Parameters
    ----------
    C, gamma
        As of `sklearn.svm.SVC`.
    n_folds
        Folds that the sigmoid is fitted on; fewer where a class has fewer rows. A class with one row leaves no fold:
        the sigmoid is then fitted on the training rows themselves.

    Attributes
    ----------
    classes_ : ndarray with shape ``(class,)``

    """

    def __init__(self, C: float = 1.0, gamma: str | float = "scale", n_folds: int = 3) -> None:
        self.C = C
        self.gamma = gamma
        self.n_folds = n_folds

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit on X, floats with shape ``(row, column)``, and labels y."""
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        if sample_weight is not None:
            # A row without weight is no row: neither a fold nor the sigmoid may count it.
            weight = _check_sample_weight(sample_weight, X, dtype=np.float64)
            if not weight.any():
                raise ValueError("no row has a sample weight above zero")
            X, y, sample_weight = X[weight != 0], y[weight != 0], weight[weight != 0]
        self.classes_, counts = np.unique(y, return_counts=True)
        if len(self.classes_) < 2:
            raise ValueError(f"a classifier needs samples of at least 2 classes, found 1 class: {self.classes_[0]}")
        folds: Any = min(self.n_folds, int(counts.min()))
        machine: Any = SVC(C=self.C, gamma=self.gamma)
        if folds < 2:
            everything = np.arange(len(X))
            folds = [(everything, everything)]
        self.calibrated_ = CalibratedClassifierCV(machine, ensemble=False, cv=folds)
        self.calibrated_.fit(X, y, sample_weight=sample_weight)
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return probabilities, shape ``(row, class)``."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        return self.calibrated_.predict_proba(X)

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable class of each row."""
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]


class QuietLogistic(LogisticRegression):
    """`sklearn.linear_model.LogisticRegression` that may stop before it has converged.

    Early stopping is one more regularisation, and a search tries hundreds of fits.
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit on X, floats with shape ``(row, column)``, and labels y."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            super().fit(X, y, sample_weight)
        return self


def _logistic(params: Mapping[str, Any], seed: int) -> BaseEstimator:
    settings = {"C": 0.1, "l1_ratio": 0.5, "tol": 1e-3, "max_iter": 300, **params}
    return QuietLogistic(solver="saga", random_state=seed, **settings)


def _forest(params: Mapping[str, Any], seed: int) -> BaseEstimator:
    return RandomForestClassifier(random_state=seed, **{"n_estimators": 100, "min_samples_leaf": 2, **params})


def _boosting(params: Mapping[str, Any], seed: int) -> BaseEstimator:
    settings = {"max_iter": 60, "learning_rate": 0.1, "max_leaf_nodes": 8, "min_samples_leaf": 5, **params}
    return HistGradientBoostingClassifier(early_stopping=False, random_state=seed, **settings)


def _elastic_net_number(params: Mapping[str, Any], seed: int) -> BaseEstimator:
    # The strength of LogisticRegression is 1 / C, summed over rows; of ElasticNet alpha, a mean.
    strength = params.get("C", 0.1)
    net = ElasticNet(alpha=0.01 / strength, l1_ratio=params.get("l1_ratio", 0.5), max_iter=5000, tol=1e-3)
    return TransformedTargetRegressor(net, transformer=StandardScaler())


def _forest_number(params: Mapping[str, Any], seed: int) -> BaseEstimator:
    return RandomForestRegressor(
        random_state=seed, **{"n_estimators": 100, "min_samples_leaf": 2, "max_features": "sqrt", **params}
    )


def _boosting_number(params: Mapping[str, Any], seed: int) -> BaseEstimator:
    settings = {"max_iter": 60, "learning_rate": 0.1, "max_leaf_nodes": 8, "min_samples_leaf": 5, **params}
    return HistGradientBoostingRegressor(early_stopping=False, random_state=seed, **settings)


def _svm_number(params: Mapping[str, Any], seed: int) -> BaseEstimator:
    return TransformedTargetRegressor(SVR(**params), transformer=StandardScaler())


def _svm(params: Mapping[str, Any], seed: int) -> BaseEstimator:
    return SupportVectors(**params)


_CLASSIFIERS: Mapping[str, Make] = {
    "elastic-net": _logistic,
    "forest": _forest,
    "boosting": _boosting,
    "svm": _svm,
}
_REGRESSORS: Mapping[str, Make] = {
    "elastic-net": _elastic_net_number,
    "forest": _forest_number,
    "boosting": _boosting_number,
    "svm": _svm_number,
}
LEARNERS = tuple(_CLASSIFIERS)
"""Names of the learners that are fitted in memory."""


def make_learner(
    name: str, kind: Kind, params: Mapping[str, Any] | None = None, random_state: int = 0
) -> BaseEstimator:
    """Return a learner that is not fitted yet.

    Parameters
    ----------
    name
        One of `LEARNERS`.
    kind
        Of the target. A composition is learned by `HurdleComposition` of the classifier of that name.
    params
        Its own parameters: `C` and `l1_ratio` (elastic-net), `C` and `gamma` (svm), those of scikit-learn's forests
        and histogram boosting.
    random_state
        Its seed.

    """
    params = {} if params is None else params
    if kind == "number":
        return _REGRESSORS[name](params, random_state)
    classifier = _CLASSIFIERS[name](params, random_state)
    return HurdleComposition(classifier, random_state=random_state) if kind == "composition" else classifier


def outputs(estimator: Any, X: NDArray[np.float64], kind: Kind, n_classes: int = 2) -> NDArray[np.float64]:
    """Return what a fitted estimator says, as numbers whose mean over estimators or raters has a meaning.

    Parameters
    ----------
    estimator
        A classifier of positions 0, 1, ... of classes, a regressor, or `HurdleComposition`.
    X
        What it takes.
    kind, n_classes
        Of the target. A class that no training row had gets probability 0.

    Returns
    -------
    ndarray of floats with shape ``(row, k)``
        P(positive) of `binary`, a probability for each class of `class`, the value of a `number`, and
        `COMPOSITION_OUTPUTS` of a `composition`.

    """
    if isinstance(estimator, Pipeline):
        before = estimator[:-1].transform(X) if len(estimator) > 1 else X
        return outputs(estimator[-1], before, kind, n_classes)
    if kind == "number":
        return np.asarray(estimator.predict(X), float).reshape(-1, 1)
    if kind == "composition":
        hurdle = estimator.hurdle(X)
        return np.column_stack([hurdle.composition, hurdle.pure_desmoplastic, hurdle.majority_desmoplastic])
    found = np.zeros((len(X), n_classes))
    found[:, np.asarray(estimator.classes_).astype(int)] = estimator.predict_proba(X)
    return found[:, 1:] if kind == "binary" else found
