"""What is predicted: cut-offs, compositions and columns, worked by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from learn_cases import samples_of

from hgpscale.errors import LearnError
from hgpscale.learn.targets import Target, strata

NAN = float("nan")
D = [100, 0, 60, 50, 50.2, 99.9, NAN, 100, -10, 0]
R = [0, 100, 30, 50, 49.8, 0.1, 10, 20, 110, 0]
P = [0, 0, 10, 0, 0, 0, 90, 0, 0, 100]
GROWTH = samples_of(hgp_desmoplastic=D, hgp_replacement=R, hgp_pushing=P)
NO_GROWTH, NO_SUM = "no growth pattern", "growth patterns do not sum to 100 %"
MIXED = "mixed growth, and the target is pure lesions"


@pytest.mark.parametrize(
    ("cutoff", "expected"),
    [
        ("pure", [1, 0, NAN, NAN, NAN, NAN, NAN, NAN, NAN, 0]),
        ("100", [1, 0, 0, 0, 0, 0, NAN, NAN, NAN, 0]),
        ("50", [1, 0, 1, 0, 1, 1, NAN, NAN, NAN, 0]),
    ],
)
def test_pure(cutoff: Any, expected: list[float]) -> None:
    target = Target.of("pure", GROWTH, cutoff=cutoff)
    values, reasons = target.values(GROWTH)
    np.testing.assert_array_equal(values, expected)
    between = MIXED if cutoff == "pure" else ""
    assert list(reasons) == ["", "", *[between] * 4, NO_GROWTH, NO_SUM, NO_SUM, ""]
    assert (target.kind, target.classes[1]) == ("binary", "desmoplastic")
    assert target.positive.startswith("desmoplastic")


@pytest.mark.parametrize("name", ["composition", "multitask"])
def test_composition_is_d_r_p_with_sum_one(name: str) -> None:
    target = Target.of(name, GROWTH)
    values, reasons = target.values(GROWTH)
    known = reasons == ""
    np.testing.assert_array_equal(np.flatnonzero(~known), [6, 7, 8])
    np.testing.assert_allclose(values[2], [0.6, 0.3, 0.1])
    np.testing.assert_array_equal(values[[0, 1, 9]], np.eye(3))
    np.testing.assert_allclose(values[known].sum(axis=1), 1, rtol=1e-15)
    assert np.isnan(values[~known]).all()
    assert (target.kind, target.classes) == ("composition", ("desmoplastic", "replacement", "pushing"))
    assert target.is_multitask == (name == "multitask")
    np.testing.assert_array_equal(strata(target, values[known]), [2, 0, 1, 1, 1, 1, 0])


def test_sums_near_100_are_divided_by_and_others_are_refused() -> None:
    d, total = [33.3, 33.4, 40.0, 100.4], [99.9, 100.2, 100.6, 100.4]
    samples = samples_of(
        hgp_desmoplastic=d, hgp_replacement=[t - x for x, t in zip(d, total, strict=True)], hgp_pushing=[0.0] * 4
    )
    values, reasons = Target.of("composition", samples).values(samples)
    np.testing.assert_allclose(values[[0, 1, 3], 0], [33.3 / 99.9, 33.4 / 100.2, 1])
    assert list(reasons) == ["", "", NO_SUM, ""]
    pure, _ = Target.of("pure", samples).values(samples)
    assert pure[3] == 1


def test_pure_needs_the_desmoplastic_part_alone() -> None:
    samples = samples_of(hgp_desmoplastic=[100, 0, 20, NAN, 130])
    values, reasons = Target.of("pure", samples).values(samples)
    np.testing.assert_array_equal(values, [1, 0, NAN, NAN, NAN])
    assert list(reasons) == ["", "", MIXED, NO_GROWTH, NO_SUM]
    with pytest.raises(LearnError, match="no column 'hgp_replacement' in the manifest behind the cube; it has hgp_des"):
        Target.of("composition", samples)


@pytest.mark.parametrize("name", ["pure", "composition", "multitask", "grade"])
def test_a_missing_column_is_told(name: str) -> None:
    with pytest.raises(LearnError, match=r"no column '.*' in the manifest behind the cube; it has sex, age"):
        Target.of(name, samples_of(sex=["f"], age=[1]))


@pytest.mark.parametrize(
    ("column", "kind", "classes", "expected"),
    [
        (["f", "m", "", "f"], "binary", ("f", "m"), [0, 1, NAN, 0]),
        ([1, 0, 0, 1], "binary", ("0", "1"), [1, 0, 0, 1]),
        ([1.0, 10.0, NAN, 2.0], "number", (), [1, 10, NAN, 2]),
        ([2.0, 10.0, NAN, 2.0], "binary", ("2", "10"), [0, 1, NAN, 0]),
        (["10", "9", "9", " "], "binary", ("9", "10"), [1, 0, 0, NAN]),
        ([True, False, True, True], "binary", ("False", "True"), [1, 0, 1, 1]),
        (["b", "a", None, "c "], "class", ("a", "b", "c"), [1, 0, NAN, 2]),
    ],
)
def test_the_kind_follows_from_the_values(column: Any, kind: str, classes: Any, expected: Any) -> None:
    samples = samples_of(x=column)
    target = Target.of("x", samples)
    values, reasons = target.values(samples)
    assert (target.kind, target.classes) == (kind, classes)
    np.testing.assert_array_equal(values, expected)
    assert list(reasons) == ["no x" if value != value else "" for value in expected]
    assert target.positive == (f"x is {classes[1]}" if kind == "binary" else "")


@pytest.mark.parametrize(
    ("column", "positive", "classes", "expected"),
    [
        (["f", "m", "m"], "f", ("m", "f"), [1, 0, 0]),
        (["a", "b", "c"], "b", ("not b", "b"), [0, 1, 0]),
        ([1.0, 2.0, 3.0], "3", ("not 3", "3"), [0, 0, 1]),
    ],
)
def test_positive(column: Any, positive: str, classes: Any, expected: Any) -> None:
    samples = samples_of(x=column)
    target = Target.of("x", samples, positive=positive)
    assert (target.kind, target.classes) == ("binary", classes)
    np.testing.assert_array_equal(target.values(samples)[0], expected)


@pytest.mark.parametrize(
    ("column", "positive", "message"),
    [
        (["a", "a", ""], None, "target 'x': expected two different values, found a"),
        (["", None, " "], None, "target 'x': expected two different values, found none"),
        (["a", "b", "c"], "d", "target 'x': no lesion is 'd'; there are a, b, c"),
        ([f"t{i}" for i in range(21)], None, "target 'x': expected at most 20 classes, found 21 texts"),
    ],
)
def test_errors_name_what_is_there(column: Any, positive: str | None, message: str) -> None:
    with pytest.raises(LearnError, match=f"^{message}$"):
        Target.of("x", samples_of(x=column), positive=positive)


def test_a_value_that_the_target_does_not_know_is_no_label() -> None:
    new = samples_of(x=["f", "m", "x", ""])
    for column, expected in ((["f", "m"], [0, 1, NAN, NAN]), (["f", "m", "k"], [0, 2, NAN, NAN])):
        target = Target.of("x", samples_of(x=column))
        values, reasons = target.values(new)
        np.testing.assert_array_equal(values, expected)
        assert list(reasons) == ["", "", "x is none of the model's classes", "no x"]
    rest = Target.of("x", samples_of(x=["f", "m", "k"]), positive="m")
    np.testing.assert_array_equal(rest.values(new)[0], [0, 1, 0, NAN])


def test_strata_of_numbers_are_thirds() -> None:
    target = Target("age", "number")
    found = strata(target, np.array([6.0, 1, 2, 3, 4, 5, 7, 8, 9]))
    assert [list(found).count(k) for k in range(3)] == [3, 3, 3]
    np.testing.assert_array_equal(strata(Target("x", "class", ("a", "b", "c")), np.array([2.0, 0, 1])), [2, 0, 1])
