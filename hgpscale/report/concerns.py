"""What may be wrong with a lesion whose files can be read: one small check each, thresholds on top."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hgpscale.cohort.raters import RaterAgreement, shared_voxels
from hgpscale.volume import Volume

FEWEST_VOXELS, FEWEST_SLICES = 64, 3
PLAUSIBLE_HU = (-50.0, 250.0)
THICKEST_MM, MOST_ANISOTROPIC = 5.0, 5.0
LOWEST_DICE = 0.7
HIGHEST_MINIMUM = -200.0


@dataclass(frozen=True)
class Outlined:
    """What the checks look at: one lesion by one rater.

    Attributes
    ----------
    mask
        Boolean box ``(z, y, x)``, no larger than the lesion.
    median, lowest
        Median HU of the lesion; lowest HU of the scan's slices around its lesions.
    agreement
        Of all raters of the lesion.
    liver
        Boolean box of the liver; None where there is none.
    others
        Masks of the scan's other lesions by this rater, by lesion.
    grid
        How the mask's grid differs from the scan's; empty where it does not.

    """

    mask: Volume
    median: float
    lowest: float
    agreement: RaterAgreement
    liver: Volume | None
    others: dict[str, Volume]
    grid: str = ""


def concerns(lesion: Outlined) -> list[str]:
    """Return a sentence for every check that a lesion does not pass."""
    return [found for check in CHECKS if (found := check(lesion))]


def _tiny(lesion: Outlined) -> str:
    voxels, slices = int(lesion.mask.array.sum()), int(lesion.mask.array.any(axis=(1, 2)).sum())
    tiny = voxels < FEWEST_VOXELS or slices < FEWEST_SLICES
    return f"tiny: {voxels} voxels in {slices} slices" if tiny else ""


def _pieces(lesion: Outlined) -> str:
    from scipy.ndimage import label

    labels, count = label(lesion.mask.array, np.ones((3, 3, 3)))
    if count < 2:
        return ""
    sizes = np.bincount(labels.ravel())[1:]
    return f"{count} separate pieces, the largest holds {100 * sizes.max() / sizes.sum():.1f} %"


def _border(lesion: Outlined) -> str:
    lower, upper = lesion.mask.box
    touches = min(lower) == 0 or any(a == b for a, b in zip(upper, lesion.mask.geometry.size, strict=True))
    return "touches the border of the scan" if touches else ""


def _implausible(lesion: Outlined) -> str:
    low, high = PLAUSIBLE_HU
    return "" if low <= lesion.median <= high else f"median {lesion.median:.0f} HU is not soft tissue's"


def _not_hu(lesion: Outlined) -> str:
    return f"no air: lowest voxel {lesion.lowest:.0f}, are these HU?" if lesion.lowest > HIGHEST_MINIMUM else ""


def _coarse(lesion: Outlined) -> str:
    spacing = lesion.mask.geometry.spacing
    if max(spacing) > THICKEST_MM:
        return f"coarse: voxels are {max(spacing):.3g} mm long"
    ratio = max(spacing) / min(spacing)
    return f"anisotropic: longest side of a voxel {ratio:.1f} times the shortest" if ratio > MOST_ANISOTROPIC else ""


def _disagree(lesion: Outlined) -> str:
    worst = lesion.agreement.worst_dice
    return f"raters disagree: lowest Dice {worst:.2f}" if worst is not None and worst < LOWEST_DICE else ""


def _outside_liver(lesion: Outlined) -> str:
    if lesion.liver is None:
        return ""
    voxels = int(lesion.mask.array.sum())
    outside = voxels - shared_voxels(lesion.mask, lesion.liver)
    return f"{100 * outside / voxels:.1f} % lies outside the liver mask" if outside else ""


def _overlaps(lesion: Outlined) -> str:
    names = [name for name, other in lesion.others.items() if shared_voxels(lesion.mask, other)]
    return f"overlaps {', '.join(names)}" if names else ""


def _grid(lesion: Outlined) -> str:
    return f"mask on another grid, shown at the nearest voxels: {lesion.grid}" if lesion.grid else ""


CHECKS: tuple[Callable[[Outlined], str], ...] = (
    _tiny,
    _pieces,
    _border,
    _implausible,
    _not_hu,
    _coarse,
    _disagree,
    _outside_liver,
    _overlaps,
    _grid,
)
"""In the order that the page lists them."""
