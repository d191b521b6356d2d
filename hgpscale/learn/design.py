"""The columns that a model takes, and how lesions of any cube are laid out in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np
import pandas as pd

from hgpscale.errors import LearnError
from hgpscale.learn.fusion import Fusion, check_fusion, deep_columns
from hgpscale.learn.workflows import Harmonise, Layout

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hgpscale.learn.samples import Samples

_MOST_LEVELS = 10


@dataclass(frozen=True)
class Design:
    """Features, covariates and centre as the columns of a matrix.

    Attributes
    ----------
    features
        Names of the features.
    covariates
        Columns of the manifest that enter the model: numbers as they are with an empty tuple, text as a column of 0 and
        1 for each of its levels but the first. A level that is not listed is none of them: all 0.
    centres
        Names of the centres, whose positions are their codes; any other centre is -1, one that is not known NaN.
    harmonise
        How centres are made alike.
    fusion
        How features of the family `deep` go together with the others.

    """

    features: tuple[str, ...]
    covariates: tuple[tuple[str, tuple[str, ...]], ...] = ()
    centres: tuple[str, ...] = ()
    harmonise: Harmonise = "none"
    fusion: Fusion = "early"

    @classmethod
    def of(
        cls,
        samples: Samples,
        covariates: Sequence[str] = (),
        harmonise: Harmonise = "none",
        fusion: Fusion = "early",
    ) -> Self:
        """Return the design of all features of some lesions.

        Raises
        ------
        LearnError
            There is no such column, a covariate of text has too many levels, there are no centres to harmonise, or the
            features are not of two kinds, as the fusion ``stack`` needs them.

        """
        check_fusion(fusion, samples.features)
        known = tuple((name, _levels(name, samples.column(name))) for name in covariates)
        centres: tuple[str, ...] = ()
        if harmonise != "none":
            centres = tuple(sorted(set(_texts(samples.column("centre"))) - {""}))
            if len(centres) < 2:
                raise LearnError(f"harmonisation takes two centres or more, found {', '.join(centres) or 'none'}")
        return cls(samples.features, known, centres, harmonise, fusion)

    def learned(self, samples: Samples) -> Self:
        """Return the same design with the levels and the centres of these lesions alone."""
        known = tuple((name, levels and _levels(name, samples.column(name))) for name, levels in self.covariates)
        # Without any known centre the column stays: it says that each is unknown.
        centres = self.centres and (tuple(sorted(set(_texts(samples.column("centre"))) - {""})) or self.centres[:1])
        return replace(self, covariates=known, centres=centres)

    @property
    def layout(self) -> Layout:
        """Which columns of `matrix` are what."""
        deep = deep_columns(self.features) if self.fusion == "stack" else ()
        return Layout(len(self.features), len(self.columns), self.harmonise, deep)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the covariates' columns, as ``sex=f``."""
        return tuple(
            name
            for column, levels in self.covariates
            for name in ([f"{column}={level}" for level in levels[1:]] or [column])
        )

    @property
    def names(self) -> NDArray[np.object_]:
        """Names of all columns of `matrix`."""
        return np.array([*self.features, *self.columns, *(["centre"] if self.centres else [])], object)

    def matrix(self, samples: Samples) -> NDArray[np.float64]:
        """Lay lesions out.

        Returns
        -------
        ndarray of floats with shape ``(row, column)``
            NaN where a feature or a covariate is not known.

        Raises
        ------
        LearnError
            The lesions lack a feature or a column of the manifest.

        """
        parts = [self.features_of(samples)]
        for name, levels in self.covariates:
            column = samples.column(name)
            if not levels:
                parts.append(pd.to_numeric(column, errors="coerce").to_numpy(float)[:, None])
            else:
                text = column.astype(str).to_numpy(object)
                parts.append((text[:, None] == np.array(levels[1:], object)).astype(float))
        if self.centres:
            code = {centre: i for i, centre in enumerate(self.centres)}
            names = _texts(samples.columns["centre"]) if "centre" in samples.columns else [""] * len(samples)
            parts.append(np.array([float(code.get(name, -1)) if name else np.nan for name in names])[:, None])
        return np.concatenate(parts, axis=1)

    def features_of(self, samples: Samples) -> NDArray[np.float64]:
        """Return the first columns of `matrix`; `LearnError` where the lesions lack a feature."""
        if samples.features == self.features:
            return samples.values
        position = {name: i for i, name in enumerate(samples.features)}
        lost = [name for name in self.features if name not in position]
        if lost:
            raise LearnError(
                f"the model needs {len(lost)} features that the cube does not have, such as {lost[0]}; extract them "
                "with the settings that the model was made with"
            )
        return samples.values[:, [position[name] for name in self.features]]


def _texts(column: pd.Series) -> list[str]:
    """Return cells as text, empty where nothing is known."""
    return ["" if pd.isna(value) else str(value).strip() for value in column]


def _levels(name: str, column: pd.Series) -> tuple[str, ...]:
    """Return the sorted texts of a column; none where it is numeric."""
    if pd.api.types.is_numeric_dtype(column):
        return ()
    texts = sorted(set(column.dropna().astype(str)))
    if len(texts) > _MOST_LEVELS:
        raise LearnError(f"covariate {name!r}: expected numbers or at most {_MOST_LEVELS} texts, found {len(texts)}")
    return tuple(texts) if len(texts) > 1 else (*texts, "", "")[:2]
