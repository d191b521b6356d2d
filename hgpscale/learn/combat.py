"""ComBat: what differs between centres taken out of each feature, location and scale, by empirical Bayes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import (
    _check_feature_names_in,
    _check_sample_weight,
    check_is_fitted,
    validate_data,
)

from hgpscale.errors import LearnError

Array = NDArray[np.float64]

# Spread, as part of a feature's largest magnitude, that may be rounding of its values.
_ROUNDING = 1e-13
# Likelihoods that stand in memory at once, feature by feature.
_SLAB = 2**21


class ComBat(TransformerMixin, BaseEstimator):
    """Harmonise features between centres as Johnson, Li and Rabinovic do.

    A feature of a row is its grand mean, plus what the covariates explain, plus a shift of its centre, plus noise
    that its centre scales. Shift and scale of each centre are drawn together over features by empirical Bayes, and
    taken out. All of it is learnt in `fit`; `transform` applies it to any rows.

    Parameters
    ----------
    batch
        Index of the column that holds the centre as a number; None: there is none, and nothing is changed.
    covariates
        Indices of columns whose effects are kept; they are numbers, are not harmonised and stay as they are. The
        outcome must never be among them: it is not known of new lesions, and would leak into what is fitted.
    parametric
        True: a normal prior of shifts and an inverse gamma prior of scales. False: the other features as they are.
    min_rows
        Fewest rows, weights summed, of a centre that its shift and scale are learnt from: of known values, for each
        feature. At least 2.
    unseen
        What becomes of rows of a centre that was not in the fit, has too few rows there, or is NaN. ``keep``: their
        features pass unchanged, as no location or scale is known of it. ``error``: `transform` refuses them.
    tolerance
        Largest relative change of shifts and scales, over features, in the last iteration of the parametric fit.

    Attributes
    ----------
    batches_
        Codes of the centres that are known: float64, shape ``(batch,)``, ascending.
    features_
        Columns that are harmonised, of the X that `fit` saw: int64, shape ``(feature,)``.
    grand_mean_, pooled_variance_
        float64, shape ``(feature,)``; NaN where a feature passes unchanged.
    coefficients_
        Effects of the covariates: float64, shape ``(covariate, feature)``.
    gamma_, delta_
        Shift and squared scale of each centre, in units of the pooled deviation: float64, shape
        ``(batch, feature)``; NaN where a feature of a centre passes unchanged.

    Raises
    ------
    LearnError
        In `fit`: the same column is given twice, or a covariate cannot be told from the centre. In `transform`: a
        centre is unseen, where that is an error.

    Notes
    -----
    Johnson, Li and Rabinovic 2007, doi:10.1093/biostatistics/kxj037. Conventions that the paper leaves open are those
    of the implementations in R: the pooled variance divides by n, a centre's scale starts from a variance divided by
    its rows less one (1 where that is 0), and iterations end at a relative change of 1e-4.

    Of a feature only known values count: NaN stay NaN. A weight counts as that many equal rows. A feature passes
    unchanged where it is constant, varies in no centre, is known from fewer than two centres, or has a variance that
    overflows. With a single feature to harmonise nothing can be drawn together: its plain shifts and scales are taken
    out. Rows with an unknown covariate are left out of the fit, and have the covariate's mean in `transform`; a
    constant covariate explains nothing.

    """

    def __init__(
        self,
        batch: int | None = None,
        covariates: Sequence[int] = (),
        parametric: bool = True,
        min_rows: int = 3,
        unseen: Literal["keep", "error"] = "keep",
        tolerance: float = 1e-4,
    ) -> None:
        self.batch = batch
        self.covariates = covariates
        self.parametric = parametric
        self.min_rows = min_rows
        self.unseen = unseen
        self.tolerance = tolerance

    def fit(self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None) -> ComBat:
        """Learn shifts and scales of centres from rows.

        Parameters
        ----------
        X
            Features, covariates and centre: float64, shape ``(row, column)``, with NaN where unknown.
        y
            Not used: the outcome has no part in it.
        sample_weight
            Weights of rows, shape ``(row,)``; None: all 1.

        Returns
        -------
        ComBat
            Itself.

        """
        x = validate_data(self, X, dtype=np.float64, ensure_all_finite="allow-nan")
        weight = _check_sample_weight(sample_weight, x, dtype=np.float64, ensure_non_negative=True)
        self._settle(x.shape[1])
        codes = self._codes(x)
        values, covariates = x[:, self.features_], x[:, self._covariates]
        usable = (weight > 0) & np.isfinite(covariates).all(axis=1)
        candidates = np.unique(codes[usable & np.isfinite(codes)])
        rows = np.array([weight[usable & (codes == code)].sum() for code in candidates])
        # Weights of thirds sum to a whole but for rounding.
        self.batches_ = candidates[rows >= self.min_rows - 1e-9]
        usable &= np.isin(codes, self.batches_)
        n_feature = len(self.features_)
        self.covariate_mean_ = np.zeros(len(self._covariates))
        self.coefficients_ = np.zeros((len(self._covariates), n_feature))
        self.grand_mean_ = np.full(n_feature, np.nan)
        self.pooled_variance_ = np.full(n_feature, np.nan)
        self.gamma_ = np.full((len(self.batches_), n_feature), np.nan)
        self.delta_ = np.full_like(self.gamma_, np.nan)
        if len(self.batches_) > 1 and n_feature:
            with np.errstate(over="ignore", invalid="ignore"):
                self._learn(values[usable], covariates[usable], codes[usable], weight[usable])
        return self

    def transform(self, X: ArrayLike) -> Array:
        """Take out what was learnt of each row's centre.

        Parameters
        ----------
        X
            float64, shape ``(row, column)``, columns as in `fit`.

        Returns
        -------
        ndarray
            float64, shape ``(row, column)``: the columns of X in their order, without the one of the centre.

        Raises
        ------
        LearnError
            `unseen` is ``error`` and a row's centre is not known; the message names the codes.

        """
        check_is_fitted(self)
        x = validate_data(self, X, dtype=np.float64, ensure_all_finite="allow-nan", reset=False, copy=True)
        codes = self._codes(x)
        if self.unseen == "error" and self.batch is not None:
            strange = np.unique(codes[~np.isin(codes, self.batches_)])
            if strange.size:
                raise LearnError(
                    f"centre {', '.join(f'{code:g}' for code in strange[:5])} has fewer than {self.min_rows} rows in "
                    "the data that ComBat was fitted on; expected a known centre, or unseen='keep'"
                )
        deviation = np.sqrt(self.pooled_variance_)
        off = x[:, self._covariates] - self.covariate_mean_
        explained = self.grand_mean_ + np.where(np.isnan(off), 0, off) @ self.coefficients_
        for k, code in enumerate(self.batches_):
            known = np.isfinite(self.gamma_[k])
            at = np.ix_(np.flatnonzero(codes == code), self.features_[known])
            level = explained[codes == code][:, known]
            noise = x[at] - level - deviation[known] * self.gamma_[k, known]
            x[at] = noise / np.sqrt(self.delta_[k, known]) + level
        return np.delete(x, self._batch, axis=1)

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> NDArray[np.object_]:
        """Return the names of the columns that `transform` returns.

        Parameters
        ----------
        input_features
            Names of the columns of X; None: those that `fit` saw, or ``x0``, ``x1`` and so on.

        """
        check_is_fitted(self)
        names: NDArray[np.object_] = _check_feature_names_in(self, input_features)
        return np.delete(names, self._batch)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    @property
    def _batch(self) -> list[int]:
        return [] if self.batch is None else [self.batch % self.n_features_in_]

    @property
    def _covariates(self) -> list[int]:
        return [column % self.n_features_in_ for column in self.covariates]

    def _settle(self, n_column: int) -> None:
        """Look at the options, and set which columns are features."""
        columns = [*([] if self.batch is None else [self.batch]), *self.covariates]
        for column in columns:
            if not -n_column <= column < n_column:
                raise LearnError(f"column {column} is asked for; X has {n_column} columns")
        if len({column % n_column for column in columns}) < len(columns):
            raise LearnError(f"columns {columns} name one twice; a column is the centre or one covariate")
        if self.min_rows < 2:
            raise LearnError(f"min_rows is {self.min_rows}; expected 2 or more, as one row has no scale")
        if self.unseen not in ("keep", "error"):
            raise LearnError(f"unseen is {self.unseen!r}; expected 'keep' or 'error'")
        if self.tolerance <= 0:
            raise LearnError(f"tolerance is {self.tolerance}; expected a number above 0")
        self.features_ = np.setdiff1d(np.arange(n_column), [*self._batch, *self._covariates]).astype(np.int64)

    def _codes(self, x: Array) -> Array:
        return np.full(len(x), np.nan) if self.batch is None else x[:, self._batch[0]]

    def _learn(self, values: Array, covariates: Array, codes: Array, weight: Array) -> None:
        """Learn from rows of known centres and covariates, all of positive weight."""
        inside = codes[:, None] == self.batches_
        self.covariate_mean_, scale = _standard(covariates, weight)
        design = np.hstack([inside, (covariates - self.covariate_mean_) / scale])
        _refuse_confounded(design, len(self.batches_), self._covariates)

        # A centre counts for a feature where it knows enough values of it; w has a weight for each value that counts.
        w = np.isfinite(values) * weight[:, None]
        n = inside.T @ w
        counts = n >= self.min_rows - 1e-9
        w *= inside @ counts.astype(np.float64)
        n *= counts
        total = n.sum(axis=0)
        pivot = np.divide((w * np.nan_to_num(values)).sum(axis=0), total, out=np.zeros_like(total), where=total > 0)
        centred = np.where(w > 0, values - pivot, 0)
        beta = _least_squares(design, centred, w)
        rest = (centred - design @ beta) * (w > 0)
        variance = (w * rest**2).sum(axis=0) / np.maximum(total, 1)
        magnitude = np.abs(np.where(w > 0, values, 0)).max(axis=0)
        known = (counts.sum(axis=0) > 1) & (variance > (_ROUNDING * magnitude) ** 2) & np.isfinite(variance)
        if not known.any():
            return
        k = len(self.batches_)
        n, w, variance, beta, total = n[:, known], w[:, known], variance[known], beta[:, known], total[known]
        counts = counts[:, known]
        grand = (n * beta[:k]).sum(axis=0) / total
        z = (centred[:, known] - grand - design[:, k:] @ beta[k:]) * (w > 0) / np.sqrt(variance)
        self.grand_mean_[known] = pivot[known] + grand
        self.pooled_variance_[known] = variance
        self.coefficients_[:, known] = beta[k:] / scale[:, None]
        columns = np.flatnonzero(known)
        for b in range(k):
            at = counts[b]
            row, own = inside[:, b], w[inside[:, b]][:, at]
            rows = n[b, at]
            gamma = (own * z[row][:, at]).sum(axis=0) / rows
            squares = (own * (z[row][:, at] - gamma) ** 2).sum(axis=0)
            delta = squares / (rows - 1)
            delta[delta <= _ROUNDING**2] = 1
            if at.sum() > 1:
                if self.parametric:
                    gamma, delta = _parametric(gamma, delta, squares, rows, self.tolerance)
                else:
                    gamma, delta = _by_other_features(gamma, delta, squares, rows)
            self.gamma_[b, columns[at]], self.delta_[b, columns[at]] = gamma, delta


def _standard(covariates: Array, weight: Array) -> tuple[Array, Array]:
    """Return mean and deviation of covariates, the latter infinite for a constant one: it explains nothing."""
    mean = weight @ covariates / weight.sum()
    scale = np.sqrt(weight @ (covariates - mean) ** 2 / weight.sum())
    constant = scale <= _ROUNDING * np.abs(covariates).max(axis=0, initial=0)
    return mean, np.where(constant, np.inf, scale)


def _refuse_confounded(design: Array, n_batch: int, covariates: list[int]) -> None:
    """Refuse covariates that centres, or other covariates, wholly explain."""
    varying = [j for j in range(n_batch, design.shape[1]) if design[:, j].any()]
    kept = design[:, [*range(n_batch), *varying]]
    if np.linalg.matrix_rank(kept) < kept.shape[1]:
        names = ", ".join(str(covariates[j - n_batch]) for j in varying)
        raise LearnError(
            f"effects of covariates (columns {names}) cannot be told from those of the centre, or from each other, in "
            "the rows to fit on; leave out the one that does not vary within centres"
        )


def _least_squares(design: Array, values: Array, w: Array) -> Array:
    """Return coefficients, shape ``(column of design, feature)``, each feature with its own weights of rows."""
    k = design.shape[1]
    products = (design[:, :, None] * design[:, None, :]).reshape(len(design), k * k)
    left = (products.T @ w).T.reshape(-1, k, k)
    right = (design.T @ (w * values)).T
    return (np.linalg.pinv(left, hermitian=True) @ right[:, :, None])[:, :, 0].T


def _parametric(gamma: Array, delta: Array, squares: Array, n: Array, tolerance: float) -> tuple[Array, Array]:
    """Return posterior modes of one centre's shifts and scales over features, by turns until they settle.

    `squares` are sums of squares about the plain shift, so that those about any other need no rows.
    """
    prior, spread = gamma.mean(), gamma.var(ddof=1)
    m, s2 = delta.mean(), delta.var(ddof=1)
    shape = 2 + m**2 / s2 if s2 > 0 else np.inf
    g, d = gamma, delta
    for _ in range(10_000):
        g_new = (n * spread * gamma + d * prior) / (n * spread + d)
        about = squares + n * (gamma - g_new) ** 2
        # Scales that are all equal have a prior that is sure.
        d_new = (about / 2 + m * (shape - 1)) / (n / 2 + shape - 1) if np.isfinite(shape) else np.full_like(d, m)
        change = max(_relative(g_new - g, g), _relative(d_new - d, d))
        g, d = g_new, d_new
        if change <= tolerance:
            break
    return g, d


def _relative(change: Array, value: Array) -> float:
    """Return the largest relative change; of a value that is zero, the change itself."""
    return float((np.abs(change) / np.where(value == 0, 1, np.abs(value))).max())


def _by_other_features(gamma: Array, delta: Array, squares: Array, n: Array) -> tuple[Array, Array]:
    """Return for each feature the mean of the other features' shifts and scales, by the likelihood of its values."""
    out = np.empty((2, len(gamma)))
    step = max(1, _SLAB // len(gamma))
    for start in range(0, len(gamma), step):
        own = np.arange(start, min(start + step, len(gamma)))
        about = squares[own, None] + n[own, None] * (gamma[own, None] - gamma) ** 2
        log = -0.5 * (n[own, None] * np.log(2 * np.pi * delta) + about / delta)
        log[own - start, own] = -np.inf
        likelihood = np.exp(log - log.max(axis=1, keepdims=True))
        likelihood /= likelihood.sum(axis=1, keepdims=True)
        out[:, own] = likelihood @ gamma, likelihood @ delta
    return out[0], out[1]
