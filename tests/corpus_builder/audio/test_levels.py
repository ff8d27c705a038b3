import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from corpus_builder.audio.errors import SilentAudioError
from corpus_builder.audio.levels import (
    NotFiniteError,
    SilentSignalError,
    amplify,
    fit_peak,
    is_silent,
    mean_power,
    peak,
    quantise,
    refuse_silence,
    rms_dbfs,
    set_level,
)

waves = arrays(np.float64, st.integers(1, 64), elements=st.floats(-4.0, 4.0, width=32))
few = settings(max_examples=60, derandomize=True, deadline=None)


def test_every_16_bit_sample_passes_bit_for_bit():
    pcm = np.arange(-32768, 32768).astype(np.int16)
    fitted, gain_db = fit_peak(pcm / 32768.0)
    assert gain_db == 0.0
    np.testing.assert_array_equal(quantise(fitted), pcm)


@few
@given(waves)
def test_a_fitted_wave_never_clips_and_its_gain_is_the_one_written_down(wave):
    fitted, gain_db = fit_peak(wave)
    pcm = quantise(fitted)
    assert gain_db == round(gain_db, 2) <= 0.0
    np.testing.assert_allclose(fitted, wave * 10 ** (gain_db / 20), rtol=1e-12)
    assert np.max(np.abs(pcm / 32768.0 - fitted), initial=0.0) <= 0.5 / 32768 + 1e-12  # rounded, not clipped
    if wave.max() <= 32767 / 32768 and wave.min() >= -1.0:
        assert gain_db == 0.0
        assert fitted is wave
    else:
        assert np.abs(fitted).max() > 0.998 * 32767 / 32768  # no softer than needed


def test_gain_of_a_hair_above_full_scale_is_one_hundredth_of_a_decibel():
    fitted, gain_db = fit_peak(np.array([0.99999, 0.1]))
    assert gain_db == -0.01
    assert quantise(fitted).max() <= 32767


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_wave_that_is_not_finite_is_refused(value):
    with pytest.raises(NotFiniteError, match="NaN or infinite"):
        fit_peak(np.array([0.0, value]))


def test_quantising_rounds_to_nearest():
    np.testing.assert_array_equal(quantise(np.array([0.6, -0.6, 1.4, -1.4]) / 32768), [1, -1, 1, -1])


def test_a_full_scale_sine_has_minus_3_dbfs_and_silence_has_none():
    sine = np.sin(2 * np.pi * 100 * np.arange(16_000) / 16_000)
    assert rms_dbfs(sine) == pytest.approx(-3.0103, abs=1e-3)
    assert mean_power(sine) == pytest.approx(0.5)
    assert peak(-2 * sine) == pytest.approx(2.0)
    assert rms_dbfs(np.zeros(5)) == -math.inf
    assert is_silent(np.zeros(5))
    assert is_silent(np.zeros(0))
    assert is_silent(np.full(5000, 0.3))
    assert not is_silent(np.array([0.3, 0.3, 0.3 + 1 / 32768]))


@few
@given(st.floats(-0.9, 0.9), st.floats(-100, 0), st.integers(0, 1000))
def test_power_is_that_without_the_mean_however_large_that_is(mean, level, seed):
    wave = np.random.default_rng(seed).standard_normal(5000)
    wave = (wave - wave.mean()) / wave.std() * 10 ** (level / 20)
    assert rms_dbfs(wave + mean) == pytest.approx(level, abs=1e-3)
    assert math.fsum(wave**2) / wave.size == pytest.approx(mean_power(wave), rel=1e-12)


def test_a_source_is_silent_under_minus_80_dbfs_without_its_mean():
    tone = math.sqrt(2) * np.sin(2 * np.pi * 100 * np.arange(16_000) / 16_000)
    for mean in (0.0, 0.4):
        refuse_silence(tone * 10 ** (-79.9 / 20) + mean, name="a/b")
        with pytest.raises(
            SilentAudioError, match=r"^a/b is silent: -80 dBFS without its mean \(DC\), -80 dBFS at least"
        ):
            refuse_silence(tone * 10 ** (-80.1 / 20) + mean, name="a/b")
    for constant in (np.zeros(100), np.full(100, 0.25)):
        with pytest.raises(
            SilentAudioError, match=r"^a/b is digital silence: every sample is zero, or all are the same$"
        ):
            refuse_silence(constant, name="a/b")


def test_a_gain_of_nothing_gives_the_very_same_samples():
    wave = np.array([0.1, -0.3])
    assert amplify(wave, gain_db=0.0) is wave
    np.testing.assert_allclose(amplify(wave, gain_db=20.0), 10 * wave)


@few
@given(st.floats(-60, 0), st.integers(0, 1000))
def test_a_level_in_dbfs_is_the_rms_of_the_copy(level, seed):
    wave = np.random.default_rng(seed).standard_normal(500)
    clean = np.random.default_rng(seed + 1).standard_normal(500) * 0.03
    assert rms_dbfs(set_level(wave, level=level, clean_power=mean_power(clean))) == pytest.approx(level, abs=1e-9)
    assert rms_dbfs(set_level(wave, level="match_clean", clean_power=mean_power(clean))) == pytest.approx(
        rms_dbfs(clean), abs=1e-9
    )
    assert set_level(wave, level="keep", clean_power=mean_power(clean)) is wave


def test_silence_cannot_be_brought_to_a_level():
    loud, silent = np.array([1.0, -1.0, 1.0, 0.5]), np.full(4, 0.25)
    for level in ("match_clean", -20.0):
        with pytest.raises(SilentSignalError, match="silent"):
            set_level(silent, level=level, clean_power=mean_power(loud))
    with pytest.raises(SilentSignalError, match="clean utterance"):
        set_level(loud, level="match_clean", clean_power=mean_power(silent))
    assert set_level(silent, level="keep", clean_power=mean_power(loud)) is silent


def test_a_silent_source_is_refused_with_its_own_level_and_the_one_that_is_needed():
    tone = math.sqrt(2) * np.sin(2 * np.pi * 100 * np.arange(16_000) / 16_000)
    with pytest.raises(
        SilentAudioError, match=r"is silent: -95 dBFS without its mean \(DC\), -80 dBFS at least are needed"
    ):
        refuse_silence(tone * 10 ** (-95 / 20), name="a")


def test_a_clean_utterance_below_what_16_bits_hold_is_none_to_match():
    loud = np.tile([0.1, -0.1], 50)
    with pytest.raises(SilentSignalError, match=r"^the clean utterance is silent"):
        set_level(loud, level="match_clean", clean_power=10**-12.05)
    assert rms_dbfs(set_level(loud, level="match_clean", clean_power=10**-11.95)) == pytest.approx(-119.5)
    assert (is_silent(loud * 10**-5.1), is_silent(loud * 10**-4.9)) == (True, False)


def test_the_lowest_step_of_16_bits_needs_no_gain_and_the_step_above_the_highest_does():
    assert fit_peak(np.array([-1.0, 32767 / 32768]))[1] == 0.0
    assert fit_peak(np.array([-1.0001, 0.0]))[1] == -0.01
    assert fit_peak(np.array([0.0, 32767.6 / 32768]))[1] == -0.01
    assert peak(np.array([-0.5, 0.25])) == 0.5
    assert peak(np.array([-0.25, 0.5])) == 0.5
