"""Models on disk: what comes back, what is refused, and that nothing in a file is run."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from learn_cases import cube_of, growth_table, rated, settings_of

from hgpscale import open_cube
from hgpscale.errors import LearnError
from hgpscale.learn import learners, search
from hgpscale.learn import model as models
from hgpscale.learn.design import Design
from hgpscale.learn.digests import lesion_hash, settings_digest
from hgpscale.learn.fitting import MODELS, Options, fit_model, rows_of
from hgpscale.learn.judging import typical_model
from hgpscale.learn.model import Model
from hgpscale.learn.predicting import predict
from hgpscale.learn.samples import Samples, lesion_weight
from hgpscale.learn.study import labelled
from hgpscale.learn.training import fit


@pytest.fixture
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make forests of three trees and few boosting rounds: they are saved node by node."""
    monkeypatch.setattr(search, "_TREES", 3)
    for table in (learners._CLASSIFIERS, learners._REGRESSORS):
        for name, least in (("forest", {"n_estimators": 3}), ("boosting", {"max_iter": 3})):
            monkeypatch.setitem(table, name, partial(_small, table[name], least))


def _small(make: learners.Make, least: Mapping[str, Any], params: Mapping[str, Any], seed: int) -> Any:
    return make({**params, **least}, seed)


@pytest.mark.parametrize("target", ["pure", "composition", "age", "grade"])
@pytest.mark.parametrize("name", MODELS)
def test_every_model_says_the_same_after_a_round_trip(
    growth_cube: Path, tmp_path: Path, few_trees: None, name: str, target: str
) -> None:
    samples, which, y = labelled(Samples.of(open_cube(growth_cube)), target)
    design = Design.of(samples, ("sex", "age"), "none" if name in ("sgd", "mlp") else "combat")
    X = design.matrix(samples)
    weight = lesion_weight(samples.lesion)
    rows = rows_of(which, X, y, samples.patient, samples.lesion, samples.segmentation, weight)
    fitted = fit_model(name, which, design.layout, rows, Options(seed=3, n_candidates=5), interval=False)
    typical = typical_model(rows, design.layout.n_features)
    key = bytes(range(16))
    made = Model(which, design, fitted, typical, "digest", key, frozenset(["a", "b"]), {"seed": 3})
    made.save(tmp_path / "model.skops")
    read = Model.load(tmp_path / "model.skops")
    np.testing.assert_array_equal(read.fitted.outputs(X), fitted.outputs(X))
    n = design.layout.n_features
    np.testing.assert_array_equal(read.typical.score_samples(X[:, :n]), typical.score_samples(X[:, :n]))
    assert (read.target, read.design, read.settings_digest, read.key) == (which, design, "digest", key)
    assert (read.lesions, dict(read.about)) == (made.lesions, {"seed": 3})
    assert [path.name for path in tmp_path.iterdir()] == ["model.skops"]


@pytest.mark.parametrize("name", ["elastic-net", "svm", "sgd"])
def test_no_lesion_or_patient_is_named_in_the_file(rated_cube: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / "model.skops"
    fit(rated_cube, "composition", path, model=name, harmonise="none")
    with zipfile.ZipFile(path) as file:
        content = b"".join(file.read(member) for member in file.namelist())
        names = " ".join(file.namelist())
    assert b"hgpscale-model-1" in content
    for text in (path.read_bytes(), content, names.encode()):
        assert b"secret" not in text
        assert b"Q00" not in text
    model = Model.load(path)
    samples = Samples.of(open_cube(rated_cube))
    of_training = np.array(samples.columns["split"] == "train")
    for lesion, trained in zip(samples.lesion, of_training, strict=True):
        assert model.has_seen(lesion) == trained
    assert not model.has_seen("another")


def test_hashes_are_of_the_models_own_key() -> None:
    assert lesion_hash(b"1", "L1") == lesion_hash(b"1", "L1") != lesion_hash(b"2", "L1")
    assert len({lesion_hash(b"1", f"L{i}") for i in range(1000)}) == 1000


# Files of others


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def _skops_payload(mark: Path) -> bytes:
    """Return a file of skops that calls ``os.mkdir`` as it is read, if its types are trusted."""
    buffer = io.BytesIO()
    skops.io.dump({"format": models.FORMAT, "target": partial(os.mkdir, str(mark))}, buffer)
    return buffer.getvalue()


def _reducing(mark: Path) -> bytes:
    """Return the schema of skops with a node made by hand that calls a function on its arguments."""
    raw = io.BytesIO(skops.io.dumps({"format": models.FORMAT}))
    with zipfile.ZipFile(raw) as file:
        schema = json.loads(file.read("schema.json"))
    node = json.loads(json.dumps(schema["content"]["format"]))
    schema["content"]["target"] = {
        "__class__": "mkdir",
        "__module__": "os",
        "__loader__": "ReduceNode",
        "__id__": 77,
        "reduce": {
            "__class__": "tuple",
            "__module__": "builtins",
            "__loader__": "TupleNode",
            "__id__": 78,
            "content": [{**node, "content": json.dumps(str(mark)), "__id__": 79}],
        },
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("schema.json", json.dumps(schema))
    return buffer.getvalue()


def _zip_of_a_pickle(mark: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("schema.json", "{}")
        file.writestr("content.pkl", pickle.dumps(Payload(mark)))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "make",
    [lambda mark: pickle.dumps(Payload(mark)), _zip_of_a_pickle, _skops_payload, _reducing],
    ids=["pickle", "zip", "skops", "reduce"],
)
def test_nothing_in_a_foreign_file_is_run(tmp_path: Path, make: Any) -> None:
    mark, path = tmp_path / "run", tmp_path / "model.skops"
    path.write_bytes(make(mark))
    with pytest.raises(LearnError, match=r"model\.skops: ") as caught:
        Model.load(path)
    assert "\n" not in str(caught.value)
    assert not mark.exists()


def test_the_payloads_would_run(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Payload(tmp_path / "pickle")))
    assert (tmp_path / "pickle").is_dir()
    raw = _skops_payload(tmp_path / "skops")
    trusted = skops.io.get_untrusted_types(data=raw)
    skops.io.loads(raw, trusted=trusted)["target"]()
    assert (tmp_path / "skops").is_dir()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as a model: BadZipFile"),
        (b"PK\x03\x04 and no more", "cannot be read as a model: BadZipFile"),
        (skops.io.dumps([1]), "is no model of this version of hgpscale"),
        (skops.io.dumps({"format": "hgpscale-model-0"}), "is no model of this version of hgpscale"),
        (skops.io.dumps({"format": models.FORMAT}), "cannot be read as a model: KeyError"),
        (skops.io.dumps({"format": models.FORMAT, "target": {"kind": 1}}), "cannot be read as a model: TypeError"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "model.skops"
    path.write_bytes(content)
    with pytest.raises(LearnError, match=f"model.skops: {message}"):
        Model.load(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none.skops: there is no model; make one with hgpscale fit"):
        Model.load(tmp_path / "none.skops")


@pytest.fixture(scope="module")
def of_rim(rated_cube: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model of the first-order features of the rim."""
    path = tmp_path_factory.mktemp("model") / "model.skops"
    fit(rated_cube, "pure", path, model="elastic-net", cutoff="50", features=["rim__*firstorder*"])
    return path


def test_a_damaged_file_is_refused(of_rim: Path, tmp_path: Path) -> None:
    raw, rng = of_rim.read_bytes(), np.random.default_rng(0)
    path = tmp_path / "model.skops"
    for _ in range(25):
        damaged = bytearray(raw[: rng.integers(len(raw))] if rng.random() < 0.4 else raw)
        for at in rng.integers(len(damaged), size=3):
            damaged[at] ^= 0x55
        path.write_bytes(damaged)
        with pytest.raises(LearnError, match=r"model.skops: "):
            Model.load(path)


# Cubes of others


@pytest.mark.parametrize(
    "other",
    [{"binWidth": 10}, {"rim": 5.0}, {"normalize": True}, {"resampledPixelSpacing": [2, 2, 2]}],
    ids=lambda other: next(iter(other)),
)
def test_a_cube_of_other_settings_is_refused(of_rim: Path, tmp_path: Path, other: dict[str, Any]) -> None:
    new = rated(tmp_path / "new.zarr", patients=2, settings=settings_of(**other))
    with pytest.raises(LearnError, match=r"new.zarr: its features were made with other settings than those of the mod"):
        predict(of_rim, new)


def test_a_cube_with_more_in_it_is_accepted(of_rim: Path, rated_cube: Path, tmp_path: Path) -> None:
    more = settings_of(regions=("rim", "core"), images=("Original", "Square"))
    new = rated(tmp_path / "new.zarr", settings=more)
    columns = ["lesion", "probability", "typicality"]
    pd.testing.assert_frame_equal(predict(of_rim, new).table[columns], predict(of_rim, rated_cube).table[columns])
    features = Model.load(of_rim).design.features
    assert settings_digest(open_cube(new), features) == settings_digest(open_cube(rated_cube), features)


def test_missing_features_are_told(of_rim: Path, tmp_path: Path) -> None:
    new = rated(tmp_path / "new.zarr", patients=2, settings=settings_of(regions=("core",)))
    with pytest.raises(LearnError, match=r"new.zarr: lacks 2 of the model's 2 features, such as rim__original_firsto"):
        predict(of_rim, new)


def test_an_imported_table_is_not_an_extracted_cube(growth_cube: Path, tmp_path: Path) -> None:
    fit(growth_cube, "pure", tmp_path / "m", model="elastic-net", features=["rim__original_firstorder_Mean"])
    new = rated(tmp_path / "new.zarr", patients=2)
    with pytest.raises(LearnError, match="made with other settings"):
        predict(tmp_path / "m", new)
    assert predict(tmp_path / "m", cube_of(growth_table(5), tmp_path)).seen > 0
