"""Phantoms for property tests: small images and masks with everything that goes wrong in practice."""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk
from hypothesis import strategies as st

TEXTURES = ("noise", "constant", "many levels", "checkerboard", "two levels", "half flat", "few levels")
REGIONS = ("whole", "half", "slice", "few voxels", "sparse", "inside and border", "two blobs")
DTYPES = (np.int16, np.uint16, np.float32, np.float64)


def _texture(kind: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray[Any, Any]:
    noise = rng.normal(60, 40, shape)
    textures: dict[str, np.ndarray[Any, Any]] = {
        "noise": noise,
        "constant": np.full(shape, 37.0),
        "many levels": rng.permutation(np.arange(noise.size) % 300).reshape(shape) * 25.0,
        "checkerboard": np.indices(shape).sum(axis=0) % 2 * 25.0,
        "two levels": np.where(rng.random(shape) < 0.5, 0.0, 30.0),
        "half flat": np.where(np.arange(shape[2]) < shape[2] // 2, -1000.0, noise),
        "few levels": rng.integers(0, 3, shape) * 25.0,
    }
    return textures[kind]


def _region(kind: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray[Any, Any]:
    mask = np.zeros(shape, dtype=np.uint8)
    if kind == "whole":
        mask[:] = 1
    elif kind == "half":
        mask[:] = rng.random(shape) < 0.5
    elif kind == "slice":
        mask[int(rng.integers(shape[0]))] = 1
    elif kind == "few voxels":
        for _ in range(int(rng.integers(1, 6))):
            mask[tuple(int(rng.integers(n)) for n in shape)] = 1
    elif kind == "sparse":
        mask[:] = rng.random(shape) < 0.08
    elif kind == "inside and border":
        mask[1:-1, 1:-1, 1:-1] = 1
        mask[0] = rng.random(shape[1:]) < 0.2
    else:
        mask[:2, :2] = 1
        mask[-2:, -2:] = 1
    return mask


def _direction(kind: str, rng: np.random.Generator) -> list[float]:
    axes = np.eye(3)
    if kind == "flipped":
        axes = axes * rng.choice([-1.0, 1.0], 3)
    elif kind == "swapped":
        axes = axes[rng.permutation(3)]
    elif kind == "oblique":
        # Orthonormal, a few degrees off the axes, as a tilted acquisition.
        axes = np.linalg.qr(axes + rng.normal(0, 0.1, (3, 3)))[0]
    return [float(value) for value in axes.ravel()]


@st.composite
def phantoms(draw: st.DrawFn, *, shortest: int = 1) -> tuple[sitk.Image, sitk.Image]:
    """Draw an image and its mask on one grid.

    An axis of two voxels never comes up: there ITK's B-spline reads outside of its coefficients.
    """
    sides = st.integers(shortest, 11).map(lambda n: 3 if n == 2 else n)
    shape = (draw(sides), draw(sides), draw(sides))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dtype = draw(st.sampled_from(DTYPES))
    voxels = _texture(draw(st.sampled_from(TEXTURES)), shape, rng)
    if dtype is np.uint16:
        # Near the end of a type pyradiomics' last bin edge overflows.
        voxels = np.clip(voxels, 0, None)
    image = sitk.GetImageFromArray(voxels.astype(dtype))
    mask = sitk.GetImageFromArray(_region(draw(st.sampled_from(REGIONS)), shape, rng))
    spacing = [draw(st.sampled_from([0.5, 0.7, 0.78125, 1.0, 1.5, 2.0, 3.0])) for _ in range(3)]
    direction = _direction(draw(st.sampled_from(["straight", "flipped", "swapped", "oblique"])), rng)
    for volume in (image, mask):
        volume.SetSpacing(spacing)
        volume.SetOrigin((-153.7, -70.1, 12.0))
        volume.SetDirection(direction)
    return image, mask


@st.composite
def texture_settings(draw: st.DrawFn) -> dict[str, Any]:
    """Draw settings that change what is counted."""
    choices: dict[str, st.SearchStrategy[Any]] = {
        "binWidth": st.sampled_from([5, 7.3, 25]),
        "binCount": st.integers(2, 40),
        "distances": st.sampled_from([[1], [2], [1, 2], [1, 3]]),
        "symmetricalGLCM": st.booleans(),
        "gldm_a": st.integers(0, 2),
        "voxelArrayShift": st.sampled_from([0, 300]),
        "minimumROIDimensions": st.integers(1, 3),
        "minimumROISize": st.sampled_from([None, 1, 30]),
    }
    return {name: draw(choices[name]) for name in draw(st.sets(st.sampled_from(sorted(choices))))}
