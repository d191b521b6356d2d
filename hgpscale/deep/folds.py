"""Trains a network for each fold of a prepared cohort's patients: what `hgpscale deep train` does."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hgpscale.deep.datasets.place import alone
from hgpscale.deep.datasets.record import digest_of
from hgpscale.deep.dealing import Fold, Patients, deal, keep, patients_of, shuffled
from hgpscale.deep.ensemble import FILE, METRICS, UNSEEN, Ensemble, Member, choose_device, folder_of, is_first_process
from hgpscale.deep.files import writing
from hgpscale.deep.hurdle import Calibration
from hgpscale.deep.prepared import PreparedCohort, PreparedScan
from hgpscale.deep.recipe import TASKS
from hgpscale.deep.turning import turns_between
from hgpscale.errors import DeepError
from hgpscale.learn.digests import lesion_hash

if TYPE_CHECKING:
    import torch

    from hgpscale.deep.recipe import Recipe


@dataclass(frozen=True)
class Trained:
    """What `train_folds` did.

    Attributes
    ----------
    folder
        Where the networks are.
    folds
        Names of all.
    trained
        Folds that were trained now.
    missing
        Folds that are still to be trained; the networks can be used when there are none.
    unseen
        How right networks are of patients that they had not seen, see `unseen.summary`; empty where it is not known.

    """

    folder: Path
    folds: tuple[str, ...]
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
    from hgpscale.deep.training import barrier, together

    where = choose_device(device)
    cohort = PreparedCohort.open(prepared).held()
    folder = Path(folder)
    patients = patients_of(cohort)
    if shuffle_labels:
        patients = shuffled(patients, recipe.seed)
    others = [name for name in cohort.patients if name not in patients]
    folds = deal(patients, others, n_folds, splits, recipe.seed)
    chosen = [one for one in folds if fold in (None, one.name)]
    if not chosen:
        raise DeepError(f"fold {fold!r}: there is none of this name; there are {', '.join(one.name for one in folds)}")
    jobs = [_Job(folder_of(folder, one.name), one, *_sides(patients, one), cohort.spacing) for one in folds]
    with together(where):
        if is_first_process():
            keep(folder, folds, list(patients), force=force)
            for job in jobs if force else ():
                if job.fold in chosen:
                    job.forget()
        barrier()
        mine = [job for job in jobs if job.fold in chosen]
        trained = [job.fold.name for job in mine if _train_one(job, recipe, where, on_step)]
    missing = tuple(job.fold.name for job in jobs if not job.is_trained(recipe))
    unseen = {}
    if is_first_process() and not missing:
        unseen = _finish(folder, cohort, patients, jobs, recipe, where, shuffled=shuffle_labels)
    return Trained(folder, tuple(one.name for one in folds), tuple(trained), missing, unseen)


class _Job(NamedTuple):
    """One network that is to be trained: where, and on which scans; `test` are those that it is not to see."""

    folder: Path
    fold: Fold
    train: list[list[PreparedScan]]
    test: list[PreparedScan]
    spacing: tuple[float, float, float]

    @property
    def digest(self) -> str:
        """Of all that is learned from."""
        said = [
            (scan.source, [(lesion.lesion, lesion.growth) for lesion in scan.lesions])
            for scans in self.train
            for scan in scans
        ]
        return hashlib.blake2b(json.dumps([self.spacing, said]).encode(), digest_size=16).hexdigest()

    @property
    def network(self) -> Path:
        """The file of weights."""
        from hgpscale.deep.training import NETWORK

        return self.folder / NETWORK

    def is_trained(self, recipe: Recipe) -> bool:
        """Whether the network is there, of these options and scans."""
        from hgpscale.deep.weights import read_tensors

        if not self.network.exists():
            return False
        about = read_tensors(self.network).about
        return (about.get("recipe"), about.get("cohort")) == (recipe.digest, self.digest)

    def forget(self) -> None:
        """Remove what was trained."""
        from hgpscale.deep.training import CHECKPOINT

        for path in (self.network, self.folder / CHECKPOINT, self.folder / METRICS):
            with writing(path):
                path.unlink(missing_ok=True)


def _sides(patients: Patients, fold: Fold) -> tuple[list[list[PreparedScan]], list[PreparedScan]]:
    names = list(patients)
    return [patients[names[at]] for at in fold.train], [scan for at in fold.test for scan in patients[names[at]]]


def _train_one(
    job: _Job, recipe: Recipe, device: torch.device, on_step: Callable[[str, int, int, float], None] | None
) -> bool:
    """Train one network unless it is there; return whether it was."""
    from hgpscale.deep.training import train
    from hgpscale.deep.unseen import validate

    if job.network.exists():
        if not job.is_trained(recipe):
            raise DeepError(
                f"{job.network}: was trained with other options or on other scans; give --force to begin anew, or "
                "another folder"
            )
        return False
    with alone(job.folder) if is_first_process() else nullcontext():
        train(
            job.train,
            recipe,
            job.folder,
            cohort=job.digest,
            device=device,
            validate=(lambda network: validate(network, job.test, recipe, device)) if job.test else None,
            on_step=None if on_step is None else lambda done, total, loss: on_step(job.fold.name, done, total, loss),
        )
    return True


def _finish(
    folder: Path,
    cohort: PreparedCohort,
    patients: Patients,
    jobs: Sequence[_Job],
    recipe: Recipe,
    device: torch.device,
    *,
    shuffled: bool,
) -> dict[str, float]:
    """Ask each network about all patients, and write what the networks are."""
    from hgpscale.deep import unseen
    from hgpscale.deep.seeing import crops_of, see

    key = Ensemble.open(folder).key if (folder / FILE).exists() else secrets.token_bytes(16)
    hashes = {name: lesion_hash(key, name) for name in patients}
    members = tuple(
        Member(
            job.fold.name,
            digest_of(job.network),
            frozenset(hashes[scan.patient] for scans in job.train for scan in scans),
        )
        for job in jobs
    )
    ensemble = Ensemble(
        folder, recipe, cohort.spacing, members, Calibration(), key, _learned(jobs, recipe), shuffled=shuffled
    )
    scans = [scan for some in patients.values() for scan in some]
    seen = [see(network, crops_of(scans, recipe), device) for network in ensemble.load(device)]
    of_patient = [hashes[scan.patient] for scan in scans for _ in scan.lesions]
    known = [np.array([name in member.seen for name in of_patient]) for member in members]
    parts = zip(jobs, seen, strict=True)
    every = unseen.together([unseen.pick(job.fold.name, one, scans, job.train, job.test) for job, one in parts])
    turns = turns_between([one.embedding for one in seen], known)
    ensemble = replace(ensemble, turns=turns, calibration=unseen.calibrate(every) if every.rows else Calibration())
    if every.rows:
        unseen.write_unseen(folder / UNSEEN, every, ensemble.calibration)
    ensemble.write()
    return unseen.summary(every)


def _learned(jobs: Sequence[_Job], recipe: Recipe) -> frozenset[str]:
    """Return the tasks that count and that every network had labels of."""
    from hgpscale.deep.sampling import patient_growth

    def known(job: _Job, task: str) -> bool:
        scans = [scan for some in job.train for scan in some]
        if task == "liver":
            return any(scan.has_liver for scan in scans)
        if task == "growth":
            return any(lesion.growth is not None for scan in scans for lesion in scan.lesions)
        if task == "patient":
            return any(
                np.isfinite(patient_growth([lesion for scan in some for lesion in scan.lesions])).all()
                for some in job.train
            )
        return True

    weighed = TASKS if isinstance(recipe.weights, str) else [task for task in TASKS if recipe.weights[task] > 0]
    return frozenset(task for task in weighed if all(known(job, task) for job in jobs))
