"""What a fingerprint tells: real deviations are near, and what is wrong is not."""

from __future__ import annotations

import base64
import io
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus_builder.audio.levels import fit_peak, quantise
from corpus_builder.distortions import additive_noise, reverb
from corpus_builder.distortions.codecs import transcode
from corpus_builder.rooms import image_source
from corpus_builder.shards.fingerprint import (
    Deviation,
    best_lag,
    blocks_of,
    deviation,
    fingerprint,
    is_near_coded,
    is_near_fine,
    packed,
    signs,
    sketch,
    unpacked,
)
from manifests.errors import BadDocumentError
from tests.oracles.speechlike import speechlike

KEY = "voice-0123456789ab"
RATE_HZ = 16_000
BOX = ((5.0, 4.0, 3.0), (2.0, 2.0, 1.2), (3.5, 2.7, 1.6))


def printed(wave, key, *, uncoded=None):
    """The fingerprint of a wave by the key of its sample."""
    return fingerprint(wave, signs(key, wave.size), uncoded=uncoded)


def pcm(wave):
    return quantise(fit_peak(wave)[0])


def near(first, second, *, key=KEY, before=(None, None)):
    """Whether the second wave is told as near the first, from the stored fingerprints alone but for the search for a lag."""
    one = blocks_of(printed(first, key, uncoded=before[0]), where="a")
    other = blocks_of(printed(second, key, uncoded=before[1]), where="b")
    if not is_near_fine(deviation(one[0], other[0], num_samples=first.size)):
        return False
    if len(one) == 1:
        return True
    coded = deviation(one[1], other[1], num_samples=first.size)
    return is_near_coded(coded) and best_lag(one[1], second, key) == 0


def response(num_threads, monkeypatch):
    monkeypatch.setitem(image_source.PINNED, "num_threads", num_threads)
    return image_source.impulse(*BOX, absorption=0.25, order=40, rate_hz=RATE_HZ)


def reverberant(speech, taps):
    return pcm(
        reverb.reverberate(speech, taps, direct_sample=image_source.arrival_sample(BOX[1], BOX[2], rate_hz=RATE_HZ))
    )


def test_another_thread_count_of_the_simulation_is_near_and_not_identical(monkeypatch):
    one, several = response(1, monkeypatch), response(2, monkeypatch)
    speech = speechlike(4, seed=1)
    first, second = reverberant(speech, one.astype("f4")), reverberant(speech, several.astype("f4"))
    assert not np.array_equal(first, second)
    assert near(first, second)


def test_responses_in_float32_are_near_those_in_float64(monkeypatch):
    taps = response(1, monkeypatch)
    speech = speechlike(4, seed=2)
    assert near(reverberant(speech, taps), reverberant(speech, taps.astype("f4").astype("f8")))


def test_a_response_cut_at_40_db_is_different(monkeypatch):
    taps = response(1, monkeypatch)
    speech = speechlike(4, seed=2)
    assert not near(reverberant(speech, taps), reverberant(speech, taps[: taps.size * 2 // 3]))


@pytest.mark.parametrize("snr_db", [0.0, 10.0, 20.0, 30.0])
def test_another_snr_by_half_a_decibel_is_different(snr_db):
    speech, hum = speechlike(3, seed=3), additive_noise.white(seed=1, num_samples=3 * RATE_HZ)
    first, second = (pcm(additive_noise.mix_at_snr(speech, hum, snr_db=snr_db + more)) for more in (0.0, 0.5))
    assert not near(first, second)


def test_another_stretch_of_the_noise_is_different():
    speech, hum = speechlike(3, seed=4), additive_noise.white(seed=1, num_samples=4 * RATE_HZ)
    first, second = (pcm(additive_noise.mix_at_snr(speech, hum[at : at + speech.size], snr_db=30.0)) for at in (0, 160))
    assert not near(first, second)


def test_one_sample_late_is_different():
    speech = pcm(speechlike(3, seed=5))
    assert not near(speech, np.roll(speech, 1))
    assert not near(speech, np.roll(speech, -1))


def test_another_utterance_is_different_with_or_without_a_codec():
    one, other = speechlike(3, seed=6), speechlike(3, seed=7)
    assert not near(pcm(one), pcm(other))
    coded = [pcm(transcode.transcode(wave, codec="opus", bitrate_kbps=24.0, rate_hz=RATE_HZ)) for wave in (one, other)]
    assert not near(*coded, before=(one, other))
    stored = blocks_of(printed(coded[0], KEY, uncoded=one), where="a")[1]
    own = blocks_of(printed(coded[1], KEY, uncoded=one), where="b")[1]
    assert not is_near_coded(deviation(stored, own, num_samples=one.size))


def test_the_same_wave_under_another_key_is_told_by_neither_block():
    speech = pcm(speechlike(2, seed=8))
    one = blocks_of(printed(speech, "a-1"), where="a")[0]
    other = blocks_of(printed(speech, "a-2"), where="b")[0]
    assert deviation(one, other, num_samples=speech.size).relative_db == pytest.approx(3.0, abs=4.0)


def libsndfiles_coder(wave, form, subtype, *, level):
    """The same codec by another build of it: libsndfile's, with its own framing."""
    stream = io.BytesIO()
    soundfile.write(stream, wave.astype("f4"), RATE_HZ, format=form, subtype=subtype, compression_level=level)
    stream.seek(0)
    decoded, _ = soundfile.read(stream)
    return np.pad(decoded, (0, max(0, wave.size - decoded.size)))[: wave.size]


def in_step(wave, coded):
    """Another build's delay taken out, to the sample, as any rebuilder's calibration would."""
    errors = {lag: np.sum((wave[1000:-1000] - np.roll(coded, -lag)[1000:-1000]) ** 2) for lag in range(-40, 41)}
    return np.roll(coded, -min(errors, key=errors.get))


@pytest.mark.parametrize("seed", [9, 10, 11])
@pytest.mark.parametrize(
    ("name", "kbps", "form", "subtype", "level"),
    [("opus", 24.0, "OGG", "OPUS", 0.9), ("mp3", 32.0, "MP3", "MPEG_LAYER_III", 0.7)],
)
def test_another_build_of_a_codec_is_near(name, kbps, form, subtype, level, seed):
    speech = speechlike(4, seed=seed)
    first = transcode.transcode(speech, codec=name, bitrate_kbps=kbps, rate_hz=RATE_HZ)
    second = in_step(first, libsndfiles_coder(speech, form, subtype, level=level))
    assert not np.array_equal(pcm(first), pcm(second))
    assert near(pcm(first), pcm(second), before=(speech, speech))


@pytest.mark.parametrize(("name", "kbps"), [("opus", 16.0), ("mp3", 32.0), ("amr-nb", 12.2), ("g711-mulaw", 64.0)])
def test_a_coded_copy_one_sample_late_is_different(name, kbps):
    speech = speechlike(4, seed=12)
    coded = pcm(transcode.transcode(speech, codec=name, bitrate_kbps=kbps, rate_hz=RATE_HZ))
    for lag in (1, -1, 3):
        moved = np.roll(coded, lag)
        assert not near(coded, moved, before=(speech, speech))
        assert best_lag(blocks_of(printed(coded, KEY, uncoded=speech), where="a")[1], moved, KEY) == lag


def test_another_snr_before_a_codec_is_different_although_the_codec_hides_it():
    speech, hum = speechlike(3, seed=13), additive_noise.white(seed=1, num_samples=3 * RATE_HZ)
    noisy = [additive_noise.mix_at_snr(speech, hum, snr_db=20.0 + more) for more in (0.0, 0.5)]
    coded = [pcm(transcode.transcode(wave, codec="opus", bitrate_kbps=16.0, rate_hz=RATE_HZ)) for wave in noisy]
    assert not near(*coded, before=tuple(noisy))


@pytest.mark.parametrize("shape", ["white", "tone", "click", "half", "constant"])
def test_the_estimate_is_unbiased_whatever_the_deviation_looks_like(shape):
    chance = np.random.default_rng(3)
    length = 20_000
    wave = np.rint(2000 * chance.standard_normal(length))
    other = {
        "white": np.rint(30 * chance.standard_normal(length)),
        "tone": np.rint(40 * np.sin(np.arange(length) * 0.05)),
        "click": np.where(np.arange(length) == 777, 4000.0, 0.0),
        "half": np.where(np.arange(length) < length // 2, np.rint(40 * chance.standard_normal(length)), 0.0),
        "constant": np.full(length, 25.0),
    }[shape]
    true = float(np.mean(other**2))
    ratios = []
    for number in range(400):
        sign = signs(f"key-{number}", length)
        stored = unpacked(packed(sketch(wave.astype(np.int16), sign, grain="fine")))
        exact = sketch((wave + other).astype(np.int16), sign, grain="fine")
        ratios.append(deviation(stored, exact, num_samples=length).rms_lsb ** 2 / true)
    spread = np.sqrt(2 / 14)
    assert np.mean(ratios) == pytest.approx(1.0, abs=5 * spread / np.sqrt(len(ratios)))
    assert np.std(ratios) < 1.3 * spread


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60_000), st.sampled_from([1.0, 100.0, 9000.0]), st.booleans())
def test_a_fingerprint_is_small_and_a_wave_is_near_itself(seed, length, scale, coded):
    wave = np.clip(np.random.default_rng(seed).normal(0, scale, length), -32768, 32767).astype(np.int16)
    before = wave / 32768.0 if coded else None
    text = printed(wave, KEY, uncoded=before)
    assert len(base64.b64decode(text)) == (64 if coded else 32)
    for grain, block in zip(("fine", "coded"), blocks_of(text, where="x"), strict=False):
        exact = sketch(wave, signs(KEY, length), grain=grain)
        assert np.abs(block.sums - exact.sums).max() <= block.step / 2
        assert block.energy_db == pytest.approx(exact.energy_db, abs=0.0051)
    assert near(wave, wave, before=(before, before))


@pytest.mark.parametrize(("grain", "count"), [("fine", 14), ("coded", 28)])
def test_the_sums_are_those_of_a_plain_loop(grain, count):
    """Longer than what is added up at once; a wave of float64 is rounded to the nearest step first."""
    steps = np.random.default_rng(1).integers(-32768, 32767, 130_000)
    sign = signs(KEY, steps.size)
    slow = [0] * count
    for number, (value, bit) in enumerate(zip(steps.tolist(), sign.tolist(), strict=True)):
        slow[number % count] += value * bit
    off = np.random.default_rng(2).uniform(-0.49, 0.49, steps.size)
    for wave in (steps.astype(np.int16), (steps + off) / 32768):
        found = sketch(wave, sign, grain=grain)
        assert found.sums.tolist() == slow
        assert found.energy_db == pytest.approx(10 * np.log10(1 + float(np.sum(steps.astype(float) ** 2))))


def test_two_waves_deviate_by_what_is_between_them_and_are_compared_with_the_first():
    """Exact sums of one sample: the deviation is the difference itself. Stored ones are uncertain by their steps."""
    one, other = (sketch(np.array([value], np.int16), np.ones(1, np.int8), grain="fine") for value in (1000, 990))
    found = deviation(one, other, num_samples=1)
    assert found.rms_lsb == pytest.approx(10.0)
    assert found.relative_db == pytest.approx(-40.0, abs=0.001)
    assert found.level_db == pytest.approx(20 * np.log10(0.99), abs=0.001)
    assert deviation(one, other, num_samples=4).rms_lsb == pytest.approx(5.0)
    coarse = [replace(one, step=3.0), replace(other, step=2.0)]
    assert deviation(*coarse, num_samples=1).rms_lsb == pytest.approx((100 - 14 * (9 + 4) / 12) ** 0.5)
    assert deviation(one, one, num_samples=1).relative_db == -np.inf


@pytest.mark.parametrize(
    ("rms_lsb", "relative_db", "level_db", "fine", "coded"),
    [
        (0.5, 0.0, 0.0, True, False), (0.51, -84.1, 0.0, True, True), (0.51, -83.9, 0.0, False, True), (9.0, -5.0, 1.0, False, True),
        (9.0, -5.0, -1.0, False, True), (9.0, -5.0, -1.01, False, False), (9.0, -5.0, 1.01, False, False), (9.0, -4.9, 0.0, False, False),
    ],
)  # fmt: skip
def test_waves_are_near_up_to_their_tolerances(rms_lsb, relative_db, level_db, fine, coded):
    found = Deviation(rms_lsb, relative_db, level_db)
    assert (is_near_fine(found), is_near_coded(found)) == (fine, coded)


def test_a_wave_that_is_late_is_late_and_one_that_is_early_is_early():
    wave = pcm(speechlike(0.5, seed=9))
    stored = sketch(wave, signs(KEY, wave.size), grain="coded")
    for lag in (0, 3, -5, 8, -8):
        moved = np.roll(wave, lag)
        assert best_lag(stored, moved, KEY) == lag
    assert best_lag(stored, np.roll(wave, 9), KEY) in range(-8, 9)
    short = np.array([300, -200, 100], np.int16)
    assert best_lag(sketch(short, signs(KEY, 3), grain="coded"), short, KEY) == 0
    noise = np.random.default_rng(3).integers(-300, 300, wave.size).astype(np.int16)
    assert best_lag(stored, noise, KEY) == 0  # no shift takes much off


def test_a_fingerprint_has_a_fine_block_of_what_entered_the_codec_and_a_coarse_one_of_what_came_out():
    before, after = (np.random.default_rng(number).integers(-9000, 9000, 3000).astype(np.int16) for number in (1, 2))
    fine, coded = blocks_of(printed(after, KEY, uncoded=before / 32768), where="x")
    for block, wave in ((fine, before), (coded, after)):
        exact = sketch(wave, signs(KEY, 3000), grain=block.grain)
        assert block.step > 0
        np.testing.assert_allclose(block.sums, exact.sums, atol=block.step / 2)
    soft = sketch(np.array([5, -3], np.int16), np.ones(2, np.int8), grain="fine")
    assert (unpacked(packed(soft)).step, unpacked(packed(soft)).sums.tolist()) == (0.0, soft.sums.tolist())  # exact


def test_a_fingerprint_is_frozen():
    wave = np.arange(-2000, 2000, dtype=np.int16)
    assert printed(wave, KEY) == "AQH/JeO0lkJNNL0oufD3O9vTivZFH/0CBRrSBeIRaNc="


@pytest.mark.parametrize(
    "text",
    ["", "AAAA", base64.b64encode(bytes(32)).decode(), base64.b64encode(b"\x02" + bytes(31)).decode(), "*" * 44],
    ids=["nothing", "short", "no mark", "a coded block alone", "no base64"],
)
def test_what_is_no_fingerprint_is_refused(text):
    with pytest.raises(BadDocumentError):
        blocks_of(text, where="x")
