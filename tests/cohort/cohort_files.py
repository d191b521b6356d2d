"""Image files made byte by byte, so that they can be broken where a library would not write them broken."""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

SIZE = (4, 5, 6)  # x, y, z
SPACING = (1.0, 2.0, 3.0)
VOXELS = np.arange(120, dtype="<i2")


def nifti_bytes(
    dim: tuple[int, ...] = (3, *SIZE, 1, 1, 1, 1),
    pixdim: tuple[float, ...] = (1.0, *SPACING, 0.0, 0.0, 0.0, 0.0),
    datatype: int = 4,
    vox_offset: float = 352.0,
    scl: tuple[float, float] = (1.0, 0.0),
    codes: tuple[int, int] = (1, 0),
    quaternion: tuple[float, ...] = (0.0, 0.0, 0.0),
    offset: tuple[float, ...] = (0.0, 0.0, 0.0),
    srow: tuple[float, ...] = (1, 0, 0, 0, 0, 2, 0, 0, 0, 0, 3, 0),
    units: int = 2,
    intent: int = 0,
    magic: bytes = b"n+1\0",
    order: str = "<",
    data: bytes | None = None,
) -> bytes:
    """Return a NIfTI-1 file; offsets are those of nifti1.h."""
    header = bytearray(352)
    struct.pack_into(f"{order}i", header, 0, 348)
    struct.pack_into(f"{order}8h", header, 40, *dim)
    struct.pack_into(f"{order}h", header, 68, intent)
    struct.pack_into(f"{order}2h", header, 70, datatype, 16)
    struct.pack_into(f"{order}8f", header, 76, *pixdim)
    struct.pack_into(f"{order}f", header, 108, vox_offset)
    struct.pack_into(f"{order}2f", header, 112, *scl)
    header[123] = units
    struct.pack_into(f"{order}2h", header, 252, *codes)
    struct.pack_into(f"{order}6f", header, 256, *quaternion, *offset)
    struct.pack_into(f"{order}12f", header, 280, *srow)
    header[344:348] = magic
    voxels = VOXELS.astype(f"{order}i2").tobytes() if data is None else data
    return bytes(header) + voxels


def nrrd_bytes(data: bytes | None = None, *, extra: tuple[str, ...] = (), **fields: str | None) -> bytes:
    """Return a NRRD file; a field given as None is left out."""
    header: dict[str, str | None] = {
        "type": "short",
        "dimension": "3",
        "space": "left-posterior-superior",
        "sizes": "4 5 6",
        "space directions": "(1,0,0) (0,2,0) (0,0,3)",
        "kinds": "domain domain domain",
        "endian": "little",
        "encoding": "raw",
        "space origin": "(0,0,0)",
    }
    header.update({name.replace("_", " "): value for name, value in fields.items()})
    lines = ["NRRD0004", "# a comment", *(f"{k}: {v}" for k, v in header.items() if v is not None), *extra]
    return ("\n".join(lines) + "\n\n").encode() + (VOXELS.tobytes() if data is None else data)


def meta_bytes(data: bytes | None = None, **keys: Any) -> bytes:
    """Return a MetaImage file; a key given as None is left out."""
    header: dict[str, Any] = {
        "ObjectType": "Image",
        "NDims": 3,
        "BinaryData": True,
        "BinaryDataByteOrderMSB": False,
        "CompressedData": False,
        "TransformMatrix": "1 0 0 0 1 0 0 0 1",
        "Offset": "0 0 0",
        "ElementSpacing": "1 2 3",
        "DimSize": "4 5 6",
        "ElementType": "MET_SHORT",
    }
    header.update(keys)
    header["ElementDataFile"] = header.pop("ElementDataFile", "LOCAL")
    text = "".join(f"{k} = {v}\n" for k, v in header.items() if v is not None)
    return text.encode() + (VOXELS.tobytes() if data is None else data)


def zlib_meta_bytes(data: bytes, **keys: Any) -> bytes:
    """Return a MetaImage file with a compressed voxel stream."""
    return meta_bytes(data, **{"CompressedData": True, "CompressedDataSize": len(data), **keys})


def write(folder: Path, name: str, content: bytes) -> Path:
    """Write a file and return its path; a name that ends in .gz is compressed."""
    path = folder / name
    path.write_bytes(gzip.compress(content, mtime=0) if name.endswith(".gz") else content)
    return path


NAN, INF = math.nan, math.inf
RAW = VOXELS.tobytes()
GZIP = gzip.compress(RAW, mtime=0)
ZLIB = zlib.compress(RAW)

# What each broken file is called, its content, and what its problem must say. SimpleITK 2.5 reads those of the first
# table without a word, as other voxels or another grid than the file means.
SILENT: dict[str, tuple[bytes, str]] = {
    "truncated.nii": (nifti_bytes()[:-30], "truncated: its header claims 240 bytes of voxels, it holds 210"),
    "longer.nii": (nifti_bytes() + b"1234", "it holds 244 bytes of voxels, its header claims 240"),
    "vox_offset_past_end.nii": (nifti_bytes(vox_offset=1e5), "truncated: its header claims 240 bytes"),
    "vox_offset_0.nii": (nifti_bytes(vox_offset=0.0), "vox_offset is 0, expected a whole number of at least 352"),
    "vox_offset_nan.nii": (nifti_bytes(vox_offset=NAN), "vox_offset is nan"),
    "vox_offset_half.nii": (nifti_bytes(vox_offset=352.5), "vox_offset is 352.5"),
    "pixdim_0.nii": (nifti_bytes(pixdim=(1, 0, 2, 3, 0, 0, 0, 0)), "spacing is (0, 2, 3) mm (x first)"),
    "pixdim_negative.nii": (nifti_bytes(pixdim=(1, -1, 2, 3, 0, 0, 0, 0)), "spacing is (-1, 2, 3) mm"),
    "pixdim_nan.nii": (nifti_bytes(pixdim=(1, NAN, 2, 3, 0, 0, 0, 0)), "spacing is (nan, 2, 3) mm"),
    "pixdim_inf.nii": (nifti_bytes(pixdim=(1, INF, 2, 3, 0, 0, 0, 0)), "spacing is (inf, 2, 3) mm"),
    "forms_disagree.nii": (
        nifti_bytes(codes=(1, 1), srow=(1, 0, 0, 100, 0, 2, 0, 0, 0, 0, 3, 0)),
        "qform and sform disagree by 100 mm at a corner",
    ),
    "forms_turned.nii": (
        nifti_bytes(codes=(1, 1), quaternion=(0, 0, math.sqrt(0.5))),
        "qform and sform disagree by",
    ),
    "sform_spacing.nii": (
        nifti_bytes(codes=(0, 1), srow=(2, 0, 0, 0, 0, 2, 0, 0, 0, 0, 3, 0)),
        "voxel size is (1, 2, 3) in pixdim and (2, 2, 3) in sform",
    ),
    "sform_nan.nii": (nifti_bytes(codes=(0, 1), srow=(NAN,) * 12), "hold numbers that are not finite"),
    "qform_nan.nii": (nifti_bytes(quaternion=(NAN, 0, 0)), "hold numbers that are not finite"),
    "qform_long.nii": (nifti_bytes(quaternion=(2, 0, 0)), "quaternion of qform is longer than 1"),
    "slope_0.nii": (nifti_bytes(scl=(0, -1024)), "scl_slope is 0 and scl_inter is -1024"),
    "slope_nan.nii": (nifti_bytes(scl=(NAN, 5)), "scl_slope is nan and scl_inter is 5"),
    "slope_inf.nii": (nifti_bytes(scl=(INF, 0)), "scl_slope is inf and scl_inter is 0"),
    "slope_tiny.nii": (nifti_bytes(scl=(1e-20, 0)), "expected finite numbers and a slope other than 0"),
    "intercept_nan.nii": (nifti_bytes(scl=(1, NAN)), "scl_slope is 1 and scl_inter is nan"),
    "no_slices.nii": (nifti_bytes(dim=(3, 4, 5, 0, 1, 1, 1, 1)), "its size is 4x5x0 voxels (x first)"),
    "analyze.nii": (nifti_bytes(magic=b"\0" * 4), "has no NIfTI mark"),
    "pair.nii": (nifti_bytes(magic=b"ni1\0"), "is the header of a .hdr/.img pair"),
    "4d.nii": (
        nifti_bytes(dim=(4, *SIZE, 2, 1, 1, 1), data=RAW * 2),
        "it is 4D, 4x5x6x2 voxels (x first); expected a 3D image",
    ),
    "2d.nii": (nifti_bytes(dim=(2, 20, 6, 1, 1, 1, 1, 1)), "it is 2D, 20x6 voxels (x first)"),
    "complex.nii": (nifti_bytes(datatype=32, data=bytes(960)), "its voxels are complex numbers (datatype 32)"),
    "rgb.nii": (nifti_bytes(datatype=128, data=bytes(360)), "its voxels are RGB colours (datatype 128)"),
    "longer.nrrd": (nrrd_bytes(RAW + b"1234"), "it holds 244 bytes of voxels, its header claims 240"),
    "no_spacing.nrrd": (
        nrrd_bytes(space_directions=None, space=None, space_origin=None),
        "it has no spacing (neither 'space directions' nor 'spacings')",
    ),
    "negative_spacing.nrrd": (
        nrrd_bytes(space_directions=None, space=None, space_origin=None, spacings="-1 2 3"),
        "spacing is (-1, 2, 3) mm (x first)",
    ),
    "nan_spacing.nrrd": (
        nrrd_bytes(space_directions=None, space=None, space_origin=None, spacings="nan 2 3"),
        "spacing is (nan, 2, 3) mm (x first)",
    ),
    "direction_none.nrrd": (
        nrrd_bytes(space_directions="none (0,2,0) (0,0,3)"),
        "expected three vectors of three numbers",
    ),
    "sheared.nrrd": (
        nrrd_bytes(space_directions="(1,0.5,0) (0,2,0) (0,0,3)"),
        "its axes are not at right angles",
    ),
    "centimetres.nrrd": (
        nrrd_bytes(space_units='"cm" "cm" "cm"'),
        "its lengths are in 'cm', expected mm",
    ),
    "4d.nrrd": (
        nrrd_bytes(
            RAW * 2,
            dimension="4",
            sizes="4 5 6 2",
            kinds=None,
            space=None,
            space_directions=None,
            space_origin=None,
            spacings="1 2 3 1",
        ),
        "it is 4D, 4x5x6x2 voxels (x first); expected a 3D image",
    ),
    "layered.seg.nrrd": (
        nrrd_bytes(
            RAW * 2,
            dimension="4",
            sizes="2 4 5 6",
            kinds="list domain domain domain",
            space_directions="none (1,0,0) (0,2,0) (0,0,3)",
        ),
        "it has 2 numbers a voxel, expected one",
    ),
    "longer.mha": (meta_bytes(RAW + b"1234"), "it holds 244 bytes of voxels, its header claims 240"),
    "no_compressed_size.mha": (
        zlib_meta_bytes(ZLIB, CompressedDataSize=None),
        f"CompressedDataSize is missing, the file holds {len(ZLIB)}",
    ),
    "negative_spacing.mha": (meta_bytes(ElementSpacing="-1 2 3"), "spacing is (-1, 2, 3) mm (x first)"),
    "no_spacing.mha": (meta_bytes(ElementSpacing=None), "it has no spacing ('ElementSpacing')"),
    "sheared.mha": (meta_bytes(TransformMatrix="1 0.5 0 0 1 0 0 0 1"), "its axes are not at right angles"),
    "origin_nan.mha": (meta_bytes(Offset="nan 0 0"), "its origin is not finite"),
    "scaled.mha": (
        meta_bytes(ElementToIntensityFunctionSlope=2),
        "are to be scaled by 2 and shifted by 0, which SimpleITK does not do",
    ),
    "metres.mha": (meta_bytes(DistanceUnits="m"), "its lengths are in 'm', expected mm"),
    "channels.mha": (meta_bytes(RAW * 3, ElementNumberOfChannels=3), "it has 3 numbers a voxel, expected one"),
    "header_size.mha": (meta_bytes(b"abc" + RAW, HeaderSize=3), "HeaderSize is 3, expected 0, or -1"),
    "no_voxels_across.mha": (meta_bytes(b"", DimSize="0 5 6"), "its size is 0x5x6 voxels (x first)"),
    "4d.mha": (
        meta_bytes(
            RAW * 2,
            NDims=4,
            DimSize="4 5 6 2",
            TransformMatrix=None,
            Offset=None,
            ElementSpacing="1 2 3 1",
        ),
        "it is 4D, 4x5x6x2 voxels (x first)",
    ),
}
# These SimpleITK refuses as well, in many lines that name its own source files.
LOUD: dict[str, tuple[bytes, str]] = {
    "header_only.nii": (nifti_bytes()[:200], "the file ends inside the header, after 200 of 348 bytes"),
    "nifti2.nii": (struct.pack("<i", 540) + bytes(600), "is NIfTI-2, which SimpleITK does not read"),
    "shear.nii": (
        nifti_bytes(codes=(0, 1), srow=(1, 0.5, 0, 0, 0, 2, 0, 0, 0, 0, 3, 0)),
        "its axes are not at right angles",
    ),
    "unknown_type.nii": (nifti_bytes(datatype=77), "its voxels are of an unknown type (datatype 77)"),
    "truncated.nrrd": (nrrd_bytes(RAW[:-10]), "truncated: its header claims 240 bytes of voxels, it holds 230"),
    "bzip2.nrrd": (nrrd_bytes(encoding="bzip2"), "its encoding is 'bzip2', expected raw, gzip, text or hex"),
    "no_endian.nrrd": (nrrd_bytes(endian=None), "the field 'endian' is missing"),
    "zero_direction.nrrd": (
        nrrd_bytes(space_directions="(0,0,0) (0,2,0) (0,0,3)"),
        "spacing is (0, 2, 3) mm (x first)",
    ),
    "sizes.nrrd": (nrrd_bytes(sizes="4 5"), "field 'sizes' is '4 5', expected 3 whole number(s)"),
    "not.nrrd": (b"P5 something else", "is not a NRRD file"),
    "short_text.nrrd": (nrrd_bytes(b"1 2 3", encoding="ascii"), "can hold 6 bytes"),
    "truncated.mha": (meta_bytes(RAW[:-10]), "truncated: its header claims 240 bytes of voxels, it holds 230"),
    "no_type.mha": (meta_bytes(ElementType="MET_BANANA"), "its voxels are of type 'MET_BANANA'"),
    "few_sizes.mha": (meta_bytes(DimSize="4 5"), "DimSize is '4 5', expected 3 whole number(s)"),
    "not.mha": (b"hello there", "is not a MetaImage file"),
    "text.mha": (meta_bytes(b"1 2 3", BinaryData=False), "its voxels are written as text"),
    "missing_data.mhd": (meta_bytes(b"", ElementDataFile="nowhere.raw"), "its data file nowhere.raw is missing"),
    "missing_data.nhdr": (nrrd_bytes(b"", data_file="nowhere.raw"), "its data file nowhere.raw is missing"),
    "no_data.nhdr": (nrrd_bytes(b""), "it names no data file"),
    "many_files.mhd": (meta_bytes(b"", ElementDataFile="slice%d.raw 1 6 1"), "spread over several files"),
    "many_files.nhdr": (nrrd_bytes(b"", data_file="LIST"), "spread over several files"),
}
# Damaged voxel streams: the header is sound, only reading finds them.
STREAMS: dict[str, tuple[bytes, str]] = {
    "short_stream.nii.gz": (
        gzip.compress(nifti_bytes()[:-30]),
        "truncated: its header claims 240 bytes of voxels, it holds 210",
    ),
    "cut.nii.gz": (gzip.compress(nifti_bytes())[:-20], "truncated: its compressed voxels end early"),
    "long_stream.nii.gz": (gzip.compress(nifti_bytes() + b"1234"), "it holds 244 bytes of voxels"),
    "checksum.nii.gz": (
        gzip.compress(nifti_bytes())[:-8] + b"\1\2\3\4" + gzip.compress(nifti_bytes())[-4:],
        "its compressed voxels are damaged",
    ),
    "garbage.nii.gz": (gzip.compress(nifti_bytes()) + b"garbage!", "bytes follow the end of its compressed voxels"),
    "cut.nrrd": (nrrd_bytes(GZIP[:-12], encoding="gzip"), "truncated: its compressed voxels end early"),
    "shifted.nrrd": (
        nrrd_bytes(gzip.compress(bytes(352) + RAW), encoding="gzip"),
        "it holds 592 bytes of voxels, its header claims 240",
    ),
    "short_stream.mha": (zlib_meta_bytes(zlib.compress(RAW[:-10])), "it holds 230"),
    "checksum.mha": (zlib_meta_bytes(ZLIB[:-4] + b"1234"), "its compressed voxels are damaged"),
    "cut.mha": (zlib_meta_bytes(ZLIB[:-20]), "truncated: its compressed voxels end early"),
}
# Unusual, and right all the same.
SOUND: dict[str, bytes] = {
    "plain.nii": nifti_bytes(),
    "vector_of_one.nii": nifti_bytes(dim=(5, *SIZE, 1, 1, 1, 1), intent=1007),
    "plain.nii.gz": nifti_bytes(),
    "big_endian.nii": nifti_bytes(order=">"),
    "trailing_dimension.nii": nifti_bytes(dim=(4, *SIZE, 1, 1, 1, 1)),
    "no_forms.nii": nifti_bytes(codes=(0, 0)),
    "both_forms.nii": nifti_bytes(codes=(1, 1)),
    "slope_0_intercept_0.nii": nifti_bytes(scl=(0, 0)),
    "slope_nan_intercept_nan.nii": nifti_bytes(scl=(NAN, NAN)),
    "plain.nrrd": nrrd_bytes(),
    "big_endian.nrrd": nrrd_bytes(VOXELS.astype(">i2").tobytes(), endian="big"),
    "gzip.nrrd": nrrd_bytes(GZIP, encoding="gzip"),
    "ascii.nrrd": nrrd_bytes(" ".join(map(str, range(120))).encode(), encoding="ascii", endian=None),
    "hex.nrrd": nrrd_bytes(RAW.hex().encode(), encoding="hex"),
    "line_skip.nrrd": nrrd_bytes(b"one\ntwo\n" + RAW, line_skip="2"),
    "byte_skip.nrrd": nrrd_bytes(b"abc" + RAW, byte_skip="3"),
    "last_bytes.nrrd": nrrd_bytes(b"whatever" + RAW, byte_skip="-1"),
    "key_value.nrrd": nrrd_bytes(extra=("byte skip:= 7", "note:=a: b")),
    "plain.mha": meta_bytes(),
    "big_endian.mha": meta_bytes(VOXELS.astype(">i2").tobytes(), BinaryDataByteOrderMSB=True),
    "big_endian_element.mha": meta_bytes(
        VOXELS.astype(">i2").tobytes(), BinaryDataByteOrderMSB=None, ElementByteOrderMSB=True
    ),
    "zlib.mha": zlib_meta_bytes(ZLIB),
    "element_size.mha": meta_bytes(ElementSpacing=None, ElementSize="1 2 3"),
    "last_bytes.mha": meta_bytes(HeaderSize=-1),
}
