"""Images to filter, cut as hgpscale cuts them, and what pyradiomics makes of them."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import SimpleITK as sitk
from reference import radiomics

from hgpscale.errors import FilterError
from hgpscale.filters import FILTERS, Source

Array = np.ndarray[Any, Any]

DEFAULTS: dict[str, Any] = {
    "sigma": (1, 2.5),
    "wavelet": "coif1",
    "start_level": 0,
    "level": 1,
    "force2D": False,
    "force2Ddimension": 0,
    "gradientUseSpacing": True,
    "lbp2DRadius": 1.0,
    "lbp2DSamples": 8,
    "lbp2DMethod": "uniform",
    "lbp3DLevels": 2,
    "lbp3DIcosphereRadius": 1.0,
    "lbp3DIcosphereSubdivision": 1,
}

Box = tuple[tuple[int, int, int], tuple[int, int, int]]


def texture(kind: str, shape: tuple[int, ...], dtype: Any, seed: int = 0) -> Array:
    """Return an image: noise, noise beside a flat half, constant, or few levels."""
    noise = np.random.default_rng(seed).normal(60, 40, shape)
    if np.dtype(dtype).kind == "u":
        noise = np.abs(noise)
    flat = np.where(np.arange(shape[2]) < shape[2] // 2, 37.0, noise)
    kinds = {"noise": noise, "half flat": flat, "constant": np.full(shape, 37.0), "few levels": noise // 40}
    return kinds[kind].astype(dtype)


def settings(**chosen: Any) -> Any:
    return SimpleNamespace(**{**DEFAULTS, **chosen})


def cut(image: Array, box: Box, name: str, spacing: tuple[float, float, float], **chosen: Any) -> Source:
    """Return no more of an image than a filter says that it needs; what else is held would be lucky."""
    reach = FILTERS[name].reach(spacing, settings(**chosen))
    first, end = [], []
    for axis, size in enumerate(image.shape):
        low, high = box[0][axis] - reach.margin[axis], box[1][axis] + reach.margin[axis]
        whole = reach.wraps and (low < 0 or high > size)
        first.append(0 if whole else max(low, 0))
        end.append(size if whole else min(high, size))
    held = image[tuple(slice(a, b) for a, b in zip(first, end, strict=True))].copy()
    mask = np.ones([b - a for a, b in zip(*box, strict=True)], dtype=bool)
    peak = float(np.max(np.abs(image.astype(np.float64))))
    return Source(held, tuple(first), image.shape, spacing, box, mask, peak)  # type: ignore[arg-type]


def ours(
    name: str, image: Array, box: Box, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0), **chosen: Any
) -> dict[str, Array | FilterError]:
    return dict(FILTERS[name].derive(cut(image, box, name, spacing, **chosen), settings(**chosen)))


def theirs(
    name: str, image: Array, box: Box, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0), **chosen: Any
) -> dict[str, Array]:
    """Return the box of pyradiomics' filtered images of the whole image."""
    radiomics()
    from radiomics import imageoperations

    whole = sitk.GetImageFromArray(image)
    whole.SetSpacing(spacing[::-1])
    region = np.zeros(image.shape, dtype=np.uint8)
    part = tuple(slice(a, b) for a, b in zip(*box, strict=True))
    region[part] = 1
    mask = sitk.GetImageFromArray(region)
    mask.CopyInformation(whole)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        images = getattr(imageoperations, f"get{name}Image")(whole, mask, **{**DEFAULTS, **chosen})
        return {found: sitk.GetArrayFromImage(derived)[part] for derived, found, _ in images}


def assert_same_bits(
    name: str, image: Array, box: Box, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0), **chosen: Any
) -> None:
    found, expected = ours(name, image, box, spacing, **chosen), theirs(name, image, box, spacing, **chosen)
    assert list(found) == list(expected)
    for key, array in expected.items():
        mine = found[key]
        assert isinstance(mine, np.ndarray), mine
        assert mine.dtype == array.dtype
        np.testing.assert_array_equal(mine, array, err_msg=key)
