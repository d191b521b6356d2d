"""Writes lesions that were found as masks: a label map, and a DICOM SEG where the scan is a DICOM series."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hgpscale._version import __version__
from hgpscale.cohort import open_image
from hgpscale.cohort.dicom.files import quiet
from hgpscale.cohort.dicom.series import DicomSeries, named
from hgpscale.cohort.images import about
from hgpscale.deep.datasets.layouts import ENDING
from hgpscale.deep.files import write_volume, write_whole
from hgpscale.errors import DeepError, ImageError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

    from hgpscale.deep.answers import FoundLesion, ScanAnswer

NAME = "hgpscale"
_NEEDED = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
    "StudyTime",
)  # fmt: skip
"""What a segmentation has of its series, and may have empty: de-identified series often lack some of it."""
_UIDS = {"SOPClassUID": "MediaStorageSOPClassUID", "SOPInstanceUID": "MediaStorageSOPInstanceUID"}
_REFERRED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID", "FrameOfReferenceUID")
_SEXES = ("M", "F", "O", "")
_SERIES_NUMBER = 1000
"""Behind those that scanners give."""
_LABEL = 64
"""Longest label of a segment."""


def write_label_map(folder: Path, answer: ScanAnswer) -> Path:
    """Write the label map of a scan as ``CASE.nii.gz``, in its own type and on the scan's grid, and return its path.

    Raises
    ------
    DeepError
        It cannot be written.

    """
    path = folder / f"{answer.case}{ENDING}"
    write_volume(path, answer.labels)
    return path


def write_seg(folder: Path, answer: ScanAnswer) -> Path | None:
    """Write the lesions of a DICOM series as ``CASE.dcm``, a binary DICOM SEG with a segment a lesion.

    It carries who the patient is: DICOM wants a segmentation to have the patient and study of its series, and highdicom
    adds the scanner and institution. Segments are metastases in the liver by their codes, found by an algorithm that is
    named as this package and its version; their label and tracking id is the lesion's id.

    Returns
    -------
    Path or None
        None where the scan is no DICOM, or where nothing was found: a segmentation has one segment or more.

    Raises
    ------
    DeepError
        highdicom is not installed, the label map is not on the series' grid, the series is in several files of several
        slices each, or the file cannot be written.
    ImageError
        The series cannot be read, or its headers lack what a segmentation needs.

    """
    series = open_image(answer.image)
    if not isinstance(series, DicomSeries) or not answer.lesions:
        return None
    if answer.labels.array.shape != series.geometry.size:
        raise DeepError(
            f"{answer.image}: lesions of {answer.case} are on a grid of {answer.labels.array.shape} voxels, the series "
            f"has {series.geometry.size}; predict it anew"
        )
    with about(answer.image):
        sources = _sources(series)
    planes = _numbered(answer)[_order(series)]
    with about(answer.image), quiet("highdicom can make no segmentation of its headers"):
        file = _segmentation(sources, planes, answer.lesions)
        path = folder / f"{answer.case}.dcm"
        write_whole(path, file.save_as)
    return path


def _numbered(answer: ScanAnswer) -> NDArray[np.uint16]:
    """Return the label map with segments in place of lesions: they are numbered from 1 without a gap."""
    table = np.zeros(max(int(answer.labels.array.max()), *(one.number for one in answer.lesions)) + 1, np.uint16)
    table[[lesion.number for lesion in answer.lesions]] = np.arange(1, len(answer.lesions) + 1)
    return np.asarray(table[answer.labels.array])


def _sources(series: DicomSeries) -> list[Dataset]:
    """Return the headers of a series' files in order of position, with all that highdicom looks for."""
    import pydicom

    found = []
    paths = list(dict.fromkeys(frame.path for frame in series.frames))
    if len(paths) > 1 and any(frame.number is not None for frame in series.frames):
        raise DeepError(
            f"{series.path}: it is {len(paths)} files with several slices in some; a DICOM segmentation refers to one "
            "such file, or to files of a slice each"
        )
    for path in paths:
        with named(path), quiet("its DICOM header is damaged"):
            ds = pydicom.dcmread(path, stop_before_pixels=True)
            for name in _NEEDED:
                if name not in ds:
                    setattr(ds, name, "")
            # What some de-identifiers empty still stands in front of the header.
            for name, of_file in _UIDS.items():
                if not ds.get(name) and of_file in ds.file_meta:
                    setattr(ds, name, ds.file_meta[of_file].value)
            if missing := [name for name in _REFERRED if not ds.get(name)]:
                raise ImageError(
                    f"its header has no {' and no '.join(missing)}, by which a segmentation refers to its series"
                )
            if ds.PatientSex not in _SEXES:
                ds.PatientSex = ""
            found.append(ds)
    return found


def _order(series: DicomSeries) -> NDArray[np.int64]:
    """Return which plane belongs to each source: one a file as they are, those of one file in its own order."""
    numbers = [0 if frame.number is None else frame.number for frame in series.frames]
    return np.argsort(numbers, kind="stable")


def _segmentation(sources: Sequence[Dataset], planes: NDArray[np.uint16], lesions: Sequence[FoundLesion]) -> Any:
    try:
        from highdicom import UID, AlgorithmIdentificationSequence
        from highdicom.seg import Segmentation, SegmentDescription
    except ImportError as error:
        raise DeepError("a DICOM segmentation needs highdicom; pip install 'hgpscale[deep]'") from error
    from pydicom.sr.codedict import codes

    algorithm = AlgorithmIdentificationSequence(NAME, codes.DCM.ArtificialIntelligence, __version__)
    segments = [
        SegmentDescription(
            number,
            lesion.lesion.replace("\\", "/")[:_LABEL],  # a backslash parts values in DICOM
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=codes.SCT.NeoplasmSecondary,
            algorithm_type="AUTOMATIC",
            algorithm_identification=algorithm,
            tracking_uid=UID(),
            tracking_id=lesion.lesion,
            anatomic_regions=[codes.SCT.Liver],
        )
        for number, lesion in enumerate(lesions, start=1)
    ]
    file = Segmentation(
        source_images=sources,
        pixel_array=planes,
        segmentation_type="BINARY",
        segment_descriptions=segments,
        series_instance_uid=UID(),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=UID(),
        instance_number=1,
        manufacturer=NAME,
        manufacturer_model_name=NAME,
        software_versions=__version__,
        device_serial_number="0",  # there is none, but DICOM wants one
        series_description="Liver metastases, found by a network",
    )
    # Ids of lesions may have letters that the series' own characters lack.
    file.SpecificCharacterSet = "ISO_IR 192"
    return file
