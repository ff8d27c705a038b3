import csv

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
