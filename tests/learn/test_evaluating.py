"""Evaluations: what is written, recomputed from the predictions by scikit-learn and by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from distributed import Client, LocalCluster
from learn_cases import FEATURES, RATERS, cube_of, growth_table, rated
from scipy import stats
from sklearn import metrics as sk

from hgpscale.errors import LearnError
from hgpscale.learn import evaluating, scores
from hgpscale.learn.evaluating import Plan, evaluate

PLAN = Plan("pure", "elastic-net", n_splits=4, permutations=50, everything=True)
NOT_EQUAL = ("seconds", "created")


class Results:
    """What an evaluation wrote, read back."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.found: dict[str, Any] = json.loads((folder / "metrics.json").read_text(), parse_constant=_refuse)
        self.table = pd.read_csv(folder / "predictions.csv", dtype={"split": str})
        self.lesions = self.table[self.table["level"] == "lesion"]
        self.patients = self.table[self.table["level"] == "patient"]
        self.splits = [part for _, part in self.lesions.groupby("split", sort=False)]

    def per_split(self, metric: str) -> list[float]:
        """Return a metric of the model in each split."""
        return list(self.found[metric]["per_split"])

    def equal(self, other: Results) -> bool:
        """Whether two runs wrote the same apart from the time."""
        ours, theirs = ({k: v for k, v in one.found.items() if k not in NOT_EQUAL} for one in (self, other))
        files = ("predictions.csv", "splits.csv")
        return ours == theirs and all(
            (self.folder / name).read_bytes() == (other.folder / name).read_bytes() for name in files
        )


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def run(cube: Path, out: Path, plan: Plan, **options: Any) -> Results:
    found = evaluate(cube, plan, out, **{"workers": 1, **options})
    results = Results(out)
    assert results.found == json.loads(json.dumps(evaluating._nulls(found), allow_nan=False))
    return results


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


@pytest.fixture(autouse=True, scope="module")
def few_resamples() -> Iterator[None]:
    """Draw patients 25 times rather than 2000."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scores, "_RESAMPLES", 25)
        yield


@pytest.fixture(scope="module")
def pure(growth_cube: Path, folder: Path) -> Results:
    return run(
        growth_cube, folder / "pure", replace(PLAN, covariates=("chemotherapy", "sex"), strata=("chemotherapy",))
    )


@pytest.fixture(scope="module")
def external(growth_cube: Path, folder: Path) -> Results:
    return run(growth_cube, folder / "external", replace(PLAN, scheme="external"))


@pytest.fixture(scope="module")
def by_raters(rated_cube: Path, folder: Path) -> Results:
    return run(rated_cube, folder / "rated", replace(PLAN, cutoff="50"))


# What is in the files


def test_metrics_are_scikit_learns_of_the_predictions(pure: Results) -> None:
    assert len(pure.splits) == 4
    for k, part in enumerate(pure.splits):
        y, p = part["target"], part["probability"]
        expected = {
            "auc": sk.roc_auc_score(y, p),
            "brier": sk.brier_score_loss(y, p),
            "balanced_accuracy": sk.balanced_accuracy_score(y, p >= 0.5),
            "sensitivity": sk.recall_score(y, p >= 0.5),
            "specificity": sk.recall_score(y, p >= 0.5, pos_label=0),
        }
        for name, value in expected.items():
            assert pure.per_split(name)[k] == pytest.approx(value, abs=1e-5), name
        np.testing.assert_array_equal(part["prediction"], p >= 0.5)
    assert pure.found["auc"]["mean"] > 0.75


def test_true_labels_are_the_tables(pure: Results, growth: pd.DataFrame) -> None:
    truth = growth.set_index("ID").loc[pure.lesions["lesion"]]
    np.testing.assert_array_equal(pure.lesions["target"], truth["hgp_desmoplastic"] == 100)
    np.testing.assert_array_equal(pure.lesions["patient"], truth["patient"])
    np.testing.assert_array_equal(pure.lesions["centre"], truth["centre"])
    np.testing.assert_array_equal(pure.lesions["interface_area"], truth["original_shape_SurfaceArea"])


def _corrected(values: Any, ratio: float) -> tuple[float, float, float, float]:
    """Nadeau and Bengio's mean, limits and p, from the formulas."""
    x = np.array([value for value in values if value is not None], float)
    error = np.sqrt((1 / len(x) + ratio) * x.var(ddof=1))
    half = stats.t.ppf(0.975, len(x) - 1) * error
    return x.mean(), x.mean() - half, x.mean() + half, 2 * stats.t.sf(abs(x.mean() / error), len(x) - 1)


def test_intervals_are_nadeau_and_bengios(pure: Results) -> None:
    ratio = np.mean([test / train for train, test in pure.found["splits"]["sizes"]])
    for name, bounds in (("auc", (0, 1)), ("brier", (0, 1)), ("calibration_slope", (-np.inf, np.inf))):
        metric = pure.found[name]
        mean, low, high, _ = _corrected(metric["per_split"], ratio)
        np.testing.assert_allclose(
            [metric["mean"], metric["low"], metric["high"]], [mean, *np.clip((low, high), *bounds)]
        )
        assert metric["interval"] == "nadeau-bengio"


def test_baselines_are_judged_in_the_same_splits(pure: Results) -> None:
    baselines = pure.found["baselines"]
    assert list(baselines) == ["mean", "volume", "covariates", "lesion region"]
    ratio = np.mean([test / train for train, test in pure.found["splits"]["sizes"]])
    for baseline in baselines.values():
        for name in ("auc", "brier"):
            pairs = zip(pure.per_split(name), baseline[name]["per_split"], strict=True)
            difference = baseline["difference"][name]
            expected = _corrected([ours - theirs for ours, theirs in pairs], ratio)
            np.testing.assert_allclose([difference[key] for key in ("mean", "low", "high", "p")], expected)
    # One probability for all: the share of ones among the training lesions.
    assert baselines["mean"]["auc"]["per_split"] == [0.5] * 4
    for k, (part, (train, _)) in enumerate(zip(pure.splits, pure.found["splits"]["sizes"], strict=True)):
        labels = pure.found["cohort"]["labels"]["all"]
        share = (labels["desmoplastic"] - part["target"].sum()) / train
        brier = sk.brier_score_loss(part["target"], np.full(len(part), share))
        assert baselines["mean"]["brier"]["per_split"][k] == pytest.approx(brier)
    # The signal is in the rim alone.
    assert baselines["lesion region"]["auc"]["mean"] < 0.7 < pure.found["auc"]["mean"]


def test_the_cohort_adds_up(pure: Results, growth: pd.DataFrame) -> None:
    cohort = pure.found["cohort"]
    d = growth["hgp_desmoplastic"]
    is_pure = d.isin([0, 100])
    (excluded,) = cohort["excluded"]
    assert excluded == {"reason": "mixed growth, and the target is pure lesions", "lesions": int((~is_pure).sum())}
    assert cohort["lesions"] + excluded["lesions"] == len(growth)
    assert cohort["patients"] == growth.loc[is_pure, "patient"].nunique()
    labels = cohort["labels"]
    assert labels["all"] == {"non-desmoplastic": int((d == 0).sum()), "desmoplastic": int((d == 100).sum())}
    for centre, part in growth[is_pure].groupby("centre"):
        assert labels[centre]["desmoplastic"] == (part["hgp_desmoplastic"] == 100).sum()
        assert sum(labels[centre].values()) == len(part) == cohort["centres"][centre]
    assert cohort["features"] == len(FEATURES) * 2 + 4
    for (train, test), part in zip(pure.found["splits"]["sizes"], pure.splits, strict=True):
        assert (train + test, test) == (cohort["lesions"], len(part))


def test_external_lesions_are_left_alone_unless_everything_is_wanted(
    growth_cube: Path, folder: Path, growth: pd.DataFrame
) -> None:
    found = run(growth_cube, folder / "development", replace(PLAN, n_splits=2, everything=False)).found
    is_external = growth["split"] == "external"
    reasons = {one["reason"]: one["lesions"] for one in found["cohort"]["excluded"]}
    assert reasons["external validation set (--everything takes it in)"] == is_external.sum()
    kept = growth[~is_external & growth["hgp_desmoplastic"].isin([0, 100])]
    assert found["cohort"]["lesions"] == len(kept)
    tested = pd.read_csv(folder / "development" / "predictions.csv").query("level == 'lesion'")["lesion"]
    assert set(tested) <= set(kept["ID"])


def test_raters_who_agree_leave_ties() -> None:
    values = np.array([0.1, 0.1, 0.1, 0.1, 0.7, 0.3])
    _, first, inverse = np.unique(["a", "a", "a", "b", "c", "c"], return_index=True, return_inverse=True)
    found = scores.mean_by_lesion(values, first, inverse)
    assert found[0] == found[1] == 0.1  # a sum of three, divided by three, is not
    assert found[2] == pytest.approx(0.5)


def test_strata_are_metrics_over_their_lesions(pure: Results, growth: pd.DataFrame) -> None:
    strata = pure.found["strata"]["chemotherapy"]
    treated = growth.set_index("ID")["chemotherapy"]
    assert list(strata) == ["0", "1"]
    assert sum(stratum["lesions"] for stratum in strata.values()) == pure.found["cohort"]["lesions"]
    for value, stratum in strata.items():
        some = [part[treated.loc[part["lesion"]].to_numpy() == int(value)] for part in pure.splits]
        some = [part for part in some if len(part)]
        expected = [sk.brier_score_loss(part["target"], part["probability"]) for part in some]
        np.testing.assert_allclose(stratum["brier"]["per_split"], expected, atol=1e-5)


def test_no_patient_is_on_both_sides(pure: Results) -> None:
    table = pd.read_csv(pure.folder / "splits.csv", dtype=str)
    for k, part in enumerate(pure.splits):
        train, test = (set(table[f"{k}_{side}"].dropna()) for side in ("train", "test"))
        assert not train & test
        assert set(part["patient"]) == test
        assert len(train | test) == pure.found["cohort"]["patients"]


def test_a_row_a_patient_follows(pure: Results) -> None:
    of_lesions = pure.lesions.groupby(["split", "patient"])["probability"]
    of_patients = pure.patients.set_index(["split", "patient"])
    np.testing.assert_allclose(of_patients["probability"].sort_index(), of_lesions.mean(), atol=2e-6)
    np.testing.assert_allclose(of_patients["any_non_desmoplastic"].sort_index(), 1 - of_lesions.prod(), atol=5e-6)
    assert pure.patients["lesion"].isna().all()
    assert list(pure.table) == [
        *("level", "split", "patient", "lesion", "centre", "target", "probability", "prediction"),
        *("unusual", "typicality", "interface_area", "n_segmentations", "any_non_desmoplastic"),
    ]


def test_what_a_run_says_of_itself(pure: Results, growth_cube: Path) -> None:
    found = pure.found
    assert (found["schema"], found["kind"], found["model"]) == ("hgpscale-metrics-1", "binary", "elastic-net")
    assert found["cube"] == str(growth_cube)
    assert found["splits"]["names"] == ["0", "1", "2", "3"]
    assert (found["raters"], found["rater_spread"]) == ({}, None)
    assert found["settings"]["covariates"] == ["chemotherapy", "sex"]
    assert found["permutation"]["metric"] == "auc"
    assert 1 / 51 <= found["permutation"]["p"] < 0.1
    names = [feature["name"] for feature in found["features"]]
    assert {"rim__original_firstorder_Mean", "rim__original_firstorder_Entropy"} <= set(names)
    frequencies = [feature["frequency"] for feature in found["features"]]
    assert frequencies == sorted(frequencies, reverse=True)
    assert 0 <= min(frequencies) <= max(frequencies) <= 1


# Runs and splits


def test_equal_seeds_give_equal_files_and_a_file_of_splits_repeats_them(
    pure: Results, growth_cube: Path, folder: Path
) -> None:
    plan = replace(PLAN, n_splits=2)
    first, again = (run(growth_cube, folder / name, plan) for name in ("first", "again"))
    assert first.equal(again)
    assert not first.equal(run(growth_cube, folder / "other", replace(plan, seed=1)))
    # The first splits are the same for any number of them.
    assert first.splits[0]["lesion"].tolist() == pure.splits[0]["lesion"].tolist()
    named = replace(plan, scheme="file", splits_file=str(first.folder / "splits.csv"))
    read = run(growth_cube, folder / "read", named)
    for name in ("auc", "brier"):
        assert read.found[name] == first.found[name]
    assert read.lesions.equals(first.lesions)
    assert read.found["splits"]["scheme"] == "file"


def test_a_dask_client_gives_the_same(growth_cube: Path, folder: Path, pure: Results) -> None:
    plan = replace(PLAN, covariates=("chemotherapy", "sex"), strata=("chemotherapy",))
    progress: list[tuple[int, int]] = []
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        there = run(
            growth_cube,
            folder / "client",
            plan,
            client=client,
            on_progress=lambda *done: progress.append(done),
            workers=None,
        )
    assert there.equal(pure)
    assert progress == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_external_goes_by_the_column(external: Results, growth: pd.DataFrame) -> None:
    d = growth["hgp_desmoplastic"]
    outside = growth[d.isin([0, 100]) & (growth["split"] == "external")]
    assert set(external.lesions["lesion"]) == set(outside["ID"])
    assert external.found["splits"]["names"] == ["external"]
    assert external.found["auc"]["interval"] == "bootstrap"
    y, p = external.lesions["target"], external.lesions["probability"]
    auc = external.found["auc"]
    assert auc["mean"] == auc["per_split"][0] == pytest.approx(sk.roc_auc_score(y, p), abs=1e-4)
    assert auc["low"] <= auc["mean"] <= auc["high"]
    assert external.found["delong"]["auc"] == pytest.approx(auc["mean"])
    # DeLong's variance, from its definition over pairs.
    ones, noughts = p[y == 1].to_numpy(), p[y == 0].to_numpy()
    wins = (ones[:, None] > noughts) + 0.5 * (ones[:, None] == noughts)
    variance = wins.mean(axis=1).var(ddof=1) / len(ones) + wins.mean(axis=0).var(ddof=1) / len(noughts)
    low = max(0.0, wins.mean() - 1.959964 * np.sqrt(variance))
    assert external.found["delong"]["low"] == pytest.approx(low, abs=1e-3)


def test_external_lesions_change_nothing_that_is_learned(external: Results, growth: pd.DataFrame, folder: Path) -> None:
    table = growth.copy()
    numbers = [name for name in table if "original_" in str(name)]
    one = external.lesions["patient"].iloc[0]
    outside = (table["split"] == "external") & (table["patient"] != one)
    table.loc[outside, numbers] = table.loc[outside, numbers].to_numpy()[::-1] * 7
    changed = run(cube_of(table, folder, "changed"), folder / "changed", replace(PLAN, scheme="external"))
    same = "probability"
    kept, now = (run.lesions.loc[run.lesions["patient"] == one, same].tolist() for run in (external, changed))
    assert kept == now
    assert external.lesions[same].tolist() != changed.lesions[same].tolist()


def test_leaving_a_centre_out(growth_cube: Path, folder: Path) -> None:
    found = run(growth_cube, folder / "centres", replace(PLAN, scheme="leave-centre-out", harmonise="combat"))
    assert found.found["splits"]["names"] == ["A", "B", "C"]
    assert (found.lesions["split"] == found.lesions["centre"]).all()
    assert len(found.lesions) == found.found["cohort"]["lesions"]
    pooled = sk.roc_auc_score(found.lesions["target"], found.lesions["probability"])
    assert found.found["auc"]["mean"] == pytest.approx(pooled, abs=1e-4)
    assert "delong" not in found.found


def test_shuffled_labels_are_not_learned(growth_cube: Path, folder: Path) -> None:
    found = run(growth_cube, folder / "shuffled", replace(PLAN, shuffle_labels=True, n_splits=5))
    auc = found.found["auc"]
    assert auc["low"] <= 0.5 <= auc["high"]
    labels = found.found["cohort"]["labels"]["all"]
    assert labels == run(growth_cube, folder / "labels", replace(PLAN, n_splits=2)).found["cohort"]["labels"]["all"]


# Raters


def test_raters_are_averaged_and_never_on_both_sides(by_raters: Results, rated_cube: Path) -> None:
    assert not by_raters.lesions.duplicated(["split", "lesion"]).any()
    number = by_raters.lesions["patient"].str[1:].astype(int)
    np.testing.assert_array_equal(by_raters.lesions["n_segmentations"], np.where(number % 3 == 0, 3, 1))
    table = pd.read_csv(by_raters.folder / "splits.csv", dtype=str)
    for k in range(4):
        assert not set(table[f"{k}_train"].dropna()) & set(table[f"{k}_test"].dropna())
    found = by_raters.found
    assert found["cohort"]["segmentations"] == sorted(RATERS)
    assert [found["raters"][name]["lesions"] for name in ("RAD", "PhD", "STUD")] == [45, 15, 15]
    assert 0 < found["rater_spread"]["mean"] <= found["rater_spread"]["max"] < 1


def test_raters_who_agree_have_no_spread(tmp_path: Path) -> None:
    cube = rated(tmp_path / "cube.zarr", spread=0.0)
    found = run(cube, tmp_path / "out", replace(PLAN, cutoff="50", n_splits=2)).found
    assert found["rater_spread"] == {"mean": 0.0, "max": 0.0}


# Other targets


def test_classes(growth_cube: Path, folder: Path) -> None:
    found = run(growth_cube, folder / "grade", replace(PLAN, target="grade", n_splits=2))
    names = ["low", "mid", "high"]
    assert found.found["classes"] == sorted(names)
    for k, part in enumerate(found.splits):
        p = part[[f"probability_{name}" for name in sorted(names)]]
        np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)
        log_loss = sk.log_loss(part["target"], p.div(p.sum(axis=1), axis=0), labels=sorted(names))
        assert found.per_split("log_loss")[k] == pytest.approx(log_loss, abs=1e-4)
        assert found.per_split("balanced_accuracy")[k] == pytest.approx(
            sk.balanced_accuracy_score(part["target"], part["prediction"])
        )
        if part["target"].nunique() == 3:
            one_against_rest = np.mean(
                [sk.roc_auc_score(part["target"] == name, p[f"probability_{name}"]) for name in names]
            )
            assert found.per_split("auc")[k] == pytest.approx(one_against_rest, abs=1e-4)


def test_numbers(growth_cube: Path, folder: Path) -> None:
    found = run(growth_cube, folder / "age", replace(PLAN, target="age", n_splits=2, coverage=0.8))
    for k, part in enumerate(found.splits):
        y, said = part["target"], part["prediction"]
        expected = {
            "mae": sk.mean_absolute_error(y, said),
            "rmse": sk.root_mean_squared_error(y, said),
            "r2": sk.r2_score(y, said),
            "interval_coverage": y.between(part["low"], part["high"]).mean(),
            "interval_width": (part["high"] - part["low"]).mean(),
        }
        for name, value in expected.items():
            assert found.per_split(name)[k] == pytest.approx(value, rel=1e-4), name
    # What has nothing to do with the features is predicted alike for all: no correlation, and no NaN in the file.
    assert found.found["permutation"]["metric"] == "spearman"


@pytest.mark.parametrize("target", ["composition", "multitask"])
def test_compositions(growth_cube: Path, folder: Path, growth: pd.DataFrame, target: str) -> None:
    found = run(growth_cube, folder / target, replace(PLAN, target=target, n_splits=2, model="sgd"))
    parts = ["desmoplastic", "replacement", "pushing"]
    truth = growth.set_index("ID")
    for k, part in enumerate(found.splits):
        np.testing.assert_allclose(part[parts].sum(axis=1), 1, atol=1e-5)
        for name in parts:
            true = part[f"true_{name}"]
            np.testing.assert_allclose(true, truth.loc[part["lesion"], f"hgp_{name}"] / 100, atol=1e-6)
            mae = sk.mean_absolute_error(true, part[name])
            assert found.per_split(f"mae_{name}")[k] == pytest.approx(mae, abs=1e-5)
        rho = stats.spearmanr(part["true_desmoplastic"], part["desmoplastic"]).statistic
        assert found.per_split("spearman_desmoplastic")[k] == pytest.approx(rho, abs=1e-4)
        inside = part["true_desmoplastic"].between(part["low"] - 1e-6, part["high"] + 1e-6)
        assert found.per_split("interval_coverage")[k] == pytest.approx(inside.mean())
        assert (part[["low", "high"]].to_numpy() >= 0).all()
        assert (part[["low", "high"]].to_numpy() <= 1).all()
        assert (part["p_pure_desmoplastic"] <= part["p_majority_desmoplastic"] + 1e-6).all()
        if target == "multitask":
            auc = sk.roc_auc_score(part["true_desmoplastic"] == 1, part["p_pure_desmoplastic"])
            assert found.per_split("auc")[k] == pytest.approx(auc, abs=1e-4)
    assert found.found["kind"] == target
    assert ("auc" in found.found) == (target == "multitask")


# Errors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "tree"}, "model is 'tree', expected one of search, elastic-net, forest, boosting, svm, sgd, mlp"),
        ({"model": "sgd", "harmonise": "combat"}, "model sgd reads lesions in batches and cannot harmonise centres"),
        ({"target": "hgp"}, "no column 'hgp' in the manifest behind the cube; it has patient, centre"),
        ({"covariates": ("weight",)}, "no column 'weight'"),
        ({"strata": ("weight",)}, "no column 'weight'"),
        ({"strata": ("age",)}, r"stratum 'age': expected at most 10 different values, found \d\d"),
        ({"positive": "x", "target": "sex"}, "target 'sex': no lesion is 'x'; there are f, m"),
        ({"scheme": "file", "splits_file": "none.csv"}, "none.csv: the file is missing"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_learned(
    growth_cube: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr(evaluating, "judge_all", _never)
    _refused(growth_cube, tmp_path, replace(PLAN, **change), message)


def _never(*_: object) -> None:
    raise AssertionError("began to learn")


def _refused(cube: Path, folder: Path, plan: Plan, message: str) -> None:
    with pytest.raises(LearnError, match=message) as caught:
        evaluate(cube, plan, folder / "out", workers=1)
    assert "\n" not in str(caught.value)
    assert not (folder / "out").exists()


def _one_class(table: pd.DataFrame) -> None:
    table["hgp_desmoplastic"], table["hgp_replacement"], table["hgp_pushing"] = 100, 0, 0


def _constant(table: pd.DataFrame) -> None:
    for name in [str(name) for name in table if "original_" in str(name)]:
        table[name] = 1.0


@pytest.mark.parametrize(
    ("change", "plan", "message"),
    [
        (lambda table: table.pop("split"), {"scheme": "external"}, "no column 'split'"),
        (lambda table: table.pop("centre"), {"scheme": "leave-centre-out"}, "no column 'centre'"),
        (_one_class, {}, "split 0: pure: all lesions to learn from are alike"),
        (_constant, {"model": "sgd"}, "split 0: no column varies"),
    ],
)
def test_a_cube_that_cannot_be_learned_from_is_told(
    tmp_path: Path, change: Callable[[pd.DataFrame], object], plan: dict[str, Any], message: str
) -> None:
    table = growth_table(12)
    change(table)
    _refused(cube_of(table, tmp_path), tmp_path, replace(PLAN, **plan), message)


def test_a_file_in_the_place_of_the_folder_is_told(growth_cube: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(LearnError, match="out: is a file; expected a folder"):
        evaluate(growth_cube, PLAN, tmp_path / "out", workers=1)
    assert (tmp_path / "out").read_text() == "mine"
