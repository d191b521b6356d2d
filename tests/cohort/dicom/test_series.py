"""DICOM series as images: against SimpleITK's series reader, and every reason to refuse one."""

import locale
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_files import IDENTIFYING, enhanced, write_series
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, JPEG2000Lossless, RLELossless, generate_uid

from hgpscale.cohort import check_cohort, file_digest, open_image, read_image, read_manifest, read_parts
from hgpscale.cohort.dicom import series as series_module
from hgpscale.errors import ImageError, MissingFileError

CT = np.random.default_rng(0).integers(-1000, 1500, (5, 8, 9)).astype(np.int16)
TURN = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)
SWAPPED = (0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def by_itk(paths: list[Path]) -> sitk.Image:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(path) for path in paths])
    return reader.Execute()


@pytest.mark.parametrize("direction", [(1, 0, 0, 0, 1, 0, 0, 0, 1), TURN, SWAPPED], ids=["axial", "turned", "sagittal"])
@pytest.mark.parametrize(
    ("slope", "intercept"), [(1, 0), (1, -1024), (2, 5), (0.5, 0), (1, 0.25)], ids=lambda value: str(value)
)
def test_voxels_and_grid_are_those_of_simpleitk(
    tmp_path: Path, direction: tuple[float, ...], slope: float, intercept: float
) -> None:
    paths = write_series(
        tmp_path, CT, (2.5, 0.7, 0.6), (-10.5, 20.25, 7), direction, RescaleSlope=slope, RescaleIntercept=intercept
    )
    volume, digest = read_image(tmp_path)
    expected = by_itk(paths)
    np.testing.assert_array_equal(volume.array, sitk.GetArrayFromImage(expected))
    assert (volume.array.dtype.kind == "f") == (expected.GetPixelID() == sitk.sitkFloat64)
    for ours, theirs in (
        (volume.geometry.spacing[::-1], expected.GetSpacing()),
        (volume.geometry.origin, expected.GetOrigin()),
        (volume.geometry.direction, expected.GetDirection()),
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-9)
    assert digest == file_digest(tmp_path) == file_digest(paths[2])


@pytest.mark.parametrize("decimals", [4, 6])
def test_rounded_cosines_are_set_straight_as_by_simpleitk(tmp_path: Path, decimals: int) -> None:
    turn, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    turn[:, 2] = np.cross(turn[:, 0], turn[:, 1])
    cosines = [float(c) for c in np.round(turn[:, :2].T.ravel(), decimals)]
    places = tuple([float(c) for c in np.round(turn[:, 2] * 2 * z, decimals)] for z in range(len(CT)))
    paths = write_series(tmp_path, CT, ImageOrientationPatient=cosines, ImagePositionPatient=places)
    ours, theirs = open_image(tmp_path).geometry, by_itk(paths)
    np.testing.assert_allclose(ours.direction, theirs.GetDirection(), atol=1e-12)
    np.testing.assert_allclose(ours.spacing[::-1], theirs.GetSpacing(), atol=1e-7)


def test_boxes_take_only_the_slices_that_they_need(tmp_path: Path) -> None:
    paths = write_series(tmp_path, CT)
    image = open_image(paths[0])
    for path in (paths[0], paths[4]):
        path.unlink()
    box = (1, 2, 3), (3, 6, 9)
    (part,), digest = read_parts(image, [box], entire=False)
    np.testing.assert_array_equal(part.array, CT[1:3, 2:6, 3:9])
    assert digest == ""
    with pytest.raises(ImageError, match="cannot be read"):
        read_parts(image, [box], entire=True)


def test_each_slice_has_its_own_rescaling(tmp_path: Path) -> None:
    write_series(tmp_path, CT, RescaleSlope=(1, 2, 1, 3, 1), RescaleIntercept=(0, 1, 2, 3, 4))
    expected = CT * np.array([1, 2, 1, 3, 1])[:, None, None] + np.arange(5)[:, None, None]
    array = read_image(tmp_path)[0].array
    assert array.dtype == np.int32
    np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize("signed", [True, False])
def test_bits_beyond_those_stored_are_not_voxels(tmp_path: Path, bits: int, signed: bool) -> None:
    voxels = (CT % 2000).astype(np.int16) - (700 if signed else 0)
    kind = np.int16 if signed else np.uint16
    stored = voxels.astype(kind)
    if bits == 12:
        stored = ((stored.view(np.uint16) & 0x0FFF) | 0x5000).view(kind)  # an overlay in bits 12 to 15
    write_series(tmp_path, stored, BitsStored=bits, HighBit=bits - 1)
    array = read_image(tmp_path)[0].array
    np.testing.assert_array_equal(array, voxels)
    assert array.dtype == (np.int16 if signed or bits == 12 else np.int32)


@pytest.mark.parametrize("syntax", [RLELossless, DeflatedExplicitVRLittleEndian, JPEG2000Lossless])
def test_transfer_syntaxes(tmp_path: Path, syntax: Any) -> None:
    paths = write_series(tmp_path, CT)
    for path in paths:
        if syntax == JPEG2000Lossless:
            image = sitk.ReadImage(str(path))
            writer = sitk.ImageFileWriter()
            writer.SetFileName(str(path))
            writer.KeepOriginalImageUIDOn()
            writer.SetUseCompression(True)
            writer.SetCompressor("JPEG2000")
            before = locale.setlocale(locale.LC_CTYPE)
            writer.Execute(image)
            locale.setlocale(locale.LC_CTYPE, before)  # ITK's writer of DICOM leaves it at C
            continue
        ds = pydicom.dcmread(path)
        if syntax == RLELossless:
            ds.compress(RLELossless)
            ds.save_as(path)
            continue
        ds.file_meta.TransferSyntaxUID = syntax
        ds.save_as(path)
    assert pydicom.dcmread(paths[0]).file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(read_image(tmp_path)[0].array, CT)


@pytest.mark.parametrize("kind", ["int16", "uint16", "uint8"])
def test_big_endian(tmp_path: Path, kind: str) -> None:
    expected = np.abs(CT).astype(kind) if kind[0] == "u" else CT
    paths = write_series(tmp_path, expected)
    for path in paths:
        ds = pydicom.dcmread(path)
        ds.PixelData = ds.pixel_array.astype(ds.pixel_array.dtype.newbyteorder(">")).tobytes()
        ds.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        list(ds)  # decoded, so that the header's values are written in that order too
        pydicom.dcmwrite(path, ds, implicit_vr=False, little_endian=False, force_encoding=True)
    array = read_image(tmp_path)[0].array
    assert array.dtype.isnative
    np.testing.assert_array_equal(array, expected)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(by_itk(paths)), expected)


def test_enhanced_multi_frame_with_its_frames_in_any_order(tmp_path: Path) -> None:
    write_series(tmp_path / "ct", CT, origin=(1, 2, 3))
    expected = read_image(tmp_path / "ct")[0]
    enhanced(tmp_path / "ct", [3, 0, 4, 1, 2])
    volume, digest = read_image(tmp_path / "ct")
    assert volume.geometry == expected.geometry
    np.testing.assert_array_equal(volume.array, CT + np.arange(5)[:, None, None])
    assert digest == file_digest(tmp_path / "ct")


def refused(path: Path) -> str:
    with pytest.raises(ImageError) as caught:
        read_image(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert not [value for value in IDENTIFYING.values() if len(value) > 1 and value in message]
    return message


PLACES = [[0.0, 0.0, 2.0 * z] for z in range(5)]
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "twice": ({"ImagePositionPatient": (*PLACES[:4], PLACES[3])}, "1 of its 5 slices lie where another one does"),
    "missing": ({"ImagePositionPatient": (*PLACES[:4], [0, 0, 12.0])}, "2 slice(s) are missing: between slice0002.dcm"),
    "uneven": ({"ImagePositionPatient": (*PLACES[:4], [0, 0, 8.7])}, "are spaced unevenly, by 2 to 2.7 mm"),
    "tilted": (
        {"ImagePositionPatient": tuple([0, 0.3 * z, 2.0 * z] for z in range(5))},
        "shifted sideways by up to 1.2 mm (a tilted gantry?)",
    ),
    "orientations": (
        {"ImageOrientationPatient": ([1, 0, 0, 0, 1, 0],) * 4 + ([0, 1, 0, 1, 0, 0],)},
        "its slices differ in orientation: (0, 1, 0, 1, 0, 0) in slice0001.dcm",
    ),
    "spacings": ({"PixelSpacing": ([1, 1],) * 4 + ([1, 1.1],)}, "differ in PixelSpacing: (1, 1.1) mm in slice0001.dcm"),
    "zero spacing": ({"PixelSpacing": [0, 1]}, "its PixelSpacing is 0, 1 mm"),
    "no position": ({"ImagePositionPatient": None}, "its ImagePositionPatient is missing"),
    "skewed": ({"ImageOrientationPatient": [1, 0, 0, 1, 1, 0]}, "not two unit vectors at a right angle"),
    "localizer": (
        {"ImageType": (["ORIGINAL", "PRIMARY", "LOCALIZER"],) + (["ORIGINAL", "PRIMARY", "AXIAL"],) * 4},
        "1 of its 5 files are localizers",
    ),
    "colour": ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, "its pixels are RGB, 3 numbers each"),
    "slope": ({"RescaleSlope": 0}, "its RescaleSlope is 0"),
    "dose": ({"Modality": "RTDOSE"}, "the folder holds no image, but RTDOSE"),
    "memory": ({"Rows": 65535, "Columns": 65535}, "it is truncated"),
}


@pytest.mark.parametrize("name", WRONG)
def test_refused(tmp_path: Path, name: str) -> None:
    tags, says = WRONG[name]
    write_series(tmp_path, CT, **tags)
    assert says in refused(tmp_path)


def test_more_than_the_memory_is_refused_before_it_is_allocated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_series(tmp_path, CT)
    monkeypatch.setattr(series_module, "memory_problems", lambda count: [f"{count} bytes"])
    assert f"{CT.nbytes} bytes" in refused(tmp_path)


def test_several_series_are_listed_and_one_file_chooses(tmp_path: Path) -> None:
    first = write_series(tmp_path, CT, prefix="a", SeriesNumber=2)
    second = write_series(tmp_path, CT + 1, prefix="b", SeriesNumber=7, AcquisitionNumber=4)
    message = refused(tmp_path)
    assert "holds 2 series; give one file of that which is meant: " in message
    assert "series 2 (CT, 5 slices, acquisition 1): a0001.dcm; series 7 (CT, 5 slices, acquisition 4): b0001" in message
    np.testing.assert_array_equal(read_image(first[3])[0].array, CT)
    np.testing.assert_array_equal(read_image(second[0])[0].array, CT + 1)


def test_acquisitions_of_the_same_place_are_listed_and_one_file_chooses(tmp_path: Path) -> None:
    uid = generate_uid()
    write_series(tmp_path, CT, prefix="a", SeriesInstanceUID=uid)
    second = write_series(tmp_path, CT + 1, prefix="b", SeriesInstanceUID=uid, AcquisitionNumber=2)
    assert "holds 2 acquisitions of the same place" in refused(tmp_path)
    np.testing.assert_array_equal(read_image(second[0])[0].array, CT + 1)


def test_acquisitions_one_after_the_other_are_one_volume(tmp_path: Path) -> None:
    write_series(tmp_path, CT, AcquisitionNumber=(1, 1, 2, 2, 3))
    np.testing.assert_array_equal(read_image(tmp_path)[0].array, CT)


def test_other_files_of_the_folder_are_left_alone(tmp_path: Path) -> None:
    write_series(tmp_path, CT)
    for name in ("DICOMDIR", "notes.txt", "._slice0001.dcm", "empty"):
        (tmp_path / name).write_text("a note" * (name != "empty"))
    write_series(tmp_path / "deeper", CT)
    np.testing.assert_array_equal(read_image(tmp_path)[0].array, CT)


@pytest.mark.parametrize(
    "content", [b"", b"a note", b"\0" * 128 + b"DICM", b"\0" * 128 + b"DICM" + b"\x02\0\0\0\xff" * 9]
)
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    write_series(tmp_path, CT)
    (tmp_path / "slice0002.dcm").write_bytes(content)
    assert "slice0002.dcm: " in refused(tmp_path)


def test_truncated_files_are_named(tmp_path: Path) -> None:
    path = write_series(tmp_path, CT)[1]
    path.write_bytes(path.read_bytes()[:-20])
    assert f"{path.name}: it is truncated: its header claims 144 bytes of voxels, it holds 124" in refused(tmp_path)


def test_damaged_compressed_pixels_are_found_in_slices_that_no_box_needs(tmp_path: Path) -> None:
    paths = write_series(tmp_path, CT)
    for path in paths:
        ds = pydicom.dcmread(path)
        ds.compress(RLELossless)
        ds.save_as(path)
    paths[4].write_bytes(paths[4].read_bytes()[:-60])
    image = open_image(tmp_path)
    with pytest.raises(ImageError, match=f"{paths[4].name}: its pixels"):
        read_parts(image, [((0, 0, 0), (1, 1, 1))], entire=True)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="the file is missing"):
        open_image(tmp_path / "nowhere")
    assert "holds no DICOM file" in refused(tmp_path)


def test_check_lists_what_headers_show(tmp_path: Path) -> None:
    write_series(tmp_path / "good", CT)
    write_series(tmp_path / "bad", CT, **WRONG["missing"][0])
    mask = sitk.GetImageFromArray(np.ones(CT.shape, np.uint8))
    mask.SetSpacing((1, 1, 2))
    sitk.WriteImage(mask, str(tmp_path / "mask.nrrd"))
    (tmp_path / "cohort.csv").write_text("patient,image,mask\nP1,good,mask.nrrd\nP2,bad,mask.nrrd\n")
    (problem,) = check_cohort(read_manifest(tmp_path / "cohort.csv"))
    assert (problem.lesion, problem.file, problem.stage) == ("P2", "bad", "read")
    assert problem.problem.startswith("2 slice(s) are missing")


def test_pydicom_waits_for_the_first_dicom_file() -> None:
    code = "import sys, hgpscale.cohort; assert not {'pydicom', 'highdicom'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
