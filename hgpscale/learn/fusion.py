"""Late fusion: a model of radiomics and one of what networks made, joined by one weight that held-out rows decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from hgpscale.catalog import deep_feature
from hgpscale.errors import LearnError
from hgpscale.learn.workflows import Layout

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hgpscale.learn.targets import Kind

Fusion = Literal["early", "stack"]
"""How numbers of networks go together with others: as columns of one model, or as two models whose mean is taken."""

WEIGHTS = np.arange(21) / 20
"""What the weight of the networks' model may be."""

_CLIP = 1e-6
_EQUAL = 1e-12
"""Relative difference of losses up to which rounding makes it."""


class Block(NamedTuple):
    """Some columns of a design.

    Attributes
    ----------
    columns
        Their positions, int64, shape ``(column,)``: features, covariates, then the centre.
    layout
        What they are, by themselves.

    """

    columns: NDArray[np.int64]
    layout: Layout


@dataclass(frozen=True)
class Stack:
    """Two fitted estimators, each of its own columns, and their weights.

    Attributes
    ----------
    columns
        Positions of the columns of each.
    estimators
        That of radiomics and covariates, and that of what networks made.
    weight
        Of the second one, one of `WEIGHTS`; the first one has the rest.

    """

    columns: tuple[tuple[int, ...], tuple[int, ...]]
    estimators: tuple[Any, Any]
    weight: float


def deep_columns(features: Sequence[str]) -> tuple[int, ...]:
    """Return the positions of the features that networks made, by their flat names."""
    return tuple(i for i, name in enumerate(features) if deep_feature(name) is not None)


def check_fusion(fusion: Fusion, features: Sequence[str]) -> None:
    """Refuse two models where there is but one kind of features.

    Raises
    ------
    LearnError
        `fusion` is ``stack``, and the features are all of networks, or none is.

    """
    n = len(deep_columns(features))
    if fusion == "stack" and n in (0, len(features)):
        found = "none of the family deep" if n == 0 else "the family deep alone"
        raise LearnError(
            f"fusion stack takes features of the family deep beside others, found {found}; choose features of both, or "
            "leave the fusion early"
        )


def blocks(layout: Layout, deep: Sequence[int]) -> tuple[Block, Block]:
    """Return the columns of radiomics with the covariates, and those that networks made.

    Where centres are harmonised, either has the centre's code.

    Parameters
    ----------
    layout
        Of all columns.
    deep
        Positions of the features that networks made.

    """
    others = np.setdiff1d(np.arange(layout.n_features), deep)
    covariates = np.arange(layout.n_features, layout.n_features + layout.n_covariates)
    centre = [layout.n_features + layout.n_covariates] if layout.harmonise != "none" else []
    first = np.concatenate([others, covariates, centre]).astype(np.int64)
    second = np.concatenate([deep, centre]).astype(np.int64)
    return (
        Block(first, Layout(len(others), layout.n_covariates, layout.harmonise)),
        Block(second, Layout(len(deep), 0, layout.harmonise)),
    )


def blend(first: NDArray[np.float64], second: NDArray[np.float64], weight: float) -> NDArray[np.float64]:
    """Return the weighted mean of two models' outputs, shape ``(row, k)``; see `learners.outputs`.

    All outputs of a row have the same weights. So those of a composition stay one distribution, the mixture of the
    two: parts sum to 1, and P(d = 100 %) is at most P(d > 50 %).
    """
    return (1 - weight) * first + weight * second


def loss(kind: Kind, y: NDArray[np.float64], found: NDArray[np.float64], weight: NDArray[np.float64]) -> float:
    """Return the loss of outputs: log loss of classes, squared error, cross-entropy of compositions.

    Parameters
    ----------
    kind
        Of the target.
    y
        What is true: 0 and 1, positions of classes, numbers, or fractions with shape ``(row, 3)``.
    found
        Outputs, shape ``(row, k)``.
    weight
        Of the rows, shape ``(row,)``.

    """
    if kind == "number":
        return float(np.average((y - found[:, 0]) ** 2, weights=weight))
    if kind == "composition":
        shares, said = y, found[:, :3]
    else:
        said = np.column_stack([1 - found, found]) if kind == "binary" else found
        shares = np.eye(said.shape[1])[y.astype(int)]
    return -float(np.average((shares * np.log(said.clip(_CLIP, 1))).sum(axis=1), weights=weight))


def best_weight(
    kind: Kind,
    y: NDArray[np.float64],
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    weight: NDArray[np.float64],
) -> float:
    """Return the weight of the second model, of `WEIGHTS`, with the least `loss`; of equals the one next to a half.

    Parameters
    ----------
    kind, y, weight
        As in `loss`.
    first, second
        Outputs of both models on rows that they had not seen, shape ``(row, k)``.

    """
    order = WEIGHTS[np.argsort(np.abs(WEIGHTS - 0.5), kind="stable")]
    losses = np.array([loss(kind, y, blend(first, second, float(one)), weight) for one in order])
    least = losses.min()
    return float(order[np.flatnonzero(losses <= least + _EQUAL * abs(least))[0]])
