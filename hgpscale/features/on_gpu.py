"""Regions whose voxels are on a GPU, all image types of one together: one launch for what is counted of all of them.

The image is copied there once a filter, what comes back is counts, sums and a few values: formulas run on the host, the
same for both. Importing this needs numba's CUDA target.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hgpscale.contents import image_names
from hgpscale.errors import HgpscaleError, VoxelError
from hgpscale.features.on_cpu import not_finite
from hgpscale.features.region import ADJACENT, MAX_LEVELS, Footprint, Region
from hgpscale.filters import FILTERS
from hgpscale.kernels.chains import Chains, n_more_states
from hgpscale.kernels.cuda.chains import count_chains_of
from hgpscale.kernels.cuda.digitize import digitize_of, lay_ranks
from hgpscale.kernels.cuda.gldm import count_dependence_of
from hgpscale.kernels.cuda.glszm import zones_of
from hgpscale.kernels.cuda.memory import empty, free_bytes, put
from hgpscale.kernels.cuda.ngtdm import count_differences_of, sum_neighbours_of
from hgpscale.kernels.cuda.stack import MOST_THREADS, Stack, starts
from hgpscale.kernels.cuda.statistics import Extremes, extremes_of, gather, statistics_of
from hgpscale.kernels.cuda.target import GPU
from hgpscale.kernels.offsets import all_offsets, half_offsets
from hgpscale.limits import bytes_text, memory_limit
from hgpscale.prepare.discretise import bin_edges

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hgpscale.kernels.statistics import Statistics
    from hgpscale.prepare.prepared import Prepared
    from hgpscale.settings import Settings

_USABLE = 0.8
"""Share of the GPU's free memory that is planned for: other processes may want some, and so does CUDA itself."""

_COUNTERS = 0.25
"""Share of that for the counters of pairs and runs; the rest is for images."""

_FILTER_BYTES = 56
"""Bytes a voxel that filters see: wavelets of two levels take most, 46, and what was made last is still there."""

_VALUE_BYTES, _BOX_BYTES = 22, 10
"""Bytes a voxel of the region (value, bin, zones found) and of its padded box (rank, zone labels) in one image."""

_SHARED_VALUE_BYTES, _SHARED_BOX_BYTES = 16, 8
"""The same for all images together: positions of the voxels, numbers of their neighbours."""

_HOST_SHARE, _HOST_BYTES = 0.25, 16
"""Share of this process' memory for what comes back of all images, and its bytes a voxel and image: zones, values."""


class _Grey(NamedTuple):
    """Grey levels of one image and the voxels at each, on the host: int64, shape ``(n_levels,)``."""

    levels: NDArray[np.int64]
    counts: NDArray[np.int64]


@dataclass(eq=False)
class GpuRegion(Region):
    """One image type of one region of interest; all images are counted together as soon as one is asked for.

    Attributes
    ----------
    images
        All images of the region that are on the GPU.
    index
        Which of them.

    """

    images: _Images
    index: int

    @property
    def levels(self) -> NDArray[np.int64]:
        """As `Region` has it."""
        return self.images.grey(self.index).levels

    @property
    def counts(self) -> NDArray[np.int64]:
        """As `Region` has it."""
        return self.images.grey(self.index).counts

    def statistics(self) -> Statistics:
        """As `Region` has it."""
        return self.images.statistics[self.index]

    def chains(self, distances: tuple[int, ...]) -> Chains:
        """As `Region` has it."""
        return self._alike.chains(distances)[self.index]

    def zones(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """As `Region` has it."""
        return self._alike.zones(self.index)

    def dependence(self) -> NDArray[np.int64]:
        """As `Region` has it."""
        return self._alike.dependence(self.settings.gldm_a)[self.index]

    def differences(self) -> NDArray[np.int64]:
        """As `Region` has it."""
        return self._alike.differences[self.index]

    @property
    def _alike(self) -> _Alike:
        self.require_few_levels()
        return self.images.alike(self.index)


class _Images:
    """Images of one region on the GPU.

    Parameters
    ----------
    footprint
        Where the voxels are.
    settings
        Of each image.
    dtypes
        The images' own types, in which edges of bins are computed.
    values
        float64 on the GPU, shape ``(n_image, n_voxel)``.
    extremes
        Of the values.
    room
        Bytes of counters at a time.

    """

    def __init__(
        self,
        footprint: Footprint,
        settings: Sequence[Settings],
        dtypes: Sequence[np.dtype[Any]],
        values: Any,
        extremes: Extremes,
        room: float,
    ) -> None:
        self.footprint, self.settings, self.room = footprint, settings, room
        self._dtypes, self._values, self._extremes = dtypes, values, extremes
        self._groups: dict[_How, _Alike] = {}

    def grey(self, index: int) -> _Grey:
        """Return an image's grey levels; raises `VoxelError` as `discretise` does."""
        _, found = self.discretised
        grey = found[index]
        if isinstance(grey, str):
            raise VoxelError(grey)
        return grey

    @cached_property
    def discretised(self) -> tuple[Any, list[_Grey | str]]:
        """Bins of all images, on the GPU, and of each image its grey levels or why there are none."""
        edges = [self._edges(index) for index in range(len(self.settings))]
        none = np.empty(0)
        bins, counts = digitize_of(self._values, [none if isinstance(own, str) else own for own in edges])
        return bins, [
            own if isinstance(own, str) else _Grey(np.flatnonzero(n), n[np.flatnonzero(n)])
            for own, n in zip(edges, counts, strict=True)
        ]

    @cached_property
    def statistics(self) -> list[Statistics]:
        """Sums and percentiles of each image; without meaning where values are not finite."""
        return statistics_of(self._values, self._extremes, [float(own.voxelArrayShift) for own in self.settings])

    def alike(self, index: int) -> _Alike:
        """Return the images that are counted together with one."""
        how = _How.of(self.settings[index])
        if how not in self._groups:
            bins, found = self.discretised
            levels = {
                k: grey.levels
                for k, grey in enumerate(found)
                if _How.of(self.settings[k]) == how and isinstance(grey, _Grey) and grey.levels.size <= MAX_LEVELS
            }
            # Nothing of it leads back here: memory of the GPU is free as soon as nobody asks for it any more.
            self._groups[how] = _Alike(self.footprint, how, bins, levels, self.room)
        return self._groups[how]

    def _edges(self, index: int) -> NDArray[np.float64] | str:
        """Return the edges of an image's bins, which depend on its lowest and highest value alone."""
        ends = np.array([self._extremes.minimum[index], self._extremes.maximum[index]])
        if self._extremes.n_bad[index]:
            return "values that are not finite have no bins"
        try:
            return bin_edges(ends.astype(self._dtypes[index]), self.settings[index])
        except VoxelError as error:
            return str(error)


class _How(NamedTuple):
    """Which neighbours are looked for."""

    distances: tuple[int, ...]
    across: int | None

    @classmethod
    def of(cls, settings: Settings) -> _How:
        return cls(settings.distances, settings.force2Ddimension if settings.force2D else None)


class _Alike:
    """Images of one region whose neighbours are looked for alike; results are by the image's index."""

    def __init__(
        self, footprint: Footprint, how: _How, bins: Any, levels: dict[int, NDArray[np.int64]], room: float
    ) -> None:
        self._footprint, self._how, self._bins, self._room = footprint, how, bins, room
        self._members, self._levels = list(levels), list(levels.values())
        self._chains: dict[tuple[int, ...], dict[int, Chains]] = {}
        self._dependence: dict[int, dict[int, NDArray[np.int64]]] = {}

    @cached_property
    def _stack(self) -> Stack:
        return lay_ranks(self._bins, self._members, self._levels, self._footprint.box(max(self._how.distances)))

    def chains(self, distances: tuple[int, ...]) -> dict[int, Chains]:
        """Count chains, of as many images at a time as their counters have room for."""
        if distances not in self._chains:
            offsets = half_offsets(distances, self._how.across)
            longest = max(self._footprint.mask.shape) if distances == ADJACENT else None
            levels = np.array([found.size for found in self._levels])
            widths = levels + n_more_states(longest)
            found: dict[int, Chains] = {}
            for part in _parts(len(offsets) * levels * widths * 4, self._room):
                stack = self._stack._replace(flats=self._stack.flats[part])
                counts = count_chains_of(stack, levels[part], widths[part], offsets, longest is not None)
                first, on_host = starts(levels[part] * widths[part]), counts.copy_to_host()
                for k, index in enumerate(self._members[part]):
                    shape = len(offsets), levels[part][k], widths[part][k]
                    found[index] = Chains(on_host[:, first[k] : first[k + 1]].reshape(shape))
            self._chains[distances] = found
        return self._chains[distances]

    def zones(self, index: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return rank and size of each zone of an image."""
        ranks, sizes = self._zones[index]
        return ranks.astype(np.int64), sizes.astype(np.int64)

    @cached_property
    def _zones(self) -> dict[int, tuple[NDArray[np.uint16], NDArray[np.int32]]]:
        found = zones_of(self._stack, self._how.across)
        return self._by_index([(ranks.copy_to_host(), sizes.copy_to_host()) for _, ranks, sizes in found])

    def dependence(self, alpha: int) -> dict[int, NDArray[np.int64]]:
        """Count voxels by rank and dependent neighbours."""
        if alpha not in self._dependence:
            offsets = all_offsets(*self._how)
            counts = count_dependence_of(self._stack, self._levels, offsets, alpha).copy_to_host()
            self._dependence[alpha] = self._by_index(self._split(counts.astype(np.int64)))
        return self._dependence[alpha]

    @cached_property
    def differences(self) -> dict[int, NDArray[np.int64]]:
        """Differences to the neighbours, by rank and number of neighbours."""
        box = self._stack.box
        inside = put(box.fill(np.zeros(box.voxels.size, np.int32), np.ones(1, np.int32)))
        around = sum_neighbours_of(inside, self._stack.voxels, box, *self._how)
        found = count_differences_of(self._stack, around, self._levels, *self._how)
        return self._by_index(self._split(found.copy_to_host()))

    def _split(self, rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Return each image's rows, one a level."""
        return np.split(rows, starts([found.size for found in self._levels])[1:-1])

    def _by_index(self, found: Sequence[Any]) -> dict[int, Any]:
        return dict(zip(self._members, found, strict=True))


def _parts(sizes: NDArray[np.int64], room: float) -> Iterator[slice]:
    """Yield runs of items whose sizes are no more than `room` together.

    Raises
    ------
    MemoryError
        One item is more.

    """
    if sizes.max() > room:
        needed = bytes_text(int(sizes.max()))
        raise MemoryError(f"the GPU has {bytes_text(room)} of room for counters of grey levels, {needed} are needed")
    first = 0
    while first < sizes.size:
        n = max(1, int(np.searchsorted(np.cumsum(sizes[first:]), room, side="right")))
        yield slice(first, first + n)
        first += n


def batches(prepared: Prepared, settings: Settings) -> Iterator[dict[str, Region | HgpscaleError]]:
    """Yield the region in every image, or why it has none, by the image's name: as many together as the GPU holds.

    Raises
    ------
    MemoryError
        The GPU's free memory does not hold a single image.

    """
    footprint = Footprint(prepared.source.mask, prepared.spacing)
    voxels = put(np.flatnonzero(footprint.mask))
    room, at_a_time = _plan(prepared, settings, footprint)
    batch = _Batch(footprint, room, at_a_time)
    for name in settings.image_types:
        own = settings.of_image_type(name)
        for image, found in FILTERS[name].derive(prepared.source, own, GPU):
            batch.add(image, found, own, voxels)
            del found  # it is gathered
            if batch.full:
                yield batch.regions()
                batch = _Batch(footprint, room, at_a_time)
    if batch.found:
        yield batch.regions()


def _plan(prepared: Prepared, settings: Settings, footprint: Footprint) -> tuple[float, int]:
    """Return bytes for counters, and how many images go through together."""
    reach = max(max(settings.of_image_type(name).distances) for name in settings.image_types)
    n_voxel, box = footprint.n_voxel, footprint.box(reach).size
    shared = _FILTER_BYTES * prepared.source.voxels.size + _SHARED_VALUE_BYTES * n_voxel + _SHARED_BOX_BYTES * box
    usable = _USABLE * free_bytes() - shared
    image = _VALUE_BYTES * n_voxel + _BOX_BYTES * box
    n_image = min(
        (1 - _COUNTERS) * usable / image,
        _HOST_SHARE * memory_limit().size / (_HOST_BYTES * n_voxel),
        MOST_THREADS / n_voxel,
        len(image_names(settings)),
    )
    if n_image < 1 or box > MOST_THREADS:
        needed = image / (1 - _COUNTERS) + shared
        raise MemoryError(
            f"the region of {n_voxel} voxels needs about {bytes_text(needed / _USABLE)} of the GPU's memory, "
            f"{bytes_text(free_bytes())} are free"
        )
    return _COUNTERS * usable, int(n_image)


class _Batch:
    """Images that are being gathered."""

    def __init__(self, footprint: Footprint, room: float, at_a_time: int) -> None:
        self.found: dict[str, HgpscaleError | None] = {}
        self._footprint, self._room, self._at_a_time = footprint, room, at_a_time
        self._settings: list[Settings] = []
        self._dtypes: list[np.dtype[Any]] = []

    @cached_property
    def _values(self) -> Any:
        return empty((self._at_a_time, self._footprint.n_voxel), np.float64)

    @property
    def full(self) -> bool:
        """Whether another image has no place."""
        return len(self._settings) == self._at_a_time

    def add(self, image: str, found: Any, own: Settings, voxels: Any) -> None:
        """Gather the region's voxels of an image, from wherever it was made."""
        if isinstance(found, HgpscaleError):
            self.found[image] = found
            return
        row = self._values[len(self._settings)]
        if isinstance(found, np.ndarray):
            row.copy_to_device(found[self._footprint.mask].astype(np.float64, order="C"))
        else:
            gather(found, voxels, row)
        self.found[image] = None
        self._settings.append(own)
        self._dtypes.append(found.dtype)

    def regions(self) -> dict[str, Region | HgpscaleError]:
        """Return what there is of each image."""
        if not self._settings:
            return {image: error for image, error in self.found.items() if error is not None}
        values = self._values[: len(self._settings)]
        extremes = extremes_of(values)
        images = _Images(self._footprint, self._settings, self._dtypes, values, extremes, self._room)
        index = iter(range(len(self._settings)))
        return {
            image: error if error is not None else self._region(image, images, next(index), extremes)
            for image, error in self.found.items()
        }

    def _region(self, image: str, images: _Images, index: int, extremes: Extremes) -> Region | HgpscaleError:
        if n_bad := int(extremes.n_bad[index]):
            return not_finite(image, n_bad, self._footprint.n_voxel)
        return GpuRegion(self._footprint, self._settings[index], images, index)
