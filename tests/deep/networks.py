"""A small study, prepared, and networks that are trained on it in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hgpscale.deep.recipe import Recipe
from hgpscale.testing.study import make_study

SPACING = (3.0, 2.0, 2.0)


def study(folder: Path, patients: int = 5, external: int = 2) -> Path:
    """Return the manifest of a study."""
    return make_study(folder, patients, external, seed=3)


def micro(**changed: Any) -> Recipe:
    """Return a network so small that a step takes some hundredths of a second."""
    small: dict[str, Any] = {
        "filters": 4,
        "levels": 2,
        "width": 4,
        "embedding": 4,
        "patch": (8, 16, 16),
        "patients": 2,
        "lesions": 2,
        "background": 1,
        "steps": 6,
        "warmup": 2,
        "save_every": 4,
        "validate_every": 0,
        "shells": (-3.0, 0.0, 3.0),
        "average": 3,
    }
    return Recipe.of("tiny", **{**small, **changed})
