import csv
import hashlib
import json
import shlex
import signal
import subprocess
import sys
import threading
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


@pytest.fixture(name="noises", scope="module")
def twelve_noises(tmp_path_factory):
    folder = demo.made_noises(tmp_path_factory.mktemp("made") / "noise")
    assert [path.name for path in sorted(folder.iterdir())] == [f"noise-{number:02d}.flac" for number in range(12)]
    assert {(info.samplerate, info.frames, info.subtype) for info in map(soundfile.info, folder.iterdir())} == {
        (16_000, 15 * 16_000, "PCM_16")
    }
    return [soundfile.read(path)[0] for path in sorted(folder.iterdir())]


def test_made_noises_are_different_and_do_not_clip(noises):
    assert all(np.abs(wave).max() == pytest.approx(0.3, abs=1e-4) for wave in noises)
    crest = [0.104, 0.0487, 0.0357, 0.0743, 0.1063, 0.0478, 0.0354, 0.0739, 0.1095, 0.0459, 0.0311, 0.0744]
    np.testing.assert_allclose([np.std(wave) for wave in noises], crest, atol=2e-4)
    for number, wave in enumerate(noises):
        assert not any(np.array_equal(wave, other) for other in noises[:number])


def power(wave, low_hz, high_hz):
    frequency = np.fft.rfftfreq(len(wave), 1 / 16_000)
    return float((np.abs(np.fft.rfft(wave)) ** 2)[(frequency >= low_hz) & (frequency < high_hz)].sum())


def swing_hz(track, *, rate_hz):
    """The frequency of a slow track that swings like a sine."""
    tried = np.arange(0.02, 3.0, 0.01)
    waves = np.exp(-2j * np.pi * tried[:, None] * np.arange(len(track)) / rate_hz)
    return float(tried[np.argmax(np.abs(waves @ (track - track.mean())))])


@pytest.mark.parametrize(("number", "pitch_hz"), [(0, 40), (4, 140), (8, 240)])
def test_a_motor_has_eleven_harmonics_of_a_wavering_hum(noises, number, pitch_hz):
    wave = noises[number]
    parts = [power(wave, k * (pitch_hz - 3.5), k * (pitch_hz + 3.5)) for k in range(1, 13)]
    if number:  # bands of the deepest one touch
        np.testing.assert_allclose(np.array(parts[:11]) / parts[0], 1 / np.arange(1, 12) ** 2, rtol=0.15)
        assert parts[11] < 0.2 * parts[10]
    hum = (wave * np.exp(-2j * np.pi * pitch_hz * np.arange(len(wave)) / 16_000)).reshape(-1, 800).mean(axis=1)
    off_hz = np.diff(np.unwrap(np.angle(hum))) * 20 / (2 * np.pi)
    assert (off_hz.min(), off_hz.max()) == (pytest.approx(-3.0, abs=0.4), pytest.approx(3.0, abs=0.9))
    assert swing_hz(off_hz, rate_hz=20) == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize(("number", "swell_hz"), [(1, 0.15), (5, 0.35), (9, 0.55)])
def test_wind_swells_and_is_low(noises, number, swell_hz):
    loudness = np.sqrt((noises[number].reshape(-1, 2000) ** 2).mean(axis=1))
    assert swing_hz(loudness, rate_hz=8) == pytest.approx(swell_hz, abs=0.03)
    assert loudness.min() < 0.3 * loudness.mean()
    assert 400 < power(noises[number], 400, 600) / power(noises[number], 3900, 4100) < 650  # by its filter 537


@pytest.mark.parametrize(("number", "ring_hz"), [(2, 1300), (6, 2500), (10, 3700)])
def test_a_workshop_rings(noises, number, ring_hz):
    assert power(noises[number], ring_hz - 40, ring_hz + 40) > 0.7 * power(noises[number], 0, 8000)


@pytest.mark.parametrize(("number", "turn_hz"), [(3, 0.8), (7, 1.6), (11, 2.4)])
def test_a_siren_goes_up_and_down(noises, number, turn_hz):
    spectra = np.abs(np.fft.rfft(noises[number].reshape(-1, 400) * np.hanning(400), 4096, axis=1))
    frequency = np.fft.rfftfreq(4096, 1 / 16_000)
    spectra[:, (frequency < 300) | (frequency > 1700)] = 0
    pitch_hz = frequency[spectra.argmax(axis=1)]
    assert (pitch_hz.min(), pitch_hz.max()) == (pytest.approx(400, abs=25), pytest.approx(1400, abs=25))
    assert swing_hz(pitch_hz, rate_hz=40) == pytest.approx(turn_hz, abs=0.03)


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

    def wait(self, timeout):
        assert timeout > 1e6
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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_that_ends_a_stage_well_still_stops_the_demo(number, monkeypatch, capsys):
    monkeypatch.setattr(demo, "waited", lambda command: (0, [number]))
    with pytest.raises(click.exceptions.Exit) as end:
        demo.run("train", "x")
    assert end.value.exit_code == 75
    monkeypatch.setattr(demo, "waited", lambda command: (75, [signal.SIGINT]))
    with pytest.raises(KeyboardInterrupt):
        demo.run("train", "x")
    monkeypatch.setattr(demo, "waited", lambda command: (0, []))
    capsys.readouterr()
    demo.run("train", "my x", 3)
    assert capsys.readouterr().out == "\n$ stillroom train 'my x' 3\n"


def test_a_signal_that_comes_before_there_is_a_process_is_passed_on_as_soon_as_there_is_one(monkeypatch):
    sent = []

    class Late:
        def __init__(self, command):
            assert command == ["a", "b"]
            signal.raise_signal(signal.SIGUSR1)
            signal.raise_signal(signal.SIGTERM)
            sent.append("begun")

        def send_signal(self, number):
            sent.append(number)

        def wait(self, timeout):
            assert timeout > 1e6
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)
            return 75

    monkeypatch.setattr(subprocess, "Popen", Late)
    stop = [signal.SIGUSR1, signal.SIGTERM, signal.SIGTERM]
    assert demo.waited(["a", "b"]) == (75, [*stop, signal.SIGINT])
    assert sent == ["begun", *stop]


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


def test_a_signal_that_another_thread_received_is_passed_on_too():
    """The kernel may choose any thread, and a wait of the main one is not ended by it."""

    def receive():
        time.sleep(0.2)
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

    thread = threading.Thread(target=receive)
    thread.start()
    code = "import time\ntime.sleep(10)"
    assert demo.waited([sys.executable, "-c", code]) == (-signal.SIGTERM, [signal.SIGTERM])
    thread.join()


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


def test_the_files_of_the_demo_are_the_golden_ones(golden):
    """Whoever changes them looks at the whole: they are the first recipe and configs that a user sees."""
    out = Path("out")
    files = {
        "recipe": demo.recipe(out, speech=None, noise=out / "noise", babble=True), "train": demo.run_config("cdm2-dat"),
        "evaluation": demo.evaluation_config("word"),
    }  # fmt: skip
    golden("demo_files.json", json.dumps(files, indent=1) + "\n")
    quiet = demo.recipe(out, speech=Path("/mine"), noise=Path("/hum"), babble=False)
    assert {one["dir"] for one in quiet["speech"].values()} == {"/mine"}
    assert quiet["noises"] == {"machines": {"dir": "/hum"}, "white": {"colour": "white"}}
    assert quiet["conditions"]["noise"]["steps"][0]["from"] == ["machines", "white"]
    assert demo.evaluation_config(None)["tasks"] == []


def test_the_demo_makes_its_own_noise_and_goes_on_in_a_folder_of_its_own(tmp_path, monkeypatch, stages):
    made = []
    monkeypatch.setattr(demo, "made_noises", lambda folder: made.append(folder) or folder)
    speech_folder(tmp_path / "mine", ["ann"], 40)
    words = [str(tmp_path / "out"), "--speech", str(tmp_path / "mine")]
    first = CliRunner().invoke(demo.demo_command, words, catch_exceptions=False)
    assert (first.exit_code, made) == (0, [tmp_path / "out/noise"])
    assert yaml_of(tmp_path / "out/recipe.yaml")["noises"]["machines"] == {"dir": "noise"}
    assert "\nDone in " in first.output
    (tmp_path / "out/results/results.json").unlink()
    (tmp_path / "out/results").rmdir()
    again = CliRunner().invoke(demo.demo_command, words, catch_exceptions=False)
    assert again.exit_code == 0
    assert len(stages.commands) == 10
    (tmp_path / "other").mkdir()
    for name in ("b", "a"):
        (tmp_path / "other" / name).touch()
    with pytest.raises(StillroomError, match=r"other holds 'a', which is not of a demo; choose a new folder$"):
        CliRunner().invoke(demo.demo_command, [str(tmp_path / "other")], catch_exceptions=False)


def test_babble_needs_speakers_in_every_split_and_the_headline_of_the_results_ends_the_demo(
    tmp_path, monkeypatch, stages
):
    for split, speakers in (("train", "ab"), ("dev", "ab"), ("test", "a")):
        demo.write_table(tmp_path / f"{split}.csv", [{"path": f"{one}.wav", "speaker": one} for one in speakers])
    assert [demo.can_babble(tmp_path / f"{split}.csv") for split in demo.SPLITS] == [True, True, False]
    speech_folder(tmp_path / "mine", ["ann"], 40)
    monkeypatch.setattr(demo, "can_babble", lambda table: table.stem != "dev")
    monkeypatch.setattr("evaluation.report.make_report.headline", lambda folder: f"the table of {folder}")
    words = [str(tmp_path / "deep/out"), "--speech", str(tmp_path / "mine"), "--noise", str(tmp_path / "mine")]
    done = CliRunner().invoke(demo.demo_command, words, catch_exceptions=False)
    assert set(yaml_of(tmp_path / "deep/out/recipe.yaml")["noises"]) == {"machines", "white"}
    assert yaml_of(tmp_path / "deep/out/evaluation.yaml")["tasks"] == [], "one speaker is no label"
    assert f"\nthe table of {tmp_path}/deep/out/results\n\nDone in " in done.output


def test_more_sentences_than_there_are_begin_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(talkers, "speakers", {split: talkers.speakers(split)[:2] for split in demo.SPLITS}.__getitem__)
    monkeypatch.setattr(talkers, "SENTENCES", talkers.SENTENCES[:6])
    monkeypatch.setattr(talkers, "speech_16k", lambda text, voice: np.zeros(800))
    assert demo.spoken_corpus(tmp_path) == "word"
    with (tmp_path / "train.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if not row["word"]]
    assert [row["text"] for row in rows] == [talkers.SENTENCES[number] for number in (0, 1, 2, 3, 4, 5, 0, 1)]
    name = talkers.speakers("train")[1].name
    assert [row["path"] for row in rows[4:6]] == [f"train/{name}/s04.flac", f"train/{name}/s05.flac"]
    assert {row["language"] for row in rows} == {"en"}
    assert (tmp_path / rows[-1]["path"]).is_file()


def test_twenty_files_are_enough_if_each_part_has_one(tmp_path):
    def split_of(name):
        share = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") / 2**32
        return "train" if share < 0.8 else "dev" if share < 0.9 else "test"

    names = {
        split: [name for number in range(300) if split_of(name := f"{number}.flac") == split] for split in demo.SPLITS
    }
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in names["train"][:19]:
        (folder / name).touch()
    with pytest.raises(StillroomError, match=r"mine: 19 audio files found; a demo needs 20 or more$"):
        demo.own_speech(folder, tmp_path / "out")
    (folder / names["test"][0]).touch()
    with pytest.raises(StillroomError, match=r"mine: too few files for a train, a dev and a test part; give more$"):
        demo.own_speech(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (folder / names["dev"][0]).touch()
    assert demo.own_speech(folder, tmp_path / "out") is None
    for split in demo.SPLITS:
        with (tmp_path / f"out/{split}.csv").open() as stream:
            assert [row["path"] for row in csv.DictReader(stream)] == sorted(
                names[split][: 19 if split == "train" else 1]
            )


def test_audio_files_are_those_of_every_depth_in_order_whatever_case_their_suffix_has(tmp_path):
    for name in ("b.FLAC", "a/z.ogg", "a/b/c.mp3", "a.txt", "c.wave", "d.AIF"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.wav").mkdir()
    assert [str(path.relative_to(tmp_path)) for path in demo.audio_files(tmp_path)] == [
        "a/b/c.mp3",
        "a/z.ogg",
        "b.FLAC",
        "d.AIF",
    ]
    assert demo.checked_folder(tmp_path, "--noise") == tmp_path
    with pytest.raises(
        StillroomError, match=r"^--noise .*folder\.wav: no audio file in it \(looked for \.aif, \.aiff, \.flac"
    ):
        demo.checked_folder(tmp_path / "folder.wav", "--noise")
    with pytest.raises(StillroomError, match="--speech needs a folder of audio files"):
        demo.checked_folder(tmp_path / "none", "--speech")


def test_a_wave_is_written_once_and_not_at_all_where_it_cannot_be_made(tmp_path):
    path = tmp_path / "a.flac"
    demo.write_flac(path, lambda: np.array([0.5, -0.25]))
    demo.write_flac(path, lambda: pytest.fail("it is there"))
    assert soundfile.read(path)[0].tolist() == [0.5, -0.25]
    with pytest.raises(ZeroDivisionError):
        demo.write_flac(tmp_path / "b.flac", lambda: 1 / 0)
    assert [one.name for one in tmp_path.iterdir() if not one.name.startswith(".")] == ["a.flac"]
    info = soundfile.info(path)
    assert (info.samplerate, info.format, info.subtype) == (16_000, "FLAC", "PCM_16")
