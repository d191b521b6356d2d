"""What networks say of a scan: lesions that they found, and how each grows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from hgpscale.volume import Vector, Volume


@dataclass(frozen=True, eq=False)
class Growth:
    """How a lesion, or all lesions of a patient, grow at their border.

    Attributes
    ----------
    composition
        Expected fractions of the patterns in `hgpscale.learn.targets.PARTS`, float64, shape ``(3,)``; they sum to 1.
    pure_desmoplastic
        P(d = 100 %); d is the desmoplastic fraction.
    pure_other
        P(d = 0).
    majority_desmoplastic
        P(d > 50 %).
    low, high
        Prediction interval of d; NaN where there is none.
    spread
        Standard deviation of d between networks; NaN of one.

    """

    composition: NDArray[np.float64]
    pure_desmoplastic: float
    pure_other: float
    majority_desmoplastic: float
    low: float
    high: float
    spread: float


@dataclass(frozen=True, eq=False)
class FoundLesion:
    """A lesion that networks found.

    Attributes
    ----------
    number
        Its value in the label map, from 1.
    lesion
        Its id, of which there is no other in the run; `lesion_id` makes such.
    score
        How sure it is that there is one, from 0 to 1, see `hgpscale.deep.instances`.
    volume
        Of its voxels, in mm³.
    growth
        None where it was not told.

    """

    number: int
    lesion: str
    score: float
    volume: float
    growth: Growth | None


@dataclass(frozen=True, eq=False)
class ScanAnswer:
    """What was found in one scan.

    Attributes
    ----------
    patient
        As the manifest names it.
    case
        Name of the scan's files, see `hgpscale.deep.cases.case_names`.
    image
        The scan.
    labels
        Its whole grid ``(z, y, x)``, uint16: 0, and in each lesion its number.
    lesions
        In the order of their numbers; none where nothing was found.
    growth
        Of the patient, the same in each of its scans; None where it was not told.

    """

    patient: str
    case: str
    image: Path
    labels: Volume
    lesions: tuple[FoundLesion, ...]
    growth: Growth | None


@dataclass(frozen=True, eq=False)
class Saliency:
    """Where around a lesion the voxels are that networks' answer on its growth goes back to.

    All arrays are one box around the lesion, turned as `hgpscale.report.montage.turned` does it: from feet to head,
    from front to back, from the patient's right to the left.

    Attributes
    ----------
    image
        HU, float32, ``(z, y, x)``.
    spacing
        mm ``(z, y, x)``.
    lesion
        Its voxels, bool.
    rim
        Voxels around its border that the answer was made of, bool.
    maps
        For each pattern in `PARTS` the signed share of each voxel in its log-odds, float32, ``(3, z, y, x)``; shape
        ``(0, z, y, x)`` where the growth was not told.

    """

    image: NDArray[np.float32]
    spacing: Vector
    lesion: NDArray[np.bool_]
    rim: NDArray[np.bool_]
    maps: NDArray[np.float32]

    def shown(self) -> Saliency:
        """Return the slice that holds most of the lesion, ``z`` 1: what a page shows, and all that has to be kept."""
        z = int(self.lesion.sum(axis=(1, 2)).argmax())
        one = slice(z, z + 1)
        return Saliency(
            self.image[one].copy(), self.spacing, self.lesion[one].copy(), self.rim[one].copy(),
            self.maps[:, one].copy(),
        )  # fmt: skip


def lesion_id(case: str, number: int) -> str:
    """Return the id of a lesion: no two cases' lesions share one, and hardly any is that of a drawn one."""
    return f"{case}-found-{number}"
