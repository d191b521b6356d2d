"""From matrices to the sums over them that formulas need."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hgpscale.kernels.jit import kernel

EPS = 2.220446049250313e-16
"""Added inside logarithms, as pyradiomics does: ``numpy.spacing(1)``."""

PAIR_SUMS = (
    *("ux", "uy", "var_x", "var_y", "covariance", "autocorrelation", "energy", "maximum"),
    *("hx", "hy", "hxy", "hxy1", "hxy2"),
)
"""Columns of what `sum_pairs` returns."""

SIZE_SUMS = ("entropy", "small low", "small high", "large low", "large high")
"""Columns of what `sum_sizes` returns."""


@kernel
def occurring(levels: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the place among all that occur, ascending, of each sum and of each difference of two levels.

    Parameters
    ----------
    levels
        int64, shape ``(n_levels,)``, ascending.

    Returns
    -------
    sums, differences
        int64, shape ``(highest sum + 1,)`` and ``(highest difference + 1,)``: the place, or -1 for what does not occur.

    """
    last = levels.size - 1
    sums = np.full(2 * levels[last] + 1, -1)
    differences = np.full(levels[last] - levels[0] + 1, -1)
    for i in range(levels.size):
        for j in range(i + 1):
            sums[levels[i] + levels[j]] = 0
            differences[levels[i] - levels[j]] = 0
    for places in (sums, differences):
        n = 0
        for k in range(places.size):
            if places[k] == 0:
                places[k] = n
                n += 1
    return sums, differences


@kernel
def _entropy(p: NDArray[np.float64]) -> float:
    bits = 0.0
    for k in range(p.size):
        bits -= p[k] * np.log2(p[k] + EPS)
    return bits


@kernel
def sum_pairs(
    p: NDArray[np.float64],
    levels: NDArray[np.int64],
    place_of_sum: NDArray[np.int64],
    place_of_difference: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Sum over co-occurrence probabilities, direction by direction.

    Means, variances and the covariance are summed in raster order, as pyradiomics does: where a deviation is exactly
    0 there, it is 0 here.

    Parameters
    ----------
    p
        Probabilities, float64, shape ``(n_direction, n_levels, n_levels)``.
    levels
        int64, shape ``(n_levels,)``.
    place_of_sum, place_of_difference
        From `occurring`.

    Returns
    -------
    totals
        float64, shape ``(n_direction, len(PAIR_SUMS))``.
    sums, differences
        Probability of each sum and each absolute difference of levels that occurs, ``(n_direction, n)``.

    """
    n_direction, n, _ = p.shape
    totals = np.zeros((n_direction, 13))
    # The largest sum and difference occur, so their places are the last ones.
    sums = np.zeros((n_direction, place_of_sum[place_of_sum.size - 1] + 1))
    differences = np.zeros((n_direction, place_of_difference[place_of_difference.size - 1] + 1))
    for d in range(n_direction):
        px = np.zeros(n)
        py = np.zeros(n)
        ux = 0.0
        uy = 0.0
        autocorrelation = 0.0
        energy = 0.0
        maximum = 0.0
        for i in range(n):
            for j in range(n):
                cell = p[d, i, j]
                if cell == 0:
                    continue
                px[i] += cell
                py[j] += cell
                ux += levels[i] * cell
                uy += levels[j] * cell
                autocorrelation += cell * (levels[i] * levels[j])
                energy += cell * cell
                maximum = max(maximum, cell)
                sums[d, place_of_sum[levels[i] + levels[j]]] += cell
                differences[d, place_of_difference[abs(levels[i] - levels[j])]] += cell
        var_x = 0.0
        var_y = 0.0
        covariance = 0.0
        hxy = 0.0
        hxy1 = 0.0
        hxy2 = 0.0
        for i in range(n):
            for j in range(n):
                independent = px[i] * py[j]
                if independent == 0:
                    continue
                bits = np.log2(independent + EPS)
                hxy2 -= independent * bits
                cell = p[d, i, j]
                if cell == 0:
                    continue
                hxy -= cell * np.log2(cell + EPS)
                hxy1 -= cell * bits
                var_x += cell * ((levels[i] - ux) * (levels[i] - ux))
                var_y += cell * ((levels[j] - uy) * (levels[j] - uy))
                covariance += cell * (levels[i] - ux) * (levels[j] - uy)
        found = (ux, uy, var_x, var_y, covariance, autocorrelation, energy, maximum)
        for column, total in enumerate((*found, _entropy(px), _entropy(py), hxy, hxy1, hxy2)):
            totals[d, column] = total
    return totals, sums, differences


@kernel
def sum_sizes(
    counts: NDArray[np.float64], levels: NDArray[np.float64], sizes: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Sum over matrices of things counted by grey level and size.

    Parameters
    ----------
    counts
        float64, shape ``(n_direction, n_levels, n_sizes)``.
    levels, sizes
        float64, shape ``(n_levels,)`` and ``(n_sizes,)``.

    Returns
    -------
    ndarray
        float64, shape ``(n_direction, len(SIZE_SUMS))``: entropy of the counts' shares in bits, and sums of counts
        times or over (high, large; low, small) the squares of level and size.

    """
    n_direction = counts.shape[0]
    found = np.zeros((n_direction, 5))
    for d in range(n_direction):
        total = 0.0
        for i in range(levels.size):
            for j in range(sizes.size):
                total += counts[d, i, j]
        for i in range(levels.size):
            level = levels[i] * levels[i]
            for j in range(sizes.size):
                count = counts[d, i, j]
                if count == 0:
                    continue
                size = sizes[j] * sizes[j]
                share = count / total
                found[d, 0] -= share * np.log2(share + EPS)
                found[d, 1] += count / (level * size)
                found[d, 2] += count * level / size
                found[d, 3] += count * size / level
                found[d, 4] += count * level * size
    return found


@kernel
def sum_level_pairs(
    levels: NDArray[np.float64], p: NDArray[np.float64], s: NDArray[np.float64]
) -> tuple[float, float, float, float]:
    """Sum over all ordered pairs (i, j) of levels, for grey tone differences.

    Parameters
    ----------
    levels, p, s
        Level, share of voxels and sum of differences, float64, shape ``(n_levels,)``.

    Returns
    -------
    tuple of float
        Sums of ``p_i p_j (i - j)**2``, ``|i p_i - j p_j|``, ``|i - j| (p_i s_i + p_j s_j) / (p_i + p_j)`` and
        ``(p_i + p_j) (i - j)**2``.

    """
    spread = 0.0
    weighted = 0.0
    complexity = 0.0
    strength = 0.0
    for i in range(levels.size):
        for j in range(levels.size):
            gap = abs(levels[i] - levels[j])
            spread += p[i] * p[j] * gap * gap
            weighted += abs(levels[i] * p[i] - levels[j] * p[j])
            complexity += gap * (p[i] * s[i] + p[j] * s[j]) / (p[i] + p[j])
            strength += (p[i] + p[j]) * gap * gap
    return spread, weighted, complexity, strength
