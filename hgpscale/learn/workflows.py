"""Workflows: from the columns of a design to a prediction, every step fitted on the training rows alone.

X has the features first, then the covariates, then, where centres are harmonised, the centre's code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from sklearn.base import is_classifier
from sklearn.dummy import DummyClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import validate_data

from hgpscale.learn.combat import ComBat
from hgpscale.learn.filters import AgreementFilter, CorrelationFilter, RobustScaling, VarianceFilter, _Filter
from hgpscale.learn.learners import make_learner
from hgpscale.learn.screen import Screen

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hgpscale.learn.targets import Kind

Harmonise = Literal["none", "combat", "combat-nonparametric"]


@dataclass(frozen=True)
class Layout:
    """Which columns of X are what.

    Attributes
    ----------
    n_features, n_covariates
        How many there are.
    harmonise
        How centres are made alike; unless ``none``, X ends with the centre's code.
    deep
        Positions of the features that a model of their own is fitted on, see `fusion.Stack`; none: one model has all.

    """

    n_features: int
    n_covariates: int = 0
    harmonise: Harmonise = "none"
    deep: tuple[int, ...] = ()


@dataclass(frozen=True)
class Recipe:
    """One workflow.

    Attributes
    ----------
    learner
        One of `learners.LEARNERS`.
    params
        The learner's.
    correlation
        Threshold of `CorrelationFilter`; 1 and more drops nothing.
    agreement
        Threshold of `AgreementFilter`, where lesions have several raters.
    n_features
        How many `Screen` keeps; None: all.

    """

    learner: str = "elastic-net"
    params: Mapping[str, Any] = field(default_factory=dict)
    correlation: float = 0.95
    agreement: float = 0.75
    n_features: int | None = None


class Selection(_Filter):
    """Keep the features that go best with the target, one by one (`Screen`).

    Parameters
    ----------
    kind
        Of the target.
    n_features
        How many stay.
    always
        Number of last columns that stay besides.

    """

    def __init__(self, kind: str = "binary", n_features: int = 50, always: int = 0) -> None:
        self.kind = kind
        self.n_features = n_features
        self.always = always

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Selection:
        """Learn which columns of X, floats with shape ``(row, column)``, go with y."""
        X = validate_data(self, X, dtype=np.float64)
        features = self._features(X)
        if features.shape[1]:
            screen = Screen(kind=self.kind, n_features=self.n_features).fit(features, y, sample_weight=sample_weight)
            self._keep(screen.get_support(), X.shape[1])
        else:  # filters have left covariates alone
            self._keep(np.zeros(0, bool), X.shape[1])
        return self


def head(layout: Layout, recipe: Recipe) -> Pipeline:
    """Return the steps that do not look at the target: harmonise, impute, scale, and three filters."""
    always, n = layout.n_covariates, layout.n_features + layout.n_covariates
    steps: list[tuple[str, Any]] = []
    if layout.harmonise != "none":
        covariates = tuple(range(layout.n_features, n))
        parametric = layout.harmonise == "combat"
        steps.append(("combat", ComBat(batch=n, covariates=covariates, parametric=parametric)))
    steps += [
        ("impute", SimpleImputer(strategy="median", keep_empty_features=True)),
        ("scale", RobustScaling()),
        ("variance", VarianceFilter(always=always)),
        ("agreement", AgreementFilter(recipe.agreement, always=always)),
    ]
    if recipe.correlation < 1:
        steps.append(("correlation", CorrelationFilter(recipe.correlation, always=always)))
    return Pipeline(steps)


def tail(layout: Layout, recipe: Recipe, kind: Kind, random_state: int) -> Pipeline:
    """Return the steps that look at the target: selection and learner."""
    steps: list[tuple[str, Any]] = []
    if recipe.n_features is not None:
        steps.append(("select", Selection(kind, recipe.n_features, always=layout.n_covariates)))
    steps.append(("learn", make_learner(recipe.learner, kind, recipe.params, random_state)))
    return Pipeline(steps)


def fit_head(
    steps: Pipeline,
    X: NDArray[np.float64],
    lesion: NDArray[Any] | None,
    segmentation: NDArray[Any] | None,
    weight: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Fit `head` and return X through it; to a centre's shift rows count by weight, so lesions and not raters."""
    weights = {} if weight is None or "combat" not in steps.named_steps else {"combat__sample_weight": weight}
    return steps.fit_transform(X, agreement__lesion=lesion, agreement__segmentation=segmentation, **weights)


def fit_tail(steps: Pipeline, X: NDArray[np.float64], y: NDArray[Any], weight: NDArray[np.float64] | None) -> Pipeline:
    """Fit `tail`; where all rows are of one class, which no classifier takes, it says that class of all."""
    if y.ndim == 1 and is_classifier(steps) and len(np.unique(y)) < 2:
        steps = Pipeline([("learn", DummyClassifier(strategy="most_frequent"))])
    weights = {} if weight is None else {f"{name}__sample_weight": weight for name, _ in steps.steps}
    return steps.fit(X, y, **weights)


def selected(steps: Pipeline, names: NDArray[Any]) -> list[str]:
    """Return the names of the columns that reach the learner of a fitted workflow."""
    return [str(name) for name in steps[:-1].get_feature_names_out(names)]
