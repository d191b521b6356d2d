"""Where a NIfTI image lies in space: the grid that ITK makes of qform and sform, bit by bit.

Numbers that differ from ITK's in the last bit move samples across ties when an image is resampled, so the order of
operations and every rounding to 32 bits are ITK's (``itkNiftiImageIO.cxx`` and ``nifti_quatern_to_mat44`` of ITK 5.4).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hgpscale.volume import Geometry

_SCANNER = 1
"""sform_code of scanner coordinates, the only sform that ITK takes before a qform without comparing the two."""
_CLEARLY_STRAIGHT = 5e-5
"""ITK takes an sform whose axes are at right angles within 1e-4, computed with 32 bits."""
_FARTHEST = 1e6
_ONE, _TWO = np.longdouble(1), np.longdouble(2)
"""The C library writes these as long double, which it then computes in."""


def grid(header: Any, size: Sequence[int], spacing: Sequence[float]) -> Geometry | None:
    """Return the grid as ITK reads it, or None where only ITK can tell.

    That is an sform that is not clearly straight, or one that is not of the scanner beside a qform: ITK then compares
    the two by their singular vectors.

    Parameters
    ----------
    header
        Fields of a header that was found sound; nifti1.h says what they mean.
    size
        Number of voxels ``(x, y, z)``.
    spacing
        mm ``(x, y, z)``.

    """
    q_set, s_set = int(header["qform_code"]) > 0, int(header["sform_code"]) > 0
    if not q_set and not s_set:
        affine = np.eye(3, 4, dtype=np.float32)
        affine[:2] *= -1  # undone below: such an image has ITK's own axes
    elif not s_set:
        affine = _of_quaternion(header)
    elif _clearly_straight(header["srow"]) and (not q_set or int(header["sform_code"]) == _SCANNER):
        affine = header["srow"]
    else:
        return None
    # NIfTI's x and y point to the right and to the front, ITK's to the left and to the back.
    lps = [[-float(v) for v in affine[0]], [-float(v) for v in affine[1]], [float(v) for v in affine[2]]]
    columns = [_unit((lps[0][axis], lps[1][axis], lps[2][axis])) for axis in range(3)]
    direction = tuple(column[row] for row in range(3) for column in columns)
    (nx, ny, nz), (dx, dy, dz) = size, spacing
    return Geometry((nz, ny, nx), (dz, dy, dx), (lps[0][3], lps[1][3], lps[2][3]), direction)


def _unit(vector: tuple[float, float, float]) -> tuple[float, float, float]:
    x, y, z = vector
    length = math.sqrt(x * x + y * y + z * z)
    return x / length, y / length, z / length


def _clearly_straight(srow: NDArray[np.float32]) -> bool:
    matrix = srow.astype(np.float64)
    lengths = np.sqrt((matrix[:, :3] ** 2).sum(axis=0))
    axes = matrix[:, :3] / lengths
    off = np.abs(axes @ axes.T - np.eye(3)).max()
    return bool(off < _CLEARLY_STRAIGHT and lengths.min() > 1 / _FARTHEST and np.abs(matrix).max() < _FARTHEST)


def _of_quaternion(header: Any) -> NDArray[np.float32]:
    """Return the affine of qform, shape ``(3, 4)``, x first."""
    b, c, d = (float(value) for value in header["quatern"])
    square = b * b + c * c + d * d
    a = float(_ONE - square)
    if a < 1e-7:  # half a turn: the rest of a rounded quaternion says nothing
        scale = float(_ONE / math.sqrt(square))
        a, b, c, d = 0.0, b * scale, c * scale, d * scale
    else:
        a = math.sqrt(a)
    x, y, z = (float(step) for step in header["pixdim"][1:4])
    if header["pixdim"][0] < 0:
        z = -z
    t, u, v = header["qoffset"]
    rows = [
        [(a * a + b * b - c * c - d * d) * x, _TWO * (b * c - a * d) * y, _TWO * (b * d + a * c) * z, t],
        [_TWO * (b * c + a * d) * x, (a * a + c * c - b * b - d * d) * y, _TWO * (c * d - a * b) * z, u],
        [_TWO * (b * d - a * c) * x, _TWO * (c * d + a * b) * y, (a * a + d * d - c * c - b * b) * z, v],
    ]
    return np.array([[np.float32(value) for value in row] for row in rows])
