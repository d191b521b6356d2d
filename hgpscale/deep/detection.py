"""Lesions that were found, judged by those that were drawn: overlap, sensitivity and false positives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hgpscale.errors import DeepError
from hgpscale.learn.resampling import bootstrap

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hgpscale.learn.intervals import Interval
    from hgpscale.volume import Vector

OVERLAP = 0.1
"""IoU from which a candidate is a hit; low, as borders are judged by Dice."""
RATES = (1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0, 8.0)
"""False positives a scan that sensitivities are averaged at."""
TOLD = (1 / 4, 1.0, 4.0)
"""Those that the summary has one by one."""
_RESAMPLES = 1000


@dataclass(frozen=True, eq=False)
class Compared:
    """Candidates of one scan beside its true lesions.

    Attributes
    ----------
    scores
        Of the candidates, float64, shape ``(n,)``.
    hits
        Number of the true lesion that each candidate hits, 0: none, int64, shape ``(n,)``.
    truths
        Numbers of the true lesions, int64, shape ``(m,)``.
    found
        Number of the candidate that hits each of them, 0: none, int64, shape ``(m,)``.
    dice
        Of each true lesion and the candidate that hits it, float64, shape ``(m,)``; NaN: none does.
    true_volumes, found_volumes
        mm³ of both, float64, shape ``(m,)``; NaN where no candidate hits.
    scan_dice
        Of all voxels of candidates that count with all voxels of true lesions; NaN where no lesion is true.
    threshold
        Score from which candidates count.

    """

    scores: NDArray[np.float64]
    hits: NDArray[np.int64]
    truths: NDArray[np.int64]
    found: NDArray[np.int64]
    dice: NDArray[np.float64]
    true_volumes: NDArray[np.float64]
    found_volumes: NDArray[np.float64]
    scan_dice: float
    threshold: float

    @property
    def detected(self) -> NDArray[np.bool_]:
        """Which true lesions a candidate hits that counts, shape ``(m,)``."""
        score = np.concatenate([[-np.inf], self.scores])[self.found]
        return np.asarray(score >= self.threshold)


def compare(
    labels: NDArray[Any],
    scores: NDArray[np.float64],
    truth_instances: NDArray[Any],
    *,
    overlap: float = OVERLAP,
    threshold: float = 0.5,
    spacing: Vector = (1.0, 1.0, 1.0),
) -> Compared:
    """Match candidates with true lesions, one to one.

    Candidates choose in order of falling score: each takes, of the true lesions that none has taken, the one with the
    largest overlap, where that reaches `overlap`. So what hits at some score does not depend on candidates of lower
    ones. A second candidate in the same lesion hits nothing, and a candidate over two lesions hits one.

    Parameters
    ----------
    labels
        Integers ``(z, y, x)``: 0, and the numbers of candidates from 1.
    scores
        Of candidate 1, 2 and so on, float64, shape ``(n,)``.
    truth_instances
        Integers ``(z, y, x)``: 0, and in each true lesion its number.
    overlap
        Smallest intersection over union of a hit, above 0.
    threshold
        Score from which a candidate counts for `Compared.scan_dice` and `Compared.detected`.
    spacing
        mm ``(z, y, x)``; by default volumes are in voxels.

    Raises
    ------
    DeepError
        Shapes differ, `overlap` is not above 0, or a candidate has no score.

    """
    if labels.shape != truth_instances.shape:
        raise DeepError(
            f"candidates have shape {labels.shape}, true lesions {truth_instances.shape}; expected the same"
        )
    if not 0 < overlap <= 1:
        raise DeepError(f"overlap is {overlap:g}, expected an intersection over union above 0, at most 1")
    scores = np.asarray(scores, np.float64)
    if int(labels.max(initial=0)) > len(scores):
        raise DeepError(f"candidates are numbered up to {labels.max()}, of {len(scores)} there is a score")
    truths, true_sizes, found_sizes, shared = _counts(labels, len(scores), truth_instances)
    hits, found = np.zeros(len(scores), np.int64), np.zeros(len(truths), np.int64)
    dice = np.full(len(truths), np.nan)
    union = found_sizes[:, None] + true_sizes - shared
    iou = shared / np.where(union > 0, union, 1)
    for at in np.argsort(-scores, kind="stable").tolist():
        free = np.where(found == 0, iou[at], 0.0)
        best = int(free.argmax()) if free.size else -1
        if best >= 0 and free[best] >= overlap:
            hits[at], found[best] = truths[best], at + 1
            dice[best] = 2 * shared[at, best] / (found_sizes[at] + true_sizes[best])
    voxel = math.prod(spacing)
    of_found = np.concatenate([[np.nan], found_sizes * voxel])[found]
    counts = scores >= threshold
    in_both = int(shared[counts].sum())
    whole = int(found_sizes[counts].sum() + true_sizes.sum())
    return Compared(
        scores, hits, truths, found, dice, true_sizes.astype(np.float64) * voxel, of_found,
        2 * in_both / whole if len(truths) else math.nan, threshold,
    )  # fmt: skip


def _counts(
    labels: NDArray[Any], n: int, truth: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return numbers of true lesions, their voxels, those of candidates, and those shared, shape ``(n, m)``."""
    some = (labels != 0) | (truth != 0)
    candidate, lesion = labels[some].astype(np.int64), truth[some].astype(np.int64)
    numbers, at = np.unique(np.concatenate([[0], lesion]), return_inverse=True)
    m = len(numbers) - 1
    table = np.bincount(candidate * (m + 1) + at[1:], minlength=(n + 1) * (m + 1)).reshape(n + 1, m + 1)
    return numbers[1:], table[:, 1:].sum(axis=0), table[1:].sum(axis=1), table[1:, 1:]


@dataclass(frozen=True, eq=False)
class Froc:
    """Sensitivity over the mean number of false positives a scan, at each score that can be the least to count.

    Attributes
    ----------
    false_positives, sensitivity
        float64, shape ``(k,)``, both from 0 on and never falling; sensitivity is NaN where there is no true lesion.
    scores
        The least that counts at each point, float64, shape ``(k,)``, falling; the first is infinite: nothing counts.
    scans, lesions
        What it is of.

    """

    false_positives: NDArray[np.float64]
    sensitivity: NDArray[np.float64]
    scores: NDArray[np.float64]
    scans: int
    lesions: int


def froc(compared: Sequence[Compared]) -> Froc:
    """Return the free-response operating characteristic of scans.

    Notes
    -----
    Bunch, Hamilton, Sanderson and Simmons 1978, "A free-response approach to the measurement and characterization of
    radiographic-observer performance", J. Appl. Photogr. Eng. 4, 166-171. Candidates of equal score count together.

    Raises
    ------
    DeepError
        There is no scan.

    """
    pooled = _pooled(compared)
    return pooled.curve(np.ones(len(compared)))


def sensitivity_at(curve: Froc, false_positives: float) -> float:
    """Return the highest sensitivity at so many false positives a scan or fewer, on average.

    It is that of a score at which candidates can be cut off. Between two such scores LUNA16 interpolates instead,
    which gives no less.
    """
    at = int(np.searchsorted(curve.false_positives, false_positives + 1e-12, side="right")) - 1
    return float(curve.sensitivity[at]) if at >= 0 else math.nan


def average_sensitivity(curve: Froc) -> float:
    """Return the mean of the sensitivities at `RATES`, as LUNA16 ranks by.

    Notes
    -----
    Setio and others 2017, doi:10.1016/j.media.2017.06.015.

    """
    return float(np.mean([sensitivity_at(curve, rate) for rate in RATES]))


@dataclass(frozen=True, eq=False)
class _Pooled:
    """Candidates of all scans in order of falling score: whether each hits, and its scan; true lesions by scan."""

    scores: NDArray[np.float64]
    hits: NDArray[np.bool_]
    scan: NDArray[np.int64]
    lesions: NDArray[np.float64]

    def curve(self, weight: NDArray[np.float64]) -> Froc:
        """Return the FROC where scan i counts ``weight[i]`` times."""
        scans, lesions = float(weight.sum()), float(self.lesions @ weight)
        each = weight[self.scan]
        last = np.flatnonzero(np.diff(self.scores, append=-np.inf))  # of equal scores
        false = np.concatenate([[0.0], np.cumsum(np.where(self.hits, 0.0, each))[last]])
        true = np.concatenate([[0.0], np.cumsum(np.where(self.hits, each, 0.0))[last]])
        sensitivity = true / lesions if lesions else np.full(len(true), np.nan)
        scores = np.concatenate([[np.inf], self.scores[last]])
        return Froc(false / scans, sensitivity, scores, round(scans), round(lesions))


def _pooled(compared: Sequence[Compared]) -> _Pooled:
    if not compared:
        raise DeepError("there is no scan to judge by")
    scores = np.concatenate([one.scores for one in compared])
    hits = np.concatenate([one.hits for one in compared]) > 0
    scan = np.repeat(np.arange(len(compared)), [len(one.scores) for one in compared])
    order = np.argsort(-scores, kind="stable")
    return _Pooled(scores[order], hits[order], scan[order], np.array([len(one.truths) for one in compared], np.float64))


def detection_summary(compared: Sequence[Compared], patients: Sequence[str], seed: int) -> dict[str, Any]:
    """Return what a report says of detection, ready for JSON.

    Parameters
    ----------
    compared
        The scans, all compared at one threshold.
    patients
        Of each scan.
    seed
        Of the bootstrap: patients are drawn with all of their scans, see `hgpscale.learn.resampling.bootstrap`.

    Returns
    -------
    dict
        Counts: ``patients``, ``scans``, ``lesions``, ``candidates``; at ``threshold`` how many lesions were
        ``detected``, and how many candidates are ``false``. With ``mean``, ``low`` and ``high`` (95 %):
        ``sensitivity`` and ``false_positives`` (a scan) at the threshold; ``sensitivity_at``, by the number of false
        positives a scan as text; ``average_sensitivity``; ``dice_lesions``, the mean of the lesions that were
        detected; ``dice_scans``, the mean of the scans with lesions. ``froc``: ``false_positives`` and
        ``sensitivity`` at every score where the latter changes, and at the lowest. None is what is not defined.

    Raises
    ------
    DeepError
        There is no scan, or numbers of scans and patients differ, or thresholds do.

    """
    pooled = _pooled(compared)
    if len(patients) != len(compared) or len({one.threshold for one in compared}) != 1:
        raise DeepError(
            f"{len(compared)} scans, {len(patients)} patients; expected a patient for each, and one threshold for all"
        )
    threshold = compared[0].threshold
    found = bootstrap(
        lambda rows: _metrics(pooled, compared, rows, threshold), patients, np.arange(len(compared)),
        resamples=_RESAMPLES, seed=seed,
    )  # fmt: skip
    told = {name: _told(found[name]) for name in _SINGLE}
    counts = pooled.scores >= threshold
    whole = pooled.curve(np.ones(len(compared)))
    return {
        "patients": len(set(patients)),
        "scans": len(compared),
        "lesions": whole.lesions,
        "candidates": len(pooled.scores),
        "threshold": threshold,
        "detected": int(sum(one.detected.sum() for one in compared)),
        "false": int((counts & ~pooled.hits).sum()),
        **told,
        "sensitivity_at": {f"{rate:g}": _told(found[f"at {rate:g}"]) for rate in TOLD},
        "froc": _drawn(whole),
    }


_SINGLE = ("sensitivity", "false_positives", "average_sensitivity", "dice_lesions", "dice_scans")


def _metrics(
    pooled: _Pooled, compared: Sequence[Compared], rows: NDArray[np.int64], threshold: float
) -> Mapping[str, float]:
    weight = np.bincount(rows, minlength=len(compared)).astype(np.float64)
    curve = pooled.curve(weight)
    at = int(np.searchsorted(-curve.scores, -threshold, side="right")) - 1
    chosen = [compared[row] for row in rows.tolist()]
    lesions = np.concatenate([one.dice[one.detected] for one in chosen])
    scans = np.array([one.scan_dice for one in chosen])
    return {
        "sensitivity": float(curve.sensitivity[at]),
        "false_positives": float(curve.false_positives[at]),
        "average_sensitivity": average_sensitivity(curve),
        "dice_lesions": _mean(lesions),
        "dice_scans": _mean(scans[~np.isnan(scans)]),
        **{f"at {rate:g}": sensitivity_at(curve, rate) for rate in TOLD},
    }


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if values.size else math.nan


def _told(found: Interval) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in found._asdict().items()}


def _drawn(curve: Froc) -> dict[str, list[float]]:
    """Return the points of a curve that a drawing needs; none where there is no lesion."""
    if not curve.lesions:
        return {"false_positives": [], "sensitivity": []}
    # Where sensitivity rises, and what stands before: the curve is a step there.
    rises = np.flatnonzero(np.diff(curve.sensitivity) > 0)
    kept = np.unique(np.concatenate([[0], rises, rises + 1, [len(curve.scores) - 1]]))
    return {
        "false_positives": curve.false_positives[kept].tolist(),
        "sensitivity": curve.sensitivity[kept].tolist(),
    }
