"""The lesions, the target and the contenders of one evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hgpscale.errors import CubeError, LearnError
from hgpscale.learn.design import Design
from hgpscale.learn.fitting import MEAN, PLAIN, Rows, rows_of
from hgpscale.learn.fusion import Fusion, blocks, deep_columns
from hgpscale.learn.samples import Samples, lesion_weight
from hgpscale.learn.targets import Cutoff, Target
from hgpscale.learn.workflows import Harmonise, Layout

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Contender:
    """A model on some of the columns.

    Attributes
    ----------
    name
        ``model``, or the baseline's: ``mean``, ``volume``, ``covariates``, ``lesion region``, ``radiomics``, ``deep``.
    model
        Which model, see `fitting.fit_model`.
    X
        float64, shape ``(row, column)``.
    layout
        What its columns are.

    """

    name: str
    model: str
    X: NDArray[np.float64]
    layout: Layout


@dataclass(frozen=True)
class Study:
    """What an evaluation is of.

    Attributes
    ----------
    samples
        Rows whose target is known.
    target
        What is predicted.
    rows
        The same as arrays, with the model's columns.
    design
        What those are.
    contenders
        The model first, then its baselines.

    """

    samples: Samples
    target: Target
    rows: Rows
    design: Design
    contenders: tuple[Contender, ...]


def make_study(
    cube: xr.Dataset,
    target: str,
    model: str,
    *,
    features: Sequence[str] = (),
    covariates: Sequence[str] = (),
    harmonise: Harmonise = "none",
    cutoff: Cutoff = "pure",
    positive: str | None = None,
    fusion: Fusion = "early",
) -> Study:
    """Read the lesions of a cube and lay them out for a model and its baselines.

    Baselines are the mean of the training lesions, the lesion's volume where the cube has it, the covariates where
    there are any, the same model without other regions than `lesion` where those take part, and, where features of the
    family `deep` take part beside others, the same model without them, and on them alone.

    Raises
    ------
    CubeError, LearnError
        There is no such feature, column or target, or no lesion with a known target.

    """
    samples = Samples.of(cube, features)
    return study_of(samples, target, model, covariates, harmonise, cutoff=cutoff, positive=positive, fusion=fusion)


def study_of(
    samples: Samples,
    target: str,
    model: str,
    covariates: Sequence[str] = (),
    harmonise: Harmonise = "none",
    *,
    cutoff: Cutoff = "pure",
    positive: str | None = None,
    fusion: Fusion = "early",
) -> Study:
    """Lay lesions out for a model and its baselines; see `make_study`."""
    samples, which, y = labelled(samples, target, cutoff=cutoff, positive=positive)
    design = Design.of(samples, covariates, harmonise, fusion)
    X = design.matrix(samples)
    rows = rows_of(which, X, y, samples.patient, samples.lesion, samples.segmentation, lesion_weight(samples.lesion))
    return Study(samples, which, rows, design, _contenders(samples, design, X, model))


def laid_out(study: Study, train: NDArray[np.int64]) -> Study:
    """Return the study with columns as its training rows alone call for them.

    Which levels a covariate has, and which centres there are, is learned too: a level that only test rows have is none
    of the known ones, as in a new cube.
    """
    design = study.design.learned(study.samples.take(train))
    if design == study.design:
        return study
    X = design.matrix(study.samples)
    contenders = _contenders(study.samples, design, X, study.contenders[0].model)
    return replace(study, rows=replace(study.rows, X=X), design=design, contenders=contenders)


def _contenders(samples: Samples, design: Design, X: NDArray[np.float64], model: str) -> tuple[Contender, ...]:
    contenders = [Contender("model", model, X, design.layout), Contender(MEAN, MEAN, np.zeros((len(X), 1)), Layout(1))]
    if np.isfinite(samples.volume).any():
        volume = np.log(np.where(samples.volume > 0, samples.volume, np.nan))[:, None]
        contenders.append(Contender("volume", PLAIN, volume, Layout(1)))
    n, c = design.layout.n_features, design.layout.n_covariates
    if c:
        contenders.append(Contender("covariates", PLAIN, X[:, n : n + c], Layout(0, c)))
    inside = np.array([name.partition("__")[0] == name for name in design.features])
    deep = deep_columns(design.features)
    if inside.sum() > len(deep) and not inside.all():
        columns = np.r_[np.flatnonzero(inside), np.arange(n, X.shape[1])]
        stacked = tuple(np.flatnonzero(np.isin(np.flatnonzero(inside), design.layout.deep)).tolist())
        layout = Layout(int(inside.sum()), c, design.harmonise, stacked)
        contenders.append(Contender("lesion region", model, X[:, columns], layout))
    if 0 < len(deep) < n:
        for name, block in zip(("radiomics", "deep"), blocks(design.layout, deep), strict=True):
            contenders.append(Contender(name, model, X[:, block.columns], block.layout))
    return tuple(contenders)


def labelled(
    samples: Samples, target: str | Target, *, cutoff: Cutoff = "pure", positive: str | None = None
) -> tuple[Samples, Target, NDArray[np.float64]]:
    """Return the rows whose target is known, the target, and its values.

    Raises
    ------
    CubeError
        No row has a feature.
    LearnError
        There is no such target, or it is known of no row.

    """
    if not len(samples):
        raise CubeError("no lesion of the cube has a number of these features; see hgpscale status")
    which = target if isinstance(target, Target) else Target.of(target, samples, cutoff=cutoff, positive=positive)
    y, reasons = which.values(samples)
    known = reasons == ""
    if not known.any():
        raise LearnError(f"target {which.name!r}: known of no lesion ({reasons[0]})")
    for reason in dict.fromkeys(reasons[~known]):
        # One after the other, so that each counts its own.
        lost = reasons == reason
        samples, reasons, y = samples.without(lost, str(reason)), reasons[~lost], y[~lost]
    return samples, which, y


def counted(labels: NDArray[Any]) -> dict[str, int]:
    """Return how often each label is there, by name."""
    names, counts = np.unique(labels.astype(str), return_counts=True)
    return {str(name): int(count) for name, count in zip(names, counts, strict=True)}
