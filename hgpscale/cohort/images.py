"""Reads images: guarded, only as far as is needed, fingerprinted if asked for, every complaint on one line."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hgpscale.cohort.dicom.files import is_dicom
from hgpscale.cohort.headers import Header, inspect, is_known
from hgpscale.cohort.itk import read_geometry, read_voxels
from hgpscale.cohort.stream import VoxelStream, open_voxels
from hgpscale.errors import HgpscaleError, ImageError, MissingFileError
from hgpscale.volume import Box, Geometry, Volume

_STREAMED = ("raw", "gzip", "zlib")
_SLAB = 1 << 17
"""Bytes that are read at a time, or one plane where that is more: few enough to stay in the processor's cache."""
_PIECE = 1 << 20
"""Bytes that are read at a time for a digest alone."""


class ImageFile(Protocol):
    """An image whose header is sound, of any format: one file, or the files of a DICOM series."""

    @property
    def path(self) -> Path:
        """What the manifest names."""

    @property
    def geometry(self) -> Geometry:
        """The grid, as ITK reads it."""

    def read(self, boxes: Sequence[Box], *, entire: bool) -> tuple[list[Volume], str]:
        """Read boxes, see `read_parts`; messages do not name `path`."""

    def digest(self) -> str:
        """Return the digest that `read` gives, without decoding voxels; messages do not name `path`."""


@dataclass(frozen=True)
class VoxelFile:
    """A NIfTI, NRRD or MetaImage file whose header is sound.

    Attributes
    ----------
    header
        What `inspect` found.
    geometry
        The grid, as ITK reads it.

    """

    header: Header
    geometry: Geometry

    @property
    def path(self) -> Path:
        """The file."""
        return self.header.path

    def read(self, boxes: Sequence[Box], *, entire: bool) -> tuple[list[Volume], str]:
        """Read boxes in one pass over the file, holding one slab beside them, see `read_parts`."""
        header, geometry = self.header, self.geometry
        first, last = min((lower[0] for lower, _ in boxes), default=0), max((upper[0] for _, upper in boxes), default=0)
        with open_voxels(header, hashed=entire) as stream:
            if not is_streamed(header):
                digest = stream.finish()
                whole = Volume(read_voxels(header), geometry)
                return [whole.crop(*box) for box in boxes], digest if entire else ""
            parts = [_empty(box, self) for box in boxes]
            for z, slab in slabs(stream, header, first, last):
                for part, (lower, upper) in zip(parts, boxes, strict=True):
                    start, end = max(z, lower[0]), min(z + len(slab), upper[0])
                    if start < end:
                        window = slab[start - z : end - z, lower[1] : upper[1], lower[2] : upper[2]]
                        part.array[start - lower[0] : end - lower[0]] = _scaled(window, header)
            # Where the last plane was needed, the end of the stream costs nothing.
            digest = stream.finish() if entire or last == geometry.size[0] else ""
        return parts, digest

    def digest(self) -> str:
        """Return the digest of the image file, followed by its data file where it has one."""
        assert self.header.voxels is not None, "a header without voxels is not sound"
        digest = hashlib.blake2b(digest_size=16)
        for file in dict.fromkeys((self.header.path, self.header.voxels.path)):
            with file.open("rb", buffering=0) as opened:
                while piece := opened.read(_PIECE):
                    digest.update(piece)
        return digest.hexdigest()


def open_image(path: str | Path) -> ImageFile:
    """Read and check the headers of a 3D image, and no voxel.

    Parameters
    ----------
    path
        A .nii, .nii.gz, .nrrd, .nhdr, .mha or .mhd file; a folder that holds one DICOM series; or a DICOM file, which
        stands for the series that it belongs to, among the files of its folder.

    Raises
    ------
    MissingFileError
        There is no such file. It is an ImageError too.
    ImageError
        The file is broken, truncated, not 3D, of another format, or too large for the memory, as far as its header
        and length show; or slices of a DICOM series make no grid. The message lists everything that is wrong with it.

    """
    path = Path(path)
    with about(path):
        if not is_dicom_image(path):
            return open_voxel_file(path)
        from hgpscale.cohort.dicom.series import open_series

        return open_series(path)


def is_dicom_image(path: Path) -> bool:
    """Whether a path, as a manifest gives it for an image or a mask, is read as DICOM.

    Raises
    ------
    OSError
        It cannot be read.

    """
    return not is_known(path) and (path.is_dir() or (path.is_file() and is_dicom(path)))


def open_voxel_file(path: Path, *, several: bool = False) -> VoxelFile:
    """Read and check the header of a NIfTI, NRRD or MetaImage file; errors as of `open_image`, without the path.

    `several` says whether several values a voxel are right.
    """
    header = inspect(path, several=several)
    if header.problems or header.voxels is None:
        kind = MissingFileError if header.missing else ImageError
        raise kind("; ".join(header.problems))
    return VoxelFile(header, read_geometry(header))


def read_parts(image: ImageFile, boxes: Sequence[Box], *, entire: bool) -> tuple[list[Volume], str]:
    """Read boxes of an image in one pass over its file or files, holding little beside them.

    Parameters
    ----------
    image
        What `open_image` returned.
    boxes
        Parts of the image.
    entire
        Whether to read on behind the last plane that a box needs: to check that the file is whole and undamaged, and
        for the digest of its bytes. What lies behind that plane is otherwise not looked at; of a DICOM series only
        the files of planes that are needed.

    Returns
    -------
    list of Volume
        A box each. Voxels in the stored type, NaN and infinities included; a NIfTI file with a slope or intercept
        comes scaled, as float32 or float64; DICOM always scaled, see `hgpscale.cohort.dicom.frames.voxel_type`.
    str
        The digest, see `VoxelStream.finish`, of a DICOM series that of its files in order of position; empty unless
        `entire`.

    Raises
    ------
    ImageError
        The file is truncated or damaged in what was read of it.

    """
    with about(image.path):
        return image.read(boxes, entire=entire)


def file_digest(path: str | Path) -> str:
    """Return the digest of an image's or a mask's files, as `read_parts` gives it, without their voxels.

    Raises
    ------
    ImageError
        The file is missing or cannot be used, as of `open_image`.

    """
    path = Path(path)
    with about(path):
        if not is_dicom_image(path):
            return open_voxel_file(path, several=True).digest()
        from hgpscale.cohort.dicom.masks import mask_digest
        from hgpscale.cohort.dicom.series import open_series

        return mask_digest(path) or open_series(path).digest()


def image_bytes(path: str | Path) -> int:
    """Return the size of an image's file, or about that of a series: its files times one of them; 0 for nothing."""
    path = Path(path)
    try:
        # Not each file's: over a network a series would take a second.
        files = list(path.iterdir()) if path.is_dir() else [path]
        return len(files) * files[0].stat().st_size if files else 0
    except OSError:  # reading it will say what is wrong
        return 0


def read_image(path: str | Path) -> tuple[Volume, str]:
    """Read a whole 3D image: its voxels as `read_parts` gives them, and its digest. Errors as of both above."""
    image = open_image(path)
    (whole,), digest = read_parts(image, [((0, 0, 0), image.geometry.size)], entire=True)
    return whole, digest


def is_streamed(header: Header) -> bool:
    """Whether `slabs` can read the voxels; text, and compressed voxels behind other data, are left to SimpleITK."""
    voxels = header.voxels
    assert voxels is not None, "the header was found sound"
    return voxels.encoding in _STREAMED and not (header.compressed and voxels.skip is None)


def slabs(
    stream: VoxelStream, header: Header, first: int, last: int, channel: int = 0
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield the planes from `first` to before `last`, some at a time, and the index of the first of them.

    Shape ``(n, y, x)``, as they are stored, in the file's byte order. `stream` stands at the first voxel; `channel`
    chooses one of several values a voxel.
    """
    assert header.size is not None, "the header was found sound"
    assert header.voxels is not None, "the header was found sound"
    nz, ny, nx = header.size
    kind = np.dtype(header.voxel_type).newbyteorder(header.voxels.order)
    before, beside, at = (0, header.channels, channel) if header.voxels.interleaved else (channel * nz, 1, 0)
    length = ny * nx * beside * kind.itemsize
    stream.skip((before + first) * length)
    step = max(1, _SLAB // length)
    for z in range(first, last, step):
        n = min(step, last - z)
        yield z, np.frombuffer(stream.read(n * length), kind).reshape(n, ny, nx, beside)[..., at]


def _empty(box: Box, image: VoxelFile) -> Volume:
    lower, upper = box
    shape = [b - a for a, b in zip(lower, upper, strict=True)]
    kind = np.dtype(image.header.voxel_type)
    return Volume(np.empty(shape, _scaled(np.empty(0, kind), image.header).dtype), image.geometry, lower)


def _scaled(stored: NDArray[Any], header: Header) -> NDArray[Any]:
    """Apply slope and intercept as ITK does: on float64, from and to a float type."""
    assert header.voxels is not None, "the header was found sound"
    if header.voxels.scaling is None:
        return stored
    slope, intercept = header.voxels.scaling
    kind = np.float64 if stored.dtype.itemsize == 8 and stored.dtype.kind == "f" else np.float32
    with np.errstate(over="ignore"):
        return (stored.astype(kind).astype(np.float64) * slope + intercept).astype(kind)


@contextmanager
def about(path: Path, kind: type[HgpscaleError] = ImageError) -> Iterator[None]:
    """Put the file's path before messages about it, of one kind of errors and of the system."""
    try:
        yield
    except kind as error:
        raise type(error)(f"{path}: {error}") from error
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror or error}") from error
