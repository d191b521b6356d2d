"""Whole scans: what is found lies where it is, is judged by what is drawn, and can be extracted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from networks import SPACING, micro, study

torch = pytest.importorskip("torch", reason="the extra deep is not installed")

from hgpscale.cohort import read_manifest  # noqa: E402
from hgpscale.deep import finding  # noqa: E402
from hgpscale.deep.finding import find_lesions, probabilities  # noqa: E402
from hgpscale.deep.folds import train_folds  # noqa: E402
from hgpscale.deep.network import Network  # noqa: E402
from hgpscale.deep.predicting import Options, predict_scans  # noqa: E402
from hgpscale.deep.preparing import prepare  # noqa: E402
from hgpscale.errors import DeepError  # noqa: E402
from hgpscale.volume import Geometry, Volume  # noqa: E402

CPU = torch.device("cpu")
TURNED = (0.0, -1.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 1.0)


class Bright(Network):
    """Says that what is above half of the window is lesion, and nothing else."""

    def forward(self, image: Any) -> Any:
        lesion = (image - 0.5) * 40
        return torch.cat([lesion, lesion], 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predict")
    prepare(study(folder / "study"), folder / "p.zarr", spacing=SPACING, segmentation="RAD")
    train_folds(folder / "p.zarr", folder / "n", micro(steps=3), n_folds=2, device="cpu")
    return folder


def _ball(geometry: Geometry, centre: tuple[float, float, float], radius: float) -> np.ndarray:
    index = np.indices(geometry.size).reshape(3, -1).T
    direction = np.reshape(geometry.direction, (3, 3))
    points = np.array(geometry.origin) + (index * geometry.spacing)[:, ::-1] @ direction.T
    return np.asarray((np.linalg.norm(points - centre, axis=1) <= radius).reshape(geometry.size))


@pytest.mark.parametrize("direction", [(1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0), TURNED])
def test_a_lesion_is_found_where_it_is(direction: tuple[float, ...]) -> None:
    torch.manual_seed(0)
    geometry = Geometry((20, 40, 50), (2.5, 1.1, 0.9), (30.0, -20.0, 5.0), direction)
    z, y, x = geometry.point((9.5, 20, 25))[::-1]
    inside = _ball(geometry, (x, y, z), 8.0)
    image = Volume(np.where(inside, 200, 0).astype(np.int16), geometry)
    recipe = micro(window=(0.0, 200.0))
    found = find_lesions([Bright(recipe)], image, recipe, SPACING, device=CPU)
    assert len(found.instances.scores) == 1
    said = found.labels == 1
    assert 2 * (said & inside).sum() / (said.sum() + inside.sum()) > 0.93
    assert found.crops[0].distance is not None
    assert found.seen[0].logits.shape == (1, 5)


def test_lesions_beyond_a_drawn_liver_are_none() -> None:
    torch.manual_seed(0)
    geometry = Geometry((20, 40, 80), (2.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
    both = _ball(geometry, (20, 20, 20), 6) | _ball(geometry, (60, 20, 20), 6)
    image = Volume(np.where(both, 200, 0).astype(np.int16), geometry)
    recipe = micro(window=(0.0, 200.0))
    liver = np.zeros(geometry.size, bool)
    liver[:, :, :34] = True  # and some mm around it
    assert len(find_lesions([Bright(recipe)], image, recipe, SPACING, device=CPU).instances.scores) == 2
    found = find_lesions([Bright(recipe)], image, recipe, SPACING, liver=liver, device=CPU)
    assert len(found.instances.scores) == 1
    assert not found.labels[:, :, 40:].any()


def test_a_liver_with_a_hole_where_the_lesion_is_holds_it() -> None:
    torch.manual_seed(0)
    geometry = Geometry((20, 40, 40), (2.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
    inside = _ball(geometry, (20, 20, 20), 6)
    image = Volume(np.where(inside, 200, 0).astype(np.int16), geometry)
    recipe = micro(window=(0.0, 200.0))
    for liver in (~inside, np.zeros(geometry.size, bool)):  # the second holds nothing, and so says nothing
        found = find_lesions([Bright(recipe)], image, recipe, SPACING, liver=liver, device=CPU)
        assert len(found.instances.scores) == 1
        assert (found.labels > 0).sum() > 0.8 * inside.sum()


def test_probabilities_are_the_mean_of_networks_and_none_of_air(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    recipe = micro(window=(0.0, 200.0))
    hu = np.full((20, 40, 40), -1000, np.float32)
    hu[4:16, 5:35, 5:35] = 150
    one, two = Bright(recipe), Network(recipe)
    windows: list[tuple[int, int]] = []
    both = probabilities([one, two], hu, recipe, CPU, on_window=lambda *done: windows.append(done))
    apart = [probabilities([network], hu, recipe, CPU) for network in (one, two)]
    np.testing.assert_allclose(both, np.mean(apart, axis=0), atol=1e-6)
    assert not both[:, :4].any()
    assert both[0, 10, 20, 20] == pytest.approx((1 + apart[1][0, 10, 20, 20]) / 2, abs=1e-4)
    done, total = zip(*windows, strict=True)
    assert len(set(total)) == 1
    assert done[-1] == total[0]
    assert not probabilities([one], np.full((4, 4, 4), -1000, np.float32), recipe, CPU).any()


def test_a_prediction_writes_what_is_asked(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Lesions of the study are darker than its liver, and three steps teach nobody: networks are told where they are.
    table = pd.read_csv(folder / "study" / "study.csv")
    table = table[(table.segmentation == "RAD") & (table.split == "external")].reset_index(drop=True)
    for name in ("image", "mask"):
        table[name] = [str(folder / "study" / path) for path in table[name]]
    manifest = tmp_path / "external.csv"
    table.to_csv(manifest, index=False)
    drawn = [sitk.GetArrayFromImage(sitk.ReadImage(mask)) > 0 for mask in dict.fromkeys(table["mask"])]
    monkeypatch.setattr(finding, "probabilities", _told(list(dict.fromkeys(table["mask"])), drawn))
    found = predict_scans(folder / "n", manifest, tmp_path / "out", Options(device="cpu"))
    assert not found.problems
    assert found.detection is not None
    said = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert said["lesions"] == len(table)
    assert said["detected"] == len(table)
    assert said["sensitivity"]["mean"] == 1
    assert said["dice_lesions"]["mean"] > 0.8
    assert set(found.saliency) == {lesion.lesion for answer in found.answers for lesion in answer.lesions}
    cohort = read_manifest(tmp_path / "out" / "lesions.csv")
    assert len(cohort.rows) == len(table)
    assert set(cohort.columns["centre"]) <= set(table["centre"])
    predictions = pd.read_csv(tmp_path / "out" / "predictions.csv")
    lesions = predictions[predictions.level == "lesion"]
    np.testing.assert_allclose(lesions[["desmoplastic", "replacement", "pushing"]].sum(axis=1), 1, atol=1e-5)
    patients = predictions[predictions.level == "patient"]
    assert sorted(patients["patient"]) == sorted(set(table["patient"]))
    for answer in found.answers:
        array = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / "masks" / f"{answer.case}.nii.gz")))
        assert set(np.unique(array)) - {0} == {lesion.number for lesion in answer.lesions}
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (run["answered"], run["lesions"]) == (len(found.answers), len(table))


def _told(masks: list[str], drawn: list[np.ndarray]) -> Any:
    """Return what stands for `probabilities`: the drawn lesions of one scan after the other, on the working grid."""
    from hgpscale.cohort import read_image
    from hgpscale.deep.regrid import share_on, working_grid

    scans = iter(zip(masks, drawn, strict=True))

    def probabilities(networks: Any, hu: np.ndarray, *args: Any, **kwargs: Any) -> np.ndarray:
        mask, inside = next(scans)
        volume, _ = read_image(mask)
        share = share_on(working_grid(volume.geometry, SPACING), Volume(inside, volume.geometry))
        return np.stack([share, share])

    return probabilities


def test_a_table_without_masks_and_a_scan_that_is_missing(folder: Path, tmp_path: Path) -> None:
    image = next((folder / "study" / "scans").glob("E*.nii.gz"))
    pd.DataFrame(
        {"patient": ["new", "gone"], "image": [str(image), "nowhere.nii.gz"], "centre": ["here", "there"]}
    ).to_csv(tmp_path / "scans.csv", index=False)
    found = predict_scans(folder / "n", tmp_path / "scans.csv", tmp_path / "out", Options(device="cpu"))
    assert [problem.patient for problem in found.problems] == ["gone"]
    assert [answer.patient for answer in found.answers] == ["new"]
    assert found.detection is None
    assert not (tmp_path / "out" / "metrics.json").exists()
    (tmp_path / "out" / "metrics.json").write_text("of an earlier prediction")
    predict_scans(folder / "n", tmp_path / "scans.csv", tmp_path / "out", Options(device="cpu"))
    assert not (tmp_path / "out" / "metrics.json").exists()
    alone = predict_scans(folder / "n", image, tmp_path / "alone", Options(device="cpu"))
    assert [answer.patient for answer in alone.answers] == [image.name.split(".")[0]]


def test_a_patient_is_not_asked_of_networks_that_know_it(folder: Path, tmp_path: Path) -> None:
    asked: list[int] = []

    def count(networks: Any, *args: Any, **kwargs: Any) -> Any:
        asked.append(len(networks))
        return probabilities(networks, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finding, "probabilities", count)
        options = Options(device="cpu", segmentation="RAD", saliency=False)
        predict_scans(folder / "n", folder / "study" / "study.csv", tmp_path / "out", options)
    assert asked == [1] * 5 + [2] * 2
    train_folds(folder / "p.zarr", tmp_path / "n", micro(steps=1), n_folds=1, device="cpu")
    with pytest.raises(DeepError, match="would be no prediction"):
        predict_scans(tmp_path / "n", folder / "study" / "study.csv", tmp_path / "out", options)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("patient,scan\na,b\n", "column image is missing"),
        ("patient,image\na,\n", "line 2: image is empty"),
        ("patient,image\na,x.nii.gz\nb,x.nii.gz\n", "line 3: .* is the scan of line 2"),
    ],
)
def test_tables_that_cannot_be_used(folder: Path, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "scans.csv").write_text(text)
    with pytest.raises(DeepError, match=said):
        predict_scans(folder / "n", tmp_path / "scans.csv", tmp_path / "out", Options(device="cpu"))
