"""Trains a network for each fold of a prepared cohort's patients: what `hgpscale deep train` does."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hgpscale.deep.ensemble import (
    FILE,
    SPLITS,
    UNSEEN,
    Ensemble,
    Member,
    choose_device,
    folder_of,
    is_first_process,
)
from hgpscale.deep.files import writing
from hgpscale.deep.hurdle import Calibration
from hgpscale.deep.prepared import PreparedCohort, PreparedScan
from hgpscale.errors import DeepError, LearnError
from hgpscale.learn.digests import lesion_hash
from hgpscale.learn.splits import Split, grouped_folds, read_splits, write_splits

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from hgpscale.deep.recipe import Recipe

ALL = "all"
"""Name of the only network that is trained on all patients."""


class Fold(NamedTuple):
    """Positions of the patients that one network is trained on, and of those that it is not to see."""

    name: str
    train: NDArray[np.int64]
    test: NDArray[np.int64]


@dataclass(frozen=True)
class Trained:
    """What `train_folds` did.

    Attributes
    ----------
    folder
        Where the networks are.
    trained
        Folds that were trained now.
    missing
        Folds that are still to be trained; the networks can be used when there are none.
    unseen
        How right networks are of patients that they had not seen, see `unseen.summary`; empty where it is not known.

    """

    folder: Path
    trained: tuple[str, ...]
    missing: tuple[str, ...]
    unseen: dict[str, float]


def train_folds(
    prepared: str | Path,
    folder: str | Path,
    recipe: Recipe,
    *,
    n_folds: int = 5,
    splits: str | Path | None = None,
    fold: str | None = None,
    device: str = "auto",
    shuffle_labels: bool = False,
    force: bool = False,
    on_step: Callable[[str, int, int, float], None] | None = None,
) -> Trained:
    """Train a network for each fold; the same command goes on where it was stopped.

    Patients whose `split` is ``external`` are never trained on.

    Parameters
    ----------
    prepared
        What `prepare` wrote.
    folder
        For the networks; made where absent.
    recipe
        Options of all of them.
    n_folds
        How many parts the patients are dealt out to; 1: one network of all of them, of which nothing is known for
        patients that it has not seen.
    splits
        Splits of patients in WORC's layout instead, see `read_splits`; each one's training side makes a network.
    fold
        Train this one alone, as on another machine.
    device
        ``cpu``, ``gpu`` or ``auto``.
    shuffle_labels
        Deal lesions' growth patterns out at random: a control that must find nothing.
    force
        Begin anew.
    on_step
        Called with the fold, steps done, their total, and the loss.

    Raises
    ------
    DeepError, LearnError
        There is nothing to train on, folds cannot be made or are not those of the folder, or as of `training.train`.

    """
    from hgpscale.deep.training import together

    where = choose_device(device)
    cohort = PreparedCohort.open(prepared).held()
    folder = Path(folder)
    patients = {name: scans for name, scans in cohort.patients.items() if all(s.split != "external" for s in scans)}
    if not patients:
        raise DeepError(f"{prepared}: no patient to train on: all are of split external")
    if shuffle_labels:
        patients = _shuffled(patients, recipe.seed)
    parts = _folds(patients, n_folds, splits, recipe.seed)
    alone = is_first_process()
    if alone:
        _keep_folds(folder, parts, list(patients), force=force)
    chosen = [part for part in parts if fold in (None, part.name)]
    if not chosen:
        raise DeepError(f"fold {fold!r}: there is none of this name; there are {', '.join(p.name for p in parts)}")
    names = list(patients)
    trained = []
    with together(where):
        for part in chosen:
            of_fold = [patients[names[at]] for at in part.train]
            test = [scan for at in part.test for scan in patients[names[at]]]
            place = folder_of(folder, part.name)
            if _train_one(of_fold, test, recipe, place, where, on_step, part.name, force=force):
                trained.append(part.name)
    missing = tuple(part.name for part in parts if not _network(folder, part.name).exists())
    unseen = _finish(folder, cohort, patients, parts, recipe, where) if alone and not missing else {}
    return Trained(folder, tuple(trained), missing, unseen)


def _train_one(
    patients: Sequence[Sequence[PreparedScan]],
    test: Sequence[PreparedScan],
    recipe: Recipe,
    folder: Path,
    device: torch.device,
    on_step: Callable[[str, int, int, float], None] | None,
    name: str,
    *,
    force: bool,
) -> bool:
    """Train one network unless it is there; return whether it was."""
    from hgpscale.deep.training import CHECKPOINT, METRICS, NETWORK, train
    from hgpscale.deep.unseen import validate
    from hgpscale.deep.weights import read_tensors

    digest = _digest(patients)
    if force and is_first_process():
        for file in (NETWORK, CHECKPOINT, METRICS):
            with writing(folder / file):
                (folder / file).unlink(missing_ok=True)
    if (folder / NETWORK).exists() and not force:
        about = read_tensors(folder / NETWORK).about
        if (about.get("recipe"), about.get("cohort")) != (recipe.digest, digest):
            raise DeepError(
                f"{folder / NETWORK}: was trained with other options or on other patients; give --force to begin anew, "
                "or another folder"
            )
        return False
    train(
        patients,
        recipe,
        folder,
        cohort=digest,
        device=device,
        validate=(lambda network: validate(network, test, recipe, device)) if test else None,
        on_step=None if on_step is None else lambda done, total, loss: on_step(name, done, total, loss),
    )
    return True


def _finish(
    folder: Path,
    cohort: PreparedCohort,
    patients: dict[str, list[PreparedScan]],
    parts: Sequence[Fold],
    recipe: Recipe,
    device: torch.device,
) -> dict[str, float]:
    """Ask each network about the patients that it has not seen, and write what all of them are."""
    from hgpscale.deep import unseen
    from hgpscale.deep.datasets.record import digest_of

    key = Ensemble.open(folder).key if (folder / FILE).exists() else secrets.token_bytes(16)
    names = list(patients)
    members = tuple(
        Member(
            part.name,
            digest_of(_network(folder, part.name)),
            frozenset(lesion_hash(key, names[at]) for at in part.train),
        )
        for part in parts
    )
    ensemble = Ensemble(folder, recipe, cohort.spacing, members, Calibration(), key, _learned(patients, recipe))
    asked = []
    for part, network in zip(parts, ensemble.load(device), strict=True):
        train, test = ([scan for at in side for scan in patients[names[at]]] for side in (part.train, part.test))
        asked.append(unseen.ask(part.name, network, train, test, recipe, device))
    every = unseen.together(asked)
    if every.rows:
        ensemble = replace(ensemble, calibration=unseen.calibrate(every))
        unseen.write_unseen(folder / UNSEEN, every, ensemble.calibration)
    ensemble.write()
    return unseen.summary(every)


def _learned(patients: dict[str, list[PreparedScan]], recipe: Recipe) -> frozenset[str]:
    """Return the tasks that there are labels of and that count."""
    scans = [scan for some in patients.values() for scan in some]
    grown = any(lesion.growth is not None for scan in scans for lesion in scan.lesions)
    there = {"segmentation": True, "liver": any(scan.has_liver for scan in scans), "growth": grown, "patient": grown}
    return frozenset(
        task for task, known in there.items() if known and (isinstance(recipe.weights, str) or recipe.weights[task] > 0)
    )


def _folds(patients: dict[str, list[PreparedScan]], n_folds: int, splits: str | Path | None, seed: int) -> list[Fold]:
    """Return folds as positions of patients, balanced by whether they grow desmoplastically."""
    names = list(patients)
    if n_folds == 1 and splits is None:
        return [Fold(ALL, np.arange(len(names)), np.zeros(0, np.int64))]
    if splits is not None:
        found = read_splits(splits, names)
    else:
        found = grouped_folds(names, _strata(patients), n_folds=n_folds, seed=seed)
    return [Fold(split.name, split.train, split.test) for split in found]


def _strata(patients: dict[str, list[PreparedScan]]) -> NDArray[np.int64]:
    """Return 0 where growth is not known, else 1 to 3: no lesion is desmoplastic, some in part, all purely."""
    found = np.zeros(len(patients), np.int64)
    for at, scans in enumerate(patients.values()):
        d = np.array([lesion.growth[0] for scan in scans for lesion in scan.lesions if lesion.growth is not None])
        if d.size:
            found[at] = 1 + int((d > 0).any()) + int((d == 1).all())
    return found


def _keep_folds(folder: Path, parts: Sequence[Fold], names: list[str], *, force: bool) -> None:
    """Write the folds, or make sure that they are those of before."""
    path = folder / SPLITS
    of_all = parts[0].name == ALL and not parts[0].test.size
    if of_all and not path.exists():
        return
    if path.exists() and not force:
        try:
            before = read_splits(path, names)
        except LearnError as error:
            raise DeepError(f"{path}: is not of these patients ({error}); give --force, or another folder") from error
        same = len(before) == len(parts) and all(
            a.name == b.name and set(a.train) == set(b.train) and set(a.test) == set(b.test)
            for a, b in zip(before, parts, strict=True)
        )
        if not same:
            raise DeepError(
                f"{path}: the networks here have other folds; give --force to begin anew, or another folder"
            )
        return
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FILE).unlink(missing_ok=True)
        path.unlink(missing_ok=True)
    if not of_all:
        write_splits(path, [Split(*part) for part in parts], names)


def _shuffled(patients: dict[str, list[PreparedScan]], seed: int) -> dict[str, list[PreparedScan]]:
    """Return the patients with the growth of all their lesions dealt out anew."""
    growth = [lesion.growth for scans in patients.values() for scan in scans for lesion in scan.lesions]
    order = iter(np.random.default_rng([seed, 1]).permutation(len(growth)))
    return {
        name: [
            replace(scan, lesions=tuple(replace(lesion, growth=growth[next(order)]) for lesion in scan.lesions))
            for scan in scans
        ]
        for name, scans in patients.items()
    }


def _digest(patients: Sequence[Sequence[PreparedScan]]) -> str:
    said = [(scan.source, [(one.lesion, one.growth) for one in scan.lesions]) for scans in patients for scan in scans]
    return hashlib.blake2b(json.dumps(said).encode(), digest_size=16).hexdigest()


def _network(folder: Path, name: str) -> Path:
    from hgpscale.deep.training import NETWORK

    return folder_of(folder, name) / NETWORK
