"""The maximal correlation coefficient: the second largest singular value of a scaled co-occurrence matrix."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hgpscale.kernels.reduce import EPS

Array = NDArray[np.float64]

_SMALL = 1e-6
"""Below this an eigenvalue may be a rounding error, whose root pyradiomics counts, or not where it is negative."""

_FEW_LEVELS = 32
"""Up to here such a matrix is summed in pyradiomics' order: with few levels an eigenvalue of 0 is common."""


def maximal_correlation(p: Array) -> Array:
    """Return the coefficient of each direction.

    pyradiomics takes the second eigenvalue of ``Q = sum over k of p(i, k) p(j, k) / (px(i) py(k))``. With
    ``B = p / sqrt(px py)``, Q is similar to the symmetric matrix ``B B'``, whose eigenvalues cost a fraction.

    Parameters
    ----------
    p
        Probabilities, float64, shape ``(n_direction, n_levels, n_levels)``.

    Returns
    -------
    ndarray
        float64, shape ``(n_direction,)``; 1 for a single level, nan where rounding made the eigenvalue negative.

    """
    if p.shape[1] < 2:
        return np.ones(len(p))
    # numpy adds up a single direction in another order than each of several: keep pyradiomics' axes.
    in_order = np.ascontiguousarray(p.transpose(1, 2, 0))
    independent = in_order.sum(axis=1)[:, None] * in_order.sum(axis=0)[None] + EPS
    b = p / np.sqrt(independent.transpose(2, 0, 1))
    second = np.linalg.eigvalsh(b @ b.transpose(0, 2, 1))[:, -2]
    if (second < _SMALL).any():
        return _roots_of_q(in_order, independent)
    return np.sqrt(second)


def _roots_of_q(p: Array, independent: Array) -> Array:
    """Return the second eigenvalues' roots of Q itself, by pyradiomics' solver; arrays of ``(n, n, n_direction)``."""
    n = p.shape[0]
    if n > _FEW_LEVELS:
        q = (p / independent).transpose(2, 0, 1) @ p.transpose(2, 1, 0)
    else:
        q = np.zeros_like(p)
        for k in range(n):
            q += p[:, None, k] * p[None, :, k] / independent[:, None, k]
        q = q.transpose(2, 0, 1)
    values = np.linalg.eigvals(q)
    values.sort(axis=-1)
    with np.errstate(invalid="ignore"):
        return np.sqrt(values[:, -2]).real
