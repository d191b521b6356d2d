"""Small DICOM series, segmentations and structure sets: written by pydicom and highdicom, not by hgpscale."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from highdicom.seg import Segmentation, SegmentDescription
from highdicom.sr.coding import CodedConcept
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    RTStructureSetStorage,
    generate_uid,
)

Array = np.ndarray[Any, Any]
Source = Path | Sequence[Dataset]

IDENTIFYING = {
    "PatientName": "Planted^Name",
    "PatientID": "PLANTED-ID",
    "PatientBirthDate": "19501231",
    "PatientSex": "O",
    "AccessionNumber": "PLANTED-ACC",
    "InstitutionName": "Planted Hospital",
    "ReferringPhysicianName": "Planted^Physician",
    "StudyDate": "20011231",
    "StudyTime": "235959",
    "StudyID": "PLANTED-S",
    "StudyDescription": "Planted study",
}
"""What every file written here says about its patient: nothing of it may come out anywhere."""


def write_series(
    folder: Path,
    array: Array,
    spacing: tuple[float, float, float] = (2.0, 1.0, 1.0),
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0),
    direction: Sequence[float] = (1, 0, 0, 0, 1, 0, 0, 0, 1),
    *,
    prefix: str = "slice",
    **tags: Any,
) -> list[Path]:
    """Write a series, one file a slice, and return the files in order of position.

    Parameters
    ----------
    folder
        Made where it is missing.
    array
        Stored voxels ``(z, y, x)``, int16 or uint16; what they mean is ``RescaleSlope`` and ``RescaleIntercept``.
    spacing, origin, direction
        The grid, as of `hgpscale.volume.Geometry`.
    prefix
        Start of the files' names, which are not in order of position.
    tags
        DICOM attributes by keyword, for all slices. A list of as many values as there are slices, in a tuple, is one
        value a slice: ``RescaleSlope=(1, 2, 3)``. A callable gets the slice's number.

    """
    folder.mkdir(parents=True, exist_ok=True)
    dz, dy, dx = spacing
    matrix = np.reshape(direction, (3, 3))
    series, study, frame = generate_uid(), generate_uid(), generate_uid()
    paths = []
    for z, plane in enumerate(array):
        ds = new_dataset(CTImageStorage)
        ds.update(
            {
                "Modality": "CT",
                "StudyInstanceUID": study,
                "SeriesInstanceUID": series,
                "FrameOfReferenceUID": frame,
                "SeriesNumber": 3,
                "AcquisitionNumber": 1,
                "InstanceNumber": z + 1,
                "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
                "PixelSpacing": [dy, dx],
                "SliceThickness": dz,
                "ImageOrientationPatient": [float(f"{v:.12g}"[:16]) for v in (*matrix[:, 0], *matrix[:, 1])],
                "ImagePositionPatient": [float(f"{v:.12g}"[:16]) for v in np.asarray(origin) + matrix[:, 2] * dz * z],
                "RescaleSlope": 1,
                "RescaleIntercept": 0,
                "RescaleType": "HU",
                "SamplesPerPixel": 1,
                "PhotometricInterpretation": "MONOCHROME2",
                "Rows": plane.shape[0],
                "Columns": plane.shape[1],
                "BitsAllocated": plane.dtype.itemsize * 8,
                "BitsStored": plane.dtype.itemsize * 8,
                "HighBit": plane.dtype.itemsize * 8 - 1,
                "PixelRepresentation": int(plane.dtype.kind == "i"),
                "PositionReferenceIndicator": "",
            }
        )
        for name, value in tags.items():
            own = value(z) if callable(value) else value[z] if isinstance(value, tuple) else value
            if own is None:
                delattr(ds, name)
            else:
                setattr(ds, name, own)
        data = plane.tobytes()
        ds.PixelData = data + b"\0" * (len(data) % 2)
        ds["PixelData"].VR = "OW" if plane.dtype.itemsize > 1 else "OB"
        # A name's order says nothing: the last slice comes first.
        paths.append(folder / f"{prefix}{len(array) - z:04d}.dcm")
        ds.save_as(paths[-1], enforce_file_format=True)
    return paths


def enhanced(path: Path, order: list[int]) -> None:
    """Make one multi-frame file of a series' slices, in some order."""
    slices = [pydicom.dcmread(p) for p in sorted(path.iterdir(), reverse=True)]
    shutil.rmtree(path)
    path.mkdir()
    ds = slices[0]
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    ds.NumberOfFrames = len(order)
    ds.PixelData = b"".join(slices[z].PixelData for z in order)
    shared, groups = pydicom.Dataset(), []
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [pydicom.Dataset()], [pydicom.Dataset()]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = ds.ImageOrientationPatient
    shared.PixelMeasuresSequence[0].PixelSpacing = ds.PixelSpacing
    for z in order:
        own = pydicom.Dataset()
        own.PlanePositionSequence, own.PixelValueTransformationSequence = [pydicom.Dataset()], [pydicom.Dataset()]
        own.PlanePositionSequence[0].ImagePositionPatient = slices[z].ImagePositionPatient
        own.PixelValueTransformationSequence[0].RescaleSlope = 1
        own.PixelValueTransformationSequence[0].RescaleIntercept = z
        groups.append(own)
    ds.SharedFunctionalGroupsSequence, ds.PerFrameFunctionalGroupsSequence = [shared], groups
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept"):
        delattr(ds, name)
    ds.save_as(path / "enhanced.dcm")


def new_dataset(kind: str) -> FileDataset:
    """Return a dataset of a SOP class that is ready to be saved, with `IDENTIFYING` in it."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = kind
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    for name, value in IDENTIFYING.items():
        setattr(ds, name, value)
    ds.SOPClassUID, ds.SOPInstanceUID = kind, meta.MediaStorageSOPInstanceUID
    return ds


def datasets(source: Source) -> list[Dataset]:
    """Return the datasets of a folder, in order of position along z of the patient or of `InstanceNumber`."""
    if not isinstance(source, Path):
        return list(source)
    found = [pydicom.dcmread(path) for path in sorted(source.iterdir())]
    return sorted((ds for ds in found if "ImagePositionPatient" in ds), key=lambda ds: int(ds.InstanceNumber))


def write_seg(
    path: Path,
    source: Source,
    masks: Mapping[str, Array],
    kind: str = "BINARY",
    *,
    omit_empty_frames: bool = True,
) -> Path:
    """Write a DICOM SEG with highdicom.

    Parameters
    ----------
    path
        File to write.
    source
        Folder of the series that was outlined, or its datasets in order of position.
    masks
        Segments by name: bool ``(z, y, x)``, or fractions 0 to 1 for kind ``FRACTIONAL``; they may overlap, unless the
        kind is ``LABELMAP``.
    kind
        ``BINARY``, ``FRACTIONAL`` or ``LABELMAP``.
    omit_empty_frames
        Whether slices without a segment have no frame.

    """
    images = datasets(source)
    code = CodedConcept("4147007", "SCT", "Mass")
    descriptions = [
        SegmentDescription(
            number,
            name,
            segmented_property_category=CodedConcept("49755003", "SCT", "Morphologically Altered Structure"),
            segmented_property_type=code,
            algorithm_type="MANUAL",
        )
        for number, name in enumerate(masks, start=1)
    ]
    arrays = list(masks.values())
    voxels = np.stack(arrays, axis=-1)
    voxels = voxels.astype(np.float32) if kind == "FRACTIONAL" else voxels.astype(np.uint8)
    if kind == "LABELMAP":
        voxels = np.max([n * (a != 0).astype(np.uint8) for n, a in enumerate(arrays, start=1)], axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seg = Segmentation(
            source_images=images,
            pixel_array=voxels,
            segmentation_type=kind,
            segment_descriptions=descriptions,
            series_instance_uid=generate_uid(),
            series_number=100,
            sop_instance_uid=generate_uid(),
            instance_number=1,
            manufacturer="none",
            manufacturer_model_name="none",
            software_versions="0",
            device_serial_number="0",
            omit_empty_frames=omit_empty_frames,
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    seg.save_as(path)
    return path


def write_rtstruct(
    path: Path,
    source: Source,
    contours: Mapping[str, Iterable[Array | tuple[str, Array]]],
    *,
    frame: str | None = None,
    series: str | None = None,
) -> Path:
    """Write an RTSTRUCT.

    Parameters
    ----------
    path
        File to write.
    source
        Folder of the series that was outlined, or its datasets.
    contours
        By the name of the ROI: points ``(n, 3)``, ``(x, y, z)`` in mm, a closed planar contour each; or such with
        the contour's type before it, ``("POINT", points)``.
    frame, series
        Frame of reference and series that the file says it belongs to, where not the source's.

    """
    images = datasets(source)
    first = images[0]
    ds = new_dataset(RTStructureSetStorage)
    ds.Modality = "RTSTRUCT"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = first.StudyInstanceUID, generate_uid()
    ds.StructureSetLabel = "outlines"
    used = frame or first.FrameOfReferenceUID
    referenced = Dataset()
    referenced.SeriesInstanceUID = series or first.SeriesInstanceUID
    referenced.ContourImageSequence = [_reference(image) for image in images]
    study = Dataset()
    study.ReferencedSOPClassUID = "1.2.840.10008.3.1.2.3.1"
    study.ReferencedSOPInstanceUID = first.StudyInstanceUID
    study.RTReferencedSeriesSequence = [referenced]
    place = Dataset()
    place.FrameOfReferenceUID = used
    place.RTReferencedStudySequence = [study]
    ds.ReferencedFrameOfReferenceSequence = [place]
    ds.StructureSetROISequence, ds.ROIContourSequence = [], []
    for number, (name, outlines) in enumerate(contours.items(), start=1):
        roi = Dataset()
        roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = number, name, used
        ds.StructureSetROISequence.append(roi)
        shape = Dataset()
        shape.ReferencedROINumber = number
        shape.ContourSequence = []
        for outline in outlines:
            form, points = outline if isinstance(outline, tuple) else ("CLOSED_PLANAR", outline)
            contour = Dataset()
            contour.ContourGeometricType = form
            contour.NumberOfContourPoints = len(points)
            contour.ContourData = [f"{value:.10g}" for value in np.ravel(points)]
            shape.ContourSequence.append(contour)
        ds.ROIContourSequence.append(shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path


def _reference(image: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    return item
