"""From a cube's dataset, or any selection of it, to plain numpy arrays with known axes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hgpscale.catalog import DEEP
from hgpscale.contents import Key
from hgpscale.cube.schema import DONE, FINISHED

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

PAIR = ("lesion", "segmentation")


def labels_of(dataset: xr.Dataset, dim: str) -> NDArray[Any]:
    """Return a dimension's labels; one that was selected by a single label has one."""
    return np.atleast_1d(dataset[dim].values)


def ordered(array: xr.DataArray, dims: tuple[str, ...]) -> NDArray[Any]:
    """Return values with axes `dims`; one along which a single label was selected has length 1."""
    missing = [dim for dim in dims if dim not in array.dims]
    return np.asarray(array.expand_dims(missing).transpose(*dims).values)


def blocks(dataset: xr.Dataset, lesions: int) -> Iterator[tuple[slice, xr.Dataset]]:
    """Yield a dataset some lesions at a time, loaded, each with the positions of its lesions."""
    size = labels_of(dataset, "lesion").size
    for start in range(0, max(size, 1), lesions):
        where = slice(start, min(start + lesions, size))
        yield where, (dataset.isel(lesion=where) if "lesion" in dataset.dims else dataset).compute()


def has_row(dataset: xr.Dataset) -> NDArray[np.bool_]:
    """Return where the manifest has a row, shape ``(lesion, segmentation)``; xarray's `where` leaves NaN elsewhere."""
    mask = ordered(dataset["mask"], PAIR)
    return np.asarray((mask != "") & (mask == mask), bool)


def numbers_of(dataset: xr.Dataset, keys: Sequence[Key]) -> NDArray[np.float64]:
    """Return the features of some keys side by side, shape ``(lesion, segmentation, feature)``.

    What is not done is NaN: of what an update made pending, or a kill interrupted, the arrays hold numbers still. A
    cube that says it is finished has nothing of the kind, but of the family `DEEP`, and is not asked for its states,
    which take longer to read than its numbers.
    """
    cell = ("region", "image_type", "family")
    position = {dim: {label: i for i, label in enumerate(labels_of(dataset, dim))} for dim in cell if dim in dataset}
    done = None if are_final(dataset, keys) else ordered(dataset["state"], (*PAIR, *cell)) == DONE
    families = {
        family: ordered(
            dataset[family],
            (*PAIR, "region", *(["image_type"] if "image_type" in dataset[family].dims else []), f"{family}_feature"),
        )
        for family in dict.fromkeys(family for _, _, family in keys)
    }
    widths = [families[family].shape[-1] for _, _, family in keys]
    shape = labels_of(dataset, "lesion").size, labels_of(dataset, "segmentation").size, sum(widths)
    out = np.empty(shape)
    first = 0
    for (region, image, family), width in zip(keys, widths, strict=True):
        part = families[family][:, :, position["region"][region]]
        part = part if part.ndim == 3 else part[:, :, position["image_type"][image]]
        if done is not None:
            at = position["region"][region], position["image_type"][image], position["family"][family]
            part = np.where(done[(slice(None), slice(None), *at)][..., None], part, np.nan)
        out[:, :, first : first + width] = part
        first += width
    return out


def are_final(dataset: xr.Dataset, keys: Iterable[Key]) -> bool:
    """Whether the cube says that nothing is pending, and that speaks of all these keys."""
    return bool(dataset.attrs.get(FINISHED, False)) and all(family != DEEP for _, _, family in keys)


def needed_of(dataset: xr.Dataset, keys: Sequence[Key]) -> list[str]:
    """Return the variables that `numbers_of` reads."""
    return [*dict.fromkeys(family for _, _, family in keys), *([] if are_final(dataset, keys) else ["state"])]
