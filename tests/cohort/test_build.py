"""Labels that are joined, pseudonyms, and what the command refuses."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import archives
import pytest
from typer.testing import CliRunner, Result

from hgpscale.cli import app
from hgpscale.cohort import build_cohort
from hgpscale.cohort.layouts import LAYOUTS
from hgpscale.cohort.pseudonym import pseudonym, read_key
from hgpscale.errors import ManifestError

KEY = bytes(range(32))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["cohort", *map(str, arguments)])


@pytest.fixture
def lits(tmp_path: Path) -> Path:
    root = archives.lits(tmp_path / "lits")
    (root / "Training_Batch2" / "volume-11.nii").unlink()
    return root


@pytest.fixture
def keyfile(tmp_path: Path) -> Path:
    path = tmp_path / "keyfile"
    path.write_bytes(KEY)
    path.chmod(0o600)
    return path


def test_labels_join_by_patient(lits: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text(
        "Patient-ID,PatientName,hgp_desmoplastic,hgp_replacement,hgp_pushing,CEA\n"
        "LiTS-000,Doe^Jane,60,40,0,3\nLiTS-077,Doe^John,100,0,0,4\n"
    )
    built = build_cohort("lits", lits, tmp_path / "cohort.csv", labels=labels)
    assert built.cohort.columns["hgp_desmoplastic"].fillna(-1).tolist() == [60, 60, -1]
    assert built.notes[1:] == (
        f"{labels}: hgp_desmoplastic, hgp_replacement, hgp_pushing, CEA joined to 1 of 2 patients",
        f"{labels}: without labels: LiTS-002",
        f"{labels}: labels of what is not in the archive: LiTS-077",
        f"{labels}: left out, as they tell who a person is: PatientName",
    )
    assert "Doe" not in (tmp_path / "cohort.csv").read_text()


def test_labels_join_by_lesion(lits: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("patient,lesion,grade\nLiTS-000,LiTS-000-1,a\nLiTS-000,LiTS-000-2,b\nLiTS-002,LiTS-002-1,c\n")
    built = build_cohort("lits", lits, tmp_path / "cohort.csv", labels=labels, by="lesion")
    assert built.cohort.columns["grade"].tolist() == ["a", "b", "c"]
    with pytest.raises(ManifestError, match="'LiTS-000' has other values on an earlier line; give --by lesion"):
        build_cohort("lits", lits, tmp_path / "cohort2.csv", labels=labels)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,grade\nLiTS-000,a\n", "no column names the patient; found: name, grade"),
        ("patient,grade\nX,a\n", "it has none of the 2 patients; it names X, the archive LiTS-000, LiTS-002"),
        ("patient,grade\nLiTS-000\n", "line 2: it has 1 cells, the header has 2"),
        ("patient,glcm\nLiTS-000,1\n", "which was not written: column 'glcm': the name is reserved"),
    ],
)
def test_labels_that_cannot_be_joined_are_refused(lits: Path, tmp_path: Path, text: str, message: str) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text(text)
    result = run("lits", lits, "-o", tmp_path / "cohort.csv", "--labels", labels)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels.csv", "lits"]


def test_pseudonyms(lits: Path, tmp_path: Path, keyfile: Path) -> None:
    expected = "P-" + hmac.new(KEY, b"LiTS-000", hashlib.sha256).hexdigest()[:16]
    assert pseudonym("LiTS-000", KEY) == expected
    assert pseudonym("LiTS-000", KEY[::-1]) != expected
    labels = tmp_path / "labels.csv"
    labels.write_text("patient,grade\nLiTS-000,a\nLiTS-002,b\n")
    built = build_cohort("lits", lits, tmp_path / "cohort.csv", labels=labels, keyfile=keyfile)
    assert built.cohort.lesions[:2] == (f"{expected}-1", f"{expected}-2")
    assert built.cohort.columns["grade"].tolist() == ["a", "a", "b"]
    assert built.cohort.rows[0].mask.name == f"{expected}.nrrd"
    assert "LiTS" not in (tmp_path / "cohort.csv").read_text()
    assert "paths in the manifest still hold the archive's names" in built.notes[-1]


@pytest.mark.parametrize(
    ("key", "mode", "message"),
    [
        (b"", 0o600, "the key has 0 bytes, expected at least 16; make one with: head -c 32 /dev/urandom > keyfile"),
        (KEY[:15], 0o600, "the key has 15 bytes"),
        (KEY, 0o640, r"others than its owner may read this key \(mode 640\): chmod 600"),
        (KEY, 0o604, "mode 604"),
    ],
)
def test_keys_that_are_refused(tmp_path: Path, key: bytes, mode: int, message: str) -> None:
    path = tmp_path / "keyfile"
    path.write_bytes(key)
    path.chmod(mode)
    with pytest.raises(ManifestError, match=message):
        read_key(path)
    with pytest.raises(ManifestError, match="the key cannot be read"):
        read_key(tmp_path / "none")


def test_what_is_there_is_not_replaced(lits: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "cohort.csv"
    assert run("lits", lits, "-o", manifest).exit_code == 0
    before = manifest.read_bytes()
    again = run("lits", lits, "-o", manifest)
    assert (again.exit_code, again.stderr) == (
        2,
        f"error: {manifest}: is there already; give --force to replace it, or another name\n",
    )
    foreign = tmp_path / "cohort_masks" / "foreign.txt"
    foreign.write_text("mine")
    assert run("lits", lits, "-o", manifest, "--force").exit_code == 0
    assert (manifest.read_bytes(), foreign.read_text()) == (before, "mine")
    manifest.unlink()
    assert "cohort_masks: is there already" in run("lits", lits, "-o", manifest).stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cohort_masks", "lits"]


def test_the_command_says_what_it_made_and_what_it_left_out(tmp_path: Path) -> None:
    result = run("worc", archives.worc(tmp_path / "CRLM"), "-o", tmp_path / "cohort.csv")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[:3] == [
        f"{tmp_path / 'cohort.csv'}: 2 patients, 3 lesions, 6 rows",
        "rater\tlesions\tmatched\tunmatched",
        "CNN\t1\t1\t0",
    ]
    (left,) = [line for line in result.stderr.splitlines() if line.startswith("left out")]
    assert left.startswith(f"left out: CRLM-003: {tmp_path / 'CRLM' / 'CRLM-003'}: image.nii.gz or image.nii: expected")
    quiet = run("worc", tmp_path / "CRLM", "-o", tmp_path / "cohort.csv", "--force", "-q")
    assert (quiet.stdout, quiet.stderr) == ("", f"{left}\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("brats", "."), "layout is 'brats', expected one of folder, worc, tcia-crlm, hcc-tace, msd, lits"),
        (("lits", "none"), "none: is no folder"),
        (("lits", "."), "no lesion found by layout 'lits'"),
        (("folder", "."), "layout folder needs --image and --mask"),
        (("folder", ".", "--image", "a", "--mask", "{lesion}", "--split"), "exclude each other"),
        (("lits", ".", "--liver", "a", "--split"), "lits does not take --liver, --split: it takes none of --image"),
        (("nnunet", ".", "--image", "a"), "layout nnunet does not take --image: it takes --mask"),
        (("totalsegmentator", ".", "--mask", "a"), "layout totalsegmentator does not take --mask: it takes --image"),
        (("lits", ".", "-o", "cohort.txt"), "expected a manifest that ends in .csv or .parquet"),
        (("lits", ".", "-o", "none/cohort.csv"), "its folder is missing"),
        (("lits", ".", "--merge-mm", "-1"), "--merge-mm"),
    ],
)
def test_wrong_usage_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    output = () if "-o" in arguments else ("-o", "cohort.csv")
    result = run(*arguments, *output)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert message in result.stderr


def test_help_names_every_layout() -> None:
    text = run("--help").stdout
    assert all(f"{name}: " in text for name in LAYOUTS)
