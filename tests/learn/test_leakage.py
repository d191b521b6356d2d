"""Whatever the test rows are, nothing that is fitted changes, to the bit; and what training rows are does change it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import planted
import pytest
from planted import FEATURES, SEEN
from sklearn.pipeline import Pipeline

from hgpscale.learn import fitting, judging, search
from hgpscale.learn.fitting import Fitted, Options
from hgpscale.learn.judging import judge
from hgpscale.learn.samples import Samples
from hgpscale.learn.search import Search
from hgpscale.learn.splits import Split, repeated_splits
from hgpscale.learn.streaming import StreamingModel
from hgpscale.learn.study import laid_out, study_of
from hgpscale.learn.workflows import Recipe

TARGETS = {"growth": "binary", "pattern": "class", "burden": "number", "composition": "composition"}
COVARIATES = ("sex", "age")
OPTIONS = Options(n_candidates=1)
BLURRED = FEATURES.index("rim__blurred")

_small = {"forest": {"n_estimators": 2}, "boosting": {"max_iter": 4}}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "_TREES", 2)
    monkeypatch.setattr(fitting, "_CONFORMAL_FOLDS", 2)
    monkeypatch.setattr(fitting, "Recipe", lambda name: Recipe(name, _small.get(name, {}), n_features=6))


@dataclass
class Learned:
    """All that one split has fitted."""

    models: dict[str, Fitted]
    typical: Pipeline
    said: dict[str, Any]

    def states(self) -> dict[str, str]:
        """Return a digest of each step of each contender."""
        found = {"typical": planted.state(self.typical)}
        for contender, model in self.models.items():
            found[f"{contender}.all"] = planted.state(model)
            found[f"{contender}.half_width"] = planted.state(model.half_width)
            if isinstance(model.estimator, Pipeline):
                for name, step in planted.steps(model.estimator):
                    found[f"{contender}.{name}"] = planted.state(step)
            else:
                for name, value in vars(model.estimator).items():
                    found[f"{contender}.{name}"] = planted.state(value)
        return found


def learn(
    samples: Samples, split: Split, target: str, model: str, harmonise: Any = "none", fusion: Any = "early"
) -> Learned:
    """Judge one split as an evaluation does, and return what it fitted."""
    study = study_of(samples, target, model, COVARIATES, harmonise, fusion=fusion)
    assert len(study.rows.y) == len(samples)
    models: list[Fitted] = []
    typical: list[Pipeline] = []
    with pytest.MonkeyPatch.context() as patch:
        fit, unusual = fitting.fit_model, judging.typical_model
        patch.setattr(judging, "fit_model", lambda *given, **more: _kept(models, fit(*given, **more)))
        patch.setattr(judging, "typical_model", lambda *given: _kept(typical, unusual(*given)))
        judged = judge(study, split, OPTIONS)
    names = [contender.name for contender in study.contenders]
    halves = ["radiomics", "deep"] if fusion == "stack" else []
    assert names == ["model", "mean", "volume", "covariates", "lesion region", *halves]
    return Learned(dict(zip(names, models, strict=True)), typical[0], judged.outputs)


def _kept(kept: list[Any], thing: Any) -> Any:
    kept.append(thing)
    return thing


def train_of(samples: Samples) -> Split:
    """Return a split by patient."""
    return repeated_splits(samples.patient, None, count=1, test_fraction=0.25)[0]


def wild(samples: Samples, rows: Any, seed: int = 5) -> Samples:
    """Return lesions whose rows have other features, outcomes, covariates, centres, patients and raters."""
    random = np.random.default_rng(seed)
    n = len(rows)
    values = samples.values.copy()
    values[rows] = random.choice([1e9, -1e9, 0.0, np.nan, 1e-9], size=(n, values.shape[1]))
    values[rows, 0] = 1.0  # a row without any feature is none
    columns = samples.columns.copy()
    patient = np.array([f"a{i // 2}" for i in range(n)], object)
    d = random.choice([0.0, 100.0, 33.0], n)
    for name, given in {
        "patient": patient,
        "centre": random.choice(["a new one", "zz", "north"], n),
        "sex": random.choice(["a", "not told", "zz"], n),
        "age": random.choice([1e9, -1e9, np.nan], n),
        "growth": random.choice(["less", "mostly"], n),
        "pattern": random.choice(["a", "b", "c"], n),
        "burden": random.choice([1e9, -1e9, 0.5], n),
        "hgp_desmoplastic": d,
        "hgp_replacement": 0 * d,
        "hgp_pushing": 100 - d,
    }.items():
        column = columns[name].to_numpy(object).copy()
        column[rows] = given
        columns[name] = column.astype(float) if name in ("age", "burden") or name.startswith("hgp") else column
    whose, lesion, rater = samples.patient.copy(), samples.lesion.copy(), samples.segmentation.copy()
    whose[rows], lesion[rows] = patient, [f"a{i}" for i in range(n)]
    rater[rows] = random.choice(["A", "C", "D"], n)
    volume = samples.volume.copy()
    volume[rows] = random.choice([1e9, np.nan, 0.0, 1e-9], n)
    return replace(
        samples,
        values=values,
        patient=whose,
        lesion=lesion,
        segmentation=rater,
        columns=columns,
        volume=volume,
        interface=volume,
    )


def shaken(samples: Samples, rows: Any) -> Samples:
    """Return lesions of which some have other values of features, outcomes, age and volume: nobody else changes."""
    other = wild(samples, rows)
    values = samples.values.copy()
    values[rows] = values[rows[::-1]] * 3
    columns = samples.columns.copy()
    for name in ("age", "burden", "growth", "pattern", "hgp_desmoplastic", "hgp_replacement", "hgp_pushing"):
        columns[name] = other.columns[name]
    columns["age"] = columns["age"].fillna(20).clip(0, 99)
    return replace(samples, values=values, columns=columns, volume=samples.volume * 2)


CASES = [
    *((model, "growth", "combat") for model in ("elastic-net", "forest", "boosting", "svm", "search")),
    ("elastic-net", "pattern", "combat-nonparametric"),
    ("elastic-net", "burden", "combat"),
    ("svm", "burden", "none"),
    ("boosting", "burden", "none"),
    ("forest", "composition", "combat"),
    ("search", "burden", "none"),
    ("search", "composition", "combat"),
    ("sgd", "growth", "none"),
    ("mlp", "pattern", "none"),
    ("sgd", "burden", "none"),
    ("mlp", "composition", "none"),
]


@pytest.mark.parametrize(("model", "target", "harmonise"), CASES)
def test_test_rows_change_nothing_that_is_fitted(model: str, target: str, harmonise: str) -> None:
    samples = planted.samples()
    split = train_of(samples)
    before = learn(samples, split, target, model, harmonise)
    after = learn(wild(samples, split.test), split, target, model, harmonise)
    states = before.states()
    assert after.states() == states
    assert any(not np.array_equal(before.said[name], after.said[name]) for name in before.said)  # they were changed
    expected = {"scale", "variance", "agreement", "correlation", "impute"}
    if harmonise != "none":
        expected.add("combat")
    if isinstance(before.models["model"].estimator, Pipeline):
        steps = {name.rpartition(".")[2] for name in states if name.startswith("model.")}
        assert expected | {"select", "learn"} <= steps
    elif isinstance(before.models["model"].estimator, StreamingModel):
        assert {"model.screen_", "model.learner_", "model.mean_", "model.kept_"} <= set(states)
    else:
        assert isinstance(before.models["model"].estimator, Search)
        first = before.models["model"].estimator.pipelines_[0]["head"]
        assert expected <= set(first.named_steps)
        assert {"model.recipes_", "model.scores_", "model.out_of_fold_"} <= set(states)
    if TARGETS[target] in ("number", "composition"):
        assert np.isfinite(before.models["model"].half_width)


def with_networks(samples: Samples) -> Samples:
    """Return the same lesions, every third feature of which networks made: the rim's first one, too."""
    names = [f"deep_Number{i}" if i % 3 == 2 else name for i, name in enumerate(samples.features)]
    assert names[FEATURES.index("rim__clear")].startswith("deep_")
    return replace(samples, features=tuple(names))


STACKED = [
    ("elastic-net", "growth", "combat"),
    ("elastic-net", "pattern", "none"),
    ("forest", "burden", "combat"),
    ("svm", "composition", "none"),
    ("search", "growth", "combat"),
    ("search", "composition", "none"),
]


@pytest.mark.parametrize(("model", "target", "harmonise"), STACKED)
def test_test_rows_change_nothing_of_two_models_and_their_weight(model: str, target: str, harmonise: str) -> None:
    samples = with_networks(planted.samples())
    split = train_of(samples)
    before = learn(samples, split, target, model, harmonise, "stack")
    after = learn(wild(samples, split.test), split, target, model, harmonise, "stack")
    states = before.states()
    assert {"model.weight", "model.estimators", "model.columns", "radiomics.all", "deep.all"} <= set(states)
    assert after.states() == states
    assert not np.array_equal(before.said["model"], after.said["model"])  # they were changed
    if TARGETS[target] in ("number", "composition"):
        assert np.isfinite(before.models["model"].half_width)


def test_training_rows_change_two_models_and_their_weight() -> None:
    samples = with_networks(planted.samples())
    split = train_of(samples)
    before = learn(samples, split, "burden", "elastic-net", "none", "stack")
    after = learn(shaken(samples, split.train), split, "burden", "elastic-net", "none", "stack")
    changed = {name for name, state in before.states().items() if after.states()[name] != state}
    assert {"model.estimators", "model.half_width", "radiomics.all", "deep.all"} <= changed
    values = samples.values.copy()
    at = np.ix_(split.train, np.flatnonzero([name.startswith("deep_") for name in samples.features]))
    values[at] = np.random.default_rng(0).permutation(values[at])
    blind = learn(replace(samples, values=values), split, "burden", "elastic-net", "none", "stack")
    weights = [one.models["model"].estimator.weight for one in (before, blind)]
    assert weights[1] <= 0.2 < weights[0]  # networks see what the burden follows, as radiomics do


@pytest.mark.parametrize(("model", "target"), [("elastic-net", "burden"), ("search", "growth"), ("sgd", "burden")])
def test_training_rows_change_what_is_fitted(model: str, target: str) -> None:
    """Without this the test above would pass if nothing were looked at."""
    samples = planted.samples()
    split = train_of(samples)
    harmonise = "none" if model == "sgd" else "combat"
    before = learn(samples, split, target, model, harmonise).states()
    after = learn(shaken(samples, split.train[:20]), split, target, model, harmonise).states()
    changed = {name for name in before if before[name] != after.get(name)}
    if model == "elastic-net":
        looked = {"combat", "impute", "scale"}
        assert {f"model.head.{name}" for name in looked} <= changed
        assert {"typical", "model.tail.learn", "model.half_width", "volume.head.scale", "mean.all"} <= changed
        assert {"covariates.tail.learn", "lesion region.tail.learn"} <= changed
    elif model == "search":
        assert {"typical", "model.scores_", "model.out_of_fold_", "model.pipelines_"} <= changed
    else:
        assert {"model.screen_", "model.mean_", "model.learner_", "model.target_mean_", "model.half_width"} <= changed


def kept(samples: Samples, split: Split, step: str) -> set[str]:
    """Return the features of the rim that a step keeps of those that reach it."""
    study = study_of(samples, "growth", "elastic-net", COVARIATES)
    rows = judging._training(study, study.contenders[0], split.train)
    model = fitting.fit_model("elastic-net", study.target, study.design.layout, rows, OPTIONS)
    names = study.design.names
    for name, one in planted.steps(model.estimator):
        if name.rpartition(".")[2] == step:
            return {str(found) for found in one.get_feature_names_out(names) if found.startswith("rim__")}
        if not name.endswith("learn"):
            names = one.get_feature_names_out(names)
    raise AssertionError(step)


@pytest.mark.parametrize(
    ("step", "feature"), [("variance", "noise3"), ("agreement", "quarrel"), ("correlation", "twin")]
)
def test_a_filter_judges_by_the_training_rows(step: str, feature: str) -> None:
    """A feature that only training rows make worthless is dropped; one that only test rows do is kept."""
    samples = planted.samples()
    split = train_of(samples)
    at, random = FEATURES.index(f"rim__{feature}"), np.random.default_rng(0)
    first = FEATURES.index("rim__clear")
    _, lesion = np.unique(samples.lesion, return_inverse=True)
    fine = random.normal(size=lesion.max() + 1)[lesion] + 0.01 * random.normal(size=len(lesion))
    bad = {
        "variance": np.full(len(lesion), 7.0),
        "agreement": random.normal(size=len(lesion)),
        "correlation": samples.values[:, first],
    }[step]
    for rows, stays in ((split.train, False), (split.test, True)):
        values = samples.values.copy()
        values[:, at] = fine
        values[rows, at] = bad[rows]
        assert (f"rim__{feature}" in kept(replace(samples, values=values), split, step)) == stays


def test_selection_judges_by_the_training_rows() -> None:
    samples = planted.samples()
    split = train_of(samples)
    outcome = (samples.columns["growth"] == "mostly").to_numpy(float)
    at = FEATURES.index("rim__noise3")
    random = np.random.default_rng(0)
    for rows, chosen in ((split.train, True), (split.test, False)):
        values = samples.values.copy()
        values[:, [i for i in range(len(FEATURES)) if i != at]] = random.normal(size=(len(values), len(FEATURES) - 1))
        values[:, at] = np.tile([0.0, 1.0], len(values))[: len(values)] + 1e-3 * random.normal(size=len(values))
        values[rows, at] = 20 * outcome[rows] + random.normal(size=len(rows))
        study = study_of(replace(samples, values=values), "growth", "elastic-net")
        train = judging._training(study, study.contenders[0], split.train)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fitting, "Recipe", lambda name: Recipe(name, n_features=1))
            model = fitting.fit_model("elastic-net", study.target, study.design.layout, train, OPTIONS)
        assert (list(model.selected(study.design.names)) == ["rim__noise3"]) == chosen


def test_a_level_and_a_centre_of_test_rows_alone_are_none_of_the_known_ones() -> None:
    samples = planted.samples()
    split = train_of(samples)
    study = study_of(wild(samples, split.test), "growth", "elastic-net", COVARIATES, "combat")
    assert set(study.design.columns) == {"sex=f", "sex=m", "sex=not told", "sex=zz", "age"}
    known = laid_out(study, split.train)
    assert known.design.columns == ("sex=m", "age")
    assert known.design.centres == ("east", "north", "west")
    X = known.contenders[0].X[split.test]
    n = len(FEATURES)
    np.testing.assert_array_equal(X[:, n], 0)
    assert set(X[:, -1]) == {-1.0, 1.0}
    np.testing.assert_array_equal(known.rows.y, study.rows.y)
    assert laid_out(known, split.train) is known


def test_strata_of_numbers_are_thirds_of_the_training_rows() -> None:
    samples = planted.samples()
    split = train_of(samples)
    study = study_of(wild(samples, split.test), "burden", "search")
    y = study.rows.y[split.train]
    low, high = np.quantile(y, [1 / 3, 2 / 3])
    found = judging._training(study, study.contenders[0], split.train).strata
    np.testing.assert_array_equal(found, (y > low).astype(int) + (y > high))


def test_outlines_of_a_lesion_weigh_one_among_the_training_rows() -> None:
    samples = planted.samples()
    split = train_of(samples)
    study = study_of(samples, "growth", "forest")
    rows = judging._training(study, study.contenders[0], split.train)
    for name in set(rows.lesion):
        assert rows.weight[rows.lesion == name].sum() == pytest.approx(1)


def test_the_planted_filters_have_something_to_do() -> None:
    """The cohort of these tests has what each filter drops, and values that are not known."""
    samples = planted.samples()
    assert np.isnan(samples.values[:, BLURRED]).any()
    split = train_of(samples)
    assert "rim__quarrel" not in kept(samples, split, "agreement")
    assert "rim__twin" not in kept(samples, split, "correlation")
    assert len(kept(samples, split, "variance")) == len(SEEN)
