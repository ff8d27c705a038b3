import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from corpus_builder.distortions.channel import (
    band_filter,
    bandpass,
    bandreject,
    clip,
    fitted_length,
    gain,
    highpass,
    lowpass,
    through_rate,
    tilt,
)
from corpus_builder.render.steps import through_channel
from manifests.plan.channel_steps import (
    PlannedBandPassStep,
    PlannedBandRejectStep,
    PlannedClipStep,
    PlannedGainStep,
    PlannedHighPassStep,
    PlannedLowPassStep,
    PlannedPitchStep,
    PlannedResampleStep,
    PlannedTiltStep,
)
from tests.oracles.lag import gcc_phat_lag
from tests.oracles.speechlike import speechlike

few = settings(max_examples=15, derandomize=True, deadline=None)
RATE = 16_000
STEPS = [
    PlannedLowPassStep(kind="lowpass", cutoff_hz=2500.0),
    PlannedHighPassStep(kind="highpass", cutoff_hz=400.0),
    PlannedBandPassStep(kind="bandpass", low_hz=300.0, high_hz=3400.0),
    PlannedBandRejectStep(kind="bandreject", low_hz=900.0, high_hz=1800.0),
    PlannedBandRejectStep(kind="bandreject", low_hz=0.0, high_hz=250.0),
    PlannedTiltStep(kind="tilt", db_per_octave=-5.0),
    PlannedTiltStep(kind="tilt", db_per_octave=4.0),
    PlannedGainStep(kind="gain", gain_db=-12.5),
    PlannedClipStep(kind="clip", percent=8.0),
    PlannedResampleStep(kind="resample", rate_hz=6000),
]
PITCH = PlannedPitchStep(kind="pitch", cents=180.0)


def gain_db_at(distort, frequency_hz):
    """What a distortion does to a long tone, by the tone's power in the middle of the result."""
    tone = 0.1 * np.sin(2 * np.pi * frequency_hz * np.arange(2 * RATE) / RATE)
    middle = slice(RATE // 2, -RATE // 2)
    return 10 * np.log10(np.mean(distort(tone)[middle] ** 2) / np.mean(tone[middle] ** 2))


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.kind)
def test_a_copy_has_its_length_and_no_lag_in_its_16_bit_samples(step):
    for seed in range(4):
        speech = np.rint(speechlike(3.0, seed=seed) * 32768) / 32768
        copy = np.rint(through_channel(step, speech, rate_hz=RATE) * 32768)
        assert copy.shape == speech.shape
        assert not np.array_equal(copy, speech * 32768)
        assert abs(gcc_phat_lag(speech, copy)) <= 1


@pytest.mark.parametrize("step", [*STEPS, PITCH], ids=lambda step: step.kind)
@pytest.mark.parametrize("num_samples", [1, 2, 37, 160])
def test_however_short_a_copy_has_the_length_of_the_clean_wave(step, num_samples):
    wave = 0.3 * np.cos(np.arange(num_samples))
    copy = through_channel(step, wave, rate_hz=RATE)
    assert copy.shape == wave.shape
    assert np.abs(copy).max() < 11 * 0.3  # a tilt of -5 dB an octave lifts what lies four octaves below 1 kHz by 20 dB


@pytest.mark.parametrize("step", [*STEPS, PITCH], ids=lambda step: step.kind)
def test_a_step_leaves_what_it_is_given_alone(step):
    wave = speechlike(0.5)
    before = wave.copy()
    through_channel(step, wave, rate_hz=RATE)
    np.testing.assert_array_equal(wave, before)


@few
@given(cutoff_hz=st.floats(300, 7000))
def test_a_low_and_a_high_pass_halve_their_edge_pass_one_side_and_stop_the_other(cutoff_hz):
    def low(wave):
        return lowpass(wave, cutoff_hz=cutoff_hz, rate_hz=RATE)

    def high(wave):
        return highpass(wave, cutoff_hz=cutoff_hz, rate_hz=RATE)

    assert gain_db_at(low, cutoff_hz) == pytest.approx(-6.02, abs=0.1)
    assert gain_db_at(high, cutoff_hz) == pytest.approx(-6.02, abs=0.1)
    assert gain_db_at(low, cutoff_hz - 150) == pytest.approx(0.0, abs=0.05)
    assert gain_db_at(high, cutoff_hz + 150) == pytest.approx(0.0, abs=0.05)
    assert gain_db_at(low, cutoff_hz + 150) < -58
    assert gain_db_at(high, cutoff_hz - 150) < -58


@few
@given(low_hz=st.floats(300, 3000), width_hz=st.floats(250, 3000))
def test_what_a_band_pass_keeps_a_band_reject_takes_out(low_hz, width_hz):
    edges = {"low_hz": low_hz, "high_hz": low_hz + width_hz, "rate_hz": RATE}
    noise = np.random.default_rng(0).standard_normal(4000)
    np.testing.assert_allclose(bandpass(noise, **edges) + bandreject(noise, **edges), noise, atol=0.02)
    assert (
        gain_db_at(lambda wave: bandreject(wave, **edges), low_hz + width_hz / 2) < -57
    )  # both skirts meet in a band of 250 Hz
    assert gain_db_at(lambda wave: bandpass(wave, **edges), low_hz + width_hz / 2) == pytest.approx(0.0, abs=0.05)
    assert gain_db_at(lambda wave: bandpass(wave, **edges), low_hz + width_hz) == pytest.approx(-6.02, abs=0.1)


@pytest.mark.parametrize("width_hz", [20.0, 60.0, 150.0])
def test_a_narrow_band_is_taken_out_too(width_hz):
    edges = {"low_hz": 1000.0, "high_hz": 1000.0 + width_hz, "rate_hz": RATE}
    assert gain_db_at(lambda wave: bandreject(wave, **edges), 1000.0 + width_hz / 2) < -50
    assert gain_db_at(lambda wave: bandreject(wave, **edges), 1000.0 + 2 * width_hz) == pytest.approx(0.0, abs=0.1)


def test_a_filter_is_the_zero_phase_one_of_a_rival_design():
    """scipy's Butterworth run forward and backward: another kind of filter, and it agrees where both have settled."""
    noise = np.random.default_rng(1).standard_normal(RATE)
    rival = signal.sosfiltfilt(signal.butter(16, [500, 3000], "bandpass", fs=RATE, output="sos"), noise)
    ours = bandpass(noise, low_hz=500.0, high_hz=3000.0, rate_hz=RATE)
    assert np.corrcoef(ours, rival)[0, 1] > 0.98


@few
@given(slope=st.floats(-9, 9), octave=st.integers(-3, 2))
def test_a_tilt_has_its_slope_and_keeps_the_level_at_1_khz(slope, octave):
    found = gain_db_at(lambda wave: tilt(wave, db_per_octave=slope, rate_hz=RATE), 1000.0 * 2**octave)
    assert found == pytest.approx(slope * octave, abs=0.4)


@few
@given(gain_db=st.floats(-60, 60))
def test_a_gain_is_the_asked_one(gain_db):
    wave = speechlike(0.2)
    assert np.max(np.abs(gain(wave, gain_db=gain_db))) == pytest.approx(np.max(np.abs(wave)) * 10 ** (gain_db / 20))


@few
@given(percent=st.floats(0.01, 90), level=st.floats(1e-4, 1.0), size=st.integers(2, 5000))
def test_clipping_cuts_the_asked_share_whatever_the_level(percent, level, size):
    wave = level * np.random.default_rng(size).standard_normal(size)
    clipped = clip(wave, percent=percent)
    top = np.max(np.abs(clipped))
    share = 100 * np.mean(np.abs(clipped) == top)
    assert percent <= share + 1e-9
    assert share <= percent + 200 / size  # one sample of rounding, and one where the peak itself had to go
    inside = np.abs(wave) < top
    np.testing.assert_array_equal(clipped[inside], wave[inside])


def test_a_recording_that_is_clipped_already_is_clipped_further():
    wave = np.clip(speechlike(0.5), -0.05, 0.05)
    assert np.mean(np.abs(wave) == 0.05) > 0.01
    assert np.max(np.abs(clip(wave, percent=0.1))) < 0.05


@pytest.mark.parametrize("lower_hz", [2000, 4000, 8000, 11_025])
def test_a_lower_rate_limits_the_band_and_keeps_what_it_can_hold(lower_hz):
    def distort(wave):
        return through_rate(wave, lower_hz=lower_hz, rate_hz=RATE)

    assert gain_db_at(distort, 0.4 * lower_hz) == pytest.approx(0.0, abs=0.1)
    assert gain_db_at(distort, min(0.6 * lower_hz, 7900)) < -60
    rival = signal.resample_poly(signal.resample_poly(speechlike(1.0), lower_hz, RATE), RATE, lower_hz)[:RATE]
    assert np.corrcoef(distort(speechlike(1.0)), rival)[0, 1] > 0.99


def test_the_same_rate_or_a_higher_one_changes_nothing():
    wave = speechlike(0.2)
    assert through_rate(wave, lower_hz=RATE, rate_hz=RATE) is wave


def test_a_recording_with_an_offset_does_not_click_at_its_ends():
    offset = highpass(np.full(4000, 0.1), cutoff_hz=150.0, rate_hz=RATE)
    assert np.max(np.abs(offset)) < 1e-3
    np.testing.assert_allclose(lowpass(np.full(4000, 0.1), cutoff_hz=3000.0, rate_hz=RATE), 0.1, atol=1e-3)


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 22_050])
@pytest.mark.parametrize("step", STEPS[:7], ids=lambda step: step.kind)
def test_a_filter_answers_a_click_alike_to_both_sides_of_it(step, rate_hz):
    click = np.zeros(4001)
    click[2000] = 1.0
    answer = through_channel(step, click, rate_hz=rate_hz)
    np.testing.assert_allclose(answer, answer[::-1], atol=1e-9)


@pytest.mark.parametrize("step", [*STEPS, PITCH], ids=lambda step: step.kind)
def test_an_empty_wave_stays_empty(step):
    assert through_channel(step, np.zeros(0), rate_hz=RATE).shape == (0,)


@pytest.mark.parametrize("slope", [-6.0, 6.0])
def test_below_62_hz_a_tilt_stays_what_it_is_there(slope):
    """Four octaves below 1 kHz; with taps of 32 ms the bend is round."""

    def distort(wave):
        return tilt(wave, db_per_octave=slope, rate_hz=RATE)

    low, bend = gain_db_at(distort, 20.0), gain_db_at(distort, 125.0)
    assert low - bend == pytest.approx(-slope, abs=0.35 * 6)
    assert low - bend != pytest.approx(0.0, abs=0.5)


def test_a_transition_is_as_wide_as_the_narrowest_band_and_200_hz_at_most():
    """By the number of taps: a Kaiser filter of 60 dB has about 3.63 rates over its transition."""
    for edges_hz, keeps, width_hz in (
        ([1000.0], "lowpass", 200.0), ([50.0], "highpass", 50.0), ([7_960.0], "lowpass", 40.0), ([1000.0, 1100.0], "bandstop", 100.0),
        ([1000.0, 1003.0], "bandstop", 10.0),
    ):  # fmt: skip
        taps = band_filter(edges_hz, keeps=keeps, rate_hz=RATE)
        assert taps.size % 2 == 1
        assert taps.size == pytest.approx(3.63 * RATE / width_hz, rel=0.02)


def test_what_a_resampler_rounds_away_is_filled_up_or_cut_at_the_end():
    wave = np.array([1.0, 2.0, 3.0])
    assert [fitted_length(wave, size).tolist() for size in (2, 3, 5)] == [
        [1.0, 2.0],
        [1.0, 2.0, 3.0],
        [1.0, 2.0, 3.0, 0.0, 0.0],
    ]
