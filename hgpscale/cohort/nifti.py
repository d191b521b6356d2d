"""Headers of single-file NIfTI-1 images (.nii, .nii.gz).

Field offsets and the meaning of qform, sform, scl_slope and xyzt_units are those of the standard's nifti1.h
(https://nifti.nimh.nih.gov). ITK repairs much of what is checked here without saying so.
"""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hgpscale.cohort.claims import Claims, VoxelData, skewed_axes
from hgpscale.cohort.nifti_grid import grid
from hgpscale.errors import ImageError

_FIELDS = {
    "dim": ("8i2", 40),
    "intent_code": ("i2", 68),
    "datatype": ("i2", 70),
    "pixdim": ("8f4", 76),
    "vox_offset": ("f4", 108),
    "scl_slope": ("f4", 112),
    "scl_inter": ("f4", 116),
    "xyzt_units": ("u1", 123),
    "qform_code": ("i2", 252),
    "sform_code": ("i2", 254),
    "quatern": ("3f4", 256),
    "qoffset": ("3f4", 268),
    "srow": ("(3,4)f4", 280),
    "magic": ("S4", 344),
}
_LAYOUT = np.dtype(
    {
        "names": list(_FIELDS),
        "formats": [kind for kind, _ in _FIELDS.values()],
        "offsets": [offset for _, offset in _FIELDS.values()],
        "itemsize": 348,
    }
)
_FIRST_VOXEL = 352
"""Least vox_offset of a single file: the header and the four bytes that announce extensions."""
_VOXEL_TYPES = {
    2: "uint8",
    4: "int16",
    8: "int32",
    16: "float32",
    64: "float64",
    256: "int8",
    512: "uint16",
    768: "uint32",
    1024: "int64",
    1280: "uint64",
}
_REFUSED_TYPES = {
    1: "single bits",
    32: "complex numbers",
    128: "RGB colours",
    1536: "128-bit floats",
    1792: "complex numbers",
    2048: "complex numbers",
    2304: "RGBA colours",
}
_MILLIMETRES = {1: 1000.0, 3: 0.001}  # metres and micrometres; every other code is read as mm, as ITK does
_VECTOR = 1007
"""intent_code of an image whose fifth dimension counts the values of a voxel."""
_GZIP = b"\x1f\x8b"


def parse(path: Path) -> Claims:
    """Read what a NIfTI header claims.

    Raises
    ------
    ImageError
        The file is not NIfTI at all, or ends inside the header.

    """
    compressed = path.name.lower().endswith(".gz")
    header, order = _decode(_head(path, compressed))
    ndim = int(header["dim"][0])
    if not 1 <= ndim <= 7:
        raise ImageError(f"dim[0] says that the image has {ndim} dimensions, expected 3")
    size = [int(n) for n in header["dim"][1 : ndim + 1]]
    while len(size) > 3 and size[-1] == 1:  # ITK drops them too
        size.pop()
    channels = 1
    if int(header["intent_code"]) == _VECTOR and len(size) == 5 and size[3] == 1 and size[2] > 1:
        *size, _, channels = size
    scale = _MILLIMETRES.get(int(header["xyzt_units"]) & 7, 1.0)
    pixdim = [float(step) for step in header["pixdim"][1 : len(size) + 1]]
    code = int(header["datatype"])
    problems = [*_type_problems(code), *_offset_problems(header), *_scaling_problems(header)]
    measured = len(size) == 3 and all(0 < step < math.inf for step in pixdim) and min(size) > 0
    if measured:
        problems += _orientation_problems(header, np.array(size), np.array(pixdim))
    if compressed and path.with_suffix("").exists():
        problems.append(
            f"{path.with_suffix('').name} lies beside it, and SimpleITK would take the voxels from there: "
            "name that file instead, or move one of the two away"
        )
    encoding: Literal["gzip", "raw"] = "gzip" if compressed else "raw"
    offset = float(header["vox_offset"])
    start = int(offset) if math.isfinite(offset) else 0
    voxels = VoxelData(path, 0, start, encoding, order, False, _scaling(header))
    spacing = tuple(step * scale for step in pixdim)
    # Whether ITK scales the origin too depends on its version.
    geometry = grid(header, size, spacing) if measured and scale == 1 and not problems else None
    voxel_type = _VOXEL_TYPES.get(code, "")
    return Claims(
        "NIfTI", "NiftiImageIO", tuple(size), spacing, voxel_type, voxels, tuple(problems), channels, geometry
    )


def _head(path: Path, compressed: bool) -> bytes:
    with path.open("rb") as file:
        data = file.read(1 << 16)
    if not data:
        raise ImageError("the file is empty")
    if compressed != data.startswith(_GZIP):
        found = "is not compressed by gzip" if compressed else "is compressed by gzip: rename it to .nii.gz"
        text = ", it holds text" if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in data[:256]) else ""
        raise ImageError(f"the file is named {path.name} but {found}{text}")
    if compressed:
        try:
            data = zlib.decompressobj(wbits=31).decompress(data, _LAYOUT.itemsize)
        except zlib.error as error:
            raise ImageError(f"its gzip stream is damaged: {error}") from error
    return data[: _LAYOUT.itemsize]


def _decode(head: bytes) -> tuple[Any, Literal["<", ">"]]:
    """Return the header's fields, and the byte order that they are written in."""
    order: Literal["<", ">"] = "<" if _integer(head, "<") in (348, 540) else ">"
    first = _integer(head, order)
    if first == 540:
        raise ImageError("is NIfTI-2, which SimpleITK does not read; save it as NIfTI-1")
    if first != _LAYOUT.itemsize:
        raise ImageError("is not a NIfTI file: its first number is not 348")
    if len(head) < _LAYOUT.itemsize:
        raise ImageError(f"the file ends inside the header, after {len(head)} of {_LAYOUT.itemsize} bytes")
    header = np.frombuffer(head, _LAYOUT.newbyteorder(order))[0]
    magic = bytes(header["magic"])
    if magic == b"ni1":
        raise ImageError("is the header of a .hdr/.img pair; save it as one .nii file")
    if magic != b"n+1":
        raise ImageError("has no NIfTI mark (Analyze 7.5?): its orientation cannot be told; save it as NIfTI")
    return header, order


def _integer(head: bytes, order: str) -> int:
    return int.from_bytes(head[:4], "little" if order == "<" else "big", signed=True)


def _type_problems(code: int) -> list[str]:
    if code in _VOXEL_TYPES:
        return []
    what = _REFUSED_TYPES.get(code, "of an unknown type")
    return [f"its voxels are {what} (datatype {code}); expected one number a voxel"]


def _offset_problems(header: Any) -> list[str]:
    offset = float(header["vox_offset"])
    if not math.isfinite(offset) or offset < _FIRST_VOXEL or offset != int(offset):
        return [f"vox_offset is {offset:g}, expected a whole number of at least {_FIRST_VOXEL}"]
    return []


def _scaling(header: Any) -> tuple[float, float] | None:
    """Return how ITK changes the voxels, given that `_scaling_problems` found nothing."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    unscaled = slope == 0 or math.isnan(slope) or (slope == 1 and intercept == 0)
    return None if unscaled else (slope, intercept)


def _scaling_problems(header: Any) -> list[str]:
    """Refuse what readers take differently.

    nifti1.h says that a slope of 0 means "not scaled", whatever the intercept; ITK then still adds the
    intercept. ITK also ignores slopes next to 0 and values that are not finite.
    """
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    unscaled = slope == 0 or math.isnan(slope)
    if unscaled and (intercept == 0 or math.isnan(intercept)):
        return []
    found = f"scl_slope is {slope:g} and scl_inter is {intercept:g}"
    if unscaled:
        return [f"{found}: whether the intercept counts depends on the reader; expected a slope other than 0"]
    if not math.isfinite(slope) or not math.isfinite(intercept) or abs(slope) < np.finfo(np.float64).eps:
        return [f"{found}; expected finite numbers and a slope other than 0"]
    return []


def _orientation_problems(header: Any, size: NDArray[Any], pixdim: NDArray[np.float64]) -> list[str]:
    """Check qform and sform, each where its code says that it is set.

    Two affines agree where no corner of the grid moves by more than half the smallest voxel edge. That is above
    the rounding of a 32-bit quaternion near half a turn (0.4 mm at 600 mm), and below what moves a voxel.
    """
    q_set, s_set = int(header["qform_code"]) > 0, int(header["sform_code"]) > 0
    srow = header["srow"].astype(np.float64)
    quaternion = header["quatern"].astype(np.float64)
    used = ([quaternion, header["qoffset"], header["pixdim"][:1]] if q_set else []) + ([srow] if s_set else [])
    if not all(np.isfinite(values).all() for values in used):
        return ["qform or sform hold numbers that are not finite"]
    if q_set and np.sum(quaternion**2) > 1 + 1e-4:
        return ["the quaternion of qform is longer than 1: it is no rotation"]
    tolerance = pixdim.min() / 2
    if s_set:
        lengths = np.linalg.norm(srow[:, :3], axis=0)
        if np.max(np.abs(lengths - pixdim) * size) > tolerance:
            return [f"the voxel size is {_mm(pixdim)} in pixdim and {_mm(lengths)} in sform"]
        problems = skewed_axes((srow[:, :3] / lengths).T)
        if problems:
            return problems
    if q_set and s_set:
        corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)], dtype=np.float64)
        corners[:, :3] *= size - 1
        apart = corners @ (_qform(header, pixdim) - srow).T
        distance = float(np.linalg.norm(apart, axis=1).max())
        if distance > tolerance:
            return [f"qform and sform disagree by {distance:.3g} mm at a corner: set both to the right one"]
    return []


def _qform(header: Any, pixdim: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the affine of the quaternion, shape ``(3, 4)``: "method 2" of nifti1.h."""
    b, c, d = (float(v) for v in header["quatern"])
    square = 1 - (b * b + c * c + d * d)
    if square < 1e-7:  # half a turn: the rounded rest says nothing, as nifti1_io has it
        length = math.sqrt(b * b + c * c + d * d)
        a, b, c, d = 0.0, b / length, c / length, d / length
    else:
        a = math.sqrt(square)
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    handed = np.array([1.0, 1.0, -1.0 if float(header["pixdim"][0]) < 0 else 1.0])
    return np.column_stack([rotation * pixdim * handed, header["qoffset"].astype(np.float64)])


def _mm(lengths: NDArray[np.float64]) -> str:
    return "(" + ", ".join(f"{step:.6g}" for step in lengths) + ")"
