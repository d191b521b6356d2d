"""Prediction intervals that hold for new patients, from errors on patients that a model has not seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def half_width(error: NDArray[np.float64], patient: NDArray[Any], coverage: float = 0.9) -> float:
    """Return how far a prediction may be off, so that a lesion of a new patient lies within it with `coverage`.

    Split conformal prediction for groups (Lee, Barber and Willett 2023, doi:10.48550/arXiv.2306.06342; Dunn,
    Wasserman and Ramdas 2023, doi:10.1080/01621459.2022.2060112): lesions of one patient are alike, patients are
    exchangeable. Each patient weighs one, spread over the patient's lesions, and the new patient weighs one beyond
    all errors.

    Parameters
    ----------
    error
        Absolute errors on lesions that the model had not seen, floats with shape ``(row,)``.
    patient
        Whose they are, shape ``(row,)``.
    coverage
        Probability, between 0 and 1.

    Returns
    -------
    float
        Infinite where there are too few patients for this coverage.

    """
    _, index, counts = np.unique(patient, return_inverse=True, return_counts=True)
    order = np.argsort(error, kind="stable")
    reached = np.cumsum((1 / counts[index])[order])
    needed = coverage * (len(counts) + 1)
    at = np.searchsorted(reached, needed - 1e-9)
    return float(error[order[at]]) if at < len(error) else float("inf")
