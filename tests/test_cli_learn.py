"""The commands that learn, as their users meet them."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from learn_cases import rated
from test_cli import assert_refused, run

from hgpscale.learn import scores

QUICK = ("--model", "elastic-net", "--workers", 1, "--permutations", 20)


@pytest.fixture(scope="module")
def net(rated_cube: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model of the lesions that are not external."""
    path = tmp_path_factory.mktemp("cli") / "net.skops"
    found = run("fit", rated_cube, "--target", "pure", "--cutoff", "50", "--model", "elastic-net", "-o", path)
    assert (found.exit_code, found.stderr) == (0, "")
    return path


@pytest.mark.parametrize(
    ("command", "parts"),
    [
        (
            "evaluate",
            ["--target", "--leave-centre-out", "--fusion", "metrics.json", "predictions.csv", "Example", "--splits"],
        ),
        ("fit", ["--update", "--harmonise", "--fusion", "pickle", "Example"]),
        ("predict", ["--overwrite", "exit status", "Example"]),
        ("report", ["DIR", "--output", "Example"]),
    ],
)
def test_help(command: str, parts: list[str]) -> None:
    found = run(command, "--help")
    assert found.exit_code == 0
    for part in parts:
        assert part in " ".join(found.stdout.split()), part
    assert command in run("--help").stdout


def test_evaluate(rated_cube: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ("evaluate", rated_cube, "--target", "pure", "--cutoff", "50", "--n-splits", 2, "--everything", *QUICK)
    found = run(*arguments, "--stratum", "centre", "--out", out, "--seed", 4)
    assert found.exit_code == 0, found.stderr
    said = " ".join(found.stdout.split())
    for part in ("AUC", "lesion region", "mean", "volume", "30 patients, 45 lesions", "2 splits (repeated)", "p ="):
        assert part in said, part
    assert "next: hgpscale report" in said
    metrics = json.loads((out / "metrics.json").read_text())
    assert (metrics["splits"]["seed"], list(metrics["strata"]["centre"])) == (4, ["X", "Y"])
    assert sorted(path.name for path in out.iterdir()) == ["metrics.json", "predictions.csv", "splits.csv"]
    quiet = run(*arguments, "--splits", out / "splits.csv", "--out", tmp_path / "again", "--quiet")
    assert (quiet.exit_code, quiet.stdout, quiet.stderr) == (0, "", "")
    assert json.loads((tmp_path / "again" / "metrics.json").read_text())["auc"] == metrics["auc"]


def test_external(rated_cube: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "_RESAMPLES", 20)
    found = run("evaluate", rated_cube, "--target", "pure", "--external", "--out", tmp_path / "out", *QUICK)
    assert found.exit_code == 0, found.stderr
    assert "left out: " in found.stdout
    assert "mixed growth" in found.stdout
    assert "1 split (external)" in " ".join(found.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("--target", "pure", "--external", "--leave-centre-out"), ("--external and --leave-centre-out exclude",)),
        (("--target", "pur"), ("no column 'pur' in the manifest",)),
        ((), ("--target",)),
        (("--target", "pure", "--model", "tree"), ("model is 'tree', expected one of search",)),
        (("--target", "pure", "--model", "sgd", "--harmonise", "combat"), ("cannot harmonise centres",)),
        (("--target", "pure", "--fusion", "stack"), ("features of the family deep beside others, found none",)),
        (("--target", "pure", "--fusion", "late"), ("--fusion",)),
        (("--target", "pure", "--features", "nothing*"), ("no feature matches 'nothing*'",)),
        (("--target", "pure", "--splits", "none.csv"), ("none.csv: the file is missing",)),
        (("--target", "pure", "--n-splits", 1), ("--n-splits",)),
        (("--target", "pure", "--cutoff", "70"), ("--cutoff",)),
    ],
)
def test_evaluate_refuses_in_one_line(
    rated_cube: Path, tmp_path: Path, arguments: tuple[object, ...], parts: tuple[str, ...]
) -> None:
    assert_refused(run("evaluate", rated_cube, "--out", tmp_path / "out", "--workers", 1, *arguments), *parts)
    assert list(tmp_path.iterdir()) == []


def test_fit_says_what_it_was_fitted_on(rated_cube: Path, tmp_path: Path) -> None:
    found = run("fit", rated_cube, "--target", "pure", "--model", "sgd", "--out", tmp_path / "m.skops")
    assert found.exit_code == 0, found.stderr
    said = " ".join(found.stdout.split())
    assert "external validation set" in said
    assert "mixed growth, and the target is pure lesions" in said
    assert "m.skops: fitted on" in said
    updated = run("fit", rated_cube, "--update", tmp_path / "m.skops", "--everything")
    assert updated.exit_code == 0, updated.stderr
    assert "went on with" in updated.stdout
    assert "means moved most, in standard deviations" in updated.stdout
    again = run("fit", rated_cube, "--update", tmp_path / "m.skops", "--everything")
    assert again.exit_code == 0
    assert "nothing to do" in again.stdout


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("--target", "pure"), ("--target and --out are needed, or --update",)),
        (("--update", "none.skops"), ("none.skops: there is no model; make one with hgpscale fit",)),
        (("--update", "none.skops", "--target", "pure"), ("--update does not take --target",)),
        (("--update", "none.skops", "--model", "sgd"), ("--update does not take --model",)),
        (("--update", "none.skops", "--workers", "2"), ("--update does not take --workers",)),
        (("--target", "pure", "--out", "x", "--model", "tree"), ("model is 'tree'",)),
    ],
)
def test_fit_refuses_in_one_line(rated_cube: Path, arguments: tuple[object, ...], parts: tuple[str, ...]) -> None:
    assert_refused(run("fit", rated_cube, *arguments), *parts)


def test_a_model_in_memory_cannot_be_updated(rated_cube: Path, net: Path) -> None:
    assert_refused(run("fit", rated_cube, "--update", net), "a model of elastic-net is fitted on all lesions at once")


def test_predict(rated_cube: Path, net: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    found = run("predict", rated_cube, "--model", net, "--out", table)
    assert (found.exit_code, found.stderr) == (0, "")
    said = " ".join(found.stdout.split())
    assert "table.csv: 45 lesions of 30 patients" in said
    assert "of these the model was fitted on: too good for those" in said
    assert len(pd.read_csv(table)) == 75
    assert_refused(run("predict", rated_cube, "--model", net, "--out", table), "is there already; use --overwrite")
    assert run("predict", rated_cube, "--model", net, "--out", table, "--overwrite", "--quiet").stdout == ""


def test_lesions_without_features_make_the_exit_status_one(net: Path, tmp_path: Path) -> None:
    cube = rated(tmp_path / "c.zarr", patients=3, first=60, failed={"secret060.0": "all"}, pending=["secret062.0"])
    found = run("predict", cube, "--model", net, "--out", tmp_path / "table.csv", "--quiet")
    assert found.exit_code == 1
    assert "secret060.0" in found.stdout
    assert "secret062.0" in found.stdout
    assert list(pd.read_csv(tmp_path / "table.csv")["lesion"].dropna()) == ["secret061.0", "secret061.1"]


def test_predict_refuses_in_one_line(rated_cube: Path, growth_cube: Path, net: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "t.csv")
    assert_refused(run("predict", growth_cube, "--model", net, *out), "lacks", "of the model's 8 features")
    assert_refused(run("predict", rated_cube, "--model", tmp_path / "no.skops", *out), "there is no model")
    assert_refused(run("predict", tmp_path / "no.zarr", "--model", net, *out), "no.zarr")
    (tmp_path / "bad.skops").write_bytes(b"no zip")
    assert_refused(run("predict", rated_cube, "--model", tmp_path / "bad.skops", *out), "cannot be read as a model")
    assert not (tmp_path / "t.csv").exists()
