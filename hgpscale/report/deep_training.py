"""The page of a training: how losses fell in each fold, and how patients that are not trained on were doing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hgpscale._version import __version__
from hgpscale.deep.ensemble import METRICS, folder_of
from hgpscale.deep.files import write_whole
from hgpscale.errors import ReportError
from hgpscale.report.deep_figures import training_curves
from hgpscale.report.rendering import template
from hgpscale.report.study_figures import Figure

PAGE = "training.html"
MARK = '<meta name="generator" content="hgpscale deep train">'


@dataclass(frozen=True)
class _Fold:
    """One network's figures."""

    name: str
    figures: Sequence[Figure]


def write_training_page(folder: Path, names: Sequence[str], unseen: Mapping[str, float]) -> Path | None:
    """Write the page of all folds that have begun, from their lines of JSON; None where none has left such lines.

    Parameters
    ----------
    folder
        Of the networks.
    names
        Of its folds.
    unseen
        How right they were of patients that they had not seen, see `hgpscale.deep.unseen.summary`; may be empty.

    Raises
    ------
    ReportError
        A line cannot be read.
    DeepError
        The page cannot be written.

    """
    files = {name: folder_of(folder, name) / METRICS for name in names}
    records = {name: _read(file) for name, file in files.items() if file.exists()}
    if not any(records.values()):
        return None
    folds = [
        _Fold(name, [replace(figure, name=f"{figure.name}-{at}") for figure in training_curves(lines)])
        for at, (name, lines) in enumerate(records.items())
    ]
    summary = []
    if unseen:
        auc = f"; AUC of pure desmoplastic growth {unseen['auc']:.3f}" if "auc" in unseen else ""
        summary.append(
            f"Of {int(unseen['lesions'])} lesions of patients that they were not trained on, networks are off by "
            f"{unseen['mae']:.3f} in the desmoplastic fraction, the mean of the training lesions by "
            f"{unseen['mae_mean']:.3f}{auc}."
        )
    summary.append(
        "Curves of validation are of such patients too. They change nothing: training ends when its steps are done."
    )
    facts = [("folds", str(len(folds))), ("steps", str(max(lines[-1]["step"] for lines in records.values() if lines)))]
    html = template("training.html").render(
        mark=MARK, title=folder.resolve().name, facts=[*facts, ("hgpscale", __version__)], summary=summary, folds=folds
    )
    output = folder / PAGE
    write_whole(output, lambda partial: partial.write_text(html, encoding="utf-8"))
    return output


def _read(file: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise ReportError(f"{file}: cannot be read: {' '.join(str(error).split())}") from error
