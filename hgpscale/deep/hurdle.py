"""From logits of growth to fractions and probabilities, as `learn.HurdleComposition` has them; no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.special import betainc, expit, softmax

from hgpscale.deep.answers import Growth

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TOLERANCE = 1e-6
_ONE_ROW = 0.25
"""The largest variance of a fraction: what one row without a prediction adds to sums of them."""


class Parts(NamedTuple):
    """What logits mean; float64.

    Attributes
    ----------
    composition
        Fractions desmoplastic, replacement, pushing, shape ``(row, 3)`` with sum 1.
    gate
        P(d = 0), P(mixed), P(d = 1), shape ``(row, 3)``.
    between
        Desmoplastic part d of a mixed lesion, shape ``(row,)``.

    """

    composition: NDArray[np.float64]
    gate: NDArray[np.float64]
    between: NDArray[np.float64]


class Calibration(NamedTuple):
    """What errors on patients that networks had not seen teach.

    Attributes
    ----------
    precision
        Of the Beta distribution of a mixed lesion's desmoplastic part around its prediction.
    half_width
        Of the conformal interval of the desmoplastic fraction; NaN: not known.

    """

    precision: float = 1.0
    half_width: float = float("nan")


def parts_of(logits: NDArray[np.floating]) -> Parts:
    """Return what logits ``(row, 5)`` mean; see `network.OUTPUTS`."""
    logits = np.asarray(logits, np.float64)
    gate, between, rest = softmax(logits[:, :3], axis=1), expit(logits[:, 3]), expit(logits[:, 4])
    d = np.minimum(gate[:, 2] + gate[:, 1] * between, 1)
    r = np.minimum((1 - d) * rest, 1 - d)
    return Parts(np.column_stack([d, r, 1 - (d + r)]), gate, between)


def precision_of(parts: Parts, growth: NDArray[np.float64]) -> float:
    """Return the precision of mixed lesions' d by moments: Var d = m (1 - m) / (1 + precision) around a prediction m.

    One row that is uniformly distributed is added, so that few rows do not claim certainty; as in `learn`.

    Parameters
    ----------
    parts
        Predictions for lesions that were not learned from.
    growth
        True fractions, shape ``(row, 3)``.

    """
    mixed = (growth[:, 0] > _TOLERANCE) & (growth[:, 0] < 1 - _TOLERANCE)
    mean = parts.between[mixed]
    residual = float(((growth[mixed, 0] - mean) ** 2).sum()) + _ONE_ROW / 3
    possible = float((mean * (1 - mean)).sum()) + _ONE_ROW
    share = float(np.clip(residual / possible, _TOLERANCE, 1 - _TOLERANCE))
    return 1 / share - 1


def growth_of(logits: NDArray[np.floating], calibration: Calibration) -> Growth:
    """Return the answer of several networks on one lesion, or patient: the mean of what each says.

    Parameters
    ----------
    logits
        Shape ``(network, 5)``.
    calibration
        Gives P(d > 50 %) and the interval.

    """
    said = parts_of(logits)
    composition = said.composition.mean(axis=0)
    mean = np.clip(said.between, _TOLERANCE, 1 - _TOLERANCE)
    more = betainc((1 - mean) * calibration.precision, mean * calibration.precision, 0.5)
    d = float(composition[0])
    low, high = (float(np.clip(d + sign * calibration.half_width, 0, 1)) for sign in (-1, 1))
    return Growth(
        composition / composition.sum(),
        float(said.gate[:, 2].mean()),
        float(said.gate[:, 0].mean()),
        float((said.gate[:, 2] + said.gate[:, 1] * more).mean()),
        low,
        high,
        float(said.composition[:, 0].std(ddof=1)) if len(logits) > 1 else float("nan"),
    )
