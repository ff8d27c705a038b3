"""Delays to a sixteenth of a sample, of a signal that was moved in the frequency domain, and the probe that they are measured on."""

import numpy as np
import pytest

from corpus_builder.distortions.codecs.delay import measured_delay, phase_delay, probe
from corpus_builder.distortions.codecs.round_trip import Setting


def moved(wave, samples):
    frequency = np.fft.rfftfreq(wave.size)
    return np.fft.irfft(np.fft.rfft(wave) * np.exp(-2j * np.pi * frequency * samples), wave.size)


@pytest.mark.parametrize("samples", [0.0, 3.25, -2.5, 39.9375, -40.0])
def test_a_delay_is_found_to_a_sixteenth_of_a_sample_to_either_side(samples):
    clean = np.pad(np.random.default_rng(0).standard_normal(3000), 100)
    late = np.concatenate([moved(clean, samples), np.zeros(50)])
    assert phase_delay(clean, late, most=40, finest=16) == samples
    weak = np.fft.irfft(
        np.where(np.arange(1601) > 800, 1e-5, 1.0) * np.fft.rfft(clean), clean.size
    )  # half the band is gone
    assert phase_delay(clean, moved(weak, samples), most=40, finest=16) == pytest.approx(samples, abs=1 / 16)


def test_the_probe_is_four_seconds_of_syllables_at_minus_26_dbfs_at_any_rate():
    for rate_hz in (8_000, 22_050):
        wave = probe(rate_hz)
        assert wave.size == 4 * rate_hz
        assert 20 * np.log10(np.sqrt(np.mean(wave**2))) == pytest.approx(-26.0)
        power = np.abs(np.fft.rfft(wave)) ** 2
        frequency_hz = np.fft.rfftfreq(wave.size, 1 / rate_hz)
        assert power[frequency_hz < 50].sum() < 1e-3 * power.sum()


def test_a_codecs_delay_is_in_samples_of_the_wave_and_need_not_be_whole():
    """The two filters of G.722 have 24 taps each: 22 samples at its own rate of 16 kHz, half as many at half of it."""
    assert measured_delay(Setting("g722", 64.0, 8_000)) == 11.0
    found = measured_delay(Setting("amr-nb", 12.2, 16_000))
    assert found == pytest.approx(80.0, abs=0.2)
    assert found != round(found)
