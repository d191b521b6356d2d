"""What is predicted: a pure pattern, a composition, or any column of the manifest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from hgpscale.errors import LearnError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hgpscale.learn.samples import Samples

Kind = Literal["binary", "class", "number", "composition"]
Cutoff = Literal["pure", "100", "50"]

PARTS = ("desmoplastic", "replacement", "pushing")
"""Patterns of growth, in the order that a composition has everywhere."""

_COLUMNS = tuple(f"hgp_{part}" for part in PARTS)
_MOST_CLASSES = 20
_SUM_TOLERANCE = 0.5  # percent, as the manifest is checked

_POSITIVE = {
    "pure": "desmoplastic (100 %) against none (0 %)",
    "100": "desmoplastic 100 % against less",
    "50": "desmoplastic > 50 % against less",
}


@dataclass(frozen=True)
class Target:
    """What a model predicts.

    Attributes
    ----------
    name
        ``pure``, ``composition``, ``multitask`` or a column of the manifest.
    kind
        What its values are: 0 or 1 (`binary`), positions in `classes` (`class`), numbers, or fractions of `PARTS`.
        ``multitask`` is a composition that is judged as ``pure`` too.
    classes
        Names of the values of `binary`, the positive one last, and of `class`.
    cutoff
        Of ``pure``: which lesions are desmoplastic, and against which.

    """

    name: str
    kind: Kind
    classes: tuple[str, ...] = ()
    cutoff: Cutoff = "pure"

    @classmethod
    def of(cls, name: str, samples: Samples, *, cutoff: Cutoff = "pure", positive: str | None = None) -> Target:
        """Return the target of a name, its kind from the manifest's column.

        Parameters
        ----------
        name
            ``pure``, ``composition``, ``multitask`` (of the columns ``hgp_*``), or a column: two different values make
            it binary, text or ``positive`` classes, other numbers a number.
        samples
            All lesions, those that are to be predicted among them.
        cutoff
            ``pure``: lesions of 100 % desmoplastic growth against those of 0 %, all others left out; ``100``: those of
            100 % against all others; ``50``: those above 50 % against all others.
        positive
            The value of a column that is positive; all others are negative. Default: the last one of two.

        Raises
        ------
        LearnError
            There is no such column, or it has no two different values.

        """
        if name in ("pure", "composition", "multitask"):
            for column in _COLUMNS[: 1 if name == "pure" else None]:
                samples.column(column)
            if name == "pure":
                return cls(name, "binary", ("non-desmoplastic", "desmoplastic"), cutoff)
            return cls(name, "composition", PARTS)
        if name not in samples.columns:
            there = ", ".join(map(str, samples.columns)) or "none"
            raise LearnError(
                f"no column {name!r} in the manifest behind the cube; it has {there}; besides these a target may be "
                "pure, composition or multitask"
            )
        values = samples.column(name)
        known = values[_is_known(values)]
        texts = sorted({_text(value) for value in known}, key=_numbers_first)
        if len(texts) < 2:
            raise LearnError(f"target {name!r}: expected two different values, found {', '.join(texts) or 'none'}")
        if positive is not None:
            if positive not in texts:
                raise LearnError(f"target {name!r}: no lesion is {positive!r}; there are {', '.join(texts[:8])}")
            return cls(name, "binary", (f"not {positive}" if len(texts) > 2 else _other(texts, positive), positive))
        if len(texts) == 2:
            return cls(name, "binary", tuple(texts))
        if pd.api.types.is_numeric_dtype(values):
            return cls(name, "number")
        if len(texts) > _MOST_CLASSES:
            raise LearnError(f"target {name!r}: expected at most {_MOST_CLASSES} classes, found {len(texts)} texts")
        return cls(name, "class", tuple(texts))

    @property
    def is_multitask(self) -> bool:
        """Whether a composition is judged as pure patterns too."""
        return self.name == "multitask"

    @property
    def positive(self) -> str:
        """What a probability is the probability of; empty where there is none."""
        if self.name == "pure":
            return _POSITIVE[self.cutoff]
        if self.is_multitask:
            return _POSITIVE["100"]
        return f"{self.name} is {self.classes[-1]}" if self.kind == "binary" else ""

    def values(self, samples: Samples) -> tuple[NDArray[np.float64], NDArray[Any]]:
        """Return what is true of each row, and why it is not known where it is not.

        Returns
        -------
        values
            float64, shape ``(row,)``, or ``(row, 3)`` of a composition; NaN where not known.
        reasons
            str objects, shape ``(row,)``; empty where known.

        """
        if self.kind == "composition" or self.name == "pure":
            fractions, reasons = _fractions(samples)
            if self.kind == "composition":
                return fractions, reasons
            return self._of_fraction(fractions[:, 0], reasons)
        column = samples.column(self.name)
        known = _is_known(column)
        reasons = np.where(known, "", f"no {self.name}").astype(object)
        if self.kind == "number":
            return np.where(known, column.to_numpy(float), np.nan), reasons
        texts = np.array([_text(value) for value in column], object)
        if self.kind == "binary":
            values = (texts == self.classes[1]).astype(float)
            if self.classes[0] != f"not {self.classes[1]}":
                values[~np.isin(texts, self.classes)] = np.nan
        else:
            position = {name: float(i) for i, name in enumerate(self.classes)}
            values = np.array([position.get(text, np.nan) for text in texts])
        reasons[known & np.isnan(values)] = f"{self.name} is none of the model's classes"
        values[~known] = np.nan
        return values, reasons

    def _of_fraction(
        self, desmoplastic: NDArray[np.float64], reasons: NDArray[Any]
    ) -> tuple[NDArray[np.float64], NDArray[Any]]:
        if self.cutoff == "50":
            return np.where(np.isnan(desmoplastic), np.nan, desmoplastic > 0.5), reasons
        values = np.where(np.isnan(desmoplastic), np.nan, desmoplastic == 1)
        if self.cutoff == "pure":
            mixed = (desmoplastic > 0) & (desmoplastic < 1)
            values[mixed] = np.nan
            reasons = np.where(mixed, "mixed growth, and the target is pure lesions", reasons).astype(object)
        return values, reasons


def _fractions(samples: Samples) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Return fractions of `PARTS`, exactly 1 together, and why they are not known."""
    there = [name for name in _COLUMNS if name in samples.columns]
    percent = np.full((len(samples), 3), np.nan)
    for i, name in enumerate(_COLUMNS):
        if name in there:
            percent[:, i] = pd.to_numeric(samples.columns[name], errors="coerce")
    if len(there) == 1:  # only the desmoplastic part was scored: the rest is not told apart
        percent[:, 1] = 100 - percent[:, 0]
        percent[:, 2] = np.where(np.isnan(percent[:, 0]), np.nan, 0)
    known = np.isfinite(percent).all(axis=1)
    total = percent.sum(axis=1)
    right = known & (np.abs(total - 100) <= _SUM_TOLERANCE) & (percent >= 0).all(axis=1)
    reasons = np.where(right, "", np.where(known, "growth patterns do not sum to 100 %", "no growth pattern"))
    fractions = percent / np.where(right, total, np.nan)[:, None]
    return fractions, reasons.astype(object)


def _is_known(values: pd.Series) -> NDArray[np.bool_]:
    return (values.notna() & (values.astype(str).str.strip() != "")).to_numpy(bool)


def _text(value: Any) -> str:
    """Return a cell as text; whole numbers without a point."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _numbers_first(text: str) -> tuple[bool, float, str]:
    try:
        return False, float(text), text
    except ValueError:
        return True, 0.0, text


def _other(texts: list[str], positive: str) -> str:
    return next(text for text in texts if text != positive)


def strata(target: Target, values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return a small whole number a row that splits are balanced by: a class, a third of the numbers, a pattern.

    A composition's is whether it is desmoplastic not at all, in part, or purely.
    """
    if target.kind == "composition":
        return (values[:, 0] > 0).astype(np.int64) + (values[:, 0] == 1)
    if target.kind == "number":
        return np.searchsorted(np.quantile(values, [1 / 3, 2 / 3]), values)
    return values.astype(np.int64)
