import gzip
import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from cohort_files import (
    GZIP,
    LOUD,
    RAW,
    SILENT,
    SIZE,
    SOUND,
    SPACING,
    STREAMS,
    VOXELS,
    ZLIB,
    meta_bytes,
    nifti_bytes,
    nrrd_bytes,
    write,
)
from hypothesis import given
from hypothesis import strategies as st

from hgpscale.cohort import image_bytes, read_image, read_mask
from hgpscale.cohort.headers import inspect
from hgpscale.cohort.itk import itk_reason, read_geometry
from hgpscale.cohort.masks import as_labels
from hgpscale.errors import ImageError


def saved(folder: Path, array: np.ndarray, name: str = "mask.nii.gz") -> Path:
    sitk.WriteImage(sitk.GetImageFromArray(array), str(folder / name))
    return folder / name


def test_the_size_of_a_file_of_a_series_and_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "series").mkdir()
    (tmp_path / "empty").mkdir()
    for name in ("a.dcm", "b.dcm", "c.dcm"):
        (tmp_path / "series" / name).write_bytes(b"x" * 7)
    found = [image_bytes(tmp_path / name) for name in ("series/a.dcm", "series", "empty", "nowhere")]
    assert found == [7, 21, 0, 0]


@pytest.mark.parametrize("name", SOUND)
def test_sound_file_gives_its_voxels_and_grid(tmp_path: Path, name: str) -> None:
    volume, _ = read_image(write(tmp_path, name, SOUND[name]))
    assert volume.array.dtype == np.int16
    np.testing.assert_array_equal(volume.array, VOXELS.reshape(SIZE[::-1]))
    assert volume.geometry.size == SIZE[::-1]
    assert volume.geometry.spacing == SPACING[::-1]
    assert read_geometry(inspect(tmp_path / name)) == volume.geometry


@pytest.mark.parametrize("name", [*SILENT, *LOUD])
def test_broken_header_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    content, said = (SILENT | LOUD)[name]
    path = write(tmp_path, name, content)
    with pytest.raises(ImageError) as caught:
        read_image(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert said in message
    assert "\n" not in message


@pytest.mark.parametrize("name", STREAMS)
def test_damaged_voxel_stream_is_refused(tmp_path: Path, name: str) -> None:
    content, said = STREAMS[name]
    path = tmp_path / name
    path.write_bytes(content)
    assert inspect(path).problems == ()
    with pytest.raises(ImageError) as caught:
        read_image(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert said in str(caught.value)


def test_gzip_members_and_padding_are_no_garbage(tmp_path: Path) -> None:
    content = nifti_bytes()
    path = tmp_path / "image.nii.gz"
    path.write_bytes(gzip.compress(content[:400]) + gzip.compress(content[400:]) + bytes(100))
    np.testing.assert_array_equal(read_image(path)[0].array.ravel(), VOXELS)


def test_stream_that_swells_beyond_the_claim_is_left_early(tmp_path: Path) -> None:
    path = tmp_path / "bomb.nii.gz"
    path.write_bytes(gzip.compress(nifti_bytes() + bytes(1 << 26)))
    with pytest.raises(ImageError, match="its header claims 240") as caught:
        read_image(path)
    held = int(str(caught.value).split("it holds ")[1].split()[0])
    assert held < 1 << 22


@pytest.mark.parametrize("name", ["missing.nii", "missing.nrrd", "missing.mha"])
def test_missing_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(ImageError, match=f"{name}: the file is missing"):
        read_image(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=f"{name}: the file is missing") as caught:
        read_mask(tmp_path / name)
    copy = pickle.loads(pickle.dumps(caught.value))  # as a worker sends it
    assert (type(copy), str(copy)) == (type(caught.value), str(caught.value))


def test_only_a_missing_file_is_a_file_not_found(tmp_path: Path) -> None:
    (tmp_path / "folder.nii").mkdir()
    with pytest.raises(ImageError, match="is a folder") as caught:
        read_image(tmp_path / "folder.nii")
    assert not isinstance(caught.value, OSError)


def test_a_broken_link_is_a_file_not_found(tmp_path: Path) -> None:
    (tmp_path / "link.nii").symlink_to(tmp_path / "nowhere.nii")
    with pytest.raises(FileNotFoundError, match=r"link\.nii: is a broken link"):
        read_image(tmp_path / "link.nii")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("stored", "code"), [("f4", 16), ("f8", 64)])
@pytest.mark.parametrize("name", ["image.nii", "image.nii.gz"])
def test_nan_and_infinity_of_nifti_are_kept(tmp_path: Path, name: str, stored: str, code: int, order: str) -> None:
    """SimpleITK makes them 0; a region that holds one must be refused, so they have to arrive."""
    voxels = np.linspace(-5, 5, 120).astype(f"{order}{stored}")
    voxels[[0, 7, 119]] = [np.nan, np.inf, -np.inf]
    path = write(tmp_path, name, nifti_bytes(datatype=code, data=voxels.tobytes(), order=order))
    alone = sitk.GetArrayFromImage(sitk.ReadImage(str(path))).ravel()
    assert list(alone[[0, 7, 119]]) == [0, 0, 0]
    array = read_image(path)[0].array
    np.testing.assert_array_equal(array.ravel(), voxels)
    assert array.dtype == np.dtype(stored)


@pytest.mark.parametrize("name", ["image.nrrd", "image.mha", "big.nii.gz"])
def test_nan_is_kept_wherever_it_is(tmp_path: Path, name: str) -> None:
    array = np.zeros((40, 90, 101), np.float32)  # longer than a piece of the stream, and of odd length
    array[-1, -1, -1] = np.nan
    array[20, 3, 7] = np.inf
    np.testing.assert_array_equal(read_image(saved(tmp_path, array, name))[0].array, array)


def test_scaled_nifti_is_simpleitks(tmp_path: Path) -> None:
    path = write(tmp_path, "image.nii.gz", nifti_bytes(scl=(2.0, -1024.0)))
    array = read_image(path)[0].array
    np.testing.assert_array_equal(array, sitk.GetArrayFromImage(sitk.ReadImage(str(path))))
    np.testing.assert_array_equal(array.ravel(), VOXELS * 2.0 - 1024)


@pytest.mark.parametrize(
    ("name", "header", "data_name", "data"),
    [
        ("a.mhd", meta_bytes(b"", ElementDataFile="a.raw"), "a.raw", RAW),
        ("b.mhd", meta_bytes(b"", ElementDataFile="b.zraw", CompressedData=True), "b.zraw", ZLIB),
        ("c.mhd", meta_bytes(b"", ElementDataFile="c.raw", HeaderSize=-1), "c.raw", b"head" + RAW),
        ("d.nhdr", nrrd_bytes(b"", data_file="d.raw"), "d.raw", RAW),
        ("e.nhdr", nrrd_bytes(b"", data_file="e.raw.gz", encoding="gzip"), "e.raw.gz", GZIP),
        (
            "f.nhdr",
            nrrd_bytes(b"", data_file="f.nii.gz", encoding="gzip", byte_skip="-1"),
            "f.nii.gz",
            gzip.compress(nifti_bytes()),
        ),
    ],
)
def test_header_with_a_data_file(tmp_path: Path, name: str, header: bytes, data_name: str, data: bytes) -> None:
    path = write(tmp_path, name, header)
    (tmp_path / data_name).write_bytes(data)
    volume, digest = read_image(path)
    np.testing.assert_array_equal(volume.array.ravel(), VOXELS)
    assert digest == hashlib.blake2b(header + data, digest_size=16).hexdigest()
    (tmp_path / data_name).write_bytes(data[:-20])
    with pytest.raises(ImageError, match="truncated"):
        read_image(path)


@pytest.mark.parametrize("name", ["plain.nii", "plain.nii.gz", "gzip.nrrd", "zlib.mha"])
def test_digest_is_of_the_files_bytes(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, name, SOUND[name])
    assert read_image(path)[1] == hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


@pytest.mark.parametrize(
    ("stored", "highest", "expected"),
    [
        ("uint8", 3, "uint8"),
        ("int16", 255, "uint8"),
        ("int16", 256, "uint16"),
        ("int32", 70000, "uint32"),
        ("float32", 2, "uint8"),
        ("float64", 65535, "uint16"),
        ("int64", 2**32 - 1, "uint32"),
    ],
)
def test_mask_takes_the_smallest_type_that_fits(tmp_path: Path, stored: str, highest: int, expected: str) -> None:
    array = np.zeros((3, 4, 5), stored)
    array[1, 2, 3] = highest
    mask = read_mask(saved(tmp_path, array))[0].array
    assert mask.dtype == expected
    np.testing.assert_array_equal(mask, array)


@pytest.mark.parametrize(
    ("stored", "value", "said"),
    [
        ("float32", 0.25, "the mask is fractional (1 voxels, such as 0.25): threshold it"),
        ("float32", np.nan, "the mask holds NaN or infinite voxels"),
        ("float64", np.inf, "the mask holds NaN or infinite voxels"),
        ("int16", -1, "the mask holds negative labels (lowest -1)"),
        ("float32", -2, "the mask holds negative labels (lowest -2)"),
        ("int64", 2**32, "the mask holds label 4.29497e+09; expected at most 4294967295"),
    ],
)
def test_what_is_no_label_is_refused(tmp_path: Path, stored: str, value: float, said: str) -> None:
    array = np.zeros((3, 4, 5), stored)
    array[1, 2, 3] = value
    path = saved(tmp_path, array)
    with pytest.raises(ImageError) as caught:
        read_mask(path)
    assert str(caught.value).startswith(f"{path}: {said}")


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.array([[[True, False]]]), "uint8"),
        (np.array([[[0, 300]]]), "uint16"),
        (np.array([[[0.0, 70000.0]]]), "uint32"),
    ],
)
def test_labels_of_an_array_in_memory(array: np.ndarray, expected: str) -> None:
    labels = as_labels(array)
    assert labels.dtype == expected
    np.testing.assert_array_equal(labels, array)


@pytest.mark.parametrize("array", [np.zeros((0, 2, 2)), np.array([[["1"]]]), np.array([[[1j]]])])
def test_an_array_that_cannot_be_labels_is_refused(array: np.ndarray) -> None:
    with pytest.raises(ImageError, match="expected integers or floats"):
        as_labels(array)


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """ITK and the libraries below it write to the terminal themselves."""
    for name, (content, _) in (SILENT | LOUD).items():
        with pytest.raises(ImageError):
            read_image(write(tmp_path, name, content))
    for number, (name, content) in enumerate(SOUND.items()):
        read_image(write(tmp_path, f"{number}_{name}", content))
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


@given(
    name=st.sampled_from(sorted(SOUND)),
    edits=st.lists(st.tuples(st.integers(0, 351), st.binary(max_size=3), st.integers(0, 3)), max_size=6),
)
def test_damaged_bytes_end_in_an_image_error_or_in_what_the_header_says(
    tmp_path_factory: pytest.TempPathFactory, name: str, edits: list[tuple[int, bytes, int]]
) -> None:
    content = SOUND[name]
    for position, inserted, removed in edits:
        content = content[:position] + inserted + content[position + removed :]
    path = write(tmp_path_factory.mktemp("damaged"), name, content)
    refusal = ""
    try:
        volume, _ = read_image(path)
    except ImageError as error:
        refusal = str(error)
    if refusal:
        assert refusal.startswith(f"{path}: ")
        assert "\n" not in refusal
        return
    header = inspect(path)
    assert header.size == volume.geometry.size == volume.array.shape
    assert header.spacing == pytest.approx(volume.geometry.spacing, rel=1e-5)


def test_simpleitks_own_complaint_is_folded(tmp_path: Path) -> None:
    # at 5e-4 within our tolerance of right angles, and beyond ITK's
    sheared = nifti_bytes(codes=(0, 1), srow=(1, 0.001, 0, 0, 0, 2, 0, 0, 0, 0, 3, 0))
    path = write(tmp_path, "image.nii", sheared)
    with pytest.raises(ImageError) as caught:
        read_image(path)
    assert str(caught.value) == (
        f"{path}: SimpleITK cannot read it: ITK only supports orthonormal direction cosines. "
        "No orthonormal definition found!"
    )


def test_reason_leaves_out_source_places_and_addresses() -> None:
    error = RuntimeError(
        "Exception thrown in SimpleITK ImageFileReader_Execute: /build/itkNrrdImageIO.cxx:935:\n"
        "ITK ERROR: NrrdImageIO(0x5629ca925850): Read: Error reading a.nrrd:\n[nrrd] trouble"
    )
    assert itk_reason(error) == "SimpleITK cannot read it: NrrdImageIO: Read: Error reading a.nrrd: [nrrd] trouble"
