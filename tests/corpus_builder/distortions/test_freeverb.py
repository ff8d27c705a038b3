import io
import json
import tarfile

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus_builder.audio.levels import mean_power
from corpus_builder.distortions.freeverb import freeverb
from manifests.errors import BadDocumentError
from manifests.recipe.recipe import Recipe
from tests.corpus_builder.conftest import Lab
from tests.oracles import freeverb as slow
from tests.oracles.lag import gcc_phat_lag
from tests.oracles.speechlike import speechlike

few = settings(max_examples=25, derandomize=True, deadline=None)
percent = st.floats(0, 100)
settings_of_sox = {
    "reverberance": percent,
    "hf_damping": percent,
    "room_scale": percent,
    "pre_delay_ms": st.floats(0, 20),
    "wet_gain_db": st.floats(-10, 10),
}


@few
@given(
    size=st.integers(1, 900),
    rate_hz=st.sampled_from([8_000, 16_000, 44_100]),
    numbers=st.fixed_dictionaries(settings_of_sox),
)
def test_the_blocks_give_what_the_delay_lines_give_sample_by_sample(size, rate_hz, numbers):
    wave = np.random.default_rng(size).standard_normal(size)
    expected = slow.freeverb(wave, rate_hz=rate_hz, **numbers)
    found = freeverb(wave, rate_hz=rate_hz, keep_rms=False, **numbers)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-10)


@few
@given(numbers=st.fixed_dictionaries(settings_of_sox), seed=st.integers(0, 99))
def test_reverberant_speech_keeps_its_length_its_rms_and_its_place(numbers, seed):
    speech = speechlike(1.0, seed=seed)
    heard = freeverb(speech, rate_hz=16_000, **numbers)
    assert heard.shape == speech.shape
    assert mean_power(heard) == pytest.approx(mean_power(speech))
    assert abs(gcc_phat_lag(speech, np.rint(32768 * heard))) <= 1


def test_more_reverberance_rings_longer_and_more_damping_takes_the_high_tail():
    click = np.zeros(32_000)
    click[0] = 1.0

    def tail(**numbers):
        return freeverb(click, rate_hz=16_000, keep_rms=False, **numbers)[8_000:]

    assert mean_power(tail(reverberance=90)) > 30 * mean_power(tail(reverberance=50))

    def high_share(wave):
        power = np.abs(np.fft.rfft(wave)) ** 2
        return power[power.size // 2 :].sum() / power.sum()

    assert high_share(tail(reverberance=80, hf_damping=100)) < 0.5 * high_share(tail(reverberance=80, hf_damping=0))


def test_the_wet_part_begins_after_its_pre_delay_and_the_shortest_comb():
    click = np.zeros(4_000)
    click[0] = 1.0
    heard = freeverb(click, rate_hz=44_100, room_scale=0, pre_delay_ms=10, keep_rms=False)
    assert np.flatnonzero(np.abs(heard[1:]) > 1e-12)[0] + 1 == 441 + 112


@pytest.mark.parametrize("wet_gain_db", [-10.0, 6.0])
def test_the_wet_gain_is_that_of_the_reverberation_alone(wet_gain_db):
    wave = np.random.default_rng(3).standard_normal(8000)
    plain = freeverb(wave, rate_hz=16_000, keep_rms=False) - wave
    heard = freeverb(wave, rate_hz=16_000, keep_rms=False, wet_gain_db=wet_gain_db) - wave
    np.testing.assert_allclose(heard, 10 ** (wet_gain_db / 20) * plain, atol=1e-9)


def test_silence_stays_silence_and_nothing_stays_nothing():
    np.testing.assert_array_equal(freeverb(np.zeros(70), rate_hz=16_000), np.zeros(70))
    assert freeverb(np.zeros(0), rate_hz=16_000).shape == (0,)


def test_a_recipe_draws_freeverbs_numbers_and_its_copies_are_of_the_family_room(lab: Lab) -> None:
    lab.without_rooms()
    step = {"kind": "freeverb", "room_scale": {"uniform": [0, 100]}, "pre_delay_ms": 5}
    lab.recipe["conditions"]["verb"] = {"steps": [step]}
    lab.recipe["conditions"]["loud"] = {"steps": [step | {"keep_rms": False, "wet_gain_db": 10}]}
    lab.recipe["copies"] = {"train": {"verb": 3, "loud": 1}}
    lab.plan()
    steps = {copy.name: copy.steps[0] for row in lab.rows() for copy in row.copies}
    assert {step.kind for step in steps.values()} == {"freeverb"}
    assert len({row.copies[at].steps[0].room_scale for row in lab.rows() for at in range(3)}) == 24
    assert steps["verb-0"].reverberance == 50.0
    assert steps["verb-0"].keep_rms is None
    assert steps["loud-0"].keep_rms is False
    assert lab.build("corpus", source=lab.folder / "plan").corpus is not None
    seen = 0
    for path in sorted((lab.folder / "corpus" / "shards").glob("train-*.tar")):
        with tarfile.open(path) as tar:
            contents = {member.name: tar.extractfile(member).read() for member in tar}
        for name, content in contents.items():
            if not name.endswith(".json"):
                continue
            key, copies = name.removesuffix(".json"), json.loads(content)["copies"]
            clean = pcm(contents[f"{key}.clean.flac"])
            for copy in copies:
                heard = pcm(contents[f"{key}.{copy['name']}.flac"])
                assert (copy["domain"], copy["family"]) == ("freeverb", "room")
                assert abs(gcc_phat_lag(clean, heard)) <= 1
                gain = np.sqrt(mean_power(heard) / mean_power(clean)) / 10 ** (copy["gain_db"] / 20)
                seen += 1
                if copy["condition"] == "verb":
                    assert gain == pytest.approx(1.0, abs=0.01)
                else:
                    assert gain > 1.002
    assert seen == 32


def pcm(content):
    return soundfile.read(io.BytesIO(content), dtype="float64")[0]


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"room_scale": 101}, "room_scale: 101 is outside [0, 100]"),
        ({"wet_gain_db": {"uniform": [-20, 0]}}, "wet_gain_db: -20 is outside [-10, 10]"),
        ({"stereo_depth": 100}, "stereo_depth: unknown key"),
    ],
)
def test_a_wrong_number_of_freeverb_is_one_line(lab: Lab, option, said) -> None:
    lab.recipe["conditions"]["verb"] = {"steps": [{"kind": "freeverb", **option}]}
    with pytest.raises(BadDocumentError) as told:
        Recipe.read(lab.write_recipe(), needed="a recipe")
    assert said in str(told.value)
