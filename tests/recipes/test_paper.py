"""The paper's own distortions as shipped recipes: each is read, planned and built from a tree like the real one, made of noise."""

import gzip
import json
import re
import shutil
from collections import Counter
from concurrent.futures import Executor, Future
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile

from corpus_builder.build.build_corpus import build
from evaluation.config import EvaluationConfig
from manifests.plan.plan import PlanRow
from manifests.recipe.recipe import Recipe
from stillroom.cli import VERBS
from training.config.load import load_config

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
RATE = 16_000
COUNTS = {"train-960": 40, "dev-clean": 6, "test-clean": 6}


def write_noise(path, seed, seconds=1.0, channels=1, rate_hz=RATE):
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = np.random.default_rng(seed).standard_normal((round(seconds * rate_hz), channels)) * 1500
    soundfile.write(path, wave.astype(np.int16), rate_hz)


def write_response(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(12_000)
    response = np.random.default_rng(seed).standard_normal(time.size) * 10 ** (-3 * time / 48_000 / 0.15) * 0.05
    response[:50] = 0.0
    response[50] = 0.9
    soundfile.write(path, response, 48_000, subtype="PCM_24")


def write_cuts(folder, split, count):
    """Cuts as `lhotse cut simple` writes them, with speakers and absolute paths."""
    lines = []
    for number in range(count):
        name = f"{split}-{number}"
        path = folder / "LibriSpeech" / split / f"{number % 5}" / f"{name}.flac"
        write_noise(path, number, 0.4)
        recording = {
            "id": name, "sources": [{"type": "file", "channels": [0], "source": str(path)}], "sampling_rate": RATE,
            "num_samples": 6400, "duration": 0.4, "channel_ids": [0],
        }  # fmt: skip
        supervision = {
            "id": name, "recording_id": name, "start": 0.0, "duration": 0.4, "channel": 0, "text": "HE SAID",
            "language": "English", "speaker": f"{split}{number % 5}",
        }  # fmt: skip
        cut = {
            "id": name,
            "start": 0.0,
            "duration": 0.4,
            "channel": 0,
            "supervisions": [supervision],
            "recording": recording,
        }
        lines.append(json.dumps({**cut, "type": "MonoCut"}))
    (folder / "manifests").mkdir(exist_ok=True)
    (folder / "manifests" / f"{split}.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """The folders of the papers' corpora, tiny."""
    folder = tmp_path_factory.mktemp("data")
    for split, count in COUNTS.items():
        write_cuts(folder, split, count)
    for number, place in enumerate(("music/fma", "noise/free-sound", "speech/librivox")):
        for file in range(4):
            write_noise(folder / "musan" / place / f"{file}.wav", 10 * number + file, 0.3 * (file + 1))
    for number, split in enumerate(("tr", "cv", "tt")):
        for file in range(3):
            write_noise(folder / "wham_noise" / split / f"{file}.wav", 50 + 10 * number + file, channels=2)
    for file in range(3):
        write_noise(folder / "FSD50K.eval_audio" / f"{file}.wav", 90 + file, 0.2, rate_hz=44_100)
        write_noise(folder / "datasets_fullband/noise_fullband" / f"{file}.wav", 95 + file, rate_hz=48_000)
        write_response(folder / "datasets_fullband/impulse_responses" / f"SLR{file}" / "a.wav", file)
    return folder


class Inline(Executor):
    """Does everything at once, in this process."""

    def submit(self, function, /, *args, **named):
        future = Future()
        future.set_result(function(*args, **named))
        return future


@pytest.fixture(scope="session")
def rows_of(data, tmp_path_factory):
    """Builds a recipe, once, and gives the rows of its plan."""

    @cache
    def rows(name):
        recipe = shutil.copy(RECIPES / name, data / name)
        corpus = tmp_path_factory.mktemp("paper") / "corpus"
        assert build(Path(recipe), corpus, executor=Inline(), progress=False).corpus is not None
        assert (corpus / "refused.jsonl").read_text() == ""
        return [
            PlanRow.model_validate_json(line)
            for path in sorted((corpus / "plan").glob("t*-[0-9]*.jsonl"))
            for line in path.read_bytes().splitlines()
        ]

    return rows


@pytest.mark.parametrize("path", sorted(RECIPES.glob("paper_*.yaml")), ids=lambda path: path.stem)
def test_each_of_the_papers_recipes_is_read_and_says_where_it_differs(path):
    recipe = Recipe.read(path, needed="a recipe")
    assert Recipe.parse(recipe.plain(), where="again") == recipe
    assert "# Where this differs from the published code" in path.read_text()


def test_double_draws_one_of_four_and_then_one_of_four(rows_of):
    rows = rows_of("paper_double.yaml")
    copies = [copy for row in rows for copy in row.copies]
    assert len(copies) == 4 * 40 + 2 * 6
    first = Counter(next((step.source for step in copy.steps if step.kind == "noise"), "clean") for copy in copies)
    second = Counter(next((step.kind for step in copy.steps if step.kind != "noise"), "clean") for copy in copies)
    error = (len(copies) * 3 / 16) ** 0.5
    assert set(first) == {"musan", "gaussian", "wham", "clean"}
    assert set(second) == {"freeverb", "pitch", "bandreject", "clean"}
    assert all(abs(count - len(copies) / 4) < 4 * error for count in (*first.values(), *second.values()))
    snrs = {step.snr_db for copy in copies for step in copy.steps if step.kind == "noise"}
    assert snrs <= set(range(10, 20))
    assert len(snrs) > 5
    assert all(copy.steps[0].kind == "noise" for copy in copies if len(copy.steps) == 2)


def musan_by_split(rows):
    found = {"train": set(), "test": set()}
    for row in rows:
        for copy in row.copies:
            found[row.split] |= {step.recording for step in copy.steps if getattr(step, "source", "") == "musan"}
    return found


def test_musan_is_split_in_one_and_shared_in_the_other(rows_of):
    own = musan_by_split(rows_of("paper_double.yaml"))
    assert not own["train"] & own["test"]
    shared = musan_by_split(rows_of("paper_double_shared.yaml"))
    assert len(shared["train"]) == 12
    assert shared["train"] >= shared["test"]


def test_unseen_has_no_undistorted_copy(rows_of):
    rows = rows_of("paper_unseen.yaml")
    kinds = Counter(tuple(step.kind for step in copy.steps) for row in rows for copy in row.copies)
    assert kinds == {("noise",): 6, ("room", "noise"): 6}


def test_the_walk_through_names_what_there_is_and_its_configs_are_read(tmp_path):
    text = (RECIPES.parent / "docs" / "librispeech.md").read_text()
    for name in re.findall(r"recipes/([a-z_]+\.yaml)", text):
        assert (RECIPES / name).exists()
    for verb in re.findall(r"^stillroom ([a-z]+)", text, re.MULTILINE):
        assert verb in VERBS
    for name, config in re.findall(r"```yaml title=\"(.*?)\"\n(.*?)```", text, re.DOTALL):
        (tmp_path / name).write_text(config)
    assert load_config(tmp_path / "plain.yaml").views.kind == "none"
    assert load_config(tmp_path / "cdm2-dat.yaml").views.kind == "cdm2"
    assert EvaluationConfig.read(tmp_path / "evaluation.yaml").measures == ("cosine", "leakage")
