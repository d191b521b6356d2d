"""The commands about networks, as they are typed: prepare, train, predict, embed."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from networks import micro, study
from typer.testing import CliRunner

import hgpscale
from hgpscale import extract, open_cube
from hgpscale.cli import app

RUNNER = CliRunner()
MEAN = {"imageType": {"Original": {}}, "featureClass": {"firstorder": ["Mean"]}}


def _run(*arguments: object, status: int = 0) -> str:
    done = RUNNER.invoke(app, ["deep", *map(str, arguments)])
    assert done.exit_code == status, (done.output, done.exception)
    return done.output


def test_a_study_from_scans_to_a_cube_with_embeddings(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the extra deep is not installed")
    manifest = study(tmp_path / "study", 4, 2)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps(micro(validate_every=2).model_dump(mode="json")))
    store, networks, found = tmp_path / "p.zarr", tmp_path / "networks", tmp_path / "found"
    said = _run("prepare", manifest, store, "--spacing", 3, 2, 2, "--segmentation", "RAD")
    assert "6 scans, 6 patients" in said
    train = ("train", store, networks, "--recipe", recipe, "--folds", 2, "--steps", 4, "--device", "cpu")
    assert "trained now: 0, 1" in _run(*train)
    assert "all were trained already" in _run(*train)
    page = (networks / "training.html").read_text("utf-8")
    assert page.count("<figure") >= 4
    assert 'id="fold-2"' in page

    table = pd.read_csv(manifest)
    table = table[table.split == "external"].drop_duplicates("patient")[["patient", "image", "centre"]]
    table["image"] = [str(manifest.parent / path) for path in table["image"]]
    table.to_csv(tmp_path / "scans.csv", index=False)
    said = _run("predict", networks, tmp_path / "scans.csv", found, "--threshold", 0.3, "--device", "cpu")
    assert "2 scans" in said
    assert {path.name for path in found.iterdir()} == {
        "masks", "lesions.csv", "predictions.csv", "predictions.html", "run.json",
    }  # fmt: skip
    assert "scans.csv" in (found / "predictions.html").read_text("utf-8")

    cube = tmp_path / "cube.zarr"
    extract(manifest, cube, settings=MEAN, workers=1)
    assert "numbers of networks" in _run("embed", networks, store, cube, "--device", "cpu")
    assert "deep" in open_cube(cube)


@pytest.mark.parametrize(
    "arguments",
    [("train", "p.zarr", "n"), ("predict", "n", "scan.nii.gz", "out"), ("embed", "n", "p.zarr", "cube.zarr")],
)
def test_without_torch_it_is_said_what_to_install(arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT.format(arguments=["deep", *arguments])],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == (
        "error: torch, monai, safetensors is not installed, which networks need: pip install 'hgpscale[deep]'\n"
    )


_WITHOUT = """
import sys
import hgpscale.deep.extra
hgpscale.deep.extra.find_spec = lambda name: None
sys.argv = ["hgpscale", *{arguments!r}]
from hgpscale.cli import main
main()
"""


def test_torch_is_imported_by_networks_alone() -> None:
    package = Path(hgpscale.__file__).parent
    files = [path for path in package.rglob("*.py") if package / "deep" not in path.parents]
    files.append(package / "deep" / "preparing.py")
    assert len(files) > 100
    for path in files:
        nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
        names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
        names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
        assert not {name.partition(".")[0] for name in names} & {"torch", "monai", "safetensors"}, path
