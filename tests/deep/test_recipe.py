"""What decides a network: presets, files, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from hgpscale.deep.recipe import SIZES, Recipe
from hgpscale.errors import DeepError


@pytest.mark.parametrize("size", SIZES)
def test_presets_are_whole(size: str) -> None:
    recipe = Recipe.of(size)
    assert recipe.size == size
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"stepz": 3}, "unknown option 'stepz'; did you mean 'steps'"),
        ({"patch": (10, 32, 32)}, "expected multiples of 4"),
        ({"shells": (1.0, 2.0)}, "the first inside"),
        ({"weights": {"growht": 1.0}}, "no task growht"),
        ({"weights": {"growth": 1.0}}, "nothing is found without it"),
        ({"window": (100.0, 0.0)}, "the lower HU first"),
        ({"window": (float("nan"), 0.0)}, "finite"),
        ({"rate": 0.0}, "rate"),
        ({"backbone": "dynunet", "levels": 2}, "3 or more, and room"),
    ],
)
def test_what_cannot_be_used_is_said(changed: dict[str, object], said: str) -> None:
    with pytest.raises(DeepError, match=said):
        Recipe.of("tiny", **changed)


def test_a_file_changes_a_preset_and_options_change_a_file(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("size: tiny\nsteps: 50\nweights: uncertainty\n")
    assert Recipe.read(path) == Recipe.of("tiny", steps=50, weights="uncertainty")
    assert Recipe.read(path, steps=7).steps == 7
    assert Recipe.read(path, "small") == Recipe.of("small", steps=50, weights="uncertainty")


@pytest.mark.parametrize("text", ["- 1\n", "steps: [\n", "size: tiny\nsteps: many\n"])
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(DeepError, match=r"recipe\.yaml"):
        Recipe.read(path)


def test_a_digest_is_of_what_weights_depend_on() -> None:
    recipe = Recipe.of("tiny")
    assert Recipe.of("tiny", save_every=3, validate_every=0).digest == recipe.digest
    assert Recipe.of("tiny", seed=1).digest != recipe.digest


def test_weights_of_tasks_that_are_not_named_are_none() -> None:
    recipe = Recipe.of("tiny", weights={"segmentation": 2})
    assert recipe.weights == {"segmentation": 2, "liver": 0, "growth": 0, "patient": 0}
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe
