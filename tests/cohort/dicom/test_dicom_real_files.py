"""Real DICOM files against the NIfTI and NRRD files that say the same."""

from pathlib import Path

import numpy as np
import pytest

from hgpscale.cohort import open_image, read_image, read_mask, read_outlines
from hgpscale.cohort.masks import uncropped

pytestmark = pytest.mark.shared_data


def test_sts_008_is_the_same_as_dicom_and_as_nifti(shared_data: Path) -> None:
    dicom = shared_data / "ibsi1_validation_sts/dicom/STS_008/CT"
    nifti = shared_data / "ibsi1_validation_sts/nifti/STS_008"
    image, _ = read_image(dicom / "image")
    expected, _ = read_image(nifti / "CT_image.nii.gz")
    np.testing.assert_array_equal(image.array, expected.array)
    mask = read_mask(nifti / "CT_mask.nii.gz")[0].array != 0
    for file in ("seg_derived/SEG.dcm", "mask/RS.dcm"):
        region, _ = read_outlines(dicom / file, image.geometry).region("", None)
        np.testing.assert_array_equal(uncropped(region).array != 0, mask)


@pytest.mark.parametrize("name", ["compressed_rle", "compressed_jpegls", "compressed_j2k", "compressed_jpeg"])
def test_every_compression_gives_the_same_voxels(shared_data: Path, name: str) -> None:
    folder = shared_data / "bad_inputs/dicom2nifti/tests/data/generic"
    expected, _ = read_image(folder / "compressed_rle/001")
    np.testing.assert_array_equal(read_image(folder / name / "001")[0].array, expected.array)


def test_liver_of_dcmqi(shared_data: Path) -> None:
    folder = shared_data / "dicom_seg/dcmqi/data/segmentations"
    image = open_image(folder / "ct-3slice").geometry
    region, _ = read_outlines(folder / "liver.dcm", image).region("Liver", None)
    assert region.geometry == image
    assert np.count_nonzero(region.array) == np.count_nonzero(read_mask(folder / "liver_seg.nrrd")[0].array)
