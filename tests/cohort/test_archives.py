"""What every layout has in common: livers that can be read, pseudonyms, broken files, runs to the end."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import archives
import pytest
from dicom_files import write_seg
from typer.testing import CliRunner, Result

from hgpscale.cli import app
from hgpscale.cohort import build_cohort, read_manifest, scans
from hgpscale.cohort.images import open_image, open_voxel_file
from hgpscale.cohort.layouts import LeftOut
from hgpscale.cohort.outlines import Outlines, read_outlines
from hgpscale.cohort.pseudonym import Veil, pseudonym
from hgpscale.cube import open_cube, status

ALL = pytest.mark.parametrize("layout", archives.TREES)
SMALL = '{"featureClass": {"firstorder": ["Mean"], "shape": ["MeshVolume"]}}'


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


def cohort(layout: str, root: Path, *more: object) -> Result:
    globs = zip(("--image", "--mask", "--liver"), archives.FOLDER, strict=True) if layout == "folder" else ()
    return run(
        "cohort", layout, root, "-o", root.parent / "cohort.csv", *(part for pair in globs for part in pair), *more
    )


@pytest.fixture
def keyfile(tmp_path: Path) -> Path:
    path = tmp_path / "keyfile"
    path.write_bytes(bytes(range(32)))
    path.chmod(0o600)
    return path


@ALL
def test_the_liver_of_every_row_can_be_read(tmp_path: Path, layout: str) -> None:
    assert cohort(layout, archives.TREES[layout](tmp_path / "root")).exit_code in (0, 1)
    rows = read_manifest(tmp_path / "cohort.csv").rows
    assert rows
    assert [row.liver is None for row in rows] == [layout == "worc"] * len(rows)
    for row in rows:
        image = open_image(row.image).geometry
        if row.liver is not None:
            liver = read_outlines(row.liver, image).organ(row.liver_roi)
            assert liver.array.any()
            assert liver.geometry == image


@ALL
def test_nothing_printed_shows_an_id_under_pseudonyms(tmp_path: Path, layout: str, keyfile: Path) -> None:
    root = archives.TREES[layout](tmp_path / "root")
    cohort(layout, root)
    ids = {row.patient for row in read_manifest(tmp_path / "cohort.csv").rows}
    ids |= {path.name for path in root.iterdir() if path.is_dir() and layout not in ("msd", "lits", "nnunet")}
    ids |= {"LiTS-010", "LiTS-011", "CRLM-009", "volume-11", "segmentation-10"}
    images = sorted(path for path in root.rglob("*.nii*") if "seg" not in path.name and "labels" not in str(path))
    for path in [*images[:1], *sorted(root.rglob("*RAD.nii.gz"))[-1:], *sorted(root.rglob("1-1.dcm"))[1:]]:
        path.write_bytes(b"broken")
    labels = tmp_path / "labels.csv"
    rows = "".join(f"{name},scan of {name},{number}\n" for number, name in enumerate(sorted(ids)))
    labels.write_text(f"patient,scout,grade\n{rows}")
    said = cohort(layout, root, "--labels", labels, "--pseudonymise", keyfile, "--force")
    assert said.exit_code in (0, 1)
    assert "left out, as they tell who a person is: scout" in said.stderr
    table = [line.split(",") for line in (tmp_path / "cohort.csv").read_text().splitlines()]
    plain = [at for at, name in enumerate(table[0]) if name not in ("image", "mask", "liver")]
    text = said.stdout + said.stderr + "\n".join(",".join(row[at] for at in plain) for row in table)
    assert [name for name in sorted(ids) if name.lower() in text.lower()] == []
    assert str(root / "") not in text.replace(f"{root}/pinfo", "").replace(f"{root}/Colorectal", "")


@pytest.mark.parametrize(
    "text", ["patient,a\nCRLM-001,1\nCRLM-001,2\n", "patient,a\nDoe,1\nDoe,2\n", "patient,a\nDoe,1\n"]
)
def test_errors_show_no_id_under_pseudonyms(tmp_path: Path, keyfile: Path, text: str) -> None:
    root = archives.worc(tmp_path / "root")
    (tmp_path / "labels.csv").write_text(text)
    said = cohort("worc", root, "--labels", tmp_path / "labels.csv", "--pseudonymise", keyfile)
    assert said.exit_code == 2
    assert said.stderr.startswith("error: ")
    assert "P-" in said.stderr
    assert not [name for name in ("CRLM-0", "Doe") if name in said.stderr]


def test_a_problem_is_told_by_pseudonym_and_file(tmp_path: Path, keyfile: Path) -> None:
    root = archives.worc(tmp_path / "root")
    (root / "CRLM-002" / "segmentation_lesion0_STUD1.nii.gz").write_bytes(b"broken")
    said = cohort("worc", root, "--pseudonymise", keyfile, "-q").stderr.splitlines()
    who = read_manifest(tmp_path / "cohort.csv").rows[-1].patient
    assert said[1].startswith(f"left out: {who}: {who}/segmentation_lesion0_STUD1.nii.gz: ")


def test_pseudonyms_themselves_are_left_as_they_are() -> None:
    veil = Veil(b"k" * 16, [LeftOut("1234", "root/1234/ct.nii", ""), LeftOut("7", "root/7", "")])
    mine, same = veil.name("1234"), "P-0012340000000000"
    text = veil.text(f"{same}: 1234, 7 of root/1234/ct.nii and x1234y")
    assert text == f"{same}: {mine}, 7 of {mine}/ct.nii and x{mine}y"
    assert (veil.name("1234-2"), veil.name("99")) == (f"{mine}-2", pseudonym("99", b"k" * 16))


def test_swapped_numbers_are_told(tmp_path: Path) -> None:
    root = tmp_path / "root"
    archives.nifti(root / "CRLM-001" / "image.nii.gz", archives.ct())
    for name, place in {
        "0_CNN": archives.A, "1_CNN": archives.B, "0_RAD": archives.A, "1_RAD": archives.B,
        "0_STUD1": archives.B, "1_STUD1": archives.A,
    }.items():  # fmt: skip
        archives.nifti(root / "CRLM-001" / f"segmentation_lesion{name}.nii.gz", archives.mask(place))
    built = build_cohort("worc", root, tmp_path / "cohort.csv")
    assert built.raters == (("CNN", 2, 2, 0), ("RAD", 2, 2, 0), ("STUD1", 2, 0, 2))
    assert built.notes[0] == (
        "CRLM-001: lesion 0 of STUD1 is not where CNN, RAD have it (Dice below 0.1): kept as named, "
        "counted as unmatched"
    )
    assert built.notes[2:] == (
        "CRLM-001: STUD1 seems to number lesions otherwise: its 0 is where RAD has 1, its 1 is where RAD has 0: "
        "kept as named",
    )
    for path in (root / "CRLM-001").glob("*CNN*"):
        path.unlink()
    built = build_cohort("worc", root, tmp_path / "two.csv")
    assert [note for note in built.notes if "otherwise" in note] == [
        "CRLM-001: RAD seems to number lesions otherwise: its 0 is where STUD1 has 1, its 1 is where STUD1 has 0: "
        "kept as named"
    ]


def test_masks_without_number_or_rater_are_known(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for patient, name in {"GIST-001": "segmentation", "Melanoma-001": "segmentation_lesion1"}.items():
        archives.nifti(root / patient / "image.nii.gz", archives.ct())
        archives.nifti(root / patient / f"{name}.nii.gz", archives.mask(archives.A))
    assert build_cohort("worc", root, tmp_path / "c.csv").cohort.lesions == ("GIST-001", "Melanoma-001-1")


@pytest.mark.parametrize(("layout", "what"), [("worc", "RAD"), ("lits", "segmentation-0"), ("folder", "seg_2")])
def test_a_mask_that_may_not_be_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str, what: str
) -> None:
    def denied(path: Path, *arguments: Any, **more: Any) -> Any:
        if what in Path(path).name:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *arguments, **more)

    opened = open_voxel_file
    monkeypatch.setattr(scans, "open_voxel_file", denied)

    def refused(path: Path, *arguments: Any, **more: Any) -> Outlines:
        if what in Path(path).name:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return read_outlines(path, *arguments, **more)

    monkeypatch.setattr(scans, "read_outlines", refused)
    said = cohort(layout, archives.TREES[layout](tmp_path / "root"))
    assert said.exit_code == 1
    assert "cannot be read: Permission denied" in said.stderr
    assert read_manifest(tmp_path / "cohort.csv").rows


def test_columns_of_the_manifest_s_names_are_told(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("patient,Image,label,grade\nCRLM-001,a,3,1\nCRLM-002,b,3,2\n")
    said = cohort("worc", archives.worc(tmp_path / "root"), "--labels", tmp_path / "labels.csv")
    assert f"note: {tmp_path / 'labels.csv'}: left out, as the manifest has its own: Image, label\n" in said.stderr


@pytest.mark.parametrize("broken", [False, True])
def test_a_liver_that_cannot_be_used_is_told_and_left_out(tmp_path: Path, *, broken: bool) -> None:
    root = archives.folder(tmp_path / "root")
    liver = root / "P_one" / "liver.nii.gz"
    if broken:
        liver.write_bytes(b"broken")
    else:
        liver.unlink()
    said = cohort("folder", root)
    assert said.exit_code == 1
    assert [line for line in said.stderr.splitlines() if line.startswith("left out: P_one: ") and "liver" in line]
    rows = read_manifest(tmp_path / "cohort.csv").rows
    assert [(row.patient, row.liver is None) for row in rows] == [("P_one", True), ("P_two", False), ("P_two", False)]


def test_force_removes_its_own_label_maps_only(tmp_path: Path) -> None:
    root = archives.lits(tmp_path / "root")
    assert cohort("lits", root).exit_code == 1
    masks = tmp_path / "cohort_masks"
    (masks / "foreign.nrrd").write_bytes(b"NRRD0004\nmade by me\n")
    archives.nifti(root / "Training_Batch1" / "segmentation-0.nii", archives.mask(archives.A, value=2))
    assert [path.name for path in sorted(masks.iterdir())] == ["LiTS-000.nrrd", "foreign.nrrd"]
    assert cohort("lits", root, "--force").exit_code == 1
    assert [path.name for path in masks.iterdir()] == ["foreign.nrrd"]


@pytest.mark.parametrize("layout", ["tcia-crlm", "hcc-tace"])
def test_dicom_files_may_have_any_name_and_share_a_folder(tmp_path: Path, layout: str) -> None:
    root = archives.TREES[layout](tmp_path / "root")
    before = cohort(layout, root)
    assert before.exit_code == 0
    expected = (tmp_path / "cohort.csv").read_text().count("\n")
    for number, path in enumerate(sorted(root.rglob("*.dcm"))):
        folder = next(parent for parent in path.parents if parent.parent == root)
        path.rename(folder / f"IM{number:04}")
    assert cohort(layout, root, "--force").exit_code == 0
    assert (tmp_path / "cohort.csv").read_text().count("\n") == expected
    assert run("check", tmp_path / "cohort.csv").exit_code == 0


def test_several_seg_objects_are_listed(tmp_path: Path) -> None:
    root = archives.hcc_tace(tmp_path / "root")
    (study,) = (root / "HCC_001").iterdir()
    write_seg(study / "301.0" / "x", next(study.glob("2.*")), {"Mass": archives.mask(archives.A) > 0})
    said = cohort("hcc-tace", root)
    assert "expected one SEG object, found 2: 300.000000-Segmentation-45632/1-1.dcm, 301.0/x" in said.stderr


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["tcia-crlm", "hcc-tace"])
def test_dicom_archives_are_checked_and_extracted(tmp_path: Path, layout: str) -> None:
    assert cohort(layout, archives.TREES[layout](tmp_path / "root")).exit_code == 0
    manifest, settings, cube = tmp_path / "cohort.csv", tmp_path / "settings.yaml", tmp_path / "out.zarr"
    settings.write_text(SMALL)
    assert run("check", manifest, "--settings", settings).exit_code == 0
    said = run("extract", manifest, cube, "--settings", settings, "--workers", 1)
    assert said.exit_code == 0, said.output
    rows = read_manifest(manifest).rows
    found = status(cube)
    assert (found.rows, found.done) == (len(rows), len(rows)) == (4 if layout == "tcia-crlm" else 2,) * 2
    means = open_cube(cube)["firstorder"].load()
    assert bool(means.notnull().all())
    assert {row.liver_roi for row in rows} == {"Liver"}
