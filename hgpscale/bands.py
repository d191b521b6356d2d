"""Regions of a lesion as bands of distance from its surface: what the setting `regions` may say.

A region's name says of what kind it is, alone or before a hyphen: ``lesion``, ``core``, ``rim``, ``margin``,
``margin-2mm``. Its value says how far it reaches, in mm of the signed distance from the lesion's surface (inside is
negative).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from hgpscale.catalog import LESION

_NAME = re.compile(r"[A-Za-z]+(-[A-Za-z0-9.]+)*")


class Band(NamedTuple):
    """Voxels by their signed distance in mm from the lesion's surface.

    Attributes
    ----------
    lower
        Voxels nearer to the lesion's middle do not belong to it; minus infinity: all of the inside does.
    upper
        Voxels farther out do not belong to it.

    """

    lower: float
    upper: float

    @property
    def reach(self) -> float:
        """How far it goes beyond the surface, in mm."""
        return max(self.upper, 0.0)


def _core(value: Any) -> Band:
    (depth,) = _lengths(value, 1)
    return Band(-math.inf, -depth)


def _rim(value: Any) -> Band:
    inside, outside = _lengths(value, 2) if _is_pair(value) else _lengths(value, 1) * 2
    return Band(-inside, outside)


def _margin(value: Any) -> Band:
    lower, upper = (float(length) for length in value) if _is_pair(value) else (0.0, *_lengths(value, 1))
    if not 0 <= lower < upper < math.inf:
        raise ValueError("expected two distances in mm, from 0 up, the nearer one first")
    return Band(lower, upper)


def _lesion(value: Any) -> Band:
    if value not in (None, {}, True):
        raise ValueError("expected nothing: it is the mask as it is")
    return Band(-math.inf, 0.0)


_KINDS: Mapping[str, tuple[Callable[[Any], Band], str]] = {
    LESION: (_lesion, "nothing"),
    "core": (_core, "the mm to go in"),
    "rim": (_rim, "the mm to go in and out, one number or [inside, outside]"),
    "margin": (_margin, "the mm to go out, one number or [from, to]"),
}


def band_of(name: str, value: Any) -> Band:
    """Return the band that one entry of the setting `regions` means.

    Parameters
    ----------
    name
        ``lesion``, or a kind with anything after a hyphen: ``margin-4mm``.
    value
        ``lesion``: None; ``core``: mm inward; ``rim``: mm either way, or ``[inside, outside]``; ``margin``: mm
        outward, or ``[from, to]``.

    Raises
    ------
    ValueError
        The name is of no kind or has characters that no column could have, or the value is not as above.

    """
    kind = name.partition("-")[0]
    if kind not in _KINDS or (kind == LESION) != (name == LESION) or not _NAME.fullmatch(name):
        known = ", ".join(_KINDS)
        raise ValueError(f"unknown region {name!r}; expected one of {known}, or such as 'margin-2mm', 'rim-wide'")
    parse, expected = _KINDS[kind]
    try:
        return parse(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"region {name!r} is {value!r}, expected {expected}") from error


def _is_pair(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2


def _lengths(value: Any, count: int) -> tuple[float, ...]:
    """Return lengths in mm, all above 0."""
    given = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    lengths = tuple(float(length) for length in given if not isinstance(length, (bool, str)))
    if len(lengths) != count or len(given) != count or not all(0 < length < math.inf for length in lengths):
        raise ValueError("expected lengths in mm, above 0")
    return lengths
