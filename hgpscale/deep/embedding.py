"""What networks see of lesions, as numbers that models of `learn` take: never by a network that was trained on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hgpscale.catalog import DEEP
from hgpscale.cube import open_cube, put_family
from hgpscale.deep.ensemble import Ensemble, choose_device
from hgpscale.deep.hurdle import parts_of
from hgpscale.deep.prepared import PreparedCohort
from hgpscale.deep.seeing import Seen, crops_of, see
from hgpscale.errors import DeepError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hgpscale.cube import Put

ANSWERS = ("Desmoplastic", "Replacement", "Pushing", "PureDesmoplastic", "PureOther")
"""Names of a network's own answers among the features: expected fractions, P(d = 1) and P(d = 0)."""


@dataclass(frozen=True)
class Embedded:
    """What networks see of all lesions of a prepared cohort.

    Attributes
    ----------
    features
        Names of the numbers.
    lesions
        Whose they are.
    values
        float64, shape ``(lesion, feature)``.
    asked
        How many networks' numbers a lesion's are the mean of, int64, shape ``(lesion,)``.

    """

    features: tuple[str, ...]
    lesions: tuple[str, ...]
    values: NDArray[np.float64]
    asked: NDArray[np.int64]


def embed(
    folder: str | Path,
    prepared: str | Path,
    *,
    device: str = "auto",
    on_progress: Callable[[int, int], None] | None = None,
) -> Embedded:
    """Return the embedding of each lesion, the mean over the networks that were not trained on its patient.

    Each network learns directions of its own. Those of the others are turned towards the first one's, see `turning`, so
    that a feature means the same in all of them.

    Parameters
    ----------
    folder
        Networks, as `train_folds` leaves them.
    prepared
        Lesions, as `prepare` leaves them; those of other cohorts too.
    device
        ``cpu``, ``gpu`` or ``auto``.
    on_progress
        Called with networks that are done, and their total.

    Raises
    ------
    DeepError
        All networks were trained on one of the patients; spacings differ; or a file cannot be used.

    """
    where = choose_device(device)
    ensemble, cohort = Ensemble.open(folder), PreparedCohort.open(prepared)
    if cohort.spacing != ensemble.spacing:
        raise DeepError(
            f"{prepared}: is prepared at {cohort.spacing} mm, the networks in {folder} take {ensemble.spacing} mm; "
            "prepare it again with --spacing"
        )
    lesions = [lesion.lesion for scan in cohort.scans for lesion in scan.lesions]
    patients = [scan.patient for scan in cohort.scans for _ in scan.lesions]
    asked = ensemble.asked(patients)
    total = np.zeros((len(lesions), len(ANSWERS) + ensemble.recipe.embedding))
    count = np.zeros(len(lesions), np.int64)
    for at, (network, turn) in enumerate(zip(ensemble.load(where), ensemble.turns, strict=True)):
        mine = np.array([at in asked[patient] for patient in patients], bool)
        scans = [scan for scan in cohort.scans if scan.lesions and at in asked[scan.patient]]
        if scans:
            seen = see(network, crops_of(scans, ensemble.recipe), where)
            total[mine] += np.column_stack([_answers(seen), turn(seen.embedding)])
            count += mine
        if on_progress:
            on_progress(at + 1, len(ensemble.members))
    names = (*ANSWERS, *(f"Embedding{number:02d}" for number in range(ensemble.recipe.embedding)))
    return Embedded(names, tuple(lesions), total / count[:, None], count)


def _answers(seen: Seen) -> NDArray[np.float64]:
    said = parts_of(seen.logits)
    return np.column_stack([said.composition, said.gate[:, 2], said.gate[:, 0]])


@dataclass(frozen=True)
class PutIntoCube:
    """What `embed_into` did.

    Attributes
    ----------
    cube
        Where.
    features
        How many numbers a lesion has.
    put
        What became of the cube's rows.
    unknown
        Prepared lesions that the cube does not have.

    """

    cube: str
    features: int
    put: Put
    unknown: tuple[str, ...]


def embed_into(
    folder: str | Path,
    prepared: str | Path,
    cube: str | Path,
    *,
    device: str = "auto",
    replace: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> PutIntoCube:
    """Put the embedding of each lesion into a cube, as the family ``deep``; see `embed` and `put_family`.

    A row of the cube is a lesion as a segmentation outlines it: those of the prepared one get numbers, the others stay
    pending until their outlines are prepared and embedded too.

    Parameters
    ----------
    folder, prepared, device, on_progress
        As of `embed`.
    cube
        With the lesions' rows.
    replace
        Whether what other networks have put there is replaced.

    Raises
    ------
    DeepError, CubeError
        As of `embed` and `put_family`, or the cube has none of the lesions.

    """
    with open_cube(cube) as opened:
        there = set(map(str, opened["lesion"].to_numpy()))
        raters = set(map(str, opened["segmentation"].to_numpy()))
    segmentation = PreparedCohort.open(prepared).segmentation
    if segmentation not in raters:
        raise DeepError(
            f"{cube}: has no segmentation {segmentation!r}, whose outlines {prepared} has; it has "
            f"{', '.join(sorted(raters))}"
        )
    found = embed(folder, prepared, device=device, on_progress=on_progress)
    unknown = tuple(lesion for lesion in found.lesions if lesion not in there)
    if len(unknown) == len(found.lesions):
        raise DeepError(f"{cube}: has none of the lesions in {prepared}, such as {unknown[0]}")
    about = {"networks": [member.digest for member in Ensemble.open(folder).members]}
    rows = [
        (lesion, segmentation, values)
        for lesion, values in zip(found.lesions, found.values, strict=True)
        if lesion in there
    ]
    put = put_family(cube, DEEP, found.features, rows, about=about, replace=replace)
    return PutIntoCube(str(cube), len(found.features), put, unknown)
