"""Looks at an image file's header before SimpleITK does, and lists everything that is wrong with it.

SimpleITK reads a good many broken files in silence: missing voxels become zeros, a spacing of 0 becomes 1. It also
allocates whatever a header claims. So no file goes to SimpleITK before `inspect` has found it sound.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from hgpscale.cohort import metaimage, nifti, nrrd
from hgpscale.cohort.claims import Claims, VoxelData
from hgpscale.errors import ImageError, MissingFileError
from hgpscale.limits import bytes_text
from hgpscale.volume import Geometry, Index, Vector

_PARSERS: dict[str, Callable[[Path], Claims]] = {
    ".nii": nifti.parse,
    ".nii.gz": nifti.parse,
    ".nrrd": nrrd.parse,
    ".nhdr": nrrd.parse,
    ".mha": metaimage.parse,
    ".mhd": metaimage.parse,
}
_DEFLATE_LIMIT = 1032
"""No deflate stream holds more than this many times its own length (zlib's technical notes)."""


@dataclass(frozen=True)
class Header:
    """What the header of an image file says, and what is wrong with the file as far as that can be told from it.

    Attributes
    ----------
    path
        The image file.
    format
        ``NIfTI``, ``NRRD`` or ``MetaImage``; empty where the file could not be read as any.
    image_io
        SimpleITK's name of the reader for it.
    size
        Number of voxels ``(z, y, x)``; None where the image is not 3D or that cannot be told.
    spacing
        Distance of voxel centres in mm ``(z, y, x)``, as the header has it; None likewise.
    voxel_type
        numpy's name of the stored voxel type; empty where it is not supported.
    claimed_bytes
        Length of the voxel data that size and type ask for.
    compressed
        Whether the voxel data are.
    voxels
        Where the voxel data are; None where that cannot be told.
    problems
        Everything found wrong, one sentence each; empty for a file that may go to SimpleITK.
    missing
        Whether the problem is that there is no such file.
    channels
        Number of values a voxel.
    geometry
        The grid, bit by bit as ITK reads it; None where ITK has to be asked.

    """

    path: Path
    format: str = ""
    image_io: str = ""
    size: Index | None = None
    spacing: Vector | None = None
    voxel_type: str = ""
    claimed_bytes: int = 0
    compressed: bool = False
    voxels: VoxelData | None = None
    problems: tuple[str, ...] = ()
    missing: bool = False
    channels: int = 1
    geometry: Geometry | None = None


def inspect(path: str | Path, *, several: bool = False) -> Header:
    """Read the header of an image or mask file and check it, without reading or allocating any voxel.

    Parameters
    ----------
    path
        The file. One that is missing or unreadable has that as its problem: nothing is raised.
    several
        Whether several values a voxel are right, as in a mask of regions that overlap.

    """
    path = Path(path)
    try:
        claims = _parser(path)(path)
        return _checked(path, claims, several)
    except ImageError as error:
        return Header(path, problems=(str(error),), missing=isinstance(error, MissingFileError))
    except OSError as error:
        return Header(path, problems=(f"cannot be read: {error.strerror or error}",))


def is_known(path: Path) -> bool:
    """Whether a file's name is that of a format that `inspect` reads."""
    return path.name.lower().endswith(tuple(_PARSERS))


def _parser(path: Path) -> Callable[[Path], Claims]:
    if path.is_symlink() and not path.exists():
        raise MissingFileError("is a broken link: the file that it points to is missing")
    if not path.exists():
        raise MissingFileError("the file is missing")
    if path.is_dir():
        raise ImageError("is a folder, expected a file")
    if not path.is_file():
        raise ImageError("is not a regular file")
    name = path.name.lower()
    for ending, parser in _PARSERS.items():
        if name.endswith(ending):
            return parser
    raise ImageError(f"its format is not supported; expected a name that ends in {', '.join(_PARSERS)}, or DICOM")


def _checked(path: Path, claims: Claims, several: bool) -> Header:
    """Add the checks that every format needs."""
    problems = list(claims.problems)
    if claims.channels != 1 and not several:
        problems.append(f"it has {claims.channels} numbers a voxel, expected one")
    size, spacing = claims.size, claims.spacing
    shape = "x".join(map(str, size))
    straight = len(size) == 3
    if not straight:
        problems.insert(0, f"it is {len(size)}D, {shape} voxels (x first); expected a 3D image")
    positive = min(size, default=0) > 0 and claims.channels > 0
    if not positive:
        problems.append(f"its size is {shape} voxels (x first); expected at least 1 along each axis")
    if straight and spacing and not all(0 < step < math.inf for step in spacing):
        steps = ", ".join(f"{step:g}" for step in spacing)
        problems.append(f"its spacing is ({steps}) mm (x first); expected numbers above 0")
    claimed = 0
    if positive and claims.voxel_type:
        count = math.prod(size) * claims.channels
        claimed = count * np.dtype(claims.voxel_type).itemsize
        problems += memory_problems(claimed)
        if claims.voxels is not None:
            problems += _length_problems(claims.voxels, claimed, count)
    return Header(
        path,
        claims.format,
        claims.image_io,
        (size[2], size[1], size[0]) if straight else None,
        (spacing[2], spacing[1], spacing[0]) if straight and spacing else None,
        claims.voxel_type,
        claimed,
        claims.voxels is not None and claims.voxels.encoding in ("gzip", "zlib"),
        claims.voxels,
        tuple(problems),
        False,
        claims.channels,
        claims.geometry,
    )


def memory_problems(claimed: int) -> list[str]:
    """Check against the machine's memory; voxels read whole, and SimpleITK's copy for statistics, take it twice.

    What is free differs from moment to moment, and with it would what a run fails.
    """
    total = psutil.virtual_memory().total
    if 2 * claimed <= total:
        return []
    return [
        f"its header claims {bytes_text(claimed)} of voxels, reading takes twice that; this machine has "
        f"{bytes_text(total)} of memory"
    ]


def _length_problems(voxels: VoxelData, claimed: int, count: int) -> list[str]:
    held = voxels.path.stat().st_size - voxels.start
    expected = claimed + (voxels.skip or 0)
    match voxels.encoding:
        case "raw":
            wrong = held < expected or (held > expected and voxels.skip is not None)
            return [length_problem(held - (voxels.skip or 0), claimed)] if wrong else []
        case "gzip" | "zlib":
            possible = held * _DEFLATE_LIMIT
        case "text":
            possible = (held + 1) // 2 * (claimed // count)  # a digit and a gap a voxel
        case "hex":
            possible = held // 2
    if possible < claimed:
        return [
            f"its header claims {bytes_text(claimed)} of voxels, its {bytes_text(held)} can hold {bytes_text(possible)}"
        ]
    return []


def length_problem(held: int, claimed: int) -> str:
    """Say that voxel data are shorter or longer than the header claims."""
    if held < claimed:
        return f"it is truncated: its header claims {claimed} bytes of voxels, it holds {max(held, 0)}"
    return f"it holds {held} bytes of voxels, its header claims {claimed}: its size or type is wrong"
