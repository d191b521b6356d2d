"""Evaluate a model on a cube: splits by patient, baselines beside it, and files that a report is made of."""

from __future__ import annotations

import json
import math
import platform
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import sklearn

from hgpscale._version import __version__
from hgpscale.cube import open_cube
from hgpscale.engine.cluster import local_client
from hgpscale.errors import LearnError
from hgpscale.learn import scores, splits
from hgpscale.learn.digests import settings_digest
from hgpscale.learn.fitting import MODELS, STREAMING, Options
from hgpscale.learn.fusion import Fusion
from hgpscale.learn.intervals import delong
from hgpscale.learn.judging import judge_all
from hgpscale.learn.predictions import lesion_table, patient_table, truth_columns
from hgpscale.learn.samples import EXTERNAL_REASON, without_external
from hgpscale.learn.study import Study, counted, make_study
from hgpscale.learn.targets import PARTS, Cutoff
from hgpscale.learn.workflows import Harmonise

if TYPE_CHECKING:
    from distributed import Client

    from hgpscale.learn.judging import Judged

SCHEMA = "hgpscale-metrics-1"
METRICS_FILE, PREDICTIONS_FILE, SPLITS_FILE = "metrics.json", "predictions.csv", "splits.csv"
_MOST_FEATURES = 50
_MOST_STRATA = 10

Scheme = Literal["repeated", "file", "external", "leave-centre-out"]


@dataclass(frozen=True)
class Plan:
    """What to evaluate, and how.

    Attributes
    ----------
    target
        See `Target.of`.
    model
        One of `MODELS`.
    features
        Patterns of flat names; none: all.
    covariates
        Columns of the manifest that enter the model.
    harmonise
        How centres are made alike, inside each training set.
    cutoff, positive
        See `Target.of`.
    scheme
        ``repeated``: `n_splits` random splits of the patients, balanced by the target; ``file``: those of
        `splits_file`; ``external``: the manifest's column `split`; ``leave-centre-out``: each centre once.
    splits_file
        Of the scheme ``file``.
    n_splits, test_fraction
        Of the scheme ``repeated``.
    strata
        Columns of the manifest: results are given for each of their values too.
    seed
        Of splits, models, bootstrap and permutations: two runs are equal.
    n_candidates, budget
        Of the search: workflows tried in each split, and seconds after which no more are.
    coverage
        Of the conformal intervals.
    permutations
        Of the permutation test.
    shuffle_labels
        Deal the labels out anew among patients before all else: a control that must find nothing.
    everything
        Of the schemes ``repeated`` and ``leave-centre-out``: use lesions whose `split` is ``external`` too.
    fusion
        How features of the family `deep` go together with the others: ``early``, columns of one model; ``stack``, a
        model of each, weighed by predictions of folds of the training patients.

    """

    target: str
    model: str = "search"
    features: tuple[str, ...] = ()
    covariates: tuple[str, ...] = ()
    harmonise: Harmonise = "none"
    cutoff: Cutoff = "pure"
    positive: str | None = None
    scheme: Scheme = "repeated"
    splits_file: str | None = None
    n_splits: int = 100
    test_fraction: float = 0.2
    strata: tuple[str, ...] = ()
    seed: int = 0
    n_candidates: int = 20
    budget: float | None = None
    coverage: float = 0.9
    permutations: int = 1000
    shuffle_labels: bool = False
    everything: bool = False
    fusion: Fusion = "early"


def evaluate(
    cube: str | Path,
    plan: Plan,
    out: str | Path,
    *,
    workers: int | None = None,
    client: Client | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Evaluate a model beside its baselines, and write what came out.

    Writes ``metrics.json``, ``predictions.csv`` and ``splits.csv`` (the splits, which ``--splits`` reads) to a folder.
    See docs/learning.md for their content.

    Parameters
    ----------
    cube
        The cube's folder or address.
    plan
        What to evaluate.
    out
        Folder; made where absent. Files of an earlier evaluation are replaced.
    workers
        Worker processes; None: one a core; 1: none, all is done in this process.
    client
        Run on this Dask client instead.
    on_progress
        Called with the number of splits that are done, and of all.

    Returns
    -------
    dict
        What ``metrics.json`` holds.

    Raises
    ------
    CubeError, LearnError
        Nothing was written: the cube, the target, a column or the splits cannot be used.

    """
    begun = time.monotonic()
    if plan.model not in MODELS:
        raise LearnError(f"model is {plan.model!r}, expected one of {', '.join(MODELS)}")
    if plan.harmonise != "none" and plan.model in STREAMING:
        raise LearnError(f"model {plan.model} reads lesions in batches and cannot harmonise centres; use another model")
    if plan.fusion != "early" and plan.model in STREAMING:
        raise LearnError(f"model {plan.model} reads lesions in batches and cannot be two models; use another model")
    if Path(out).exists() and not Path(out).is_dir():
        raise LearnError(f"{out}: is a file; expected a folder to write to")
    dataset, kept = open_cube(cube), 0
    if plan.scheme in ("repeated", "leave-centre-out") and not plan.everything:
        dataset, kept = without_external(dataset)
    study = make_study(
        dataset,
        plan.target,
        plan.model,
        features=plan.features,
        covariates=plan.covariates,
        harmonise=plan.harmonise,
        cutoff=plan.cutoff,
        positive=plan.positive,
        fusion=plan.fusion,
    )
    if kept:
        samples = replace(study.samples, excluded=((EXTERNAL_REASON, kept), *study.samples.excluded))
        study = replace(study, samples=samples)
    strata = {name: _strata(name, study) for name in plan.strata}
    if plan.shuffle_labels:
        study = _shuffled(study, plan.seed)
    parts = make_splits(study, plan)
    options = Options(plan.seed, plan.n_candidates, plan.budget, plan.coverage)
    if client is not None or workers == 1 or (len(parts) == 1 and plan.model != "search"):
        running: Any = nullcontext(client)
    else:
        running = local_client(workers)
    with running as where:
        judged = judge_all(study, parts, options, where, on_progress)
    tests = [scores.asked(study, one) for one in judged]
    ratio = _ratio(study, judged) if plan.scheme == "repeated" or (plan.scheme == "file" and len(parts) > 1) else None
    found = {
        "schema": SCHEMA,
        "target": plan.target,
        "kind": "multitask" if study.target.is_multitask else study.target.kind,
        "positive": study.target.positive,
        "classes": list(study.target.classes),
        "model": plan.model,
        **scores.summary(study, tests, ratio, plan.seed),
        **_delong(study, plan, tests),
        "permutation": scores.permutation(study, tests, plan.permutations, plan.seed),
        "splits": _said_of_splits(study, plan, judged),
        "cohort": _said_of_cohort(study),
        "features": _stability(study, judged),
        "strata": {name: _by_value(study, judged, values, ratio, plan.seed) for name, values in strata.items()},
        "raters": _raters(study, judged, ratio, plan.seed),
        "rater_spread": _rater_spread(study, judged),
        "settings": asdict(plan),
        "cube": str(cube),
        "settings_digest": settings_digest(dataset, study.design.features),
        "versions": {"hgpscale": __version__, "python": platform.python_version(), "scikit-learn": sklearn.__version__},
        "seconds": round(time.monotonic() - begun, 1),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    _write(Path(out), found, _predictions(study, tests, judged), parts, study)
    return found


def make_splits(study: Study, plan: Plan) -> list[splits.Split]:
    """Return the splits of a plan, as positions of the study's rows.

    Raises
    ------
    LearnError
        The manifest lacks the column `split` or `centre`, or the file cannot be used.

    """
    patient, samples = study.rows.patient, study.samples
    if plan.scheme == "file":
        return splits.read_splits(str(plan.splits_file), patient)
    if plan.scheme == "external":
        return [splits.external_split(patient, samples.column("split").to_numpy())]
    if plan.scheme == "leave-centre-out":
        return splits.centre_splits(patient, samples.column("centre").to_numpy())
    return splits.repeated_splits(
        patient, study.rows.strata, count=plan.n_splits, test_fraction=plan.test_fraction, seed=plan.seed
    )


def _shuffled(study: Study, seed: int) -> Study:
    """Return the study with the lesions' labels dealt out anew; rows of one lesion keep the same."""
    lesions, first, inverse = np.unique(study.rows.lesion, return_index=True, return_inverse=True)
    order = np.random.default_rng([seed, 1]).permutation(len(lesions))
    source = first[order][inverse]
    rows = replace(study.rows, y=study.rows.y[source], strata=study.rows.strata[source])
    return replace(study, rows=rows)


def _ratio(study: Study, judged: Sequence[Judged]) -> float:
    lesion = study.rows.lesion
    return float(np.mean([len(set(lesion[one.test])) / len(set(lesion[one.train])) for one in judged]))


def _delong(study: Study, plan: Plan, tests: Sequence[scores.Asked]) -> dict[str, Any]:
    if len(tests) > 1 or not (study.target.kind == "binary" or study.target.is_multitask):
        return {}
    (test,) = tests
    y, p = (test.truth, test.said["model"][:, 0])
    if study.target.is_multitask:
        y, p = test.truth[:, 0] == 1, test.said["model"][:, 3]
    found = delong(y, p)
    return {"delong": {"auc": found.mean, "low": found.low, "high": found.high}}


def _said_of_splits(study: Study, plan: Plan, judged: Sequence[Judged]) -> dict[str, Any]:
    lesion = study.rows.lesion
    return {
        "scheme": plan.scheme,
        "count": len(judged),
        "seed": plan.seed,
        "test_fraction": plan.test_fraction if plan.scheme == "repeated" else None,
        "names": [one.name for one in judged],
        "sizes": [[len(set(lesion[one.train])), len(set(lesion[one.test]))] for one in judged],
    }


def _said_of_cohort(study: Study) -> dict[str, Any]:
    samples = study.samples
    _, first = np.unique(samples.lesion, return_index=True)
    centres = samples.columns["centre"].astype(str).to_numpy(object)[first] if "centre" in samples.columns else None
    groups = {"all": np.ones(len(first), bool)}
    if centres is not None:
        groups |= {str(centre): centres == centre for centre in sorted(set(centres))}
    return {
        "patients": len(set(samples.patient)),
        "lesions": len(first),
        "segmentations": sorted(set(map(str, samples.segmentation))),
        "features": study.design.layout.n_features,
        "centres": {} if centres is None else counted(centres),
        "excluded": [{"reason": reason, "lesions": n} for reason, n in samples.excluded],
        "labels": {name: _labels(study, study.rows.y[first][of]) for name, of in groups.items()},
    }


def _labels(study: Study, y: Any) -> dict[str, Any]:
    target = study.target
    if target.kind in ("binary", "class"):
        return {name: int((y == i).sum()) for i, name in enumerate(target.classes)}
    if target.kind == "number":
        return {"mean": float(y.mean()), "sd": float(y.std()), "lesions": len(y)}
    means = {part: float(y[:, i].mean()) for i, part in enumerate(PARTS)}
    return {**means, "pure desmoplastic": int((y[:, 0] == 1).sum()), "lesions": len(y)}


def _stability(study: Study, judged: Sequence[Judged]) -> list[dict[str, Any]]:
    """Return how often features took part, most often first; none where every learner saw all."""
    features = set(study.design.features)
    totals: dict[str, float] = {}
    for one in judged:
        for name, share in one.selected.items():
            if name in features:
                totals[name] = totals.get(name, 0.0) + share / len(judged)
    order = sorted(totals, key=lambda name: (-totals[name], name))[:_MOST_FEATURES]
    return [{"name": name, "frequency": round(min(totals[name], 1.0), 6)} for name in order]


def _by_value(study: Study, judged: Sequence[Judged], values: Any, ratio: float | None, seed: int) -> dict[str, Any]:
    return {name: _part(study, judged, values == name, ratio, seed) for name in sorted(set(values))}


def _strata(name: str, study: Study) -> Any:
    """Return the stratum of each row, as text; it has to be known before hours are spent."""
    texts = [_plain(value) for value in study.samples.column(name)]
    n = len(set(texts))
    if n > _MOST_STRATA:
        raise LearnError(f"stratum {name!r}: expected at most {_MOST_STRATA} different values, found {n}")
    return np.array(texts, object)


def _plain(value: Any) -> str:
    if pd.isna(value) or not str(value).strip():
        return "unknown"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _part(study: Study, judged: Sequence[Judged], rows: Any, ratio: float | None, seed: int) -> dict[str, Any]:
    tests = [scores.asked(study, one, rows) for one in judged]
    return {
        "lesions": len(set(study.rows.lesion[rows])),
        **scores.part_summary(study, tests, ratio, seed),
    }


def _raters(study: Study, judged: Sequence[Judged], ratio: float | None, seed: int) -> dict[str, Any]:
    raters = sorted(set(study.rows.segmentation))
    if len(raters) < 2:
        return {}
    return {str(name): _part(study, judged, study.rows.segmentation == name, ratio, seed) for name in raters}


def _rater_spread(study: Study, judged: Sequence[Judged]) -> dict[str, float] | None:
    """Return how far predictions of one test lesion lie apart between its outlines, mean and maximum."""
    spreads: list[float] = []
    for one in judged:
        table = pd.DataFrame({"lesion": study.rows.lesion[one.test], "said": one.outputs["model"][:, 0]})
        by_lesion = table.groupby("lesion")["said"].agg(["min", "max", "count"])
        several = by_lesion[by_lesion["count"] > 1]
        spreads.extend((several["max"] - several["min"]).tolist())
    return {"mean": float(np.mean(spreads)), "max": float(np.max(spreads))} if spreads else None


def _predictions(study: Study, tests: Sequence[scores.Asked], judged: Sequence[Judged]) -> pd.DataFrame:
    lesions, patients = [], []
    for test, one in zip(tests, judged, strict=True):
        table = lesion_table(
            study.target,
            study.samples.take(test.rows),
            test.said["model"],
            half_width=test.half_width["model"],
            typicality=test.typicality,
            n_segmentations=test.n_segmentations,
            n_training=len(one.train),
        )
        table.insert(1, "split", test.split)
        at = list(table).index("centre" if "centre" in table else "lesion") + 1
        for name, values in reversed(truth_columns(study.target, test.truth).items()):
            table.insert(at, name, values)
        lesions.append(table)
        of_patients = patient_table(study.target, table)
        of_patients.insert(1, "split", test.split)
        patients.append(of_patients)
    return pd.concat([*lesions, *patients], ignore_index=True)


def _write(out: Path, found: dict[str, Any], table: pd.DataFrame, parts: Sequence[splits.Split], study: Study) -> None:
    out.mkdir(parents=True, exist_ok=True)
    table.to_csv(out / PREDICTIONS_FILE, index=False, float_format="%.6g", lineterminator="\n")
    splits.write_splits(out / SPLITS_FILE, parts, study.rows.patient)
    text = json.dumps(_nulls(found), indent=1, ensure_ascii=False, allow_nan=False)
    (out / METRICS_FILE).write_text(text + "\n", encoding="utf-8")


def _nulls(value: Any) -> Any:
    """Return the same with None for what JSON has no number for."""
    if isinstance(value, dict):
        return {str(key): _nulls(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_nulls(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
