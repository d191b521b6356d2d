"""What becomes of public DICOM samples, as a Markdown table: a line each, read or refused and why.

Run it on the folder of real data that the tests use::

    python benchmarks/dicom_samples.py ../shared/data
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from hgpscale.cohort import list_segments, open_image, read_image, read_outlines
from hgpscale.errors import HgpscaleError
from hgpscale.volume import Geometry

Outcome = tuple[str, str]

# Masks, and the image that each was drawn on.
MASKS = {
    "dicom_seg/dcmqi/data/segmentations/liver.dcm": "dicom_seg/dcmqi/data/segmentations/ct-3slice",
    "dicom_seg/dcmqi/data/segmentations/partial_overlaps.dcm": "",
    "dicom_seg/dcmqi/data/segmentations/sparse-labelmap-noppv.dcm": "dicom_seg/dcmqi/data/segmentations/24x38x3/image",
    "dicom_seg/dcmqi/data/segmentations/sparse-labelmap-ppv5.dcm": "dicom_seg/dcmqi/data/segmentations/24x38x3/image",
    "dicom_seg/dcmqi/data/segmentations/24x38x3/seg/label.seg": "dicom_seg/dcmqi/data/segmentations/24x38x3/image",
    "dicom_seg/dcmqi/data/segmentations/23x38x3/seg/label.seg": "dicom_seg/dcmqi/data/segmentations/23x38x3/image",
    "dicom_seg/highdicom/data/test_files/seg_image_ct_binary.dcm": "",
    "dicom_seg/highdicom/data/test_files/seg_image_ct_binary_fractional.dcm": "",
    "dicom_seg/highdicom/data/test_files/seg_image_ct_binary_overlap.dcm": "",
    "dicom_seg/highdicom/data/test_files/seg_image_ct_binary_single_frame.dcm": (
        "dicom_seg/highdicom/data/test_files/ct_image.dcm"
    ),
    "dicom_seg/highdicom/data/test_files/seg_image_ct_true_fractional.dcm": "",
    "dicom_rtstruct/rt-utils/tests/mock_data/rt.dcm": "dicom_rtstruct/rt-utils/tests/mock_data",
    "dicom_rtstruct/rt-utils/tests/mock_data/invalid_reference_rt.dcm": "dicom_rtstruct/rt-utils/tests/mock_data",
    "dicom_rtstruct/rt-utils/tests/mock_data/non_existent_reference_rt.dcm": "dicom_rtstruct/rt-utils/tests/mock_data",
    "dicom_rtstruct/rt-utils/tests/empty/dummy_rt.dcm": "dicom_rtstruct/rt-utils/tests/mock_data",
    "slicer_segnrrd/Segmentation.seg.nrrd": "slicer_segnrrd/CTChest4.nrrd",
    "slicer_segnrrd/SegmentationOverlapping.seg.nrrd": "slicer_segnrrd/CTChest4.nrrd",
    "bad_inputs/pydicom/rtstruct.dcm": "",
    "ibsi1_validation_sts/dicom/STS_008/CT/seg_derived/SEG.dcm": "ibsi1_validation_sts/dicom/STS_008/CT/image",
    "ibsi1_validation_sts/dicom/STS_008/CT/mask/RS.dcm": "ibsi1_validation_sts/dicom/STS_008/CT/image",
}
SERIES = (
    "dicom_seg/dcmqi/data/segmentations/24x38x3/image",
    "dicom_seg/dcmqi/data/segmentations/24x38x3/multiframe",
    "dicom_seg/dcmqi/data/segmentations/23x38x3/image",
    "dicom_seg/dcmqi/data/segmentations/23x38x3/multiframe",
    "dicom_seg/dcmqi/data/segmentations/ct-3slice",
    "dicom_seg/highdicom/data/pydicom_dicomdirtests_CT2/77654033/CT2",
    "dicom_seg/highdicom/data/pydicom_dicomdirtests_CT2/98892001/CT5N",
    "dicom_seg/highdicom/data/pydicom_dicomdirtests_CT2/98892001/CT2N",
    "dicom_seg/highdicom/data/test_files/ct_image.dcm",
    "dicom_rtstruct/rt-utils/tests/mock_data",
    "dicom_rtstruct/rt-utils/tests/oriented_data",
    "dicom_rtstruct/rt-utils/tests/one_slice_data",
    "ibsi1_validation_sts/dicom/STS_008/CT/image",
)
UNPLACED = Geometry((1, 1, 1), (1, 1, 1), (1e6, 1e6, 1e6), (1, 0, 0, 0, 1, 0, 0, 0, 1))
"""For masks without their image: nothing lies on it."""


def outcomes(data: Path) -> Iterator[Outcome]:
    """Yield every sample's path below `data`, and what became of it."""
    for name in SERIES:
        yield name, _told(lambda name=name: _series(data / name))  # type: ignore[misc]
    for folder in sorted({path.parent for path in (data / "bad_inputs" / "dicom2nifti").rglob("*.dcm")}):
        yield folder.relative_to(data).as_posix(), _told(lambda folder=folder: _series(folder))  # type: ignore[misc]
    for folder in ("pydicom", "pydicom-data_enhanced"):
        for path in sorted((data / "bad_inputs" / folder).glob("*.dcm")):
            yield path.relative_to(data).as_posix(), _told(lambda path=path: _alone(path))  # type: ignore[misc]
    for name, image in MASKS.items():
        yield name, _told(lambda name=name, image=image: _mask(data / name, data / image if image else None))  # type: ignore[misc]


def _told(read: Callable[[], str]) -> str:
    try:
        return read()
    except HgpscaleError as error:
        return f"refused ({error.stage}): {str(error).split(': ', 1)[-1]}"


def _series(path: Path) -> str:
    volume, _ = read_image(path)
    size = "x".join(map(str, volume.geometry.size))
    spacing = ", ".join(f"{step:.5g}" for step in volume.geometry.spacing)
    low, high = float(np.min(volume.array)), float(np.max(volume.array))
    return f"read: {size}, ({spacing}) mm, {volume.array.dtype}, {low:g} to {high:g}"


def _alone(path: Path) -> str:
    """Read a file away from those beside it, which are of other series."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        copy.write_bytes(path.read_bytes())
        return _series(copy)


def _mask(path: Path, image: Path | None) -> str:
    segments = list_segments(path)
    outlines = read_outlines(path, open_image(image).geometry if image else UNPLACED)
    counts = []
    for segment in segments:
        try:
            region, _ = outlines.region(str(segment.number), None)
            counts.append(f"{segment.number} {segment.name!r} {np.count_nonzero(region.array)}")
        except HgpscaleError as error:
            counts.append(f"{segment.number} {segment.name!r} refused ({error.stage}): {error}")
    more = f"; and {len(counts) - 8} more" if len(counts) > 8 else ""
    return f"read: {len(segments)} segments, voxels: {'; '.join(counts[:8])}{more}"


def main() -> None:
    """Print the table."""
    print("| sample | outcome |\n|---|---|")
    for name, outcome in outcomes(Path(sys.argv[1])):
        print(f"| {name} | {outcome.replace('|', '/')} |", flush=True)


if __name__ == "__main__":
    main()
