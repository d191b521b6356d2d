"""Which DICOM file a mask's path means, and what it holds."""

from __future__ import annotations

import hashlib
from pathlib import Path

from hgpscale.cohort.dicom import rtstruct, seg
from hgpscale.cohort.dicom.files import dicom_files, read_header, require_file
from hgpscale.errors import ImageError
from hgpscale.volume import Geometry

DicomMask = seg.SegFile | rtstruct.StructureSet
_MODALITIES = ("SEG", "RTSTRUCT")


def read_dicom_mask(path: Path, image: Geometry | None) -> tuple[DicomMask, str]:
    """Read a SEG or RTSTRUCT, as far as that goes without its pixels.

    Parameters
    ----------
    path
        The file, or a folder that holds exactly one.
    image
        Grid of the scan; None: only the segments are wanted.

    Returns
    -------
    SegFile or StructureSet
        It draws what it holds.
    str
        Digest of the file's bytes.

    Raises
    ------
    ImageError, MaskError, GeometryError
        It cannot be used; the message does not name `path`.

    """
    file = _file(path)
    kind = _modality(file)
    data = file.read_bytes()
    digest = hashlib.blake2b(data, digest_size=16).hexdigest()
    if kind == "SEG":
        return seg.read_seg(read_header(file, seg.TAGS), data, image), digest
    return rtstruct.read_rtstruct(read_header(file, rtstruct.TAGS), image), digest


def mask_digest(path: Path) -> str:
    """Return the digest of a SEG or RTSTRUCT; empty where the path means an image."""
    if path.is_file() and _modality(path) not in _MODALITIES:
        return ""
    if path.is_dir() and not any(_modality(file) in _MODALITIES for file in dicom_files(path)):
        return ""
    return hashlib.blake2b(_file(path).read_bytes(), digest_size=16).hexdigest()


def _file(path: Path) -> Path:
    require_file(path)
    if path.is_file():
        found = _modality(path)
        if found not in _MODALITIES:
            raise ImageError(f"it is no mask but {found or 'of no modality'}; expected a DICOM SEG or RTSTRUCT")
        return path
    files = [file for file in dicom_files(path) if _modality(file) in _MODALITIES]
    if len(files) != 1:
        names = ", ".join(file.name for file in files[:12]) or "none"
        raise ImageError(f"the folder holds {len(files)} SEG and RTSTRUCT files, expected one; give the file: {names}")
    return files[0]


def _modality(file: Path) -> str:
    return str(read_header(file, ("SOPClassUID", "Modality")).get("Modality", "") or "")
