"""What an evaluation left behind: metrics.json and predictions.csv, read and checked."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hgpscale.errors import ReportError

SCHEMA = "hgpscale-metrics-1"
METRICS, PREDICTIONS = "metrics.json", "predictions.csv"
WHOLE = "all"
"""Name that labels of all centres together have."""
PARTS = ("desmoplastic", "replacement", "pushing")
Kind = Literal["binary", "class", "number", "composition", "multitask"]

NAMES = (
    "auc", "balanced_accuracy", "sensitivity", "specificity", "brier", "calibration_slope", "calibration_intercept",
    "log_loss", "mae", "rmse", "r2", "spearman", "mae_desmoplastic", "mae_replacement", "mae_pushing",
    "cross_entropy", "spearman_desmoplastic", "interval_coverage", "interval_width",
)  # fmt: skip
"""Metrics, in the order of the tables; others of the file are left out."""

_AGAIN = "run hgpscale evaluate again with this folder as --out"
_TEXT = ("level", "split", "patient", "lesion", "centre")
_TRUE = tuple(f"true_{part}" for part in PARTS)
_NEEDED: Mapping[Kind, tuple[str, ...]] = {
    "binary": ("target", "probability"),
    "class": ("target", "prediction"),
    "number": ("target", "prediction"),
    "composition": (*_TRUE, *PARTS),
    "multitask": (*_TRUE, *PARTS, "p_pure_desmoplastic"),
}
_FRACTIONS = (*_TRUE, *PARTS, "p_pure_desmoplastic", "p_majority_desmoplastic", "probability", "typicality")


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Value(_Part):
    """A metric over the splits, with its 95 % interval; None where it is not defined."""

    mean: float | None = None
    low: float | None = None
    high: float | None = None
    per_split: tuple[float | None, ...] = ()
    interval: str = "none"


class Difference(_Part):
    """Model minus baseline in the same splits, with its interval and p-value."""

    mean: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None


class _WithMetrics(_Part):
    metrics: dict[str, Value] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _gathered(cls, data: Any) -> Any:
        """Metrics stand among the other keys."""
        if not isinstance(data, dict):
            return data
        return {**data, "metrics": {name: data[name] for name in NAMES if name in data}}


class Baseline(_WithMetrics):
    """Metrics of one baseline, and the model's differences from it."""

    difference: dict[str, Difference] = Field(default_factory=dict)


class Group(_WithMetrics):
    """Metrics of a stratum's lesions, or of one rater's outlines."""

    lesions: int = 0


class DeLong(_Part):
    """AUC in one test set by DeLong's variance."""

    auc: float
    low: float | None = None
    high: float | None = None


class Permutation(_Part):
    """How often shuffled labels do as well."""

    metric: str
    p: float | None = None
    permutations: int = 0


class Splits(_Part):
    """How lesions were divided into training and test."""

    scheme: str = "repeated"
    count: int = 1
    seed: int | None = None
    test_fraction: float | None = None
    names: tuple[str, ...] = ()
    sizes: tuple[tuple[int, int], ...] = ()


class Excluded(_Part):
    """Lesions that were left out, and why."""

    reason: str
    lesions: int


class People(_Part):
    """Who took part."""

    patients: int
    lesions: int
    segmentations: tuple[str, ...] = ()
    features: int = 0
    centres: dict[str, int] = Field(default_factory=dict)
    excluded: tuple[Excluded, ...] = ()
    labels: dict[str, dict[str, float | None]] = Field(default_factory=dict)

    @property
    def by_centre(self) -> dict[str, dict[str, float | None]]:
        """Labels of each centre, without those of all together where there are centres."""
        alone = {name: counts for name, counts in self.labels.items() if name != WHOLE}
        return alone or self.labels

    @property
    def totals(self) -> dict[str, float]:
        """Labels of all centres together."""
        found: dict[str, float] = {}
        for counts in [self.labels[WHOLE]] if WHOLE in self.labels else self.labels.values():
            for label, count in counts.items():
                found[label] = found.get(label, 0.0) + (count or 0.0)
        return found

    def lesions_of(self, centre: str) -> int | None:
        """Return how many lesions a row of `labels` is about; None where that is not known."""
        return self.lesions if centre == WHOLE or len(self.labels) == 1 else self.centres.get(centre)


class Chosen(_Part):
    """A feature, and in which share of the splits it was selected."""

    name: str
    frequency: float


class RaterSpread(_Part):
    """Largest difference of predictions between the raters of one lesion."""

    mean: float | None = None
    max: float | None = None


class Metrics(_WithMetrics):
    """The file metrics.json."""

    target: str
    kind: Kind
    positive: str = ""
    classes: tuple[str, ...] = ()
    model: str = ""
    delong: DeLong | None = None
    baselines: dict[str, Baseline] = Field(default_factory=dict)
    permutation: Permutation | None = None
    splits: Splits = Field(default_factory=Splits)
    cohort: People
    features: tuple[Chosen, ...] = ()
    strata: dict[str, dict[str, Group]] = Field(default_factory=dict)
    raters: dict[str, Group] = Field(default_factory=dict)
    rater_spread: RaterSpread | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    cube: str = ""
    settings_digest: str = ""
    versions: dict[str, str] = Field(default_factory=dict)
    seconds: float | None = None
    created: str = ""

    @property
    def has_composition(self) -> bool:
        """Whether growth patterns are predicted as fractions."""
        return self.kind in ("composition", "multitask")

    @property
    def events(self) -> tuple[str, str]:
        """Names of no and yes, where there is a probability."""
        if self.kind == "multitask":
            return "other growth", "pure desmoplastic"
        if len(self.classes) == 2:
            return self.classes[0], self.classes[1]
        return (f"not {self.positive}", self.positive) if self.positive else ("negative", "positive")

    @property
    def harmonised(self) -> str:
        """How features were harmonised between centres; empty where they were not."""
        said = self.settings.get("harmonise")
        return str(said) if said and said != "none" else ""

    @property
    def has_probability(self) -> bool:
        """Whether there is one event with a probability."""
        return self.kind in ("binary", "multitask")


@dataclass(frozen=True)
class Study:
    """An evaluation.

    Attributes
    ----------
    folder
        Where it lies.
    metrics
        The file metrics.json.
    predictions
        Rows of predictions.csv about lesions: ids are text, numbers are floats with NaN where a cell is empty.
    patients
        How many rows were about patients.

    """

    folder: Path
    metrics: Metrics
    predictions: pd.DataFrame
    patients: int = 0

    @cached_property
    def events(self) -> pd.DataFrame:
        """Rows with a known yes or no: `split`, `lesion`, `y` and the probability `p`; empty for other targets."""
        table = self.predictions
        if self.metrics.kind == "binary":
            y, p = table["target"], table["probability"]
        elif self.metrics.kind == "multitask":
            y = (table["true_desmoplastic"] > 1 - 1e-9).astype(float).where(table["true_desmoplastic"].notna())
            p = table["p_pure_desmoplastic"]
        else:
            return pd.DataFrame({"split": [], "lesion": [], "y": [], "p": []})
        found = pd.DataFrame({"split": table["split"], "lesion": table["lesion"], "y": y, "p": p}).dropna()
        return found.reset_index(drop=True)

    @cached_property
    def lesions(self) -> pd.DataFrame:
        """One row a lesion: `patient`, `centre`, and the mean over the splits that tested it of every number."""
        table = self.predictions
        numbers = [name for name in table.columns if pd.api.types.is_numeric_dtype(table[name])]
        means = table.groupby("lesion", sort=False)[numbers].mean()
        texts = [name for name in ("patient", "centre") if name in table]
        first: pd.DataFrame = table.groupby("lesion", sort=False)[texts].first()
        return first.join(means)


def read_study(folder: str | Path) -> Study:
    """Read both files of an evaluation.

    Raises
    ------
    ReportError
        One of them is not there, is damaged, or is of another version.

    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ReportError(f"{folder}: expected the folder that hgpscale evaluate wrote with --out, found none there")
    metrics = _metrics(folder / METRICS)
    table = _predictions(folder / PREDICTIONS, metrics)
    of_lesions = table["level"] == "lesion"
    predictions = table[of_lesions].reset_index(drop=True)
    if predictions.empty:
        raise ReportError(f"{folder / PREDICTIONS}: expected rows of level lesion, found none; {_AGAIN}")
    return Study(folder, metrics, predictions, int((~of_lesions).sum()))


def _text_of(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise ReportError(f"{path}: expected what hgpscale evaluate writes, found no such file; {_AGAIN}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ReportError(f"{path}: cannot be read: {error}; {_AGAIN}") from error


def _metrics(path: Path) -> Metrics:
    try:
        # NaN and Infinity are not JSON; what is not defined is null.
        data = json.loads(_text_of(path), parse_constant=lambda _: None)
    except json.JSONDecodeError as error:
        raise ReportError(f"{path}: expected JSON, found an error at line {error.lineno}; {_AGAIN}") from error
    found = data.get("schema") if isinstance(data, dict) else None
    if found != SCHEMA:
        said = "no schema" if found is None else f"schema {found!r}"
        raise ReportError(f"{path}: expected schema {SCHEMA!r}, found {said}; {_AGAIN} and this version of hgpscale")
    try:
        return Metrics.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ReportError(f"{path}: {place}: {first['msg']}, found {_short(first['input'])}; {_AGAIN}") from error


def _short(value: object) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def _predictions(path: Path, metrics: Metrics) -> pd.DataFrame:
    rows = list(csv.reader(_text_of(path).splitlines(keepends=True)))
    rows = [row for row in rows if row]
    if not rows:
        raise ReportError(f"{path}: expected a header and rows, found an empty file; {_AGAIN}")
    columns, body = rows[0], rows[1:]
    missing = [name for name in ("level", "split", "lesion", "patient", *_NEEDED[metrics.kind]) if name not in columns]
    if missing:
        raise ReportError(
            f"{path}: expected the columns {', '.join(missing)} for the target {metrics.target} ({metrics.kind}), "
            f"found {', '.join(columns)}; {_AGAIN}"
        )
    for number, row in enumerate(body, start=2):
        if len(row) != len(columns):
            raise ReportError(f"{path}: row {number}: expected {len(columns)} cells, found {len(row)}; {_AGAIN}")
    table = pd.DataFrame(body, columns=columns, dtype=object)
    if metrics.kind == "binary":
        at = columns.index("target")
        for number, row in enumerate(body, start=2):
            if row[at] not in ("", "0", "1", "0.0", "1.0"):
                raise ReportError(
                    f"{path}: row {number}: target: expected 0, 1 or nothing, found {row[at]!r}; {_AGAIN}"
                )
    words = {*_TEXT, *({"target", "prediction"} if metrics.kind == "class" else set())}
    for name in columns:
        if name not in words:
            table[name] = _numbers(path, name, table[name])
    return table


def _numbers(path: Path, name: str, cells: pd.Series[Any]) -> pd.Series[float]:
    values = np.full(len(cells), np.nan)
    for i, cell in enumerate(cells):
        if cell == "":
            continue
        try:
            values[i] = float(cell)
        except ValueError:
            values[i] = math.inf
        if math.isinf(values[i]) or (name in _FRACTIONS and not -1e-6 <= values[i] <= 1 + 1e-6):
            wanted = "a number from 0 to 1" if name in _FRACTIONS else "a number"
            raise ReportError(f"{path}: row {i + 2}: {name}: expected {wanted}, found {_short(cell)}; {_AGAIN}")
    return pd.Series(values, cells.index, name=name)
