"""The principal axes of a region."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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
    points = np.stack(np.nonzero(mask)).astype(np.float64)
    total = points.sum(axis=1)
    # Indices are whole numbers, so that these sums are exact.
    covariance = (points @ points.T - np.outer(total, total) / points.shape[1]) / points.shape[1]
    values: Array = np.linalg.eigvalsh(covariance * np.outer(spacing, spacing))
    return values if values[0] > _FLAT * values[-1] else _of_a_flat_region(points.T * spacing)


def _of_a_flat_region(points: Array) -> Array:
    """Return the same as pyradiomics computes it, so that noise in place of 0 is the same; 0 where it is below."""
    points -= np.mean(points, axis=0)
    points /= np.sqrt(len(points))
    # Rounding can make a pair of eigenvalues complex.
    values: Array = np.linalg.eigvals(np.dot(points.T.copy(), points)).real
    values[(values < 0) & (values > -1e-10)] = 0
    values.sort()
    return values
