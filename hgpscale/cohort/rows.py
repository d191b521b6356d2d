"""A manifest's rows in memory: kept by column, so that a million of them are no burden; each is made when looked at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class LesionRow:
    """One lesion as one segmentation outlines it: one row of a manifest.

    Attributes
    ----------
    line
        Line in the manifest; the header is line 1 (Parquet: the row's number + 2).
    lesion, segmentation, patient
        Its ids; `segmentation` is the rater or method, ``default`` where the manifest has no such column.
    image, mask
        The files, absolute; relative ones start at the manifest's folder.
    image_text, mask_text
        The files as the manifest writes them.
    label
        Value of the region in the mask; None: the mask's only non-zero value.
    roi
        Name, number or pattern of the segments that make the region, see `Outlines.region`; '' where the manifest has
        none.
    liver
        Mask of the liver, absolute; None where the manifest has none.
    liver_roi
        Which segments of that file, or which value, see `Outlines.organ`.

    """

    line: int
    lesion: str
    segmentation: str
    patient: str
    image: Path
    mask: Path
    image_text: str
    mask_text: str
    label: int | None
    roi: str
    liver: Path | None = None
    liver_roi: str = ""


_NAMES = tuple(field.name for field in fields(LesionRow))
_FILES = ("image", "mask", "liver")


class Rows(Sequence[LesionRow]):
    """The rows of one manifest.

    Parameters
    ----------
    folder
        Where relative paths start, absolute.
    columns
        What `LesionRow` has besides `image`, `mask` and `liver`, by name, and `liver_text`: the file as the manifest
        writes it, '' where there is none. All of one length.

    """

    def __init__(self, folder: Path, columns: Mapping[str, Sequence[Any]]) -> None:
        self._folder, self._columns = folder, columns

    def column(self, name: str) -> Iterable[Any]:
        """Return one attribute of all rows, in their order."""
        if name in _FILES:
            return self._files(self._columns[f"{name}_text"])
        return self._columns[name]

    def _files(self, texts: Iterable[str]) -> Iterator[Path | None]:
        """Yield the files, None where there is none; rows that follow each other often share one."""
        last, file = "", None
        for text in texts:
            if text != last:
                last, file = text, self._folder / text if text else None
            yield file

    def __len__(self) -> int:
        return len(self._columns["lesion"])

    @overload
    def __getitem__(self, index: int) -> LesionRow: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[LesionRow, ...]: ...
    def __getitem__(self, index: int | slice) -> LesionRow | tuple[LesionRow, ...]:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        cells = {name: column[index] for name, column in self._columns.items()}
        liver = cells.pop("liver_text")
        image, mask = self._folder / cells["image_text"], self._folder / cells["mask_text"]
        return LesionRow(**cells, image=image, mask=mask, liver=self._folder / liver if liver else None)

    def __iter__(self) -> Iterator[LesionRow]:
        return map(LesionRow, *map(self.column, _NAMES))


@dataclass(frozen=True, eq=False)
class Cohort:
    """All lesions of a manifest.

    Attributes
    ----------
    source
        The manifest's path, for messages.
    rows
        In the order of the manifest.
    columns
        What the manifest says of each lesion: index `lesion` in order of first appearance, column `patient` and
        every other one that is not of a single row. Numbers are int64 or float64 (NaN where empty), the rest text
        ('' where empty).

    """

    source: str
    rows: Sequence[LesionRow]
    columns: pd.DataFrame

    @property
    def lesions(self) -> tuple[str, ...]:
        """Ids of the lesions, in order of first appearance."""
        return tuple(dict.fromkeys(lesion for (lesion,) in self.cells("lesion")))

    @property
    def segmentations(self) -> tuple[str, ...]:
        """Ids of the segmentations, in order of first appearance."""
        return tuple(dict.fromkeys(name for (name,) in self.cells("segmentation")))

    def cells(self, *names: str) -> Iterator[tuple[Any, ...]]:
        """Yield some attributes of each row, without the work of making all others."""
        if isinstance(self.rows, Rows):
            return zip(*map(self.rows.column, names), strict=True)
        return (tuple(getattr(row, name) for name in names) for row in self.rows)
