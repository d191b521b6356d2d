"""Training: what it draws, that it learns, and that a run which was killed comes to the same weights."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from networks import SPACING, micro, study

torch = pytest.importorskip("torch", reason="the extra deep is not installed")

from hgpscale.deep.dealing import deal, patients_of  # noqa: E402
from hgpscale.deep.ensemble import METRICS, Ensemble, folder_of  # noqa: E402
from hgpscale.deep.folds import train_folds  # noqa: E402
from hgpscale.deep.losses import losses_of, total  # noqa: E402
from hgpscale.deep.network import Network  # noqa: E402
from hgpscale.deep.prepared import PreparedCohort  # noqa: E402
from hgpscale.deep.preparing import prepare  # noqa: E402
from hgpscale.deep.recipe import Recipe  # noqa: E402
from hgpscale.deep.sampling import Sampler, patient_growth  # noqa: E402
from hgpscale.deep.training import CHECKPOINT, NETWORK, Run, rate_at, train  # noqa: E402
from hgpscale.deep.weights import read_tensors  # noqa: E402
from hgpscale.errors import DeepError  # noqa: E402

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deep")
    prepare(study(folder / "study"), folder / "p.zarr", spacing=SPACING, segmentation="RAD")
    return folder / "p.zarr"


@pytest.fixture(scope="module")
def cohort(prepared: Path) -> PreparedCohort:
    return PreparedCohort.open(prepared).held()


def _same(one: Path, other: Path) -> bool:
    first, second = read_tensors(one).tensors, read_tensors(other).tensors
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_step_s_batch_depends_on_seed_and_step_alone(cohort: PreparedCohort) -> None:
    patients = list(cohort.patients.values())
    recipe = micro(steps=20)
    first, again = Sampler(patients, recipe), Sampler(patients, recipe)
    again[3]
    one, two = first[7], again[7]
    assert torch.equal(one.image, two.image)
    assert torch.equal(one.distance, two.distance)
    for other in (first[8], Sampler(patients, micro(steps=20, seed=1))[7], Sampler(patients, recipe, stream=1)[7]):
        assert not torch.equal(one.image, other.image)


def test_patients_come_equally_often(cohort: PreparedCohort) -> None:
    patients = list(cohort.patients.values())
    sampler = Sampler(patients, micro(patients=2, lesions=1, background=0, steps=len(patients)))
    known = {patient_growth([lesion for scan in scans for lesion in scan.lesions]) for scans in patients}
    assert len(known) == len(patients), "patients are told apart by their growth"
    seen = Counter(
        tuple(np.round(row, 5)) for step in range(len(patients)) for row in sampler[step].patient_growth.tolist()
    )
    assert set(seen.values()) == {2}


def test_a_patch_of_a_lesion_is_about_it(cohort: PreparedCohort) -> None:
    batch = Sampler(list(cohort.patients.values()), micro(steps=3))[1]
    assert len(batch.image) == len(batch.at) + 1
    inside, at_border = batch.distance < -1.5, batch.distance.abs() < 1
    assert at_border.flatten(1).any(1).all()
    # What is deep in the lesion is outlined, but for other lesions nothing far from it.
    assert batch.lesions[batch.at][inside].all()
    assert not batch.lesions[batch.at][(batch.distance > 1.5) & (batch.distance < 8)].any()
    assert batch.liver.isnan().all(), "the study has no livers"


def test_one_batch_is_learned_by_heart(cohort: PreparedCohort) -> None:
    torch.manual_seed(0)
    batch = Sampler(list(cohort.patients.values()), micro(background=0, steps=1))[0]
    network = Network(micro(dropout=0.0, filters=8, width=8))
    optimizer = torch.optim.Adam(network.parameters(), 2e-2)
    first = {task: float(loss.detach()) for task, loss in losses_of(network, batch).items()}
    for _ in range(150):
        losses = losses_of(network, batch)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
    last = {task: float(loss.detach()) for task, loss in losses.items()}
    growth = batch.growth.numpy()
    # Soft labels have an entropy below which no loss can fall.
    floor = {"segmentation": 0.0, "growth": _entropy(growth), "patient": _entropy(batch.patient_growth.numpy())}
    for task, value in last.items():
        assert value - floor[task] < 0.1 * (first[task] - floor[task]), task


def _entropy(growth: np.ndarray) -> float:
    def of(p: np.ndarray) -> np.ndarray:
        p = np.clip(p, 1e-12, 1 - 1e-12)
        return np.asarray(-p * np.log(p) - (1 - p) * np.log(1 - p))

    d = growth[:, 0].astype(float)
    mixed = (d > 1e-6) & (d < 1 - 1e-6)
    rest = np.divide(growth[:, 1], 1 - d, out=np.zeros_like(d), where=d < 1)
    return float((of(d) * mixed + of(rest) * (1 - d)).mean())


def test_a_killed_run_comes_to_the_same_weights(cohort: PreparedCohort, tmp_path: Path) -> None:
    patients, recipe = list(cohort.patients.values()), micro(steps=6, save_every=2)
    train(patients, recipe, tmp_path / "whole", cohort="x", device=CPU)

    class Killed(BaseException):
        """As a signal is."""

    def kill(done: int, total: int, loss: float) -> None:
        if done in (3, 5):
            raise Killed

    broken = tmp_path / "broken"
    for _ in range(2):
        with pytest.raises(Killed):
            train(patients, recipe, broken, cohort="x", device=CPU, on_step=kill)
    train(patients, recipe, broken, cohort="x", device=CPU)
    for file in (NETWORK, CHECKPOINT):
        assert _same(broken / file, tmp_path / "whole" / file)
    assert (broken / METRICS).read_text() == (tmp_path / "whole" / METRICS).read_text()
    lines = [json.loads(line) for line in (broken / METRICS).read_text().splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "train"] == [2, 4, 6]
    with pytest.raises(DeepError, match="other options or other patients"):
        train(patients, micro(steps=6, save_every=2, rate=0.5), broken, cohort="x", device=CPU)


def test_a_damaged_checkpoint_is_named(cohort: PreparedCohort, tmp_path: Path) -> None:
    (tmp_path / CHECKPOINT).write_bytes(b"\x80\x04K\x01.")  # a pickle
    with pytest.raises(DeepError, match=CHECKPOINT):
        train(list(cohort.patients.values()), micro(), tmp_path, cohort="x", device=CPU)


@pytest.mark.parametrize("changed", [{"precision": "bfloat16"}, {"checkpointing": True}, {"weights": "uncertainty"}])
def test_other_ways_to_train(cohort: PreparedCohort, tmp_path: Path, changed: dict[str, object]) -> None:
    patients = list(cohort.patients.values())
    plain = train(patients, micro(steps=2), tmp_path / "plain", cohort="x", device=CPU)
    found = train(patients, micro(steps=2, **changed), tmp_path / "other", cohort="x", device=CPU)
    same = all(torch.allclose(a, b, atol=1e-6) for a, b in zip(plain.parameters(), found.parameters(), strict=True))
    # What is computed again is the same; what is rounded or weighted otherwise is not.
    assert same == ("checkpointing" in changed)
    assert all(torch.isfinite(weights).all() for weights in found.parameters())


def test_the_rate_rises_and_falls() -> None:
    recipe = Recipe.of("tiny", steps=100, warmup=10, rate=1.0)
    rates = [rate_at(step, recipe) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[55] == pytest.approx(0.5)
    assert rates[-1] < 0.001


def test_folds_are_trained_and_known(prepared: Path, tmp_path: Path) -> None:
    recipe = micro(steps=3)
    first = train_folds(prepared, tmp_path / "n", recipe, n_folds=2, fold="1", device="cpu")
    assert (first.trained, first.missing) == (("1",), ("0",))
    with pytest.raises(DeepError, match="when all folds are trained"):
        Ensemble.open(tmp_path / "n")
    rest = train_folds(prepared, tmp_path / "n", recipe, n_folds=2, device="cpu")
    assert (rest.trained, rest.missing) == (("0",), ())
    assert train_folds(prepared, tmp_path / "n", recipe, n_folds=2, device="cpu").trained == ()
    found = Ensemble.open(tmp_path / "n")
    assert found.recipe == recipe
    cohort = PreparedCohort.open(prepared)
    for patient, scans in cohort.patients.items():
        unseen = found.unseen_by(patient)
        assert len(unseen) == (2 if scans[0].split == "external" else 1)
    text = (tmp_path / "n" / "networks.json").read_text()
    assert not any(patient in text for patient in cohort.patients)
    table = np.genfromtxt(tmp_path / "n" / "unseen.csv", delimiter=",", names=True, dtype=None, encoding="utf-8")
    trained = [scan for scan in cohort.scans if scan.split == "train"]
    assert sorted(table["lesion"]) == sorted(lesion.lesion for scan in trained for lesion in scan.lesions)
    for row in table:
        assert found.unseen_by(row["patient"]) == (int(row["split"]),)
    error = np.abs(table["desmoplastic"] - table["true_desmoplastic"]).mean()
    assert rest.unseen["mae"] == pytest.approx(error, rel=1e-4)
    with pytest.raises(DeepError, match="other folds"):
        train_folds(prepared, tmp_path / "n", micro(steps=3, seed=5), n_folds=2, device="cpu")
    shutil.copy(folder_of(tmp_path / "n", "0") / NETWORK, folder_of(tmp_path / "n", "1") / NETWORK)
    with pytest.raises(DeepError, match="is not the file"):
        found.load(CPU)


def test_shuffled_labels_are_those_of_other_lesions(prepared: Path, tmp_path: Path) -> None:
    train_folds(prepared, tmp_path / "n", micro(steps=1), n_folds=2, device="cpu", shuffle_labels=True)
    table = np.genfromtxt(tmp_path / "n" / "unseen.csv", delimiter=",", names=True, dtype=None, encoding="utf-8")
    cohort = PreparedCohort.open(prepared)
    growth = {lesion.lesion: lesion.growth for scan in cohort.scans for lesion in scan.lesions}
    dealt = [(row["true_desmoplastic"], row["true_replacement"], row["true_pushing"]) for row in table]
    true = np.array([growth[name] for name in table["lesion"]], float)
    assert sorted(map(str, np.round(dealt, 5))) == sorted(map(str, np.round(true, 5)))
    assert not np.allclose(dealt, true)


def test_a_network_of_other_folds_is_none_of_these(prepared: Path, tmp_path: Path) -> None:
    recipe = micro(steps=1)
    train_folds(prepared, tmp_path / "n", recipe, n_folds=2, device="cpu")
    other = micro(steps=1, seed=5)
    found = train_folds(prepared, tmp_path / "n", other, n_folds=2, fold="0", device="cpu", force=True)
    assert found.missing == ("1",), "what was trained before would be asked about patients that it has seen"
    assert not (tmp_path / "n" / "networks.json").exists()
    with pytest.raises(DeepError, match="other options or on other scans"):
        train_folds(prepared, tmp_path / "n", other, n_folds=2, device="cpu")
    with pytest.raises(DeepError, match="other folds"):
        train_folds(prepared, tmp_path / "n", other, n_folds=1, device="cpu")


def test_a_network_of_other_voxels_is_none_of_these(tmp_path: Path) -> None:
    manifest, store = study(tmp_path / "study", 4, 0), tmp_path / "p.zarr"
    prepare(manifest, store, spacing=SPACING, segmentation="RAD")
    train_folds(store, tmp_path / "n", micro(steps=1), n_folds=1, device="cpu")
    prepare(manifest, store, spacing=(4.0, 3.0, 3.0), segmentation="RAD", force=True)
    with pytest.raises(DeepError, match="other options or on other scans"):
        train_folds(store, tmp_path / "n", micro(steps=1), n_folds=1, device="cpu")


def test_tasks_that_nobody_could_learn_are_not_told(cohort: PreparedCohort, tmp_path: Path) -> None:
    manifest = study(tmp_path / "study", 6, 0)
    table = pd.read_csv(manifest)
    table = table[table.segmentation == "RAD"]
    growth = ["hgp_desmoplastic", "hgp_replacement", "hgp_pushing"]
    several = table.groupby("patient")["lesion"].transform("count") > 1
    table = table[several].astype(dict.fromkeys(growth, float))
    table.loc[~table.duplicated("patient"), growth] = np.nan
    table.to_csv(manifest, index=False)
    prepare(manifest, tmp_path / "p.zarr", spacing=SPACING)
    train_folds(tmp_path / "p.zarr", tmp_path / "n", micro(steps=1), n_folds=1, device="cpu")
    # Each patient has a lesion that is not known, so that no patient is.
    assert Ensemble.open(tmp_path / "n").learned == {"segmentation", "growth"}


def test_folds_by_a_file_may_test_external_patients_and_not_train_on_them(prepared: Path, tmp_path: Path) -> None:
    cohort = PreparedCohort.open(prepared)
    external = [name for name, scans in cohort.patients.items() if scans[0].split == "external"]
    others = [name for name in cohort.patients if name not in external]
    file = tmp_path / "splits.csv"
    pd.DataFrame({"0_train": pd.Series(others), "0_test": pd.Series(external)}).to_csv(file, index=False)
    found = train_folds(prepared, tmp_path / "n", micro(steps=1), splits=file, device="cpu")
    assert (found.folds, found.missing) == (("0",), ())
    pd.DataFrame({"0_train": pd.Series(external), "0_test": pd.Series(others)}).to_csv(file, index=False)
    with pytest.raises(DeepError, match="split is external in the cohort"):
        train_folds(prepared, tmp_path / "m", micro(steps=1), splits=file, device="cpu")
    file.write_text(f"../x_train,../x_test\n{others[0]},{others[1]}\n")
    with pytest.raises(DeepError, match="expected a name of letters"):
        train_folds(prepared, tmp_path / "m", micro(steps=1), splits=file, device="cpu")


def test_small_strata_do_not_make_folds_fewer(cohort: PreparedCohort) -> None:
    one = next(iter(cohort.patients.values()))[0]
    lesion = replace(one.lesions[0], growth=(0.0, 1.0, 0.0))
    plain, pure = replace(one, lesions=(lesion,)), replace(one, lesions=(replace(lesion, growth=(1.0, 0.0, 0.0)),))
    patients = {f"p{at}": [pure if at < 2 else plain] for at in range(20)}
    folds = deal(patients, [], 5, None, 0)
    assert len(folds) == 5
    assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(20))


def test_a_patient_without_lesions_is_not_drawn(cohort: PreparedCohort) -> None:
    scans = list(cohort.patients.values())
    empty = [[replace(scan, lesions=()) for scan in some] for some in scans[1:]]
    batch = Sampler([scans[0], *empty], micro(patients=1, background=0, steps=4))[2]
    assert len(batch.at) >= 1


@pytest.mark.slow
def test_two_processes_train_by_the_mean_of_their_gradients(
    prepared: Path, cohort: PreparedCohort, tmp_path: Path
) -> None:
    chosen = micro(steps=1, average=1, dropout=0.0)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps(chosen.model_dump(mode="json")))
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", "-m", "hgpscale",
        "deep", "train", str(prepared), str(tmp_path / "n"), "--recipe", str(recipe), "--folds", "2",
        "--device", "cpu", "--quiet",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert [member.name for member in Ensemble.open(tmp_path / "n").members] == ["0", "1"]
    patients = patients_of(cohort)
    fold = deal(patients, [], 2, None, chosen.seed)[0]
    scans = [patients[list(patients)[at]] for at in fold.train]
    gradients = []
    for stream in (0, 1):
        run = Run.begin(chosen, CPU)
        losses = losses_of(run.network.train(), Sampler(scans, chosen, stream)[0])
        torch.autograd.backward(total(run.network, losses, chosen))
        gradients.append([weights.grad for weights in run.network.parameters()])
    for weights, *both in zip(run.network.parameters(), *gradients, strict=True):
        there = [gradient for gradient in both if gradient is not None]
        weights.grad = sum(there) / 2 if there else None
    torch.nn.utils.clip_grad_norm_(run.network.parameters(), 5.0)
    run.optimizer.param_groups[0]["lr"] = rate_at(0, chosen)
    run.optimizer.step()
    found = read_tensors(folder_of(tmp_path / "n", "0") / NETWORK).tensors
    for name, weights in run.network.named_parameters():
        if weights.grad is not None:
            # A first step of Adam is as long for a small gradient as for a large one: those that rounding decides on
            # tell nothing.
            sure = weights.grad.abs() > 1e-6
            torch.testing.assert_close(found[name][sure], weights.detach()[sure], atol=1e-5, rtol=0)
