"""Headers of MetaImage files (.mha, and .mhd with a data file beside it).

Keys are those of the format's definition (https://itk.org/Wiki/ITK/MetaIO/Documentation).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from hgpscale.cohort.claims import Claims, VoxelData, shown, skewed_axes
from hgpscale.errors import ImageError

_LONGEST_HEADER = 1 << 20
_VOXEL_TYPES = {
    "MET_CHAR": "int8",
    "MET_UCHAR": "uint8",
    "MET_SHORT": "int16",
    "MET_USHORT": "uint16",
    "MET_INT": "int32",
    "MET_UINT": "uint32",
    "MET_LONG": "int32",
    "MET_ULONG": "uint32",
    "MET_LONG_LONG": "int64",
    "MET_ULONG_LONG": "uint64",
    "MET_FLOAT": "float32",
    "MET_DOUBLE": "float64",
}
_DIRECTIONS = ("TransformMatrix", "Rotation", "Orientation")
_WHOLE = ("NDims", "DimSize", "HeaderSize", "CompressedDataSize", "ElementNumberOfChannels")
_ORIGINS = ("Offset", "Position", "Origin")
_BIG_ENDIAN = ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")


def parse(path: Path) -> Claims:
    """Read what a MetaImage header claims.

    Raises
    ------
    ImageError
        The file is not MetaImage at all, lacks a key, or a value cannot be read.

    """
    keys, end = _keys(path)
    ndim = int(_numbers(keys, ("NDims",), 1)[0])
    size = tuple(int(n) for n in _numbers(keys, ("DimSize",), ndim))
    problems = []
    kind = keys.get("ElementType", "")
    if kind not in _VOXEL_TYPES:
        problems.append(f"its voxels are of type {shown(kind)}; expected one number a voxel")
    channels = int(_numbers(keys, ("ElementNumberOfChannels",), 1, 1.0)[0])
    # ITK keeps these in the file's dictionary and hands out the voxels as stored
    slope = _numbers(keys, ("ElementToIntensityFunctionSlope",), 1, 1.0)[0]
    offset = _numbers(keys, ("ElementToIntensityFunctionOffset",), 1, 0.0)[0]
    if (slope, offset) != (1, 0):
        problems.append(
            f"its voxels are to be scaled by {slope:g} and shifted by {offset:g}, which SimpleITK does not do"
        )
    if keys.get("DistanceUnits", "mm") not in ("mm", "?"):
        problems.append(f"its lengths are in {shown(keys['DistanceUnits'])}, expected mm")
    spacing: tuple[float, ...] = ()
    if "ElementSpacing" in keys or "ElementSize" in keys:
        spacing = _numbers(keys, ("ElementSpacing", "ElementSize"), ndim)
    else:
        problems.append("it has no spacing ('ElementSpacing')")
    if ndim == 3:
        identity = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
        matrix = np.array(_numbers(keys, _DIRECTIONS, 9, *identity))
        problems += skewed_axes(matrix.reshape(3, 3).tolist())
        if not np.isfinite(_numbers(keys, _ORIGINS, 3, 0.0, 0.0, 0.0)).all():
            problems.append("its origin is not finite")
    voxels, found = _voxels(path, keys, end)
    problems += found
    voxel_type = _VOXEL_TYPES.get(kind, "")
    return Claims("MetaImage", "MetaImageIO", size, spacing, voxel_type, voxels, tuple(problems), channels)


def _keys(path: Path) -> tuple[dict[str, str], int]:
    """Return the header's values by key, and the byte after its last line, `ElementDataFile`."""
    keys: dict[str, str] = {}
    with path.open("rb") as file:
        while line := file.readline(_LONGEST_HEADER):
            name, equals, value = line.decode("utf-8", errors="replace").partition("=")
            if not equals or file.tell() > _LONGEST_HEADER:
                raise ImageError("is not a MetaImage file: expected lines 'key = value' up to 'ElementDataFile'")
            keys[name.strip()] = value.strip()
            if name.strip() == "ElementDataFile":
                return keys, file.tell()
        if not keys:
            raise ImageError("the file is empty")
    raise ImageError("its header has no 'ElementDataFile': it names no voxel data")


def _numbers(keys: dict[str, str], names: tuple[str, ...], count: int, *default: float) -> tuple[float, ...]:
    """Return the numbers under the first of `names` that the header has."""
    name = next((name for name in names if name in keys), None)
    if name is None and default:
        return default
    words = keys.get(name, "").split() if name else []
    try:
        values = tuple(float(word) for word in words)
    except ValueError:
        values = ()
    whole = name in _WHOLE
    if len(values) != count or (whole and not all(v.is_integer() and abs(v) < 2**53 for v in values)):
        found = shown(" ".join(words))
        raise ImageError(f"{name or names[0]} is {found}, expected {count} {'whole ' if whole else ''}number(s)")
    return values


def _true(keys: dict[str, str], name: str) -> bool:
    return keys.get(name, "")[:1] in ("T", "t", "1")  # MetaIO's rule


def _voxels(path: Path, keys: dict[str, str], end: int) -> tuple[VoxelData | None, list[str]]:
    problems = []
    name = keys["ElementDataFile"]
    local = name.upper() == "LOCAL"
    source, start = (path, end) if local else (path.parent / name, 0)
    if name.upper().startswith("LIST") or "%" in name or (len(name.split()) > 1 and not source.exists()):
        problems.append("its voxels are spread over several files: save it as one .mha file")
    elif not source.is_file():
        problems.append(f"its data file {name} is missing")
    if not _true(keys, "BinaryData") and "BinaryData" in keys:
        problems.append("its voxels are written as text; expected BinaryData = True")
    compressed = _true(keys, "CompressedData")
    header_size = int(_numbers(keys, ("HeaderSize",), 1, 0.0)[0])
    if header_size < -1 or (header_size > 0 and local) or (header_size and compressed):
        problems.append(f"HeaderSize is {header_size}, expected 0, or -1 with voxels that are not compressed")
    if compressed and local:
        # without the right size ITK hands out what is in memory
        held, said = path.stat().st_size - end, int(_numbers(keys, ("CompressedDataSize",), 1, -1.0)[0])
        if held != said:
            problems.append(f"CompressedDataSize is {said if said >= 0 else 'missing'}, the file holds {held}")
    if problems:
        return None, problems
    encoding: Literal["zlib", "raw"] = "zlib" if compressed else "raw"
    order: Literal["<", ">"] = ">" if any(_true(keys, name) for name in _BIG_ENDIAN) else "<"
    return VoxelData(source, start, None if header_size < 0 else header_size, encoding, order), problems
