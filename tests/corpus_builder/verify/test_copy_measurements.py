"""What `verify --level physics` measures is seen on waves whose truth is known, and a fault of each kind is found."""

import math

import numpy as np
import pytest
from scipy import signal

from corpus_builder.verify.copy_measurements import (
    PLAIN_PEAK,
    CopyCheck,
    Measured,
    envelope_lag_s,
    full_scale,
    longest_run,
    loudest_part,
    phase_transform_lag,
    power_db,
)
from corpus_builder.verify.draw_rates import expected, rate_findings
from corpus_builder.verify.report import Finding, Report, ShardFound
from corpus_builder.verify.rir_check import measured_findings, reverberation_time_s
from corpus_builder.verify.verify_corpus import verify
from manifests.plan.rooms import RoomResponse
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


def test_two_ways_to_one_chain_are_added_whether_they_are_chosen_or_drawn():
    loud, faint = ({"kind": "noise", "from": {"white": 3, "hum": 1}, "snr_db": snr_db} for snr_db in (0, 20))
    codec = {"kind": "codec", "codec": {"choice": ["opus", "mp3", "opus", "opus"]}}
    steps = [
        {"choose": [[loud], [faint], [codec]], "weights": [1, 2, 1]},
        {"kind": "gain", "gain_db": {"choice": [0, 0, 0, 6]}},
    ]
    chances = expected(recipe_of(steps).conditions["a"].steps)
    assert chances == pytest.approx({
        "noise white": 27 / 64, "noise white > gain": 9 / 64, "noise hum": 9 / 64, "noise hum > gain": 3 / 64,
        "codec opus": 9 / 64, "codec opus > gain": 3 / 64, "codec mp3": 3 / 64, "codec mp3 > gain": 1 / 64,
    })  # fmt: skip


@pytest.mark.parametrize(
    "steps",
    [
        [{"choose": [[{"kind": "noise", "from": ["din", "hum"], "snr_db": 5, "count": {"uniform_int": [1, 2]}}], []]}],
        [{"kind": "resample", "rate_hz": {"choice": [4000, 16000]}}],
    ],
)
def test_a_way_that_the_recipe_does_not_tell_leaves_all_alone(steps):
    assert expected(recipe_of(steps).conditions["a"].steps) is None


def test_noises_that_are_drawn_by_file_are_told_by_their_weights_or_where_there_is_one():
    for names, weights in ((["hum"], {"noise hum": 1.0}), ({"din": 1, "hum": 4}, {"noise din": 0.2, "noise hum": 0.8})):
        step = {"kind": "noise", "from": names, "snr_db": 5} | ({"draw": "file"} if isinstance(names, list) else {})
        assert expected(recipe_of([step]).conditions["a"].steps) == pytest.approx(weights)


def test_what_was_drawn_too_often_too_seldom_never_or_against_the_recipe_is_said_with_its_numbers():
    recipe = recipe_of([{"choose": [[{"kind": "codec", "codec": "opus"}], [{"kind": "codec", "codec": "mp3"}], []]}])
    counts = {"codec opus": 70, "codec gsm-fr": 1, "": 28}
    assert list(rate_findings(recipe, {"a": counts, "gone": {"codec opus": 5}})) == [
        ("condition a", "codec gsm-fr was drawn 1 times in 99 copies, by the recipe 0.0 ± 0.0"),
        ("condition a", "codec mp3 was drawn 0 times in 99 copies, by the recipe 33.0 ± 18.8"),
        ("condition a", "codec opus was drawn 70 times in 99 copies, by the recipe 33.0 ± 18.8"),
    ]
    [(_, text), *_] = rate_findings(recipe, {"a": {"": 60, "codec opus": 20, "codec mp3": 19}})
    assert text == "no step was drawn 60 times in 99 copies, by the recipe 33.0 ± 18.8"


def test_measurements_of_shards_are_added_to_one_report():
    report = Report(level="physics", files=7)
    for sign, copies in ((-1, 2), (1, 4)):
        shard = ShardFound(samples=copies, waves=3 * copies)
        more = {
            "by_plan": 1,
            "largest_snr_error_db": -0.02 * sign - 0.005,
            "level_db": -25.0 * copies,
            "drawn": {"codec opus": copies},
        }
        one = Measured(copies, copies - 1, 3 * sign - 1, 2, **more, lowest_db=-30.0 + sign, highest_db=-20.0 + sign)
        shard.add_measured("noise", one)
        shard.findings.append(Finding(f"shard {sign}", "is torn"))
        report.add_shard(shard)
    report.add_measured("room", Measured(1, level_db=-26.5, lowest_db=-26.5, highest_db=-26.5))
    assert report.measured["noise"].drawn == {"codec opus": 6}
    assert list(report.measurement_lines()) == [
        "noise: 6 copies, lag of 4 at most 4 samples, SNR of 4 off by at most 0.0250 dB, SNR of 2 by plan, level -31.0 to -19.0 dBFS",
        "room: 1 copies, level -26.5 to -26.5 dBFS",
    ]
    assert report.plain() == {
        "schema": "stillroom/verify/1", "level": "physics", "files": 7, "samples": 6, "waves": 18,
        "findings": [{"where": "shard -1", "what": "is torn"}, {"where": "shard 1", "what": "is torn"}],
        "physics": {
            "noise": {
                "copies": 6, "lag_samples": {"measured": 4, "largest": -4}, "snr_error_db": {"measured": 4, "by_plan": 2, "largest": -0.025},
                "level_dbfs": {"mean": -25.0, "lowest": -31.0, "highest": -19.0},
            },
            "room": {
                "copies": 1, "lag_samples": {"measured": 0, "largest": 0}, "snr_error_db": {"measured": 0, "by_plan": 0, "largest": 0.0},
                "level_dbfs": {"mean": -26.5, "lowest": -26.5, "highest": -26.5},
            },
        },
    }  # fmt: skip
    assert report.summary() == "7 files, 6 samples, 18 waves decoded: 2 things are wrong"
    report.level = "pcm"
    assert "physics" not in report.plain()
    assert Report(files=2).summary() == "2 files, 0 samples: nothing is wrong"


def test_of_a_long_utterance_the_loudest_half_minute_is_looked_at():
    wave = np.full(700, 0.1)
    wave[200:520] = 0.5
    assert loudest_part(wave, rate_hz=10) == slice(200, 500)
    assert loudest_part(wave[:300], rate_hz=10) == slice(0, 300)


def test_full_scale_is_at_both_ends_and_the_longest_run_is_counted():
    flags = full_scale(np.array([32767, 32766, -32768, -32767, -32767, 0, -32766, 32767]) / 32768)
    assert flags.tolist() == [True, False, True, True, True, False, False, True]
    assert longest_run(flags) == 3
    assert longest_run(np.zeros(4, bool)) == 0


@pytest.mark.parametrize("sign", [-1, 1])
def test_three_samples_at_one_end_are_clipping_unless_the_clean_wave_clips_too(sign):
    clean = speech()
    for count, is_found in ((2, False), (3, True)):
        wave = noisy(clean, 40)
        wave[100 : 100 + count] = sign
        clips = [what for what in looked(clean, wave, white(40.0), level="match_clean")[0] if "clips" in what]
        assert bool(clips) == is_found
    clean[7000:7003] = sign
    assert not [what for what in looked(clean, wave, white(40.0), level="match_clean")[0] if "clips" in what]


def test_an_snr_over_active_speech_or_under_another_level_is_by_plan():
    clean = speech()
    for more, level in (({"over": "active"}, "keep"), ({}, "match_clean"), ({}, -26.0)):
        _, measured = looked(clean, noisy(clean, 5), white(9.0, **more), level=level)
        assert (measured.snrs, measured.by_plan) == (0, 1)
    _, measured = looked(clean, noisy(clean, 5), white(1.0), white(9.0))
    assert (measured.snrs, measured.by_plan) == (0, 1)
    faint = clean * 10 ** ((-50 - power_db(clean)) / 20)  # noise 30 dB under it is rounding
    for snr_db, snrs in ((30.0, 0), (20.0, 1)):
        assert looked(faint, noisy(faint, snr_db), white(snr_db))[1].snrs == snrs


def test_a_room_that_does_not_keep_the_level_is_measured_as_it_came():
    clean = speech()
    taps = np.zeros(400)
    taps[20], taps[300] = 0.5, 0.2
    wet = np.convolve(clean, taps)[20 : 20 + clean.size]
    room = {"kind": "room", "bank": "b", "room": 0, "position": 0, "response": "b-0-0", "keep_rms": False}
    response = lambda name: (taps, 20)  # noqa: E731
    findings, measured = looked(clean, noisy(wet, 8), room, white(8.0), response=response)
    assert (findings, measured.snrs) == ([], 1)
    assert looked(clean, wet, room, response=response)[0] == []
    assert [what for what in looked(clean, wet, room | {"keep_rms": True}, response=response)[0] if "dBFS" in what]


@pytest.mark.parametrize("late", [-160, 160])
def test_a_shifted_pitch_may_be_neither_late_nor_early(late):
    clean = speech(3.0)
    [text] = looked(clean, np.roll(clean, late), {"kind": "pitch", "cents": 100.0})[0]
    assert text == f"its envelope is {late / 16:+.1f} ms from that of the clean wave, more than 2.5 ms"


@pytest.mark.parametrize("change", [0.98, 1.02])
def test_a_level_may_be_neither_above_nor_under_that_of_the_plan(change):
    clean = speech()
    [text] = looked(clean, clean * change, {"kind": "gain", "gain_db": 3.0}, level="match_clean")[0]
    found, due = power_db(clean * change), power_db(clean)
    assert text == f"has {found:.2f} dBFS before its last gain, expected {due:.2f} dBFS"


@pytest.mark.parametrize(
    ("step", "bands"),
    [
        ({"kind": "lowpass", "cutoff_hz": 2000.0}, ["2400 to 8000 Hz"]),
        ({"kind": "highpass", "cutoff_hz": 300.0}, ["0 to 200 Hz"]),
        ({"kind": "highpass", "cutoff_hz": 100.0}, ["0 to 50 Hz"]),
        ({"kind": "bandpass", "low_hz": 400.0, "high_hz": 3000.0}, ["0 to 300 Hz", "3600 to 8000 Hz"]),
        ({"kind": "resample", "rate_hz": 6000}, ["3600 to 8000 Hz"]),
        ({"kind": "codec", "codec": "g726", "bitrate_kbps": 32}, ["4800 to 8000 Hz"]),
        ({"kind": "codec", "codec": "opus", "bitrate_kbps": 32.0}, []),
    ],
)
def test_the_bands_that_a_step_stops_are_looked_at(step, bands):
    clean = 0.05 * np.random.RandomState(1).standard_normal(2 * RATE_HZ)
    found = [what for what in looked(clean, clean, step)[0] if "Hz" in what]
    assert [what.split(" are ")[0] for what in found] == bands
    assert all(what.endswith(" are 0.0 dB over the clean wave, expected at most -20 dB") for what in found)


def test_a_stopped_band_is_measured_before_the_last_gain():
    """A copy that is 30 dB quieter has 30 dB less in every band; none of it was stopped."""
    clean = 0.05 * np.random.RandomState(1).standard_normal(2 * RATE_HZ)
    quiet = clean * 10 ** (-30 / 20)
    found = [
        what
        for what in looked(clean, quiet, {"kind": "lowpass", "cutoff_hz": 2000.0}, gain_db=-30.0)[0]
        if "Hz" in what
    ]
    assert found == ["2400 to 8000 Hz are 0.0 dB over the clean wave, expected at most -20 dB"]


def response_row(**given):
    own = {
        "name": "cell-0-0", "bank": "cell", "room": 0, "position": 0, "rate_hz": RATE_HZ, "t30_s": 0.4, "num_samples": 8000,
        "direct_to_reverberant_db": 0.0, "direct_sample": 20, "sha256": "0" * 64,
    }  # fmt: skip
    return RoomResponse.parse(own | given, where="test")


def decaying(rt60_s, direct):
    taps = np.random.RandomState(0).standard_normal(8000) * 10 ** (-3 * np.arange(8000) / RATE_HZ / rt60_s)
    taps[:direct] = 0
    taps[direct] = 8.0
    return taps


def test_a_response_is_held_to_its_bank_and_to_its_plan():
    taps = decaying(0.4, 20)
    measured_s = reverberation_time_s(taps, rate_hz=RATE_HZ)
    assert list(measured_findings(response_row(t30_s=measured_s), taps, 20, rt60_s=measured_s)) == []
    for t30_s in (measured_s / 1.08, measured_s * 1.08):
        assert list(measured_findings(response_row(t30_s=t30_s), taps, 20, rt60_s=None)) == [
            f"T30 is {measured_s:.3f} s by measuring, its bank says {t30_s:.3f} s"
        ]
    for rt60_s in (measured_s / 1.25, measured_s * 1.25):
        assert list(measured_findings(response_row(t30_s=measured_s), taps, 20, rt60_s=rt60_s)) == [
            f"T30 is {measured_s:.3f} s by measuring, {rt60_s:.3f} s were planned"
        ]
    assert list(measured_findings(response_row(t30_s=measured_s), taps, 20, rt60_s=measured_s * 1.1)) == []
    for said in (17, 23):
        assert list(measured_findings(response_row(t30_s=measured_s), taps, said, rt60_s=None)) == [
            f"its first strong sound is at sample 20, by its bank the direct path is at {said}"
        ]


def test_the_reverberation_time_leaves_out_the_direct_sound():
    """Its first 5 dB and what is under -35 dB are no decay of the room."""
    time_s = np.arange(RATE_HZ) / RATE_HZ
    taps = 10 ** (-3 * time_s / 0.4)
    taps[0] = 9.0  # 3 dB more than all that follows
    taps[6000:] *= 0.01
    assert reverberation_time_s(taps, rate_hz=RATE_HZ) == pytest.approx(0.4, rel=0.02)
    assert math.isnan(reverberation_time_s(np.zeros(100), rate_hz=RATE_HZ))
