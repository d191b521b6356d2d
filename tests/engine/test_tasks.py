"""One scan and its lesions without Dask: what goes wrong comes back as a failure that says why."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from dask.sizeof import sizeof

from hgpscale.cohort import read_outlines
from hgpscale.contents import Contents
from hgpscale.engine import outlined, tasks
from hgpscale.engine.tasks import LesionTask, PreparedLesion, ScanTask, extract_prepared, read_scan
from hgpscale.limits import set_memory_limit
from hgpscale.prepare.scan import scan_statistics
from hgpscale.record import Record
from hgpscale.settings import Settings

SHAPE = (8, 20, 24)
SPACING = (0.8, 0.9, 2.5)
Array = np.ndarray[Any, Any]


def write(path: Path, voxels: Array, **changes: Any) -> Path:
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing(changes.get("spacing", SPACING))
    image.SetOrigin(changes.get("origin", (-10.0, -20.0, 30.0)))
    image.SetDirection(changes.get("direction", (1, 0, 0, 0, 1, 0, 0, 0, 1)))
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


def run(image: Path, mask: Path, settings: Settings | None = None, label: int | None = None) -> Record:
    chosen = settings or Settings()
    (item,) = read_scan(ScanTask(str(image), (LesionTask("a", "RAD", str(mask), label),)), chosen)
    return extract_prepared(item, chosen)


def test_a_good_lesion_has_all_its_values(image: Path, tmp_path: Path) -> None:
    record = run(image, write(tmp_path / "mask.nii.gz", box(3)))
    assert set(record.values) == set(Contents.of(Settings()).keys)
    assert not record.failures
    assert (record.lesion, record.segmentation, record.label) == ("a", "RAD", 3)
    assert record.image_digest
    assert record.mask_digest


@pytest.fixture
def _no_limit() -> Iterator[None]:
    yield
    set_memory_limit(None)


@pytest.mark.usefixtures("_no_limit")
def test_a_lesion_that_a_worker_cannot_hold_is_told_before_its_voxels_are_read(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask = write(tmp_path / "mask.nii.gz", box())
    set_memory_limit(4 * 10 * 12 * 24)  # the region's voxels
    assert run(image, mask).failure is None
    set_memory_limit(4 * 10 * 12 * 24 - 1)
    read: list[list[Any]] = []

    def read_parts(_: object, boxes: list[Any], **__: object) -> tuple[list[Any], str]:
        read.append(boxes)
        return [], "digest"

    monkeypatch.setattr(tasks, "read_parts", read_parts)
    failure = run(image, mask).failure
    assert read == [[]]
    assert failure is not None
    assert failure.stage == "memory"
    assert "the region's box is 4 x 10 x 12 voxels of 2.5 x 0.9 x 0.8 mm (z, y, x), which take 11.2 KiB" in str(failure)
    assert "this worker may use 11.2 KiB of memory" in str(failure)


@pytest.mark.parametrize("regions", [None, {"lesion": None, "margin": 4}])
def test_a_grid_far_too_fine_is_told(image: Path, tmp_path: Path, regions: dict[str, Any] | None) -> None:
    setting = {"resampledPixelSpacing": [0.001] * 3} | ({"regions": regions} if regions else {})
    fine = Settings.from_parameters({"setting": setting})
    failure = run(image, write(tmp_path / "mask.nii.gz", box()), fine).failure
    assert failure is not None
    assert failure.stage == "memory"
    assert "this machine has" in str(failure)
    assert "set a larger resampledPixelSpacing" in str(failure)


def test_only_the_lesion_and_no_more_leaves_the_read_task(image: Path, tmp_path: Path) -> None:
    mask = write(tmp_path / "mask.nii.gz", box())
    (item,) = read_scan(ScanTask(str(image), (LesionTask("a", "RAD", str(mask)),)), Settings())
    assert isinstance(item, PreparedLesion)
    assert item.cut.image.array.shape == (4, 10, 12)
    np.testing.assert_array_equal(item.cut.image.array, ct()[2:6, 4:14, 5:17])


def _empty(mask: Array) -> None:
    mask[:] = 0


def _one_voxel(mask: Array) -> None:
    mask[:] = 0
    mask[3, 5, 7] = 1


def _a_line(mask: Array) -> None:
    mask[:] = 0
    mask[3, 5, 7:12] = 1


def _several(mask: Array) -> None:
    mask[0] = 4


@pytest.mark.parametrize(
    ("change", "label", "reason"),
    [
        (_empty, None, "the mask is empty"),
        (_one_voxel, None, "the region is a single voxel"),
        (_a_line, None, "box of 1 x 1 x 5 voxels (z, y, x) extends in 1 axis; minimumROIDimensions is 2"),
        (_several, None, "the mask holds 2 labels (1, 4); say which by a 'label' column or setting"),
        (lambda mask: None, 7, "label 7 is not in the mask; it holds 1"),
    ],
)
def test_masks_that_hold_no_region(
    image: Path, tmp_path: Path, change: Callable[[Array], None], label: int | None, reason: str
) -> None:
    voxels = box()
    change(voxels)
    record = run(image, write(tmp_path / "mask.nii.gz", voxels), label=label)
    assert record.failure is not None
    assert record.failure.stage == "mask"
    assert reason in record.failure.reason
    assert record.failure.reason.startswith(f"{tmp_path}/mask.nii.gz: ")
    assert set(record.failures) == set(Contents.of(Settings()).keys)


def test_a_small_region_is_refused_when_asked(image: Path, tmp_path: Path) -> None:
    mask = write(tmp_path / "mask.nii.gz", box())
    assert run(image, mask, Settings(minimumROISize=479)).failure is None
    failure = run(image, mask, Settings(minimumROISize=480)).failure
    assert failure is not None
    assert "the region has 480 voxels; more than minimumROISize 480 needed" in failure.reason


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"spacing": (0.8, 0.9, 2.0)}, ["spacing is (2.5, 0.89", "and (2, 0.9, 0.8"]),
        ({"origin": (-10.0, -21.0, 30.0)}, ["origin is (-10, -20, 30)", "and (-10, -21, 30)"]),
        ({"direction": (-1, 0, 0, 0, -1, 0, 0, 0, 1)}, ["direction is (1, 0, 0, 0, 1", "(-1, 0, 0, 0, -1"]),
    ],
)
def test_grids_that_differ_are_named_with_both_values(
    image: Path, tmp_path: Path, change: dict[str, Any], names: list[str]
) -> None:
    failure = run(image, write(tmp_path / "mask.nrrd", box(), **change)).failure
    assert failure is not None
    assert failure.stage == "geometry"
    for name in names:
        assert name in failure.reason


def test_a_mask_of_another_size(image: Path, tmp_path: Path) -> None:
    failure = run(image, write(tmp_path / "mask.nrrd", box()[:-1])).failure
    assert failure is not None
    assert "size is (8, 20, 24) in the image and (7, 20, 24) in the mask" in failure.reason


def test_correct_mask_brings_a_mask_onto_the_image(image: Path, tmp_path: Path) -> None:
    shifted = write(tmp_path / "mask.nrrd", box()[1:, 2:], origin=(-10.0, -18.2, 32.5))
    plain = run(image, write(tmp_path / "plain.nrrd", box()))
    corrected = run(image, shifted, Settings(correctMask=True))
    assert corrected.failures == {}
    for key, values in plain.values.items():
        np.testing.assert_array_equal(corrected.values[key], values)


def test_correct_mask_refuses_a_region_outside_of_the_image(image: Path, tmp_path: Path) -> None:
    away = write(tmp_path / "mask.nrrd", box(), origin=(500.0, -20.0, 30.0))
    failure = run(image, away, Settings(correctMask=True)).failure
    assert failure is not None
    assert failure.stage == "geometry"
    assert "reaches outside the image" in failure.reason


@pytest.mark.reference
@pytest.mark.parametrize("spacing", [None, [1, 1, 1], [0.8, 0.9, 2.5], [0, 0, 2.5]], ids=str)
@pytest.mark.parametrize(
    "grid",
    [
        {"origin": (-10.3, -19.0, 30.4), "spacing": (0.8, 0.9, 2.4)},
        {"origin": (-8.4, -18.2, 30.0), "spacing": (0.8, 0.9, 2.5)},
    ],
    ids=["other spacing", "shifted by whole voxels"],
)
def test_correct_mask_is_pyradiomics(
    image: Path, tmp_path: Path, grid: dict[str, Any], spacing: list[float] | None
) -> None:
    from reference import assert_same

    mask = write(tmp_path / "mask.nrrd", box()[:, 1:], **grid)
    setting = {"correctMask": True, "resampledPixelSpacing": spacing}
    assert_same(sitk.ReadImage(str(image)), sitk.ReadImage(str(mask)), setting)


@pytest.mark.reference
@pytest.mark.parametrize("size", [480, 1000, 1500])
def test_the_smallest_size_counts_voxels_after_resampling(image: Path, tmp_path: Path, size: int) -> None:
    from reference import assert_same

    mask = write(tmp_path / "mask.nrrd", box())
    setting = {"minimumROISize": size, "resampledPixelSpacing": [0.8, 0.9, 1]}
    assert_same(sitk.ReadImage(str(image)), sitk.ReadImage(str(mask)), setting)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("settings", [Settings(), Settings(resampledPixelSpacing=(1, 1, 1))], ids=["stored", "1 mm"])
def test_voxels_that_are_no_numbers(tmp_path: Path, bad: float, settings: Settings) -> None:
    voxels = ct().astype(np.float32)
    voxels[3, 8, 8] = bad
    failure = run(write(tmp_path / "ct.mha", voxels), write(tmp_path / "mask.mha", box()), settings).failure
    assert failure is not None
    assert failure.stage == "voxels"
    assert "1 of the" in failure.reason
    assert "NaN or infinite" in failure.reason


@pytest.mark.parametrize(
    "settings",
    [Settings(), Settings(resampledPixelSpacing=(1, 1, 1), interpolator="sitkNearestNeighbor")],
    ids=["stored", "nearest neighbour"],
)
def test_no_numbers_outside_of_the_lesion_do_no_harm(tmp_path: Path, settings: Settings) -> None:
    voxels = ct().astype(np.float32)
    voxels[0, 0, 0] = np.nan
    record = run(write(tmp_path / "ct.mha", voxels), write(tmp_path / "mask.mha", box()), settings)
    assert not record.failures


def test_a_constant_region_has_the_reference_values(tmp_path: Path) -> None:
    record = run(write(tmp_path / "ct.mha", np.full(SHAPE, 40, np.int16)), write(tmp_path / "mask.mha", box()))
    assert not record.failures
    names = Settings().features["firstorder"]
    found = dict(zip(names, record.values["lesion", "original", "firstorder"], strict=True))
    assert (found["Mean"], found["Variance"], found["Skewness"], found["Kurtosis"]) == (40, 0, 0, 0)


def test_a_family_without_meaning_fails_alone(image: Path, tmp_path: Path) -> None:
    corners = np.zeros(SHAPE, np.uint8)
    corners[0, 0, 0] = corners[2, 5, 9] = corners[7, 19, 23] = 1
    record = run(image, write(tmp_path / "mask.nii.gz", corners))
    assert record.failure is None
    assert {family for _, _, family in record.failures} >= {"glcm", "glrlm"}
    assert ("lesion", "original", "firstorder") in record.values
    assert "no two voxels of the region are neighbours" in record.failures["lesion", "original", "glcm"].reason


def test_a_bad_image_fails_all_its_lesions_a_bad_mask_only_one(image: Path, tmp_path: Path) -> None:
    good, missing = write(tmp_path / "mask.nii.gz", box()), tmp_path / "missing.nii.gz"
    lesions = (LesionTask("a", "RAD", str(good)), LesionTask("b", "RAD", str(missing)))
    fine, failed = read_scan(ScanTask(str(image), lesions), Settings())
    assert isinstance(fine, PreparedLesion)
    assert isinstance(failed, Record)
    assert failed.failure is not None
    assert "missing.nii.gz" in failed.failure.reason
    both = read_scan(ScanTask(str(missing), lesions), Settings())
    assert all(isinstance(item, Record) and item.failure is not None for item in both)


def test_dask_learns_how_large_a_lesion_is(image: Path, tmp_path: Path) -> None:
    mask = write(tmp_path / "mask.nii.gz", box())
    (item,) = read_scan(ScanTask(str(image), (LesionTask("a", "RAD", str(mask)),)), Settings())
    assert isinstance(item, PreparedLesion)
    voxels = item.cut.image.array.nbytes + item.cut.plan.roi.array.nbytes
    assert voxels < sizeof([item]) < voxels + 1000


def test_an_image_that_changed_since_is_refused(image: Path, tmp_path: Path) -> None:
    mask = write(tmp_path / "mask.nii.gz", box())
    before = run(image, mask).image_digest
    task = ScanTask(str(image), (LesionTask("a", "RAD", str(mask)),), image_digest=before)
    assert isinstance(read_scan(task, Settings())[0], PreparedLesion)
    write(image, ct() + 1)
    (item,) = read_scan(task, Settings())
    assert isinstance(item, Record)
    assert item.failure is not None
    assert "changed since numbers in the cube were made of it" in item.failure.reason


def test_a_mask_that_changed_since_is_refused(image: Path, tmp_path: Path) -> None:
    mask = write(tmp_path / "mask.nii.gz", box())
    before = run(image, mask).mask_digest
    task = ScanTask(str(image), (LesionTask("a", "RAD", str(mask), mask_digest=before),))
    assert isinstance(read_scan(task, Settings())[0], PreparedLesion)
    write(mask, np.roll(box(), 1, axis=0))
    (item,) = read_scan(task, Settings())
    assert isinstance(item, Record)
    assert item.failure is not None
    assert f"{mask}: changed since numbers in the cube were made of it" in item.failure.reason


def test_a_label_map_is_read_once_for_its_lesions(image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two = box()
    two[6:, :4, :4] = 2
    mask = write(tmp_path / "mask.nii.gz", two)
    read: list[str] = []

    def counted(path: str, *rest: Any) -> Any:
        read.append(path)
        return read_outlines(path, *rest)

    monkeypatch.setattr(outlined, "read_outlines", counted)
    lesions = tuple(LesionTask(str(label), "RAD", str(mask), label) for label in (1, 2))
    items = read_scan(ScanTask(str(image), lesions), Settings())
    assert [item.cut.plan.label for item in items if isinstance(item, PreparedLesion)] == [1, 2]
    assert read == [str(mask)]


NEEDS_THE_SCAN = {"normalised": Settings(normalize=True), "with its peak": Settings(image_types={"Square": {}})}


@pytest.mark.parametrize("settings", [Settings(), *NEEDS_THE_SCAN.values()], ids=["stored", *NEEDS_THE_SCAN])
def test_all_lesions_of_a_scan_get_what_each_would_get_alone(tmp_path: Path, settings: Settings) -> None:
    scanned = write(tmp_path / "ct.nii.gz", ct())
    one, two = write(tmp_path / "one.nii.gz", box()), write(tmp_path / "two.nrrd", box()[:, ::-1] * 3)
    tasks_of_all = tuple(LesionTask(mask.name, "RAD", str(mask)) for mask in (one, tmp_path / "gone.nii", two))
    items = read_scan(ScanTask(str(scanned), tasks_of_all), settings)
    assert [type(item) for item in items] == [PreparedLesion, Record, PreparedLesion]
    for task, item in zip(tasks_of_all, items, strict=True):
        (alone,) = read_scan(ScanTask(str(scanned), (task,)), settings)
        assert type(alone) is type(item)
        assert alone.image_digest == item.image_digest != ""
        if isinstance(item, PreparedLesion) and isinstance(alone, PreparedLesion):
            np.testing.assert_array_equal(item.cut.image.array, alone.cut.image.array)
            assert item.cut.image.box == alone.cut.image.box
            assert item.cut.scan == alone.cut.scan == scan_statistics(ct(), settings)


def test_damage_behind_the_lesion_is_found(image: Path, tmp_path: Path) -> None:
    """A cohort's digests are of whole files, so these are read to their end."""
    mask = write(tmp_path / "mask.nii.gz", box())
    content = image.read_bytes()
    image.write_bytes(content[:-8] + bytes(4) + content[-4:])
    failure = run(image, mask).failure
    assert failure is not None
    assert failure.stage == "read"
    assert f"{image}: its compressed voxels are damaged" in failure.reason


def test_a_scan_is_held_whole_only_where_a_setting_needs_that(tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).integers(-1000, 1000, (60, 128, 128)).astype(np.int16)
    mask = np.zeros(voxels.shape, np.uint8)
    mask[10:20, 30:40, 30:40] = 1
    lesion = LesionTask("a", "RAD", str(write(tmp_path / "mask.nii.gz", mask)))
    scan = ScanTask(str(write(tmp_path / "ct.nii.gz", voxels)), (lesion,))
    peaks = {}
    for name, settings in {"stored": Settings(), **NEEDS_THE_SCAN}.items():
        read_scan(scan, settings)
        tracemalloc.start()
        read_scan(scan, settings)
        peaks[name] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks.pop("stored") < voxels.nbytes / 2 < voxels.nbytes < min(peaks.values())


def test_a_channel_of_a_mask(image: Path, tmp_path: Path) -> None:
    layers = [sitk.GetImageFromArray(voxels) for voxels in (box(), np.roll(box(), 3, axis=2))]
    layers[0].SetSpacing(SPACING)
    layers[0].SetOrigin((-10.0, -20.0, 30.0))
    layers[1].CopyInformation(layers[0])
    sitk.WriteImage(sitk.Compose(layers), str(tmp_path / "both.seg.nrrd"))
    for channel, voxels in enumerate((box(), np.roll(box(), 3, axis=2))):
        record = run(image, tmp_path / "both.seg.nrrd", Settings(label_channel=channel))
        alone = run(image, write(tmp_path / "alone.nrrd", voxels))
        assert {key: list(values) for key, values in record.values.items()} == {
            key: list(values) for key, values in alone.values.items()
        }
    failure = run(image, tmp_path / "both.seg.nrrd", Settings(label_channel=2)).failure
    assert failure is not None
    assert failure.stage == "mask"
    assert "both.seg.nrrd: label_channel is 2, but the mask has 2 values a voxel" in failure.reason


def test_too_many_grey_levels_leave_the_other_classes(tmp_path: Path) -> None:
    voxels = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    whole = np.ones(SHAPE, np.uint8)
    record = run(write(tmp_path / "ct.mha", voxels), write(tmp_path / "mask.mha", whole), Settings(binWidth=1))
    assert {family for _, _, family in record.values} == {"firstorder", "shape"}
    assert "the region has 3840 grey levels, at most 2048" in record.failures["lesion", "original", "glcm"].reason


def test_values_too_spread_for_any_bin_are_refused(tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).uniform(0, 1e9, SHAPE)
    record = run(write(tmp_path / "ct.mha", voxels), write(tmp_path / "mask.mha", box()))
    assert "bins of width 25" in record.failures["lesion", "original", "glcm"].reason
    assert ("lesion", "original", "shape") in record.values
