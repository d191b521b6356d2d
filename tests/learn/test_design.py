"""How lesions are laid out for a model, worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from learn_cases import samples_of

from hgpscale.errors import LearnError
from hgpscale.learn.design import Design
from hgpscale.learn.workflows import Layout

NAN = float("nan")
TRAIN = samples_of(
    [[1, 2], [3, NAN], [5, 6]], ("a", "b"), age=[50.0, NAN, 70], sex=["m", "f", ""], centre=["N", "S", "S"]
)


def test_features_then_covariates_then_the_centre() -> None:
    design = Design.of(TRAIN, ("age", "sex"), "combat")
    np.testing.assert_array_equal(
        design.matrix(TRAIN), [[1, 2, 50, 0, 1, 0], [3, NAN, NAN, 1, 0, 1], [5, 6, 70, 0, 0, 1]]
    )
    assert list(design.names) == ["a", "b", "age", "sex=f", "sex=m", "centre"]
    assert design.layout == Layout(2, 3, "combat")
    assert Design.of(TRAIN).layout == Layout(2)
    np.testing.assert_array_equal(Design.of(TRAIN).matrix(TRAIN), TRAIN.values)


def test_other_lesions_in_the_same_columns() -> None:
    design = Design.of(TRAIN, ("age", "sex"), "combat")
    new = samples_of([[9, 20, 10], [9, 40, 30]], ("c", "b", "a"), sex=["x", "f"], centre=["new", "N"], age=[1.0, 2.0])
    # A level that is not known is none of them, a centre that is not known is -1.
    np.testing.assert_array_equal(design.matrix(new), [[10, 20, 1, 0, 0, -1], [30, 40, 2, 1, 0, 0]])
    elsewhere = samples_of([[1, 2]], ("a", "b"), sex=["m"], age=[1.0])
    np.testing.assert_array_equal(design.matrix(elsewhere), [[1, 2, 1, 0, 1, NAN]])
    unknown = samples_of([[1, 2], [3, 4]], ("a", "b"), sex=["m", "f"], age=[1.0, 2.0], centre=[None, " "])
    assert np.isnan(design.matrix(unknown)[:, -1]).all()


@pytest.mark.parametrize("column", [[None, None], ["f", "f"], ["", ""], ["f", None]])
def test_a_covariate_that_is_alike_has_one_column(column: list[str | None]) -> None:
    samples = samples_of(sex=column)
    design = Design.of(samples, ("sex",))
    assert design.matrix(samples).shape == (2, design.layout.n_features + design.layout.n_covariates)
    assert len(design.names) == 2


def test_missing_features_are_told() -> None:
    with pytest.raises(LearnError, match="the model needs 1 features that the cube does not have, such as b; extract"):
        Design.of(TRAIN).matrix(samples_of([[1.0]], ("a",), sex=["f"]))


def test_missing_columns_are_told() -> None:
    new = samples_of([[1, 2]], ("a", "b"), centre=["N"])
    with pytest.raises(LearnError, match="no column 'sex' in the manifest behind the cube; it has centre"):
        Design.of(TRAIN, ("sex",)).matrix(new)
    with pytest.raises(LearnError, match="no column 'ses'"):
        Design.of(TRAIN, ("ses",))


def test_too_many_levels_are_told() -> None:
    samples = samples_of(name=[f"n{i}" for i in range(11)])
    with pytest.raises(LearnError, match="covariate 'name': expected numbers or at most 10 texts, found 11"):
        Design.of(samples, ("name",))


@pytest.mark.parametrize("centres", [["N", "N"], ["N", None], ["N", ""]])
def test_harmonisation_takes_two_centres(centres: list[str]) -> None:
    with pytest.raises(LearnError, match="harmonisation takes two centres or more, found N"):
        Design.of(samples_of(centre=centres), (), "combat")
    with pytest.raises(LearnError, match="no column 'centre'"):
        Design.of(samples_of(sex=["f", "m"]), (), "combat")
