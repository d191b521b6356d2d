"""Rows of a cube as arrays: what is read, what is left out and counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from learn_cases import FEATURES, RATERS, rated

from hgpscale import open_cube
from hgpscale.errors import CubeError, LearnError
from hgpscale.learn.samples import Samples, chosen_features, lesion_weight

RIM = [f"rim__original_{name}" for name in FEATURES]
INSIDE = [f"original_{name}" for name in FEATURES]


def test_values_are_the_tables_own(growth_cube: Path, growth: pd.DataFrame) -> None:
    samples = Samples.of(open_cube(growth_cube))
    table = growth.set_index("ID").loc[samples.lesion]
    for name in (*INSIDE, *RIM):
        column = samples.values[:, samples.features.index(name)]
        np.testing.assert_array_equal(column, table[name.replace("rim__", "rim_")])
    np.testing.assert_array_equal(samples.patient, table["patient"])
    np.testing.assert_array_equal(samples.column("age"), table["age"])
    np.testing.assert_array_equal(samples.volume, table["original_shape_MeshVolume"])
    np.testing.assert_array_equal(samples.interface, table["original_shape_SurfaceArea"])
    assert (len(samples), samples.excluded) == (90, ())


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (["rim__*"], [*RIM, "rim__original_shape_MeshVolume", "rim__original_shape_SurfaceArea"]),
        (["rim__*_glcm_*"], RIM[2:]),
        (["*_glcm_Idm"], [INSIDE[3], RIM[3]]),
        (["original_glcm_Idm"], [INSIDE[3]]),
        ([RIM[3], INSIDE[0]], [INSIDE[0], RIM[3]]),
        ([RIM[3], "rim__*_Mean"], [RIM[0], RIM[3]]),
    ],
)
def test_patterns_choose_features(growth_cube: Path, patterns: list[str], names: list[str]) -> None:
    dataset = open_cube(growth_cube)
    samples = Samples.of(dataset, patterns)
    assert sorted(samples.features) == sorted(names)
    assert chosen_features(dataset, patterns) == samples.features
    whole = Samples.of(dataset)
    at = [whole.features.index(name) for name in samples.features]
    np.testing.assert_array_equal(samples.values, whole.values[:, at])


def test_a_pattern_that_matches_nothing_is_told(growth_cube: Path) -> None:
    with pytest.raises(CubeError, match=r"no feature matches 'core__\*'; names are such as original_"):
        Samples.of(open_cube(growth_cube), ["rim__*", "core__*"])


def test_an_unknown_column_is_told_with_those_that_are_there(growth_cube: Path) -> None:
    with pytest.raises(LearnError, match=r"no column 'grad' in the manifest behind the cube; it has .*grade"):
        Samples.of(open_cube(growth_cube)).column("grad")


def test_a_row_for_each_rater_and_the_lesion_counts_once(rated_cube: Path) -> None:
    samples = Samples.of(open_cube(rated_cube))
    patient = np.array([int(name[1:]) for name in samples.patient])
    assert set(samples.segmentation) == set(RATERS)
    several = np.isin(samples.segmentation, RATERS[1:])
    assert (patient[several] % 3 == 0).all()
    weight = lesion_weight(samples.lesion)
    np.testing.assert_allclose(weight, np.where(patient % 3 == 0, 1 / 3, 1.0))
    np.testing.assert_allclose(pd.Series(weight).groupby(samples.lesion).sum(), 1)


def test_lesions_without_features_are_left_out_and_counted(tmp_path: Path) -> None:
    path = rated(
        tmp_path / "c.zarr",
        patients=6,
        failed={"secret000.0": "all", "secret001.0": "shape"},
        pending=["secret001.1", "secret004.0"],
    )
    samples = Samples.of(open_cube(path))
    gone = {"secret000.0", "secret001.1", "secret004.0"}
    assert gone.isdisjoint(samples.lesion)
    assert len(set(samples.lesion)) == 9 - len(gone)
    assert samples.excluded == (("no features (failed or pending)", 3),)
    (row,) = np.flatnonzero(samples.lesion == "secret001.0")
    missing = np.isnan(samples.values[row])
    assert {name for name, is_missing in zip(samples.features, missing, strict=True) if is_missing} == {
        name for name in samples.features if "_shape_" in name
    }
    assert np.isnan(samples.volume[row])
    of_shape = Samples.of(open_cube(path), ["*_shape_*"])
    assert of_shape.excluded == (("no features (failed or pending)", 4),)
    assert set(of_shape.lesion) == set(samples.lesion) - {"secret001.0"}


def test_a_lesion_is_left_out_with_its_last_row_only(rated_cube: Path) -> None:
    samples = Samples.of(open_cube(rated_cube))
    without = samples.without(samples.segmentation != "PhD", "not PhD")
    assert set(without.segmentation) == {"PhD"}
    assert without.excluded == (("not PhD", 45 - len(without)),)
    again = samples.without(samples.segmentation == "PhD", "PhD")
    assert (len(set(again.lesion)), again.excluded) == (45, ())


def test_rows_are_taken_with_all_that_is_theirs(rated_cube: Path) -> None:
    samples = Samples.of(open_cube(rated_cube))
    some = samples.take([5, 0])
    assert list(some.lesion) == [samples.lesion[5], samples.lesion[0]]
    assert some.columns.iloc[0].equals(samples.columns.iloc[5])
    np.testing.assert_array_equal(some.values, samples.values[[5, 0]])
    np.testing.assert_array_equal(samples.take(np.arange(len(samples)) == 3).volume, samples.volume[[3]])


def test_a_batch_is_the_same_rows(rated_cube: Path) -> None:
    dataset = open_cube(rated_cube)
    whole = Samples.of(dataset)
    assert len(whole) == 75
    parts = [Samples.of_batch(*batch) for batch in dataset.hgp.batches(16, ["patient", "hgp_desmoplastic"])]
    assert max(map(len, parts)) == 16
    assert parts[0].features == whole.features
    for name in ("values", "lesion", "segmentation", "patient"):
        np.testing.assert_array_equal(np.concatenate([getattr(part, name) for part in parts]), getattr(whole, name))
    np.testing.assert_array_equal(
        np.concatenate([part.column("hgp_desmoplastic") for part in parts]), whole.column("hgp_desmoplastic")
    )
