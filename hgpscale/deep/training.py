"""Trains one network, step by step: what a killed run had come to is gone on with, to the same bit."""

from __future__ import annotations

import copy
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed, nn

from hgpscale.deep.ensemble import METRICS
from hgpscale.deep.files import writing
from hgpscale.deep.losses import losses_of, total
from hgpscale.deep.network import Network
from hgpscale.deep.sampling import Sampler
from hgpscale.deep.weights import fill, read_tensors, write_tensors
from hgpscale.errors import DeepError

if TYPE_CHECKING:
    from hgpscale.deep.prepared import PreparedScan
    from hgpscale.deep.recipe import Recipe
    from hgpscale.deep.sampling import Batch

NETWORK, CHECKPOINT = "network.safetensors", "checkpoint.safetensors"
"""In a network's folder: what predicts, and what a run goes on from."""

_LOG_EVERY = 10
_LOADERS = 8  # processes that read for a GPU
_MOST_NORM = 5.0

OnStep = Callable[[int, int, float], None]
"""Called with steps done, their total, and the loss."""


@dataclass
class Run:
    """The state of a training.

    Attributes
    ----------
    network
        What learns.
    average
        Mean of its weights over the last steps: what predicts.
    optimizer
        AdamW.
    step
        Steps that are done.

    """

    network: Network
    average: Network
    optimizer: torch.optim.AdamW
    step: int = 0

    @classmethod
    def begin(cls, recipe: Recipe, device: torch.device) -> Run:
        """Return a run that has learned nothing; its weights depend on the recipe's seed alone."""
        torch.manual_seed(recipe.seed)
        network = Network(recipe).to(device)
        average = copy.deepcopy(network).eval().requires_grad_(False)
        return cls(network, average, torch.optim.AdamW(network.parameters(), recipe.rate, weight_decay=recipe.decay))

    def save(self, path: Path, recipe: Recipe, cohort: str) -> None:
        """Write all that `load` needs."""
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.state_dict().items()}
        for number, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{name}": value for name, value in state.items()}
        write_tensors(path, tensors, {"step": str(self.step), "recipe": recipe.digest, "cohort": cohort})

    def load(self, path: Path, recipe: Recipe, cohort: str) -> None:
        """Go on from what `save` wrote.

        Raises
        ------
        DeepError
            It is damaged, or of another recipe or other patients.

        """
        stored = read_tensors(path)
        if (stored.about.get("recipe"), stored.about.get("cohort")) != (recipe.digest, cohort):
            raise DeepError(
                f"{path}: is of a training with other options or other patients; give --force to begin anew, or "
                "another folder"
            )
        parts: dict[str, dict[str, torch.Tensor]] = {"network": {}, "average": {}, "optimizer": {}}
        for name, value in stored.tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = value
        fill(self.network, parts["network"], path)
        fill(self.average, parts["average"], path)
        state: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in parts["optimizer"].items():
            number, _, rest = name.partition(".")
            state.setdefault(int(number), {})[rest] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        self.step = int(stored.about["step"])


class _Learner(nn.Module):
    """The whole of what is differentiated, as one module: what several processes share gradients of."""

    def __init__(self, network: Network, recipe: Recipe) -> None:
        super().__init__()
        self.network, self._recipe = network, recipe

    def forward(self, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        losses = losses_of(self.network, batch)
        return total(self.network, losses, self._recipe), losses


def train(
    patients: Sequence[Sequence[PreparedScan]],
    recipe: Recipe,
    folder: Path,
    *,
    cohort: str,
    device: torch.device,
    validate: Callable[[Network], dict[str, float]] | None = None,
    on_step: OnStep | None = None,
) -> Network:
    """Train a network on patients, from where an earlier run in the folder has come to.

    With equal options, patients and number of processes the weights are equal on a CPU, however often the run was
    interrupted. `NETWORK` is written at the end.

    Parameters
    ----------
    patients
        The scans of each.
    recipe
        Options.
    folder
        For weights, checkpoints and metrics; made where absent.
    cohort
        Digest of what is trained on: a checkpoint of something else is refused.
    device
        Where.
    validate
        Called with the averaged network from time to time: numbers that are written down and change nothing.
    on_step
        Told of progress.

    Returns
    -------
    Network
        The averaged one.

    Raises
    ------
    DeepError
        There is nothing to train on, a checkpoint does not fit, a loss is not finite, or a file cannot be written.

    """
    if not any(scan.lesions for scans in patients for scan in scans):
        raise DeepError(f"{folder}: no lesion to train on")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    shared = distributed.is_initialized()
    rank, world = (distributed.get_rank(), distributed.get_world_size()) if shared else (0, 1)
    with _deterministic(device):
        run = Run.begin(recipe, device)
        if (folder / CHECKPOINT).exists():
            run.load(folder / CHECKPOINT, recipe, cohort)
        learner: nn.Module = _Learner(run.network, recipe)
        if world > 1:
            learner = nn.parallel.DistributedDataParallel(learner, find_unused_parameters=True)
        log = _Log(folder / METRICS, run.step) if rank == 0 else None
        for batch in _batches(Sampler(patients, recipe, rank), run.step, device):
            loss, losses = _step(run, learner, batch, recipe, rank)
            if not math.isfinite(loss):
                raise DeepError(f"{folder}: the loss is {loss} at step {run.step}; give a lower rate, or --seed")
            if log is None:
                continue
            log.add(losses, loss)
            done = run.step == recipe.steps
            due = done or (recipe.validate_every and run.step % recipe.validate_every == 0)
            if run.step % _LOG_EVERY == 0 or run.step % recipe.save_every == 0 or done:
                log.write_training(run.step, run.optimizer.param_groups[0]["lr"])
            if validate is not None and due:
                log.write_validation(run.step, validate(run.average))
            if run.step % recipe.save_every == 0 or done:
                run.save(folder / CHECKPOINT, recipe, cohort)
            if on_step:
                on_step(run.step, recipe.steps, loss)
        if rank == 0:
            about = {"recipe": recipe.digest, "cohort": cohort, "step": str(run.step)}
            write_tensors(folder / NETWORK, run.average.state_dict(), about)
        barrier()
    return run.average


def rate_at(step: int, recipe: Recipe) -> float:
    """Return the learning rate of a step: up along a line while it warms up, then down along half a cosine."""
    if step < recipe.warmup:
        return recipe.rate * (step + 1) / recipe.warmup
    rest = (step - recipe.warmup) / max(recipe.steps - recipe.warmup, 1)
    return recipe.rate * 0.5 * (1 + math.cos(math.pi * min(rest, 1.0)))


def _step(run: Run, learner: nn.Module, batch: Batch, recipe: Recipe, rank: int) -> tuple[float, dict[str, float]]:
    # Dropout depends on the step alone, so that a run that was resumed draws the same.
    torch.manual_seed(hash((recipe.seed, rank, run.step)) % 2**63)
    for group in run.optimizer.param_groups:
        group["lr"] = rate_at(run.step, recipe)
    mixed = torch.autocast(batch.image.device.type, torch.bfloat16) if recipe.precision == "bfloat16" else nullcontext()
    run.network.train()
    with mixed:
        loss, losses = learner(batch)
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(run.network.parameters(), _MOST_NORM)
    run.optimizer.step()
    run.step += 1
    share = 1 / min(run.step, recipe.average)
    with torch.no_grad():
        for mean, new in zip(run.average.parameters(), run.network.parameters(), strict=True):
            mean.lerp_(new, share)
        for kept, now in zip(run.average.buffers(), run.network.buffers(), strict=True):
            kept.copy_(now)
    return float(loss.detach()), {task: float(value.detach()) for task, value in losses.items()}


def _batches(sampler: Sampler, first: int, device: torch.device) -> Iterator[Batch]:
    loaders = min(_LOADERS, os.cpu_count() or 1) if device.type == "cuda" else 0
    steps = range(first, len(sampler))
    loader: Any = torch.utils.data.DataLoader(
        sampler, batch_size=None, sampler=steps, num_workers=loaders, pin_memory=False, persistent_workers=False
    )
    for batch in loader:
        yield batch.to(device)


@contextmanager
def _deterministic(device: torch.device) -> Iterator[None]:
    """Use no algorithm on a CPU that sums in an order of its own."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(device.type == "cpu")
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


@contextmanager
def together(device: torch.device) -> Iterator[None]:
    """Let the processes that torchrun has started share gradients; without it, do nothing."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def barrier() -> None:
    """Wait for the other processes, where torchrun has started several."""
    if distributed.is_initialized():
        distributed.barrier()


class _Log:
    """Lines of JSON: mean losses since the last line, as a step has them that a checkpoint can come after."""

    def __init__(self, path: Path, step: int) -> None:
        self._path = path
        self._sums: dict[str, list[float]] = {}
        with writing(path):
            lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
            # What a killed run wrote after its last checkpoint is done again.
            # The last of them may be half.
            kept = [line for line in lines if _step_of(line) <= step]
            path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

    def add(self, losses: dict[str, float], loss: float) -> None:
        for name, value in {"": loss, **losses}.items():
            self._sums.setdefault(name, []).append(value)

    def write_training(self, step: int, rate: float) -> None:
        means = {name: _short(sum(values) / len(values)) for name, values in self._sums.items()}
        self._sums = {}
        self.write(
            {"step": step, "kind": "train", "learning_rate": _short(rate), "loss": means.pop(""), "losses": means}
        )

    def write_validation(self, step: int, found: dict[str, float]) -> None:
        self.write({"step": step, "kind": "validation", **{name: _short(value) for name, value in found.items()}})

    def write(self, said: dict[str, Any]) -> None:
        with writing(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(said) + "\n")


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except ValueError:
        return math.inf


def _short(value: float) -> float:
    return float(f"{value:.6g}")
