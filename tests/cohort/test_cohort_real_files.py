from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from hgpscale.cohort import read_image, read_mask
from hgpscale.cohort.headers import inspect
from hgpscale.cohort.itk import read_geometry
from hgpscale.errors import ImageError
from hgpscale.volume import Geometry

pytestmark = pytest.mark.shared_data

ENDINGS = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
REFUSED = {
    "bad_inputs/nibabel/example4d.nii.gz": "it is 4D, 128x96x24x2 voxels (x first); expected a 3D image",
    "bad_inputs/nibabel/example_nifti2.nii.gz": "is NIfTI-2, which SimpleITK does not read",
    "bad_inputs/nibabel/row_major.dconn.nii": "is NIfTI-2, which SimpleITK does not read",
    "bad_inputs/pynrrd/BallBinary30x30x30_bz2.nrrd": "its encoding is 'bzip2', expected raw, gzip, text or hex",
    "bad_inputs/pynrrd/BallBinary30x30x30_byteskip_minus_five.nhdr": "'byte skip' is -5, expected 0 or more",
    # the NIfTI header before the voxels is not skipped: SimpleITK reads 352 bytes of it as voxels, in silence
    "bad_inputs/pynrrd/BallBinary30x30x30_nifti.nhdr": "it holds 54352 bytes of voxels, its header claims 54000",
    "bad_inputs/pynrrd/test1d_ascii.nrrd": "it is 1D, 27 voxels (x first); expected a 3D image",
    "bad_inputs/pynrrd/test2d_ascii.nrrd": "it is 2D, 3x9 voxels (x first); expected a 3D image",
    "bad_inputs/pynrrd/test_customFields.nrrd": "it is 1D, 27 voxels (x first); expected a 3D image",
    "bad_inputs/pynrrd/test_simple4d_raw.nrrd": "it is 4D, 1x1x1x1 voxels (x first); expected a 3D image",
    "slicer_segnrrd/SegmentationOverlapping.seg.nrrd": "it has 2 numbers a voxel, expected one",
}


def test_every_real_file_is_read_as_simpleitk_reads_it(shared_data: Path) -> None:
    names = {
        path.relative_to(shared_data).as_posix()
        for path in shared_data.rglob("*")
        if path.name.lower().endswith(ENDINGS)
    }
    assert len(names) > 200
    for name in sorted(names - set(REFUSED)):
        path = shared_data / name
        header = inspect(path)
        volume, _ = read_image(path)
        image = sitk.ReadImage(str(path))
        assert header.problems == (), name
        assert header.size == volume.geometry.size == image.GetSize()[::-1], name
        assert header.spacing == pytest.approx(image.GetSpacing()[::-1], rel=1e-6), name
        assert volume.geometry == Geometry.of(image) == read_geometry(header), name
        np.testing.assert_array_equal(volume.array, sitk.GetArrayViewFromImage(image), err_msg=name)


@pytest.mark.parametrize("name", REFUSED)
def test_malformed_or_unsupported_file_is_refused(shared_data: Path, name: str) -> None:
    with pytest.raises(ImageError) as caught:
        read_image(shared_data / name)
    assert str(caught.value).startswith(f"{shared_data / name}: ")
    assert REFUSED[name] in str(caught.value)


@pytest.mark.parametrize(
    "name", ["", "_gz", "_gz_lineskip", "_gz_byteskip_minus_one", "_byteskip_minus_one", "_byteskip_minus_one_nifti"]
)
def test_all_ways_to_store_the_same_ball(shared_data: Path, name: str) -> None:
    folder = shared_data / "bad_inputs" / "pynrrd"
    (path,) = [p for p in folder.glob(f"BallBinary30x30x30{name}.n*") if p.suffix in (".nrrd", ".nhdr")][:1]
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "BallBinary30x30x30.nii.gz")))
    np.testing.assert_array_equal(read_image(path)[0].array, expected)


@pytest.mark.parametrize(
    "name",
    [
        "pyradiomics/data/lung1_label.nrrd",
        "pyradiomics/data/prostate_phantom_subvolume-label.nrrd",
        "ibsi1_validation_sts/nifti/STS_002/CT_mask.nii.gz",
        "ibsi1/data_sets/ibsi_1_ct_radiomics_phantom/nifti/mask/mask.nii.gz",
        "liver/totalsegmentator/tests/reference_files/example_seg.nii.gz",
        "slicer_segnrrd/Segmentation.seg.nrrd",
    ],
)
def test_real_masks_keep_their_labels(shared_data: Path, name: str) -> None:
    labels = read_mask(shared_data / name)[0].array
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, sitk.GetArrayFromImage(sitk.ReadImage(str(shared_data / name))))
