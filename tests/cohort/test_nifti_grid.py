"""Grids of NIfTI files: bit by bit those that SimpleITK reads."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from cohort_files import nifti_bytes, write
from hypothesis import assume, event, example, given, settings
from hypothesis import strategies as st

from hgpscale.cohort.headers import inspect
from hgpscale.cohort.itk import read_geometry
from hgpscale.volume import Geometry

STEPS = st.tuples(*[st.one_of(st.floats(0.25, 6.0, width=32), st.sampled_from([0.78125, 1.0, 2.5]))] * 3)
POINTS = st.tuples(*[st.floats(-900.0, 900.0, width=32)] * 3)
# Straight, flipped, half turns (where a 32-bit quaternion is at its worst) and next to them, and oblique.
ANGLES = st.sampled_from([0.0, 1e-6, 1e-4, 0.3, np.pi / 2, 2.0, np.pi - 1e-4, np.pi])
AXES = st.sampled_from([(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, -1, 1), (1, 2, 3), (-0.1, 5, 0.3)])
CODES = st.tuples(st.integers(0, 4), st.integers(0, 4))


def simpleitk_geometry(path: Path) -> Geometry:
    reader = sitk.ImageFileReader()
    reader.SetImageIO("NiftiImageIO")
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    return Geometry.of(reader)


def same_bits(found: Geometry | None, expected: Geometry) -> bool:
    # repr tells -0 from 0, and every double from its neighbour
    return repr(found) == repr(expected)


def forms(
    steps: tuple[float, ...], point: tuple[float, ...], axis: tuple[float, ...], angle: float, qfac: float
) -> dict[str, Any]:
    """Return the fields of a qform and of the sform that says the same."""
    turn = sitk.VersorTransform(axis, angle)
    axes = np.reshape(turn.GetMatrix(), (3, 3)) * (1, 1, -1 if qfac < 0 else 1)
    x, y, z, w = turn.GetVersor()
    return {
        "pixdim": (qfac, *steps, 0, 0, 0, 0),
        "quaternion": (x, y, z) if w >= 0 else (-x, -y, -z),
        "offset": point,
        "srow": tuple(np.column_stack([axes * steps, point]).ravel()),
    }


@settings(max_examples=300)
@given(steps=STEPS, point=POINTS, axis=AXES, angle=ANGLES, qfac=st.sampled_from([-1.0, 0.0, 1.0]), codes=CODES)
def test_grid_is_simpleitks_bit_by_bit(
    tmp_path_factory: pytest.TempPathFactory,
    steps: tuple[float, ...],
    point: tuple[float, ...],
    axis: tuple[float, ...],
    angle: float,
    qfac: float,
    codes: tuple[int, int],
) -> None:
    content = nifti_bytes(codes=codes, **forms(steps, point, axis, angle, qfac))
    path = write(tmp_path_factory.mktemp("grid"), "image.nii", content)
    found = inspect(path)
    assume(not found.problems)
    expected = simpleitk_geometry(path)
    event("left to SimpleITK" if found.geometry is None else "parsed here")
    assert (found.geometry is None) == (codes[0] > 0 and codes[1] > 1)
    assert found.geometry is None or same_bits(found.geometry, expected)
    assert same_bits(read_geometry(found), expected)


@settings(max_examples=200)
@given(
    quaternion=st.tuples(*[st.floats(-0.5625, 0.5625, width=32)] * 3), steps=STEPS, qfac=st.sampled_from([-1.0, 1.0])
)
@example((0.0, 0.0, 0.2979068160057068), (1.0, 3.218787670135498, 2.0), 1.0)  # differs with 64-bit products
@example((1.0, 0.0, 0.0), (1.0, 2.0, 3.0), 1.0)
@example((0.7071068, 0.7071068, 0.0), (1.0, 2.0, 3.0), -1.0)
def test_any_quaternion_is_simpleitks(
    tmp_path_factory: pytest.TempPathFactory,
    quaternion: tuple[float, ...],
    steps: tuple[float, ...],
    qfac: float,
) -> None:
    content = nifti_bytes(pixdim=(qfac, *steps, 0, 0, 0, 0), quaternion=quaternion, offset=(0.1, -7.3, 1e4))
    path = write(tmp_path_factory.mktemp("grid"), "image.nii.gz", content)
    assert same_bits(inspect(path).geometry, simpleitk_geometry(path))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("codes", [(0, 0), (1, 0), (0, 1), (0, 3), (1, 1), (4, 1), (-1, 2)])
def test_every_choice_of_forms(tmp_path: Path, codes: tuple[int, int], order: str) -> None:
    fields = forms((0.7, 1.3, 2.9), (-11.3, 4.7, 250.1), (1, 2, 3), 0.4, -1.0)
    path = write(tmp_path, "image.nii", nifti_bytes(codes=codes, order=order, **fields))
    assert same_bits(inspect(path).geometry, simpleitk_geometry(path))


@pytest.mark.parametrize(
    ("codes", "skew", "units"),
    [((1, 2), 0.0, 2), ((3, 4), 0.0, 2), ((0, 1), 1.6e-4, 2), ((1, 1), 1.6e-4, 2), ((1, 0), 0.0, 1), ((0, 1), 0.0, 3)],
    ids=[
        "both, sform of another space",
        "both, neither scanner",
        "sform skewed",
        "both, skewed",
        "metres",
        "micrometres",
    ],
)
def test_what_only_itk_can_tell_is_left_to_it(tmp_path: Path, codes: tuple[int, int], skew: float, units: int) -> None:
    srow = (1, skew, 0, 5, 0, 2, 0, 6, 0, 0, 3, 7)
    content = nifti_bytes(codes=codes, srow=srow, offset=(5, 6, 7), units=units)
    path = write(tmp_path, "image.nii", content)
    found = inspect(path)
    assert not found.problems
    assert found.geometry is None
    assert same_bits(read_geometry(found), simpleitk_geometry(path))
