"""What the header of an image file claims, and where its voxels are: the words that all formats share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from hgpscale.volume import Geometry

_SHOWN = 60


@dataclass(frozen=True)
class VoxelData:
    """Where the voxels of an image are stored.

    Attributes
    ----------
    path
        The file that holds them: the image file itself, or the data file that it names.
    start
        Byte of the file where the voxel stream starts.
    skip
        Bytes of the (decompressed) stream before the first voxel; None: the voxels are the stream's last bytes.
    encoding
        How the stream is written.
    order
        numpy's sign of the byte order.
    interleaved
        Whether the values of one voxel stand side by side; otherwise there is one whole volume after the other.
    scaling
        Slope and intercept that the reader applies (NIfTI); None: the voxels are meant as they are stored.

    """

    path: Path
    start: int = 0
    skip: int | None = 0
    encoding: Literal["raw", "gzip", "zlib", "text", "hex"] = "raw"
    order: Literal["<", ">"] = "<"
    interleaved: bool = True
    scaling: tuple[float, float] | None = None


@dataclass(frozen=True)
class Claims:
    """What one header says, in the order of the file: x first.

    Attributes
    ----------
    format
        Name of the file format for a person.
    image_io
        SimpleITK's name of the reader.
    size
        Number of voxels along every axis of space or time.
    spacing
        Distance of voxel centres in mm along each of them; empty where the header has none that can be read,
        which is then among the problems.
    voxel_type
        numpy's name of the stored voxel type; empty where the header names one that is not supported.
    voxels
        Where the voxel data are; None where that is among the problems.
    problems
        What only this format can get wrong, one sentence each.
    channels
        Number of values a voxel.
    geometry
        The grid, bit by bit as ITK reads it; None where ITK has to be asked.

    """

    format: str
    image_io: str
    size: tuple[int, ...]
    spacing: tuple[float, ...]
    voxel_type: str
    voxels: VoxelData | None
    problems: tuple[str, ...]
    channels: int = 1
    geometry: Geometry | None = None


def skewed_axes(directions: Sequence[Sequence[float]]) -> list[str]:
    """Return a problem where three unit vectors, shape ``(3, 3)``, are not at right angles to each other.

    A sheared grid, as of a CT with a tilted gantry, has voxels that are no boxes: neither ITK's spacing nor any
    shape feature describes them. The tolerance of 1e-3 leaves room for cosines rounded to few digits.
    """
    matrix = np.array(directions, dtype=np.float64)
    if not np.isfinite(matrix).all():
        return ["the directions of its axes hold numbers that are not finite"]
    if np.abs(matrix @ matrix.T - np.eye(3)).max() > 1e-3:
        return ["its axes are not at right angles (a tilted gantry?): resample it to a straight grid first"]
    return []


def shown(value: object) -> str:
    """Return a value from a header as it may stand in a message: short and on one line."""
    text = repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "...'"
