"""Makes the page of a prediction from what `predict_scans` returned."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from hgpscale.report.deep_page import PAGE, PredictionRun, write_page
from hgpscale.report.tables import count_of

if TYPE_CHECKING:
    from hgpscale.deep.predicting import Predicted

_BORDER_MM = 4.0
"""Of a lesion's border on either side, without which its growth cannot be seen: two mm each."""


def write_prediction_page(predicted: Predicted) -> Path:
    """Write ``predictions.html`` beside what was predicted. Errors as of `write_page`."""
    said = predicted.said
    notes = []
    if "growth" not in said["learned"]:
        notes.append("These networks were trained without growth patterns: they find and outline, and no more.")
    if "liver" not in said["learned"]:
        notes.append(
            "These networks were not taught where the liver is: without a mask of it, they look for lesions everywhere."
        )
    if said["shuffled"]:
        notes.append("These networks are a control: they were trained on growth patterns of other lesions.")
    wide = [
        lesion.lesion
        for answer in predicted.answers
        for lesion in answer.lesions
        if 2 * (3 * lesion.volume / (4 * math.pi)) ** (1 / 3) + _BORDER_MM > min(said["patch"])
    ]
    if wide:
        notes.append(
            f"{count_of(len(wide), 'lesion')}, such as {wide[0]}: with their border wider than the "
            f"{' x '.join(f'{n:g}' for n in said['patch'])} mm that networks see at once; part of it was not seen, and "
            "what is said of their growth is unsure."
        )
    settings = [(name, str(said[name])) for name in ("networks", "size", "spacing", "threshold", "overlap")]
    run = PredictionRun(
        Path(said["scans"]).name,
        len(said["digests"]),
        settings,
        notes,
        [(problem.file, problem.reason) for problem in predicted.problems],
        datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )
    return write_page(
        predicted.folder / PAGE,
        predicted.answers,
        run,
        pictures=predicted.saliency,
        detection=predicted.detection,
    )
