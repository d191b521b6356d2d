"""Reads images and masks: guarded, fingerprinted, and with every complaint on one line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hgpscale.cohort.claims import VoxelData
from hgpscale.cohort.digest import digest
from hgpscale.cohort.headers import Header, inspect
from hgpscale.errors import ImageError, MissingFileError
from hgpscale.volume import Geometry, Volume

if TYPE_CHECKING:
    import SimpleITK as sitk

_LABEL_TYPES = (np.uint8, np.uint16, np.uint32)


def read_image(path: str | Path) -> tuple[Volume, str]:
    """Read a 3D image.

    Parameters
    ----------
    path
        A .nii, .nii.gz, .nrrd, .nhdr, .mha or .mhd file.

    Returns
    -------
    Volume
        Voxels ``(z, y, x)`` in the stored type, NaN and infinities included; a NIfTI file with a slope or intercept
        comes scaled, as float32 or float64.
    str
        Digest of the file's bytes, see `digest.digest`.

    Raises
    ------
    MissingFileError
        There is no such file. It is an ImageError too.
    ImageError
        The file is broken, truncated, not 3D, of another format, or too large for the memory. The message
        lists everything that is wrong with it.

    """
    header = inspect(path)
    if header.problems or header.voxels is None:
        kind = MissingFileError if header.missing else ImageError
        raise kind(f"{path}: {'; '.join(header.problems)}")
    stream = bytearray()
    try:
        if header.format == "NIfTI":
            fingerprint = digest(header, stream.extend)
            volume = _nifti(header, _stored(stream, header, header.voxels), header.voxels.scaled)
        else:
            fingerprint = digest(header)
            volume = Volume.of(image_reader(header).Execute())
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror or error}") from error
    except RuntimeError as error:
        raise ImageError(f"{path}: {itk_reason(error)}") from error
    return volume, fingerprint


def read_mask(path: str | Path) -> tuple[Volume, str]:
    """Read a 3D mask of labels.

    Parameters
    ----------
    path
        A file as for `read_image`, with voxels of any integer or float type.

    Returns
    -------
    Volume
        Labels ``(z, y, x)`` in the smallest of uint8, uint16 and uint32 that holds them.
    str
        Digest of the file's bytes.

    Raises
    ------
    ImageError
        As for `read_image`; or a voxel is no whole number, negative, or beyond 32 bits.

    """
    volume, fingerprint = read_image(path)
    try:
        labels = as_labels(volume.array)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error
    return Volume(labels, volume.geometry), fingerprint


def _nifti(header: Header, stored: NDArray[Any], scaled: bool) -> Volume:
    """Return a NIfTI image from its stored voxels; ITK says where they lie, and scales them where they are scaled."""
    if not scaled:
        # The stream is decompressed already: ITK would do it again.
        return Volume(stored, read_geometry(header))
    volume = Volume.of(image_reader(header).Execute())
    if stored.dtype.kind == "f":
        # ITK's NIfTI library makes every NaN and infinity a 0, without saying so.
        lost = ~np.isfinite(stored)
        volume.array[lost] = stored[lost]
    return volume


def _stored(stream: bytearray, header: Header, voxels: VoxelData) -> NDArray[Any]:
    """Return the voxels as they are stored, shape ``(z, y, x)``, in this machine's byte order."""
    kind = np.dtype(header.voxel_type)
    count = header.claimed_bytes // kind.itemsize
    stored = np.frombuffer(stream, kind.newbyteorder(voxels.order), count, voxels.skip or 0)
    return stored.reshape(header.size or -1).astype(kind, copy=False)


def read_geometry(header: Header) -> Geometry:
    """Return the grid of an image as ITK reads it from the header, without the voxels.

    Raises
    ------
    ImageError
        ITK refuses the header; the message does not name the file.

    """
    reader = image_reader(header)
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise ImageError(itk_reason(error)) from error
    return Geometry.of(reader)


def image_reader(header: Header) -> sitk.ImageFileReader:
    """Return SimpleITK's reader for a file that `inspect` found sound.

    The format's own reader is named, so that ITK does not try all others first, which print to the terminal and are
    not safe in threads. ITK's warnings are switched off for the process: what they are about is checked before.
    """
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    reader = sitk.ImageFileReader()
    reader.SetImageIO(header.image_io)
    reader.SetFileName(str(header.path))
    return reader


def itk_reason(error: RuntimeError) -> str:
    """Return what an ITK exception says, on one line, without the places in ITK's source and its addresses."""
    lines = [line for line in str(error).splitlines() if not re.search(r"\.[ch]xx:\d+:\s*$", line)]
    text = re.sub(r"^(sitk::|itk::|ITK )?ERROR: |\(0x[0-9a-f]+\)", "", " ".join(" ".join(lines).split()))
    return f"SimpleITK cannot read it: {text}"


def as_labels(array: NDArray[Any]) -> NDArray[Any]:
    """Return a mask's voxels as labels, values unchanged.

    Parameters
    ----------
    array
        Labels ``(z, y, x)``, whole numbers from 0 in any integer or float type, or bool.

    Returns
    -------
    ndarray
        The same in the smallest of uint8, uint16 and uint32 that holds them; `array` itself where it has that type.

    Raises
    ------
    ImageError
        There is no voxel, or one is no whole number, NaN, infinite, negative, or beyond 32 bits. The message does not
        name the file.

    """
    if not array.size or array.dtype.kind not in "buif":
        raise ImageError(f"the mask is {array.size} voxels of type {array.dtype}; expected integers or floats")
    lowest, highest = array.min(), array.max()
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        raise ImageError("the mask holds NaN or infinite voxels; expected whole numbers from 0")
    if lowest < 0:
        raise ImageError(f"the mask holds negative labels (lowest {lowest:g}); expected whole numbers from 0")
    if array.dtype.kind == "f":
        fractional = array[array != np.floor(array)]
        if fractional.size:
            raise ImageError(
                f"the mask is fractional ({fractional.size} voxels, such as {fractional[0]:.6g}): "
                "threshold it, for example at 0.5, and save it as integers"
            )
    fitting = [kind for kind in _LABEL_TYPES if highest <= np.iinfo(kind).max]
    if not fitting:
        raise ImageError(f"the mask holds label {highest:g}; expected at most {np.iinfo(np.uint32).max}")
    return array.astype(fitting[0], copy=False)
