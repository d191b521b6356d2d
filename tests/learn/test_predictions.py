"""Tables of predictions: rows of patients worked by hand, columns as documented, and what predict does on a cube."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from learn_cases import cube_of, growth_table, rated, samples_of

from hgpscale.errors import CubeError, LearnError
from hgpscale.learn import predicting
from hgpscale.learn.model import Model
from hgpscale.learn.predicting import predict, write_predictions
from hgpscale.learn.predictions import lesion_table, patient_table
from hgpscale.learn.targets import Target
from hgpscale.learn.training import fit

PURE = Target("pure", "binary", ("non-desmoplastic", "desmoplastic"))
COMPOSITION = Target("composition", "composition", ("desmoplastic", "replacement", "pushing"))
COMMON = ["unusual", "typicality", "interface_area", "n_segmentations"]
COMPOSED = ["desmoplastic", "replacement", "pushing", "p_pure_desmoplastic", "p_majority_desmoplastic", "low", "high"]


def _lesions(patient: list[str], **columns: Any) -> pd.DataFrame:
    n = len(patient)
    table = {"level": "lesion", "patient": patient, "lesion": [f"l{i}" for i in range(n)], **columns}
    filled = {"unusual": [0] * n, "typicality": [0.5] * n, "interface_area": [1.0] * n, "n_segmentations": [1] * n}
    return pd.DataFrame({**filled, **table})


def _composed(area: list[float]) -> pd.DataFrame:
    return _lesions(
        ["A", "B", "A"],
        desmoplastic=[0.8, 0.5, 0.2],
        replacement=[0.2, 0.25, 0.4],
        pushing=[0.0, 0.25, 0.4],
        p_pure_desmoplastic=[0.5, 0.3, 0.1],
        p_majority_desmoplastic=[0.9, 0.5, 0.2],
        interface_area=area,
    )


def test_a_patients_composition_is_weighted_by_interface_area() -> None:
    table = patient_table(COMPOSITION, _composed([300.0, 70.0, 100.0])).set_index("patient")
    np.testing.assert_allclose(list(table.loc["A", ["desmoplastic", "replacement", "pushing"]]), [0.65, 0.25, 0.1])
    assert table.loc["A", "mean_desmoplastic"] == pytest.approx(0.5)
    assert table.loc["A", "any_non_desmoplastic"] == pytest.approx(1 - 0.5 * 0.1)
    assert table.loc["B", "any_non_desmoplastic"] == pytest.approx(0.7)
    assert list(table["interface_area"]) == [400, 70]
    assert list(table.index) == ["A", "B"]


def test_without_an_area_lesions_weigh_the_same() -> None:
    table = patient_table(COMPOSITION, _composed([300.0, 70.0, np.nan])).set_index("patient")
    assert list(table.loc["A", ["desmoplastic", "mean_desmoplastic"]]) == pytest.approx([0.5, 0.5])
    assert table.loc["B", "desmoplastic"] == 0.5


def test_one_non_desmoplastic_lesion_is_enough() -> None:
    lesions = _lesions(["A", "A", "B", "C"], probability=[0.9, 0.5, 1.0, 0.0], unusual=[0, 1, 0, 0])
    table = patient_table(PURE, lesions.assign(typicality=[0.3, 0.005, 0.7, 1.0], prediction=[1, 1, 1, 0]))
    np.testing.assert_allclose(table["any_non_desmoplastic"], [0.55, 0, 1])
    np.testing.assert_allclose(table["probability"], [0.7, 1, 0])
    assert list(table["prediction"]) == [1, 1, 0]
    assert list(table["unusual"]) == [1, 0, 0]
    assert list(table["typicality"]) == [0.005, 0.7, 1.0]
    other = patient_table(Target("sex", "binary", ("f", "m")), lesions.assign(prediction=1))
    assert "any_non_desmoplastic" not in other


def test_classes_and_numbers_of_patients_are_means() -> None:
    classes = Target("grade", "class", ("high", "low"))
    lesions = _lesions(["A", "A"], probability_high=[0.9, 0.3], probability_low=[0.1, 0.7], prediction=["high", "low"])
    (row,) = patient_table(classes, lesions).to_dict("records")
    assert (row["probability_high"], row["probability_low"], row["prediction"]) == (
        pytest.approx(0.6),
        pytest.approx(0.4),
        "high",
    )
    numbers = _lesions(["A", "A"], prediction=[10.0, 20.0])
    assert list(patient_table(Target("age", "number"), numbers)["prediction"]) == [15.0]


@pytest.mark.parametrize(
    ("target", "said", "columns", "prediction"),
    [
        (PURE, [[0.5], [0.49]], ["probability", "prediction"], [1, 0]),
        (
            Target("grade", "class", ("high", "low")),
            [[0.9, 0.1], [0.2, 0.8]],
            ["probability_high", "probability_low", "prediction"],
            ["high", "low"],
        ),
        (Target("age", "number"), [[50.0], [60.0]], ["prediction", "low", "high"], [50, 60]),
        (COMPOSITION, [[0.1, 0.4, 0.5, 0.0, 0.1], [0.95, 0.05, 0.0, 0.9, 1.0]], COMPOSED, None),
    ],
)
def test_columns_of_a_lesion(target: Target, said: Any, columns: list[str], prediction: Any) -> None:
    table = lesion_table(
        target,
        samples_of(centre=["N", "S"]),
        np.array(said),
        half_width=0.2,
        typicality=np.array([0.011, 0.01]),
        n_segmentations=np.array([1, 3]),
        n_training=500,
    )
    assert list(table) == ["level", "patient", "lesion", "centre", *columns, *COMMON]
    if prediction is not None:
        assert list(table["prediction"]) == prediction
    assert list(table["unusual"]) == [0, 1]
    if target.kind == "composition":
        np.testing.assert_allclose(table[["low", "high"]], [[0, 0.3], [0.75, 1]])
    if target.kind == "number":
        np.testing.assert_allclose(table[["low", "high"]], [[49.8, 50.2], [59.8, 60.2]])


def test_farther_off_than_all_of_a_few_training_lesions_is_unusual() -> None:
    table = lesion_table(
        PURE,
        samples_of(centre=["N", "S"]),
        np.array([[0.5], [0.5]]),
        half_width=np.nan,
        typicality=np.array([1 / 21, 2 / 21]),
        n_segmentations=np.array([1, 1]),
        n_training=20,
    )
    assert list(table["unusual"]) == [1, 0]


@pytest.fixture(scope="module")
def models(growth_cube: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return models of the cube, by target."""
    folder = tmp_path_factory.mktemp("models")
    for target in ("pure", "composition", "grade", "age"):
        fit(growth_cube, target, folder / target, model="elastic-net", features=["*firstorder*"], covariates=["sex"])
    return {target: folder / target for target in ("pure", "composition", "grade", "age")}


@pytest.mark.parametrize(
    ("target", "columns", "more"),
    [
        ("pure", ["probability", "prediction"], ["any_non_desmoplastic"]),
        ("composition", COMPOSED, ["any_non_desmoplastic", "mean_desmoplastic"]),
        ("grade", ["probability_high", "probability_low", "probability_mid", "prediction"], []),
        ("age", ["prediction", "low", "high"], []),
    ],
)
def test_a_row_a_lesion_then_a_row_a_patient(
    models: dict[str, Path], growth_cube: Path, growth: pd.DataFrame, target: str, columns: list[str], more: list[str]
) -> None:
    found = predict(models[target], growth_cube)
    table = found.table
    assert list(table) == ["level", "patient", "lesion", "centre", *columns, *COMMON, *more]
    assert list(table["level"]) == ["lesion"] * 90 + ["patient"] * 60
    assert list(table["lesion"][:90]) == list(growth["ID"])
    assert list(table["patient"][:90]) == list(growth["patient"])
    assert list(table["patient"][90:]) == list(dict.fromkeys(growth["patient"]))
    assert (found.missing, found.seen) == (
        (),
        int((growth["split"] == "train").sum()) if target != "pure" else found.seen,
    )


def test_blocks_of_lesions_give_the_same_table(
    models: dict[str, Path], growth_cube: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = predict(models["composition"], growth_cube)
    monkeypatch.setattr(predicting, "_LESIONS_AT_A_TIME", 7)
    done: list[tuple[int, int]] = []
    parts = predict(models["composition"], growth_cube, on_progress=lambda *numbers: done.append(numbers))
    pd.testing.assert_frame_equal(parts.table, whole.table, rtol=1e-12)
    assert done == [(min(k, 90), 90) for k in range(7, 97, 7)]


def test_raters_are_averaged(rated_cube: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit(rated_cube, "pure", tmp_path / "m", model="elastic-net", cutoff="50")
    table = predict(tmp_path / "m", rated_cube).table
    lesions = table[table["level"] == "lesion"]
    number = lesions["patient"].str[1:].astype(int)
    np.testing.assert_array_equal(lesions["n_segmentations"], np.where(number % 3 == 0, 3, 1))
    monkeypatch.setattr(predicting, "_LESIONS_AT_A_TIME", 4)
    pd.testing.assert_frame_equal(predict(tmp_path / "m", rated_cube).table, table, rtol=1e-12)


def test_lesions_without_features_are_listed(rated_cube: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit(rated_cube, "pure", tmp_path / "m", model="elastic-net", cutoff="50", everything=True)
    lost = {"secret100.0": "all", "secret103.1": "all"}
    new = rated(tmp_path / "new.zarr", patients=5, first=100, failed=lost, pending=["secret101.0"])
    monkeypatch.setattr(predicting, "_LESIONS_AT_A_TIME", 1)
    found = predict(tmp_path / "m", new)
    assert found.missing == ("secret100.0", "secret101.0", "secret103.1")
    assert list(found.table["lesion"].dropna()) == ["secret101.1", "secret102.0", "secret103.0", "secret104.0"]
    assert found.seen == 0
    none = rated(tmp_path / "none.zarr", patients=2, first=100, pending=["secret100.0", "secret101.0", "secret101.1"])
    with pytest.raises(CubeError, match=r"none.zarr: has no features of any lesion that the model could read"):
        predict(tmp_path / "m", none)


def test_a_file_is_kept_unless_told(models: dict[str, Path], growth_cube: Path, tmp_path: Path) -> None:
    found = predict(models["pure"], growth_cube)
    path = tmp_path / "new" / "table.csv"
    write_predictions(found, path)
    read = pd.read_csv(path)
    assert list(read) == list(found.table)
    np.testing.assert_allclose(read["probability"], found.table["probability"], rtol=1e-5)
    path.write_text("mine")
    with pytest.raises(LearnError, match=r"table.csv: is there already; use --overwrite"):
        write_predictions(found, path)
    assert path.read_text() == "mine"
    write_predictions(found, path, overwrite=True)
    pd.testing.assert_frame_equal(pd.read_csv(path), read)
    assert [p.name for p in path.parent.iterdir()] == ["table.csv"]


def test_a_strange_lesion_is_the_least_typical(models: dict[str, Path], tmp_path: Path) -> None:
    table = growth_table(20, seed=5)
    table["ID"] = "new" + table["ID"]
    numbers = [name for name in table if "firstorder" in str(name)]
    table.loc[3, numbers] = 80.0
    found = predict(models["pure"], cube_of(table, tmp_path)).table
    lesions = found[found["level"] == "lesion"]
    assert lesions["typicality"].idxmin() == 3
    # Farther off than all training lesions: one of those and itself.
    trained = len(Model.load(models["pure"]).lesions)
    assert lesions["typicality"].iloc[3] == pytest.approx(1 / (trained + 1))
