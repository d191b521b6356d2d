"""Slicer's ``.seg.nrrd``: segments by name, number and pattern, in layers that overlap."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

import hgpscale
from hgpscale.cohort import Segment, check_cohort, list_segments, read_outlines
from hgpscale.cohort.masks import uncropped
from hgpscale.errors import MaskError
from hgpscale.volume import Geometry

Array = np.ndarray[Any, Any]
SHAPE = (5, 7, 8)
TURN = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)


def box(*bounds: tuple[int, int]) -> Array:
    array = np.zeros(SHAPE, np.bool_)
    array[tuple(slice(*bound) for bound in bounds)] = True
    return array


REGIONS = {
    "Tumor_1": box((1, 4), (1, 5), (1, 5)),
    "Tumor_2": box((2, 4), (3, 6), (3, 7)),  # in the other layer, over the first
    "tumor_3": box((0, 1), (0, 2), (0, 2)),
    "Liver": box((1, 5), (0, 7), (5, 8)),
}
PLACES = {"Tumor_1": (0, 1), "Tumor_2": (1, 1), "tumor_3": (0, 7), "Liver": (1, 9)}
SEEN = {"Liver": REGIONS["Liver"] & ~REGIONS["Tumor_2"]}
"""In one layer a voxel has one value."""


def write(path: Path, places: dict[str, tuple[int, int]], *, keys: bool = True) -> Geometry:
    """Write segments by name to their layers and values; without `keys` as Slicer 4 did."""
    layers = np.zeros((*SHAPE, 1 + max(layer for layer, _ in places.values())), np.uint8)
    for name, (layer, value) in reversed(places.items()):
        layers[..., layer][REGIONS[name]] = value
    several = layers.shape[-1] > 1
    image = sitk.GetImageFromArray(layers if several else layers[..., 0], isVector=several)
    image.SetSpacing((0.5, 0.75, 2))
    image.SetOrigin((1, -2, 3))
    image.SetDirection(TURN)
    for n, (name, (layer, value)) in enumerate(places.items()):
        image.SetMetaData(f"Segment{n}_ID", f"Segment_{n + 1}")
        image.SetMetaData(f"Segment{n}_Name", name)
        if keys:
            image.SetMetaData(f"Segment{n}_Layer", str(layer))
            image.SetMetaData(f"Segment{n}_LabelValue", str(value))
    sitk.WriteImage(image, str(path), True)
    return Geometry.of(image)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write(tmp_path / "a.seg.nrrd", PLACES)
    return tmp_path / "a.seg.nrrd"


def region(path: Path, roi: str, label: int | None = None, channel: int = 0) -> Array:
    grid = Geometry.of(sitk.ReadImage(str(path)))
    found, value = read_outlines(path, grid, channel).region(roi, label)
    assert found.geometry == grid
    array: Array = uncropped(found).array == value
    return array


def expected(*names: str) -> Array:
    array: Array = np.logical_or.reduce([SEEN.get(name, REGIONS[name]) for name in names])
    return array


@pytest.mark.parametrize(
    ("roi", "names"),
    [
        ("Tumor_1", ["Tumor_1"]),
        ("Tumor_2", ["Tumor_2"]),
        ("TUMOR_3", ["tumor_3"]),
        ("3", ["tumor_3"]),
        ("4", ["Liver"]),
        ("Tumor_*", ["Tumor_1", "Tumor_2"]),
        ("TUMOR*", ["Tumor_1", "Tumor_2", "tumor_3"]),
        ("*", list(REGIONS)),
    ],
)
def test_roi_chooses(path: Path, roi: str, names: list[str]) -> None:
    np.testing.assert_array_equal(region(path, roi), expected(*names))
    grid = Geometry.of(sitk.ReadImage(str(path)))
    organ = read_outlines(path, grid).organ(roi)
    np.testing.assert_array_equal(uncropped(organ).array, expected(*names))


def test_segments_are_listed_with_their_voxels(path: Path) -> None:
    assert list_segments(path) == [
        Segment(number, name, int(expected(name).sum())) for number, name in enumerate(REGIONS, start=1)
    ]


def test_without_roi_a_label_is_a_value_in_a_layer(path: Path) -> None:
    np.testing.assert_array_equal(region(path, "", 7), expected("tumor_3"))
    np.testing.assert_array_equal(region(path, "", 9, channel=1), expected("Liver"))
    np.testing.assert_array_equal(region(path, "Tumor_1", channel=1), expected("Tumor_1"))


def test_nothing_chosen_or_nothing_found_lists_the_segments(path: Path) -> None:
    for roi, says in (("", "holds 4 segments, choose with roi: 1 'Tumor_1', 2 "), ("spleen", "roi 'spleen' is none")):
        with pytest.raises(MaskError, match=says):
            region(path, roi)


def test_the_only_segment_needs_no_roi(tmp_path: Path) -> None:
    write(tmp_path / "one.seg.nrrd", {"Liver": (0, 3)})
    np.testing.assert_array_equal(region(tmp_path / "one.seg.nrrd", ""), REGIONS["Liver"])


def test_files_of_slicer_4_have_a_layer_a_segment(tmp_path: Path) -> None:
    write(tmp_path / "old.seg.nrrd", {name: (layer, 1) for layer, name in enumerate(REGIONS)}, keys=False)
    for name in REGIONS:
        np.testing.assert_array_equal(region(tmp_path / "old.seg.nrrd", name), REGIONS[name])


def test_a_file_of_smaller_extent_lands_on_its_voxels(tmp_path: Path, path: Path) -> None:
    whole = sitk.ReadImage(str(path))
    part = whole[1:7, 1:6, 1:4]
    for key in whole.GetMetaDataKeys():
        part.SetMetaData(key, whole.GetMetaData(key))
    sitk.WriteImage(part, str(tmp_path / "part.seg.nrrd"))
    found, value = read_outlines(tmp_path / "part.seg.nrrd", Geometry.of(whole)).region("Tumor_*", None)
    assert found.geometry == Geometry.of(whole)
    np.testing.assert_array_equal(uncropped(found).array == value, expected("Tumor_1", "Tumor_2"))


def test_check_and_extraction_choose_by_roi(tmp_path: Path, path: Path) -> None:
    mask = sitk.ReadImage(str(path))
    image = sitk.GetImageFromArray(np.random.default_rng(0).integers(-50, 200, SHAPE).astype(np.int16))
    image.CopyInformation(sitk.VectorIndexSelectionCast(mask, 0))
    sitk.WriteImage(image, str(tmp_path / "ct.nrrd"))
    (tmp_path / "cohort.csv").write_text(
        f"patient,image,mask,roi\nP1,ct.nrrd,{path.name},Tumor_2\nP2,ct.nrrd,{path.name},spleen\n"
    )
    (problem,) = check_cohort(tmp_path / "cohort.csv")
    assert (problem.lesion, problem.stage) == ("P2", "mask")
    label = sitk.GetImageFromArray(REGIONS["Tumor_2"].astype(np.uint8))
    label.CopyInformation(image)
    ours = hgpscale.extract_lesion(tmp_path / "ct.nrrd", path, roi="Tumor_2")
    assert ours == hgpscale.extract_lesion(image, label)
