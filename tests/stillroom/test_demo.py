import csv
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from manifests.errors import StillroomError
from manifests.recipe.recipe import Recipe
from stillroom import demo


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
