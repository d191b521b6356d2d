"""Tables of predictions: a row a lesion and a row a patient, the same columns wherever they come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hgpscale.learn.learners import COMPOSITION_OUTPUTS
from hgpscale.learn.scores import limits
from hgpscale.learn.targets import PARTS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hgpscale.learn.samples import Samples
    from hgpscale.learn.targets import Target

UNUSUAL = 0.01
"""Typicality up to which a lesion counts as unlike the training data; of few, one that is farther off than all."""


def lesion_table(
    target: Target,
    samples: Samples,
    said: NDArray[np.float64],
    *,
    half_width: float,
    typicality: NDArray[np.float64],
    n_segmentations: NDArray[np.int64],
    n_training: int,
) -> pd.DataFrame:
    """Return a row a lesion.

    Parameters
    ----------
    target
        What was predicted.
    samples
        One row a lesion.
    said
        Outputs, shape ``(lesion, k)``, see `learners.outputs`.
    half_width
        Of the conformal interval.
    typicality, n_segmentations
        Of each lesion, shape ``(lesion,)``.
    n_training
        Rows that typicality was told from.

    """
    table: dict[str, Any] = {"level": "lesion", "patient": samples.patient, "lesion": samples.lesion}
    if "centre" in samples.columns:
        table["centre"] = samples.columns["centre"].to_numpy()
    if target.kind == "binary":
        table["probability"] = said[:, 0]
        table["prediction"] = (said[:, 0] >= 0.5).astype(np.int64)
    elif target.kind == "class":
        table |= {f"probability_{name}": said[:, i] for i, name in enumerate(target.classes)}
        table["prediction"] = np.array(target.classes, object)[said.argmax(axis=1)]
    elif target.kind == "number":
        table["prediction"] = said[:, 0]
    else:
        table |= {name: said[:, i] for i, name in enumerate(COMPOSITION_OUTPUTS)}
    if target.kind in ("number", "composition"):
        table["low"], table["high"] = limits(said, half_width, target.kind)
    table |= {
        "unusual": (typicality <= max(UNUSUAL, 1 / (n_training + 1)) + 1e-12).astype(np.int64),
        "typicality": typicality,
        "interface_area": samples.interface,
        "n_segmentations": n_segmentations,
    }
    return pd.DataFrame(table)


def truth_columns(target: Target, y: NDArray[np.float64]) -> dict[str, Any]:
    """Return what is true of each lesion as columns of the table."""
    if target.kind == "composition":
        return {f"true_{part}": y[:, i] for i, part in enumerate(PARTS)}
    if target.kind == "class":
        return {"target": np.array(target.classes, object)[y.astype(int)]}
    return {"target": y.astype(np.int64) if target.kind == "binary" else y}


def patient_table(target: Target, lesions: pd.DataFrame) -> pd.DataFrame:
    """Return a row a patient from rows of lesions.

    Columns are those of a lesion, where they have a meaning:

    - `probability` and `probability_*` are means over the patient's lesions, `prediction` follows from those;
    - parts of a composition are means weighted by the lesions' interface areas (each lesion the same where an area is
      not known); `mean_desmoplastic` is the plain mean;
    - `any_non_desmoplastic` (of ``pure``, and of a composition) is the probability that one lesion or more is not
      purely desmoplastic, lesions taken as independent given the scan: 1 - prod(P(d = 100 %)); one such lesion makes
      a patient non-desmoplastic;
    - `unusual` is 1 where any lesion is; `typicality` is the least.
    """
    rows = [_patient(target, str(patient), group) for patient, group in lesions.groupby("patient", sort=False)]
    table = pd.DataFrame(rows)
    return table[[name for name in [*lesions.columns, "any_non_desmoplastic", "mean_desmoplastic"] if name in table]]


def _patient(target: Target, patient: str, group: pd.DataFrame) -> dict[str, Any]:
    row: dict[str, Any] = {"level": "patient", "patient": patient}
    if "centre" in group:
        row["centre"] = group["centre"].iloc[0]
    if target.kind == "binary":
        row["probability"] = group["probability"].mean()
        row["prediction"] = int(row["probability"] >= 0.5)
        if target.name == "pure":
            row["any_non_desmoplastic"] = 1 - float(np.prod(group["probability"]))
    elif target.kind == "class":
        means = [float(group[f"probability_{name}"].mean()) for name in target.classes]
        row |= {f"probability_{name}": mean for name, mean in zip(target.classes, means, strict=True)}
        row["prediction"] = target.classes[int(np.argmax(means))]
    elif target.kind == "number":
        row["prediction"] = group["prediction"].mean()
    else:
        area = group["interface_area"].to_numpy(float)
        weight = area if np.isfinite(area).all() and area.sum() > 0 else np.ones(len(group))
        row |= {part: float(np.average(group[part], weights=weight)) for part in PARTS}
        row["any_non_desmoplastic"] = 1 - float(np.prod(group["p_pure_desmoplastic"]))
        row["mean_desmoplastic"] = float(group["desmoplastic"].mean())
    row |= {
        "unusual": int(group["unusual"].max()),
        "typicality": float(group["typicality"].min()),
        "interface_area": float(group["interface_area"].sum(min_count=1)),
        "n_segmentations": int(group["n_segmentations"].max()),
    }
    return row
