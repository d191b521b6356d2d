"""Headers of NRRD images (.nrrd, and .nhdr with a data file beside it).

Fields are those of the format's definition (https://teem.sourceforge.net/nrrd/format.html).
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

from hgpscale.cohort.claims import Claims, VoxelData, shown, skewed_axes
from hgpscale.errors import ImageError

_LONGEST_HEADER = 1 << 24
_WORDS = {
    "int8": ("signed char", "int8", "int8_t"),
    "uint8": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "int16": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "uint16": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "int32": ("int", "signed int", "int32", "int32_t"),
    "uint32": ("uint", "unsigned int", "uint32", "uint32_t"),
    "int64": ("longlong", "long long", "long long int", "signed long long", "int64", "int64_t"),
    "uint64": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "float32": ("float",),
    "float64": ("double",),
}
_VOXEL_TYPES = {word: name for name, words in _WORDS.items() for word in words}
_Encoding = Literal["raw", "gzip", "text", "hex"]
_ENCODINGS: dict[str, _Encoding] = {
    "raw": "raw",
    "gzip": "gzip",
    "gz": "gzip",
    "text": "text",
    "txt": "text",
    "ascii": "text",
    "hex": "hex",
}
_ALIASES = {"datafile": "data file", "lineskip": "line skip", "byteskip": "byte skip"}
_SPACE_AXES = ("domain", "space", "time", "???", "none")
_VALUE_AXES = ("list", "vector")
_MILLIMETRE = ("mm", "millimeter", "millimetre", "millimeters", "millimetres", "")


def parse(path: Path) -> Claims:
    """Read what a NRRD header claims.

    Raises
    ------
    ImageError
        The file is not NRRD at all, lacks a field, or a field cannot be read.

    """
    fields, end = _fields(path)
    ndim = _integers(fields, "dimension", 1)[0]
    size = _integers(fields, "sizes", ndim)
    kinds = fields.get("kinds", "").lower().split() or ["domain"] * ndim
    if len(kinds) != ndim:
        raise ImageError(f"field 'kinds' names {len(kinds)} axes, expected {ndim}")
    spatial = [axis for axis, kind in enumerate(kinds) if kind in _SPACE_AXES]
    word = fields.get("type", "").lower()
    problems = [*_voxel_problems(word, kinds), *_unit_problems(fields)]
    values = [axis for axis, kind in enumerate(kinds) if kind in _VALUE_AXES]
    channels = math.prod(size[axis] for axis in values)
    spacing: tuple[float, ...] = ()
    if len(spatial) == 3:
        spacing, found = _grid(fields, spatial)
        problems += found
    voxel_type = _VOXEL_TYPES.get(word, "")
    voxels, found = _voxels(path, fields, end)
    problems += found
    if np.dtype(voxel_type or "u1").itemsize > 1 and "endian" not in fields and voxels and voxels.encoding != "text":
        problems.append("the field 'endian' is missing")
    if len(spatial) + len(values) != ndim:
        voxels = None
    elif voxels is not None:
        order: Literal["<", ">"] = ">" if fields.get("endian", "").lower() == "big" else "<"
        voxels = replace(voxels, order=order, interleaved=values != [ndim - 1])
    sizes = tuple(size[axis] for axis in spatial)
    return Claims("NRRD", "NrrdImageIO", sizes, spacing, voxel_type, voxels, tuple(problems), channels)


def _voxel_problems(word: str, kinds: list[str]) -> list[str]:
    problems = []
    if word not in _VOXEL_TYPES:
        problems.append(f"its voxels are of type {shown(word)}; expected one number a voxel")
    vectors = [kind for kind in kinds if kind not in _SPACE_AXES]
    if vectors and (len(vectors) > 1 or vectors[0] not in _VALUE_AXES or vectors[0] not in (kinds[0], kinds[-1])):
        problems.append(
            f"it has several numbers a voxel (axis kind {', '.join(vectors)}); expected at most one axis of kind "
            f"{' or '.join(_VALUE_AXES)}, the first or the last"
        )
    return problems


def own_keys(path: Path) -> dict[str, str]:
    """Return the keys of a header that are no fields of the format, such as Slicer's names of segments.

    Raises
    ------
    ImageError
        The file is not NRRD at all. The message does not name it.

    """
    keys: dict[str, str] = {}
    _fields(path, keys)
    return keys


def _fields(path: Path, keys: dict[str, str] | None = None) -> tuple[dict[str, str], int]:
    """Return the header's fields by name, and the byte after the blank line that ends it; `keys` gets the others."""
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        mark = file.readline(80)
        if not mark:
            raise ImageError("the file is empty")
        if not re.match(rb"NRRD000[1-5]\s*$", mark):
            raise ImageError("is not a NRRD file: it does not start with NRRD0001 to NRRD0005")
        while line := file.readline(_LONGEST_HEADER):
            text = line.decode("utf-8", errors="replace").rstrip("\r\n")
            if not text:
                break
            if file.tell() > _LONGEST_HEADER:
                raise ImageError("its header does not end within 16 MiB")
            if keys is not None and ":=" in text and not text.startswith("#"):
                name, _, value = text.partition(":=")
                keys[name] = value
            name, colon, value = text.partition(": ")
            # "key:=value" are the user's own, "#" are comments
            if colon and not text.startswith("#") and ":=" not in name:
                name = name.strip().lower()
                fields[_ALIASES.get(name, name)] = value.strip()
        return fields, file.tell()


def _integers(fields: dict[str, str], name: str, count: int) -> tuple[int, ...]:
    words = fields.get(name, "").split()
    if len(words) != count or not all(re.fullmatch(r"-?\d{1,18}", word) for word in words):
        raise ImageError(f"field {name!r} is {shown(fields.get(name, ''))}, expected {count} whole number(s)")
    return tuple(int(word) for word in words)


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in re.split(r"[,\s]+", text.strip()))
    except ValueError:
        return (math.nan,)


def _grid(fields: dict[str, str], axes: list[int]) -> tuple[tuple[float, ...], list[str]]:
    """Return the spacing in mm of a grid with three axes in space, and what is wrong with it."""
    if "space directions" not in fields:
        if "spacings" not in fields:
            return (), ["it has no spacing (neither 'space directions' nor 'spacings')"]
        spacing = _numbers(fields["spacings"])
        if len(spacing) <= max(axes):
            return (), [f"'spacings' is {shown(fields['spacings'])}, expected a number an axis"]
        return tuple(spacing[axis] for axis in axes), []
    text = fields["space directions"]
    vectors = [_numbers(vector) for vector in re.findall(r"\(([^)]*)\)", text)]
    if len(vectors) != 3 or any(len(vector) != 3 or not np.isfinite(vector).all() for vector in vectors):
        return (), [f"'space directions' is {shown(text)}, expected three vectors of three numbers"]
    problems = []
    origin = _numbers(fields.get("space origin", "(0,0,0)").strip("()"))
    if len(origin) != 3 or not np.isfinite(origin).all():
        problems.append(f"'space origin' is {shown(fields['space origin'])}, expected three numbers")
    lengths = np.linalg.norm(vectors, axis=1)
    if lengths.all():
        problems += skewed_axes((np.array(vectors) / lengths[:, None]).tolist())
    return tuple(lengths.tolist()), problems


def _unit_problems(fields: dict[str, str]) -> list[str]:
    """ITK reads every length as mm, whatever unit the header gives."""
    text = fields.get("space units", fields.get("units", ""))
    units = [unit for unit in re.findall(r'"([^"]*)"', text) if unit.lower() not in _MILLIMETRE]
    return [f"its lengths are in {', '.join(map(shown, dict.fromkeys(units)))}, expected mm"] if units else []


def _voxels(path: Path, fields: dict[str, str], end: int) -> tuple[VoxelData | None, list[str]]:
    problems = []
    encoding = _ENCODINGS.get(fields.get("encoding", "").lower())
    if encoding is None:
        problems.append(f"its encoding is {shown(fields.get('encoding', ''))}, expected raw, gzip, text or hex")
    source, start = path, end
    if "data file" in fields:
        name = fields["data file"]
        source, start = path.parent / name, 0
        if name.upper().startswith("LIST") or "%" in name:
            problems.append("its voxels are spread over several files: save it as one .nrrd file")
        elif not source.is_file():
            problems.append(f"its data file {name} is missing")
    elif path.suffix.lower() == ".nhdr":
        problems.append("it names no data file")
    lines = _integers(fields, "line skip", 1)[0] if "line skip" in fields else 0
    skip = _integers(fields, "byte skip", 1)[0] if "byte skip" in fields else 0
    if lines < 0 or skip < -1 or (skip == -1 and encoding not in ("raw", "gzip")):
        problems.append(
            f"'line skip' is {lines} and 'byte skip' is {skip}, expected 0 or more, or byte skip -1 with raw or gzip"
        )
    if encoding is None or problems:
        return None, problems
    if lines:
        with source.open("rb") as file:
            file.seek(start)
            start = _skip_lines(file, lines)
    return VoxelData(source, start, None if skip < 0 else skip, encoding), []


def _skip_lines(file: BinaryIO, lines: int) -> int:
    for _ in range(lines):
        if not file.readline(_LONGEST_HEADER):
            break
    return file.tell()
