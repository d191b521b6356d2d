"""Real DICOM and ``.seg.nrrd`` files, voxel by voxel, against what other programs read or wrote of them."""

import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from skimage.draw import polygon2mask

from hgpscale.cohort import list_segments, open_image, read_image, read_outlines
from hgpscale.cohort.masks import uncropped
from hgpscale.volume import Geometry

pytestmark = pytest.mark.shared_data
Array = np.ndarray[Any, Any]
DCMQI = "dicom_seg/dcmqi/data/segmentations"
SLICER = "slicer_segnrrd"


def region(path: Path, image: Geometry, roi: str) -> Array:
    found, value = read_outlines(path, image).region(roi, None)
    assert found.geometry == image
    array: Array = uncropped(found).array == value
    return array


def same_grid(ours: Geometry, theirs: sitk.Image, tolerance: float = 1e-5) -> None:
    assert ours.size[::-1] == theirs.GetSize()
    np.testing.assert_allclose(ours.spacing[::-1], theirs.GetSpacing(), atol=tolerance)
    np.testing.assert_allclose(ours.origin, theirs.GetOrigin(), atol=tolerance)
    np.testing.assert_allclose(ours.direction, theirs.GetDirection(), atol=tolerance)


@pytest.mark.parametrize(
    ("mask", "image", "label_map", "roi", "value"),
    [
        ("liver.dcm", "ct-3slice", "liver_seg.nrrd", "Liver", 1),
        ("partial_overlaps.dcm", "ct-3slice", "partial_overlaps-1.nrrd", "GREEN", 1),
        ("partial_overlaps.dcm", "ct-3slice", "partial_overlaps-2.nrrd", "ORANGE", 2),
        ("partial_overlaps.dcm", "ct-3slice", "partial_overlaps-3.nrrd", "PURPLE", 3),
        ("partial_overlaps.dcm", "ct-3slice", "partial_overlaps-1.nrrd", "LIGHT_BLUE", 4),
        ("partial_overlaps.dcm", "ct-3slice", "partial_overlaps-1.nrrd", "DARK_BLUE", 5),
        ("sparse-labelmap-noppv.dcm", "24x38x3/image", "sparse_labelmap_noppv_seg.nrrd", "Liver", 1),
        ("sparse-labelmap-ppv5.dcm", "24x38x3/image", "sparse_labelmap_ppv5_seg.nrrd", "Liver", 1),
        ("24x38x3/seg/label.seg", "24x38x3/image", "24x38x3/nrrd/label.nrrd", "Liver", 1),
        ("23x38x3/seg/label.seg", "23x38x3/image", "23x38x3/nrrd/label.nrrd", "Liver", 1),
    ],
)
def test_segmentations_of_dcmqi_are_its_label_maps(
    shared_data: Path, mask: str, image: str, label_map: str, roi: str, value: int
) -> None:
    folder = shared_data / DCMQI
    grid = open_image(folder / image).geometry
    expected = sitk.ReadImage(str(folder / label_map))
    same_grid(grid, expected)
    np.testing.assert_array_equal(region(folder / mask, grid, roi), sitk.GetArrayFromImage(expected) == value)


@pytest.mark.parametrize("name", ["23x38x3", "24x38x3"])
def test_slices_and_the_frames_of_one_file_are_the_same_image(shared_data: Path, name: str) -> None:
    folder = shared_data / DCMQI / name
    slices, frames = read_image(folder / "image")[0], read_image(folder / "multiframe")[0]
    expected = by_itk(folder / "image")
    same_grid(slices.geometry, expected)
    same_grid(frames.geometry, expected)
    np.testing.assert_array_equal(slices.array, sitk.GetArrayFromImage(expected))
    np.testing.assert_array_equal(frames.array, slices.array)


@pytest.mark.parametrize(
    "name", ["binary", "binary_fractional", "binary_overlap", "binary_single_frame", "true_fractional"]
)
def test_segmentations_are_those_that_highdicom_reads(shared_data: Path, name: str) -> None:
    path = shared_data / f"dicom_seg/highdicom/data/test_files/seg_image_ct_{name}.dcm"
    source = highdicom.seg.segread(path)
    # highdicom's first axis runs from the top slice down.
    volume = source.get_volume(combine_segments=False).flip_spatial(0)
    position, spacing = [float(v) for v in volume.position], [float(v) for v in volume.spacing]
    turn = tuple(float(v) for v in np.asarray(volume.direction)[:, ::-1].ravel())
    z, y, x = volume.spatial_shape
    grid = Geometry((z, y, x), (spacing[0], spacing[1], spacing[2]), (position[0], position[1], position[2]), turn)
    assert len(list_segments(path)) == volume.array.shape[-1]
    for number, expected in enumerate(np.moveaxis(volume.array, -1, 0), start=1):
        assert expected.any()
        np.testing.assert_array_equal(region(path, grid, str(number)), expected >= 0.5)


@pytest.mark.parametrize("name", ["Segmentation.seg.nrrd", "SegmentationOverlapping.seg.nrrd"])
def test_segments_of_slicer_are_those_that_the_header_names(shared_data: Path, name: str) -> None:
    path = shared_data / SLICER / name
    image = sitk.ReadImage(str(path))
    layers = np.atleast_1d(sitk.GetArrayFromImage(image))
    layers = layers.reshape(*layers.shape[:3], -1)
    header = path.read_bytes().split(b"\n\n")[0].decode()
    keys = dict(re.findall(r"^(Segment\d+_\w+):=(.*)$", header, re.MULTILINE))
    count = len([key for key in keys if key.endswith("_LabelValue")])
    assert [segment.name for segment in list_segments(path)] == [keys[f"Segment{n}_Name"] for n in range(count)]
    grid = Geometry.of(image)
    for n, segment in enumerate(list_segments(path)):
        expected = layers[..., int(keys[f"Segment{n}_Layer"])] == int(keys[f"Segment{n}_LabelValue"])
        assert segment.voxels == np.count_nonzero(expected)
        for roi in (segment.name, str(segment.number)):
            np.testing.assert_array_equal(region(path, grid, roi), expected)


def by_itk(folder: Path) -> sitk.Image:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


@pytest.mark.parametrize(
    "name",
    [
        "dicom_rtstruct/rt-utils/tests/oriented_data",
        "dicom_seg/dcmqi/data/segmentations/ct-3slice",
        *(
            f"bad_inputs/dicom2nifti/tests/data/generic/{kind}"
            for kind in ("compressed_rle/001", "compressed_jpegls/001", "compressed_j2k/001", "compressed_jpeg/001")
        ),
        "bad_inputs/dicom2nifti/tests/data/generic/anatomical/002_non_isotropic",
        "liver/totalsegmentator/tests/reference_files/example_ct_dicom",
    ],
)
def test_series_are_those_that_simpleitk_reads(shared_data: Path, name: str) -> None:
    volume, expected = read_image(shared_data / name)[0], by_itk(shared_data / name)
    same_grid(volume.geometry, expected)
    np.testing.assert_array_equal(volume.array, sitk.GetArrayFromImage(expected))


@pytest.mark.parametrize("name", ["MR_small_bigendian", "MR_small_padded", "CT_small"])
def test_single_files_are_those_that_simpleitk_and_pydicom_read(shared_data: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.dcm"
    shutil.copy(shared_data / "bad_inputs/pydicom" / path.name, path)
    array = read_image(path)[0].array
    assert array.dtype.isnative
    np.testing.assert_array_equal(array, sitk.GetArrayFromImage(sitk.ReadImage(str(path))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of padding behind the pixels
        ds = pydicom.dcmread(path)
        expected = ds.pixel_array.astype(np.int32) + int(ds.get("RescaleIntercept", 0))
    np.testing.assert_array_equal(array[0], expected)


def test_contours_of_rt_utils_are_those_that_scikit_image_fills(shared_data: Path) -> None:
    folder = shared_data / "dicom_rtstruct/rt-utils/tests/mock_data"
    grid = open_image(folder / "ct_1.dcm").geometry
    ds = pydicom.dcmread(folder / "rt.dcm")
    matrix = np.reshape(grid.direction, (3, 3)) * grid.spacing[::-1]
    for roi, shape in zip(ds.StructureSetROISequence, ds.ROIContourSequence, strict=True):
        assert roi.ROINumber == shape.ReferencedROINumber
        expected = np.zeros(grid.size, np.bool_)
        for contour in shape.get("ContourSequence", ()):
            points = np.reshape(contour.ContourData, (-1, 3)).astype(float)
            x, y, z = np.linalg.solve(matrix, (points - grid.origin).T)
            expected[round(z.mean())] ^= polygon2mask(grid.size[1:], np.stack([y, x], axis=1))
        np.testing.assert_array_equal(region(folder / "rt.dcm", grid, str(roi.ROINumber)), expected)
