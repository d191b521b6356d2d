"""A DICOM series as an image: which files it is, the grid that its slices make, its voxels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hgpscale.cohort.dicom.files import decode, dicom_files, require_file
from hgpscale.cohort.dicom.frames import Frame, SliceFile, meant, read_slice_file, voxel_type
from hgpscale.cohort.dicom.stack import stack
from hgpscale.cohort.headers import memory_problems
from hgpscale.errors import ImageError
from hgpscale.volume import Box, Geometry, Volume

_PIECE = 1 << 20
_LISTED = 12


@dataclass(frozen=True)
class DicomSeries:
    """A series whose headers are sound and whose slices make a grid.

    Attributes
    ----------
    path
        What the manifest gives: a folder, or a file of the series.
    geometry
        The grid.
    frames
        The slices along z, from the first on.
    files
        The files that hold them, by path.
    dtype
        Type of the voxels, see `voxel_type`.

    """

    path: Path
    geometry: Geometry
    frames: tuple[Frame, ...]
    files: dict[Path, SliceFile]
    dtype: np.dtype[np.int16 | np.int32 | np.int64 | np.float64]

    def read(self, boxes: Sequence[Box], *, entire: bool) -> tuple[list[Volume], str]:
        """Read boxes and, with `entire`, every file, as `hgpscale.cohort.read_parts` has it.

        Without `entire` only slices that a box needs are read.
        """
        parts = [_empty(box, self) for box in boxes]
        digest = hashlib.blake2b(digest_size=16)
        hashed: Path | None = None
        done: set[Path] = set()
        source: Path | bytes = self.path
        for z, frame in enumerate(self.frames):
            file = self.files[frame.path]
            wanted = [part for part in parts if part.box[0][0] <= z < part.box[1][0]]
            if not (wanted or entire):
                continue
            with named(frame.path):
                if hashed != frame.path:
                    # The bytes that are hashed are those that are decoded. Of a file of many slices, read by each.
                    source = frame.path.read_bytes() if entire else frame.path
                    hashed = frame.path
                    if frame.path not in done:
                        digest.update(source if isinstance(source, bytes) else b"")
                        done.add(frame.path)
                if not wanted and not file.pixels.compressed and _is_plain(file):
                    continue  # nothing but its length could be wrong, and the header's check has seen that
                plane = meant(decode(source, file.pixels.syntax, frame.number), frame, file.pixels, self.dtype)
            for part in wanted:
                (z0, y0, x0), (_, y1, x1) = part.box
                part.array[z - z0] = plane[y0:y1, x0:x1]
        return parts, digest.hexdigest() if entire else ""

    def digest(self) -> str:
        """Return the digest of the files' bytes, one after the other in order of position."""
        found = hashlib.blake2b(digest_size=16)
        for path in dict.fromkeys(frame.path for frame in self.frames):
            with named(path), path.open("rb", buffering=0) as opened:
                while piece := opened.read(_PIECE):
                    found.update(piece)
        return found.hexdigest()


def _is_plain(file: SliceFile) -> bool:
    return file.pixels.syntax in ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")


def _empty(box: Box, series: DicomSeries) -> Volume:
    lower, upper = box
    return Volume(np.empty([b - a for a, b in zip(lower, upper, strict=True)], series.dtype), series.geometry, lower)


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Put a file's name before messages about it."""
    try:
        yield
    except ImageError as error:
        raise type(error)(f"{path.name}: {error}") from error
    except OSError as error:
        raise ImageError(f"{path.name}: cannot be read: {error.strerror or error}") from error


def open_series(path: Path) -> DicomSeries:
    """Read the headers of a series and check that its slices make a grid; no voxel is read.

    Parameters
    ----------
    path
        A folder that holds one series, or a file of a series: then it is that one, among the folder's.

    Raises
    ------
    MissingFileError
        There is nothing at that path.
    ImageError
        A file is damaged; the folder holds no image, or several series or acquisitions and none was chosen; or the
        slices do not make a grid. The message does not name `path`.

    """
    require_file(path)
    chosen = _chosen(path)
    for file in chosen:
        if file.problem:
            raise ImageError(f"{file.path.name}: {file.problem}")
    localizers = sum(file.localizer for file in chosen)
    if localizers:
        raise ImageError(
            f"{localizers} of its {len(chosen)} files are localizers (scout views), no slices of a volume: "
            "take them out, or give a file of another series"
        )
    chosen = _one_acquisition(chosen, path)
    frames, geometry = stack(chosen)
    kind = voxel_type(chosen)
    problems = memory_problems(int(np.prod(geometry.size, dtype=object)) * kind.itemsize)
    if problems:
        raise ImageError("; ".join(problems))
    return DicomSeries(path, geometry, frames, {file.path: file for file in chosen}, kind)


def _chosen(path: Path) -> list[SliceFile]:
    """Return the files of the series that `path` means."""
    images: list[SliceFile] = []
    others: list[str] = []
    if path.is_file():  # what it is comes before what lies beside it
        with named(path):
            header = read_slice_file(path)
        if isinstance(header, str):
            raise ImageError(f"it is no image but {header}; expected a file of an image series, or the series' folder")
    for file in dicom_files(path if path.is_dir() else path.parent, path):
        with named(file):
            header = read_slice_file(file)
        if isinstance(header, str):
            others.append(header)
        else:
            images.append(header)
    if not images:
        raise ImageError(f"the folder holds no image, but {', '.join(dict.fromkeys(others))}; expected a series")
    if path.is_file():
        uid = next(file.series for file in images if file.path == path)
        return [file for file in images if file.series == uid]
    groups: dict[str, list[SliceFile]] = {}
    for image in images:
        groups.setdefault(image.series, []).append(image)
    if len(groups) > 1:
        raise ImageError(
            f"the folder holds {len(groups)} series; give one file of that which is meant: {_list(groups)}"
        )
    return images


def _one_acquisition(files: list[SliceFile], path: Path) -> list[SliceFile]:
    """Return the files of one acquisition, where a series holds several of the same place.

    Some scanners number acquisitions along one volume, so that numbers alone do not make them several volumes.
    """
    groups: dict[str, list[SliceFile]] = {}
    for file in files:
        groups.setdefault(file.acquisition, []).append(file)
    places = [frame.position for file in files for frame in file.frames]
    if len(groups) == 1 or len(set(places)) == len(places):
        return files
    if path.is_file():
        number = next(file.acquisition for file in files if file.path == path)
        return groups[number]
    raise ImageError(
        f"the series holds {len(groups)} acquisitions of the same place; give one file of that which is meant: "
        f"{_list(groups)}"
    )


def _list(groups: dict[str, list[SliceFile]]) -> str:
    shown = [
        f"series {first.series_number or '?'} ({first.modality}, {sum(len(file.frames) for file in files)} slices, "
        f"acquisition {'/'.join(dict.fromkeys(file.acquisition or '?' for file in files))}): {first.path.name}"
        for files in list(groups.values())[:_LISTED]
        for first in [files[0]]
    ]
    more = f"; and {len(groups) - _LISTED} more" if len(groups) > _LISTED else ""
    return "; ".join(shown) + more
