"""Workflows on the workers of a Dask client: the same search, and a death that is told."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import planted
import pytest
from distributed import Client
from learn_cases import cube_of, growth_table

from hgpscale.engine.cluster import local_client
from hgpscale.errors import EngineError
from hgpscale.learn import Plan, evaluate, fit, search
from hgpscale.learn.fitting import Options
from hgpscale.learn.model import Model
from hgpscale.learn.search import Search
from hgpscale.learn.spreading import Each, here, on_workers

SMALL = Options(n_candidates=3)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with local_client(2) as client:
        yield client


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cube_of(growth_table(40), tmp_path_factory.mktemp("growth"))


@pytest.fixture
def no_workflow_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let workflows be tried in other processes only."""

    def here(*_: object) -> None:
        raise AssertionError("a workflow was tried in this process")

    monkeypatch.setattr(search._Rows, "cross_validate", here)


def fitted(each: Each) -> Search:
    rows = planted.rows("composition")
    made = Search("composition", n_candidates=4, n_ensemble=2, n_folds=3)
    ids = rows.patient, rows.strata, rows.lesion, rows.segmentation
    return made.fit(rows.X, rows.y, rows.weight, *ids, each=each)


def test_the_search_is_the_same_and_its_workflows_are_tried_there(
    client: Client, request: pytest.FixtureRequest
) -> None:
    alone = fitted(here)
    request.getfixturevalue("no_workflow_here")
    there = fitted(on_workers(client))
    assert planted.state(there) == planted.state(alone)
    assert there.recipes_ == alone.recipes_


def test_fit(cube: Path, client: Client, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    fit(cube, "pure", tmp_path / "alone.skops", options=SMALL, workers=1)
    request.getfixturevalue("no_workflow_here")
    fit(cube, "pure", tmp_path / "client.skops", options=SMALL, client=client)
    fit(cube, "pure", tmp_path / "local.skops", options=SMALL, workers=2)
    X = np.random.default_rng(0).normal(size=(50, len(Model.load(tmp_path / "alone.skops").design.features)))
    alone, *others = (Model.load(tmp_path / f"{name}.skops").fitted for name in ("alone", "client", "local"))
    for other in others:
        assert other.estimator.recipes_ == alone.estimator.recipes_
        np.testing.assert_array_equal(other.outputs(X), alone.outputs(X))


def test_an_external_set_is_one_split_with_many_workflows(
    cube: Path, client: Client, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    plan = Plan("pure", scheme="external", n_candidates=3)
    evaluate(cube, plan, tmp_path / "alone", workers=1)
    request.getfixturevalue("no_workflow_here")
    evaluate(cube, plan, tmp_path / "there", client=client)
    alone, there = (json.loads((tmp_path / name / "metrics.json").read_text("utf-8")) for name in ("alone", "there"))
    for name in ("auc", "brier", "baselines", "features"):
        assert there[name] == alone[name]


def test_a_death_is_told() -> None:
    with local_client(1) as client:
        (pid,) = client.run(os.getpid).values()
        with pytest.raises(EngineError, match=r"a worker died .*; if it ran out of memory"):
            on_workers(client)(os.kill, pid, [signal.SIGKILL])
