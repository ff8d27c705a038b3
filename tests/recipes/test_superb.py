"""The recipes for distorted SUPERB sets: each is read, and one is built from a tree like the real one and unpacked into it."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from corpus_builder.build import build
from corpus_builder.exchange_cli import unpack_command
from manifests.recipe import Recipe

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
ROOTS = {
    "ks": "speech_commands",
    "ic": "fluent_speech_commands",
    "er": "iemocap",
    "sid": "voxceleb1",
    "asr": "librispeech",
}


@pytest.mark.parametrize("task", ROOTS)
@pytest.mark.parametrize("kind", ["seen", "unseen"])
def test_each_recipe_is_read_and_distorts_the_test_set(task, kind):
    recipe = Recipe.read(RECIPES / f"superb_{task}_{kind}.yaml", needed="a recipe")
    assert recipe.speech["test"].root == ROOTS[task]
    assert set(recipe.conditions) == ({"seen"} if kind == "seen" else {"fsd50k", "dns"})
    assert set(recipe.copies["test"]) == set(recipe.conditions)
    twin = Recipe.read(RECIPES / ("paper_double.yaml" if kind == "seen" else "paper_unseen.yaml"), needed="a recipe")
    theirs = list(twin.conditions.values())
    assert [one.steps for one in recipe.conditions.values()] == [one.steps for one in theirs]


def write(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, (2000 * np.random.RandomState(seed).standard_normal(6400)).astype(np.int16), 16_000)


def test_the_seen_keyword_set_is_built_and_stands_in_for_its_source(tmp_path):
    for number in range(6):
        write(tmp_path / "speech_commands" / "test" / f"word{number % 2}" / f"{number}.wav", number)
        write(tmp_path / "musan" / "noise" / f"{number}.wav", 50 + number)
        write(tmp_path / "wham_noise" / "tt" / f"{number}.wav", 90 + number)
    (tmp_path / "speech_commands" / "test" / "LICENSE").write_text("x")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_bytes((RECIPES / "superb_ks_seen.yaml").read_bytes())
    assert build(recipe, tmp_path / "corpus", progress=False).corpus.totals.samples == 6
    root = tmp_path / "speech_commands" / "test"
    asked = [
        str(tmp_path / "corpus"),
        str(tmp_path / "new"),
        "--condition",
        "seen",
        "--root",
        f"speech_commands={root}",
    ]
    result = CliRunner().invoke(unpack_command, asked, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    new = {path.relative_to(tmp_path / "new").as_posix() for path in (tmp_path / "new").rglob("*") if path.is_file()}
    assert new == {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()} | {"stillroom.json"}
