"""What DICOM files are, and how they are read: few attributes, none that says who the patient is.

No message quotes a value that it does not know to be free of identifiers, so errors of pydicom are named, not cited.
"""

from __future__ import annotations

import io
import logging
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hgpscale.errors import HgpscaleError, ImageError, MissingFileError

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

_LOCK = threading.RLock()
_PREAMBLE = 128
_BARE = (b"\x02\x00", b"\x08\x00", b"\x00\x08")
"""How a file without a preamble starts: group 2 or 8, in either byte order."""
_PIXELS = 0x7FE00010
_DAMAGE = (
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    IndexError,
    EOFError,
    OverflowError,
    NotImplementedError,
    RuntimeError,
    struct.error,
    zlib.error,
)
"""What pydicom raises on damaged files, beside one error of its own."""
_PIXEL_TAGS = (
    "SOPClassUID", "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData",
)  # fmt: skip
_NOT_IMAGES = ("SEG", "RTSTRUCT", "RTPLAN", "RTDOSE", "RTRECORD", "SR", "PR", "KO", "REG", "FID", "DOC", "ECG")


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM as far as its first bytes and its name show; a name in ``.dcm`` says that it means to be.

    Raises
    ------
    OSError
        It cannot be read.

    """
    return path.suffix.lower() == ".dcm" or _looks_dicom(path)


def _looks_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(_PREAMBLE + 4)
    return start[_PREAMBLE:] == b"DICM" or (start[:2] in _BARE and len(start) > _PREAMBLE)


def dicom_files(folder: Path, given: Path | None = None) -> list[Path]:
    """Return the DICOM files of a folder, not of folders in it, by name; hidden files and DICOMDIR are left out.

    `given` is one of its files that is taken for DICOM whatever it looks like.

    Raises
    ------
    ImageError
        There is none.

    """
    found = [
        path
        for path in sorted(folder.iterdir())
        if path == given
        or (path.is_file() and not path.name.startswith(".") and path.name.upper() != "DICOMDIR" and is_dicom(path))
    ]
    if not found:
        raise ImageError(
            "the folder holds no DICOM file; expected a series, one file a slice, not in folders within it"
        )
    return found


def require_file(path: Path) -> None:
    """Raise a MissingFileError where there is nothing at that path; the message does not name it."""
    if path.is_symlink() and not path.exists():
        raise MissingFileError("is a broken link: the file that it points to is missing")
    if not path.exists():
        raise MissingFileError("the file is missing")


@contextmanager
def quiet(what: str) -> Iterator[None]:
    """Run pydicom without its warnings, which quote values, and make its errors an ImageError that says `what`.

    Filters of warnings and pydicom's settings belong to the process, so one thread at a time is in here.
    """
    from pydicom import config
    from pydicom.errors import BytesLengthException

    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger, before = logging.getLogger("pydicom"), config.settings.reading_validation_mode
        level = logger.level
        logger.setLevel(logging.CRITICAL)
        config.settings.reading_validation_mode = config.IGNORE
        try:
            yield
        except HgpscaleError:
            raise
        except (*_DAMAGE, BytesLengthException) as error:
            raise ImageError(f"{what} ({type(error).__name__})") from error
        finally:
            logger.setLevel(level)
            config.settings.reading_validation_mode = before


def read_header(path: Path, tags: Sequence[str]) -> FileDataset:
    """Read some attributes of a DICOM file, and nothing behind them; all others are skipped unread.

    Parameters
    ----------
    path
        The file.
    tags
        Keywords of the attributes; those that the file lacks are lacking in the result.

    Raises
    ------
    ImageError
        It is no DICOM file, or damaged. The message does not name the file.
    OSError
        It cannot be read.

    """
    import pydicom

    if not _looks_dicom(path):
        raise ImageError("is not a DICOM file: it has neither the mark DICM nor a first element of group 2 or 8")
    with path.open("rb") as file, quiet("its DICOM header is damaged"):
        ds = pydicom.dcmread(file, stop_before_pixels=True, force=True, specific_tags=list(tags))
        _require_elements(ds)
        syntax = ds.file_meta.get("TransferSyntaxUID")
        ds.pixel_bytes = None if syntax is not None and syntax.is_deflated else _pixel_bytes(file, ds)
        return ds


def _require_elements(ds: FileDataset) -> None:
    if not len(ds) or "SOPClassUID" not in ds:
        raise ImageError("its DICOM header is damaged: it has no SOP class")


def _pixel_bytes(file: io.BufferedReader, ds: FileDataset) -> tuple[int, int]:
    """Return how many bytes of pixels the file says it has, and how many follow; (0, 0) without pixels.

    Of compressed pixels the first number is 2**32 - 1: the length is not known beforehand.
    """
    implicit, little = ds.original_encoding
    start = file.tell()
    element = file.read(12)
    held = len(element) and file.seek(0, io.SEEK_END) - start
    order = "<" if little else ">"
    if len(element) < 12 or struct.unpack(f"{order}HH", element[:4]) != (_PIXELS >> 16, _PIXELS & 0xFFFF):
        return 0, 0
    long = implicit is True
    (length,) = struct.unpack(f"{order}I", element[4:8] if long else element[8:12])
    return length, held - (8 if long else 12)


def is_image(ds: FileDataset) -> bool:
    """Whether a header is that of slices, by its modality and size."""
    return ds.get("Modality", "") not in _NOT_IMAGES and bool(ds.get("Rows")) and bool(ds.get("Columns"))


def decode(source: Path | bytes, syntax: str, frame: int | None) -> NDArray[Any]:
    """Return the stored pixels ``(rows, columns)`` of one frame; of a file with one frame, `frame` is None.

    Parameters
    ----------
    source
        The file, or its bytes.
    syntax
        Its transfer syntax.
    frame
        Number from 0.

    Raises
    ------
    ImageError
        They are damaged, cut off, or in an encoding that is not supported.

    """
    import pydicom
    from pydicom.pixels import pixel_array
    from pydicom.uid import UID, RLELossless

    kind = UID(syntax)
    # Named, so that the numbers are not those of whatever else happens to be installed.
    plugin = "" if not kind.is_encapsulated else "pydicom" if kind == RLELossless else "gdcm"
    with quiet(f"its pixels are damaged, or their encoding is not supported ({kind.name})"):
        stream: Any = io.BytesIO(source) if isinstance(source, bytes) else source
        if kind.is_deflated:  # pixel_array looks for pixels in the deflated bytes
            stream = pydicom.dcmread(stream, specific_tags=list(_PIXEL_TAGS))
        pixels: NDArray[Any] = pixel_array(stream, index=frame, raw=True, decoding_plugin=plugin)
    return pixels


def numbers(ds: Any, name: str, count: int) -> tuple[float, ...]:
    """Return an attribute's `count` numbers; empty where it is missing, has others, or they are not finite."""
    value = ds.get(name)
    if value is None:
        return ()
    values = [value] if isinstance(value, (int, float, str)) else list(value)
    found = tuple(float(item) for item in values)
    return found if len(found) == count and np.isfinite(found).all() else ()


def item_of(ds: Any, name: str) -> Any:
    """Return the first item of a sequence; None where it is missing or empty."""
    sequence = ds.get(name) if ds is not None else None
    return sequence[0] if sequence else None


def tail(uid: object) -> str:
    """Return the end of a UID: enough to tell two of them apart."""
    return f"...{str(uid)[-8:]}"
