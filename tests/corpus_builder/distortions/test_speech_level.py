import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus_builder.audio.levels import SilentSignalError
from corpus_builder.distortions.speech_level import active_power
from tests.oracles.active_level import active_level_db
from tests.oracles.speechlike import speechlike


def found_db(wave, rate_hz=16_000):
    return 10 * np.log10(active_power(wave, rate_hz=rate_hz))


@settings(max_examples=25, derandomize=True, deadline=None)
@given(
    seed=st.integers(0, 999),
    gain_db=st.floats(-70, 20),
    rate_hz=st.sampled_from([8000, 16_000]),
    pauses=st.lists(st.floats(0, 0.4), min_size=1, max_size=3),
)
def test_active_level_is_that_of_the_recommendation_taken_literally(seed, gain_db, rate_hz, pauses):
    parts = [speechlike(0.3, rate_hz=rate_hz, seed=seed + number) for number in range(len(pauses))]
    wave = np.concatenate(
        [np.pad(part, (0, round(pause * rate_hz))) for part, pause in zip(parts, pauses, strict=True)]
    )
    wave *= 10 ** (gain_db / 20)
    assert found_db(wave, rate_hz) == pytest.approx(active_level_db(wave, rate_hz), abs=1e-6)


def test_fifteen_thresholds_of_16_bits_give_the_same_level_for_speech_at_its_usual_level():
    wave = np.pad(speechlike(1.5, seed=3), (4000, 24_000))
    assert found_db(wave) == pytest.approx(active_level_db(wave, 16_000, thresholds=range(1, 16)), abs=1e-6)


def test_pauses_lower_the_mean_power_and_not_the_active_level():
    speech = speechlike(3.0, seed=5)
    sparse = np.concatenate([np.pad(third, (0, 32_000)) for third in np.split(speech, 3)])
    assert 10 * np.log10(np.mean(speech**2) / np.mean(sparse**2)) == pytest.approx(4.8, abs=0.1)
    assert found_db(sparse) == pytest.approx(found_db(speech), abs=0.9)


def test_steady_noise_is_active_throughout():
    noise = 0.1 * np.random.default_rng(0).standard_normal(48_000)
    assert found_db(noise) == pytest.approx(-20.0, abs=0.15)


@settings(max_examples=20, derandomize=True, deadline=None)
@given(size=st.integers(2, 2000), seed=st.integers(0, 99))
def test_however_short_the_active_level_is_no_lower_than_that_of_the_whole(size, seed):
    wave = 0.1 * np.random.default_rng(seed).standard_normal(size)
    assert found_db(wave) >= 10 * np.log10(np.var(wave)) - 1e-9
    assert found_db(wave) == pytest.approx(active_level_db(wave, 16_000), abs=1e-6)


def test_a_click_in_silence_has_a_level():
    wave = np.zeros(20_000)
    wave[500] = 0.9
    assert found_db(wave) == pytest.approx(active_level_db(wave, 16_000), abs=1e-6)


def test_silence_has_none():
    with pytest.raises(SilentSignalError, match="active level"):
        active_power(np.zeros(1000), rate_hz=16_000)


def test_what_is_over_before_the_envelope_has_risen_has_its_mean_power():
    assert active_power(np.array([1e-4, -1e-4, 3e-4, 1e-4]), rate_hz=48_000) == pytest.approx(
        2e-8
    )  # without its mean of 1e-4
