"""How unlike the training data an input is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA
from sklearn.utils.validation import check_is_fitted, validate_data

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FOLDS = 5


class Typicality(BaseEstimator):
    """Distance to the middle of the training rows, in their principal components and off them.

    The two distances are those of multivariate process control (Jackson and Mudholkar 1979,
    doi:10.1080/00401706.1979.10489779): Hotelling's T² within the components, and the squared residual Q outside. Each
    is judged by where it lies among the distances of training rows, each measured from the others: folds keep the rows
    of a group together. The worse place of the two is judged by those of training rows in turn.

    Parameters
    ----------
    n_components
        Principal components, at most; fewer where there are few rows.

    Attributes
    ----------
    distances_ : ndarray of floats with shape ``(2, row)``
        Sorted distances T² and Q of the training rows from a model of other groups.
    places_ : ndarray of ints with shape ``(row,)``
        How many training rows are at least as far off as each of them, by its worse distance; sorted.

    """

    def __init__(self, n_components: int = 10) -> None:
        self.n_components = n_components

    def fit(self, X: Any, y: Any = None, groups: Any = None) -> Self:
        """Learn from X, finite scaled floats with shape ``(row, column)``; `groups` are patients, shape ``(row,)``."""
        X = validate_data(self, X, dtype=np.float64, ensure_min_samples=2)
        names = np.arange(len(X)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
        fold = names % min(_FOLDS, max(2, len(np.unique(names))))
        distances = []
        for i in np.unique(fold):
            inside = fold != i
            if inside.sum() > 1 and not inside.all():
                distances.append(_distances(_components(X[inside], self.n_components), X[~inside]))
        self.pca_ = _components(X, self.n_components)
        found = np.concatenate(distances, axis=1) if distances else _distances(self.pca_, X)
        self.distances_ = np.sort(found, axis=1)
        self.places_ = np.sort(self._places(found))
        return self

    def score_samples(self, X: Any) -> NDArray[np.float64]:
        """Return how typical rows are: the share of training rows at least as far off, by the worse of both distances.

        float64, shape ``(row,)``, above 0 and at most 1; 1 / (n + 1) is farther off than all n training rows.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        places = self._places(_distances(self.pca_, X))
        return (1 + np.searchsorted(self.places_, places, side="right")) / (len(self.places_) + 1)

    def _places(self, distances: NDArray[np.float64]) -> NDArray[np.int64]:
        n = self.distances_.shape[1]
        farther = [
            n - np.searchsorted(known, found * (1 - 1e-12), side="left")
            for known, found in zip(self.distances_, distances, strict=True)
        ]
        return np.min(farther, axis=0)


def _components(X: NDArray[np.float64], n: int) -> PCA:
    # Half of the rows at most: with as many components as rows nothing would be left outside of them.
    return PCA(min(n, max(1, len(X) // 2), X.shape[1]), svd_solver="full").fit(X)


def _distances(pca: PCA, X: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return T² and Q of each row."""
    scores = pca.transform(X)
    variance = pca.explained_variance_
    spread = np.where(variance > 1e-12, variance, 1.0)
    inside = (scores**2 / spread).sum(axis=1)
    outside = ((X - pca.inverse_transform(scores)) ** 2).sum(axis=1)
    return np.stack([inside, outside])
