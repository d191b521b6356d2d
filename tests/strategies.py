"""Phantoms for property tests: small images and masks with everything that goes wrong in practice."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import SimpleITK as sitk
from hypothesis import settings
from hypothesis import strategies as st

TEXTURES = ("noise", "constant", "many levels", "checkerboard", "two levels", "half flat", "few levels")
# Without flat parts: there pyradiomics' filtered images can be NaN, and its C code crashes on them.
ROUGH = ("noise", "many levels", "checkerboard", "two levels", "few levels")
REGIONS = ("whole", "half", "slice", "few voxels", "sparse", "inside and border", "two blobs")
DTYPES = (np.int16, np.uint16, np.float32, np.float64)


def examples(number: int) -> settings:
    """Return how many examples a property test draws: a third where every run draws the same ones, in CI."""
    return settings(max_examples=max(8, number // 3) if os.environ.get("CI") else number)


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
def phantoms(
    draw: st.DrawFn, *, shortest: int = 1, textures: tuple[str, ...] = TEXTURES
) -> tuple[sitk.Image, sitk.Image]:
    """Draw an image and its mask on one grid.

    An axis of two voxels never comes up: there ITK's B-spline reads outside of its coefficients.
    """
    sides = st.integers(shortest, 11).map(lambda n: 3 if n == 2 else n)
    shape = (draw(sides), draw(sides), draw(sides))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dtype = draw(st.sampled_from(DTYPES))
    voxels = _texture(draw(st.sampled_from(textures)), shape, rng)
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


def _some(draw: st.DrawFn, choices: dict[str, st.SearchStrategy[Any]]) -> dict[str, Any]:
    return {name: draw(choices[name]) for name in draw(st.sets(st.sampled_from(sorted(choices))))}


@st.composite
def preparation_settings(draw: st.DrawFn) -> dict[str, Any]:
    """Draw settings that change the voxels before they are counted."""
    return _some(
        draw,
        {
            "normalize": st.booleans(),
            "normalizeScale": st.sampled_from([1, 100, 3.3]),
            "removeOutliers": st.sampled_from([None, 1, 2.5]),
            "preCrop": st.booleans(),
            "padDistance": st.integers(0, 4),
            "resegmentRange": st.sampled_from([None, [0], [20, 90], [-1, 2], [0.2, 0.9]]),
            "resegmentMode": st.sampled_from(["absolute", "relative", "sigma"]),
            "resegmentShape": st.booleans(),
            "resampledPixelSpacing": st.sampled_from([None, [1, 1, 1], [0, 0, 0], [0, 0, 2.3], [2, 2, 2]]),
            "binWidth": st.sampled_from([5, 12.5, 25]),
        },
    )


@st.composite
def plane_settings(draw: st.DrawFn) -> dict[str, Any]:
    """Draw settings that change which neighbours are counted, and how."""
    return {
        "force2D": draw(st.booleans()),
        **_some(
            draw,
            {
                "force2Ddimension": st.integers(0, 2),
                "weightingNorm": st.sampled_from([None, "manhattan", "euclidean", "infinity", "no_weighting"]),
                "distances": st.sampled_from([[1], [2], [1, 2]]),
                "minimumROIDimensions": st.integers(1, 3),
                "gldm_a": st.integers(0, 2),
            },
        ),
    }


def image_types(*names: str) -> st.SearchStrategy[dict[str, dict[str, Any]]]:
    """Draw image types with settings of their own; all that pyradiomics has unless some are named."""
    # Not finer: thousands of levels take more memory than there is in pyradiomics' C code, which then crashes.
    widths = st.sampled_from([5, 12.5, 25])
    sigmas = st.lists(st.sampled_from([1, 0.7, 1.0, 2.5]), min_size=1, max_size=2, unique_by=str)
    wavelets = st.sampled_from(["haar", "coif1", "db3", "bior2.2", "sym4", "rbio1.3"])
    own: dict[str, st.SearchStrategy[dict[str, Any]]] = {
        "Original": st.fixed_dictionaries({}),
        "Wavelet": st.fixed_dictionaries(
            {}, optional={"wavelet": wavelets, "start_level": st.integers(0, 1), "level": st.integers(1, 2)}
        ),
        "LoG": st.fixed_dictionaries({"sigma": sigmas}, optional={"binWidth": widths}),
        **{
            name: st.fixed_dictionaries({}, optional={"binWidth": widths})
            for name in ("Square", "SquareRoot", "Logarithm", "Exponential")
        },
        "Gradient": st.fixed_dictionaries({}, optional={"gradientUseSpacing": st.booleans(), "binWidth": widths}),
        "LBP2D": st.fixed_dictionaries(
            {"binWidth": st.just(1)},
            optional={
                "lbp2DRadius": st.sampled_from([1, 1.5, 2]),
                "lbp2DSamples": st.sampled_from([4, 8]),
                "lbp2DMethod": st.sampled_from(["default", "ror", "uniform"]),
            },
        ),
        "LBP3D": st.fixed_dictionaries(
            {"binWidth": st.sampled_from([0.1, 1])},
            optional={"lbp3DLevels": st.integers(2, 3), "lbp3DIcosphereSubdivision": st.integers(0, 1)},
        ),
    }
    chosen = st.lists(st.sampled_from(names or sorted(own)), min_size=1, max_size=3, unique=True)
    return chosen.flatmap(lambda types: st.fixed_dictionaries({name: own[name] for name in types}))
