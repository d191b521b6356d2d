"""What filters take, and what they say of themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from hgpscale.errors import FilterError
from hgpscale.kernels.target import CPU, Target
from hgpscale.volume import Box, Index, Vector

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hgpscale.settings import Settings


class Source(NamedTuple):
    """Part of an image, where the image's borders are, and what is wanted.

    Attributes
    ----------
    voxels
        The part that is held, ``(z, y, x)``, in the image's own type.
    start
        Index in the image of the first voxel held.
    size
        Size of the whole image: its borders are there, not where `voxels` ends.
    spacing
        mm ``(z, y, x)``.
    box
        The part that is wanted, in the image's indices.
    mask
        The region, bool, shape of `box`.
    peak
        Largest magnitude in the whole image.

    """

    voxels: NDArray[Any]
    start: Index
    size: Index
    spacing: Vector
    box: Box
    mask: NDArray[np.bool_]
    peak: float

    def around(self, margin: Index) -> tuple[NDArray[Any], Index]:
        """Return the box with a margin, as far as the image goes, and the index of its first voxel."""
        lower, upper = self.box
        first = [max(a - m, 0) for a, m in zip(lower, margin, strict=True)]
        end = [min(b + m, n) for b, m, n in zip(upper, margin, self.size, strict=True)]
        held = tuple(slice(a - s, b - s) for a, b, s in zip(first, end, self.start, strict=True))
        return self.voxels[held], (first[0], first[1], first[2])

    def wanted(self) -> NDArray[Any]:
        """Return the voxels of the box."""
        return self.around((0, 0, 0))[0]


class Reach(NamedTuple):
    """How far around its box a filter looks.

    Attributes
    ----------
    margin
        Voxels ``(z, y, x)`` around the box that decide the result. An image's border ends it early.
    wraps
        Beyond a border the image goes on from the opposite one: where the margin crosses a border, that axis is
        needed whole.

    """

    margin: Index
    wraps: bool = False


class Derive(Protocol):
    """From a source and settings to names and images of the box; see `hgpscale.filters.Filter`."""

    def __call__(
        self, source: Source, settings: Settings, on: Target = CPU
    ) -> Iterator[tuple[str, NDArray[Any] | FilterError]]:
        """Make the images one after the other."""


def box_in(box: Box, start: Index) -> tuple[slice, slice, slice]:
    """Return the slices of `box` in an array whose first voxel has index `start`."""
    z, y, x = (slice(a - s, b - s) for a, b, s in zip(*box, start, strict=True))
    return z, y, x
