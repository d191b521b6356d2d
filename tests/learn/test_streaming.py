"""Models over batches: what the learner sees is scaled and screened, an update reads only what is new."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import pearsonr
from sklearn.base import is_classifier, is_regressor
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from hgpscale.cohort import read_manifest
from hgpscale.cube import CubeWriter, open_cube
from hgpscale.learn.composition import HurdleComposition
from hgpscale.learn.screen import Screen
from hgpscale.learn.streaming import Batch, Batches, StreamingModel, cube_batches
from hgpscale.record import Record
from hgpscale.settings import Settings

Array = NDArray[np.float64]

_WEIGHTS = {
    "check_sample_weight_equivalence_on_dense_data": "a gradient step of twice the weight is not two steps; "
    "scikit-learn's SGDClassifier and SGDRegressor are excused of it too"
}


def data(n: int, seed: int) -> tuple[Array, Array]:
    """Return 30 features on scales from 1e-3 to 1e6, and a score that hangs on three of them."""
    rng = np.random.default_rng(seed)
    plain = rng.normal(size=(n, 30))
    score = 1.2 * plain[:, 3] - plain[:, 17] + 0.8 * plain[:, 29]
    return plain * np.logspace(-3, 4, 30) + np.linspace(-100, 100, 30), score


def target(kind: str, score: Array) -> Any:
    """Return the target of a kind."""
    rng = np.random.default_rng(9)
    if kind == "binary":
        return (rng.random(score.size) < expit(score)).astype(int)
    if kind == "class":
        return np.array(["low", "middle", "high"])[np.digitize(score + rng.normal(size=score.size), [-1, 1])]
    if kind == "number":
        return 1e4 + 50 * (score + rng.normal(size=score.size))
    d = np.clip(0.5 + 0.4 * score + 0.1 * rng.normal(size=score.size), 0, 1)
    return np.column_stack([d, (1 - d) * 0.25, (1 - d) * 0.75])


class Read:
    """Batches of arrays, and what was read of them."""

    def __init__(self, X: Any, y: Any, size: int = 250) -> None:
        self.X, self.y, self.size = X, y, size
        self.epochs: list[int] = []
        self.rows = 0

    def __call__(self, epoch: int) -> Iterator[Batch]:
        self.epochs.append(epoch)
        for start in range(0, len(self.X), self.size):
            at = slice(start, start + self.size)
            self.rows += len(self.X[at])
            yield self.X[at], self.y[at], None


@pytest.mark.parametrize("learner", ["sgd", "mlp"])
@pytest.mark.parametrize("kind", ["binary", "class", "number", "composition"])
def test_a_planted_signal_is_found_batch_by_batch(kind: str, learner: str) -> None:
    X, score = data(2000, 0)
    new, new_score = data(500, 1)
    y = target(kind, score)
    epochs, size = (6, 250) if learner == "sgd" else (8, 100)
    model = StreamingModel(kind, learner, n_features=6, epochs=epochs).fit_batches(Read(X, y, size))
    assert {3, 17, 29} <= set(model.kept_.tolist())
    if kind == "binary":
        guess, truth = model.predict_proba(new)[:, 1], expit(new_score)
        assert set(model.predict(new)) == {0, 1}
    elif kind == "class":
        assert model.classes_.tolist() == ["high", "low", "middle"]
        guess, truth = model.predict_proba(new) @ [1, -1, 0], new_score
        assert set(model.predict(new)) <= {"high", "low", "middle"}
    elif kind == "number":
        guess, truth = model.predict(new), new_score
        assert model.score(X, y) > 0.7
        assert guess.mean() == pytest.approx(y.mean(), abs=10)
    else:
        found = model.hurdle(new)
        assert (found.composition.sum(axis=1) == 1).all()
        np.testing.assert_array_equal(model.predict(new), found.composition)
        assert (found.composition[:, 2] / (1 - found.composition[:, 0])).mean() == pytest.approx(0.75, abs=0.03)
        guess, truth = found.composition[:, 0], np.clip(0.5 + 0.4 * new_score, 0, 1)
    assert pearsonr(guess, truth).statistic > 0.93


def test_batches_of_a_part_that_fits_in_memory_do_as_well_as_all_at_once() -> None:
    X, score = data(4000, 2)
    new, new_score = data(2000, 3)
    y, truth = target("binary", score), target("binary", new_score)
    model = StreamingModel(n_features=10, epochs=5).fit_batches(Read(X, y))
    scaler = StandardScaler().fit(X)
    whole = LogisticRegression().fit(scaler.transform(X), y)
    mine, theirs = (
        roc_auc_score(truth, p[:, 1]) for p in (model.predict_proba(new), whole.predict_proba(scaler.transform(new)))
    )
    assert mine == pytest.approx(theirs, abs=0.01)


def test_small_batches_do_not_forget_how_common_a_class_is() -> None:
    # scikit-learn's SGDClassifier would: partial_fit with average=True starts from the first intercept each time.
    X, score = data(2000, 10)
    y = (score > 2.5).astype(int)
    model = StreamingModel(n_features=5, epochs=6).fit_batches(Read(X, y, size=50))
    assert model.predict_proba(X)[:, 1].mean() == pytest.approx(y.mean(), abs=0.02)
    assert y.mean() < 0.15


def test_the_learner_sees_scaled_columns_and_means_for_what_is_unknown() -> None:
    X, score = data(300, 4)
    X[::7, 3] = np.nan
    X[0, 17] = 1e5
    seen: list[Array] = []

    class Spy(StreamingModel):
        def _new_learner(self) -> Any:
            learner = super()._new_learner()
            go_on = learner.partial_fit

            def spied(X: Array, *rest: Any, **more: Any) -> None:
                seen.append(X.copy())
                go_on(X, *rest, **more)

            learner.partial_fit = spied
            return learner

    model = Spy("number", n_features=5, epochs=1).fit_batches(Read(X, score))
    whole = StandardScaler().fit_transform(X)[:, model.kept_]
    np.testing.assert_allclose(np.vstack(seen)[:, :-1], np.clip(np.nan_to_num(whole), -10, 10), atol=1e-8)
    assert (np.vstack(seen)[:, -1] == 1).all()
    expected = Screen("number", 5).fit(X, score)
    assert model.kept_.tolist() == expected.get_support(indices=True).tolist()


@pytest.mark.parametrize(("learner", "rows", "passes"), [("sgd", 300, 5), ("mlp", 300, 100), ("mlp", 4000, 25)])
def test_a_network_sees_few_rows_more_often(learner: str, rows: int, passes: int) -> None:
    X, score = data(rows, 0)
    seen = Read(X[:, :4], target("number", score))
    model = StreamingModel("number", learner, hidden=(2,)).fit_batches(seen)
    assert model.epochs_ == passes
    assert seen.epochs == list(range(passes + 1))


def test_an_update_reads_only_what_is_new_and_keeps_the_scaling() -> None:
    X, score = data(1000, 5)
    y = target("binary", score)
    old, new = Read(X[:800], y[:800]), Read(X[800:] + 2 * X.std(axis=0), y[800:])
    model = StreamingModel(n_features=5, epochs=3).fit_batches(old)
    assert (old.epochs, old.rows) == ([0, 1, 2, 3], 3200)
    np.testing.assert_allclose(model.drift(), 0, atol=1e-12)
    before = model.mean_.copy(), model.scale_.copy(), model.kept_.copy(), model.learner_.coef_.copy()
    model.update_batches(new)
    assert (old.rows, new.epochs, new.rows) == (3200, [0, 1, 2, 3], 800)
    for was, now in zip(before[:3], (model.mean_, model.scale_, model.kept_), strict=True):
        np.testing.assert_array_equal(was, now)
    assert not np.array_equal(before[3], model.learner_.coef_)
    shifted = np.vstack([X[:800], new.X])
    expected = (shifted.mean(axis=0) - X[:800].mean(axis=0)) / X[:800].std(axis=0)
    np.testing.assert_allclose(model.drift(), expected[model.kept_], rtol=1e-9)
    assert (np.abs(model.drift() - 0.4) < 0.1).all()  # a fifth of the rows, moved by two standard deviations


def test_an_update_that_is_refused_changes_nothing() -> None:
    X, score = data(200, 6)
    model = StreamingModel().fit_batches(Read(X, target("binary", score)))
    before = model.drift(), model.predict_proba(X)
    with pytest.raises(ValueError, match=r"class .*7.* is none of those of the model: 0, 1"):
        model.update_batches(Read(X + 5, np.full(200, 7)))
    X[150, 3] = np.inf
    with pytest.raises(ValueError, match="infinity"):
        model.update_batches(Read(X + 5, target("binary", score)))
    X[150, 3] = 0
    np.testing.assert_array_equal(model.drift(), before[0])


def test_a_model_survives_a_file_and_goes_on() -> None:
    X, score = data(300, 7)
    for kind in ("binary", "composition"):
        y = target(kind, score)
        model = StreamingModel(kind, n_features=5, epochs=2).fit_batches(Read(X, y))
        stored = skops.io.dumps(model)
        own = {name for name in skops.io.get_untrusted_types(data=stored) if name.startswith("hgpscale.")}
        assert own <= {
            "hgpscale.learn.composition.HurdleComposition",
            "hgpscale.learn.composition.SoftClassifier",
            "hgpscale.learn.moments.Moments",
            "hgpscale.learn.screen.Screen",
            "hgpscale.learn.streaming.StreamingModel",
        }
        again = skops.io.loads(stored, trusted=skops.io.get_untrusted_types(data=stored))
        for one in (model, again):
            one.update_batches(Read(X[:100] * 1.01, y[:100]))
        np.testing.assert_array_equal(model.predict(X), again.predict(X))
        np.testing.assert_array_equal(model.drift(), again.drift())


def test_names_of_columns_are_kept_and_checked() -> None:
    X, score = data(200, 8)
    frame = pd.DataFrame(X, columns=[f"original_shape_{i}" for i in range(30)])
    model = StreamingModel("number").fit_batches(Read(frame, score))
    assert model.feature_names_in_.tolist() == frame.columns.tolist()
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame.rename(columns={"original_shape_3": "other"}))


def test_two_runs_are_equal_and_rows_without_weight_do_not_count() -> None:
    X, score = data(300, 9)
    y, weight = target("composition", score), np.ones(300)
    weight[200:] = 0
    one = StreamingModel("composition", epochs=2).fit(X, y, weight)
    other = StreamingModel("composition", epochs=2).fit(X[:200], y[:200])
    np.testing.assert_array_equal(one.predict(X), other.predict(X))
    assert isinstance(one.learner_, HurdleComposition)


def test_each_kind_has_the_methods_that_it_can_answer() -> None:
    assert is_classifier(StreamingModel("class"))
    assert is_regressor(StreamingModel("number"))
    has = {
        kind: [hasattr(StreamingModel(kind), name) for name in ("predict_proba", "hurdle")]
        for kind in ("binary", "number", "composition", "multitask")
    }
    assert has == {
        "binary": [True, False],
        "number": [False, False],
        "composition": [False, True],
        "multitask": [False, True],
    }


def nothing(epoch: int) -> Iterator[Batch]:
    yield from ()


@pytest.mark.parametrize(
    ("options", "batches", "said"),
    [
        ({"kind": "patient"}, nothing, "kind is one of"),
        ({"learner": "forest"}, nothing, "learner is one of sgd, mlp"),
        ({"epochs": 0}, nothing, "epochs must be at least 1"),
        ({}, nothing, "no row"),
        ({}, Read(np.eye(3), np.array([0, 1, 2])), "3 classes; choose the kind 'class'"),
        ({}, Read(np.eye(3), np.array([1, 1, 1])), "got 1 class"),
        ({}, Read(np.ones((3, 2)), np.array([0, 1, 1])), "no column varies"),
    ],
)
def test_what_cannot_be_learned_is_told(options: dict[str, Any], batches: Batches, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        StreamingModel(**options).fit_batches(batches)


@pytest.mark.parametrize(
    "model",
    [StreamingModel(), StreamingModel("class"), StreamingModel("number"), StreamingModel(learner="mlp")],
    ids=str,
)
def test_scikit_learn_s_checks(model: StreamingModel) -> None:
    excused = _WEIGHTS if model.learner == "sgd" else {}
    check_estimator(model, expected_failed_checks=excused, on_fail="raise", on_skip=None)


def rated_cube(folder: Path) -> Any:
    """Make a cube of 500 lesions, the first 100 with two segmentations, the others with one of them."""
    score = np.random.default_rng(0).normal(size=500)
    lines = ["lesion,patient,image,mask,segmentation,hgp_desmoplastic,hgp_replacement,hgp_pushing"]
    for i in range(500):
        d = 100 * (score[i] > 0)
        truth = f"{d},{100 - d},0" if i % 10 else ",,"
        lines += [f"L{i},P{i},{i}.nii,{i}{rater}.nii,{rater},{truth}" for rater in ("A", "B")[: 1 + (i < 100)]]
    (folder / "manifest.csv").write_text("\n".join(lines))
    cohort = read_manifest(folder / "manifest.csv")
    settings = Settings.from_parameters({"featureClass": {"firstorder": ["Mean", "Energy"]}})
    rng = np.random.default_rng(1)
    with CubeWriter.open(folder / "cube.zarr", cohort, settings) as writer:
        for row in cohort.rows:
            numbers = np.array([score[int(row.lesion[1:])], 0]) + rng.normal(size=2)
            values = {("lesion", "original", "firstorder"): numbers}
            writer.add(Record(row.lesion, row.segmentation, "image", "mask", 1, values))
    return open_cube(folder / "cube.zarr")


def test_batches_of_a_cube_weigh_a_lesion_once_and_leave_out_what_has_no_target(tmp_path: Path) -> None:
    cube = rated_cube(tmp_path)
    batches = cube_batches(cube, "hgp_desmoplastic", lambda d: d / 100, size=64)
    for epoch in (0, 1, 2):
        weight: dict[str, float] = {}
        for X, y, w in batches(epoch):
            assert len(X) == len(y) == len(w) <= 64
            assert not np.isnan(y).any()
            for (lesion, _), one in zip(X.index, w, strict=True):
                weight[lesion] = weight.get(lesion, 0) + one
        assert len(weight) == 450
        assert set(weight.values()) == {1.0}
    orders = [np.concatenate([X.index.get_level_values(0) for X, _, _ in batches(epoch)]) for epoch in (1, 2, 1)]
    assert (orders[0] == orders[2]).all()
    assert not np.array_equal(orders[0], orders[1])
    model = StreamingModel().fit_batches(batches)
    assert sorted(model.feature_names_in_) == ["original_firstorder_Energy", "original_firstorder_Mean"]
    assert abs(model.screen_.moments_.weight - 450).max() < 1e-9
    two = cube_batches(
        cube.hgp.select(segmentations="A"),
        ["hgp_desmoplastic", "hgp_replacement"],
        lambda parts: np.column_stack([parts / 100, np.zeros(len(parts))]),
    )
    found = StreamingModel("composition").fit_batches(two)
    assert all(w is None for _, _, w in two(0))
    assert found.score(*next((X, y) for X, y, _ in two(0))) > -0.3
