"""Files to begin with are valid, and are written where they are asked for."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from evaluation.config import EvaluationConfig
from manifests.recipe import Recipe
from stillroom import init as module
from stillroom.cli import stillroom
from stillroom.init import recipe_files
from training.config.load import load_config
from training.config.presets import PRESETS

CHECKOUT = Path(__file__).resolve().parents[2]


def init(*words):
    return CliRunner().invoke(stillroom, ["init", *map(str, words)])


def test_each_kind_is_valid_as_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for kind in ("recipe", "train", "evaluate"):
        done = init(kind)
        assert done.exit_code == 0, done.output
        assert f"{kind}.yaml: edit its paths" in done.output
    recipe = Recipe.read(tmp_path / "recipe.yaml", needed="a recipe")
    assert set(recipe.speech) == set(recipe.copies) == {"train", "dev", "test"}
    assert load_config(tmp_path / "train.yaml").preset == "cdm2-dat"
    assert EvaluationConfig.read(tmp_path / "evaluate.yaml").tasks[0].kind == "classify"


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("recipe", ["build", "my config.yaml", "CORPUS", "--dry-run"]),
        ("train", ["train", "my config.yaml", "RUN"]),
        ("evaluate", ["evaluate", "my config.yaml", "RESULTS", "--dry-run"]),
    ],
)
def test_the_next_command_can_be_typed_as_it_is_said(kind, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = init(kind, "my config.yaml").output
    assert said.startswith("my config.yaml: edit its paths, then `")
    assert shlex.split(said.split("`")[1]) == ["stillroom", *words]


def test_without_a_path_a_file_is_named_after_what_it_is_made_from(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for kind, source in (("recipe", "paper_double"), ("train", "cdm1")):
        assert init(kind, "--from", source).exit_code == 0
        assert Path(f"{source}.yaml").is_file()


def test_the_recipes_of_the_package_as_installed_come_before_those_beside_it(tmp_path, monkeypatch):
    for folder, names in (("recipes", "c"), ("stillroom/recipes", "ba")):
        (tmp_path / folder).mkdir(parents=True)
        for name in names:
            (tmp_path / folder / f"{name}.yaml").write_text(name)
    (tmp_path / "recipes/README.md").write_text("")
    monkeypatch.setattr(module, "PACKAGE", tmp_path / "stillroom")
    assert list(recipe_files().items()) == [(name, tmp_path / f"stillroom/recipes/{name}.yaml") for name in "ab"]
    monkeypatch.setattr(module, "PACKAGE", tmp_path / "elsewhere")
    assert list(recipe_files()) == ["c"]


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_written_by_name(preset, tmp_path):
    assert init("train", tmp_path / "t.yaml", "--from", preset).exit_code == 0
    assert load_config(tmp_path / "t.yaml").preset == preset


def test_a_recipe_is_written_as_it_is_shipped(tmp_path):
    assert set(recipe_files()) == {path.stem for path in (CHECKOUT / "recipes").glob("*.yaml")} >= {"paper_double"}
    assert init("recipe", tmp_path / "mine.yaml", "--from", "paper_unseen").exit_code == 0
    assert (tmp_path / "mine.yaml").read_bytes() == (CHECKOUT / "recipes/paper_unseen.yaml").read_bytes()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("recipe", "--from", "papper"), "--from papper: no such recipe; there are paper_double"),
        (("train", "--from", "cdm3"), "--from cdm3: no such preset; there are distilhubert"),
        (("evaluate", "--from", "cdm2"), "--from goes with recipe and train"),
        (("evaluate", "there.yaml"), "there.yaml exists: choose another name"),
    ],
)
def test_what_cannot_be_written_is_one_line(words, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("there.yaml").write_text("mine")
    done = init(*words)
    assert done.exit_code != 0
    assert line in str(done.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["there.yaml"]
    assert Path("there.yaml").read_text() == "mine"
