"""One split of an evaluation: every contender is fitted on the training rows and asked about the test rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from sklearn import config_context
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from hgpscale.errors import LearnError
from hgpscale.learn.filters import RobustScaling
from hgpscale.learn.fitting import Options, fit_model
from hgpscale.learn.samples import lesion_weight
from hgpscale.learn.spreading import on_workers, watched
from hgpscale.learn.study import laid_out
from hgpscale.learn.targets import strata
from hgpscale.learn.typicality import Typicality

if TYPE_CHECKING:
    from distributed import Client
    from numpy.typing import NDArray

    from hgpscale.learn.fitting import Rows
    from hgpscale.learn.splits import Split
    from hgpscale.learn.study import Contender, Study


@dataclass(frozen=True)
class Judged:
    """What came of one split.

    Attributes
    ----------
    name
        The split's.
    train, test
        Positions of rows.
    outputs
        By contender: what it says of the test rows, float64, shape ``(row, k)``, see `learners.outputs`.
    half_width
        By contender: of the conformal interval, NaN where there is none.
    typicality
        Of the test rows among the training rows, float64, shape ``(row,)``.
    selected
        How much each column of the model's design took part, from 0 to 1.

    """

    name: str
    train: NDArray[np.int64]
    test: NDArray[np.int64]
    outputs: dict[str, NDArray[np.float64]]
    half_width: dict[str, float]
    typicality: NDArray[np.float64]
    selected: dict[str, float]


def judge(study: Study, split: Split, options: Options) -> Judged:
    """Fit every contender on the training rows of a split and ask it about the test rows.

    Raises
    ------
    LearnError
        The training rows are all of one class, or of one patient.

    """
    # One thread, again for every split: libraries of scikit-learn are loaded later than a worker sets itself up.
    # Values are checked once, where they are read: small fits spend a third of their time on checking them again.
    with threadpool_limits(limits=1), config_context(assume_finite=True, skip_parameter_validation=True):
        study = laid_out(study, split.train)
        outputs, widths = {}, {}
        selected: dict[str, float] = {}
        for contender in study.contenders:
            rows = _training(study, contender, split.train)
            try:
                fitted = fit_model(contender.model, study.target, contender.layout, rows, options)
            except LearnError as error:
                raise LearnError(f"split {split.name}: {error}") from error
            outputs[contender.name] = fitted.outputs(contender.X[split.test])
            widths[contender.name] = fitted.half_width
            if contender.name == "model":
                selected = fitted.selected(study.design.names)
        unusual = typical_model(study.rows.take(split.train), study.design.layout.n_features)
        typicality = unusual.score_samples(study.rows.X[split.test][:, : study.design.layout.n_features])
    return Judged(split.name, split.train, split.test, outputs, widths, typicality, selected)


def typical_model(rows: Rows, n_features: int) -> Pipeline:
    """Return imputation, scaling and `Typicality`, fitted on the features of rows."""
    first = Pipeline(
        [("impute", SimpleImputer(strategy="median", keep_empty_features=True)), ("scale", RobustScaling())]
    )
    X = first.fit_transform(rows.X[:, :n_features])
    return Pipeline([*first.steps, ("typicality", Typicality().fit(X, groups=rows.patient))])


def _training(study: Study, contender: Contender, train: NDArray[np.int64]) -> Rows:
    rows = study.rows.take(train)
    weight, kinds = lesion_weight(rows.lesion), strata(study.target, rows.y)
    return replace(rows, X=contender.X[train], weight=weight, strata=kinds)


def judge_all(
    study: Study,
    splits: Sequence[Split],
    options: Options,
    client: Client | None,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Judged]:
    """Judge all splits: one task a split, or, where a search has fewer splits than workers, one task a workflow.

    All in this process where there is no client. The study travels to each worker once. The order of the results is
    that of the splits.

    Raises
    ------
    EngineError
        A worker died.

    """
    done: dict[int, Judged] = {}
    for number, judged in _each(study, splits, options, client):
        done[number] = judged
        if on_progress is not None:
            on_progress(len(done), len(splits))
    return [done[i] for i in range(len(splits))]


def _each(
    study: Study, splits: Sequence[Split], options: Options, client: Client | None
) -> Iterator[tuple[int, Judged]]:
    searches = any(contender.model == "search" for contender in study.contenders)
    if client is None or (searches and len(splits) < len(client.nthreads())):
        options = options if client is None else replace(options, each=on_workers(client))
        yield from ((i, judge(study, split, options)) for i, split in enumerate(splits))
        return
    from distributed import as_completed

    there = client.scatter(study, broadcast=True, hash=False)
    futures = {client.submit(judge, there, split, options, pure=False): i for i, split in enumerate(splits)}
    with watched(client, list(futures)):
        for future, judged in as_completed(futures, loop=client.loop, with_results=True):
            yield futures[future], judged
