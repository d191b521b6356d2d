"""What is known of each row of a cube: mappings by row that are kept by cell, so that a million rows are no burden."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from hgpscale.contents import Key

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hgpscale.cube.manifest import Row
    from hgpscale.cube.states import Labels

V = TypeVar("V")


class _ByRow(Mapping["Row", V]):
    """A mapping of the rows whose cell in `cells`, shape ``(lesion, segmentation)``, is not 0, in the cube's order."""

    def __init__(self, labels: Labels, cells: NDArray[Any]) -> None:
        self._labels, self._cells = labels, cells

    def __len__(self) -> int:
        return int(np.count_nonzero(self._cells))

    def __iter__(self) -> Iterator[Row]:
        return rows_at(self._labels, self._cells)

    def _at(self, row: Row) -> tuple[int, int]:
        """Return the cell of a row of this mapping."""
        cell = cell_of(self._labels, row)
        if not self._cells[cell]:
            raise KeyError(row)
        return cell


class Missing(_ByRow[tuple[Key, ...]]):
    """The keys that each row lacks; rows mostly lack the same, so a cell is the number of such a tuple.

    Parameters
    ----------
    labels, shape
        Of the cube: positions of its labels, and the number of lesions and segmentations.
    keys
        That a row can lack, in the order of `Contents.keys`.

    """

    def __init__(self, labels: Labels, shape: tuple[int, int], keys: Sequence[Key]) -> None:
        super().__init__(labels, np.zeros(shape, np.int32))
        self._keys = keys
        self._tuples: list[tuple[Key, ...]] = [()]
        self._numbers = {bytes(len(keys)): 0}

    def __getitem__(self, row: Row) -> tuple[Key, ...]:
        return self._tuples[int(self._cells[self._at(row)])]

    def note(self, lesions: slice, lacks: NDArray[np.bool_]) -> None:
        """Note what the rows of some lesions lack, shape ``(lesion, segmentation, key)``."""
        if not lacks.any():
            return
        numbers = [self._number(some) for some in lacks.reshape(-1, len(self._keys))]
        self._cells[lesions] = np.reshape(numbers, lacks.shape[:2])

    def forget(self, row: Row) -> None:
        """Note that a row lacks nothing any more."""
        self._cells[cell_of(self._labels, row)] = 0

    def total(self) -> int:
        """Return how many keys all rows together lack."""
        rows = np.bincount(self._cells.ravel(), minlength=len(self._tuples))
        return int(rows @ np.array([len(keys) for keys in self._tuples]))

    def _number(self, lacks: NDArray[np.bool_]) -> int:
        number = self._numbers.setdefault(lacks.tobytes(), len(self._tuples))
        if number == len(self._tuples):
            self._tuples.append(tuple(key for key, one in zip(self._keys, lacks, strict=True) if one))
        return number


class Digests(_ByRow[tuple[str, str, str]]):
    """The digests of image, mask and surroundings behind each row that has numbers.

    Parameters
    ----------
    labels
        Positions of the cube's labels.
    rows
        Which rows, bool, shape ``(lesion, segmentation)``.
    digests
        The three arrays of the cube, of that shape.

    """

    def __init__(self, labels: Labels, rows: NDArray[np.bool_], digests: Iterable[NDArray[Any]]) -> None:
        super().__init__(labels, rows)
        self._image, self._mask, self._around = digests

    def __getitem__(self, row: Row) -> tuple[str, str, str]:
        at = self._at(row)
        return str(self._image[at]), str(self._mask[at]), str(self._around[at])


def cell_of(labels: Labels, row: Row) -> tuple[int, int]:
    """Return the position of a row's lesion and segmentation; KeyError where the cube has no such label."""
    return labels["lesion"][row[0]], labels["segmentation"][row[1]]


def rows_at(labels: Labels, cells: NDArray[Any]) -> Iterator[Row]:
    """Yield the rows whose cell, shape ``(lesion, segmentation)``, is not 0, in the cube's order."""
    lesions, raters = list(labels["lesion"]), list(labels["segmentation"])
    for i, j in zip(*np.nonzero(cells), strict=True):
        yield lesions[i], raters[j]


def mask_of(labels: Labels, rows: Iterable[Row], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return where rows are, bool, shape ``(lesion, segmentation)``."""
    mask = np.zeros(shape, bool)
    flat = (position for row in rows for position in cell_of(labels, row))
    lesions, segmentations = np.fromiter(flat, np.int64).reshape(-1, 2).T
    mask[lesions, segmentations] = True
    return mask
