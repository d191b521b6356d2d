"""The slices of DICOM images: where each lies, and what its stored numbers mean."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hgpscale.cohort.dicom.files import is_image, item_of, numbers, quiet, read_header
from hgpscale.cohort.headers import length_problem
from hgpscale.errors import ImageError

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

_TAGS = (
    "SOPClassUID",
    "Modality",
    "ImageType",
    "SeriesInstanceUID",
    "SeriesNumber",
    "AcquisitionNumber",
    "FrameOfReferenceUID",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "SpacingBetweenSlices",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
    "RescaleSlope",
    "RescaleIntercept",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)
_UNKNOWN_LENGTH = 0xFFFFFFFF


@dataclass(frozen=True)
class Stored:
    """How the pixels of a file are stored.

    Attributes
    ----------
    rows, columns
        Size of a frame.
    allocated, stored
        Bits a pixel.
    signed
        Whether they are.
    syntax
        Transfer syntax.
    compressed
        Whether it has compressed pixels.

    """

    rows: int
    columns: int
    allocated: int
    stored: int
    signed: bool
    syntax: str
    compressed: bool

    def limits(self) -> tuple[int, int]:
        """Return the lowest and highest number that can be stored."""
        return (-(1 << self.stored - 1), (1 << self.stored - 1) - 1) if self.signed else (0, (1 << self.stored) - 1)


_NO_PIXELS = Stored(0, 0, 0, 0, False, "", False)


@dataclass(frozen=True)
class Frame:
    """One slice.

    Attributes
    ----------
    path
        Its file.
    number
        Frame of the file, from 0; None where the file is one slice.
    position
        Point ``(x, y, z)`` in mm of the centre of its first pixel.
    orientation
        Direction cosines of a row and of a column.
    spacing
        Distance of rows, and of columns, in mm.
    slope, intercept
        ``stored * slope + intercept`` is what the pixels mean.

    """

    path: Path
    number: int | None
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]
    slope: float
    intercept: float


@dataclass(frozen=True)
class SliceFile:
    """An image file of a series: one slice, or several.

    Attributes
    ----------
    path
        The file.
    series, series_number, modality, acquisition, reference
        What its header says; empty where it does not. `reference` is the frame of reference.
    localizer
        Whether it is a scout view.
    thickness
        Distance of slices in mm that the header claims, for an image of one slice; 0 without.
    pixels
        How they are stored.
    frames
        Its slices, in the order of the file.
    problem
        Why it cannot be used, which matters where its series is chosen; then it has no frames.

    """

    path: Path
    series: str
    series_number: str
    modality: str
    acquisition: str
    reference: str
    localizer: bool
    thickness: float
    pixels: Stored
    frames: tuple[Frame, ...]
    problem: str = ""


def read_slice_file(path: Path) -> SliceFile | str:
    """Read the header of a DICOM image.

    Returns
    -------
    SliceFile or str
        The modality of a file that is no image.

    Raises
    ------
    ImageError
        The file is damaged. The message does not name it.

    """
    ds = read_header(path, _TAGS)
    with quiet("its DICOM header is damaged"):
        if not is_image(ds):
            return str(ds.get("Modality", "") or "other")
        uid, number, modality, acquisition, reference = (
            str(ds.get(name) if ds.get(name) is not None else "")
            for name in ("SeriesInstanceUID", "SeriesNumber", "Modality", "AcquisitionNumber", "FrameOfReferenceUID")
        )
        localizer = "LOCALIZER" in (ds.get("ImageType") or ())
        about = path, uid, number, modality, acquisition, reference, localizer
        try:
            return SliceFile(*about, _thickness(ds), _stored(ds), tuple(_frames(path, ds)))
        except ImageError as error:
            return SliceFile(*about, 0.0, _NO_PIXELS, (), str(error))


def _thickness(ds: FileDataset) -> float:
    measures = item_of(item_of(ds, "SharedFunctionalGroupsSequence"), "PixelMeasuresSequence")
    for source in (ds, measures):
        for name in ("SpacingBetweenSlices", "SliceThickness"):
            found = numbers(source, name, 1) if source is not None else ()
            if found and found[0] > 0:
                return found[0]
    return 0.0


def _stored(ds: FileDataset) -> Stored:
    samples, meaning = int(ds.get("SamplesPerPixel") or 1), str(ds.get("PhotometricInterpretation", ""))
    if samples != 1 or meaning != "MONOCHROME2":
        raise ImageError(
            f"its pixels are {meaning or 'of no stated kind'}, {samples} numbers each; expected MONOCHROME2"
        )
    allocated = int(ds.get("BitsAllocated") or 0)
    stored = int(ds.get("BitsStored") or allocated)
    if allocated not in (8, 16, 32) or not 0 < stored <= allocated:
        raise ImageError(f"its pixels have {stored} of {allocated} bits; expected 8, 16 or 32")
    syntax = ds.file_meta.get("TransferSyntaxUID")
    if syntax is None:
        raise ImageError("its transfer syntax is missing, so its pixels cannot be told: write it anew as DICOM")
    pixels = Stored(
        int(ds.Rows), int(ds.Columns), allocated, stored, bool(ds.get("PixelRepresentation")), str(syntax),
        bool(syntax.is_encapsulated),
    )  # fmt: skip
    _check_length(ds, pixels)
    return pixels


def _check_length(ds: FileDataset, pixels: Stored) -> None:
    if ds.pixel_bytes is None:  # the rest of the file is deflated
        return
    length, held = ds.pixel_bytes
    if not length:
        raise ImageError("it has no pixels")
    claimed = pixels.rows * pixels.columns * pixels.allocated // 8 * int(ds.get("NumberOfFrames") or 1)
    if length != _UNKNOWN_LENGTH and not pixels.compressed and min(length, held) < claimed:
        raise ImageError(length_problem(min(length, held), claimed))


def _frames(path: Path, ds: FileDataset) -> list[Frame]:
    per_frame = ds.get("PerFrameFunctionalGroupsSequence")
    count = int(ds.get("NumberOfFrames") or 1)
    if not per_frame:
        if count > 1:
            raise ImageError(f"it has {count} frames, and does not say where they lie")
        number = 0 if "NumberOfFrames" in ds else None
        return [_frame(path, number, ds, ds, ds, ds)]
    if len(per_frame) != count:
        raise ImageError(f"it has {count} frames, and describes {len(per_frame)}")
    shared = item_of(ds, "SharedFunctionalGroupsSequence")
    names = (
        "PlanePositionSequence",
        "PlaneOrientationSequence",
        "PixelMeasuresSequence",
        "PixelValueTransformationSequence",
    )
    return [
        _frame(path, number, *(group_of(own, shared, name) for name in names)) for number, own in enumerate(per_frame)
    ]


def group_of(own: Any, shared: Any, name: str) -> Any:
    """Return the item of a functional group, a frame's own or that of all frames; an empty one where there is none."""
    found = item_of(own, name)
    return found if found is not None else item_of(shared, name) or {}


def _frame(path: Path, number: int | None, place: Any, turn: Any, measures: Any, meaning: Any) -> Frame:
    slope, intercept = numbers(meaning, "RescaleSlope", 1), numbers(meaning, "RescaleIntercept", 1)
    if slope and slope[0] == 0:
        raise ImageError("its RescaleSlope is 0; expected another number")
    return Frame(
        path, number, *place_of(place, turn, measures), slope[0] if slope else 1.0, intercept[0] if intercept else 0.0
    )


def place_of(place: Any, turn: Any, measures: Any) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """Return position, orientation and spacing of a frame, and refuse it where one cannot be used."""
    position = numbers(place, "ImagePositionPatient", 3)
    orientation = numbers(turn, "ImageOrientationPatient", 6)
    spacing = numbers(measures, "PixelSpacing", 2)
    for name, found in (
        ("ImagePositionPatient", position),
        ("ImageOrientationPatient", orientation),
        ("PixelSpacing", spacing),
    ):
        if not found:
            raise ImageError(f"its {name} is missing or no set of finite numbers: where its slices lie cannot be told")
    if min(spacing) <= 0:
        raise ImageError(f"its PixelSpacing is {spacing[0]:g}, {spacing[1]:g} mm; expected numbers above 0")
    rows = np.reshape(orientation, (2, 3))
    if np.abs(rows @ rows.T - np.eye(2)).max() > 1e-3:
        raise ImageError("its ImageOrientationPatient is not two unit vectors at a right angle")
    return position, orientation, spacing


def axes_of(orientation: tuple[float, ...]) -> NDArray[np.float64]:
    """Return the directions of rows, columns and slices as the columns of a matrix, at right angles as of ITK.

    Headers round direction cosines, often to four decimals.
    """
    across, down = np.reshape(orientation, (2, 3))
    normal = np.cross(across, down)
    normal /= np.linalg.norm(normal)
    across = np.cross(down, normal)
    across /= np.linalg.norm(across)
    axes: NDArray[np.float64] = np.stack([across, np.cross(normal, across), normal], axis=1)
    return axes


def voxel_type(files: list[SliceFile]) -> np.dtype[Any]:
    """Return the type that holds all that the slices can mean.

    int16 where slopes and intercepts are whole numbers and it is wide enough, else int32 or int64: by the number of
    bits, not by the voxels, so that any part of a series has the type of the whole. Otherwise float64, as of ITK.
    """
    lows, highs = [], []
    for file in files:
        for slope, intercept in {(frame.slope, frame.intercept) for frame in file.frames}:
            if not (slope.is_integer() and intercept.is_integer()):
                return np.dtype(np.float64)
            ends = sorted(limit * slope + intercept for limit in file.pixels.limits())
            lows.append(ends[0])
            highs.append(ends[1])
    for kind in (np.int16, np.int32):
        if min(lows, default=0) >= np.iinfo(kind).min and max(highs, default=0) <= np.iinfo(kind).max:
            return np.dtype(kind)
    return np.dtype(np.int64 if max(map(abs, (*lows, *highs))) < math.ldexp(1, 53) else np.float64)


def meant(stored: NDArray[Any], frame: Frame, pixels: Stored, kind: np.dtype[Any]) -> NDArray[Any]:
    """Return what stored pixels mean, as `kind`."""
    if stored.shape != (pixels.rows, pixels.columns):
        raise ImageError(f"its pixels are {stored.shape}, its header says {(pixels.rows, pixels.columns)}")
    unused = pixels.allocated - pixels.stored
    if unused:  # other bits may hold an overlay
        stored = stored.astype(f"{'i' if pixels.signed else 'u'}{pixels.allocated // 8}", copy=False)
        stored = (stored << unused) >> unused
    if kind.kind == "f":
        return stored.astype(kind) * frame.slope + frame.intercept
    whole = stored.astype(np.int64) if kind.itemsize > 2 else stored.astype(np.int32)
    return (whole * int(frame.slope) + int(frame.intercept)).astype(kind)
