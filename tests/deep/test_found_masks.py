"""Masks of found lesions, read back by hgpscale's reader and by highdicom's."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
from dicom_files import IDENTIFYING, enhanced, write_series
from found import answer, growth
from numpy.typing import NDArray

from hgpscale._version import __version__
from hgpscale.cohort import list_segments, open_image, read_mask, read_outlines
from hgpscale.cohort.masks import uncropped
from hgpscale.deep.answers import ScanAnswer
from hgpscale.deep.masks import write_label_map, write_seg
from hgpscale.errors import DeepError, ImageError
from hgpscale.testing.cohort import write_volume
from hgpscale.volume import Geometry, Volume, geometry_differences

SHAPE = (6, 10, 11)
CT = np.random.default_rng(1).integers(-100, 200, SHAPE).astype(np.int16)
TURN = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)


def lesions() -> NDArray[np.uint16]:
    labels = np.zeros(SHAPE, np.uint16)
    labels[1:5, 2:9, 1:4] = np.random.default_rng(2).random((4, 7, 3)) > 0.3
    labels[0:3, 4:9, 6:10] = 2 * (np.random.default_rng(3).random((3, 5, 4)) > 0.3)
    labels[5, 0, 0] = 3
    return labels


def found_in(image: Path, labels: NDArray[Any] | None = None) -> ScanAnswer:
    labels = lesions() if labels is None else labels
    growths = [growth(0.5, 0.25)] * int(labels.max(initial=0))
    return answer("P/1", "P-1", image, labels, open_image(image).geometry, growths)


def drawn(path: Path, image: Path, roi: str, label: int | None = None) -> NDArray[np.bool_]:
    grid = open_image(image).geometry
    labels, value = read_outlines(path, grid).region(roi, label)
    assert labels.geometry == grid
    return np.asarray(uncropped(labels).array == value)


@pytest.fixture
def ct(tmp_path: Path) -> Path:
    write_series(tmp_path / "ct", CT, (2, 0.7, 0.6), (5, -20, 30), TURN)
    return tmp_path / "ct"


def test_a_label_map_comes_back(tmp_path: Path) -> None:
    geometry = Geometry(SHAPE, (2.5, 0.7, 0.6), (5.0, -20.0, 30.0), TURN)
    write_volume(Volume(CT, geometry), tmp_path / "ct.nii.gz")
    path = write_label_map(tmp_path / "masks", found_in(tmp_path / "ct.nii.gz"))
    assert path == tmp_path / "masks" / "P-1.nii.gz"
    mask, _ = read_mask(path)
    np.testing.assert_array_equal(mask.array, lesions())
    assert geometry_differences(open_image(tmp_path / "ct.nii.gz").geometry, mask.geometry, 1e-6) == []
    many = lesions()
    many[0, 0, 0] = 300
    mask, _ = read_mask(write_label_map(tmp_path, found_in(tmp_path / "ct.nii.gz", many)))
    np.testing.assert_array_equal(mask.array, many)
    assert write_seg(tmp_path, found_in(tmp_path / "ct.nii.gz")) is None


def test_a_segmentation_comes_back(tmp_path: Path, ct: Path) -> None:
    found = found_in(ct)
    path = write_seg(tmp_path / "masks", found)
    assert path == tmp_path / "masks" / "P-1.dcm"
    for lesion in found.lesions:
        voxels = lesions() == lesion.number
        np.testing.assert_array_equal(drawn(path, ct, lesion.lesion), voxels)
        np.testing.assert_array_equal(drawn(path, ct, "", lesion.number), voxels)
    assert [segment.name for segment in list_segments(path)] == ["P-1-found-1", "P-1-found-2", "P-1-found-3"]


def test_highdicom_reads_what_it_is(tmp_path: Path, ct: Path) -> None:
    path = write_seg(tmp_path, found_in(ct))
    assert path is not None
    seg = highdicom.seg.segread(path)
    assert seg.segmentation_type.value == "BINARY"
    for number, lesion in enumerate(found_in(ct).lesions, start=1):
        segment = seg.get_segment_description(number)
        assert (segment.segment_label, segment.tracking_id) == (lesion.lesion, lesion.lesion)
        assert segment.algorithm_type.value == "AUTOMATIC"
        (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("hgpscale", __version__)
        # SNOMED CT: morphologically abnormal structure; neoplasm, secondary; liver.
        assert segment.segmented_property_category.CodeValue == "49755003"
        assert segment.segmented_property_type.CodeValue == "14799000"
        assert segment.anatomic_regions[0].CodeValue == "10200004"
    assert len({seg.get_segment_description(n).tracking_uid for n in (1, 2, 3)}) == 3
    slices = [pydicom.dcmread(file, stop_before_pixels=True) for file in ct.iterdir()]
    assert (seg.FrameOfReferenceUID, seg.StudyInstanceUID) == (
        slices[0].FrameOfReferenceUID, slices[0].StudyInstanceUID,
    )  # fmt: skip
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == slices[0].SeriesInstanceUID
    assert seg.SeriesInstanceUID != slices[0].SeriesInstanceUID
    # Whose it is, as DICOM has it: docs/predictions.md says so.
    assert {name: str(seg[name].value) for name in ("PatientID", "PatientName", "StudyDate")} == {
        name: IDENTIFYING[name] for name in ("PatientID", "PatientName", "StudyDate")
    }
    # highdicom's own pixels, by the slices that they refer to.
    uids = [ds.SOPInstanceUID for ds in sorted(slices, key=lambda ds: float(ds.ImagePositionPatient[2]))]
    pixels = seg.get_pixels_by_source_instance(
        uids, ignore_spatial_locations=True, assert_missing_frames_are_empty=True
    )
    expected = np.stack([lesions() == n for n in (1, 2, 3)], axis=-1)
    np.testing.assert_array_equal(pixels != 0, expected)


def test_a_multi_frame_series_with_its_frames_in_any_order(tmp_path: Path) -> None:
    write_series(tmp_path / "ct", CT, (2, 0.7, 0.6), (5, -20, 30))
    enhanced(tmp_path / "ct", [3, 0, 4, 1, 2, 5])
    found = found_in(tmp_path / "ct")
    path = write_seg(tmp_path, found)
    assert path is not None
    for lesion in found.lesions:
        np.testing.assert_array_equal(drawn(path, tmp_path / "ct", lesion.lesion), lesions() == lesion.number)


def test_numbers_may_have_gaps(tmp_path: Path, ct: Path) -> None:
    labels = np.where(lesions() == 2, 0, lesions())
    whole = found_in(ct, labels)
    found = ScanAnswer(*(whole.patient, whole.case, ct, whole.labels), (whole.lesions[0], whole.lesions[2]), None)
    path = write_seg(tmp_path, found)
    assert path is not None
    np.testing.assert_array_equal(drawn(path, ct, "P-1-found-3"), labels == 3)
    np.testing.assert_array_equal(drawn(path, ct, "P-1-found-1"), labels == 1)


def test_a_series_that_lacks_who_it_is_of(tmp_path: Path) -> None:
    names = ("PatientID", "PatientName", "PatientBirthDate", "AccessionNumber", "StudyID", "StudyDate")
    gone: dict[str, Any] = dict.fromkeys(names)
    write_series(tmp_path / "ct", CT, **gone, PatientSex="U")
    path = write_seg(tmp_path, found_in(tmp_path / "ct"))
    assert path is not None
    np.testing.assert_array_equal(drawn(path, tmp_path / "ct", "P-1-found-2"), lesions() == 2)
    assert pydicom.dcmread(path).PatientID in ("", None)


def test_identifiers_that_only_stand_in_front_of_the_header(tmp_path: Path, ct: Path) -> None:
    plain = write_seg(tmp_path, found_in(ct))
    assert plain is not None
    expected = [(i.ReferencedSOPClassUID, i.ReferencedSOPInstanceUID) for i in _referred(plain)]
    for path in ct.iterdir():
        ds = pydicom.dcmread(path)
        ds.SOPClassUID = ds.SOPInstanceUID = ""
        ds.save_as(path, enforce_file_format=False)
    emptied = write_seg(tmp_path, found_in(ct))
    assert emptied is not None
    assert [(i.ReferencedSOPClassUID, i.ReferencedSOPInstanceUID) for i in _referred(emptied)] == expected
    for path in ct.iterdir():
        ds = pydicom.dcmread(path)
        ds.StudyInstanceUID = ""
        ds.save_as(path, enforce_file_format=False)
    with pytest.raises(ImageError, match="its header has no StudyInstanceUID"):
        write_seg(tmp_path, found_in(ct))


def _referred(path: Path) -> list[Any]:
    (series,) = pydicom.dcmread(path).ReferencedSeriesSequence
    return list(series.ReferencedInstanceSequence)


def test_names_in_any_letters(tmp_path: Path) -> None:
    write_series(tmp_path / "ct", CT, SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Käthe")
    grid = open_image(tmp_path / "ct").geometry
    found = answer("患者", "Łódź", tmp_path / "ct", lesions() == 1, grid, [None])
    path = write_seg(tmp_path, found)
    assert path is not None
    assert pydicom.dcmread(path).PatientName == "Müller^Käthe"
    np.testing.assert_array_equal(drawn(path, tmp_path / "ct", "Łódź-found-1"), lesions() == 1)
    long = answer("P", "P" * 90, tmp_path / "ct", lesions() == 1, grid, [None])
    path = write_seg(tmp_path, long)
    assert path is not None
    assert pydicom.dcmread(path).SegmentSequence[0].TrackingID == "P" * 90 + "-found-1"
    np.testing.assert_array_equal(drawn(path, tmp_path / "ct", "P" * 64), lesions() == 1)


def test_where_nothing_was_found_there_is_no_segmentation(tmp_path: Path, ct: Path) -> None:
    empty = found_in(ct, np.zeros(SHAPE, np.uint16))
    assert write_seg(tmp_path, empty) is None
    assert not read_mask(write_label_map(tmp_path, empty))[0].array.any()


def test_what_cannot_be_written_is_told(tmp_path: Path, ct: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = found_in(ct)
    other = Geometry((5, 10, 11), (1, 1, 1), (0, 0, 0), TURN)
    with pytest.raises(DeepError, match=r"ct: lesions of P-1 are on a grid of \(5, 10, 11\) voxels, the series has"):
        write_seg(tmp_path, answer("P", "P-1", ct, lesions()[:5], other, [None]))
    (tmp_path / "file").touch()
    with pytest.raises(DeepError, match=r"file.P-1\.dcm: cannot be written"):
        write_seg(tmp_path / "file", found)
    write_series(tmp_path / "no study", CT, StudyInstanceUID=None)
    with pytest.raises(ImageError, match=r"no study: .*its header has no StudyInstanceUID, by which"):
        write_seg(tmp_path, found_in(tmp_path / "no study"))
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(DeepError, match=r"needs highdicom; pip install 'hgpscale\[deep\]'"):
        write_seg(tmp_path, found)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ct", "file", "no study"]
