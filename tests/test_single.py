"""One lesion in this process: files and SimpleITK images give the same, and no more is read than is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from hgpscale.cohort import read_image, read_mask
from hgpscale.errors import GeometryError, ImageError, MaskError, VoxelError
from hgpscale.prepare.cut import plan, take
from hgpscale.prepare.scan import scan_statistics
from hgpscale.settings import Settings
from hgpscale.single import cut_lesion, extract_lesion

SHAPE = (8, 20, 24)
SPACING = (0.8, 0.9, 2.5)
Array = np.ndarray[Any, Any]


def write(path: Path, voxels: Array, **changes: Any) -> Path:
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing(changes.get("spacing", SPACING))
    image.SetOrigin(changes.get("origin", (-10.0, -20.0, 30.0)))
    sitk.WriteImage(image, str(path))
    return path


def ct() -> Array:
    return np.random.default_rng(0).normal(60, 20, SHAPE).astype(np.int16)


def box(value: int = 1) -> Array:
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:6, 4:14, 5:17] = value
    return mask


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write(tmp_path / "ct.nii.gz", ct())


CHOICES = {
    "stored": Settings(),
    "resampled": Settings(resampledPixelSpacing=(1, 1, 1)),
    "normalised": Settings(normalize=True),
    "with the scan's peak": Settings(image_types={"Square": {}}),
}


@pytest.mark.parametrize("settings", CHOICES.values(), ids=CHOICES)
@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_a_cut_is_what_it_would_be_of_the_whole(tmp_path: Path, ending: str, settings: Settings) -> None:
    image, mask = write(tmp_path / f"ct{ending}", ct()), write(tmp_path / f"mask{ending}", box(2))
    whole, labels = read_image(image)[0], read_mask(mask)[0]
    expected = take(whole, plan(whole.geometry, labels, 2, settings), scan_statistics(whole.array, settings))
    loaded = sitk.ReadImage(str(image)), sitk.ReadImage(str(mask))
    for found in (cut_lesion(image, mask, None, settings), cut_lesion(*loaded, 2, settings)):
        np.testing.assert_array_equal(found.image.array, expected.image.array)
        assert found.image.box == expected.image.box
        assert found.scan == expected.scan
        np.testing.assert_array_equal(found.plan.roi.array, expected.plan.roi.array)
        assert found.plan._replace(roi=expected.plan.roi) == expected.plan


def test_a_cut_keeps_no_part_of_a_simpleitk_image_alive() -> None:
    """Views of its voxels would be of freed memory once the image is gone."""
    image, mask = sitk.GetImageFromArray(ct()), sitk.GetImageFromArray(box())
    found = cut_lesion(image, mask, None, Settings())
    assert found.image.array.base is None
    image[6, 5, 3] = 12345
    assert found.image.array.max() < 12345


def test_damage_behind_the_lesion_is_not_looked_for(image: Path, tmp_path: Path) -> None:
    mask = write(tmp_path / "mask.nii.gz", box())
    expected = extract_lesion(image, mask)
    content = image.read_bytes()
    image.write_bytes(content[:-8] + bytes(4) + content[-4:])
    assert extract_lesion(image, mask) == expected
    with pytest.raises(ImageError, match="its compressed voxels are damaged"):
        extract_lesion(image, mask, {"setting": {"normalize": True}})


def test_the_label_channel_of_an_image_in_memory() -> None:
    other = np.roll(box(), 3, axis=2)
    layers = sitk.Compose(sitk.GetImageFromArray(box()), sitk.GetImageFromArray(other))
    loaded = sitk.GetImageFromArray(ct())
    found = extract_lesion(loaded, layers, {"setting": {"label_channel": 1}})
    assert found == extract_lesion(loaded, sitk.GetImageFromArray(other))
    with pytest.raises(MaskError, match="mask: label_channel is 2, but the mask has 2 values a voxel, 0 to 1"):
        extract_lesion(loaded, layers, {"setting": {"label_channel": 2}})
    with pytest.raises(ImageError, match="the image must be a 3D image with one value a voxel, found 3D with 2"):
        extract_lesion(layers, layers)


@pytest.mark.parametrize(
    ("mask", "says"),
    [
        (np.full(SHAPE, 0.7, np.float32), "the mask is fractional"),
        (np.full(SHAPE, -1, np.int16), "negative labels"),
        (np.full(SHAPE, np.nan, np.float32), "NaN"),
    ],
)
def test_masks_in_memory_are_checked_as_those_in_files(mask: Array, says: str) -> None:
    with pytest.raises(ImageError, match=says):
        extract_lesion(sitk.GetImageFromArray(ct()), sitk.GetImageFromArray(mask))


def test_extract_lesion_from_paths_images_and_parameters(image: Path, tmp_path: Path) -> None:
    mask = write(tmp_path / "mask.nii.gz", box(2))
    from_paths = extract_lesion(image, str(mask), {"setting": {"binWidth": 10}})
    loaded = sitk.ReadImage(str(image)), sitk.ReadImage(str(mask))
    assert from_paths == extract_lesion(*loaded, Settings(binWidth=10), label=2)
    assert len(from_paths) == 107


def test_extract_lesion_raises(image: Path, tmp_path: Path) -> None:
    mask = write(tmp_path / "mask.nii.gz", box())
    with pytest.raises(MaskError, match=r"mask.nii.gz: label 9 is not in the mask"):
        extract_lesion(image, mask, label=9)
    with pytest.raises(GeometryError, match=r"spacing is"):
        extract_lesion(image, write(tmp_path / "other.nii.gz", box(), spacing=(1, 1, 1)))
    with pytest.raises(ImageError, match=r"nowhere.nii.gz"):
        extract_lesion(tmp_path / "nowhere.nii.gz", mask)
    with pytest.raises(ImageError, match=r"must be a 3D image"):
        extract_lesion(sitk.Image(4, 4, sitk.sitkInt16), sitk.ReadImage(str(mask)))
    broken = sitk.GetImageFromArray(np.full(SHAPE, np.nan, np.float32))
    with pytest.raises(VoxelError, match=r"image: 480 of the region.s 480 voxels are NaN or infinite"):
        extract_lesion(broken, sitk.GetImageFromArray(box()))


def test_extract_lesion_warns_where_a_family_has_no_values(image: Path, tmp_path: Path) -> None:
    corners = np.zeros(SHAPE, np.uint8)
    corners[0, 0, 0] = corners[2, 5, 9] = corners[7, 19, 23] = 1
    mask = write(tmp_path / "mask.nii.gz", corners)
    with pytest.warns(UserWarning, match="glcm has no values: features: no two voxels"):
        found = extract_lesion(image, mask, {"featureClass": {"glcm": ["Contrast"]}})
    assert np.isnan(found["original_glcm_Contrast"])
