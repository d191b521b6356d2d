"""Masks: only the box with labels is kept; of several values a voxel, one is chosen."""

import gzip
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from cohort_files import meta_bytes, nifti_bytes, nrrd_bytes, write, zlib_meta_bytes
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from hgpscale.cohort import images, labels_of, open_image, read_image, read_labels, read_mask
from hgpscale.cohort.masks import uncropped
from hgpscale.errors import ImageError, MaskError
from hgpscale.volume import Geometry

ENDINGS = (".nii", ".nii.gz", ".nrrd", ".mha")


SPARSE = arrays(
    st.sampled_from([np.uint8, np.int16, np.uint16, np.int64, np.float32, np.float64]),
    array_shapes(min_dims=3, max_dims=3, max_side=7),
    elements=st.integers(0, 100),
    fill=st.just(0),
)


@given(array=SPARSE, ending=st.sampled_from(ENDINGS), planes=st.integers(1, 7))
def test_the_smallest_box_that_holds_all_labels_is_kept(
    tmp_path_factory: pytest.TempPathFactory, array: np.ndarray, ending: str, planes: int
) -> None:
    mask = sitk.GetImageFromArray(array)
    mask.SetSpacing((0.7, 0.8, 2.0))
    path = tmp_path_factory.mktemp("masks") / f"mask{ending}"
    sitk.WriteImage(mask, str(path))
    used = np.argwhere(array)
    size = (np.ptp(used, axis=0) + 1).tolist() if used.size else [1, 1, 1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "_SLAB", planes * array[0].nbytes)
        read = read_labels(path)[0]
    for labels in (read, labels_of(mask)):
        assert list(labels.array.shape) == size
        np.testing.assert_array_equal(uncropped(labels).array, array)
    np.testing.assert_array_equal(read_mask(path)[0].array, array)
    assert labels_of(mask).geometry == Geometry.of(mask)


def test_the_digest_is_that_of_the_image_reader_and_only_made_if_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path, "mask.nii.gz", nifti_bytes())
    assert read_labels(path)[1] == read_image(path)[1]
    assert read_labels(path, hashed=False)[1] == ""


@pytest.mark.parametrize("hashed", [True, False])
def test_a_mask_is_always_checked_to_its_end(tmp_path: Path, hashed: bool) -> None:
    content = gzip.compress(nifti_bytes())
    path = tmp_path / "mask.nii.gz"
    path.write_bytes(content[:-8] + b"\1\2\3\4" + content[-4:])
    with pytest.raises(ImageError, match=r"mask\.nii\.gz: its compressed voxels are damaged"):
        read_labels(path, hashed=hashed)


LAYERS = np.random.default_rng(0).integers(0, 3, (3, 6, 5, 4)).astype("<i2")  # channel, z, y, x
SIDE_BY_SIDE = np.moveaxis(LAYERS, 0, -1).tobytes()
FIRST: dict[str, Any] = {"dimension": "4", "sizes": "3 4 5 6", "space_directions": "none (1,0,0) (0,2,0) (0,0,3)"}
LAST: dict[str, Any] = {"dimension": "4", "sizes": "4 5 6 3", "space_directions": "(1,0,0) (0,2,0) (0,0,3) none"}
CHANNELS = {
    "list.seg.nrrd": nrrd_bytes(SIDE_BY_SIDE, kinds="list domain domain domain", **FIRST),
    "vector.nrrd": nrrd_bytes(SIDE_BY_SIDE, kinds="vector domain domain domain", **FIRST),
    "gzip.seg.nrrd": nrrd_bytes(
        gzip.compress(SIDE_BY_SIDE), kinds="list domain domain domain", encoding="gzip", **FIRST
    ),
    "hex.nrrd": nrrd_bytes(SIDE_BY_SIDE.hex().encode(), kinds="list domain domain domain", encoding="hex", **FIRST),
    "list_last.nrrd": nrrd_bytes(LAYERS.tobytes(), kinds="domain domain domain list", **LAST),
    "channels.mha": meta_bytes(SIDE_BY_SIDE, ElementNumberOfChannels=3),
    "zlib.mha": zlib_meta_bytes(gzip.compress(SIDE_BY_SIDE), ElementNumberOfChannels=3),
    "vector.nii": nifti_bytes(dim=(5, 4, 5, 6, 1, 3, 1, 1), intent=1007, data=LAYERS.tobytes()),
    "vector.nii.gz": nifti_bytes(dim=(5, 4, 5, 6, 1, 3, 1, 1), intent=1007, data=LAYERS.tobytes()),
}


@pytest.mark.parametrize("name", CHANNELS)
def test_every_channel_is_simpleitks(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, name, CHANNELS[name])
    together = sitk.ReadImage(str(path))
    for channel in range(3):
        expected = sitk.GetArrayFromImage(sitk.VectorIndexSelectionCast(together, channel))
        np.testing.assert_array_equal(expected, LAYERS[channel])
        np.testing.assert_array_equal(read_mask(path, channel)[0].array, expected)
        np.testing.assert_array_equal(uncropped(labels_of(together, channel)).array, expected)
    assert read_mask(path)[0].geometry == Geometry.of(together)


@pytest.mark.parametrize("name", CHANNELS)
def test_a_channel_that_is_not_there(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, name, CHANNELS[name])
    said = "label_channel is 3, but the mask has 3 values a voxel, 0 to 2"
    with pytest.raises(MaskError) as caught:
        read_labels(path, 3)
    assert str(caught.value) == f"{path}: {said}"
    with pytest.raises(MaskError) as caught:
        labels_of(sitk.ReadImage(str(path)), 3)
    assert str(caught.value) == said


@pytest.mark.parametrize("name", CHANNELS)
def test_several_values_a_voxel_are_no_image(tmp_path: Path, name: str) -> None:
    with pytest.raises(ImageError, match="it has 3 numbers a voxel, expected one"):
        open_image(write(tmp_path, name, CHANNELS[name]))


def test_a_mask_of_one_value_a_voxel_has_no_channels(tmp_path: Path) -> None:
    """As in pyradiomics, which looks at `label_channel` only where a mask is a vector image."""
    path = write(tmp_path, "mask.nii", nifti_bytes())
    np.testing.assert_array_equal(read_mask(path, 5)[0].array, read_mask(path)[0].array)
    np.testing.assert_array_equal(uncropped(labels_of(sitk.ReadImage(str(path)), 5)).array, read_mask(path)[0].array)


@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        ("RGB-color domain domain domain", "axis kind rgb-color"),
        ("domain list domain domain", "the first or the last"),
        ("list domain domain vector", "at most one axis"),
    ],
)
def test_other_axes_of_values_are_refused(tmp_path: Path, kinds: str, said: str) -> None:
    content = nrrd_bytes(SIDE_BY_SIDE, kinds=kinds, **FIRST)
    with pytest.raises(ImageError, match=said):
        read_labels(write(tmp_path, "mask.nrrd", content))


@pytest.mark.parametrize("intent", [0, 1005])
def test_a_fifth_dimension_that_is_no_vector_is_refused(tmp_path: Path, intent: int) -> None:
    content = nifti_bytes(dim=(5, 4, 5, 6, 1, 3, 1, 1), intent=intent, data=LAYERS.tobytes())
    with pytest.raises(ImageError, match="it is 5D, 4x5x6x1x3 voxels"):
        read_labels(write(tmp_path, "mask.nii", content))


@pytest.mark.shared_data
def test_layers_of_slicer(shared_data: Path) -> None:
    path = shared_data / "slicer_segnrrd" / "SegmentationOverlapping.seg.nrrd"
    together = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    assert together.shape[-1] == 2
    for channel in range(2):
        np.testing.assert_array_equal(read_mask(path, channel)[0].array, together[..., channel])


def test_a_mask_that_is_not_3d_is_refused() -> None:
    with pytest.raises(ImageError, match="the mask must be a 3D image, found 2D"):
        labels_of(sitk.Image(4, 4, sitk.sitkUInt8))


def test_only_the_box_of_a_mask_is_held(tmp_path: Path) -> None:
    array = np.zeros((100, 256, 256), np.uint8)
    array[40:60, 100:140, 100:140] = 1
    mask = sitk.GetImageFromArray(array)
    path = tmp_path / "mask.nii.gz"
    sitk.WriteImage(mask, str(path))
    read_labels(path)
    tracemalloc.start()
    read_labels(path)
    labels_of(mask)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20  # the whole is 6.25 MiB
