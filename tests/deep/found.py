"""Answers as networks give them, made of phantoms: lesions at known places, growth at will."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hgpscale.deep.answers import FoundLesion, Growth, ScanAnswer, lesion_id
from hgpscale.volume import Geometry, Volume

NAN = float("nan")


def growth(
    desmoplastic: float, replacement: float, *, pure: float = 0.25, low: float = NAN, high: float = NAN,
    spread: float = NAN,
) -> Growth:  # fmt: skip
    parts = np.array([desmoplastic, replacement, 1 - desmoplastic - replacement])
    return Growth(parts, pure, 0.125, 0.5, low, high, spread)


def answer(
    patient: str,
    case: str,
    image: Path,
    labels: NDArray[Any],
    geometry: Geometry,
    growths: Sequence[Growth | None],
    *,
    of_patient: Growth | None = None,
) -> ScanAnswer:
    """Return what was found in one scan: lesions are numbered as in the label map, of falling score."""
    voxel = float(np.prod(geometry.spacing))
    lesions = tuple(
        FoundLesion(number, lesion_id(case, number), 1 - number / 16, voxel * int((labels == number).sum()), grown)
        for number, grown in enumerate(growths, start=1)
    )
    return ScanAnswer(patient, case, image, Volume(labels.astype(np.uint16), geometry), lesions, of_patient)
