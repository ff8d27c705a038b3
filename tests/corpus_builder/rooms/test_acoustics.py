"""What is measured on a response, on responses of a few samples whose energies are added up by hand."""

import math

import numpy as np
import pytest

from corpus_builder.rooms.acoustics import (
    NoDecayError,
    direct_to_reverberant_db,
    energy_decay_db,
    loudest_rival,
    measured_response,
    measured_t30_s,
)


def spikes(size, **at):
    wave = np.zeros(size, np.float32)
    for place, value in at.items():
        wave[int(place[1:])] = value
    return wave


@pytest.mark.parametrize(("rate_hz", "reach"), [(8_000, 20), (16_000, 40)])
def test_direct_sound_is_what_is_within_2_5_ms_to_both_sides_and_the_rest_after_it_is_reverberant(rate_hz, reach):
    at = {
        f"_{200 - reach - 1}": 9.0,
        f"_{200 - reach}": 1.0,
        "_200": 2.0,
        f"_{200 + reach}": 1.0,
        f"_{200 + reach + 1}": 0.5,
        "_399": 0.5,
    }
    found = direct_to_reverberant_db(spikes(400, **at), direct_sample=200, rate_hz=rate_hz)
    assert found == pytest.approx(10 * math.log10((1 + 4 + 1) / (0.25 + 0.25)), abs=1e-5)
    near_the_start = spikes(400, _0=1.0, _5=2.0, _300=0.5)
    assert direct_to_reverberant_db(near_the_start, direct_sample=5, rate_hz=rate_hz) == pytest.approx(
        10 * math.log10(5 / 0.25), abs=1e-5
    )
    assert direct_to_reverberant_db(spikes(400, _300=0.5), direct_sample=5, rate_hz=rate_hz) is None


def test_the_energy_to_come_falls_from_0_db_to_that_of_the_last_sample():
    np.testing.assert_allclose(energy_decay_db(np.array([3.0, 0.0, -1.0])), [0.0, -10.0, -10.0])
    assert energy_decay_db(np.zeros(5)).size == 0


def exponential(t60_s, *, rate_hz=8_000, seconds=1.0):
    at = np.arange(round(seconds * rate_hz))
    return np.where(at % 2, -1.0, 1.0) * 10 ** (-3 * at / rate_hz / t60_s)


def falling_by(*stretches):
    """A wave whose energy to come falls by straight lines: each is a level to fall to, in dB, and the seconds that it takes at 8 kHz."""
    levels, last_db = [], 0.0
    for level_db, seconds in stretches:
        levels.append(np.linspace(last_db, level_db, round(8_000 * seconds), endpoint=False))
        last_db = level_db
    to_come = 10 ** (np.concatenate(levels) / 10)
    return np.sqrt(-np.diff(to_come, append=0.0)) * np.where(np.arange(to_come.size) % 2, -1.0, 1.0)


def test_t30_is_of_the_decay_after_the_direct_sound_and_between_5_and_35_db():
    """Slow to -5 dB, then 30 dB in 0.2 s, then fast; before the direct sound is something that has far more energy."""
    decay = falling_by((-5.0, 0.1), (-35.0, 0.2), (-90.0, 0.05))
    assert measured_t30_s(decay.astype(np.float32), direct_sample=0, rate_hz=8_000) == pytest.approx(0.4, rel=0.01)
    wave = np.concatenate([np.full(50, 0.8), decay]).astype(np.float32)
    assert measured_t30_s(wave, direct_sample=50, rate_hz=8_000) == pytest.approx(0.4, rel=0.01)
    slow = exponential(0.4).astype(np.float32)
    assert measured_t30_s(slow, direct_sample=0, rate_hz=16_000) == pytest.approx(0.2, rel=0.01)


def test_a_decay_of_5_ms_can_be_measured_and_a_shorter_one_or_one_that_ends_above_35_db_cannot():
    """From -5 to -35 dB an exponential takes half of its reverberation time."""
    assert measured_t30_s(exponential(0.012).astype(np.float32), direct_sample=0, rate_hz=8_000) == pytest.approx(
        0.012, rel=0.05
    )
    for wave in (exponential(0.008), exponential(2.0, seconds=0.02)):
        with pytest.raises(NoDecayError):
            measured_t30_s(wave.astype(np.float32), direct_sample=0, rate_hz=8_000)


def test_a_rival_is_looked_for_in_the_lower_half_of_the_band_too():
    """Whitened, an echo of 0.3 is 0.15 of the direct sound. Without its upper half that is a sinc, whose first side lobe is 2 / (3 pi)."""
    weak = spikes(2000, _50=1.0, _700=0.3)
    assert loudest_rival(weak, direct_sample=50) == pytest.approx(2 / (3 * math.pi), abs=0.001)
    strong = spikes(2000, _50=1.0, _700=0.6)
    assert loudest_rival(strong, direct_sample=50) == pytest.approx((0.3 + 0.6**3 / 16) / (1 - 0.6**2 / 4), abs=0.01)
    beside = spikes(2000, _50=1.0, _51=0.9)  # belongs to the direct sound, a sample to its side
    assert loudest_rival(beside, direct_sample=50) < 0.25


def test_a_response_is_measured_as_it_is_stored_in_32_bits():
    wave = exponential(0.2) * np.pi
    found = measured_response(wave, direct_sample=0, rate_hz=8_000)
    assert found.wave.dtype == np.float32
    assert found.direct_sample == 0
    assert found.t30_s == measured_t30_s(wave.astype(np.float32), direct_sample=0, rate_hz=8_000)
    assert found.direct_to_reverberant_db == direct_to_reverberant_db(
        wave.astype(np.float32), direct_sample=0, rate_hz=8_000
    )
    assert found.rival == loudest_rival(wave.astype(np.float32), direct_sample=0)
