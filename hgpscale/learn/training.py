"""Fit a model on a cube, for use on other lesions; go on with lesions that it has not seen."""

from __future__ import annotations

import platform
import secrets
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import sklearn
from threadpoolctl import threadpool_limits

from hgpscale._version import __version__
from hgpscale.cube import open_cube
from hgpscale.engine.cluster import local_client
from hgpscale.errors import LearnError
from hgpscale.learn import incremental
from hgpscale.learn.design import Design
from hgpscale.learn.digests import settings_digest
from hgpscale.learn.fitting import MODELS, STREAMING, Options, fit_model, rows_of
from hgpscale.learn.fusion import Fusion
from hgpscale.learn.judging import typical_model
from hgpscale.learn.model import Model
from hgpscale.learn.samples import EXTERNAL_REASON, Samples, lesion_weight, without_external
from hgpscale.learn.spreading import on_workers
from hgpscale.learn.study import labelled
from hgpscale.learn.targets import Cutoff
from hgpscale.learn.workflows import Harmonise

if TYPE_CHECKING:
    from distributed import Client


@dataclass(frozen=True)
class FitReport:
    """What `fit` or `update` did.

    Attributes
    ----------
    model
        Where the model is.
    lesions, patients
        What it was fitted on now.
    features
        Features that it takes.
    excluded
        Lesions that were left out, by reason.
    drift
        Of an update: features whose mean moved most, and by how many standard deviations.

    """

    model: Path
    lesions: int
    patients: int
    features: int
    excluded: tuple[tuple[str, int], ...]
    drift: tuple[tuple[str, float], ...] = ()


def fit(
    cube: str | Path,
    target: str,
    out: str | Path,
    *,
    model: str = "search",
    features: Sequence[str] = (),
    covariates: Sequence[str] = (),
    harmonise: Harmonise = "none",
    cutoff: Cutoff = "pure",
    positive: str | None = None,
    everything: bool = False,
    fusion: Fusion = "early",
    options: Options | None = None,
    workers: int | None = None,
    client: Client | None = None,
) -> FitReport:
    """Fit a model on the lesions of a cube and save it.

    Parameters
    ----------
    cube
        The cube's folder or address.
    target, cutoff, positive
        See `Target.of`.
    out
        File of the model, ``*.skops`` by custom; replaced where it is there.
    model
        One of `MODELS`. ``sgd`` and ``mlp`` read the cube in batches, whatever its size; the others read it whole.
    features
        Patterns of flat names; none: all.
    covariates
        Columns of the manifest that enter the model.
    harmonise
        How centres are made alike.
    everything
        Fit on lesions whose `split` is ``external`` too, which are otherwise kept for validation.
    fusion
        How features of the family `deep` go together with the others: ``early``, columns of one model; ``stack``, a
        model of each. Not of ``sgd`` and ``mlp``.
    options
        Seed, size of the search, coverage of intervals.
    workers
        Of ``search``: worker processes that try workflows; None: one a core; 1: none, all is done in this process.
    client
        Of ``search``: try them on this Dask client instead.

    Raises
    ------
    CubeError, LearnError
        The cube, the target or a column cannot be used.
    EngineError
        The workers do not start, or one died.

    """
    if model not in MODELS:
        raise LearnError(f"model is {model!r}, expected one of {', '.join(MODELS)}")
    options = Options() if options is None else options
    dataset = open_cube(cube)
    if not everything:
        dataset, kept = without_external(dataset)
    if model in STREAMING:
        if harmonise != "none":
            raise LearnError(f"model {model} reads lesions in batches and cannot harmonise centres; use another model")
        if fusion != "early":
            raise LearnError(f"model {model} reads lesions in batches and cannot be two models; use another model")
        made, report = incremental.fit(dataset, target, model, features, covariates, cutoff, positive, options)
    else:
        samples, which, y = labelled(Samples.of(dataset, features), target, cutoff=cutoff, positive=positive)
        design = Design.of(samples, covariates, harmonise, fusion)
        X = design.matrix(samples)
        rows = rows_of(
            which, X, y, samples.patient, samples.lesion, samples.segmentation, lesion_weight(samples.lesion)
        )
        alone = client is not None or workers == 1 or model != "search"
        with threadpool_limits(limits=1), nullcontext(client) if alone else local_client(workers) as where:
            options = options if where is None else replace(options, each=on_workers(where))
            fitted = fit_model(model, which, design.layout, rows, options)
            typical = typical_model(rows, design.layout.n_features)
        key = secrets.token_bytes(16)
        digest = settings_digest(dataset, design.features)
        made = Model(which, design, fitted, typical, digest, key, frozenset(), {})
        made = replace(made, lesions=made.hashes(set(samples.lesion)))
        report = FitReport(
            Path(out), len(set(samples.lesion)), len(set(samples.patient)), len(design.features), samples.excluded
        )
    about = {
        "model": model,
        "fusion": fusion,
        "hgpscale": __version__,
        "python": platform.python_version(),
        "scikit-learn": sklearn.__version__,
        "seed": options.seed,
        "coverage": options.coverage,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "lesions": report.lesions,
        "patients": report.patients,
    }
    replace(made, about=about).save(out)
    if not everything and kept:
        report = replace(report, excluded=((EXTERNAL_REASON, kept), *report.excluded))
    return replace(report, model=Path(out))


def update(path: str | Path, cube: str | Path, *, everything: bool = False) -> FitReport:
    """Go on fitting a model of ``sgd`` or ``mlp`` with the lesions of a cube that it has not seen, and no others.

    Raises
    ------
    CubeError, LearnError
        The model cannot be updated, or the cube was made with other settings; the model's file is as it was.

    """
    model = Model.load(path)
    if model.fitted.name not in STREAMING:
        raise LearnError(f"{path}: a model of {model.fitted.name} is fitted on all lesions at once; fit it anew")
    dataset = open_cube(cube)
    model.check_cube(dataset, cube)
    if not everything:
        dataset, _ = without_external(dataset)
    made, report = incremental.update(model, dataset)
    if report.lesions:
        about = {
            **model.about,
            "lesions": len(made.lesions),
            "updated": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        replace(made, about=about).save(path)
    return replace(report, model=Path(path))
