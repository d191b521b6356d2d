"""Numbers of networks beside radiomics: the baselines that tell what each adds, and two models in place of one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import planted
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from learn_cases import cube_of, growth_table, rated
from scipy.optimize import minimize_scalar
from sklearn.metrics import log_loss

from hgpscale.cube import open_cube, put_family
from hgpscale.errors import LearnError
from hgpscale.learn import fitting, fusion, scores, search
from hgpscale.learn.conformal import half_width
from hgpscale.learn.evaluating import Plan, evaluate
from hgpscale.learn.fitting import Options, fit_model
from hgpscale.learn.fusion import Stack, best_weight, blend, blocks, loss
from hgpscale.learn.model import Model
from hgpscale.learn.predicting import predict
from hgpscale.learn.samples import Samples
from hgpscale.learn.study import study_of
from hgpscale.learn.training import fit
from hgpscale.learn.workflows import Layout

KINDS = tuple(planted.TARGETS)
PLAN = Plan("pure", "elastic-net", n_splits=3, permutations=20, everything=True)
SIGNAL, NOISE = (0, 1), (2, 3, 4, 5)
"""Columns of `planted.rows` that the target follows, and the rest."""


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "_RESAMPLES", 25)


def with_networks(table: pd.DataFrame, seed: int = 1, strength: float = 2.0) -> pd.DataFrame:
    """Return a table with three numbers of networks; growth shows in the first."""
    random = np.random.default_rng(seed)
    own = {f"deep_Embedding{i:02d}": random.normal(size=len(table)) for i in range(3)}
    own["deep_Embedding00"] += strength * (table["hgp_desmoplastic"] / 100 - 0.5)
    return table.assign(**own)


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cube_of(with_networks(growth_table()), tmp_path_factory.mktemp("networks"))


# Baselines


@pytest.mark.parametrize("harmonise", ["none", "combat"])
def test_baselines_are_the_same_model_on_either_kind_of_features(cube: Path, tmp_path: Path, harmonise: Any) -> None:
    plan = replace(PLAN, harmonise=harmonise, covariates=("sex",))
    found = evaluate(cube, plan, tmp_path / "both", workers=1)
    assert list(found["baselines"]) == ["mean", "volume", "covariates", "lesion region", "radiomics", "deep"]
    alone = {
        "radiomics": replace(plan, features=("original_*", "rim__*")),
        "deep": replace(plan, features=("deep_*",), covariates=()),
    }
    for name, one in alone.items():
        separate = evaluate(cube, one, tmp_path / name, workers=1)
        for metric in ("auc", "brier", "balanced_accuracy"):
            baseline = found["baselines"][name]
            np.testing.assert_array_equal(baseline[metric]["per_split"], separate[metric]["per_split"])
            ours = np.array(found[metric]["per_split"]) - baseline[metric]["per_split"]
            assert baseline["difference"][metric]["mean"] == pytest.approx(ours.mean())
        assert not {"radiomics", "deep"} & set(separate["baselines"])
    assert found["auc"]["mean"] > max(found["baselines"][name]["auc"]["mean"] for name in ("mean", "volume"))


def test_the_lesion_region_keeps_the_numbers_of_networks(cube: Path) -> None:
    study = study_of(Samples.of(open_cube(cube)), "pure", "elastic-net", fusion="stack")
    by_name = {contender.name: contender for contender in study.contenders}
    kept = by_name["lesion region"]
    assert kept.layout == Layout(9, 0, "none", (6, 7, 8))
    names = [name for name in study.design.features if not name.startswith("rim__")]
    np.testing.assert_array_equal(kept.X, study.rows.X[:, [list(study.design.features).index(n) for n in names]])
    assert by_name["radiomics"].layout.deep == by_name["deep"].layout.deep == ()


def test_networks_beside_another_region_alone_leave_no_region_to_compare_with(cube: Path) -> None:
    study = study_of(Samples.of(open_cube(cube), ("rim__*", "deep_*")), "pure", "elastic-net")
    assert [contender.name for contender in study.contenders] == ["model", "mean", "volume", "radiomics", "deep"]


# The weight


@given(
    st.lists(st.tuples(*[st.floats(-5, 5)] * 3, st.floats(0.1, 3)), min_size=3, max_size=12),
)
def test_the_weight_of_numbers_is_the_least_squares_one(rows: list[tuple[float, ...]]) -> None:
    y, a, b, weight = np.array(rows).T
    step = b - a
    curvature = float(weight @ step**2)
    if curvature < 1e-3:
        return
    exact = np.clip(float(weight @ ((y - a) * step)) / curvature, 0, 1)
    assert abs(best_weight("number", y, a[:, None], b[:, None], weight) - exact) <= 0.025 + 1e-6


@hypothesis_settings(max_examples=25)
@given(st.integers(0, 10_000))
def test_the_weight_of_classes_is_next_to_the_best_of_all(seed: int) -> None:
    random = np.random.default_rng(seed)
    y, weight = random.integers(0, 3, 30).astype(float), random.uniform(0.2, 1, 30)
    first, second = random.dirichlet(np.ones(3), (2, 30))

    def of(w: float) -> float:
        return float(log_loss(y, blend(first, second, w), sample_weight=weight, labels=[0, 1, 2]))

    best = minimize_scalar(of, bounds=(0, 1), method="bounded").x  # it is convex
    assert abs(best_weight("class", y, first, second, weight) - best) <= 0.05
    assert loss("class", y, first, weight) == pytest.approx(of(0))


def test_losses_are_those_of_the_kind() -> None:
    y, weight = np.array([0.0, 1, 1]), np.array([1.0, 1, 2])
    said = np.array([[0.2], [0.7], [0.9]])
    expected = log_loss(y, said[:, 0], sample_weight=weight)
    assert loss("binary", y, said, weight) == pytest.approx(expected)
    assert loss("number", y, said, weight) == pytest.approx((0.04 + 0.09 + 2 * 0.01) / 4)
    parts = np.array([[1, 0, 0], [0.5, 0.5, 0], [0.2, 0.3, 0.5]])
    found = np.array([[0.8, 0.1, 0.1, 0.6, 0.9], [0.4, 0.4, 0.2, 0.1, 0.3], [0.2, 0.3, 0.5, 0, 0.1]])
    entropy = [-np.log(0.8), -np.log(0.4), -(0.2 * np.log(0.2) + 0.3 * np.log(0.3) + 0.5 * np.log(0.5))]
    assert loss("composition", parts, found, weight) == pytest.approx(np.average(entropy, weights=weight))


def test_models_that_say_the_same_have_the_same_weight() -> None:
    said = np.array([[0.2], [0.7], [0.9]])
    assert best_weight("binary", np.array([0.0, 1, 1]), said, said, np.ones(3)) == 0.5


# Two models


def stacked(kind: str, deep: tuple[int, ...], model: str = "elastic-net", seed: int = 0, n: int = 40) -> Any:
    rows = planted.rows(kind, n, seed)
    layout = Layout(rows.X.shape[1], 0, "none", deep)
    return rows, fit_model(model, planted.TARGETS[kind], layout, rows, Options(seed=seed, n_candidates=2))


@pytest.mark.parametrize("kind", KINDS)
def test_the_block_that_tells_something_has_the_weight(kind: str) -> None:
    names = np.array([f"c{i}" for i in range(6)], object)
    _, informed = stacked(kind, SIGNAL)
    _, noisy = stacked(kind, NOISE)
    assert informed.estimator.weight >= 0.8
    assert noisy.estimator.weight <= 0.2
    assert {"c0"} <= set(informed.selected(names))
    if noisy.estimator.weight == 0:
        assert set(noisy.selected(names)) <= {"c0", "c1"}


@pytest.mark.parametrize(
    ("model", "kind"), [*(("elastic-net", kind) for kind in KINDS), ("svm", "class"), ("search", "composition")]
)
def test_it_says_the_weighted_mean_of_two_models_of_that_name(
    monkeypatch: pytest.MonkeyPatch, kind: str, model: str
) -> None:
    monkeypatch.setattr(search, "_TREES", 3)
    deep = (1, 4)
    rows, found = stacked(kind, deep, model, n=24)
    assert isinstance(found.estimator, Stack)
    parts = blocks(Layout(6), deep)
    assert [part.columns.tolist() for part in parts] == [[0, 2, 3, 5], [1, 4]]
    said = []
    for part in parts:
        own = replace(rows, X=rows.X[:, part.columns])
        one = fit_model(model, planted.TARGETS[kind], part.layout, own, Options(n_candidates=2), interval=False)
        said.append(one.outputs(own.X))
    w = found.estimator.weight
    np.testing.assert_allclose(found.outputs(rows.X), (1 - w) * said[0] + w * said[1], rtol=1e-12)
    assert np.isfinite(found.half_width) == (kind in ("number", "composition"))


@pytest.mark.parametrize("deep", [SIGNAL, (0, 5), NOISE])
def test_compositions_stay_compositions(deep: tuple[int, ...]) -> None:
    rows, found = stacked("composition", deep, "elastic-net")
    said = found.outputs(rows.X)
    np.testing.assert_allclose(said[:, :3].sum(axis=1), 1, rtol=1e-12)
    assert said.min() >= 0
    assert (said[:, 3] <= said[:, 4] + 1e-12).all()
    assert (said[:, 3] <= said[:, 0] + 1e-12).all()  # who is purely desmoplastic is so on the whole


@pytest.mark.parametrize("kind", ["number", "composition"])
def test_intervals_hold_for_new_patients(kind: str) -> None:
    inside, widths = [], []
    for seed in range(6):
        both = planted.rows(kind, 90, seed)
        train = np.arange(len(both.X)) < 100
        rows, new = both.take(train), both.take(~train)
        found = fit_model("elastic-net", planted.TARGETS[kind], Layout(6, 0, "none", (0, 2, 3)), rows, Options())
        truth = new.y if kind == "number" else new.y[:, 0]
        error = np.abs(found.outputs(new.X)[:, 0] - truth)
        inside.append(np.mean(error <= found.half_width))
        widths.append(found.half_width / truth.std())
    assert np.mean(inside) == pytest.approx(0.9, abs=0.05)
    assert max(widths) < 2  # they say something: all values would need about 3


def test_errors_behind_an_interval_are_of_patients_that_nothing_was_learned_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Outcomes of one fold are moved by 1000: what is said of that fold must stay, so the errors move by as much."""
    rows = planted.rows("number", 20, 3)
    errors: list[Any] = []
    weighed: list[Any] = []

    def width(error: Any, *more: Any) -> float:
        errors.append(error)
        return half_width(error, *more)

    def same(kind: str, y: Any, *more: Any) -> float:
        weighed.append(y)
        return 0.35

    monkeypatch.setattr(fitting, "half_width", width)
    monkeypatch.setattr(fitting, "best_weight", same)
    folds = fitting._folds(rows, Options())
    moved = folds[0].test
    y = rows.y.copy()
    y[moved] += 1000
    for one in (rows, replace(rows, y=y)):
        fit_model("elastic-net", planted.TARGETS["number"], Layout(6, 0, "none", (0, 1)), one, Options())
    before, after = errors
    np.testing.assert_allclose(np.abs(after[moved] - 1000), before[moved], rtol=1e-9)
    assert (np.abs(after - before)[folds[0].train] > 1e-6).any()  # those of the others were learned from them
    for fold, seen in zip(folds, weighed, strict=False):
        np.testing.assert_array_equal(seen, rows.y[fold.train])
    np.testing.assert_array_equal(weighed[len(folds)], rows.y)


def test_centres_are_harmonised_in_both_blocks(cube: Path) -> None:
    samples = Samples.of(open_cube(cube))
    study = study_of(samples, "pure", "elastic-net", ("sex", "age"), "combat", fusion="stack")
    layout = study.design.layout
    first, second = blocks(layout, layout.deep)
    names = study.design.names
    assert list(names[second.columns]) == [*(f"deep_Embedding{i:02d}" for i in range(3)), "centre"]
    assert list(names[first.columns])[-3:] == ["sex=m", "age", "centre"]
    assert (first.layout.n_covariates, second.layout.n_covariates) == (2, 0)
    assert sorted(set(first.columns) | set(second.columns)) == list(range(len(names)))


# By the commands


def test_shuffled_labels_leave_nothing_to_find(cube: Path, tmp_path: Path) -> None:
    plan = replace(PLAN, fusion="stack", shuffle_labels=True, n_splits=8)
    found = evaluate(cube, plan, tmp_path / "out", workers=1)
    assert found["auc"]["low"] < 0.5 < found["auc"]["high"]
    assert found["settings"]["fusion"] == "stack"


@pytest.mark.parametrize("target", ["pure", "composition", "grade", "age"])
def test_a_stack_is_judged_beside_its_halves(cube: Path, tmp_path: Path, target: str) -> None:
    found = evaluate(cube, replace(PLAN, target=target, fusion="stack", n_splits=2), tmp_path / "out", workers=1)
    assert {"radiomics", "deep"} < set(found["baselines"])
    if target == "composition":
        table = pd.read_csv(tmp_path / "out" / "predictions.csv")
        np.testing.assert_allclose(table[["desmoplastic", "replacement", "pushing"]].sum(axis=1), 1, atol=1e-5)
        lesions = table[table["level"] == "lesion"]
        assert (lesions["low"] <= lesions["desmoplastic"] + 1e-6).all()
    if target == "pure":
        halves = [found["baselines"][name]["auc"]["mean"] for name in ("radiomics", "deep")]
        assert found["auc"]["mean"] > min(halves)


@pytest.mark.parametrize(
    ("model", "target"),
    [
        *(("elastic-net", target) for target in ("pure", "composition", "grade", "age")),
        *(("svm", "pure"), ("boosting", "age"), ("search", "grade")),
    ],
)
def test_a_saved_stack_says_the_same(
    cube: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, target: str
) -> None:
    monkeypatch.setattr(search, "_TREES", 3)
    options = Options(n_candidates=2)
    report = fit(cube, target, tmp_path / "m.skops", model=model, fusion="stack", options=options, workers=1)
    assert report.features > 3
    one, two = Model.load(tmp_path / "m.skops"), Model.load(tmp_path / "m.skops")
    assert one.about["fusion"] == one.design.fusion == "stack"
    assert isinstance(one.fitted.estimator, Stack)
    one.save(tmp_path / "again.skops")
    first, second = (predict(path, cube).table for path in (tmp_path / "m.skops", tmp_path / "again.skops"))
    pd.testing.assert_frame_equal(first, second)
    X = one.design.matrix(Samples.of(open_cube(cube)))
    np.testing.assert_array_equal(one.fitted.outputs(X), two.fitted.outputs(X))


def test_a_model_that_was_saved_before_there_was_fusion_is_an_early_one(cube: Path, tmp_path: Path) -> None:
    fit(cube, "pure", tmp_path / "m.skops", model="elastic-net")
    model = Model.load(tmp_path / "m.skops")
    old = {name: value for name, value in vars(model.design).items() if name != "fusion"}
    assert type(model.design)(**old) == model.design


@pytest.mark.parametrize(("features", "found"), [(("deep_*",), "the family deep alone"), (("rim__*",), "none of")])
def test_one_kind_of_features_is_no_stack(cube: Path, tmp_path: Path, features: tuple[str, ...], found: str) -> None:
    message = f"fusion stack takes features of the family deep beside others, found {found}"
    with pytest.raises(LearnError, match=message):
        evaluate(cube, replace(PLAN, features=features, fusion="stack"), tmp_path / "out", workers=1)
    with pytest.raises(LearnError, match=message):
        fit(cube, "pure", tmp_path / "m.skops", model="elastic-net", features=features, fusion="stack")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("model", ["sgd", "mlp"])
def test_models_that_learn_in_batches_are_no_stack(cube: Path, tmp_path: Path, model: str) -> None:
    with pytest.raises(LearnError, match="cannot be two models"):
        evaluate(cube, replace(PLAN, model=model, fusion="stack"), tmp_path / "out", workers=1)
    with pytest.raises(LearnError, match="cannot be two models"):
        fit(cube, "pure", tmp_path / "m.skops", model=model, fusion="stack")


def test_a_model_refuses_numbers_of_other_networks(tmp_path: Path) -> None:
    paths = [rated(tmp_path / f"{name}.zarr") for name in ("one", "same", "other")]
    for path, networks in zip(paths, ("a", "a", "b"), strict=True):
        records = open_cube(path).hgp.records()[["lesion", "segmentation"]].drop_duplicates()
        rows = [(lesion, rater, np.array([len(lesion), 1.0])) for lesion, rater in records.itertuples(index=False)]
        put_family(path, "deep", ["First", "Second"], rows, about={"networks": networks})
    fit(paths[0], "composition", tmp_path / "m.skops", model="elastic-net", fusion="stack")
    assert len(predict(tmp_path / "m.skops", paths[1]).table)
    with pytest.raises(LearnError, match="made with other settings"):
        predict(tmp_path / "m.skops", paths[2])
    assert fusion.deep_columns(["deep_First", "original_glcm_Contrast", "rim__deep_First"]) == (0,)
