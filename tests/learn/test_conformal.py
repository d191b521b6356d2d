"""Conformal half widths: the plain quantile where it is one, and what is promised of new patients."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hgpscale.learn.conformal import half_width


@settings(max_examples=40)
@given(st.lists(st.floats(0, 100), min_size=1, max_size=60), st.sampled_from([0.5, 0.8, 0.9, 0.95]))
def test_one_lesion_a_patient_is_split_conformal_prediction(errors: list[float], coverage: float) -> None:
    n = len(errors)
    rank = math.ceil(round((n + 1) * coverage, 9))
    expected = sorted(errors)[rank - 1] if rank <= n else math.inf
    assert half_width(np.array(errors), np.arange(n), coverage) == expected


@pytest.mark.parametrize(("patients", "coverage"), [(8, 0.9), (18, 0.95), (1, 0.6)])
def test_too_few_patients_make_it_infinite_however_many_lesions(patients: int, coverage: float) -> None:
    whose = np.repeat(np.arange(patients), 50)
    error = np.random.default_rng(0).random(len(whose))
    assert half_width(error, whose, coverage) == math.inf
    whose = np.repeat(np.arange(patients + 1), 50)
    assert half_width(np.arange(len(whose)) / 7, whose, coverage) < math.inf


def test_each_patient_weighs_one_by_hand() -> None:
    # Weights 1 for a, 1/4 for b's lesions, 1 for c; 0.5 of 4 patients is 2: a, then all four of b.
    error = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    whose = np.array(["a", "b", "b", "b", "b", "c"])
    assert half_width(error, whose, 0.5) == 5
    # 0.4 of 4 is 1.6: a and three of b (1.75).
    assert half_width(error, whose, 0.4) == 4
    assert half_width(error, whose, 0.75) == 6


@settings(max_examples=25)
@given(st.lists(st.tuples(st.floats(0, 10), st.integers(0, 5)), min_size=3, max_size=40))
def test_order_and_names_do_not_matter_and_more_coverage_is_no_narrower(
    lesions: list[tuple[float, int]],
) -> None:
    error, whose = (np.array(column) for column in zip(*lesions, strict=True))
    order = np.random.default_rng(0).permutation(len(error))
    width = half_width(error, whose, 0.7)
    assert half_width(error[order], np.array([f"p{9 - i}" for i in whose])[order], 0.7) == width
    assert half_width(error, whose, 0.8) >= width


@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_a_lesion_of_a_new_patient_lies_within_as_often_as_promised(coverage: float) -> None:
    random = np.random.default_rng(1)
    patients, runs, hits = 29, 1000, 0.0
    for _ in range(runs):
        # Patients with many lesions are harder: pooling lesions would not cover an average patient right.
        sizes = random.integers(1, 9, patients + 1)
        whose = np.repeat(np.arange(patients + 1), sizes)
        level = np.exp(random.normal(size=patients + 1)) * sizes
        error = np.abs(level[whose] * random.normal(size=len(whose)))
        width = half_width(error[whose < patients], whose[whose < patients], coverage)
        hits += (error[whose == patients] <= width).mean()
    noise = 3 * math.sqrt(coverage * (1 - coverage) / runs)
    assert coverage - noise <= hits / runs <= coverage + 1.5 / (patients + 1) + noise
