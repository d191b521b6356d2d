"""Makes the page of a prediction from what `predict_scans` returned."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from hgpscale.report.deep_page import PAGE, PredictionRun, write_page

if TYPE_CHECKING:
    from hgpscale.deep.predicting import Predicted


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
