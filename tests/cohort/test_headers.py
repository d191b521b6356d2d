import gzip
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import SimpleITK as sitk
from cohort_files import LOUD, RAW, SILENT, SIZE, SOUND, SPACING, meta_bytes, nifti_bytes, nrrd_bytes, write
from hypothesis import given, settings
from hypothesis import strategies as st

from hgpscale.cohort.headers import inspect

ENDINGS = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")


@pytest.mark.parametrize("name", [*SILENT, *LOUD])
def test_broken_header_is_named(tmp_path: Path, name: str) -> None:
    content, said = (SILENT | LOUD)[name]
    problems = inspect(write(tmp_path, name, content)).problems
    assert any(said in problem for problem in problems), problems
    assert all(problem == " ".join(problem.split()) for problem in problems)


@pytest.mark.parametrize("name", SILENT)
def test_simpleitk_alone_reads_these_in_silence(tmp_path: Path, name: str) -> None:
    """If this fails, SimpleITK got better: the guard stays, the table's heading changes."""
    sitk.ReadImage(str(write(tmp_path, name, SILENT[name][0])))


@pytest.mark.parametrize("name", SOUND)
def test_sound_header(tmp_path: Path, name: str) -> None:
    header = inspect(write(tmp_path, name, SOUND[name]))
    assert header.problems == ()
    assert header.size == SIZE[::-1]
    assert header.spacing == SPACING[::-1]
    assert header.voxel_type == "int16"
    assert header.claimed_bytes == len(RAW)
    assert header.compressed == ("gz" in name or "zlib" in name)


@settings(max_examples=20, deadline=None)
@given(
    size=st.tuples(*[st.integers(1, 6)] * 3),
    spacing=st.tuples(*[st.floats(0.3, 6.0)] * 3),
    origin=st.tuples(*[st.floats(-900.0, 900.0)] * 3),
    # near half a turn a 32-bit quaternion is at its worst
    angles=st.tuples(*[st.sampled_from([0.0, 1e-4, 0.3, np.pi / 2, np.pi - 1e-4, np.pi])] * 3),
    dtype=st.sampled_from(["int16", "uint8", "float32", "int32", "float64"]),
    compress=st.booleans(),
)
def test_what_simpleitk_writes_is_sound_and_read_alike(
    tmp_path_factory: pytest.TempPathFactory,
    size: tuple[int, int, int],
    spacing: tuple[float, float, float],
    origin: tuple[float, float, float],
    angles: tuple[float, float, float],
    dtype: str,
    compress: bool,
) -> None:
    image = sitk.GetImageFromArray(np.zeros(size, dtype))
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(sitk.Euler3DTransform((0.0, 0.0, 0.0), *angles).GetMatrix())
    folder = tmp_path_factory.mktemp("written")
    for ending in ENDINGS:
        path = folder / f"image{ending.replace('.', '_')}{ending}"
        sitk.WriteImage(image, str(path), useCompression=compress)
        header = inspect(path)
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        assert header.problems == ()
        assert header.size == size == reader.GetSize()[::-1]
        assert header.spacing == pytest.approx(reader.GetSpacing()[::-1], rel=1e-6)
        assert header.voxel_type == dtype


@pytest.mark.parametrize(("code", "factor"), [(1, 1000.0), (2, 1.0), (3, 0.001), (0, 1.0)])
def test_units_of_nifti_are_simpleitks(tmp_path: Path, code: int, factor: float) -> None:
    path = write(tmp_path, "image.nii", nifti_bytes(units=code))
    spacing = inspect(path).spacing
    assert spacing == pytest.approx([step * factor for step in SPACING[::-1]])
    assert spacing == pytest.approx(sitk.ReadImage(str(path)).GetSpacing()[::-1])


def test_all_problems_of_a_file_are_listed(tmp_path: Path) -> None:
    content = nifti_bytes(pixdim=(1, 0, 2, 3, 0, 0, 0, 0), scl=(0, -1024), vox_offset=7, datatype=128)
    problems = inspect(write(tmp_path, "image.nii", content)).problems
    for said in ("spacing is (0, 2, 3)", "scl_slope is 0", "vox_offset is 7", "RGB colours"):
        assert any(said in problem for problem in problems)


def test_terabyte_is_refused_before_it_is_allocated(tmp_path: Path) -> None:
    header = inspect(write(tmp_path, "huge.nii", nifti_bytes(dim=(3, 8192, 8192, 8192, 1, 1, 1, 1))))
    assert header.claimed_bytes == 2**40
    assert any("its header claims 1.0 TiB of voxels, reading takes twice that" in p for p in header.problems)
    assert any("truncated" in problem for problem in header.problems)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("huge.nii.gz", nifti_bytes(dim=(3, 8192, 8192, 8192, 1, 1, 1, 1))),
        ("huge.nrrd", nrrd_bytes(gzip.compress(RAW), encoding="gzip", sizes="8192 8192 8192")),
        ("huge.mha", meta_bytes(b"x" * 9, CompressedData=True, CompressedDataSize=9, DimSize="8192 8192 8192")),
    ],
)
def test_more_than_a_compressed_stream_can_hold_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    problems = inspect(write(tmp_path, name, content)).problems
    assert any("its header claims 1.0 TiB of voxels, its" in problem for problem in problems)


def test_more_than_the_machines_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "image.nii", nifti_bytes())
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=479))
    (problem,) = inspect(path).problems
    assert problem == (
        "its header claims 240 bytes of voxels, reading takes twice that; this machine has 479 bytes of memory"
    )
    # what others use at this moment does not count
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=480, available=0))
    assert inspect(path).problems == ()


def test_missing_empty_folder_link_and_text(tmp_path: Path) -> None:
    (tmp_path / "folder.nii.gz").mkdir()
    (tmp_path / "link.nii.gz").symlink_to(tmp_path / "nowhere.nii.gz")
    (tmp_path / "text.nii.gz").write_text("not an image at all\n" * 50)
    expected = {
        "gone.nii.gz": "the file is missing",
        "folder.nii.gz": "is a folder, expected a file",
        "link.nii.gz": "is a broken link",
        "text.nii.gz": "text.nii.gz but is not compressed by gzip, it holds text",
        "scan.dcm": "its format is not supported; expected a name that ends in .nii, .nii.gz, .nrrd",
        **{f"empty{ending}": "the file is empty" for ending in ENDINGS},
    }
    (tmp_path / "scan.dcm").write_bytes(b"DICM")
    for ending in ENDINGS:
        (tmp_path / f"empty{ending}").touch()
    for name, said in expected.items():
        (problem,) = inspect(tmp_path / name).problems
        assert said in problem


def test_gzip_under_the_name_of_plain_nifti(tmp_path: Path) -> None:
    path = tmp_path / "image.nii"
    path.write_bytes(gzip.compress(nifti_bytes()))
    assert "is compressed by gzip: rename it to .nii.gz" in inspect(path).problems[0]


def test_plain_nifti_beside_a_compressed_one_is_refused(tmp_path: Path) -> None:
    """ITK's NIfTI library takes the header from the .nii.gz, and the voxels from the .nii."""
    compressed = write(tmp_path, "image.nii.gz", nifti_bytes())
    assert inspect(compressed).problems == ()
    plain = write(tmp_path, "image.nii", nifti_bytes(data=bytes(240)))
    assert sitk.GetArrayFromImage(sitk.ReadImage(str(compressed))).max() == 0  # not 119
    assert "image.nii lies beside it" in inspect(compressed).problems[0]
    assert inspect(plain).problems == ()


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "image.nii", nifti_bytes())

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert inspect(path).problems == ("cannot be read: Permission denied",)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_file_without_read_permission(tmp_path: Path) -> None:
    path = write(tmp_path, "image.nii", nifti_bytes())
    path.chmod(0)
    assert inspect(path).problems == ("cannot be read: Permission denied",)
