"""Reads masks: only the box that holds any label is kept, and only whole numbers are labels."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hgpscale.cohort.images import about, is_streamed, open_voxel_file, slabs
from hgpscale.cohort.itk import read_voxels
from hgpscale.cohort.stream import open_voxels
from hgpscale.errors import ImageError, MaskError
from hgpscale.volume import Geometry, Index, Volume

if TYPE_CHECKING:
    import SimpleITK as sitk

_LABEL_TYPES = (np.uint8, np.uint16, np.uint32)


def read_labels(path: str | Path, channel: int = 0, *, hashed: bool = True) -> tuple[Volume, str]:
    """Read the part of a 3D mask that holds labels. The file is checked to its end.

    Parameters
    ----------
    path
        A NIfTI, NRRD or MetaImage file, with voxels of any integer or float type.
    channel
        Which value of a voxel counts, where there are several (pyradiomics' `label_channel`, one layer of a
        ``.seg.nrrd`` file). With one value a voxel it is not looked at.
    hashed
        Whether the digest is wanted.

    Returns
    -------
    Volume
        A box ``(z, y, x)`` of labels outside of which all is 0, in the smallest of uint8, uint16 and uint32 that
        holds them; one voxel of value 0 where the mask is empty.
    str
        Digest of the file's bytes, see `VoxelStream.finish`; empty unless `hashed`.

    Raises
    ------
    ImageError
        As for `open_image`; the file is truncated or damaged; or a voxel is no whole number, negative, or beyond
        32 bits.
    MaskError
        There is no such channel.

    """
    path = Path(path)
    with about(path):
        mask = open_voxel_file(path, several=True)
    header, nz = mask.header, mask.geometry.size[0]
    problem = channel_problem(channel, header.channels)
    if problem:
        raise MaskError(f"{path}: {problem}")
    used = channel if header.channels > 1 else 0
    with about(path), open_voxels(header, hashed=hashed) as stream:
        if is_streamed(header):
            array, start = _held(slabs(stream, header, 0, nz, used))
            digest = stream.finish()
        else:
            digest = stream.finish()
            array, start = _held([(0, _channel(read_voxels(header), used))])
        return Volume(as_labels(array), mask.geometry, start), digest


def read_mask(path: str | Path, channel: int = 0) -> tuple[Volume, str]:
    """Read a whole 3D mask, and its digest. Parameters, types and errors as of `read_labels`."""
    labels, digest = read_labels(path, channel)
    return uncropped(labels), digest


def uncropped(labels: Volume) -> Volume:
    """Return the whole mask that a box of labels was taken from: 0 outside of the box."""
    whole = np.zeros(labels.geometry.size, labels.array.dtype)
    whole[tuple(slice(a, b) for a, b in zip(*labels.box, strict=True))] = labels.array
    return Volume(whole, labels.geometry)


def labels_of(mask: sitk.Image, channel: int = 0) -> Volume:
    """Return the part of a 3D SimpleITK mask that holds labels, as `read_labels` does; the image is not copied.

    Raises
    ------
    ImageError
        It is not 3D, or a voxel is no whole number, negative, or beyond 32 bits.
    MaskError
        There is no such channel.

    """
    import SimpleITK as sitk

    if mask.GetDimension() != 3:
        raise ImageError(f"the mask must be a 3D image, found {mask.GetDimension()}D")
    problem = channel_problem(channel, mask.GetNumberOfComponentsPerPixel())
    if problem:
        raise MaskError(problem)
    array, start = _held([(0, _channel(sitk.GetArrayViewFromImage(mask), channel))])
    return Volume(as_labels(array), Geometry.of(mask), start)


def channel_problem(channel: int, channels: int) -> str:
    """Say that a mask lacks a channel; empty where it has it, or has but one value a voxel and no channels."""
    if channels == 1 or channel < channels:
        return ""
    return f"label_channel is {channel}, but the mask has {channels} values a voxel, 0 to {channels - 1}"


def _channel(voxels: NDArray[Any], channel: int) -> NDArray[Any]:
    return voxels if voxels.ndim == 3 else voxels[..., channel]


def _held(slabs: Iterable[tuple[int, NDArray[Any]]]) -> tuple[NDArray[Any], Index]:
    """Return the smallest box that holds all voxels other than 0, and where it starts ``(z, y, x)``."""
    found: list[tuple[Index, NDArray[Any]]] = []
    kind = np.dtype(np.uint8)
    for z, slab in slabs:
        kind = slab.dtype.newbyteorder("=")
        if slab.any():
            z0, z1 = _range(slab.any(axis=(1, 2)))
            y0, y1 = _range(slab[z0:z1].any(axis=(0, 2)))
            x0, x1 = _range(slab[z0:z1, y0:y1].any(axis=(0, 1)))
            found.append(((z + z0, y0, x0), slab[z0:z1, y0:y1, x0:x1].copy()))
    if not found:
        return np.zeros((1, 1, 1), kind), (0, 0, 0)
    lower = np.min([corner for corner, _ in found], axis=0)
    upper = np.max([np.add(corner, part.shape) for corner, part in found], axis=0)
    box = np.zeros(upper - lower, kind)
    for corner, part in found:
        z, y, x = corner - lower
        box[z : z + part.shape[0], y : y + part.shape[1], x : x + part.shape[2]] = part
    return box, (int(lower[0]), int(lower[1]), int(lower[2]))


def _range(hit: Any) -> tuple[int, int]:
    at = np.flatnonzero(hit)
    return int(at[0]), int(at[-1]) + 1


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
