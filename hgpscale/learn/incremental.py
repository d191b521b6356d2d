"""Learning in batches straight from a cube: nothing grows with the number of lesions but their hashes."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hgpscale.cube.arrays import has_row, labels_of, ordered
from hgpscale.cube.head import COLUMNS
from hgpscale.errors import LearnError
from hgpscale.learn.conformal import half_width
from hgpscale.learn.design import Design
from hgpscale.learn.digests import lesion_hash, settings_digest
from hgpscale.learn.fitting import Fitted, Options, Rows, rows_of
from hgpscale.learn.judging import typical_model
from hgpscale.learn.learners import outputs
from hgpscale.learn.model import Model
from hgpscale.learn.samples import Samples, chosen_features
from hgpscale.learn.streaming import Batch, StreamingModel
from hgpscale.learn.targets import Cutoff, Target

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

    from hgpscale.learn.training import FitReport

_BATCH = 1024
_TYPICAL_ROWS = 2000
"""Rows that what is typical is told from."""

_HELD_OUT = 10
"""One patient in so many is not learned from where a prediction needs an interval: errors on those give it."""


@dataclass(frozen=True)
class _Source:
    """Lesions of a cube, a batch at a time, as a model takes them."""

    cube: xr.Dataset
    target: Target
    design: Design
    seed: int

    def samples(self, epoch: int) -> Iterator[tuple[Samples, NDArray[np.float64]]]:
        """Yield rows with a known target, and it; the first pass in the cube's order, others in random ones."""
        shuffle = self.seed + epoch if epoch else None
        columns = list(self.cube.attrs[COLUMNS])
        for numbers, values in self.cube.hgp.batches(_BATCH, columns, shuffle=shuffle):
            samples = Samples.of_batch(numbers, values)
            y, reasons = self.target.values(samples)
            # A lesion may have features, and none of those that the model takes.
            known = (reasons == "") & np.isfinite(self.design.features_of(samples)).any(axis=1)
            if known.any():
                yield samples.take(known), y[known]

    def batches(
        self, weight: pd.Series, counts: Callable[[Samples], NDArray[np.bool_]]
    ) -> Callable[[int], Iterator[Batch]]:
        """Return batches of the rows that count, as `StreamingModel` takes them."""

        def of(epoch: int) -> Iterator[Batch]:
            for samples, y in self.samples(epoch):
                some = counts(samples)
                if some.any():
                    X = self.design.matrix(samples.take(some))
                    yield X, y[some], weight.loc[samples.lesion[some]].to_numpy()

        return of


def fit(
    cube: xr.Dataset,
    target: str,
    model: str,
    features: Sequence[str],
    covariates: Sequence[str],
    cutoff: Cutoff,
    positive: str | None,
    options: Options,
) -> tuple[Model, FitReport]:
    """Fit ``sgd`` or ``mlp`` on a cube in batches; see `fit.fit`.

    A number or a composition gets its interval from one patient in ten, who are not learned from.
    """
    manifest = _manifest(cube)
    which = Target.of(target, manifest, cutoff=cutoff, positive=positive)
    design = Design.of(replace(manifest, features=chosen_features(cube, features)), covariates)
    held = _held_out if which.kind in ("number", "composition") else _nobody
    source = _Source(cube, which, design, options.seed)
    weight = _weights(cube)
    learner = StreamingModel(which.kind, model, random_state=options.seed)
    try:
        learner.fit_batches(
            source.batches(weight, lambda samples: ~held(samples)),
            list(range(len(which.classes))) if which.kind in ("binary", "class") else None,
        )
    except ValueError as error:
        raise LearnError(f"{which.name}: {error}") from error
    if which.kind in ("binary", "class") and len(learner.screen_.classes_) < 2:
        raise LearnError(f"{which.name}: all lesions to learn from are alike; expected two classes or more")
    fitted = Fitted(model, which.kind, len(which.classes), learner)
    width, typical, seen, patients = _after(source, fitted, held, options.coverage)
    key = secrets.token_bytes(16)
    made = Model(which, design, replace(fitted, half_width=width), typical, "", key, frozenset(), {})
    made = replace(made, settings_digest=settings_digest(cube, design.features), lesions=made.hashes(seen))
    return made, _report(len(seen), len(patients), design, _excluded(manifest, which, seen))


def update(model: Model, cube: xr.Dataset) -> tuple[Model, FitReport]:
    """Go on with the lesions of a cube that a model has not seen; only those are read."""
    ids = labels_of(cube, "lesion")
    new = np.array([lesion_hash(model.key, lesion) not in model.lesions for lesion in ids], bool)
    if not new.any():
        return model, _report(0, 0, model.design, ())
    part = cube.isel(lesion=np.flatnonzero(new))
    source = _Source(part, model.target, model.design, int(model.about.get("seed", 0)))
    manifest = _manifest(part)
    seen: set[Any] = set()
    patients: set[Any] = set()

    def noted(samples: Samples) -> NDArray[np.bool_]:
        seen.update(samples.lesion)
        patients.update(samples.patient)
        return np.ones(len(samples), bool)

    learner = model.fitted.estimator
    try:
        learner.update_batches(source.batches(_weights(part), noted))
    except ValueError as error:
        raise LearnError(f"{model.target.name}: {error}") from error
    drift = np.abs(learner.drift())
    order = np.argsort(-drift)[:3]
    names = model.design.names[learner.kept_]
    report = _report(len(seen), len(patients), model.design, _excluded(manifest, model.target, seen))
    made = replace(model, lesions=model.lesions | model.hashes(seen))
    return made, replace(report, drift=tuple((str(names[i]), float(drift[i])) for i in order))


def _report(lesions: int, patients: int, design: Design, excluded: tuple[tuple[str, int], ...]) -> FitReport:
    from hgpscale.learn.training import FitReport

    return FitReport(Path(), lesions, patients, len(design.features), excluded)


def _manifest(cube: xr.Dataset) -> Samples:
    """Return what the manifest says of the lesions, without any feature: a row a lesion."""
    ids = labels_of(cube, "lesion").astype(object)
    columns = pd.DataFrame({name: ordered(cube[name], ("lesion",)) for name in cube.attrs[COLUMNS]})
    patient = columns["patient"].to_numpy(object) if "patient" in columns else ids
    unknown = np.full(len(ids), np.nan)
    return Samples(np.empty((len(ids), 0)), (), ids, ids, patient, columns, unknown, unknown)


def _excluded(manifest: Samples, target: Target, seen: set[Any]) -> tuple[tuple[str, int], ...]:
    """Return how many lesions were left out, by reason."""
    _, reasons = target.values(manifest)
    unread = (reasons == "") & ~np.isin(manifest.lesion, list(seen))
    reasons[unread] = "no features (failed or pending)"
    names = dict.fromkeys(reason for reason in reasons if reason)
    return tuple((str(name), int((reasons == name).sum())) for name in names)


def _weights(cube: xr.Dataset) -> pd.Series:
    """Return one over the number of segmentations of each lesion."""
    return pd.Series(1 / np.maximum(has_row(cube).sum(axis=1), 1), index=labels_of(cube, "lesion"))


def _after(
    source: _Source, fitted: Fitted, held: Callable[[Samples], NDArray[np.bool_]], coverage: float
) -> tuple[float, Any, set[Any], set[Any]]:
    """Walk over the lesions once more, for the interval, for what is typical, and for who was seen."""
    seen: set[Any] = set()
    patients: set[Any] = set()
    errors: list[NDArray[np.float64]] = []
    whose: list[NDArray[Any]] = []
    some: list[Rows] = []
    for samples, y in source.samples(1):
        out = held(samples)
        seen.update(samples.lesion)
        patients.update(samples.patient)
        X = source.design.matrix(samples)
        if out.any():
            truth = y[out] if y.ndim == 1 else y[out, 0]
            said = outputs(fitted.estimator, X[out], fitted.kind, fitted.n_classes)[:, 0]
            errors.append(np.abs(truth - said))
            whose.append(samples.patient[out])
        if sum(len(rows.X) for rows in some) < _TYPICAL_ROWS:
            ones = np.ones(len(X))
            some.append(rows_of(source.target, X, y, samples.patient, samples.lesion, samples.segmentation, ones))
    first = some[0]
    for rows in some[1:]:
        first = type(first)(
            *(np.concatenate(pair) for pair in zip(vars(first).values(), vars(rows).values(), strict=True))
        )
    typical = typical_model(first, source.design.layout.n_features)
    width = float("nan")
    if held is _held_out:
        if not errors:
            raise LearnError("too few patients to tell an interval from; use a model that is fitted in memory")
        width = half_width(np.concatenate(errors), np.concatenate(whose), coverage)
    return width, typical, seen, patients


def _held_out(samples: Samples) -> NDArray[np.bool_]:
    """Return the rows of one patient in ten, the same whatever the order."""
    return np.array(
        [int(lesion_hash(b"interval", patient)[:8], 16) % _HELD_OUT == 0 for patient in samples.patient], bool
    )


def _nobody(samples: Samples) -> NDArray[np.bool_]:
    return np.zeros(len(samples), bool)
