"""One set of directions for the embeddings of all networks: each learns its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Turn:
    """What turns a network's embedding to that of the first: ``(x - centre) @ matrix + to``.

    Attributes
    ----------
    centre, to
        float64, shape ``(n,)``.
    matrix
        Orthogonal, float64, shape ``(n, n)``.

    """

    centre: NDArray[np.float64]
    matrix: NDArray[np.float64]
    to: NDArray[np.float64]

    def __call__(self, embedding: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return rows ``(lesion, n)`` in the directions of the first network."""
        return np.asarray((embedding.astype(np.float64) - self.centre) @ self.matrix + self.to)

    def as_json(self) -> dict[str, Any]:
        """Return it as lists."""
        return {"centre": self.centre.tolist(), "matrix": self.matrix.tolist(), "to": self.to.tolist()}

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Self:
        """Return what `as_json` gave; ValueError where shapes do not fit."""
        centre, matrix, to = (np.array(said[name], np.float64) for name in ("centre", "matrix", "to"))
        if not matrix.shape == (len(centre), len(to)):
            raise ValueError(f"a turn of shape {matrix.shape} between {len(centre)} and {len(to)} numbers")
        return cls(centre, matrix, to)


def turns_between(embeddings: Sequence[NDArray[np.floating]], trained: Sequence[NDArray[np.bool_]]) -> tuple[Turn, ...]:
    """Return the turn of each network: an orthogonal one (Procrustes, Schönemann 1966); the first's does nothing.

    Labels take no part in it. It is found once, with the lesions of the study that networks were trained in, so that a
    lesion's numbers do not depend on which others are asked about.

    Parameters
    ----------
    embeddings
        Of all lesions of the study by each network, shape ``(lesion, n)``.
    trained
        Which lesions each network was trained on. A turn is found by those that both were trained on; where they are
        no more than twice as many as numbers, as with two folds, by all.

    """
    from scipy.linalg import orthogonal_procrustes

    first = np.asarray(embeddings[0], np.float64)
    size = first.shape[1]
    found = [Turn(np.zeros(size), np.eye(size), np.zeros(size))]
    for embedding, mine in zip(embeddings[1:], trained[1:], strict=True):
        other, both = np.asarray(embedding, np.float64), trained[0] & mine
        if both.sum() <= 2 * size:
            both = np.ones(len(first), bool)
        to, centre = first[both].mean(axis=0), other[both].mean(axis=0)
        matrix, _ = orthogonal_procrustes(other[both] - centre, first[both] - to)
        found.append(Turn(centre, matrix, to))
    return tuple(found)
