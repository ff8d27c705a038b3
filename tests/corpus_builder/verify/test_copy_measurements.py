"""What `verify --level physics` measures is seen on waves whose truth is known, and a fault of each kind is found."""

import math

import numpy as np
import pytest
from scipy import signal

from corpus_builder.verify.copy_measurements import PLAIN_PEAK, CopyCheck, envelope_lag_s, phase_transform_lag, power_db
from corpus_builder.verify.draw_rates import expected, rate_findings
from corpus_builder.verify.rir_check import reverberation_time_s
from corpus_builder.verify.verify_corpus import verify
from manifests.plan.steps import PlannedCopy
from manifests.recipe.recipe import Recipe

RATE_HZ = 16_000


def speech(seconds=2.0, seed=3):
    """Noise with a formant-like spectrum in syllables."""
    noise = np.random.RandomState(seed).standard_normal(round(seconds * RATE_HZ))
    shaped = signal.lfilter([1], [1, -1.3, 0.6], noise)
    time_s = np.arange(noise.size) / RATE_HZ
    return 0.05 * shaped * (0.05 + np.sin(2 * np.pi * 2.1 * time_s + seed) ** 2)


def rounded(wave):
    return np.clip(np.rint(wave * 32768), -32768, 32767) / 32768


def looked(clean, wave, *steps, level="keep", gain_db=0.0, response=None):
    planned = PlannedCopy.parse({"name": "x-0", "condition": "x", "steps": list(steps), "level": level}, where="test")
    look = CopyCheck(rounded(clean), rounded(wave), planned, gain_db=gain_db, rate_hz=RATE_HZ, response=response)
    return list(look.findings()), look.measured


def white(snr_db, **more):
    return {
        "kind": "noise",
        "form": "coloured",
        "source": "white",
        "colour": "white",
        "seed": 1,
        "snr_db": snr_db,
    } | more


def noisy(clean, snr_db, seed=7):
    noise = np.random.RandomState(seed).standard_normal(clean.size)
    return clean + noise * math.sqrt(np.mean(clean**2) / np.mean(noise**2) / 10 ** (snr_db / 10))


@pytest.mark.parametrize("late", [-30, -2, 2, 5, 300])
def test_a_lag_is_found_to_the_sample(late):
    clean = speech()
    wave = np.roll(noisy(clean, 10), late)
    found, clarity = phase_transform_lag(clean, wave, rate_hz=RATE_HZ)
    assert found == late
    assert clarity > 16
    findings, measured = looked(clean, wave, white(10.0))
    assert any("lags" in what for what in findings)
    assert measured.largest_lag_samples == late


@pytest.mark.parametrize("late", [-5, 4])
def test_what_a_coder_adds_elsewhere_is_no_lag_but_a_late_copy_is(late):
    clean = speech()
    high = signal.sosfiltfilt(signal.butter(4, 2000, "high", fs=RATE_HZ, output="sos"), clean)
    wave = clean - high + 0.5 * np.roll(high, late)
    found, clarity = phase_transform_lag(clean, wave, rate_hz=RATE_HZ)
    assert found == late
    assert clarity > PLAIN_PEAK
    findings, measured = looked(clean, wave, {"kind": "codec", "codec": "g726", "bitrate_kbps": 32})
    assert not any("lags" in what for what in findings)
    assert measured.lags == 0
    findings, _ = looked(clean, np.roll(wave, late), {"kind": "codec", "codec": "g726", "bitrate_kbps": 32})
    assert any("lags" in what for what in findings)


def test_a_copy_in_step_with_its_planned_snr_is_as_it_should_be():
    clean = speech()
    findings, measured = looked(clean, noisy(clean, 7.25), white(7.25))
    assert findings == []
    assert (measured.lags, measured.snrs, measured.by_plan) == (1, 1, 0)
    assert abs(measured.largest_snr_error_db) < 0.01


@pytest.mark.parametrize("error_db", [-3, -0.15, 0.15, 3])
def test_an_snr_that_is_not_the_planned_one_is_found(error_db):
    clean = speech()
    findings, _ = looked(clean, noisy(clean, 7.25 + error_db), white(7.25))
    assert [what for what in findings if "SNR" in what]


def test_the_gain_at_the_end_is_taken_off_before_the_snr_is_measured():
    clean = speech()
    findings, measured = looked(clean, noisy(clean, 5) * 10 ** (-6.5 / 20), white(5.0), gain_db=-6.5)
    assert findings == []
    assert measured.snrs == 1


def test_an_snr_after_which_something_came_is_by_plan():
    clean = speech()
    codec = {"kind": "codec", "codec": "opus", "bitrate_kbps": 16.0}
    _, measured = looked(clean, noisy(clean, 5), white(9.0), codec)
    assert (measured.snrs, measured.by_plan) == (0, 1)


def test_noise_after_a_room_is_measured_over_the_reverberant_speech():
    clean = speech()
    taps = np.random.RandomState(1).standard_normal(4000) * np.exp(-np.arange(4000) / 800)
    taps[:20], taps[20] = 0, 8.0
    wet = np.convolve(clean, taps)[20 : 20 + clean.size]
    wet *= math.sqrt(np.mean(clean**2) / np.mean(wet**2))
    room = {"kind": "room", "bank": "b", "room": 0, "position": 0, "response": "b-0-0"}
    response = lambda name: (taps, 20)  # noqa: E731
    findings, measured = looked(clean, noisy(wet, 8), room, white(8.0), response=response)
    assert findings == []
    assert measured.snrs == 1
    findings, _ = looked(clean, noisy(wet, 8) * 0.8, room, white(8.0), response=response)
    assert [what for what in findings if "SNR" in what]
    findings, _ = looked(clean, wet * 0.9, room, response=response)
    assert [what for what in findings if "dBFS" in what]


def test_levels_are_held_to_what_was_asked():
    clean = speech()
    asked = 10 ** ((-26 - power_db(clean)) / 20)
    assert looked(clean, clean * asked, {"kind": "gain", "gain_db": 3.0}, level=-26.0)[0] == []
    assert looked(clean, clean * asked * 1.02, {"kind": "gain", "gain_db": 3.0}, level=-26.0)[0]
    assert looked(clean, clean * 1.02, {"kind": "gain", "gain_db": 3.0}, level="match_clean")[0]
    down = 10 ** (-6 / 20)
    assert looked(clean, clean * asked * down, {"kind": "gain", "gain_db": 3.0}, level=-26.0, gain_db=-6.0)[0] == []
    assert looked(clean, clean * asked, {"kind": "gain", "gain_db": 3.0}, level=-26.0, gain_db=-6.0)[0]


def test_clipping_is_found_where_none_was_asked_for_and_missed_where_it_was():
    clean = speech()
    loud = np.clip(clean * 60, -1, 32767 / 32768)
    assert any("clips" in what for what in looked(clean, loud, white(0.0))[0])
    limit = np.quantile(np.abs(clean), 0.9)
    assert looked(clean, np.clip(clean, -limit, limit), {"kind": "clip", "percent": 10.0})[0] == []
    assert any("clips" in what for what in looked(clean, clean, {"kind": "clip", "percent": 10.0})[0])
    half = np.quantile(np.abs(clean), 0.95)
    assert any(
        "clips 5." in what for what in looked(clean, np.clip(clean, -half, half), {"kind": "clip", "percent": 10.0})[0]
    )


def test_a_band_that_should_be_gone_is_gone():
    clean = speech()
    taps = signal.firwin(1001, 2000, fs=RATE_HZ)
    filtered = np.convolve(clean, taps, mode="same")
    step = {"kind": "lowpass", "cutoff_hz": 2000.0}
    assert looked(clean, filtered, step)[0] == []
    assert any("Hz" in what for what in looked(clean, clean, step)[0])
    assert any(
        "Hz" in what for what in looked(clean, clean, {"kind": "codec", "codec": "gsm-fr", "bitrate_kbps": 13.0})[0]
    )


def test_the_envelope_of_a_shifted_pitch_is_in_step():
    clean = speech(3.0)
    other = speech(3.0, seed=9) * 0 + np.random.RandomState(5).standard_normal(clean.size) * np.abs(
        signal.hilbert(clean)
    )
    assert abs(envelope_lag_s(clean, other, rate_hz=RATE_HZ)) <= 0.0025
    assert envelope_lag_s(clean, np.roll(clean, 160), rate_hz=RATE_HZ) == pytest.approx(0.010, abs=6e-4)
    pitch = {"kind": "pitch", "cents": 100.0}
    assert any("envelope" in what for what in looked(clean, np.roll(clean, 160), pitch)[0])


def test_reverberation_time_of_an_exponential_decay():
    time_s = np.arange(RATE_HZ) / RATE_HZ
    taps = np.random.RandomState(0).standard_normal(RATE_HZ) * 10 ** (-3 * time_s / 0.4)
    assert reverberation_time_s(taps, rate_hz=RATE_HZ) == pytest.approx(0.4, rel=0.03)
    assert math.isnan(reverberation_time_s(np.ones(100), rate_hz=RATE_HZ))


def recipe_of(steps):
    return Recipe.parse(
        {
            "schema": "stillroom/recipe/1", "name": "r", "speech": {"train": {"dir": "x"}},
            "noises": {"white": {"colour": "white"}, "hum": {"dir": "y"}, "din": {"dir": "z"}},
            "conditions": {"a": {"steps": steps}}, "copies": {"train": {"a": 1}},
        },
        where="test",
    )  # fmt: skip


def test_rates_of_choices_are_held_to_the_recipe():
    codec = {"kind": "codec", "codec": {"choice": ["opus", "mp3"]}}
    noise = {"kind": "noise", "from": {"white": 3, "hum": 1}, "snr_db": 5}
    recipe = recipe_of([{"choose": [[noise], []], "weights": [1, 3]}, codec])
    chances = expected(recipe.conditions["a"].steps)
    assert chances == pytest.approx({
        "noise white > codec opus": 3 / 32, "noise white > codec mp3": 3 / 32, "noise hum > codec opus": 1 / 32,
        "noise hum > codec mp3": 1 / 32, "codec opus": 3 / 8, "codec mp3": 3 / 8,
    })  # fmt: skip
    counts = {path: round(3200 * chance) for path, chance in chances.items()}
    assert list(rate_findings(recipe, {"a": counts})) == []
    counts["codec opus"] -= 140
    counts["codec mp3"] += 140
    assert len(list(rate_findings(recipe, {"a": counts}))) == 2
    assert list(rate_findings(recipe, {"a": {"codec gsm-fr": 100}}))


def test_rates_that_the_recipe_does_not_tell_are_left_alone():
    step = {"kind": "noise", "from": ["din", "hum"], "snr_db": 5, "draw": "file"}
    assert expected(recipe_of([step]).conditions["a"].steps) is None


def test_a_corpus_of_ours_is_as_it_should_be(built_lab):
    report = verify(built_lab.folder / "corpus", level="physics", progress=False)
    assert [finding.plain() for finding in report.findings] == []
    assert report.measured["noise"].snrs + report.measured["noise"].by_plan == report.measured["noise"].copies
    assert report.measured["far"].snrs > 0
    assert report.plain()["physics"]["phone"]["lag_samples"]["measured"] > 0
    assert any(line.startswith("noise: ") for line in report.measurement_lines())
