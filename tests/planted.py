"""Small studies with a planted signal, without a cube behind them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import joblib  # type: ignore[import-untyped]
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hgpscale.learn.fitting import Rows, rows_of
from hgpscale.learn.samples import Samples, lesion_weight
from hgpscale.learn.targets import Target

Array = NDArray[np.float64]

TARGETS = {
    "binary": Target("growth", "binary", ("other", "desmoplastic")),
    "class": Target("pattern", "class", ("a", "b", "c")),
    "number": Target("size", "number"),
    "composition": Target("composition", "composition", ("desmoplastic", "replacement", "pushing")),
}
"""One target of each kind."""

SEEN = ("clear", "twin", "quarrel", "blurred", *(f"noise{i}" for i in range(4)))
FEATURES = (*SEEN, *(f"rim__{name}" for name in SEEN))


def rows(kind: str, n_patients: int = 40, seed: int = 0, columns: int = 6) -> Rows:
    """Return two lesions of each patient; the target follows the first two columns, a few values are not known."""
    random = np.random.default_rng(seed)
    patient = np.repeat(np.arange(n_patients), 2)
    X = random.normal(size=(len(patient), columns)) * 10.0 ** np.arange(columns) + 5
    signal = (X[:, 0] - 5) + 0.5 * (X[:, 1] - 5) / 10 + 0.2 * random.normal(size=len(patient))
    X[random.random(X.shape) < 0.02] = np.nan
    d = np.clip(0.5 + 0.45 * signal, 0, 1)
    y: Array = {
        "binary": (signal > 0).astype(float),
        "class": np.digitize(signal, [-0.5, 0.5]).astype(float),
        "number": 100 + 30 * signal,
        "composition": np.column_stack([d, 0.7 * (1 - d), 0.3 * (1 - d)]),
    }[kind]
    lesion = np.array([f"l{i}" for i in range(len(patient))], object)
    rater = np.full(len(lesion), "A", object)
    names = np.array([f"p{i}" for i in patient], object)
    return rows_of(TARGETS[kind], X, y, names, lesion, rater, lesion_weight(lesion))


def samples(n_patients: int = 45, seed: int = 0) -> Samples:
    """Return lesions of three centres, a third with two outlines, whose growth follows the first feature of the rim.

    In both regions `twin` is `clear` again, and raters disagree on `quarrel`. `blurred` is not always known.
    """
    random = np.random.default_rng(seed)
    lesion = np.repeat(np.arange(2 * n_patients), 2)
    rater = np.tile(["A", "B"], 2 * n_patients)
    kept = (rater == "A") | (lesion % 3 == 0)
    of, rater = lesion[kept], rater[kept]
    patient = of // 2
    centre = patient % 3
    signal = random.normal(size=2 * n_patients)[of]
    parts = []
    for strength in (0.0, 1.0):
        own = random.normal(size=(2 * n_patients, len(SEEN)))[of]
        own[:, 0] = strength * signal + (1 - strength) * own[:, 0]
        own += 0.05 * random.normal(size=own.shape)
        own[:, 1] = own[:, 0]
        own[:, 2] = random.normal(size=len(of))
        own[random.random(len(of)) < 0.05, 3] = np.nan
        parts.append((own + 3 * centre[:, None]) * (1 + centre[:, None] / 2))
    d = np.round(100 * np.clip(0.5 + 0.6 * signal, 0, 1))
    columns = pd.DataFrame(
        {
            "patient": [f"p{i:03d}" for i in patient],
            "centre": np.array(["east", "north", "west"], object)[centre],
            "sex": np.array(["f", "m"], object)[patient % 2],
            "age": 50.0 + patient % 17,
            "growth": np.where(d > 50, "mostly", "less"),
            "pattern": np.array(["a", "b", "c"], object)[np.digitize(d, [30, 70])],
            "burden": 3 * signal + 10,
            "hgp_desmoplastic": d,
            "hgp_replacement": 100 - d,
            "hgp_pushing": 0 * d,
        }
    )
    volume = np.exp(random.normal(size=len(of)))
    names = np.array([f"l{i:03d}" for i in of], object)
    whose = columns["patient"].to_numpy(object)
    values = np.concatenate(parts, axis=1)
    return Samples(values, FEATURES, names, rater.astype(object), whose, columns, volume, volume)


def state(thing: Any) -> str:
    """Return a digest of everything that an object holds, to the bit."""
    return str(joblib.hash(thing))


def steps(pipeline: Any, front: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the steps of nested pipelines by name."""
    for name, step in pipeline.steps:
        if hasattr(step, "steps"):
            yield from steps(step, f"{front}{name}.")
        else:
            yield f"{front}{name}", step
