"""Agreement of raters: intraclass correlations of many features at once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Bytes of one slab of features; its temporaries are half as large again.
_SLAB = 2**25
# Spread, as part of a feature's largest magnitude, that may be rounding of its values.
_ROUNDING = 1e-13


class Agreement(NamedTuple):
    """Intraclass correlations of single ratings; ``pd.DataFrame(agreement._asdict())`` has one row a feature.

    Attributes
    ----------
    icc1, icc2, icc3
        Estimates of ICC(1,1), ICC(2,1) and ICC(3,1): float64, shape ``(feature,)``, NaN where undefined.
    icc1_low, icc1_high and so on
        Their confidence limits, likewise.
    n
        How many lesions counted: int64, shape ``(feature,)``.

    """

    icc1: Array
    icc1_low: Array
    icc1_high: Array
    icc2: Array
    icc2_low: Array
    icc2_high: Array
    icc3: Array
    icc3_low: Array
    icc3_high: Array
    n: NDArray[np.int64]


def icc(values: Array, *, confidence: float = 0.95) -> Agreement:
    """Return how well raters agree on each feature: ICC(1,1), ICC(2,1), ICC(3,1) with confidence limits.

    Parameters
    ----------
    values
        float64, shape ``(lesion, rater, feature)``, not changed. A lesion counts for a feature only where all
        raters have a finite value.
    confidence
        Probability that each two-sided interval holds its coefficient, between 0 and 1.

    Returns
    -------
    Agreement
        Arrays over features. Estimates are not cut off at zero.

    Raises
    ------
    ValueError
        `values` has not three dimensions, has fewer than two raters, or `confidence` is not between 0 and 1.

    Notes
    -----
    Estimates and limits are those of Shrout and Fleiss (1979, doi:10.1037/0033-2909.86.2.420) from the two-way mean
    squares, and of McGraw and Wong (1996, doi:10.1037/1082-989X.1.1.30), who call them ICC(1), ICC(A,1) and
    ICC(C,1). The limits of ICC(2,1) rest on Satterthwaite's approximation of its degrees of freedom.

    NaN are, where "no difference" is one below 1e-13 of the largest value, or lost in the rounding of the sums,

    - all numbers where fewer than two lesions count, and where there is no difference;
    - ICC(3,1) and all limits where there is no difference but between raters;
    - ICC(2,1) where two raters swap the values of two lesions: it has no lower bound there;
    - limits that would not enclose the estimate, as F's quantiles are not on both sides of 1: of ICC(2,1) where
      lesions' means hardly differ and leave it no degrees of freedom; of any at a low `confidence`.

    Limits meet at 1 where all raters agree on lesions that differ.

    """
    if values.ndim != 3:
        raise ValueError(f"values have three dimensions, (lesion, rater, feature), not {values.ndim}")
    n_lesion, n_rater, n_feature = values.shape
    if n_rater < 2:
        raise ValueError(f"agreement takes two raters or more, not {n_rater}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is between 0 and 1, not {confidence}")
    squares = np.zeros((4, n_feature))
    n = np.zeros(n_feature, dtype=np.int64)
    step = max(1, _SLAB // (8 * max(1, n_lesion) * n_rater))
    for start in range(0, n_feature if n_lesion else 0, step):
        slab = slice(start, start + step)
        squares[:, slab], n[slab] = _sums_of_squares(values[:, :, slab])
    numbers = _coefficients(squares, np.maximum(n, 2), n_rater, (1 - confidence) / 2)
    return Agreement._make([*np.where(n < 2, np.nan, numbers).reshape(9, n_feature), n])


def _sums_of_squares(values: Array) -> tuple[Array, NDArray[np.int64]]:
    """Return sums of squares between lesions, between raters, of the rest, any mean square's rounding; and n."""
    counts = np.logical_and.reduce(np.isfinite(values), axis=1)
    n = counts.sum(axis=0, dtype=np.int64)
    n_rater, n_feature = values.shape[1:]
    # Deviations from one of the values are exact where it matters; so is a power of two that avoids overflow.
    pivot = np.where(n > 0, values[counts.argmax(axis=0), 0, np.arange(n_feature)], np.float64(0))
    counted = counts[:, None]
    rest = np.where(counted, values, pivot)
    largest, exponent = np.frexp(np.maximum(rest.max(axis=(0, 1)), -rest.min(axis=(0, 1))))
    np.ldexp(rest, -exponent, out=rest)
    rest -= np.ldexp(pivot, -exponent)
    rest -= rest.sum(axis=(0, 1)) / np.maximum(n * n_rater, 1)
    rest *= counted
    lesion = rest.mean(axis=1)
    rest -= lesion[:, None]
    rater = rest.sum(axis=0) / np.maximum(n, 1)
    rest -= rater
    rest *= counted
    squares = [n_rater * (lesion**2).sum(axis=0), n * (rater**2).sum(axis=0), np.einsum("lrf,lrf->f", rest, rest)]
    sums = (n * n_rater * np.finfo(np.float64).eps) ** 2 * sum(squares) / np.maximum(n - 1, 1)
    return np.stack([*squares, (_ROUNDING * largest) ** 2 + sums]), n


def _coefficients(squares: Array, n: NDArray[np.int64], k: int, tail: float) -> Array:
    """Return estimate, low and high of each ICC, shape ``(3, 3, feature)``, from sums of squares of n lesions.

    With mean squares b between lesions, c between raters, e of the rest and w within lesions, each ICC is
    (b - error) / (b + other); a limit is that of b times a quantile of F.
    """
    from scipy.special import fdtri

    b, c, e = squares[:3] / np.stack([n - 1, np.full_like(n, k - 1), (n - 1) * (k - 1)])
    w = (squares[1] + squares[2]) / (n * (k - 1))
    error = np.stack([w, e, e])
    other = np.stack([(k - 1) * w, (k - 1 - k / n) * e + k / n * c, (k - 1) * e])
    # Satterthwaite's degrees of freedom for ICC(2,1); its estimate put in, all that could cancel out has done so.
    above = (b * ((n - 1) * e + c)) ** 2
    below = (c * (b - e)) ** 2 / (k - 1) + (e * ((n - 1) * b + c)) ** 2 / ((n - 1) * (k - 1))
    freedom = _divide(above, below)
    freedom[(c == 0) & (e == 0)] = k - 1  # any will do: both limits are 1
    within = np.stack([n * (k - 1.0), freedom, (n - 1.0) * (k - 1)])
    low, high = (fdtri(within, n - 1.0, p) for p in (tail, 1 - tail))
    known = b + other > squares[3]
    fit = known & known[2] & (low <= 1) & (high >= 1) & np.isfinite(high)
    between = b * np.stack([np.where(known, 1, np.nan), *(np.where(fit, f, np.nan) for f in (low, high))], axis=1)
    return _divide(between - error[:, None], between + other[:, None])


def _divide(above: Array, below: Array) -> Array:
    """Divide where the divisor is above zero; NaN elsewhere."""
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)
