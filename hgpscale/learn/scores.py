"""From what was said of test lesions to metrics with intervals, beside the baselines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import rankdata

from hgpscale.learn import intervals, resampling
from hgpscale.learn.metrics import binary_metrics, class_metrics, composition_metrics, number_metrics, spearman

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hgpscale.learn.judging import Judged
    from hgpscale.learn.study import Study
    from hgpscale.learn.targets import Target

Array = "NDArray[np.float64]"
_BOUNDED = (0.0, 1.0)
_RESAMPLES = 1000


@dataclass(frozen=True)
class Asked:
    """Test lesions of one split, a row each.

    Attributes
    ----------
    split
        Its name.
    rows
        Position of the first row of each lesion among the study's rows.
    truth
        What is true, shape ``(lesion,)`` or ``(lesion, 3)``.
    said
        By contender: the mean of what it says of the lesion's outlines, shape ``(lesion, k)``.
    half_width
        By contender.
    typicality
        Mean over the outlines, shape ``(lesion,)``.
    n_segmentations
        Outlines of each lesion.

    """

    split: str
    rows: NDArray[np.int64]
    truth: NDArray[np.float64]
    said: dict[str, NDArray[np.float64]]
    half_width: dict[str, float]
    typicality: NDArray[np.float64]
    n_segmentations: NDArray[np.int64]


def asked(study: Study, judged: Judged, rows: NDArray[np.bool_] | None = None) -> Asked:
    """Return one row a test lesion: outputs are averaged over its outlines.

    Parameters
    ----------
    study, judged
        What was judged.
    rows
        Which rows of the study count, shape ``(row,)``, such as those of one rater; None: all.

    """
    counts = np.ones(len(judged.test), bool) if rows is None else rows[judged.test]
    test = judged.test[counts]
    _, first, inverse, n = np.unique(
        study.rows.lesion[test], return_index=True, return_inverse=True, return_counts=True
    )

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return mean_by_lesion(values, first, inverse)

    return Asked(
        judged.name,
        test[first],
        study.rows.y[test[first]],
        {name: mean(values[counts]) for name, values in judged.outputs.items()},
        judged.half_width,
        mean(judged.typicality[counts]),
        n,
    )


def mean_by_lesion(
    values: NDArray[np.float64], first: NDArray[np.int64], inverse: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the mean of the rows of each lesion; of equal rows exactly their value, so that ties stay ties.

    Parameters
    ----------
    values
        Shape ``(row,)`` or ``(row, k)``.
    first, inverse
        Of each lesion its first row, of each row its lesion, as `np.unique` returns them.

    """
    total = np.zeros((len(first), *values.shape[1:]))
    np.add.at(total, inverse, values - values[first][inverse])
    counts = np.bincount(inverse, minlength=len(first))
    return np.asarray(values[first] + total / counts.reshape(-1, *[1] * (values.ndim - 1)))


def limits(said: NDArray[np.float64], half_width: float, kind: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the conformal interval of each lesion; a fraction's is cut off at 0 and 1."""
    low, high = said[:, 0] - half_width, said[:, 0] + half_width
    return (low.clip(0, 1), high.clip(0, 1)) if kind == "composition" else (low, high)


def metrics(
    target: Target, truth: NDArray[np.float64], said: NDArray[np.float64], half_width: float | NDArray[np.float64]
) -> dict[str, float]:
    """Return the metrics of a target's kind for outputs on lesions; see `metrics.METRICS`."""
    if target.kind == "binary":
        return binary_metrics(truth, said[:, 0])
    if target.kind == "class":
        return class_metrics(truth, said)
    low, high = limits(said, half_width, target.kind)  # type: ignore[arg-type] # an array has the same arithmetic
    if target.kind == "number":
        return number_metrics(truth, said[:, 0], low, high)
    found = composition_metrics(truth, said[:, :3], low, high)
    return {**binary_metrics(truth[:, 0] == 1, said[:, 3]), **found} if target.is_multitask else found


def summary(study: Study, tests: Sequence[Asked], ratio: float | None, seed: int) -> dict[str, Any]:
    """Return every metric of the model, and of the baselines with their differences.

    Parameters
    ----------
    study
        What was judged.
    tests
        Test lesions of each split.
    ratio
        Test lesions by training lesions, where splits are repeated: intervals are then Nadeau and Bengio's; None: each
        lesion was a test lesion once, and patients are drawn anew (bootstrap).
    seed
        Of the bootstrap.

    """
    names = list(tests[0].said)
    per_split = {name: [_of(study, name, test) for test in tests] for name in names}
    if ratio is None:
        found = _bootstrapped(study, tests, per_split, seed)
    else:
        found = {name: _corrected(per_split[name], ratio) for name in names}
        for name in names[1:]:
            found[name]["difference"] = {
                metric: dict(intervals.corrected_difference(ours, theirs, ratio)._asdict())
                for metric, (ours, theirs) in _pairs(per_split["model"], per_split[name]).items()
            }
    return {**found["model"], "baselines": {name: found[name] for name in names[1:]}}


def part_summary(study: Study, tests: Sequence[Asked], ratio: float | None, seed: int) -> dict[str, Any]:
    """Return the metrics of the model alone, as for a stratum or a rater."""
    tests = [test for test in tests if len(test.rows)]
    if not tests:
        return {}
    per_split = {"model": [_of(study, "model", test) for test in tests]}
    if ratio is None:
        return _bootstrapped(study, tests, per_split, seed)["model"]
    return _corrected(per_split["model"], ratio)


def _of(study: Study, name: str, test: Asked) -> dict[str, float]:
    return metrics(study.target, test.truth, test.said[name], test.half_width[name])


def _pairs(ours: list[dict[str, float]], theirs: list[dict[str, float]]) -> dict[str, tuple[list[float], list[float]]]:
    return {metric: ([one[metric] for one in ours], [one[metric] for one in theirs]) for metric in ours[0]}


def _corrected(per_split: list[dict[str, float]], ratio: float) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for metric in per_split[0]:
        values = [one[metric] for one in per_split]
        bounds = _BOUNDED if metric in _IN_UNIT else None
        interval = intervals.corrected_interval(values, ratio, bounds=bounds)
        found[metric] = {**interval._asdict(), "per_split": values, "interval": "nadeau-bengio"}
    return found


def _bootstrapped(
    study: Study, tests: Sequence[Asked], per_split: Mapping[str, list[dict[str, float]]], seed: int
) -> dict[str, Any]:
    """Return metrics of all test lesions together, with intervals over patients."""
    rows = np.concatenate([test.rows for test in tests])
    patient, truth = study.rows.patient[rows], study.rows.y[rows]
    said = {
        name: np.concatenate([np.column_stack([t.said[name], np.full(len(t.rows), t.half_width[name])]) for t in tests])
        for name in per_split
    }

    def of(true: NDArray[np.float64], outputs: NDArray[np.float64]) -> dict[str, float]:
        return metrics(study.target, true, outputs[:, :-1], outputs[:, -1])

    found: dict[str, Any] = {}
    drawn, differences = resampling.bootstrap_contenders(of, patient, truth, said, resamples=_RESAMPLES, seed=seed)
    for name, splits in per_split.items():
        found[name] = {
            metric: {**interval._asdict(), "per_split": [one[metric] for one in splits], "interval": "bootstrap"}
            for metric, interval in drawn[name].items()
        }
        if name in differences:
            found[name]["difference"] = {metric: dict(one._asdict()) for metric, one in differences[name].items()}
    return found


_IN_UNIT = frozenset(
    [
        *("auc", "balanced_accuracy", "sensitivity", "specificity", "brier", "interval_coverage"),
        *("mae_desmoplastic", "mae_replacement", "mae_pushing"),
    ]
)
"""Metrics that cannot leave 0 and 1."""


def permutation(study: Study, tests: Sequence[Asked], permutations: int, seed: int) -> dict[str, Any]:
    """Return how often lesions' labels, dealt out anew among patients, suit the predictions as well as the true ones.

    The predictions stay as they are: no model is fitted anew, so this asks whether they have to do with the labels,
    not how well other labels could have been learned. The metric is the mean AUC over the splits (binary), that of
    Spearman's correlation (number; desmoplastic fraction), or of the log loss (class).
    """
    lesions, first = np.unique(study.rows.lesion, return_index=True)
    position = {lesion: i for i, lesion in enumerate(lesions)}
    labels = study.rows.y[first] if study.target.kind != "composition" else study.rows.y[first, 0]
    where = [np.array([position[lesion] for lesion in study.rows.lesion[test.rows]]) for test in tests]
    said = [test.said["model"] for test in tests]
    name, of = _FAST[study.target.kind]
    prepared = [_prepared(study.target.kind, one) for one in said]

    def mean(some: NDArray[np.float64]) -> float:
        values = np.array([of(some[at], one) for at, one in zip(where, prepared, strict=True)])
        return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")

    greater = name != "log_loss"
    p = resampling.permutation_p(mean, study.rows.patient[first], labels, permutations, seed, greater=greater)
    return {"metric": name, "p": p, "permutations": permutations}


def _prepared(kind: str, said: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.log(said.clip(1e-15)) if kind == "class" else rankdata(said[:, 0])


def _auc(labels: NDArray[np.float64], ranks: NDArray[np.float64]) -> float:
    ones = labels.sum()
    noughts = len(labels) - ones
    return float((ranks[labels == 1].sum() - ones * (ones + 1) / 2) / (ones * noughts)) if ones * noughts else np.nan


def _log_loss(labels: NDArray[np.float64], logs: NDArray[np.float64]) -> float:
    return float(-logs[np.arange(len(labels)), labels.astype(int)].mean())


_FAST: Mapping[str, tuple[str, Callable[[NDArray[np.float64], NDArray[np.float64]], float]]] = {
    "binary": ("auc", _auc),
    "class": ("log_loss", _log_loss),
    "number": ("spearman", spearman),
    "composition": ("spearman_desmoplastic", spearman),
}
