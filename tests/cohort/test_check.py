import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from cohort_files import nifti_bytes, write

from hgpscale.cohort import Problem, check_cohort, read_manifest
from hgpscale.cohort.headers import inspect
from hgpscale.settings import Settings

GRIDS = {
    "size.nii": ("size is (6, 5, 4) in the image and (5, 5, 4) in the mask [voxels (z, y, x)]"),
    "spacing.nii": "spacing is (3, 2, 1) in the image and (3, 2, 1.5) in the mask [mm (z, y, x)]",
    "origin.nii": "origin is (0, 0, 0) in the image and (0, 0, 7) in the mask [mm (x, y, z)]",
}


def manifest(folder: Path, *rows: str) -> Path:
    path = folder / "cohort.csv"
    path.write_text("\n".join(["patient,lesion,segmentation,image,mask", *rows]) + "\n")
    return path


def save(path: Path, size: tuple[int, int, int] = (6, 5, 4), **grid: tuple[float, ...]) -> None:
    image = sitk.GetImageFromArray(np.ones(size, np.uint8))
    image.SetSpacing(grid.get("spacing", (1.0, 2.0, 3.0)))
    image.SetOrigin(grid.get("origin", (0.0, 0.0, 0.0)))
    sitk.WriteImage(image, str(path))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(tmp_path / "image.nii")
    save(tmp_path / "good.nii")
    save(tmp_path / "size.nii", (5, 5, 4))
    save(tmp_path / "spacing.nii", spacing=(1.5, 2.0, 3.0))
    save(tmp_path / "origin.nii", origin=(0.0, 0.0, 7.0))
    write(tmp_path, "short.nii", nifti_bytes()[:-30])
    return tmp_path


def test_a_sound_cohort_has_no_problem(folder: Path) -> None:
    assert check_cohort(read_manifest(manifest(folder, "P1,L1,A,image.nii,good.nii"))) == []


def test_every_problem_of_every_row_in_one_pass(folder: Path) -> None:
    rows = [f"P1,{name},A,image.nii,{name}" for name in GRIDS]
    cohort = read_manifest(manifest(folder, *rows, "P2,L4,A,short.nii,gone.nii", "P2,L4,B,short.nii,good.nii"))
    problems = check_cohort(cohort)
    truncated = "it is truncated: its header claims 240 bytes of voxels, it holds 210"
    assert problems == [
        *[Problem(line, name, "A", name, "geometry", said) for line, (name, said) in enumerate(GRIDS.items(), start=2)],
        Problem(5, "L4", "A", "short.nii", "read", truncated),
        Problem(5, "L4", "A", "gone.nii", "read", "the file is missing"),
        Problem(6, "L4", "B", "short.nii", "read", truncated),
    ]


def test_a_path_is_read_as_a_manifest(folder: Path) -> None:
    path = manifest(folder, "P1,L1,A,image.nii,size.nii", "P1,L2,A,gone.nii,good.nii")
    problems = check_cohort(read_manifest(path))
    assert len(problems) == 2
    assert check_cohort(path) == check_cohort(str(path)) == problems


def test_both_size_and_spacing_are_named(folder: Path) -> None:
    save(folder / "both.nii", (5, 5, 4), spacing=(1.5, 2.0, 3.0))
    problems = check_cohort(read_manifest(manifest(folder, "P1,L1,A,image.nii,both.nii")))
    assert [problem.problem.split()[0] for problem in problems] == ["size", "spacing"]


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        (Settings(correctMask=True), 0),
        (Settings(geometryTolerance=0.6), 0),
        (Settings(resampledPixelSpacing=(1, 1, 1)), 0),
        (Settings(geometryTolerance=0.4), 1),
    ],
)
def test_settings_decide_what_geometry_is_allowed(folder: Path, settings: Settings, found: int) -> None:
    cohort = read_manifest(manifest(folder, "P1,L1,A,image.nii,spacing.nii"))
    assert len(check_cohort(cohort, settings)) == found


def test_a_mask_without_the_channel_is_a_problem(folder: Path) -> None:
    layers = np.zeros((2, 6, 5, 4), "<i2")
    write(folder, "layers.nii", nifti_bytes(dim=(5, 4, 5, 6, 1, 2, 1, 1), intent=1007, data=layers.tobytes()))
    path = manifest(folder, "P1,L1,A,image.nii,layers.nii", "P2,L2,A,layers.nii,layers.nii")
    in_image = [problem for problem in check_cohort(path, Settings(label_channel=1)) if problem.lesion == "L2"]
    assert [(p.stage, p.problem) for p in in_image] == [("read", "it has 2 numbers a voxel, expected one")]
    channel = [p for p in check_cohort(path, Settings(label_channel=2)) if p.stage == "mask"]
    assert [p.lesion for p in channel] == ["L1", "L2"]
    assert {p.problem for p in channel} == {"label_channel is 2, but the mask has 2 values a voxel, 0 to 1"}


def test_each_file_is_looked_at_once_and_counted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def counted(path: Path, *, several: bool) -> object:
        seen.append(path.name)
        return inspect(path, several=several)

    monkeypatch.setattr("hgpscale.cohort.check.inspect", counted)
    steps: list[tuple[int, int]] = []
    rows = [f"P{i},L{i},A,image.nii,good.nii" for i in range(20)]
    check_cohort(read_manifest(manifest(folder, *rows)), on_progress=lambda *step: steps.append(step))
    assert sorted(seen) == ["good.nii", "image.nii"]
    assert steps == [(1, 2), (2, 2)]


def test_what_itk_alone_refuses_is_a_problem(folder: Path) -> None:
    sheared = nifti_bytes(codes=(0, 1), srow=(1, 0.001, 0, 0, 0, 2, 0, 0, 0, 0, 3, 0))
    write(folder, "sheared.nii", sheared)
    (problem,) = check_cohort(read_manifest(manifest(folder, "P1,L1,A,sheared.nii,good.nii")))
    assert problem.file == "sheared.nii"
    assert "orthonormal" in problem.problem


def test_reading_manifests_needs_neither_simpleitk_nor_pandas_to_import() -> None:
    code = "import sys, hgpscale.cohort; print({'SimpleITK', 'pandas', 'pyarrow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
