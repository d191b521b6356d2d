"""Splits: patients on one side, strata shared out, fixed ones in WORC's layout; each promise over arbitrary cohorts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hgpscale.errors import LearnError
from hgpscale.learn.splits import (
    Split,
    centre_splits,
    external_split,
    grouped_folds,
    read_splits,
    repeated_splits,
    write_splits,
)

Cohort = tuple[NDArray[np.str_], NDArray[np.int64]]


@st.composite
def cohorts(draw: st.DrawFn) -> Cohort:
    """Draw rows of two to thirty patients, in any order, and their strata."""
    n = draw(st.integers(2, 30))
    rows = [*range(n), *draw(st.lists(st.integers(0, n - 1), max_size=40))]
    order = draw(st.permutations(rows))
    strata = draw(st.lists(st.integers(-1, 3), min_size=len(order), max_size=len(order)))
    return np.array([f"p{k}" for k in order]), np.array(strata)


def majority(patient: NDArray[np.str_], strata: NDArray[np.int64]) -> dict[str, int]:
    """Return the stratum of each patient, by counting."""
    found = {}
    for name in sorted(set(patient)):
        mine = sorted(strata[patient == name].tolist())
        found[str(name)] = max(mine, key=lambda level: (mine.count(level), -level))
    return found


@settings(max_examples=50)
@given(cohorts(), st.integers(0, 5))
def test_repeated_splits_share_out_every_stratum(cohort: Cohort, seed: int) -> None:
    patient, strata = cohort
    splits = repeated_splits(patient, strata, count=3, seed=seed)
    assert splits == repeated_splits(patient, strata, count=3, seed=seed)
    assert splits[:2] == repeated_splits(patient, strata, count=2, seed=seed)
    assert [split.name for split in splits] == ["0", "1", "2"]
    level = majority(patient, strata)
    for split in splits:
        train, test = set(patient[split.train]), set(patient[split.test])
        assert not train & test
        assert len(split.train) + len(split.test) == len(patient)
        for k in set(level.values()):
            mine = {name for name in level if level[name] == k}
            if len(mine) > 1:
                assert mine & train
                assert mine & test
                assert abs(len(mine & test) - 0.2 * len(mine)) <= 1


def test_a_fifth_of_patients_is_tested_not_of_rows() -> None:
    patient = np.repeat([f"p{k}" for k in range(100)], np.arange(100) % 4 + 1)
    strata = (np.unique(patient, return_inverse=True)[1] % 10 < 3).astype(int)
    for split in repeated_splits(patient, strata, count=20):
        tested = np.unique(patient[split.test], return_index=True)[1]
        assert len(tested) == 20
        assert strata[split.test][tested].sum() == 6
    assert len({split.test.tobytes() for split in repeated_splits(patient, strata, count=20)}) == 20


def test_repeated_splits_do_not_depend_on_the_order_of_rows() -> None:
    patient = np.array([f"p{k % 17}" for k in range(40)])
    strata = np.arange(40) % 17 % 3
    order = np.random.default_rng(3).permutation(40)
    for a, b in zip(
        repeated_splits(patient, strata, count=5),
        repeated_splits(patient[order], strata[order], count=5),
        strict=True,
    ):
        assert set(patient[a.test]) == set(patient[order][b.test])


def test_patients_alone_in_their_strata_are_tested_too() -> None:
    patient = np.array([f"p{k}" for k in range(10)])
    strata = np.array([0] * 6 + [1, 2, 3, 4])
    tested = {name for split in repeated_splits(patient, strata, count=40) for name in patient[split.test]}
    assert tested == set(patient)


@settings(max_examples=50)
@given(cohorts(), st.integers(2, 6))
def test_each_row_is_in_one_test_fold(cohort: Cohort, n_folds: int) -> None:
    patient, strata = cohort
    folds = grouped_folds(patient, strata, n_folds=n_folds, seed=1)
    assert folds == grouped_folds(patient, strata, n_folds=n_folds, seed=1)
    assert 2 <= len(folds) <= n_folds
    assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(len(patient)))
    level = majority(patient, strata)
    for fold in folds:
        assert not set(patient[fold.train]) & set(patient[fold.test])
        assert len(fold.train) + len(fold.test) == len(patient)
        for k in set(level.values()):
            mine = [name for name in level if level[name] == k]
            tested = set(mine) & set(patient[fold.test])
            if len(mine) > 1:
                assert len(mine) // len(folds) <= len(tested) <= -(-len(mine) // len(folds))


def test_folds_are_fewer_where_a_stratum_has_fewer_patients() -> None:
    patient = np.array([f"p{k}" for k in range(20)])
    assert len(grouped_folds(patient, np.arange(20) < 3, n_folds=5)) == 3
    assert len(grouped_folds(patient, None, n_folds=5)) == 5


def test_external_split() -> None:
    split = external_split(["a", "a", "b", "c", "d"], np.array(["train", "train", "external", None, "train"]))
    assert split == Split("external", np.array([0, 1, 4]), np.array([2]))


def test_centres_are_left_out_one_by_one() -> None:
    patient, centre = ["a", "a", "b", "c", "d", "d"], ["R", "R", "L", "L", "A", "A"]
    splits = centre_splits(patient, centre)
    assert [(split.name, split.test.tolist()) for split in splits] == [("A", [4, 5]), ("L", [2, 3]), ("R", [0, 1])]
    assert splits[0].train.tolist() == [0, 1, 2, 3]
    assert [split.name for split in centre_splits(["a", "b", "c"], ["R", "R", "L"], min_test=2)] == ["R"]


def test_worcs_layout_is_read(tmp_path: Path) -> None:
    """As pandas writes it: an index without a name, shorter columns filled up."""
    path = tmp_path / "splits.csv"
    path.write_text(",0_train,0_test,1_train,1_test\n0,A,C,B,A\n1,B,,C,\n2,,,,\n")
    first, second = read_splits(path, ["A", "A", "B", "C", "D"])
    assert first == Split("0", np.array([0, 1, 2]), np.array([3]))
    assert second == Split("1", np.array([2, 3]), np.array([0, 1]))
    path.write_text("0_train,0_test\nA,C\nB,\n")
    assert read_splits(path, ["A", "A", "B", "C", "D"]) == [first]


@settings(max_examples=25)
@given(cohorts())
def test_written_splits_come_back(tmp_path_factory: pytest.TempPathFactory, cohort: Cohort) -> None:
    path = tmp_path_factory.mktemp("splits") / "splits.csv"
    patient, strata = cohort
    splits = repeated_splits(patient, strata, count=2)
    write_splits(path, splits, patient)
    assert read_splits(path, patient) == splits


def test_ids_with_commas_quotes_and_spaces_come_back(tmp_path: Path) -> None:
    patient = ['a,"b"', "c d ", "1"]
    split = Split("one_way", np.array([0, 2]), np.array([1]))
    write_splits(tmp_path / "s.csv", [split], patient)
    assert read_splits(tmp_path / "s.csv", patient) == [split]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column of a split"),
        (",0_train\n0,A\n", "'0_test' is missing"),
        (",0_test\n0,A\n", "'0_train' is missing"),
        (",0_train,0_tset\n0,A,B\n", "column '0_tset' is unknown"),
        (",0_train,0_test,0_test\n0,A,B,B\n", "column '0_test' is there twice"),
        (",0_train,0_test\n0,A,X\n1,Y,Z\n2,W,\n", r"4 patients \(W, X, Y, ...\) are not in the cohort.*like A, B"),
        (",0_train,0_test\n0,A,B\n1,B,\n", "split 0: patient B is on both sides"),
        (",0_train,0_test\n0,A,\n", "split 0: no lesion is on the test side"),
    ],
)
def test_a_file_that_is_wrong_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "splits.csv"
    path.write_text(text)
    with pytest.raises(LearnError, match=f"splits.csv: .*{message}"):
        read_splits(path, ["A", "B"])


def test_files_that_cannot_be_used_are_told(tmp_path: Path) -> None:
    with pytest.raises(LearnError, match=r"s\.csv: the file is missing"):
        read_splits(tmp_path / "s.csv", ["A"])
    with pytest.raises(LearnError, match="cannot be read"):
        read_splits(tmp_path, ["A"])
    split = Split("0", np.array([0]), np.array([1]))
    with pytest.raises(LearnError, match="cannot be written"):
        write_splits(tmp_path / "none" / "s.csv", [split], ["A", "B"])
    with pytest.raises(LearnError, match="different names"):
        write_splits(tmp_path / "s.csv", [split, split], ["A", "B"])
    with pytest.raises(LearnError, match="divides rows of a patient"):
        write_splits(tmp_path / "s.csv", [split], ["A", "B", "B"])


def test_splits_that_cannot_be_made_are_refused() -> None:
    two, four = ["a", "b"], ["a", "b", "c", "d"]
    with pytest.raises(LearnError, match="two patients or more, not 1"):
        repeated_splits(["a", "a"], None)
    with pytest.raises(LearnError, match="two patients or more, not 1"):
        grouped_folds(["a", "a"], [0, 1])
    with pytest.raises(LearnError, match="2 rows have a patient, 3 a stratum"):
        repeated_splits(two, [0, 1, 2])
    with pytest.raises(LearnError, match="test_fraction is 1"):
        repeated_splits(two, None, test_fraction=1)
    with pytest.raises(LearnError, match="count is 0"):
        repeated_splits(two, None, count=0)
    with pytest.raises(LearnError, match="n_folds is 1"):
        grouped_folds(two, None, n_folds=1)
    with pytest.raises(LearnError, match="marks no lesion as external"):
        external_split(two, ["train", "train"])
    with pytest.raises(LearnError, match="marks no lesion as train"):
        external_split(two, ["external", ""])
    with pytest.raises(LearnError, match="holds 'test'"):
        external_split(two, ["train", "test"])
    with pytest.raises(LearnError, match="split external: patient a is on both sides"):
        external_split(["a", "a"], ["train", "external"])
    with pytest.raises(LearnError, match="all lesions are of centre R"):
        centre_splits(two, ["R", "R"])
    with pytest.raises(LearnError, match=r"patient a \(L, R\) is in several centres"):
        centre_splits(["a", "a", "b"], ["L", "R", "R"])
    with pytest.raises(LearnError, match="1 of 2 rows have no centre"):
        centre_splits(two, np.array(["R", np.nan], dtype=object))
    with pytest.raises(LearnError, match="no centre has 3 rows"):
        centre_splits(four, ["R", "R", "L", "L"], min_test=3)
    with pytest.raises(LearnError, match="on the test side twice"):
        Split("0", np.array([0]), np.array([1, 1]))
    with pytest.raises(LearnError, match="a lesion is on both sides"):
        Split("0", np.array([0]), np.array([0]))
