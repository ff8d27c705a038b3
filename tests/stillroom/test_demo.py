import csv
import hashlib
import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

import click
import numpy as np
import pytest
import soundfile
import yaml
from click.testing import CliRunner

from manifests.errors import StillroomError
from manifests.recipe.recipe import Recipe
from stillroom import demo, talkers


def speech_folder(folder, speakers, count):
    for speaker in speakers:
        for number in range(count):
            path = folder / speaker / f"{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, np.random.RandomState(number).standard_normal(8000) * 0.1, 16_000)
    return folder


@pytest.mark.parametrize(
    ("speakers", "label", "babble"),
    [(["ann", "bob"], "speaker", True), (["ann"], None, False), ([""], None, True)],
)
def test_own_speech_is_dealt_to_three_splits_and_its_recipe_is_sound(tmp_path, speakers, label, babble):
    speech = speech_folder(tmp_path / "mine", speakers, 40)
    assert demo.own_speech(speech, tmp_path / "out" / "speech") == label
    dealt = {}
    for split in demo.SPLITS:
        with (tmp_path / "out" / "speech" / f"{split}.csv").open() as stream:
            dealt[split] = {row["path"] for row in csv.DictReader(stream)}
    assert all(dealt.values())
    assert sum(map(len, dealt.values())) == len(set().union(*dealt.values())) == 40 * len(speakers)
    found = all(demo.can_babble(tmp_path / "out" / "speech" / f"{split}.csv") for split in demo.SPLITS)
    assert found == babble
    recipe = demo.recipe(tmp_path / "out", speech=speech, noise=tmp_path / "noise", babble=babble)
    assert ("babble" in Recipe.parse(recipe, where="demo").noises) == babble


def test_a_folder_that_will_not_do_is_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(StillroomError, match="no audio file in it"):
        demo.checked_folder(tmp_path / "empty", "--speech")
    with pytest.raises(StillroomError, match="does not exist"):
        demo.checked_folder(tmp_path / "nowhere", "--noise")
    with pytest.raises(StillroomError, match="20 or more"):
        demo.own_speech(speech_folder(tmp_path / "few", ["ann"], 3), tmp_path / "out")


def test_made_noises_are_different_and_do_not_clip(tmp_path):
    folder = demo.made_noises(tmp_path / "noise")
    waves = [soundfile.read(path)[0] for path in sorted(folder.iterdir())]
    assert len(waves) == 12
    assert all(0.05 < np.abs(wave).max() < 0.9 for wave in waves)
    assert all(np.std(wave) > 0.001 for wave in waves)
    for number, wave in enumerate(waves):
        assert not any(np.array_equal(wave, other) for other in waves[:number])


STAGE = """#!{python}
import pathlib, signal, sys, time
here = pathlib.Path({here!r})
if "train" in sys.argv:
    def stop(number, frame):
        time.sleep(0.3)  # as training does before its checkpoint is written
        (here / "checkpoint").write_text(signal.Signals(number).name)
        sys.exit(75)
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGUSR1, stop)
    (here / "training").write_text("")
    time.sleep(20)
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_a_signal_to_the_demo_reaches_its_training_which_is_waited_for(tmp_path, name):
    speech_folder(tmp_path / "mine", ["ann", "bob"], 40)
    stage = tmp_path / "stage"  # stands for the interpreter that runs the stages
    stage.write_text(STAGE.format(python=sys.executable, here=str(tmp_path)))
    stage.chmod(0o755)
    arguments = [
        "stillroom",
        "demo",
        str(tmp_path / "out"),
        "--speech",
        str(tmp_path / "mine"),
        "--noise",
        str(tmp_path / "mine"),
    ]
    code = (
        f"import sys; sys.executable = {str(stage)!r}; sys.argv = {arguments!r}\n"
        "from stillroom.__main__ import main\nmain()"
    )
    house = Path(__file__).resolve().parents[2]
    demo_process = subprocess.Popen([sys.executable, "-c", code], cwd=house, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "training").exists():
        assert demo_process.poll() is None
        time.sleep(0.05)
    demo_process.send_signal(signal.Signals[name])
    _, said = demo_process.communicate()
    assert (tmp_path / "checkpoint").read_text() == name
    assert demo_process.returncode == 75
    assert said == "stillroom: stopped; the same command goes on where this one left off\n"


class Child:
    """Stands for the processes of the stages: notes their commands and ends with the code that is due."""

    commands: ClassVar[list] = []
    codes: ClassVar[list] = []

    def __init__(self, command):
        self.commands.append(command)
        if command[3] == "evaluate":
            protocol = {
                "schema": "stillroom/protocol/1", "corpus": "demo", "data_sha256": "d" * 64, "conditions": [], "settings": {}, "models": {},
            }  # fmt: skip
            given = {"schema": "stillroom/results/2", "protocol": protocol, "cells": [], "software": {}, "machine": {}}
            Path(command[5]).mkdir()
            (Path(command[5]) / "results.json").write_text(json.dumps(given))

    def wait(self):
        return self.codes.pop(0) if self.codes else 0


@pytest.fixture
def stages(monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", Child)
    monkeypatch.setattr(Child, "commands", [])
    monkeypatch.setattr(Child, "codes", [])
    return Child


def yaml_of(path):
    return yaml.safe_load(path.read_text())


def test_the_demo_of_own_speech_runs_every_stage_as_it_is_printed(tmp_path, monkeypatch, stages):
    monkeypatch.chdir(tmp_path)
    speech_folder(tmp_path / "mine", ["ann", "bob"], 40)
    (tmp_path / "mine/ann/0.wav").rename(tmp_path / "mine/ann/0.WAV")
    done = CliRunner().invoke(
        demo.demo_command, ["out", "--speech", "mine", "--noise", "mine/ann"], catch_exceptions=False
    )
    words = [command[3:] for command in stages.commands]
    assert words == [
        ["build", "out/recipe.yaml", "out/corpus", "--workers", "2", "--max-refused", "10%"], ["verify", "out/corpus"],
        ["train", "out/plain.yaml", "out/runs/plain"], ["train", "out/robust.yaml", "out/runs/robust"], ["evaluate", "out/evaluation.yaml", "out/results"],
    ]  # fmt: skip
    assert all(command[:3] == [sys.executable, "-m", "stillroom"] for command in stages.commands)
    assert [line[2:] for line in done.output.splitlines() if line.startswith("$ ")] == [
        f"stillroom {shlex.join(one)}" for one in words
    ]
    assert [line.split()[0] for line in done.output.splitlines()[-4:]] == [
        "out/recipe.yaml",
        "out/corpus",
        "out/runs",
        "out/results/report.md",
    ]
    recipe = yaml_of(tmp_path / "out/recipe.yaml")
    assert {one["dir"] for one in recipe["speech"].values()} == {str(tmp_path / "mine")}
    assert recipe["speech"]["dev"]["table"] == "speech/dev.csv"
    assert recipe["noises"]["machines"] == {"dir": str(tmp_path / "mine/ann")}
    assert recipe["conditions"]["noise"]["steps"][0]["from"] == [
        "machines",
        "white",
        *(["babble"] if "babble" in recipe["noises"] else []),
    ]
    presets = [yaml_of(tmp_path / f"out/{name}.yaml")["preset"] for name in ("plain", "robust")]
    assert presets == ["distilhubert", "cdm2-dat"]
    evaluation = yaml_of(tmp_path / "out/evaluation.yaml")
    assert [task["label"] for task in evaluation["tasks"]] == ["speaker"]
    assert evaluation["models"] == {"teacher": "nano", "plain": "runs/plain", "cdm2-dat": "runs/robust"}
    paths = set()
    for split in demo.SPLITS:
        with (tmp_path / f"out/speech/{split}.csv").open() as stream:
            for row in csv.DictReader(stream):
                paths.add(row["path"])
                assert row["speaker"] == row["path"].split("/")[0]
    assert len(paths) == 80
    assert "ann/0.WAV" in paths


def test_the_demo_of_synthetic_speech_has_words_as_labels_and_sentences_to_train_on(tmp_path, monkeypatch, stages):
    voices = {split: talkers.speakers(split)[:2] for split in demo.SPLITS}
    monkeypatch.setattr(talkers, "speakers", voices.__getitem__)
    monkeypatch.setattr(
        talkers, "speech_16k", lambda text, voice: np.full(800, len(text) / 1000 + len(voice.name) / 100)
    )
    speech_folder(tmp_path / "noise", [""], 1)
    done = CliRunner().invoke(
        demo.demo_command, [str(tmp_path / "out"), "--noise", str(tmp_path / "noise")], catch_exceptions=False
    )
    assert done.output.startswith("Synthesising 104 utterances by 6 speakers.\n")
    assert stages.commands[0][3:] == [
        "build",
        str(tmp_path / "out/recipe.yaml"),
        str(tmp_path / "out/corpus"),
        "--workers",
        "2",
    ]
    assert yaml_of(tmp_path / "out/evaluation.yaml")["tasks"][0]["label"] == "word"
    recipe = yaml_of(tmp_path / "out/recipe.yaml")
    assert {one["dir"] for one in recipe["speech"].values()} == {"speech"}
    for split in demo.SPLITS:
        with (tmp_path / f"out/speech/{split}.csv").open() as stream:
            rows = list(csv.DictReader(stream))
        assert [row["word"] for row in rows if row["speaker"] == voices[split][1].name and row["word"]] == list(
            talkers.KEYWORDS
        )
        sentences = [row["text"] for row in rows if not row["word"]]
        assert sentences == (list(talkers.SENTENCES[:8]) if split == "train" else [])
        for row in rows[:: len(rows) - 1]:
            wave, rate_hz = soundfile.read(tmp_path / "out/speech" / row["path"])
            assert (rate_hz, wave.size) == (16_000, 800)
            assert wave[0] == pytest.approx(len(row["text"]) / 1000 + len(row["speaker"]) / 100, abs=1e-3)


def test_a_stage_that_ends_otherwise_ends_the_demo_as_it_ended(capsys, stages):
    stages.codes += [3, 130, 75]
    with pytest.raises(
        demo.DemoFailedError, match=r"^the demo stopped: `stillroom build 'a b' 2` ended with exit code 3; see"
    ):
        demo.run("build", "a b", 2)
    with pytest.raises(KeyboardInterrupt):
        demo.run("train", "x")
    with pytest.raises(click.exceptions.Exit) as end:
        demo.run("train", "x")
    assert end.value.exit_code == 75
    assert "the same command goes on where this one left off" in capsys.readouterr().err


def test_a_second_interrupt_is_passed_on_and_signals_are_handled_as_before_afterwards():
    numbers = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    code = (  # that SIGTERM came back tells that the first interrupt was handled, and not passed on
        "import os, signal, sys, time\n"
        "answered = []\n"
        "signal.signal(signal.SIGINT, lambda *_: sys.exit(9))\n"
        "signal.signal(signal.SIGTERM, lambda *_: answered.append(1))\n"
        "os.kill(os.getppid(), signal.SIGINT)\nos.kill(os.getppid(), signal.SIGTERM)\n"
        "while not answered:\n    time.sleep(0.01)\n"
        "os.kill(os.getppid(), signal.SIGINT)\ntime.sleep(20)"
    )
    assert demo.waited([sys.executable, "-c", code]) == (9, [signal.SIGINT, signal.SIGTERM, signal.SIGINT])
    assert [signal.getsignal(number) for number in numbers] == before


def test_speakers_are_told_only_where_every_tested_one_is_trained_on(tmp_path):
    """One of many is in dev alone: by the hash of its single file."""
    speech_folder(tmp_path / "mine", ["ann", "bob"], 40)
    wanted = {"dev": None, "test": None}
    for number in range(400):
        share = int.from_bytes(hashlib.sha256(f"cy{number}/0.wav".encode()).digest()[:4], "big") / 2**32
        split = "train" if share < 0.8 else "dev" if share < 0.9 else "test"
        if split in wanted and wanted[split] is None:
            wanted[split] = f"cy{number}"
    for split, name in wanted.items():
        speech_folder(tmp_path / "mine", [name], 1)
        assert demo.own_speech(tmp_path / "mine", tmp_path / split) is None
        (tmp_path / "mine" / name / "0.wav").unlink()
    assert demo.own_speech(tmp_path / "mine", tmp_path / "out") == "speaker"
