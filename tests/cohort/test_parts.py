"""Parts of images: the same voxels as of the whole image, and nothing read that is not needed."""

import gzip
import hashlib
import tracemalloc
import zlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from cohort_files import SIZE, SOUND, VOXELS, meta_bytes, nifti_bytes, nrrd_bytes, write, zlib_meta_bytes
from hypothesis import given
from hypothesis import strategies as st

from hgpscale.cohort import images, open_image, read_image, read_parts
from hgpscale.errors import ImageError
from hgpscale.volume import Box

SHAPE = SIZE[::-1]
WHOLE = VOXELS.reshape(SHAPE)


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    lower, upper = [], []
    for n in SHAPE:
        a, b = sorted(draw(st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True)))
        lower.append(a)
        upper.append(b)
    return (lower[0], lower[1], lower[2]), (upper[0], upper[1], upper[2])


def crop(array: np.ndarray, box: Box) -> np.ndarray:
    return array[tuple(slice(a, b) for a, b in zip(*box, strict=True))]


@given(
    name=st.sampled_from(sorted(SOUND)),
    wanted=st.lists(boxes(), max_size=4),
    entire=st.booleans(),
    planes=st.integers(0, SHAPE[0]),
)
def test_parts_are_crops_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, name: str, wanted: list[Box], entire: bool, planes: int
) -> None:
    path = write(tmp_path_factory.mktemp("parts"), name, SOUND[name])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "_SLAB", planes * WHOLE[0].nbytes)
        parts, digest = read_parts(open_image(path), wanted, entire=entire)
    assert digest == (hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest() if entire else "")
    for part, box in zip(parts, wanted, strict=True):
        assert part.array.dtype == np.int16
        assert part.box == box
        np.testing.assert_array_equal(part.array, crop(WHOLE, box))


def random_planes(planes: int) -> bytes:
    """Return voxels that do not compress, so that a cut file lacks some of them."""
    return np.random.default_rng(0).integers(0, 2**16, planes * 64 * 64, np.uint16).astype("<u2").tobytes()


FORMATS: dict[str, Callable[[bytes], bytes]] = {
    "image.nii.gz": lambda raw: gzip.compress(nifti_bytes(dim=(3, 64, 64, 40, 1, 1, 1, 1), data=raw)),
    "image.nrrd": lambda raw: nrrd_bytes(gzip.compress(raw), sizes="64 64 40", encoding="gzip"),
    "image.mha": lambda raw: zlib_meta_bytes(zlib.compress(raw), DimSize="64 64 40"),
}
NEEDED: Box = ((4, 5, 6), (20, 30, 40))


@pytest.mark.parametrize("name", FORMATS)
def test_what_lies_behind_the_last_needed_plane_is_not_looked_at(tmp_path: Path, name: str) -> None:
    raw = random_planes(40)
    path = tmp_path / name
    content = bytearray(FORMATS[name](raw))
    path.write_bytes(content)
    image = open_image(path)
    content[len(content) * 3 // 4 :] = bytes(len(content) - len(content) * 3 // 4)
    path.write_bytes(content)
    (part,), digest = read_parts(image, [NEEDED], entire=False)
    expected = np.frombuffer(raw, "<i2").reshape(40, 64, 64)
    np.testing.assert_array_equal(part.array, crop(expected, NEEDED))
    assert digest == ""
    with pytest.raises(ImageError, match=f"{name}: its compressed voxels are damaged|{name}: it is truncated"):
        read_parts(image, [NEEDED], entire=True)
    with pytest.raises(ImageError, match=f"{name}: "):
        read_parts(image, [((4, 5, 6), (40, 30, 40))], entire=False)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("entire", [True, False])
def test_a_file_cut_before_the_last_needed_plane_is_truncated(tmp_path: Path, name: str, entire: bool) -> None:
    path = tmp_path / name
    content = FORMATS[name](random_planes(40))
    path.write_bytes(content)
    image = open_image(path)
    path.write_bytes(content[: len(content) // 3])
    with pytest.raises(
        ImageError, match=f"{name}: it is truncated: its compressed voxels end early, after [0-9]+ bytes"
    ):
        read_parts(image, [NEEDED], entire=entire)


def test_a_file_that_shrank_since_its_header_was_read(tmp_path: Path) -> None:
    path = write(tmp_path, "image.nii", nifti_bytes())
    image = open_image(path)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ImageError, match=r"image\.nii: it is truncated: its header claims 240 bytes"):
        read_parts(image, [((0, 0, 0), SHAPE)], entire=False)
    path.unlink()
    with pytest.raises(ImageError, match=r"image.nii: cannot be read: No such file"):
        read_parts(image, [((0, 0, 0), SHAPE)], entire=False)


def test_the_end_of_the_stream_is_checked_where_the_last_plane_is_needed(tmp_path: Path) -> None:
    content = gzip.compress(nifti_bytes())
    path = tmp_path / "image.nii.gz"
    path.write_bytes(content[:-8] + b"\1\2\3\4" + content[-4:])
    image = open_image(path)
    read_parts(image, [((0, 0, 0), (5, 5, 4))], entire=False)
    with pytest.raises(ImageError, match="its compressed voxels are damaged"):
        read_parts(image, [((5, 0, 0), (6, 5, 4))], entire=False)


@given(cuts=st.lists(st.integers(0, 592), max_size=4), zeros=st.integers(0, 600_000), box=boxes())
def test_gzip_members_and_padding(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], zeros: int, box: Box
) -> None:
    content = nifti_bytes()
    places = [0, *sorted(cut for cut in cuts if cut >= 348), len(content)]
    members = [gzip.compress(content[a:b]) for a, b in pairwise(places)]
    path = tmp_path_factory.mktemp("members") / "image.nii.gz"
    path.write_bytes(b"".join(members) + bytes(zeros))
    for entire in (False, True):
        (part,), _ = read_parts(open_image(path), [box], entire=entire)
        np.testing.assert_array_equal(part.array, crop(WHOLE, box))


def gzip_header(flags: int) -> bytes:
    """Return the first bytes of a gzip stream (RFC 1952) with the optional fields that `flags` names."""
    extra = {4: b"\6\0BC\2\0\1\2", 8: b"a name\0", 16: b"a comment\0"}
    header = b"\x1f\x8b\x08" + bytes([flags]) + b"\1\2\3\4\0\3" + b"".join(v for k, v in extra.items() if flags & k)
    return header + (zlib.crc32(header) & 0xFFFF).to_bytes(2, "little") if flags & 2 else header


@pytest.mark.parametrize("flags", range(0, 32, 2))
@pytest.mark.parametrize("level", [0, 1, 9])
def test_gzip_as_other_programs_write_it(tmp_path: Path, flags: int, level: int) -> None:
    plain = gzip.compress(nifti_bytes(), level, mtime=0)
    member = gzip_header(flags) + plain[10:]
    nothing = gzip_header(flags) + gzip.compress(b"", level, mtime=0)[10:]  # as bgzip ends its files
    path = tmp_path / "image.nii.gz"
    path.write_bytes(member + nothing)
    np.testing.assert_array_equal(read_image(path)[0].array, WHOLE)


@pytest.mark.parametrize("rest", [b"x", b"\x1f", b"\x1f\x8b\x08", b"\0\0garbage", gzip.compress(b"", mtime=0)[:-3]])
def test_what_follows_a_stream_is_no_padding(tmp_path: Path, rest: bytes) -> None:
    path = tmp_path / "image.nii.gz"
    path.write_bytes(gzip.compress(nifti_bytes()) + rest)
    with pytest.raises(ImageError, match=r"bytes follow the end of its compressed voxels|it is truncated"):
        read_image(path)


CODES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("scl", [(2.0, -1024.0), (0.1, 0.3), (-1.7e-3, 5.0), (1.0, 7.0), (3.3e5, 0.0)])
@pytest.mark.parametrize("order", ["<", ">"])
def test_scaled_voxels_are_simpleitks(tmp_path: Path, code: int, scl: tuple[float, float], order: str) -> None:
    kind, stored = np.dtype(CODES[code]), np.dtype(order + CODES[code])
    rng = np.random.default_rng(code)
    if kind.kind == "f":
        voxels = rng.normal(0, 1e5, 120).astype(kind)
    else:
        voxels = rng.integers(np.iinfo(kind).min, np.iinfo(kind).max, 120, kind, endpoint=True)
    content = nifti_bytes(datatype=code, scl=scl, order=order, data=voxels.astype(stored).tobytes())
    path = write(tmp_path, "image.nii.gz", content)
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    found, _ = read_image(path)
    assert found.array.dtype == expected.dtype
    np.testing.assert_array_equal(found.array, expected)


def test_scaled_voxels_keep_their_nan(tmp_path: Path) -> None:
    voxels = np.linspace(-5, 5, 120).astype("<f4")
    voxels[[0, 7, 119]] = [np.nan, np.inf, -np.inf]
    path = write(tmp_path, "image.nii", nifti_bytes(datatype=16, scl=(2.0, 1.0), data=voxels.tobytes()))
    np.testing.assert_array_equal(read_image(path)[0].array.ravel(), voxels * 2 + 1)


@pytest.mark.parametrize("name", ["image.nii.gz", "image.nrrd", "image.mha"])
def test_a_few_planes_and_the_part_are_all_that_is_held(tmp_path: Path, name: str) -> None:
    image = sitk.GetImageFromArray(np.random.default_rng(0).integers(0, 900, (100, 256, 256)).astype(np.int16))
    sitk.WriteImage(image, str(tmp_path / name), useCompression=True)
    opened = open_image(tmp_path / name)
    for entire in (False, True):
        tracemalloc.start()
        read_parts(opened, [((40, 100, 100), (60, 140, 140))], entire=entire)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 2 << 20  # the whole is 12.5 MiB, the part 64 KiB, a plane 128 KiB


def test_plain_files_are_read_where_the_part_is(tmp_path: Path) -> None:
    """Bytes before and behind are left alone, as in this sparse file."""
    path = write(tmp_path, "image.nii", nifti_bytes(dim=(3, 1024, 1024, 100, 1, 1, 1, 1), data=b""))
    with path.open("r+b") as file:
        file.seek(352 + 60 * 2**21)
        file.write(b"\1\0")
        file.truncate(352 + 100 * 2**21)
    (part,), _ = read_parts(open_image(path), [((60, 0, 0), (61, 2, 2))], entire=False)
    np.testing.assert_array_equal(part.array, [[[1, 0], [0, 0]]])


def test_header_in_front_of_raw_voxels(tmp_path: Path) -> None:
    path = write(tmp_path, "image.mha", meta_bytes(b"anything" + VOXELS.tobytes(), HeaderSize=-1))
    image = open_image(path)
    (part,), _ = read_parts(image, [((2, 1, 0), (4, 3, 2))], entire=True)
    np.testing.assert_array_equal(part.array, WHOLE[2:4, 1:3, :2])
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ImageError, match="it is truncated"):
        read_parts(image, [((0, 0, 0), (6, 5, 4))], entire=False)
