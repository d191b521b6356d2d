"""Networks that were trained by folds, on disk: which patients each has seen, and what it takes to ask them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hgpscale._version import __version__
from hgpscale.deep.files import write_json
from hgpscale.deep.hurdle import Calibration
from hgpscale.deep.recipe import Recipe
from hgpscale.deep.turning import Turn
from hgpscale.errors import DeepError
from hgpscale.learn.digests import lesion_hash

if TYPE_CHECKING:
    import torch

    from hgpscale.deep.network import Network
    from hgpscale.volume import Vector

FILE, SPLITS, UNSEEN = "networks.json", "splits.csv", "unseen.csv"
"""In a folder of networks: what is known of them all, their folds, and what each said of patients it had not seen."""
METRICS = "metrics.jsonl"
"""In the folder of one network: a line of JSON every few steps of its training."""

NAME = re.compile(r"\w[\w.-]*")
"""Of a fold: it becomes that of a folder."""

_SCHEMA = "hgpscale-networks-1"


class Member(NamedTuple):
    """One network.

    Attributes
    ----------
    name
        Of the fold.
    digest
        Of its weights' file.
    seen
        Keyed hashes of the patients that it was trained on.

    """

    name: str
    digest: str
    seen: frozenset[str]


@dataclass(frozen=True)
class Ensemble:
    """All networks of a folder.

    Attributes
    ----------
    folder
        Where they are.
    recipe
        Options of all.
    spacing
        In mm ``(z, y, x)``, of the scans that they take.
    members
        In the order of the folds.
    calibration
        From errors on patients that they had not seen.
    key
        Of the hashes.
    learned
        Those of `recipe.TASKS` that every network had labels of.
    turns
        How each network's embedding becomes that of the first, see `turning`.
    shuffled
        Whether labels were dealt out at random before.

    """

    folder: Path
    recipe: Recipe
    spacing: Vector
    members: tuple[Member, ...]
    calibration: Calibration
    key: bytes
    learned: frozenset[str] = frozenset()
    turns: tuple[Turn, ...] = ()
    shuffled: bool = False

    @classmethod
    def open(cls, folder: str | Path) -> Ensemble:
        """Open what `hgpscale deep train` wrote.

        Raises
        ------
        DeepError
            There is nothing, it did not come to its end, or it cannot be used.

        """
        path = Path(folder) / FILE
        try:
            said: Any = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise DeepError(
                f"{path}: the file is missing; 'hgpscale deep train' writes it when all folds are trained"
            ) from None
        except (OSError, ValueError) as error:
            raise DeepError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
        try:
            if said["schema"] != _SCHEMA:
                raise DeepError(f"{path}: expected {_SCHEMA}, found {said['schema']!r}; train with this hgpscale")
            recipe = Recipe.model_validate(said["recipe"])
            z, y, x = map(float, said["spacing"])
            members = tuple(Member(one["name"], one["digest"], frozenset(one["seen"])) for one in said["networks"])
            width = said["half_width"]
            calibration = Calibration(float(said["precision"]), float("nan") if width is None else float(width))
            key, learned = bytes.fromhex(said["key"]), frozenset(said["learned"])
            turns = tuple(Turn.of(one) for one in said["turns"])
            if wrong := [member.name for member in members if not NAME.fullmatch(member.name)]:
                raise ValueError(f"{wrong[0]!r} is no name of a fold")
            if len(turns) != len(members):
                raise ValueError(f"it has {len(turns)} turns for {len(members)} networks")
            shuffled = bool(said["shuffled"])
            return cls(
                Path(folder), recipe, (z, y, x), members, calibration, key, learned, turns=turns, shuffled=shuffled
            )
        except DeepError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise DeepError(f"{path}: is damaged: {' '.join(str(error).split())[:200]}") from error

    def write(self) -> None:
        """Write `FILE`; errors as of `files.write_json`."""
        width = self.calibration.half_width
        write_json(
            self.folder / FILE,
            {
                "schema": _SCHEMA,
                "version": __version__,
                "recipe": self.recipe.model_dump(mode="json"),
                "spacing": list(self.spacing),
                "precision": self.calibration.precision,
                "half_width": width if width == width else None,
                "key": self.key.hex(),
                "learned": sorted(self.learned),
                "shuffled": self.shuffled,
                "turns": [turn.as_json() for turn in self.turns],
                "networks": [
                    {"name": one.name, "digest": one.digest, "seen": sorted(one.seen)} for one in self.members
                ],
            },
        )

    def unseen_by(self, patient: str) -> tuple[int, ...]:
        """Return positions of the networks that were not trained on a patient; none: all were."""
        mine = lesion_hash(self.key, patient)
        return tuple(at for at, member in enumerate(self.members) if mine not in member.seen)

    def asked(self, patients: Collection[str]) -> dict[str, tuple[int, ...]]:
        """Return which networks may be asked about each patient.

        Raises
        ------
        DeepError
            All were trained on one of them: what they say of it says nothing of new patients.

        """
        found = {patient: self.unseen_by(patient) for patient in dict.fromkeys(patients)}
        known = [patient for patient, networks in found.items() if not networks]
        if known:
            raise DeepError(
                f"{self.folder}: all networks were trained on patient {known[0]}"
                f"{f' and {len(known) - 1} more' if len(known) > 1 else ''}, so that what they say of it would be no "
                "prediction; train by folds of these patients, or leave them out; others of equal ids need new ones"
            )
        return found

    def load(self, device: torch.device) -> list[Network]:
        """Return the networks, ready to be asked.

        Raises
        ------
        DeepError
            A file of weights is missing, damaged or another one.

        """
        from hgpscale.deep.datasets.record import digest_of
        from hgpscale.deep.network import Network
        from hgpscale.deep.training import NETWORK
        from hgpscale.deep.weights import fill, read_tensors

        networks = []
        for member in self.members:
            path = folder_of(self.folder, member.name) / NETWORK
            tensors = read_tensors(path).tensors
            if digest_of(path) != member.digest:
                raise DeepError(f"{path}: is not the file that {FILE} was written for; run 'hgpscale deep train' again")
            network = Network(self.recipe)
            fill(network, tensors, path)
            networks.append(network.to(device).eval().requires_grad_(False))
        return networks


def folder_of(folder: Path, name: str) -> Path:
    """Return where the network of a fold is."""
    return folder / f"fold-{name}"


def is_first_process() -> bool:
    """Whether this is the process that writes, where torchrun has started several."""
    return os.environ.get("RANK", "0") == "0"


def choose_device(wanted: str) -> torch.device:
    """Return the device that ``cpu``, ``gpu`` or ``auto`` (a GPU where there is one) mean here.

    Raises
    ------
    DeepError
        A GPU is wanted and torch can use none.

    """
    import torch

    there = torch.cuda.is_available()
    if wanted == "gpu" and not there:
        raise DeepError("device gpu: torch can use no GPU here; give --device auto or cpu, or install torch for CUDA")
    if not there or wanted == "cpu":
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
