"""DICOM SEG and RTSTRUCT as masks: against highdicom's writer, scikit-image's polygons, and by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_files import IDENTIFYING, datasets, write_rtstruct, write_seg, write_series
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import generate_uid
from skimage.draw import polygon2mask

import hgpscale
from hgpscale.cohort import Segment, check_cohort, file_digest, list_segments, open_image, read_image, read_outlines
from hgpscale.cohort.dicom import masks as masks_module
from hgpscale.cohort.dicom.rtstruct import fill
from hgpscale.cohort.masks import uncropped
from hgpscale.errors import GeometryError, HgpscaleError, ImageError, MaskError
from hgpscale.volume import Geometry, Volume

SHAPE = (6, 10, 11)
CT = np.random.default_rng(1).integers(-100, 200, SHAPE).astype(np.int16)
TURN = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)
Array = np.ndarray[Any, Any]


def blob(seed: int) -> Array:
    mask = np.zeros(SHAPE, np.bool_)
    mask[1:5, 2:9, 1:8] = np.random.default_rng(seed).random((4, 7, 7)) > 0.5
    return mask


@pytest.fixture
def ct(tmp_path: Path) -> Path:
    write_series(tmp_path / "ct", CT, (2, 0.7, 0.6), (5, -20, 30), TURN)
    return tmp_path / "ct"


def region(path: Path, ct: Path | Geometry, roi: str = "", label: int | None = None) -> Array:
    image = open_image(ct).geometry if isinstance(ct, Path) else ct
    found, value = read_outlines(path, image).region(roi, label)
    assert found.geometry == image
    array: Array = uncropped(found).array == value
    return array


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
@pytest.mark.parametrize("omit", [True, False])
def test_every_kind_of_segmentation_lands_on_its_voxels(tmp_path: Path, ct: Path, kind: str, omit: bool) -> None:
    first, second = blob(1), blob(2) & ~blob(1)
    path = write_seg(tmp_path / "seg.dcm", ct, {"Tumor_1": first, "Tumor_2": second}, kind, omit_empty_frames=omit)
    np.testing.assert_array_equal(region(path, ct, "Tumor_1"), first)
    np.testing.assert_array_equal(region(path, ct, "", 2), second)
    np.testing.assert_array_equal(region(path, ct, "Tumor_*"), first | second)
    assert [(segment.number, segment.name) for segment in list_segments(path)] == [(1, "Tumor_1"), (2, "Tumor_2")]
    outlines = read_outlines(path, open_image(ct).geometry)
    assert outlines.digest == file_digest(path)
    assert read_outlines(path, open_image(ct).geometry, hashed=False).digest == ""
    assert outlines.organ("tumor_2").array.dtype == np.bool_


def test_overlapping_segments(tmp_path: Path, ct: Path) -> None:
    path = write_seg(tmp_path / "seg.dcm", ct, {"a": blob(1), "b": blob(2)})
    np.testing.assert_array_equal(region(path, ct, "a"), blob(1))
    np.testing.assert_array_equal(region(path, ct, "b"), blob(2))


def test_half_of_the_highest_fraction_counts(tmp_path: Path, ct: Path) -> None:
    fractions = np.zeros(SHAPE)
    fractions[2, 3, 3:6] = 0.2, 0.6, 1.0
    path = write_seg(tmp_path / "seg.dcm", ct, {"a": fractions}, "FRACTIONAL")
    np.testing.assert_array_equal(region(path, ct), fractions > 0.5)


def test_frames_in_any_order_and_without_source_references(tmp_path: Path, ct: Path) -> None:
    path = write_seg(tmp_path / "seg.dcm", ct, {"a": blob(1), "b": blob(2)}, "FRACTIONAL")
    ds = pydicom.dcmread(path)
    order = np.random.default_rng(0).permutation(len(ds.PerFrameFunctionalGroupsSequence))
    frames = np.frombuffer(ds.PixelData, np.uint8)[: len(order) * SHAPE[1] * SHAPE[2]].reshape(len(order), -1)
    ds.PixelData = frames[order].tobytes()
    groups = [ds.PerFrameFunctionalGroupsSequence[int(n)] for n in order]
    for group in groups:
        if "DerivationImageSequence" in group:
            del group.DerivationImageSequence
    ds.PerFrameFunctionalGroupsSequence = groups
    if "ReferencedSeriesSequence" in ds:
        del ds.ReferencedSeriesSequence
    ds.save_as(path)
    np.testing.assert_array_equal(region(path, ct, "a"), blob(1))
    np.testing.assert_array_equal(region(path, ct, "b"), blob(2))


def test_drawn_on_some_slices_of_the_image(tmp_path: Path, ct: Path) -> None:
    path = write_seg(tmp_path / "seg.dcm", datasets(ct)[1:4], {"a": blob(1)[1:4]})
    expected = np.zeros(SHAPE, np.bool_)
    expected[1:4] = blob(1)[1:4]
    np.testing.assert_array_equal(region(path, ct), expected)


def test_drawn_on_a_flipped_and_cropped_grid(tmp_path: Path, ct: Path) -> None:
    grid = open_image(ct).geometry
    turned = np.reshape(TURN, (3, 3)) * [-1, 1, -1]
    part = CT[:, 2:, :][::-1, :, ::-1]
    write_series(tmp_path / "other", part, grid.spacing, grid.point((5, 2, 10)), turned.ravel().tolist())
    mask = blob(1)
    mask[:, :2] = False
    path = write_seg(tmp_path / "seg.dcm", tmp_path / "other", {"a": mask[:, 2:, :][::-1, :, ::-1]})
    own = Geometry(grid.size, grid.spacing, grid.origin, grid.direction)  # of a NIfTI image, without references
    np.testing.assert_array_equal(region(path, own), mask)


def test_another_grid_is_kept_and_left_to_the_geometry_check(tmp_path: Path, ct: Path) -> None:
    frame = open_image(ct).geometry.references[0]
    write_series(tmp_path / "other", CT, (2, 0.5, 0.5), (5, -20, 30), TURN, FrameOfReferenceUID=frame)
    path = write_seg(tmp_path / "seg.dcm", tmp_path / "other", {"a": blob(1)})
    found, _ = read_outlines(path, open_image(ct).geometry).region("", None)
    assert found.geometry.spacing == (2, 0.5, 0.5)
    np.testing.assert_array_equal(np.count_nonzero(found.array), blob(1).sum())
    with pytest.raises(GeometryError, match="spacing is"):
        hgpscale.extract_lesion(ct, path)
    (tmp_path / "cohort.csv").write_text("patient,image,mask\nP1,ct,seg.dcm\n")
    assert any("spacing is" in problem.problem for problem in check_cohort(tmp_path / "cohort.csv"))


def test_another_frame_of_reference_is_refused(tmp_path: Path, ct: Path) -> None:
    write_series(tmp_path / "other", CT, (2, 0.7, 0.6), (5, -20, 30), TURN)
    image = open_image(ct).geometry
    with pytest.raises(GeometryError, match=r"seg\.dcm: the mask's frame of reference"):
        read_outlines(write_seg(tmp_path / "seg.dcm", tmp_path / "other", {"a": blob(1)}), image)
    square = ring(2, 3, 3, 6, 6, image)
    with pytest.raises(GeometryError, match="the mask's frame of reference"):
        region(write_rtstruct(tmp_path / "rs.dcm", tmp_path / "other", {"a": [square]}), ct)
    # as rt-utils writes them: an invented frame of reference, and the image's own series
    assert region(write_rtstruct(tmp_path / "rs.dcm", ct, {"a": [square]}, frame=generate_uid()), ct).any()


def test_choosing(tmp_path: Path, ct: Path) -> None:
    names = {"2": blob(1), "Tumor_a": blob(2), "tumor_b": blob(3), "Liver": blob(4)}
    path = write_seg(tmp_path / "seg.dcm", ct, names)
    np.testing.assert_array_equal(region(path, ct, "2"), blob(1))  # a name before a number
    np.testing.assert_array_equal(region(path, ct, "4"), blob(4))
    np.testing.assert_array_equal(region(path, ct, "Tumor_*"), blob(2))
    np.testing.assert_array_equal(region(path, ct, "TUMOR_*"), blob(2) | blob(3))
    for roi, says in (
        ("", "holds 4 segments, choose with roi: 1 '2', 2 'Tumor_a'"),
        ("spleen", "roi 'spleen' is none"),
    ):
        with pytest.raises(MaskError, match=says):
            region(path, ct, roi)
    (tmp_path / "cohort.csv").write_text("patient,image,mask,roi\nP1,ct,seg.dcm,spleen\nP2,ct,seg.dcm,Liver\n")
    (problem,) = check_cohort(tmp_path / "cohort.csv")
    assert (problem.lesion, problem.stage) == ("P1", "mask")
    assert "roi 'spleen' is none of the mask's segments" in problem.problem


def test_check_reads_a_mask_once(tmp_path: Path, ct: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_seg(tmp_path / "a.dcm", ct, {"one": blob(1), "two": blob(2)})
    write_seg(tmp_path / "b.dcm", ct, {"one": blob(1), "two": blob(2)})
    cut = (tmp_path / "a.dcm").read_bytes()[:-40]
    (tmp_path / "cut.dcm").write_bytes(cut)
    rows = [f"{roi}-{mask},ct,{mask}.dcm,{roi}" for roi in ("one", "two", "three") for mask in ("a", "b", "cut")]
    (tmp_path / "cohort.csv").write_text("\n".join(["patient,image,mask,roi", *rows]) + "\n")
    read: list[str] = []
    reader = masks_module.read_dicom_mask

    def counted(path: Path, image: Geometry | None) -> Any:
        read.append(path.name)
        return reader(path, image)

    monkeypatch.setattr(masks_module, "read_dicom_mask", counted)
    problems = check_cohort(tmp_path / "cohort.csv")
    assert read == ["a.dcm", "b.dcm", "cut.dcm"]
    assert [(problem.line, problem.file) for problem in problems] == [
        (4, "cut.dcm"), (7, "cut.dcm"), (8, "a.dcm"), (9, "b.dcm"), (10, "cut.dcm"),
    ]  # fmt: skip


def test_a_folder_that_holds_one(tmp_path: Path, ct: Path) -> None:
    write_seg(tmp_path / "masks" / "seg.dcm", ct, {"a": blob(1)})
    np.testing.assert_array_equal(region(tmp_path / "masks", ct), blob(1))
    write_seg(tmp_path / "masks" / "more.dcm", ct, {"a": blob(1)})
    with pytest.raises(ImageError, match=r"holds 2 SEG and RTSTRUCT files, expected one; .*more\.dcm, seg\.dcm"):
        region(tmp_path / "masks", ct)
    with pytest.raises(ImageError, match="it is no mask but CT"):
        region(next(ct.iterdir()), ct)


def test_truncated(tmp_path: Path, ct: Path) -> None:
    path = write_seg(tmp_path / "seg.dcm", ct, {"a": blob(1)}, "FRACTIONAL")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ImageError, match=r"seg\.dcm: it is truncated"):
        read_outlines(path, open_image(ct).geometry)


def ring(z: float, y0: float, x0: float, y1: float, x1: float, grid: Geometry) -> Array:
    corners = ((z, y0, x0), (z, y0, x1), (z, y1, x1), (z, y1, x0))
    return np.array([grid.point(corner) for corner in corners])


def test_a_hole_and_an_island_in_it_on_an_oblique_series(tmp_path: Path, ct: Path) -> None:
    grid = open_image(ct).geometry
    rings = [ring(2, 0.5, 0.5, 8.5, 8.5, grid), ring(2, 2.5, 2.5, 6.5, 6.5, grid), ring(2, 3.5, 3.5, 4.5, 4.5, grid)]
    path = write_rtstruct(tmp_path / "rs.dcm", ct, {"a": [*rings, ring(4, 1.5, 1.5, 3.5, 2.5, grid)], "none": []})
    expected = np.zeros(SHAPE, np.bool_)
    expected[2, 1:9, 1:9] = True
    expected[2, 3:7, 3:7] = False
    expected[2, 4, 4] = True
    expected[4, 2:4, 2] = True
    np.testing.assert_array_equal(region(path, ct, "a"), expected)
    assert list_segments(path) == [Segment(1, "a"), Segment(2, "none", 0)]
    assert not region(path, ct, "none").any()


@given(
    corners=st.lists(st.tuples(st.floats(-2, 14), st.floats(-2, 14)), min_size=3, max_size=9),
)
def test_polygons_are_those_of_scikit_image(corners: list[tuple[float, float]]) -> None:
    # Apart from centres on an edge, which either may count; a third of a thousandth is on none.
    points = np.round(np.array(corners), 2) + 0.00333
    ours, theirs = fill([points], (12, 13)), polygon2mask((12, 13), points)
    centres = np.argwhere(ours != theirs)
    for y, x in centres:
        assert edge_distance(points, y, x) < 1e-3


def edge_distance(points: Array, y: int, x: int) -> float:
    a, b = points, np.roll(points, -1, axis=0)
    along = b - a
    length = np.maximum((along**2).sum(axis=1), 1e-12)
    t = np.clip((((y, x) - a) * along).sum(axis=1) / length, 0, 1)
    return float(np.linalg.norm(a + t[:, None] * along - (y, x), axis=1).min())


def test_contours_that_cannot_be_filled(tmp_path: Path, ct: Path) -> None:
    grid = open_image(ct).geometry
    square = ring(2, 1, 1, 4, 4, grid)
    tilted = np.array([grid.point(p) for p in ((1, 1, 1), (1, 1, 5), (3, 5, 5))])
    path = write_rtstruct(
        tmp_path / "rs.dcm",
        ct,
        {
            "point": [("POINT", square[:1])],
            "open": [("OPEN_PLANAR", square)],
            "tilted": [tilted],
            "above": [ring(9, 1, 1, 4, 4, grid)],
            "beside": [ring(2, 1, 1, 4, 40, grid)],
            "dense": [square, ring(2.4, 1, 1, 4, 4, grid)],
            "between": [ring(2.4, 1, 1, 4, 4, grid)],
        },
    )
    for roi, kind, says in (
        ("point", MaskError, "holds contours of type POINT, which enclose nothing; expected CLOSED_PLANAR"),
        ("open", MaskError, "OPEN_PLANAR"),
        ("tilted", MaskError, "is not parallel to the slices"),
        ("above", GeometryError, "lies outside of the image"),
        ("beside", GeometryError, "lies outside of the image"),
        ("dense", MaskError, "drawn on other slices than the image's"),
    ):
        with pytest.raises(kind, match=says):
            region(path, ct, roi)
    assert np.flatnonzero(region(path, ct, "between").any(axis=(1, 2))).tolist() == [2]


def test_a_lesion_of_dicom_files_has_the_features_of_nifti_files(tmp_path: Path, ct: Path) -> None:
    path = write_seg(tmp_path / "seg.dcm", ct, {"a": blob(1), "b": blob(2)})
    image, _ = read_image(ct)
    mask, _ = read_outlines(path, image.geometry).region("a", None)
    whole = Volume(uncropped(mask).array, image.geometry).to_sitk()
    expected = hgpscale.extract_lesion(image.to_sitk(), whole)
    assert hgpscale.extract_lesion(ct, path, roi="a") == expected


def test_nothing_says_who_the_patient_is(tmp_path: Path, ct: Path) -> None:
    grid = open_image(ct).geometry
    write_series(tmp_path / "other", CT)
    seg = write_seg(tmp_path / "seg.dcm", tmp_path / "other", {"a": blob(1), "b": blob(2)})
    rs = write_rtstruct(tmp_path / "rs.dcm", ct, {"a": [ring(9, 1, 1, 4, 4, grid)], "b": [("POINT", np.zeros((1, 3)))]})
    broken = tmp_path / "broken.dcm"
    told: list[str] = []
    content = seg.read_bytes()
    for path, roi in ((seg, ""), (seg, "x"), (rs, "a"), (rs, "b"), (rs, "c"), *[(broken, "")] * 40):
        broken.write_bytes(content[: 200 + 37 * len(told)] + b"\xff" * 40 + content[260 + 37 * len(told) :])
        try:
            told.append(repr(read_outlines(path, grid)))
            region(path, ct, roi)
        except HgpscaleError as error:
            told.append(f"{error} {error.__cause__}")
    planted = [value for value in IDENTIFYING.values() if len(value) > 1]
    assert len(told) > 40
    assert not [value for value in planted for text in told if value in text]
