"""Embeddings: from networks that were not trained on a patient, in one set of directions, into a cube."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from networks import SPACING, micro, study

torch = pytest.importorskip("torch", reason="the extra deep is not installed")

from hgpscale import extract, open_cube  # noqa: E402
from hgpscale.deep.embedding import ANSWERS, embed, embed_into  # noqa: E402
from hgpscale.deep.ensemble import Ensemble  # noqa: E402
from hgpscale.deep.folds import train_folds  # noqa: E402
from hgpscale.deep.hurdle import parts_of  # noqa: E402
from hgpscale.deep.prepared import PreparedCohort  # noqa: E402
from hgpscale.deep.preparing import prepare  # noqa: E402
from hgpscale.deep.seeing import crops_of, see  # noqa: E402
from hgpscale.deep.turning import Turn, turns_between  # noqa: E402
from hgpscale.errors import CubeError, DeepError  # noqa: E402

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("embed")
    prepare(study(folder / "study"), folder / "p.zarr", spacing=SPACING, segmentation="RAD")
    train_folds(folder / "p.zarr", folder / "n", micro(steps=3), n_folds=2, device="cpu")
    return folder


def test_a_lesion_s_numbers_are_of_networks_that_did_not_see_it(folder: Path) -> None:
    found = embed(folder / "n", folder / "p.zarr", device="cpu")
    ensemble, cohort = Ensemble.open(folder / "n"), PreparedCohort.open(folder / "p.zarr")
    said = [
        parts_of(see(network, crops_of(cohort.scans, ensemble.recipe), CPU).logits) for network in ensemble.load(CPU)
    ]
    at = 0
    for scan in cohort.scans:
        mine = ensemble.unseen_by(scan.patient)
        for lesion in scan.lesions:
            assert found.lesions[at] == lesion.lesion
            assert found.asked[at] == len(mine) == (2 if scan.split == "external" else 1)
            expected = np.mean([said[network].composition[at] for network in mine], axis=0)
            np.testing.assert_allclose(found.values[at, :3], expected, atol=1e-6)
            at += 1
    assert found.features[: len(ANSWERS)] == ANSWERS
    assert found.values.shape == (at, len(ANSWERS) + 4)
    assert np.isfinite(found.values).all()


def test_networks_that_saw_everybody_are_not_asked(folder: Path, tmp_path: Path) -> None:
    train_folds(folder / "p.zarr", tmp_path / "n", micro(steps=1), n_folds=1, device="cpu")
    with pytest.raises(DeepError, match="all networks were trained on patient D0001 and 4 more"):
        embed(tmp_path / "n", folder / "p.zarr", device="cpu")


def test_other_voxels_are_refused(folder: Path, tmp_path: Path) -> None:
    prepare(folder / "study" / "study.csv", tmp_path / "p.zarr", spacing=(4.0, 4.0, 4.0), segmentation="RAD")
    with pytest.raises(DeepError, match="--spacing"):
        embed(folder / "n", tmp_path / "p.zarr", device="cpu")


def test_directions_of_other_networks_are_turned_back() -> None:
    rng = np.random.default_rng(0)
    first = rng.normal(size=(40, 4))
    turn, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    both = np.ones((3, 40), bool)
    both[1, :10] = False
    others = [first, (first - 1) @ turn, first @ turn.T + 3]
    found = turns_between(others, list(both))
    for one, embedding in zip(found, others, strict=True):
        np.testing.assert_allclose(one(embedding), first, atol=1e-9)
        np.testing.assert_allclose(Turn.of(json.loads(json.dumps(one.as_json())))(embedding), first, atol=1e-9)


def test_a_lesion_s_numbers_do_not_depend_on_which_others_are_asked_about(folder: Path, tmp_path: Path) -> None:
    table = pd.read_csv(folder / "study" / "study.csv")
    for name in ("image", "mask"):
        table[name] = [str(folder / "study" / path) for path in table[name]]
    table[table.split == "external"].to_csv(tmp_path / "external.csv", index=False)
    prepare(tmp_path / "external.csv", tmp_path / "p.zarr", spacing=SPACING, segmentation="RAD")
    alone = embed(folder / "n", tmp_path / "p.zarr", device="cpu")
    among = embed(folder / "n", folder / "p.zarr", device="cpu")
    at = [among.lesions.index(lesion) for lesion in alone.lesions]
    np.testing.assert_allclose(alone.values, among.values[at], atol=1e-6)


def test_embeddings_stand_in_the_cube_beside_radiomics(folder: Path, tmp_path: Path) -> None:
    cube = tmp_path / "cube.zarr"
    settings = {"imageType": {"Original": {}}, "featureClass": {"firstorder": ["Mean"]}}
    extract(folder / "study" / "study.csv", cube, settings=settings, workers=1)
    before = open_cube(cube).hgp.to_frame()
    found = embed_into(folder / "n", folder / "p.zarr", cube, device="cpu")
    values = embed(folder / "n", folder / "p.zarr", device="cpu")
    table = open_cube(cube).hgp.to_frame()
    rad = table.set_index("lesion").loc[list(values.lesions)]
    names = [f"RAD__deep_{name}" for name in values.features]
    np.testing.assert_allclose(rad[names].to_numpy(float), values.values)
    assert (found.put.done, found.features, found.unknown) == (len(values.lesions), len(names), ())
    others = [f"{rater}__deep_{name}" for rater in ("PhD", "STUD") for name in values.features]
    assert table[others].isna().all(axis=None)
    assert found.put.pending > 0
    assert table[list(before)].equals(before)
    again = embed_into(folder / "n", folder / "p.zarr", cube, device="cpu")
    assert (again.put.done, again.put.kept) == (0, len(values.lesions))
    train_folds(folder / "p.zarr", tmp_path / "n", micro(steps=1, seed=4), n_folds=2, device="cpu")
    with pytest.raises(CubeError, match="other networks"):
        embed_into(tmp_path / "n", folder / "p.zarr", cube, device="cpu")
    assert embed_into(tmp_path / "n", folder / "p.zarr", cube, device="cpu", replace=True).put.done == len(
        values.lesions
    )
