"""From records to parts of chunks. Pure: touches no file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hgpscale.catalog import is_of_region
from hgpscale.contents import Key
from hgpscale.cube import schema
from hgpscale.cube.states import CODES
from hgpscale.record import Record

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hgpscale.cube.states import Where

_PENDING, _DONE, _FAILED = (CODES[state] for state in (schema.PENDING, schema.DONE, schema.FAILED))


class Row(NamedTuple):
    """A record as the cube holds it: all keys side by side.

    Attributes
    ----------
    image_digest, mask_digest, surroundings_digest, label
        As the record's.
    numbers
        float64, one vector after the other; NaN where there is none.
    states
        Code of each key's state; pending where the record says nothing of the key.
    errors
        Reasons by number of the key.

    """

    image_digest: str
    mask_digest: str
    surroundings_digest: str
    label: int
    numbers: NDArray[np.float64]
    states: NDArray[np.int8]
    errors: dict[int, str]

    @property
    def has_numbers(self) -> bool:
        """Whether any key is done."""
        return bool((self.states == _DONE).any())

    @property
    def has_failed(self) -> bool:
        """Whether any key failed."""
        return bool((self.states == _FAILED).any())


class Patch(NamedTuple):
    """A part of one chunk.

    Attributes
    ----------
    name
        The array.
    where
        The chunk: lesions, then one position along each other dimension that has chunks of length 1.
    mask
        Which cells of the chunk, along its first dimension or along all.
    values
        Their content, as ``chunk[mask]``.

    """

    name: str
    where: tuple[Any, ...]
    mask: NDArray[np.bool_]
    values: NDArray[Any]


class Patches(NamedTuple):
    """What some rows fill, in the order in which it is written.

    Attributes
    ----------
    numbers
        And digests, and labels.
    errors
        The reasons.
    states
        As `States.update` takes them.

    """

    numbers: list[Patch]
    errors: list[Patch]
    states: list[tuple[Where, NDArray[np.int8]]]


class Patcher:
    """Lays out records of some keys.

    Parameters
    ----------
    keys
        All that a record may have.
    features
        Names of the features by family.
    labels
        Position of every label of the cube, by dimension.

    """

    def __init__(
        self, keys: Sequence[Key], features: Mapping[str, Sequence[str]], labels: Mapping[str, Mapping[str, int]]
    ) -> None:
        self._keys = tuple(keys)
        self._widths = [len(features[family]) for _, _, family in self._keys]
        self._blanks = [np.full(width, np.nan) for width in self._widths]
        self._key_of = np.repeat(np.arange(len(self._keys)), self._widths)
        self._ends = np.cumsum(self._widths, dtype=np.int64)
        self._number = {key: k for k, key in enumerate(self._keys)}
        dims = ("region", "image_type", "family")
        self._positions = np.array(
            [[labels[dim][name] for dim, name in zip(dims, key, strict=True)] for key in self._keys]
        )
        self._cells = len(labels["image_type"]), len(labels["family"])

    def row(self, record: Record) -> Row:
        """Lay out one record.

        Raises
        ------
        ValueError
            A vector has the wrong length, or NaN that no failure explains.

        """
        values, failures = record.values, record.failures
        # NaN also where a key failed: an interrupted attempt may have stored numbers.
        vectors = [values.get(key, blank) for key, blank in zip(self._keys, self._blanks, strict=True)]
        if list(map(len, vectors)) != self._widths:
            k = next(k for k, width in enumerate(self._widths) if len(vectors[k]) != width)
            raise self._wrong(k, vectors[k])
        numbers = np.concatenate(vectors, dtype=np.float64)
        for k in np.unique(self._key_of[np.isnan(numbers)]):
            if self._keys[k] in values and self._keys[k] not in failures:
                raise self._wrong(k, vectors[k])
        done = [vector is not blank for vector, blank in zip(vectors, self._blanks, strict=True)]
        states = np.where(done, np.int8(_DONE), np.int8(_PENDING))
        states[[self._number[key] for key in failures if key not in values]] = _FAILED
        errors = {self._number[key]: _storable(str(failure)) for key, failure in failures.items()}
        digests = record.image_digest, record.mask_digest, record.surroundings_digest
        return Row(*digests, record.label, numbers, states, errors)

    def patches(self, rows: Mapping[int, Row], has_numbers: NDArray[np.bool_], lesions: slice, rater: int) -> Patches:
        """Return what some rows fill.

        Parameters
        ----------
        rows
            By position of the lesion in the chunk.
        has_numbers
            Of which lesions of the chunk the cube has numbers already.
        lesions, rater
            The chunk's.

        """
        at = np.array(sorted(rows))
        ordered = [rows[i] for i in at]
        size = lesions.stop - lesions.start
        # A row that has numbers already was computed of the same files, or failed because they are other ones.
        known = [i for i in at if rows[i].has_numbers or not has_numbers[i]]
        filled = []
        for name, dtype in (("image_digest", object), ("mask_digest", object), ("label", np.int64)):
            content = np.array([getattr(rows[i], name) for i in known], dtype)
            filled.append(Patch(name, (lesions, rater), _mask(size, known), content))
        # A record of regions that nothing bounds leaves what is known of the others' surroundings.
        bounded = [i for i in known if rows[i].surroundings_digest]
        around = np.array([rows[i].surroundings_digest for i in bounded], object)
        filled.append(Patch("surroundings_digest", (lesions, rater), _mask(size, bounded), around))
        numbers, states = np.stack([row.numbers for row in ordered]), np.stack([row.states for row in ordered])
        for k, (_, _, family) in enumerate(self._keys):
            having = states[:, k] != _PENDING
            if having.any():
                region, image, _ = self._positions[k]
                where = (lesions, rater, region) if is_of_region(family) else (lesions, rater, region, image)
                columns = slice(self._ends[k] - self._widths[k], self._ends[k])
                filled.append(Patch(family, where, _mask(size, at[having]), numbers[having, columns]))
        errors = np.full(states.shape, "", object)
        for i, row in enumerate(ordered):
            for k, error in row.errors.items():
                errors[i, k] = error
        cells = list(self._by_region(size, at, states, errors))
        return Patches(
            filled,
            [
                Patch("error", (lesions, rater, region), some != _PENDING, texts[some != _PENDING])
                for region, some, texts in cells
            ],
            [((lesions, rater, region), some) for region, some, _ in cells],
        )

    def _by_region(
        self, size: int, at: NDArray[np.int64], states: NDArray[np.int8], errors: NDArray[Any]
    ) -> Iterator[tuple[int, NDArray[np.int8], NDArray[Any]]]:
        """Yield each region that is spoken of, its states and errors, shape ``(lesion, image_type, family)``."""
        regions, images, families = self._positions.T
        for region in np.unique(regions):
            own = regions == region
            if (states[:, own] == _PENDING).all():
                continue
            some, texts = np.full((size, *self._cells), _PENDING, np.int8), np.full((size, *self._cells), "", object)
            cells = at[:, None], images[own], families[own]
            some[cells], texts[cells] = states[:, own], errors[:, own]
            yield int(region), some, texts

    def _wrong(self, k: int, vector: Any) -> ValueError:
        key = " ".join(self._keys[k])
        return ValueError(f"{key} must be {self._widths[k]} numbers, NaN only with a reason; found {vector}")


def _mask(size: int, at: Sequence[int] | NDArray[np.int64]) -> NDArray[np.bool_]:
    mask = np.zeros(size, bool)
    mask[np.asarray(at, np.int64)] = True
    return mask


def _storable(text: str) -> str:
    """Escape what UTF-8 cannot hold: bytes of a file's name that are no text reach Python as lone surrogates."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
