"""The network and its losses: shapes, limits of size, and formulas against others' implementations."""

from __future__ import annotations

import numpy as np
import pytest
from networks import micro
from sklearn.metrics import log_loss

torch = pytest.importorskip("torch", reason="the extra deep is not installed")

from hgpscale.deep.crops import Crop  # noqa: E402
from hgpscale.deep.hurdle import Calibration, growth_of, parts_of, precision_of  # noqa: E402
from hgpscale.deep.losses import hurdle_loss, losses_of, total  # noqa: E402
from hgpscale.deep.network import Network, Standardise, around, pool  # noqa: E402
from hgpscale.deep.recipe import Recipe  # noqa: E402
from hgpscale.deep.saliency import attribute  # noqa: E402
from hgpscale.deep.sampling import Batch  # noqa: E402
from hgpscale.learn.composition import HurdleComposition, SoftClassifier  # noqa: E402

LOGITS = np.random.default_rng(0).normal(0, 2, (12, 5))
GROWTH = np.vstack(
    [np.eye(3).repeat(2, 0), np.random.default_rng(1).dirichlet((1, 1, 1), 4), [[0, 0.3, 0.7], [0.5, 0.5, 0]]]
)


def _batch(patches: int = 3, lesions: int = 2) -> Batch:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand((patches, 1, 8, 16, 16), generator=generator)
    inside = (image > 0.7).float()
    distance = torch.linspace(-6, 6, 16).expand(lesions, 1, 8, 16, 16).clone()
    growth = torch.tensor(GROWTH[-lesions:], dtype=torch.float32)
    return Batch(
        image, inside, torch.ones_like(image), torch.arange(lesions), distance, growth,
        torch.zeros(lesions, dtype=torch.long), growth[:1],
    )  # fmt: skip


def test_tiny_is_tiny() -> None:
    assert sum(weights.numel() for weights in Network(Recipe.of("tiny")).parameters()) < 500_000


@pytest.mark.parametrize(("backbone", "levels"), [("segresnet", 2), ("dynunet", 3)])
def test_both_backbones_give_features_at_every_voxel(backbone: str, levels: int) -> None:
    torch.manual_seed(0)
    recipe = micro(backbone=backbone, levels=levels)
    network = Network(recipe).eval()
    image = torch.rand(2, 1, *recipe.patch)
    features = network.features(image)
    assert features.shape == (2, recipe.filters, *recipe.patch)
    assert network(image).shape == (2, 2, *recipe.patch)
    said = network.of_lesions(features, image, torch.zeros_like(image))
    assert said.embedding.shape == (2, recipe.embedding)
    assert said.logits.shape == (2, 5)
    # One lesion's patient is the lesion, whatever other patients there are.
    apart = network.of_patients(said.embedding, torch.tensor([0, 1]), 2)
    alone = network.of_patients(said.embedding[:1], torch.tensor([0]), 1)
    torch.testing.assert_close(apart[:1], alone)


def test_pooling_within_hard_shells_is_numpy_s() -> None:
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(1, 2, 4, 6, 6))
    # Far from every edge, so that shares are 0 or 1.
    distance = rng.choice([-20.0, 0.0, 20.0], (1, 1, 4, 6, 6))
    seen32 = torch.tensor(seen, dtype=torch.float32)
    found = pool(seen32, torch.tensor(distance, dtype=torch.float32), (-10.0, 10.0))[0].numpy().reshape(2, 2, 2)
    for shell, value in enumerate((-20.0, 0.0)):
        values = seen[0][:, distance[0, 0] == value]
        np.testing.assert_allclose(found[shell, 0], values.mean(axis=1), atol=1e-6)
        np.testing.assert_allclose(found[shell, 1], np.sqrt(values.var(axis=1) + 1e-4), atol=1e-6)
    empty = pool(seen32, torch.full((1, 1, 4, 6, 6), 20.0), (-10.0, 10.0))
    assert not empty.any()


def test_pooling_is_not_rounded_in_mixed_precision() -> None:
    torch.manual_seed(0)
    network = Network(micro(dropout=0.0)).eval()
    image = 0.5 + 0.02 * torch.randn(2, 1, 8, 16, 16)
    distance = torch.linspace(-6, 6, 16).expand(2, 1, 8, 16, 16)
    features = network.features(image)
    plain = network.of_lesions(features, image, distance)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = network.of_lesions(features, image, distance)
    assert mixed.embedding.dtype == torch.float32
    # The layers before pooling are rounded, to eight bits; differences of squares would lose all of theirs.
    torch.testing.assert_close(mixed.embedding, plain.embedding, atol=0.05, rtol=0)


def test_a_lesion_that_fills_the_patch_is_seen_against_something() -> None:
    image = torch.rand(3, 1, 4, 4, 4)
    distance = torch.stack([torch.full((1, 4, 4, 4), value) for value in (-20.0, 20.0, 5.0)])
    found = around(image, distance, (-3.0, 3.0, 7.0)).flatten()
    # All of it is lesion; all of it is far outside; all of it is the outermost shell.
    torch.testing.assert_close(found, image.mean((1, 2, 3, 4)))


def test_standardise_comes_to_mean_and_deviation() -> None:
    torch.manual_seed(0)
    layer = Standardise(3)
    scale = torch.tensor([1.0, 10.0, 0.0])
    layer.train()
    for _ in range(60):
        layer(torch.randn(50, 3) * scale + 5)
    layer.eval()
    found = layer(torch.randn(4000, 3) * scale + 5)
    torch.testing.assert_close(found[:, :2].mean(0), torch.zeros(2), atol=0.1, rtol=0)
    torch.testing.assert_close(found[:, :2].std(0), torch.ones(2), atol=0.1, rtol=0)
    assert found[:, 2].abs().max() < 0.1


def test_the_loss_of_growth_is_cross_entropy_of_each_part() -> None:
    parts = parts_of(LOGITS)
    d, kind = GROWTH[:, 0], np.where(GROWTH[:, 0] == 1, 2, np.where(GROWTH[:, 0] == 0, 0, 1))
    expected = log_loss(kind, parts.gate, labels=[0, 1, 2]) * len(d)
    mixed = kind == 1
    for values, said, weight in (
        (d[mixed], parts.between[mixed], np.ones(mixed.sum())),
        (GROWTH[d < 1, 1] / (1 - d[d < 1]), 1 / (1 + np.exp(-LOGITS[d < 1, 4])), 1 - d[d < 1]),
    ):
        # A soft label is a row of either class, with its share as weight.
        labels, twice = np.repeat([1, 0], len(values)), np.tile(said, 2)
        weights = np.concatenate([values * weight, (1 - values) * weight])
        expected += log_loss(labels, twice, sample_weight=weights) * weights.sum()
    found = hurdle_loss(torch.tensor(LOGITS), torch.tensor(GROWTH))
    assert float(found) == pytest.approx(expected / len(d), rel=1e-6)


def test_answers_are_those_of_learn_for_the_same_probabilities() -> None:
    class Said(SoftClassifier):
        """A classifier that says what it is told."""

        def __init__(self, probability: np.ndarray) -> None:
            self.probability = probability

        def predict_proba(self, X: np.ndarray) -> np.ndarray:
            return self.probability

    said = parts_of(LOGITS)
    rest = 1 / (1 + np.exp(-LOGITS[:, 4]))
    model = HurdleComposition().fit(np.arange(12.0)[:, None], GROWTH)
    model.gate_ = Said(said.gate)
    model.between_ = Said(np.column_stack([1 - said.between, said.between]))
    model.rest_ = Said(np.column_stack([1 - rest, rest]))
    mixed = (GROWTH[:, 0] > 0) & (GROWTH[:, 0] < 1)
    mean = said.between[mixed]
    model.spread_ = np.array([((GROWTH[mixed, 0] - mean) ** 2).sum(), (mean * (1 - mean)).sum()])
    expected = model.hurdle(np.arange(12.0)[:, None])
    precision = precision_of(said, GROWTH)
    assert precision == pytest.approx(model.precision)
    for at in range(12):
        found = growth_of(LOGITS[[at]], Calibration(precision, 0.2))
        assert found.composition == pytest.approx(expected.composition[at])
        assert found.pure_desmoplastic == pytest.approx(expected.pure_desmoplastic[at])
        assert found.pure_other == pytest.approx(expected.pure_other[at])
        assert found.majority_desmoplastic == pytest.approx(expected.majority_desmoplastic[at])
        d = found.composition[0]
        assert (found.low, found.high) == pytest.approx((max(d - 0.2, 0), min(d + 0.2, 1)))
    both = growth_of(LOGITS[:2], Calibration())
    assert both.composition == pytest.approx(expected.composition[:2].mean(axis=0))
    assert both.spread == pytest.approx(expected.composition[:2, 0].std(ddof=1))


def test_labels_that_are_missing_cost_nothing() -> None:
    torch.manual_seed(0)
    network, batch = Network(micro()).eval(), _batch()
    assert set(losses_of(network, batch)) == {"segmentation", "liver", "growth", "patient"}
    nothing = torch.full_like(batch.growth, float("nan"))
    bare = Batch(
        batch.image, batch.lesions, torch.full_like(batch.liver, float("nan")), batch.at, batch.distance, nothing,
        batch.patient, nothing[:1],
    )  # fmt: skip
    found = losses_of(network, bare)
    assert set(found) == {"segmentation"}
    torch.testing.assert_close(found["segmentation"], losses_of(network, batch)["segmentation"])
    one = torch.cat([batch.growth[:1], nothing[1:]])
    some = Batch(batch.image, batch.lesions, batch.liver, batch.at, batch.distance, one, batch.patient, nothing[:1])
    alone = Batch(
        batch.image, batch.lesions, batch.liver, batch.at[:1], batch.distance[:1], batch.growth[:1],
        batch.patient[:1], nothing[:1],
    )  # fmt: skip
    torch.testing.assert_close(losses_of(network, some)["growth"], losses_of(network, alone)["growth"])


def test_weights_of_tasks() -> None:
    network = Network(micro())
    losses = {"segmentation": torch.tensor(2.0), "growth": torch.tensor(3.0)}
    assert total(network, losses, micro(weights={"segmentation": 0.5, "growth": 2.0})).item() == pytest.approx(7.0)
    with torch.no_grad():
        network.log_variance.copy_(torch.tensor([np.log(2.0), 0.0, 0.0, 0.0]))
    # Kendall, Gal and Cipolla: exp(-s) L + s / 2.
    expected = 2 / 2 + np.log(2) / 2 + 3
    assert total(network, losses, micro(weights="uncertainty")).item() == pytest.approx(expected)


def test_attributions_add_up_to_the_change_of_log_odds() -> None:
    torch.manual_seed(0)
    recipe = micro(dropout=0.0)
    network = Network(recipe).eval()
    rng = np.random.default_rng(0)
    image = rng.uniform(0.3, 0.7, recipe.patch).astype(np.float32)
    distance = np.broadcast_to(np.linspace(-5, 5, recipe.patch[2], dtype=np.float32), recipe.patch).copy()
    crop = Crop(image, (distance < 0).astype(np.float32), image, distance)
    found = attribute([network], crop, torch.device("cpu"))

    def odds(values: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            seen = torch.tensor(values)[None, None]
            said = network.of_lesions(network.features(seen), seen, torch.tensor(distance)[None, None])
        fractions = parts_of(said.logits.numpy()).composition[0]
        return np.asarray(np.log(fractions / (1 - fractions)))

    change = odds(image) - odds(np.full_like(image, image.mean()))
    np.testing.assert_allclose(found.sum(axis=(1, 2, 3)), change, atol=0.15 * np.abs(change).max() + 1e-4)
