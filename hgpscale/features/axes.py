"""The principal axes of a region."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hgpscale.kernels.surface import row_sums

Array = NDArray[np.float64]

_FLAT = 1e-6
"""Share of the longest axis' variance below which the shortest one's may be a rounding error."""


def principal_variances(mask: NDArray[np.bool_], spacing: Array) -> Array:
    """Return the variances of the voxel centres along the principal axes in mm2, ascending.

    Parameters
    ----------
    mask
        The region, any number of axes.
    spacing
        mm, float64, one for each axis.

    """
    total, products = _coordinate_sums(mask)
    n_voxel = int(np.count_nonzero(mask))
    covariance = (products - total[:, None] * total / n_voxel) / n_voxel
    values = np.asarray(np.linalg.eigvalsh(covariance * (spacing[:, None] * spacing)), dtype=np.float64)
    return values if values[0] > _FLAT * values[-1] else _of_a_flat_region(np.argwhere(mask) * spacing)


def _coordinate_sums(mask: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Return the sums over the region of each index and of each product of two, exact since they are whole numbers."""
    count, first, second = row_sums(mask.reshape(-1, mask.shape[-1])).astype(np.float64)
    rows = np.indices(mask.shape[:-1]).reshape(mask.ndim - 1, -1).astype(np.float64)
    total = np.append(rows @ count, first.sum())
    products = np.empty((mask.ndim, mask.ndim))
    products[:-1, :-1] = (rows * count) @ rows.T
    products[-1, :-1] = products[:-1, -1] = rows @ first
    products[-1, -1] = second.sum()
    return total, products


def _of_a_flat_region(points: Array) -> Array:
    """Return the same as pyradiomics computes it, so that noise in place of 0 is the same; 0 where it is below."""
    points -= np.mean(points, axis=0)
    points /= np.sqrt(len(points))
    # Rounding can make a pair of eigenvalues complex.
    values: Array = np.linalg.eigvals(np.dot(points.T.copy(), points)).real
    values[(values < 0) & (values > -1e-10)] = 0
    values.sort()
    return values
