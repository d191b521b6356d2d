"""What the commands ``hgpscale deep prepare``, ``train``, ``predict`` and ``embed`` print."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hgpscale.report.cohorts import print_left_out
from hgpscale.report.tables import count_of, print_line, print_table

if TYPE_CHECKING:
    from hgpscale.deep.embedding import PutIntoCube
    from hgpscale.deep.folds import Trained
    from hgpscale.deep.predicting import Predicted
    from hgpscale.deep.preparing import Prepared


def print_prepared(prepared: Prepared, *, quiet: bool = False) -> None:
    """Print what a store holds, what a person should know, and what was left out; `quiet`: only the last."""
    if not quiet:
        parts = [count_of(prepared.scans, "scan"), count_of(prepared.patients, "patient")]
        parts += [count_of(prepared.lesions, "lesion"), f"{prepared.with_growth} with a growth pattern"]
        print_line(f"{prepared.path}: {', '.join(parts)}; {count_of(prepared.made, 'scan')} made now")
        for note in prepared.notes:
            print_line(f"note: {note}", to_stderr=True)
    print_left_out(prepared.problems)


def print_embedded(found: PutIntoCube) -> None:
    """Print how many rows of a cube have numbers of networks now."""
    put = found.put
    kept = f", {put.kept} had them already" if put.kept else ""
    left = f"; {count_of(put.pending, 'row')} without" if put.pending else ""
    print_line(f"{found.cube}: {count_of(put.done, 'row')} with {found.features} numbers of networks{kept}{left}")
    if found.unknown:
        print_line(f"note: {count_of(len(found.unknown), 'lesion')} not in the cube, such as {found.unknown[0]}")


@contextmanager
def training_bar(*, quiet: bool = False) -> Iterator[Callable[[str, int, int, float], None]]:
    """Show a bar for the fold that is trained, if stderr is a terminal; yields what `train_folds` calls."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("fold {task.fields[fold]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as progress:
        task = progress.add_task("", fold="", loss=float("nan"))
        yield lambda fold, done, total, loss: progress.update(task, completed=done, total=total, fold=fold, loss=loss)


def print_trained(trained: Trained) -> None:
    """Print which folds were trained, and how networks did on patients that they had not seen."""
    now = f"trained now: {', '.join(trained.trained)}" if trained.trained else "all were trained already"
    if trained.missing:
        now += f"; still to train: {', '.join(trained.missing)}"
    print_line(f"{trained.folder}: {now}")
    if trained.unseen:
        said = trained.unseen
        auc = f", AUC of pure desmoplastic {said['auc']:.3f}" if "auc" in said else ""
        print_line(
            f"of patients not trained on: {count_of(int(said['lesions']), 'lesion')}, desmoplastic fraction off by "
            f"{said['mae']:.3f} on average (the mean of the training lesions: {said['mae_mean']:.3f}){auc}"
        )


def print_predicted(predicted: Predicted, *, quiet: bool = False) -> None:
    """Print how many lesions were found and how they compare with drawn ones; `quiet`: only what was left out."""
    if not quiet:
        lesions = sum(len(answer.lesions) for answer in predicted.answers)
        print_line(
            f"{predicted.folder}: {count_of(len(predicted.answers), 'scan')}, {count_of(lesions, 'lesion')} found"
        )
        if predicted.detection is not None:
            _print_detection(predicted)
    print_left_out(predicted.problems)


def _print_detection(predicted: Predicted) -> None:
    said = predicted.detection
    assert said is not None, "lesions are drawn"
    rows = [("sensitivity", said["sensitivity"]), ("false positives a scan", said["false_positives"])]
    rows += [(f"sensitivity at {rate} false a scan", one) for rate, one in said["sensitivity_at"].items()]
    rows += [("Dice of lesions that were found", said["dice_lesions"]), ("Dice of scans", said["dice_scans"])]
    cells = [(name, *(_number(one[part]) for part in ("mean", "low", "high"))) for name, one in rows]
    title = f"{said['detected']} of {said['lesions']} drawn lesions found, {said['false']} false"
    print_table(("measure", "mean", "low", "high"), cells, title)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
