import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus_builder.audio.levels import SilentSignalError, mean_power
from corpus_builder.distortions.reverb import reverberate
from tests.oracles.lag import gcc_phat_lag
from tests.oracles.reverberation import convolved
from tests.oracles.speechlike import speechlike

few = settings(max_examples=40, derandomize=True, deadline=None)


@few
@given(size=st.integers(1, 120), taps=st.integers(1, 60), seed=st.integers(0, 999), data=st.data())
def test_a_reverberant_wave_is_the_slow_convolution_from_its_direct_sample_on(size, taps, seed, data):
    direct_sample = data.draw(st.integers(0, taps - 1))
    wave = np.random.default_rng(seed).standard_normal(size)
    response = np.random.default_rng(seed + 1).standard_normal(taps).astype(np.float32)
    expected = convolved(wave, response)[direct_sample : direct_sample + size]
    found = reverberate(wave, response, direct_sample=direct_sample, keep_rms=False)
    np.testing.assert_allclose(found, expected, atol=1e-9)
    kept = reverberate(wave, response, direct_sample=direct_sample)
    assert mean_power(kept) == pytest.approx(mean_power(wave))
    assert np.dot(kept, found) == pytest.approx(np.linalg.norm(kept) * np.linalg.norm(found))


def test_a_bare_direct_path_gives_the_wave_itself():
    wave, response = speechlike(0.2), np.zeros(200, np.float32)
    response[133] = 0.25
    np.testing.assert_allclose(reverberate(wave, response, direct_sample=133), wave, atol=1e-12)


def test_reverberant_speech_is_in_step_although_its_reflections_are_strong():
    chance = np.random.default_rng(5)
    response = chance.standard_normal(6000) * np.exp(-np.arange(6000) / 1000) * 0.15
    response[:240] = 0.0
    response[200] = 1.0
    speech = speechlike(2.0)
    assert gcc_phat_lag(speech, reverberate(speech, response.astype(np.float32), direct_sample=200)) == 0


def test_silence_stays_silence_in_a_room():
    np.testing.assert_array_equal(reverberate(np.zeros(50), np.ones(9, np.float32), direct_sample=2), np.zeros(50))
    assert reverberate(np.zeros(0), np.ones(9, np.float32), direct_sample=2).shape == (0,)


def test_a_response_of_nothing_is_named():
    with pytest.raises(SilentSignalError, match="response"):
        reverberate(np.resize([1.0, -1.0], 50), np.zeros(9, np.float32), direct_sample=2)
    with pytest.raises(ValueError, match="direct_sample 9"):
        reverberate(np.ones(50), np.ones(9, np.float32), direct_sample=9)


def test_a_direct_sound_outside_its_response_is_an_error_that_says_how_long_that_is():
    wave = np.random.default_rng(0).standard_normal(50)
    response = np.eye(1, 8, 7, dtype=np.float32)[0]
    np.testing.assert_allclose(reverberate(wave, response, direct_sample=7), wave, atol=1e-9)
    for direct_sample in (-1, 8):
        with pytest.raises(ValueError, match=rf"direct_sample {direct_sample} is outside a response of 8 samples"):
            reverberate(wave, response, direct_sample=direct_sample)
