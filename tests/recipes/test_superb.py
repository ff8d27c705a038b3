"""The recipes for distorted SUPERB sets: each is read, and one is built from a tree like the real one and unpacked into it."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from corpus_builder.build.build_corpus import build
from corpus_builder.cli.exchange import unpack_command
from corpus_builder.plan.make_plan import plan as make_plan
from manifests.recipe.recipe import Recipe

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


TREES = {  # as the archives unpack
    "ks": [f"speech_commands/test/{word}/{name}_nohash_0.wav" for word in ("yes", "_unknown_") for name in ("0a", "bed_0b")],
    "ic": [f"fluent_speech_commands_dataset/wavs/speakers/{who}/{who}{n}-4518-11e9.wav" for who in ("2BqVo8", "4BrX8a") for n in (1, 2)],
    "er": [f"IEMOCAP_full_release/Session{n}/sentences/wav/Ses0{n}F_impro01/Ses0{n}F_impro01_{who}000.wav" for n in (1, 2) for who in "FM"],
    "sid": [f"VoxCeleb1/wav/{who}/{video}/0000{n}.wav" for who in ("id10001", "id10002") for video in ("1zcI", "7gWz") for n in (1, 2)],
    "asr": [f"LibriSpeech/test-clean/{who}/{chapter}/{who}-{chapter}-0000.flac" for who in (1089, 121) for chapter in (134686, 134691)],
}  # fmt: skip


@pytest.mark.parametrize("task", TREES)
@pytest.mark.parametrize("kind", ["seen", "unseen"])
def test_each_recipe_takes_every_utterance_of_a_tree_as_it_unpacks(tmp_path, task, kind):
    for number, path in enumerate(TREES[task]):
        write(tmp_path / path, number)
    fading = np.exp(-np.arange(6400) / 700)
    for number in range(4):
        for folder in ("musan/noise", "wham_noise/tt", "FSD50K.eval_audio", "datasets_fullband/noise_fullband"):
            write(tmp_path / folder / f"{number}.wav", 50 + number)
        response = tmp_path / f"datasets_fullband/impulse_responses/SLR26/room{number}/{number}.wav"
        response.parent.mkdir(parents=True)
        soundfile.write(
            response, np.r_[0.9, 0.03 * fading * np.random.RandomState(number).standard_normal(6400)], 16_000
        )
    recipe = tmp_path / "recipe.yaml"
    recipe.write_bytes((RECIPES / f"superb_{task}_{kind}.yaml").read_bytes())
    plan, _ = make_plan(recipe, tmp_path / "plan", progress=False)
    rows = [json.loads(line) for line in (tmp_path / "plan/plan/test-000000.jsonl").read_text().splitlines()]
    assert plan.refused == ()
    assert {row["source"]["path"] for row in rows} == {
        path.split("/", 2 if task == "ks" else 1)[-1] for path in TREES[task]
    }


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
