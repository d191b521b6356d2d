"""Every kind of bad row that a study meets, as files: what the end-to-end tests and the docs' table are made of."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

SHAPE = (8, 20, 24)
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class BadRow:
    """One bad row: how its image or mask comes to be, and what the failure must say."""

    name: str
    stage: str
    says: str
    image: Callable[[Path], Path] | None = None
    mask: Callable[[Path], Path] | None = None
    label: str = ""


def ct() -> Array:
    return np.random.default_rng(0).normal(60, 20, SHAPE).astype(np.int16)


def box() -> Array:
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:6, 4:14, 5:17] = 1
    return mask


def write(
    path: Path, voxels: Array, *, spacing: tuple[float, ...] = (1, 1, 2), origin: tuple[float, ...] = (0, 0, 0)
) -> Path:
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    sitk.WriteImage(image, str(path))
    return path


def _cut(suffix: str, keep: float) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = write(folder / f"truncated{suffix}", ct())
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
        return path

    return make


def _bytes(name: str, content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def _image(name: str, change: Callable[[Array], Array]) -> Callable[[Path], Path]:
    return lambda folder: write(folder / name, change(ct()))


def _mask(name: str, change: Callable[[Array], Array] = lambda mask: mask, **grid: Any) -> Callable[[Path], Path]:
    return lambda folder: write(folder / name, change(box()), **grid)


def _with(value: Any, at: Any) -> Callable[[Array], Array]:
    def change(voxels: Array) -> Array:
        changed = voxels.astype(np.float32) if isinstance(value, float) else voxels
        changed[at] = value
        return changed

    return change


def _four_dimensional(folder: Path) -> Path:
    series = sitk.JoinSeries([sitk.GetImageFromArray(ct())] * 3)
    sitk.WriteImage(series, str(folder / "four.nii.gz"))
    return folder / "four.nii.gz"


def _terabyte(folder: Path) -> Path:
    content = bytearray(gzip.decompress(write(folder / "terabyte.nii.gz", ct()).read_bytes()))
    # dim[1..3], int16 at byte 42 of the NIfTI-1 header
    content[42:48] = struct.pack("<3h", 16000, 16000, 2148)
    (folder / "terabyte.nii.gz").write_bytes(gzip.compress(bytes(content)))
    return folder / "terabyte.nii.gz"


def _header(name: str, offset: int, value: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = write(folder / name, ct())
        content = bytearray(path.read_bytes())
        content[offset : offset + len(value)] = value
        path.write_bytes(bytes(content))
        return path

    return make


def _one_voxel(mask: Array) -> Array:
    mask[:] = 0
    mask[3, 5, 7] = 1
    return mask


ROWS = (
    BadRow("missing file", "read", "missing.nii.gz: ", image=lambda folder: folder / "missing.nii.gz"),
    BadRow("truncated .nii", "read", "truncated.nii: ", image=_cut(".nii", 0.6)),
    BadRow("truncated .nii.gz", "read", "truncated.nii.gz: it is truncated", image=_cut(".nii.gz", 0.6)),
    BadRow("truncated .nrrd", "read", "truncated.nrrd: ", image=_cut(".nrrd", 0.6)),
    BadRow("empty file", "read", "empty.nii.gz: the file is empty", image=_bytes("empty.nii.gz", b"")),
    BadRow("text renamed", "read", "not compressed by gzip, it holds text", image=_bytes("text.nii.gz", b"a note\n")),
    BadRow("4D image", "read", "four.nii.gz: ", image=_four_dimensional),
    BadRow("a terabyte claimed", "read", "TiB", image=_terabyte),
    # NIfTI-1: vox_offset, float32 at byte 108; pixdim[1..3] from byte 80
    BadRow("vox_offset past the end", "read", "far.nii: ", image=_header("far.nii", 108, struct.pack("<f", 1e6))),
    BadRow("zero pixdim", "read", "zero.nii: ", image=_header("zero.nii", 80, struct.pack("<f", 0.0))),
    BadRow("NaN pixdim", "read", "nan.nii: ", image=_header("nan.nii", 84, struct.pack("<f", float("nan")))),
    BadRow(
        "another size",
        "geometry",
        "size is (8, 20, 24) in the image and (7, 20, 24) in the mask",
        mask=_mask("size.nrrd", lambda m: m[1:]),
    ),
    BadRow(
        "another spacing",
        "geometry",
        "spacing is (2, 1, 1) in the image and (2, 1, 1.5) in the mask",
        mask=_mask("spacing.nrrd", spacing=(1.5, 1, 2)),
    ),
    BadRow(
        "another origin",
        "geometry",
        "origin is (0, 0, 0) in the image and (0, 0, 4) in the mask",
        mask=_mask("origin.nrrd", origin=(0, 0, 4)),
    ),
    BadRow("label not in mask", "mask", "label 9 is not in the mask; it holds 1", mask=_mask("one.nrrd"), label="9"),
    BadRow("empty mask", "mask", "the mask is empty", mask=_mask("empty.nrrd", lambda m: m * 0)),
    BadRow("one-voxel mask", "mask", "the region is a single voxel", mask=_mask("voxel.nrrd", _one_voxel)),
    BadRow("fractional mask", "read", "the mask is fractional", mask=_mask("soft.nrrd", _with(0.5, (3, 5, 7)))),
    BadRow(
        "NaN in the region",
        "voxels",
        "1 of the region's 480 voxels are NaN or infinite",
        image=_image("nan.mha", _with(float("nan"), (3, 8, 8))),
    ),
    BadRow(
        "infinity in the region",
        "voxels",
        "1 of the region's 480 voxels are NaN or infinite",
        image=_image("inf.mha", _with(float("inf"), (3, 8, 8))),
    ),
)


def make_cohort(folder: Path) -> Path:
    """Write a manifest with two good rows, a constant one, and all bad ones between them."""
    image, mask = write(folder / "good.nii.gz", ct()), write(folder / "good-mask.nii.gz", box())
    flat = write(folder / "flat.nii.gz", np.full(SHAPE, 40, np.int16))
    lines = [
        "patient,image,mask,label",
        f"good first,{image.name},{mask.name},1",
        f"constant,{flat.name},{mask.name},1",
    ]
    for number, bad in enumerate(ROWS):
        own = folder / f"case{number}"
        own.mkdir()
        paths = [bad.image(own) if bad.image else image, bad.mask(own) if bad.mask else mask]
        names = ",".join(str(path.relative_to(folder)) for path in paths)
        lines.append(f"{bad.name},{names},{bad.label}")
    lines.append(f"good last,{image.name},{mask.name},")
    (folder / "cohort.csv").write_text("\n".join(lines) + "\n")
    return folder / "cohort.csv"
