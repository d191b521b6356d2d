"""Fitting and updating models on cubes: who is learned from, once, and what is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from learn_cases import cube_of, growth_table, rated, settings_of
from sklearn.metrics import roc_auc_score

from hgpscale import open_cube
from hgpscale.errors import CubeError, LearnError
from hgpscale.learn import incremental
from hgpscale.learn.conformal import half_width
from hgpscale.learn.fitting import Options
from hgpscale.learn.learners import outputs
from hgpscale.learn.model import Model
from hgpscale.learn.predicting import predict
from hgpscale.learn.samples import EXTERNAL_REASON, Samples, lesion_weight
from hgpscale.learn.streaming import StreamingModel
from hgpscale.learn.study import labelled
from hgpscale.learn.targets import Target
from hgpscale.learn.training import fit, update


@pytest.mark.parametrize("name", ["elastic-net", "sgd"])
def test_external_lesions_are_kept_for_validation(growth_cube: Path, tmp_path: Path, name: str) -> None:
    table = growth_table()
    train = set(table.loc[table["split"] == "train", "ID"])
    report = fit(growth_cube, "composition", tmp_path / "m", model=name, features=["rim__*"])
    model = Model.load(tmp_path / "m")
    assert {lesion for lesion in table["ID"] if model.has_seen(lesion)} == train
    assert (report.lesions, report.patients, report.features) == (len(train), 40, 6)
    assert report.excluded == ((EXTERNAL_REASON, len(table) - len(train)),)
    everything = fit(growth_cube, "composition", tmp_path / "m", model=name, features=["rim__*"], everything=True)
    assert (everything.lesions, everything.patients, everything.excluded) == (90, 60, ())
    assert all(map(Model.load(tmp_path / "m").has_seen, table["ID"]))
    about = Model.load(tmp_path / "m").about
    assert (about["model"], about["lesions"], about["patients"], about["seed"]) == (name, 90, 60, 0)


@pytest.mark.parametrize("name", ["elastic-net", "sgd"])
def test_what_is_left_out_is_counted(tmp_path: Path, name: str) -> None:
    path = rated(tmp_path / "c.zarr", failed={"secret001.0": "all", "secret002.0": "shape"}, pending=["secret007.1"])
    report = fit(path, "pure", tmp_path / "m", model=name, everything=True)
    mixed = sum((p + number) % 3 == 2 for p in range(30) for number in range(1 + p % 2))
    gone = sum((p + number) % 3 != 2 for p, number in ((1, 0), (7, 1)))
    assert dict(report.excluded)["mixed growth, and the target is pure lesions"] in (mixed, mixed - 2 + gone)
    assert report.lesions + sum(n for _, n in report.excluded) == 45
    of_shape = fit(path, "pure", tmp_path / "m", model=name, everything=True, features=["*shape*"], cutoff="50")
    assert (of_shape.lesions, of_shape.excluded) == (42, (("no features (failed or pending)", 3),))
    assert not Model.load(tmp_path / "m").has_seen("secret002.0")


@pytest.mark.parametrize("target", ["pure", "sex", "grade", "age", "composition"])
def test_streaming_is_near_to_fitting_in_memory(growth_cube: Path, tmp_path: Path, target: str) -> None:
    fit(growth_cube, target, tmp_path / "m", model="sgd", everything=True, covariates=["chemotherapy"])
    model = Model.load(tmp_path / "m")
    samples, which, y = labelled(Samples.of(open_cube(growth_cube)), target)
    X = model.design.matrix(samples)
    told = target in ("age", "composition")
    inside = ~incremental._held_out(samples) if told else np.ones(len(samples), bool)
    memory = StreamingModel(which.kind, "sgd", random_state=0).fit(X[inside], y[inside])
    np.testing.assert_allclose(model.fitted.estimator.mean_, memory.mean_, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(model.fitted.estimator.scale_, memory.scale_, rtol=1e-10)
    np.testing.assert_array_equal(model.fitted.estimator.kept_, memory.kept_)
    ours, theirs = model.fitted.outputs(X)[:, 0], outputs(memory, X, which.kind, len(which.classes))[:, 0]
    assert np.corrcoef(ours, theirs)[0, 1] > 0.95
    if which.kind == "binary":
        assert abs(roc_auc_score(y, ours) - roc_auc_score(y, theirs)) < 0.03


def test_raters_count_as_one_lesion(rated_cube: Path, tmp_path: Path) -> None:
    fit(rated_cube, "pure", tmp_path / "m", model="sgd", cutoff="50", everything=True)
    samples = Samples.of(open_cube(rated_cube))
    moments = Model.load(tmp_path / "m").fitted.estimator
    mean = np.average(samples.values, axis=0, weights=lesion_weight(samples.lesion))
    np.testing.assert_allclose(moments.mean_, mean, rtol=1e-10)


def test_the_interval_is_of_patients_who_were_held_out(
    growth_cube: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[Any] = []
    monkeypatch.setattr(StreamingModel, "_count", _noting(StreamingModel._count, rows))
    fit(growth_cube, "composition", tmp_path / "m", model="sgd", everything=True, options=Options(coverage=0.7))
    model = Model.load(tmp_path / "m")
    samples, _, y = labelled(Samples.of(open_cube(growth_cube)), "composition")
    held = incremental._held_out(samples)
    assert 0 < held.sum() < len(held) / 4
    X = model.design.matrix(samples)
    learned = np.concatenate(rows)
    assert len(learned) == (~held).sum()
    assert not set(map(bytes, X[held])) & set(map(bytes, learned))
    error = np.abs(y[held, 0] - model.fitted.outputs(X[held])[:, 0])
    assert model.fitted.half_width == half_width(error, samples.patient[held], 0.7)
    table = predict(tmp_path / "m", growth_cube).table
    lesions = table[table["level"] == "lesion"]
    width = model.fitted.half_width
    np.testing.assert_allclose(lesions["low"], (lesions["desmoplastic"] - width).clip(0, 1))


def _noting(original: Any, rows: list[Any]) -> Any:
    def count(model: Any, X: Any, y: Any, weight: Any, *, reset: bool) -> None:
        rows.append(np.asarray(X))
        original(model, X, y, weight, reset=reset)

    return count


def test_an_update_reads_new_lesions_only_and_once(
    tmp_path: Path, rated_cube: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "m"
    fit(rated_cube, "pure", model, model="sgd", cutoff="50", everything=True)
    before = Model.load(model)
    grown = rated(tmp_path / "grown.zarr", patients=40)
    rows: list[Any] = []
    monkeypatch.setattr(StreamingModel, "_count", _noting(StreamingModel._count, rows))
    report = update(model, grown, everything=True)
    new = Samples.of(open_cube(rated(tmp_path / "new.zarr", patients=10, first=30)))
    assert (report.lesions, report.patients) == (15, 10)
    np.testing.assert_array_equal(np.concatenate(rows), before.design.matrix(new))
    after = Model.load(model)
    assert before.lesions < after.lesions
    assert after.lesions - before.lesions == after.hashes(set(new.lesion))
    assert after.about["lesions"] == 60
    assert "updated" in after.about
    assert (after.design, after.target, after.key) == (before.design, before.target, before.key)
    assert not np.array_equal(after.fitted.outputs(before.design.matrix(new)), before.fitted.outputs(new.values))
    # The sums are those of all lesions together.
    whole = Samples.of(open_cube(grown))
    mean = np.average(whole.values, axis=0, weights=lesion_weight(whole.lesion))
    np.testing.assert_allclose(after.fitted.estimator.screen_.moments_.mean, mean, rtol=1e-9)
    shift = np.abs((mean - before.fitted.estimator.mean_) / before.fitted.estimator.scale_)
    assert [moved for _, moved in report.drift] == pytest.approx(sorted(shift, reverse=True)[:3])
    names = [name for name, _ in report.drift]
    assert names == [before.design.features[i] for i in np.argsort(-shift)[:3]]

    raw = model.read_bytes()
    again = update(model, grown, everything=True)
    assert (again.lesions, again.drift) == (0, ())
    assert model.read_bytes() == raw
    assert len(np.concatenate(rows)) == len(new)


def test_an_update_leaves_external_lesions_out(tmp_path: Path, rated_cube: Path) -> None:
    fit(rated_cube, "pure", tmp_path / "m", model="sgd", cutoff="50")
    report = update(tmp_path / "m", rated(tmp_path / "new.zarr", patients=8, first=32))
    assert report.lesions == 12 - 2
    model = Model.load(tmp_path / "m")
    assert not model.has_seen("secret032.0")
    assert model.has_seen("secret033.0")


def test_drift_is_found(tmp_path: Path, growth: Any) -> None:
    fit(cube_of(growth, tmp_path), "pure", tmp_path / "m", model="sgd", everything=True)
    table = growth_table(30, seed=8)
    table["ID"], table["patient"] = "n" + table["ID"], "n" + table["patient"]
    table["original_glcm_Idm"] += 9
    report = update(tmp_path / "m", cube_of(table, tmp_path, "new"), everything=True)
    assert report.drift[0][0] == "original_glcm_Idm"
    assert report.drift[0][1] > 2 > report.drift[1][1]


def test_an_update_that_fails_leaves_the_file(
    tmp_path: Path, rated_cube: Path, growth_cube: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m"
    fit(rated_cube, "pure", path, model="sgd", cutoff="50")
    raw = path.read_bytes()
    other = rated(tmp_path / "other.zarr", first=30, patients=3, settings=settings_of(rim=9.0))
    with pytest.raises(LearnError, match=r"other.zarr: its features were made with other settings"):
        update(path, other)
    with pytest.raises(LearnError, match="lacks 2 of the model's 8 features"):
        update(path, growth_cube)
    new = rated(tmp_path / "new.zarr", first=30, patients=3)
    with monkeypatch.context() as patch:
        patch.setattr(StreamingModel, "_learn", _full)
        with pytest.raises(OSError, match="disk full"):
            update(path, new)
    assert path.read_bytes() == raw
    assert update(path, new).lesions == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m", "new.zarr", "other.zarr"]


def _full(*_: object) -> None:
    raise OSError("disk full")


def test_what_cannot_be_updated_is_told(tmp_path: Path, growth_cube: Path, growth: Any) -> None:
    fit(growth_cube, "pure", tmp_path / "net", model="elastic-net")
    raw = (tmp_path / "net").read_bytes()
    with pytest.raises(LearnError, match="net: a model of elastic-net is fitted on all lesions at once; fit it anew"):
        update(tmp_path / "net", growth_cube)
    assert (tmp_path / "net").read_bytes() == raw
    fit(growth_cube, "grade", tmp_path / "sgd", model="sgd")
    table = growth.assign(ID="n" + growth["ID"], grade="huge").head(6)
    report = update(tmp_path / "sgd", cube_of(table, tmp_path), everything=True)
    assert report.lesions == 0
    assert report.excluded == (("grade is none of the model's classes", 6),)


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("pure", {"model": "tree"}, "model is 'tree', expected one of search"),
        ("pure", {"model": "mlp", "harmonise": "combat"}, "model mlp reads lesions in batches and cannot harmonise"),
        ("nothing", {"model": "sgd"}, "no column 'nothing'"),
        ("nothing", {"model": "elastic-net"}, "no column 'nothing'"),
        ("pure", {"model": "elastic-net", "covariates": ["weight"]}, "no column 'weight'"),
        ("pure", {"model": "sgd", "covariates": ["weight"]}, "no column 'weight'"),
        ("pure", {"model": "sgd", "features": ["core*"]}, "no feature matches 'core"),
        ("pure", {"model": "elastic-net", "features": ["core*"]}, "no feature matches 'core"),
        ("sex", {"model": "sgd", "positive": "x"}, "target 'sex': no lesion is 'x'; there are f, m"),
    ],
)
def test_what_cannot_be_fitted_is_told(
    growth_cube: Path, tmp_path: Path, target: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises((LearnError, CubeError), match=message) as caught:
        fit(growth_cube, target, tmp_path / "m", **options)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["elastic-net", "sgd"])
def test_one_class_or_no_label_is_told(tmp_path: Path, growth: Any, name: str) -> None:
    table = growth.head(12).assign(hgp_desmoplastic=100, hgp_replacement=0, hgp_pushing=0)
    with pytest.raises(LearnError, match="pure: all lesions to learn from are alike"):
        fit(cube_of(table, tmp_path), "pure", tmp_path / "m", model=name)
    table = table.assign(hgp_desmoplastic=50, hgp_replacement=50)
    with pytest.raises(LearnError, match="pure"):
        fit(cube_of(table, tmp_path, "mixed"), "pure", tmp_path / "m", model=name)
    external = cube_of(table.assign(split="external"), tmp_path, "external")
    with pytest.raises(LearnError, match="every lesion is of the external validation set; use them with --everything"):
        fit(external, "composition", tmp_path / "m", model=name)
    assert not (tmp_path / "m").exists()


def test_targets_are_those_of_the_model(tmp_path: Path, growth_cube: Path) -> None:
    fit(growth_cube, "sex", tmp_path / "m", model="sgd", positive="f")
    assert Model.load(tmp_path / "m").target == Target("sex", "binary", ("m", "f"))
