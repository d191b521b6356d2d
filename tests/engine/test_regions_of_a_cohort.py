"""Regions on the way from a manifest to a cube: bounded by neighbours, liver and air, and never mixed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from bad_inputs import Array, write
from distributed import Client
from reference import reference_features

from hgpscale import extract_lesion
from hgpscale.cohort import read_manifest
from hgpscale.contents import Contents
from hgpscale.cube import export, open_cube
from hgpscale.engine.cluster import local_client
from hgpscale.engine.events import RunStarted, Summary
from hgpscale.engine.plan import plan
from hgpscale.engine.run import extract
from hgpscale.engine.tasks import extract_prepared, read_scan
from hgpscale.prepare.regions import region_masks
from hgpscale.settings import Settings

SHAPE = (14, 30, 40)
CLASSES = {"firstorder": ["Mean", "Energy"], "shape": ["VoxelVolume"], "glcm": ["Contrast"]}
REGIONS = {"lesion": None, "core": 2, "rim": 2, "margin": 4}


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with local_client(1) as client:
        yield client


def scan() -> Array:
    return np.random.default_rng(5).integers(40, 160, SHAPE).astype(np.int16)


def block(z: slice, y: slice, x: slice) -> Array:
    mask = np.zeros(SHAPE, np.uint8)
    mask[z, y, x] = 1
    return mask


ONE = block(slice(4, 9), slice(8, 16), slice(8, 16))
TWO = block(slice(4, 9), slice(8, 16), slice(19, 26))
LIVER = block(slice(0, 14), slice(0, 20), slice(0, 40))


@pytest.fixture
def study(tmp_path: Path) -> Path:
    write(tmp_path / "ct.nii.gz", scan())
    for name, mask in (("one", ONE), ("two", TWO), ("liver", LIVER)):
        write(tmp_path / f"{name}.nii.gz", mask)
    return tmp_path


def manifest(study: Path, lesions: str = "one two", liver: str = "liver.nii.gz") -> Path:
    lines = [
        "patient,lesion,image,mask,liver",
        *[f"p,{name},ct.nii.gz,{name}.nii.gz,{liver}" for name in lesions.split()],
    ]
    path = study / "cohort.csv"
    path.write_text("\n".join(lines))
    return path


def parameters(regions: dict[str, Any] = REGIONS, **more: Any) -> dict[str, Any]:
    return {"featureClass": CLASSES, "setting": {"regions": regions, **more}}


def run(study: Path, client: Client, settings: Any, lesions: str = "one two", **options: Any) -> Summary:
    return extract(manifest(study, lesions), study / "cube.zarr", settings, client, **options)


def spacing_of(study: Path) -> tuple[float, float, float]:
    z, y, x = reversed(sitk.ReadImage(str(study / "ct.nii.gz")).GetSpacing())
    return z, y, x


def test_a_lesion_that_is_tried_alone_is_bounded_by_the_others_all_the_same(study: Path) -> None:
    settings = Settings.of(parameters())
    cohort = read_manifest(manifest(study))
    wanted = {(row.lesion, row.segmentation): Contents.of(settings).keys for row in cohort.rows}
    (task,) = plan(cohort, wanted, {}, settings)
    together = [extract_prepared(item, settings) for item in read_scan(task, settings)]
    alone = [
        extract_prepared(item, settings) for lesion in task.lesions for item in read_scan(task.only(lesion), settings)
    ]
    assert [record.failure for record in together] == [None, None]
    for one, other in zip(together, alone, strict=True):
        assert one.lesion == other.lesion
        assert one.surroundings_digest == other.surroundings_digest != ""
        assert one.values.keys() == other.values.keys()
        assert all(np.array_equal(one.values[key], other.values[key]) for key in one.values)


def test_regions_land_in_the_cube_with_the_numbers_of_their_own_masks(study: Path, client: Client) -> None:
    assert run(study, client, parameters()).done == 2
    cube = open_cube(study / "cube.zarr")
    assert list(cube.region.values) == list(REGIONS)
    assert (cube.state.sel(image_type="original", family=list(CLASSES)) == "done").all()
    chosen = Settings.from_parameters(parameters())
    bands = region_masks(ONE == 1, spacing_of(study), chosen.bands, (TWO == 1) | (LIVER == 0))
    for name, mask in {"lesion": ONE == 1, **bands}.items():
        write(study / "region.nii.gz", mask.astype(np.uint8))
        wanted = extract_lesion(study / "ct.nii.gz", study / "region.nii.gz", {"featureClass": CLASSES})
        for family in CLASSES:
            found = cube[family].sel(lesion="one", segmentation="default", region=name)
            found = found if family == "shape" else found.sel(image_type="original")
            names = cube[f"{family}_feature"].values
            assert [wanted[f"original_{family}_{n}"] for n in names] == pytest.approx(found.values, rel=1e-12)


@pytest.mark.reference
def test_pyradiomics_agrees_on_every_region(study: Path) -> None:
    settings = parameters(resampledPixelSpacing=[1.5, 1.5, 1.5], binWidth=10)
    found = extract_lesion(study / "ct.nii.gz", study / "one.nii.gz", settings, liver=study / "liver.nii.gz")
    assert {name.partition("__")[0] for name in found if "__" in name} == {"core", "rim", "margin"}
    # Resampling by SimpleITK on a grid as wide as the scan, then the regions' own masks on that grid.
    image, mask, liver = (sitk.ReadImage(str(study / f"{name}.nii.gz")) for name in ("ct", "one", "liver"))
    size = [round(n * s / 1.5) for n, s in zip(image.GetSize(), image.GetSpacing(), strict=True)]
    shift = image.TransformContinuousIndexToPhysicalPoint([0.5 * (1.5 - s) / s for s in image.GetSpacing()])
    grid = (size, sitk.Transform())
    fine = sitk.Resample(image, *grid, sitk.sitkBSpline, shift, [1.5] * 3, image.GetDirection(), 0, image.GetPixelID())
    parts = [
        sitk.GetArrayFromImage(
            sitk.Resample(part, *grid, sitk.sitkNearestNeighbor, shift, [1.5] * 3, image.GetDirection())
        )
        for part in (mask, liver)
    ]
    bands = region_masks(parts[0] == 1, (1.5, 1.5, 1.5), Settings.of(settings).bands, parts[1] == 0)
    for name, band in bands.items():
        region = sitk.GetImageFromArray(band.astype(np.uint8))
        region.CopyInformation(fine)
        reference = reference_features(fine, region, {"binWidth": 10}, features=CLASSES)
        assert reference is not None
        for feature, value in reference.items():
            assert found[f"{name}__{feature}"] == pytest.approx(float(np.real(value)), rel=1e-9), (name, feature)


def test_columns_of_a_flat_table_begin_with_the_region(study: Path, client: Client) -> None:
    run(study, client, parameters())
    export(study / "cube.zarr", study / "table.csv")
    header = (study / "table.csv").read_text().splitlines()[0].split(",")
    assert {"original_glcm_Contrast", "rim__original_glcm_Contrast", "margin__original_shape_VoxelVolume"} <= {*header}


def test_a_region_is_added_and_what_was_there_is_left(study: Path, client: Client) -> None:
    run(study, client, parameters({"lesion": None, "core": 2}))
    before = open_cube(study / "cube.zarr").load()
    summary = run(study, client, parameters())
    assert summary.computed == 2 * 2 * len(CLASSES)  # two lesions, rim and margin
    after = open_cube(study / "cube.zarr").load()
    for family in CLASSES:
        np.testing.assert_array_equal(after[family].sel(region=["lesion", "core"]), before[family])
    assert (before.surroundings_digest == "").all()
    assert (after.surroundings_digest != "").all()


def test_another_radius_under_the_same_name_is_refused_until_update(study: Path, client: Client) -> None:
    run(study, client, parameters())
    with pytest.raises(ValueError, match=r"region rim is 2.0 mm in the cube, now 5.0 mm"):
        run(study, client, parameters({**REGIONS, "rim": 5}))
    summary = run(study, client, parameters({**REGIONS, "rim": 5}), update=True)
    assert summary.computed == 2 * len(CLASSES)


def test_a_new_lesion_beside_old_ones_is_told_and_update_computes_them_anew(study: Path, client: Client) -> None:
    run(study, client, parameters(), "one")
    alone = open_cube(study / "cube.zarr").load().sel(lesion="one")
    events: list[Any] = []
    run(study, client, parameters(), "one two", on_event=events.append)
    (started,) = [event for event in events if isinstance(event, RunStarted)]
    told = "ct.nii.gz: two: new beside lesions whose regions were bounded without; run with --update"
    assert started.notes[-1].startswith(told)
    assert run(study, client, parameters(), update=True).computed == len(REGIONS) * len(CLASSES)
    both = open_cube(study / "cube.zarr").load().sel(lesion="one")
    volume: dict[str, Any] = {"shape_feature": "VoxelVolume", "segmentation": "default"}
    assert both["shape"].sel(region="margin", **volume) < alone["shape"].sel(region="margin", **volume)
    assert both["shape"].sel(region="core", **volume) == alone["shape"].sel(region="core", **volume)


def test_a_liver_that_cannot_be_read_fails_the_regions_outside_alone(study: Path, client: Client) -> None:
    (study / "liver.nii.gz").unlink()
    summary = run(study, client, parameters(), "one")
    assert summary.done == 1
    state = open_cube(study / "cube.zarr").state.sel(lesion="one", segmentation="default", image_type="original")
    states = {str(name): set(state.sel(region=name, family=list(CLASSES)).values) for name in state.region.values}
    assert states == {"lesion": {"done"}, "core": {"done"}, "rim": {"failed"}, "margin": {"failed"}}
    assert all(
        "liver.nii.gz: the liver's mask, which bounds regions" in item.failure.reason for item in summary.partial
    )


def test_a_region_without_a_voxel_fails_alone_with_its_reason(study: Path, client: Client) -> None:
    summary = run(study, client, parameters({"lesion": None, "core": 30}), "one")
    assert summary.done == 1
    assert all("region core has no voxel: nothing of the lesion lies that deep" in str(p) for p in summary.partial)
    assert len(summary.partial) == 1


def test_where_nothing_is_asked_of_the_lesion_itself_it_is_not_measured(study: Path, client: Client) -> None:
    run(study, client, parameters({"margin": 4}))
    assert list(open_cube(study / "cube.zarr").region.values) == ["margin"]


@pytest.mark.parametrize(
    "more",
    [
        {"normalize": True, "normalizeScale": 100},
        {"preCrop": True, "padDistance": 3},
        {"resampledPixelSpacing": [2, 2, 2], "normalize": True},
    ],
    ids=["normalised", "cropped", "normalised and resampled"],
)
def test_other_settings_reach_regions_as_they_reach_a_lesion(study: Path, more: dict[str, Any]) -> None:
    types = {"imageType": {"Original": {}, "Wavelet": {}, "Square": {}, "LoG": {"sigma": [2]}}}
    both = parameters({"lesion": None, "margin": 3, "core": 1}, **more) | types
    alone = parameters({"margin": 3}, **more) | types
    found = extract_lesion(study / "ct.nii.gz", study / "one.nii.gz", both)
    single = extract_lesion(study / "ct.nii.gz", study / "one.nii.gz", alone)
    assert single == {name: value for name, value in found.items() if name.startswith("margin__")}
    assert all(np.isfinite(value) for value in found.values())
    plain = extract_lesion(study / "ct.nii.gz", study / "one.nii.gz", parameters({"lesion": None}, **more) | types)
    assert plain == {name: value for name, value in found.items() if "__" not in name}


def test_air_keeps_a_margin_out_also_where_the_image_is_normalised(study: Path) -> None:
    voxels = scan()
    voxels[:, :8] = -1000
    write(study / "ct.nii.gz", voxels)
    volumes = [
        extract_lesion(study / "ct.nii.gz", study / "one.nii.gz", parameters({"margin": 4}, **more))[
            "margin__original_shape_VoxelVolume"
        ]
        for more in ({}, {"normalize": True}, {"airThreshold": None})
    ]
    assert volumes[0] == volumes[1] < volumes[2]


def test_the_volumes_of_raters_are_set_side_by_side(study: Path, client: Client) -> None:
    wider = block(slice(4, 9), slice(8, 16), slice(8, 18))
    write(study / "wider.nii.gz", wider)
    rows = ["RAD,one,one", "AI,one,wider", "RAD,two,two"]
    lines = [f"p,{lesion},{rater},ct.nii.gz,{mask}.nii.gz" for rater, lesion, mask in (row.split(",") for row in rows)]
    (study / "raters.csv").write_text("\n".join(["patient,lesion,segmentation,image,mask", *lines]))
    extract(study / "raters.csv", study / "raters.zarr", parameters({"lesion": None}), client)
    table = open_cube(study / "raters.zarr").hgp.volume_spread()
    voxel = np.prod(spacing_of(study))
    assert table.loc["one", ["RAD", "AI"]].tolist() == pytest.approx([5 * 8 * 8 * voxel, 5 * 8 * 10 * voxel])
    assert table.loc["one", ["n", "spread"]].tolist() == pytest.approx([2, 1.25])
    assert table.loc["two", "n"] == 1
    assert np.isnan(table.loc["two", "spread"])
    with pytest.raises(ValueError, match="volumes need original_shape_VoxelVolume"):
        open_cube(study / "raters.zarr").hgp.select(features="glcm_*").hgp.volume_spread()
