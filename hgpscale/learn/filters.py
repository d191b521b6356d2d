"""Steps between features and a learner that look at the training rows: robust scaling, and what drops features.

The last `always` columns of X are covariates: no filter drops them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.feature_selection import SelectorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from hgpscale.cube.agreement import icc

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NORMAL_IQR = 1.3489795003921634  # of a normal distribution with deviation 1


class RobustScaling(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Subtract the median, divide by the interquartile range (1 for a normal distribution), and cut off outliers.

    A feature without an interquartile range is divided by its standard deviation, one without that by 1.

    Parameters
    ----------
    limit
        Scaled values beyond +-limit are set to it: one wild lesion must not decide a linear model.

    Attributes
    ----------
    center_, scale_ : ndarray of floats with shape ``(column,)``

    """

    def __init__(self, limit: float = 6.0) -> None:
        self.limit = limit

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn medians and ranges of X, floats with shape ``(row, column)``, finite."""
        X = validate_data(self, X, dtype=np.float64)
        low, self.center_, high = np.quantile(X, [0.25, 0.5, 0.75], axis=0)
        scale = (high - low) / _NORMAL_IQR
        deviation = X.std(axis=0)
        # What is left of a constant column is rounding, not spread.
        noise = 1e-12 * np.maximum(np.abs(self.center_), np.finfo(float).tiny)
        scale = np.where(scale > noise, scale, deviation)
        self.scale_ = np.where(scale > noise, scale, 1.0)
        return self

    def transform(self, X: Any) -> NDArray[np.float64]:
        """Return X scaled and cut off."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        return np.clip((X - self.center_) / self.scale_, -self.limit, self.limit)


class _Filter(SelectorMixin, BaseEstimator):
    """Keeps some columns of X, and always the last `always` ones."""

    always: int

    def _get_support_mask(self) -> NDArray[np.bool_]:
        check_is_fitted(self, "support_")
        support: NDArray[np.bool_] = self.support_
        return support

    def _keep(self, chosen: NDArray[np.bool_], width: int) -> None:
        """Set the support; without any feature left all stay, as a learner needs some."""
        support = np.ones(width, bool)
        if chosen.any() or self.always:
            support[: len(chosen)] = chosen
        self.support_ = support

    def _features(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        return X[:, : X.shape[1] - self.always]


class VarianceFilter(_Filter):
    """Drop features that hardly vary.

    Parameters
    ----------
    threshold
        Features whose variance (after scaling) is not above it are dropped.
    always
        Number of last columns that stay.

    """

    def __init__(self, threshold: float = 1e-8, always: int = 0) -> None:
        self.threshold = threshold
        self.always = always

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn which columns of X, floats with shape ``(row, column)``, vary."""
        X = validate_data(self, X, dtype=np.float64)
        self._keep(self._features(X).var(axis=0) > self.threshold, X.shape[1])
        return self


class CorrelationFilter(_Filter):
    """Of features that say nearly the same, keep the first.

    Parameters
    ----------
    threshold
        A feature whose Pearson correlation with one that is kept is above it, in magnitude, is dropped.
    always
        Number of last columns that stay.

    """

    def __init__(self, threshold: float = 0.95, always: int = 0) -> None:
        self.threshold = threshold
        self.always = always

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn which columns of X, floats with shape ``(row, column)``, differ."""
        X = validate_data(self, X, dtype=np.float64)
        features = self._features(X)
        features = features - features.mean(axis=0)
        norm = np.sqrt((features**2).sum(axis=0))
        features = features / np.where(norm > 0, norm, 1)
        like = np.abs(features.T @ features) > self.threshold
        chosen = np.ones(features.shape[1], bool)
        for i in range(len(chosen)):
            if chosen[i]:
                chosen[i + 1 :] &= ~like[i, i + 1 :]
        self._keep(chosen, X.shape[1])
        return self


class AgreementFilter(_Filter):
    """Drop features that raters do not agree on: those whose ICC(2,1) is below a threshold.

    Looks at the lesions that all of some raters have outlined: the two who share most, and others as long as that makes
    the table of outlines larger. Without two raters that share `lesions_needed` lesions nothing is dropped.

    Parameters
    ----------
    threshold
        Least ICC(2,1), a single rater's absolute agreement (Shrout and Fleiss 1979, doi:10.1037/0033-2909.86.2.420);
        0.75 and more is called good (Koo and Li 2016, doi:10.1016/j.jcm.2016.02.012).
    always
        Number of last columns that stay.
    lesions_needed
        Fewest lesions to tell agreement from.

    """

    def __init__(self, threshold: float = 0.75, always: int = 0, lesions_needed: int = 5) -> None:
        self.threshold = threshold
        self.always = always
        self.lesions_needed = lesions_needed

    def fit(self, X: Any, y: Any = None, lesion: Any = None, segmentation: Any = None) -> Self:
        """Learn on which columns raters agree.

        Parameters
        ----------
        X
            Floats with shape ``(row, column)``.
        y
            Not used.
        lesion, segmentation
            Which lesion, and whose outline, each row is: shape ``(row,)``. Without them nothing is dropped.

        """
        X = validate_data(self, X, dtype=np.float64)
        features = self._features(X)
        chosen = np.ones(features.shape[1], bool)
        if lesion is not None and segmentation is not None:
            ratings = _ratings(features, np.asarray(lesion), np.asarray(segmentation))
            if ratings.shape[0] >= self.lesions_needed and ratings.shape[1] > 1:
                agreement = icc(ratings).icc2
                chosen = ~(agreement < self.threshold)  # undefined: no difference at all, which others judge
        self._keep(chosen, X.shape[1])
        return self


def _ratings(X: NDArray[np.float64], lesion: NDArray[Any], segmentation: NDArray[Any]) -> NDArray[np.float64]:
    """Return the rows of lesions that have all raters, shape ``(lesion, rater, column)``.

    Raters that few lesions have are left out where that makes the table larger.
    """
    lesions, row = np.unique(lesion, return_inverse=True)
    raters, column = np.unique(segmentation, return_inverse=True)
    at = np.full((len(lesions), len(raters)), -1)
    at[row, column] = np.arange(len(X))
    there = at >= 0
    shared = np.triu(there.T.astype(np.int64) @ there, k=1)
    # From the pair that shares most lesions on, always the rater who has most of those that the others share.
    some = [int(i) for i in np.unravel_index(shared.argmax(), shared.shape)] if len(raters) > 1 else []
    best = at[:0]
    while some:
        lesions_of_all = there[:, some].all(axis=1)
        table = at[lesions_of_all][:, some]
        best = max(best, table, key=lambda one: one.size)
        left = [rater for rater in range(len(raters)) if rater not in some]
        if not left:
            break
        some.append(max(left, key=lambda rater: int(there[lesions_of_all, rater].sum())))
    return X[best]
