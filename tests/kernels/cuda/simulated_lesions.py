"""Whole lesions on a GPU against the CPU. Run by `test_simulator.py` in a process that has numba's simulator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import ROUGH, image_types, phantoms, plane_settings, preparation_settings

from hgpscale import lesion
from hgpscale.errors import HgpscaleError
from hgpscale.features import on_gpu
from hgpscale.kernels.cuda.statistics import Extremes, extremes_of
from hgpscale.lesion import Failures, Values, compute_lesion, takes_gpu
from hgpscale.settings import Settings
from hgpscale.single import cut_lesion

Phantom = tuple[sitk.Image, sitk.Image]


def computed(phantom: Phantom, parameters: dict[str, Any], device: str) -> tuple[Values, Failures] | str:
    chosen = Settings.from_parameters(parameters).model_copy(update={"device": device})
    try:
        return compute_lesion(cut_lesion(*phantom, 1, chosen), chosen)
    except HgpscaleError as error:
        return f"{type(error).__name__}: {error}"


def assert_same(phantom: Phantom, parameters: dict[str, Any]) -> None:
    ours, theirs = (computed(phantom, parameters, device) for device in ("gpu", "cpu"))
    if isinstance(theirs, str):
        assert ours == theirs
        return
    assert not isinstance(ours, str), ours
    assert ours[1] == theirs[1]
    assert ours[0].keys() == theirs[0].keys()
    for key, row in theirs[0].items():
        np.testing.assert_array_equal(ours[0][key], row, err_msg=str(key))


@settings(max_examples=3, deadline=None)
@given(
    phantoms(shortest=4, textures=ROUGH),
    preparation_settings(),
    plane_settings(),
    image_types("Original", "Wavelet", "LoG", "Square", "Exponential", "Gradient", "LBP2D"),
)
def test_lesions_are_the_cpu_s(
    phantom: Phantom, preparation: dict[str, Any], planes: dict[str, Any], types: dict[str, Any]
) -> None:
    assert_same(phantom, {"setting": {**preparation, **planes}, "imageType": types})


BALL = sitk.GetImageFromArray(np.random.default_rng(4).integers(-40, 160, (9, 10, 11)).astype(np.int16))
MASK = sitk.GetImageFromArray(np.pad(np.ones((4, 5, 6), np.uint8), [(2, 3), (2, 3), (2, 3)]))


def test_regions_around_a_lesion() -> None:
    assert_same((BALL, MASK), {"setting": {"regions": {"lesion": None, "rim": 1, "margin": 2}}})


def test_images_that_do_not_fit_together_go_through_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def counted(values: Any) -> Extremes:
        made.append(len(values))
        return extremes_of(values)

    monkeypatch.setattr(on_gpu, "free_bytes", lambda: 135_000.0)
    monkeypatch.setattr(on_gpu, "extremes_of", counted)
    wanted = {"imageType": {"Wavelet": {}}, "featureClass": {"gldm": None, "glcm": None}, "setting": {"binWidth": 50}}
    assert_same((BALL, MASK), wanted)
    assert len(made) == 2
    assert sum(made) == 8


def test_a_lesion_that_the_gpu_cannot_hold_is_the_cpu_s(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = Settings(device="gpu")
    cut = cut_lesion(BALL, MASK, 1, chosen)
    monkeypatch.setattr(on_gpu, "free_bytes", lambda: 1000.0)
    with pytest.warns(
        UserWarning, match=r"region of 120 voxels needs about .* 1000 bytes are free: computed on the CPU"
    ):
        values, failures = compute_lesion(cut, chosen)
    expected, _ = compute_lesion(cut, Settings())
    assert not failures
    for key, row in expected.items():
        np.testing.assert_array_equal(values[key], row)


@given(st.sampled_from([1, 100]))
def test_auto_takes_the_gpu_for_what_is_worth_it(scale: int) -> None:
    chosen = Settings(device="auto")
    cut = cut_lesion(BALL, MASK, 1, chosen)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lesion, "resolve", lambda device: {"auto": "gpu"}[device])
        patch.setattr(lesion, "_WORTH_A_GPU", 120 * scale)
        assert takes_gpu(cut, chosen) == (scale == 1)
        patch.setattr(lesion, "resolve", lambda device: "cpu")
        assert not takes_gpu(cut, chosen)
