from itertools import pairwise

import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus_builder.audio.levels import SilentSignalError, fit_peak, quantise
from corpus_builder.distortions import additive_noise
from corpus_builder.distortions.additive_noise import (
    OffsetError,
    babble,
    coloured,
    mix_at_snr,
    segment,
    together,
    white,
)
from corpus_builder.distortions.speech_level import active_power
from tests.oracles.active_level import active_level_db
from tests.oracles.speechlike import speechlike

few = settings(max_examples=40, derandomize=True, deadline=None)
RATE = 16_000


def decibels(signal, noise):
    return 10 * np.log10(np.var(signal, dtype=np.float64) / np.var(noise, dtype=np.float64))


@few
@given(
    snr_db=st.integers(-1000, 3000).map(lambda value: value / 100),
    seed=st.integers(0, 999),
    level=st.floats(0.001, 0.5),
)
def test_mixture_has_the_asked_for_snr_as_measured_from_its_16_bit_samples(snr_db, seed, level):
    speech = quantise(speechlike(0.6, seed=seed)) / 32768
    noise = np.random.default_rng(seed).standard_normal(speech.size) * level
    fitted, gain_db = fit_peak(mix_at_snr(speech, noise, snr_db=snr_db))
    added = quantise(fitted) / 32768 / 10 ** (gain_db / 20) - speech
    assert decibels(speech, added) == pytest.approx(snr_db, abs=0.1)


def test_mixing_leaves_the_speech_as_it_is():
    speech = speechlike(0.3)
    noise = np.random.default_rng(0).standard_normal(speech.size)
    added = mix_at_snr(speech, noise, snr_db=7.0) - speech
    assert np.corrcoef(added, noise)[0, 1] == pytest.approx(1.0)


@pytest.mark.parametrize("silent", [np.zeros(100), np.full(100, 0.5)], ids=["zeros", "a constant"])
def test_silent_speech_and_silent_noise_are_named(silent):
    loud = np.tile([0.1, -0.1], 50)
    with pytest.raises(SilentSignalError, match=r"^the speech that noise was to be added to is silent"):
        mix_at_snr(silent, loud, snr_db=0.0)
    with pytest.raises(SilentSignalError, match=r"^the noise that was to be added is silent"):
        mix_at_snr(loud, silent, snr_db=0.0)
    with pytest.raises(ValueError, match=r"speech of \(100,\) and noise of \(99,\) samples: cut the noise"):
        mix_at_snr(loud, loud[:99], snr_db=0.0)
    for several, what in (
        (together, "one of several noises that were to be added"),
        (babble, "a talker of the babble"),
    ):
        with pytest.raises(SilentSignalError, match=f"^{what} is silent"):
            several([loud, silent])


def looped_slowly(recording, offset, num_samples, rate_hz):
    """Walk through the recording one sample at a time, with a second voice while one pass fades into the next."""
    size = len(recording)
    if offset + num_samples <= size:
        return recording[offset : offset + num_samples]
    fade = min(round(0.05 * rate_hz), size // 2)
    result, at = [], offset
    while len(result) < num_samples:
        into = at - (size - fade)
        if into >= 0:
            angle = np.pi / 2 * (into + 0.5) / fade
            result.append(recording[at] * np.cos(angle) + recording[into] * np.sin(angle))
            at = fade if at + 1 == size else at + 1
        else:
            result.append(recording[at])
            at += 1
    return np.array(result)


@few
@given(size=st.integers(2, 300), wanted=st.integers(1, 1000), data=st.data())
def test_short_noise_is_repeated_with_a_cross_fade(size, wanted, data):
    recording = np.random.default_rng(size).standard_normal(size)
    offset = data.draw(st.integers(0, size - 1))
    found = segment(recording, offset=offset, num_samples=wanted, rate_hz=1000)
    np.testing.assert_allclose(found, looped_slowly(recording, offset, wanted, 1000), atol=1e-12)


@pytest.mark.parametrize("at_once", [1, 7, 64, 1000])
def test_a_long_recording_is_asked_for_in_parts_and_gives_the_same_segment(monkeypatch, at_once):
    recording = np.random.default_rng(0).standard_normal(333)
    asked = [(offset, wanted) for offset in (0, 100, 300, 332) for wanted in (1, 33, 233, 700, 2000)]
    whole = [segment(recording, offset=offset, num_samples=wanted, rate_hz=1000) for offset, wanted in asked]
    monkeypatch.setattr(additive_noise, "MOST_AT_ONCE", at_once)
    for (offset, wanted), expected in zip(asked, whole, strict=True):
        np.testing.assert_array_equal(segment(recording, offset=offset, num_samples=wanted, rate_hz=1000), expected)


def test_a_segment_that_fits_is_a_plain_cut_and_a_copy():
    recording = np.arange(100.0)
    cut = segment(recording, offset=30, num_samples=70, rate_hz=RATE)
    np.testing.assert_array_equal(cut, np.arange(30.0, 100.0))
    cut[:] = 0
    assert recording[30] == 30.0


def test_repeated_noise_keeps_its_power_and_its_pitch():
    tone = np.sin(2 * np.pi * 1000 * np.arange(RATE // 2) / RATE)
    noise = np.random.default_rng(3).standard_normal(RATE // 2)
    long_noise = segment(noise, offset=100, num_samples=5 * RATE, rate_hz=RATE)
    powers = np.mean(long_noise.reshape(-1, 400) ** 2, axis=1)  # 25 ms: none falls into a hole where passes meet
    assert powers.min() > 0.6
    assert np.mean(powers) == pytest.approx(1.0, abs=0.05)
    spectrum = np.abs(np.fft.rfft(segment(tone, offset=0, num_samples=4 * RATE, rate_hz=RATE) * np.hanning(4 * RATE)))
    assert abs(np.argmax(spectrum) / 4 - 1000) < 2  # Hz: not stretched


def test_one_sample_of_noise_can_be_repeated():
    np.testing.assert_array_equal(segment(np.array([0.5]), offset=0, num_samples=4, rate_hz=RATE), np.full(4, 0.5))


@pytest.mark.parametrize("offset", [-1, 10, 11])
def test_a_segment_outside_its_recording_is_an_error_by_name(offset):
    with pytest.raises(
        OffsetError, match=rf"begin at sample {offset}, but the recording has 10; .* not the one that was planned"
    ):
        segment(np.ones(10), offset=offset, num_samples=3, rate_hz=RATE)
    with pytest.raises(OffsetError):
        segment(np.ones(0), offset=0, num_samples=3, rate_hz=RATE)


def test_white_noise_of_a_seed_is_pinned():
    np.testing.assert_array_equal(
        white(seed=20_221_007, num_samples=3),
        np.random.RandomState(20_221_007).standard_normal(3),
    )
    np.testing.assert_allclose(
        white(seed=7, num_samples=4), [1.6905257, -0.46593737, 0.03282016, 0.40751628], atol=1e-8
    )


def test_white_noise_is_flat_has_unit_power_and_a_prefix_is_the_shorter_one():
    noise = white(seed=1, num_samples=1 << 16)
    bands = np.mean(np.abs(np.fft.rfft(noise)[1:]).reshape(8, -1) ** 2, axis=1) / noise.size
    np.testing.assert_allclose(bands, 1.0, atol=0.06)
    np.testing.assert_array_equal(white(seed=1, num_samples=100), noise[:100])


@few
@given(gains=st.lists(st.floats(1e-3, 1.0), min_size=1, max_size=7))
def test_talkers_of_a_babble_are_equally_loud(gains):
    voices = [gain * np.random.default_rng(number).standard_normal(4000) for number, gain in enumerate(gains)]
    sum_of_all = babble(voices)
    for voice in voices:  # independent voices: each projects by its own share
        share = np.dot(sum_of_all, voice) / np.linalg.norm(voice) / np.sqrt(voice.size)
        assert share == pytest.approx(1 / np.sqrt(len(gains)), abs=0.1)


def test_a_talker_who_says_nothing_is_named():
    with pytest.raises(SilentSignalError, match="talker"):
        babble([np.ones(10), np.zeros(10)])
    with pytest.raises(ValueError, match="at least one"):
        babble([])


def slope_db_per_octave(noise, low_hz, high_hz):
    """Of a noise's power spectrum, by a line through octave bands."""
    power = np.abs(np.fft.rfft(noise)) ** 2
    frequency_hz = np.fft.rfftfreq(noise.size, 1 / RATE)
    edges = low_hz * 2.0 ** np.arange(int(np.log2(high_hz / low_hz)) + 1)
    bands = [np.mean(power[(frequency_hz >= low) & (frequency_hz < high)]) for low, high in pairwise(edges)]
    return np.polyfit(np.arange(len(bands)), 10 * np.log10(bands), 1)[0]


@pytest.mark.parametrize(("colour", "slope"), [("white", 0.0), ("pink", -3.01), ("brown", -6.02)])
def test_a_colour_has_its_slope_and_unit_power(colour, slope):
    noise = coloured(colour, seed=3, num_samples=20 * RATE, rate_hz=RATE)
    assert slope_db_per_octave(noise, 62.5, 8000) == pytest.approx(slope, abs=0.25)
    assert np.mean(noise**2) == pytest.approx(1.0, abs=0.02)
    assert abs(np.mean(noise)) < 0.02


def test_coloured_noise_has_nothing_below_20_hz():
    noise = coloured("brown", seed=1, num_samples=10 * RATE, rate_hz=RATE)
    power = np.abs(np.fft.rfft(noise)) ** 2
    assert np.sum(power[: 15 * 10]) < 1e-3 * np.sum(power)


def test_speech_shaped_noise_has_the_spectrum_it_is_given():
    shape_db = -40 + 40 * np.cos(np.linspace(0, 3 * np.pi, 257)) ** 2
    noise = coloured("speech", seed=2, num_samples=40 * RATE, rate_hz=RATE, spectrum_db=shape_db)
    _, power = scipy.signal.welch(noise, fs=RATE, nperseg=512, detrend=False)
    found_db = 10 * np.log10(power[2:-2])
    difference = found_db - shape_db[2:-2]
    assert np.std(difference) < 1.0
    with pytest.raises(ValueError, match="needs the spectrum"):
        coloured("speech", seed=2, num_samples=100, rate_hz=RATE)


@pytest.mark.parametrize("colour", ["white", "pink", "brown"])
@pytest.mark.parametrize("num_samples", [1, 7, 160])
def test_a_short_stretch_of_a_colour_has_its_length_and_energy(colour, num_samples):
    noise = coloured(colour, seed=5, num_samples=num_samples, rate_hz=RATE)
    assert noise.shape == (num_samples,)
    assert np.mean(noise**2) > 1e-6


@few
@given(seed=st.integers(0, 2**32 - 1), colour=st.sampled_from(["pink", "brown"]))
def test_a_seed_gives_the_same_colour_for_ever(seed, colour):
    """By the frozen stream and the discrete Fourier transform written out, at a few frequencies."""
    noise = coloured(colour, seed=seed, num_samples=8000, rate_hz=8000)
    source = np.random.RandomState(seed).standard_normal(8000)
    steepness = {"pink": 0.5, "brown": 1.0}[colour]
    ratios = []
    for frequency in (20, 100, 1500, 3999):
        wheel = np.exp(-2j * np.pi * frequency * np.arange(8000) / 8000)
        ratios.append(np.sum(noise * wheel) / np.sum(source * wheel) * frequency**steepness)
    np.testing.assert_allclose(ratios, ratios[0].real, rtol=1e-6)


def test_several_noises_are_equally_strong_and_their_sum_has_the_snr():
    parts = [
        gain * np.random.default_rng(number).standard_normal(RATE) for number, gain in enumerate((0.01, 1.0, 30.0))
    ]
    speech = speechlike(1.0)
    added = mix_at_snr(speech, together(parts), snr_db=4.0) - speech
    assert decibels(speech, added) == pytest.approx(4.0, abs=1e-9)
    shares = [np.dot(added, part) / np.linalg.norm(part) / np.linalg.norm(added) for part in parts]
    np.testing.assert_allclose(shares, 1 / np.sqrt(3), atol=0.03)
    with pytest.raises(SilentSignalError, match="several noises"):
        together([np.ones(10), np.zeros(10)])


def test_over_active_speech_pauses_do_not_make_the_noise_softer():
    speech = speechlike(2.0, seed=9)
    sparse = np.pad(speech, (0, 4 * RATE))
    noise = np.random.default_rng(1).standard_normal(sparse.size)
    power = active_power(sparse, rate_hz=RATE)
    added = mix_at_snr(sparse, noise, snr_db=10.0, speech_power=power) - sparse
    level_db = active_level_db(sparse, RATE)
    assert level_db - 10 * np.log10(np.mean(added**2)) == pytest.approx(10.0, abs=0.1)
    assert decibels(sparse, added) < 7.0
