"""The manifest and the predictions of what was found: read and extracted by hgpscale, rows worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from cohorts import manifest, selected
from found import answer, growth

from hgpscale import extract, open_cube
from hgpscale.cohort import Cohort, check_cohort, read_manifest
from hgpscale.deep.answers import ScanAnswer
from hgpscale.deep.masks import write_label_map
from hgpscale.deep.tables import GROWN, predictions, write_lesions, write_predictions
from hgpscale.errors import DeepError
from hgpscale.settings import Settings
from hgpscale.testing import Appearance, GrowthPattern, LesionModel, Scanner, liver_block
from hgpscale.testing.cohort import write_volume

SCANNER = Scanner(spacing=(2.0, 1.0, 1.0), noise=5.0, kernel=1.0)
BALLS = {"a": (6.0, 4.0), "b": (5.0,), "c": (), "d": (4.0,)}
"""Radii in mm of the lesions of each scan, 40 mm apart; scans a and d are of one patient."""
PATIENTS = {"a": "P/1", "b": "P-1", "c": "007", "d": "P/1"}
CASES = {"a": "P-1", "b": "P-1-2", "c": "007", "d": "P-1-3"}
GROWTHS = {"a": (growth(0.75, 0.25, pure=0.5, low=0.5, high=0.9, spread=0.1), growth(0.25, 0.25)), "b": (None,)}


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the scans, a mask of each scan's liver, and the manifest of drawn lesions that they come from."""
    folder = tmp_path_factory.mktemp("scans")
    rows: list[dict[str, Any]] = []
    for number, (scan, radii) in enumerate(BALLS.items()):
        lesions = [
            LesionModel((20.0, 20.0, 20.0 + 40 * i), (r, r, r), GrowthPattern(1, 0, 0), Appearance())
            for i, r in enumerate(radii)
        ]
        phantom = liver_block(lesions, SCANNER, (40.0, 40.0, 80.0), np.random.default_rng(number))
        write_volume(phantom.image, folder / f"{scan}.nii.gz")
        write_volume(phantom.labels, folder / f"{scan}_found.nii.gz")
        write_volume(replace(phantom.liver, array=np.ones_like(phantom.liver.array)), folder / f"{scan}_liver.nii.gz")
        rows.append(
            {
                "patient": PATIENTS[scan], "lesion": f"{scan}1", "image": f"{scan}.nii.gz",
                "mask": f"{scan}_found.nii.gz", "label": 1, "liver": f"{scan}_liver.nii.gz", "centre": "north",
                "split": "train", "hgp_desmoplastic": 100, "hgp_replacement": 0, "hgp_pushing": 0,
                "age": {"P-1": 61.5}.get(PATIENTS[scan], 70), "code": f"00{PATIENTS[scan][-1]}", "rank": number,
                "Volume": 3, "low": "x",
            }
        )  # fmt: skip
    manifest(folder / "cohort.csv", rows)
    return folder


@pytest.fixture(scope="module")
def cohort(scans: Path) -> Cohort:
    return read_manifest(scans / "cohort.csv")


@pytest.fixture(scope="module")
def answers(scans: Path) -> list[ScanAnswer]:
    from hgpscale.cohort import read_mask

    found = []
    for scan in BALLS:
        labels, _ = read_mask(scans / f"{scan}_found.nii.gz")
        growths = GROWTHS.get(scan, (growth(0.5, 0.5),) * len(BALLS[scan]))
        image = scans / f"{scan}.nii.gz"
        found.append(answer(PATIENTS[scan], CASES[scan], image, labels.array, labels.geometry, growths))
    return found


def unknown(cells: Any) -> bool:
    return all(pd.isna(cell) for cell in cells)


def written(folder: Path, answers: list[ScanAnswer], cohort: Cohort | None) -> Path:
    masks = {one.case: write_label_map(folder / "masks", one) for one in answers}
    write_lesions(folder / "lesions.csv", answers, masks, cohort)
    return folder / "lesions.csv"


def test_the_manifest_is_one(tmp_path: Path, answers: list[ScanAnswer], cohort: Cohort) -> None:
    path = written(tmp_path / "out", answers, cohort)
    found = read_manifest(path)
    assert check_cohort(found, Settings()) == []
    expected = {(a.patient, one.lesion): a.labels.array == one.number for a in answers for one in a.lesions}
    masks = selected(found, "deep")
    assert set(masks) == set(expected)
    for key, voxels in expected.items():
        np.testing.assert_array_equal(masks[key], voxels)
    columns = found.columns
    # Volume and low are this table's own, rank has two values of patient P/1, growth patterns are of drawn lesions.
    assert list(columns) == ["patient", "liver", "score", "volume", *GROWN, "centre", "split", "age", "code"]
    assert columns["score"].tolist() == [1 - 1 / 16, 1 - 2 / 16, 1 - 1 / 16, 1 - 1 / 16]
    volumes = [2.0 * int(voxels.sum()) for voxels in expected.values()]
    assert columns["volume"].tolist() == volumes
    assert list(columns.loc["P-1-found-1", list(GROWN)]) == [0.75, 0.25, 0, 0.5, 0.5, 0.5, 0.9, 0.1]
    assert unknown(columns.loc["P-1-2-found-1", list(GROWN)])
    assert columns["age"].tolist() == [70, 70, 61.5, 70]
    assert columns["code"].tolist() == ["001", "001", "001", "001"]
    livers = {row.liver.resolve() for row in found.rows if row.liver}
    assert livers == {row.liver.resolve() for row in cohort.rows if row.liver and row.lesion != "c1"}


def test_paths_are_relative_to_the_manifest(
    tmp_path: Path, answers: list[ScanAnswer], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    path = written(Path("out"), answers, None)
    table = pd.read_csv(path, dtype=str)
    assert table["mask"].unique().tolist() == ["masks/P-1.nii.gz", "masks/P-1-2.nii.gz", "masks/P-1-3.nii.gz"]
    assert list(table) == ["patient", "lesion", "image", "mask", "label", "segmentation", "score", "volume", *GROWN]
    assert [row.image for row in read_manifest(path).rows if not row.image.exists()] == []


def test_features_are_extracted_of_what_was_found(tmp_path: Path, answers: list[ScanAnswer], cohort: Cohort) -> None:
    path = written(tmp_path, answers, cohort)
    summary = extract(path, tmp_path / "cube.zarr", Settings(features={"shape": ["SurfaceArea"]}), workers=1)
    assert (summary.done, summary.failed) == (4, ())
    cube = open_cube(tmp_path / "cube.zarr")
    areas = cube["shape"].sel(shape_feature="SurfaceArea", segmentation="deep", region="lesion")
    table = predictions(answers).set_index("lesion")
    lesions = cube["lesion"].to_numpy().tolist()
    np.testing.assert_allclose(table.loc[lesions, "interface_area"], np.ravel(areas.to_numpy()), rtol=1e-12)
    assert cube["score"].to_numpy().tolist() == table.loc[lesions, "score"].tolist()


def test_rows_of_predictions_by_hand(answers: list[ScanAnswer], cohort: Cohort) -> None:
    table = predictions(answers, cohort)
    assert table["level"].tolist() == ["lesion"] * 4 + ["patient"] * 3
    lesions, patients = table.iloc[:4].set_index("lesion"), table.iloc[4:].set_index("patient")
    assert list(lesions.loc["P-1-found-1", list(GROWN)]) == [0.75, 0.25, 0, 0.5, 0.5, 0.5, 0.9, 0.1]
    assert unknown(lesions.loc["P-1-2-found-1", list(GROWN)])
    areas = lesions["interface_area"].astype(float)
    # A mesh of a ball of 6 mm has about its surface.
    assert areas["P-1-found-1"] == pytest.approx(4 * math.pi * 36, rel=0.15)
    own = areas[["P-1-found-1", "P-1-found-2", "P-1-3-found-1"]].to_numpy()
    row = patients.loc["P/1"]
    assert row["desmoplastic"] == pytest.approx(own @ [0.75, 0.25, 0.5] / own.sum())
    assert row["replacement"] == pytest.approx(own @ [0.25, 0.25, 0.5] / own.sum())
    assert row["any_non_desmoplastic"] == pytest.approx(1 - 0.5 * 0.25 * 0.25)
    assert row["mean_desmoplastic"] == pytest.approx(0.5)
    assert unknown(row[["p_pure_desmoplastic", "p_majority_desmoplastic", "low", "high", "spread"]])
    assert row["interface_area"] == pytest.approx(own.sum())
    assert (row["score"], row["centre"], row["n_segmentations"]) == (1 - 1 / 16, "north", 1)
    # Of P-1 the growth is not told, in 007 nothing was found: both have a row.
    assert unknown(patients.loc["P-1", [*GROWN, "any_non_desmoplastic", "mean_desmoplastic"]])
    assert patients.loc["P-1", "score"] == 1 - 1 / 16
    assert unknown(patients.loc["007"].drop(["level", "centre"]))


def test_the_network_s_own_answer_on_a_patient_is_its_row(answers: list[ScanAnswer]) -> None:
    own = growth(0.125, 0.75, pure=0.0625, low=0.0, high=0.3, spread=0.2)
    table = predictions([answers[0], replace(answers[3], growth=own)])
    row = table[table["level"] == "patient"].iloc[0]
    assert row[list(GROWN)].tolist() == [0.125, 0.75, 0.125, 0.0625, 0.5, 0.0, 0.3, 0.2]
    assert row["any_non_desmoplastic"] == 1 - 0.0625
    assert row["mean_desmoplastic"] == pytest.approx(0.5)
    assert "centre" not in table


def test_columns_are_those_of_learn(answers: list[ScanAnswer], cohort: Cohort, tmp_path: Path) -> None:
    from hgpscale.learn.predictions import lesion_table, patient_table
    from hgpscale.learn.samples import Samples
    from hgpscale.learn.targets import PARTS, Target

    n = np.ones(2)
    columns = pd.DataFrame({"centre": ["x", "y"]})
    names = np.array(["a", "b"], object)
    samples = Samples(np.ones((2, 1)), ("f",), names, names, names, columns, n, n)
    target = Target("composition", "composition", PARTS)
    table = lesion_table(
        target, samples, np.full((2, 5), 0.2), half_width=0.1, typicality=n, n_segmentations=np.ones(2, np.int64),
        n_training=9,
    )  # fmt: skip
    known = pd.concat([table, patient_table(target, table)])
    write_predictions(tmp_path / "predictions.csv", answers, cohort)
    ours = pd.read_csv(tmp_path / "predictions.csv", dtype={"patient": str})
    assert set(known) - set(ours) == {"unusual", "typicality"}
    assert set(ours) - set(known) == {"score", "spread"}
    assert [name for name in ours if name in known] == [name for name in known if name in ours]
    assert ours["patient"].tolist() == ["P/1", "P/1", "P-1", "P/1", "P/1", "P-1", "007"]
    pd.testing.assert_frame_equal(ours[list(GROWN)], predictions(answers)[list(GROWN)], rtol=1e-5)


def test_nothing_found_is_a_table_without_rows(tmp_path: Path, answers: list[ScanAnswer]) -> None:
    path = written(tmp_path, [answers[2]], None)
    assert len(path.read_text().splitlines()) == 1
    assert predictions([answers[2]])["level"].tolist() == ["patient"]
    assert predictions([]).empty


def test_what_cannot_be_told_apart_is_refused(tmp_path: Path, answers: list[ScanAnswer]) -> None:
    with pytest.raises(DeepError, match="lesions P-1-found-1, P-1-found-2 are there twice"):
        write_lesions(tmp_path / "x.csv", [answers[0], answers[0]], {"P-1": tmp_path})
    with pytest.raises(DeepError, match="cases P-1-2 have lesions and no mask"):
        write_lesions(tmp_path / "x.csv", answers[:2], {"P-1": tmp_path})
    empty = replace(answers[0], labels=replace(answers[0].labels, array=np.minimum(answers[0].labels.array, 1)))
    with pytest.raises(DeepError, match="no voxel of its label map is 2, which is lesion P-1-found-2"):
        predictions([empty])
