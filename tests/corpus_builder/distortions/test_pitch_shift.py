import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from corpus_builder.distortions.pitch_shift import shift_pitch, stretch
from tests.oracles.envelope_lag import envelope_lag_ms
from tests.oracles.speechlike import speechlike
from tests.oracles.wsola import stretched

few = settings(max_examples=15, derandomize=True, deadline=None)
RATE = 16_000


def buzz(pitch_hz, seconds=1.5, rate_hz=RATE):
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    return sum(0.05 / number * np.cos(2 * np.pi * number * pitch_hz * time_s) for number in range(1, 16))


def pitch_by_autocorrelation(wave, near_hz, rate_hz=RATE):
    """Of the middle of a wave, to a fraction of a sample; looks within 30 % of a guess."""
    middle = signal.resample_poly(wave[wave.size // 4 : -wave.size // 4], 8, 1)
    likeness = signal.correlate(middle, middle, "full", "fft")[middle.size - 1 :]
    lags = np.arange(round(8 * rate_hz / near_hz / 1.3), round(8 * rate_hz / near_hz * 1.3))
    return 8 * rate_hz / lags[np.argmax(likeness[lags] / (middle.size - lags))]


@few
@given(pitch_hz=st.floats(75, 350), cents=st.integers(-500, 500), rate_hz=st.sampled_from([8000, 16_000]))
def test_the_pitch_is_shifted_as_asked_and_the_length_kept(pitch_hz, cents, rate_hz):
    voice = buzz(pitch_hz, rate_hz=rate_hz)
    shifted = shift_pitch(voice, cents=cents, rate_hz=rate_hz)
    assert shifted.shape == voice.shape
    asked_hz = pitch_hz * 2 ** (cents / 1200)
    found_hz = pitch_by_autocorrelation(shifted, asked_hz, rate_hz)
    assert 1200 * np.log2(found_hz / asked_hz) == pytest.approx(0.0, abs=10)


@few
@given(seed=st.integers(0, 999), cents=st.integers(-500, 500))
def test_a_shifted_copy_is_in_step_by_its_envelope_and_as_loud(seed, cents):
    speech = speechlike(3.0, seed=seed)
    shifted = shift_pitch(speech, cents=cents, rate_hz=RATE)
    assert abs(envelope_lag_ms(speech, shifted, RATE)) <= 2.5
    assert 10 * np.log10(np.mean(shifted**2) / np.mean(speech**2)) == pytest.approx(0.0, abs=1.0)


def test_every_stretch_of_a_copy_is_in_step_not_only_the_whole():
    speech = speechlike(12.0, seed=4)
    for cents in (-400, 350):
        shifted = shift_pitch(speech, cents=cents, rate_hz=RATE)
        lags = [
            envelope_lag_ms(speech[start : start + 2 * RATE], shifted[start : start + 2 * RATE], RATE)
            for start in range(0, 10 * RATE, 2 * RATE)
        ]
        assert max(abs(lag) for lag in lags) <= 6.0  # a frame may lie 8 ms off, a sentence not
        assert abs(np.mean(lags)) <= 1.5


@few
@given(ratio=st.floats(0.5, 2.0), size=st.integers(2, 5000))
def test_a_stretched_signal_has_its_length(ratio, size):
    wave = np.random.default_rng(size).standard_normal(size)
    assert stretch(wave, ratio=ratio, rate_hz=RATE).shape == (round(size * ratio),)


def test_a_steady_signal_is_stretched_without_a_seam():
    stretched = stretch(np.ones(8000), ratio=1.3, rate_hz=RATE)
    np.testing.assert_allclose(stretched[600:-600], 1.0, atol=1e-9)


def test_silence_stays_silence_and_nothing_to_shift_is_left_alone():
    np.testing.assert_array_equal(shift_pitch(np.zeros(3000), cents=300.0, rate_hz=RATE), np.zeros(3000))
    wave = speechlike(0.2)
    assert shift_pitch(wave, cents=0.0, rate_hz=RATE) is wave


def test_up_and_down_again_is_the_voice_one_began_with():
    voice = buzz(140.0)
    again = shift_pitch(shift_pitch(voice, cents=400.0, rate_hz=RATE), cents=-400.0, rate_hz=RATE)
    assert pitch_by_autocorrelation(again, 140.0) == pytest.approx(140.0, abs=0.5)


@pytest.mark.parametrize(("cents", "rate_hz"), [(-400, 8_000), (350, 12_000)])
def test_a_stretch_is_that_of_dot_products_over_all_candidates(cents, rate_hz):
    """The voice begins softly and flutters, so that frames do not weigh alike and the louder one is not the more similar one."""
    time_s = np.arange(round(0.2 * rate_hz)) / rate_hz
    voice = buzz(130.0, 0.2, rate_hz) * (5 * time_s) ** 2 * (0.05 + np.sin(2 * np.pi * 17 * time_s) ** 2)
    voice += 0.002 * np.random.default_rng(1).standard_normal(voice.size)
    voice[: rate_hz // 25] = 0.0  # where nothing is similar
    voice[rate_hz // 25] = 0.3
    ratio = 2 ** (cents / 1200)
    np.testing.assert_allclose(
        stretch(voice, ratio=ratio, rate_hz=rate_hz), stretched(voice, ratio, rate_hz), atol=1e-9
    )
