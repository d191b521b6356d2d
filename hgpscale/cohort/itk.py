"""What is left to SimpleITK: grids of formats other than NIfTI, and voxels that are stored in unusual ways."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from hgpscale.cohort.headers import Header
from hgpscale.errors import ImageError
from hgpscale.volume import Geometry

if TYPE_CHECKING:
    import SimpleITK as sitk


def read_geometry(header: Header) -> Geometry:
    """Return the grid of an image as ITK reads it from the header, without the voxels.

    Raises
    ------
    ImageError
        ITK refuses the header; the message does not name the file.

    """
    if header.geometry is not None:
        return header.geometry
    reader = _reader(header)
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise ImageError(itk_reason(error)) from error
    return Geometry.of(reader)


def read_voxels(header: Header) -> NDArray[Any]:
    """Return all voxels ``(z, y, x)``; with several values a voxel, those are the last axis. Errors as above."""
    import SimpleITK as sitk

    try:
        voxels: NDArray[Any] = sitk.GetArrayFromImage(_reader(header).Execute())
    except RuntimeError as error:
        raise ImageError(itk_reason(error)) from error
    return voxels


def _reader(header: Header) -> sitk.ImageFileReader:
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
