"""Long utterances: what is done piece by piece gives the samples of one call, and memory is held by waves, not by copies."""

import tracemalloc

import numpy as np
import pytest
from scipy.signal import lfilter, oaconvolve

from corpus_builder.distortions import convolution, freeverb, noise
from corpus_builder.distortions.convolution import convolved
from corpus_builder.encoded import EncodedWaves, flac
from corpus_builder.utterance import Utterance, too_long

RATE = 16_000


@pytest.mark.parametrize("taps", [1, 2, 163, 1001, 6400])
def test_convolution_in_pieces_is_that_of_one_call_to_the_last_bit(monkeypatch, taps):
    monkeypatch.setattr(convolution, "PIECE_SAMPLES", 1 << 12)
    chance = np.random.default_rng(taps)
    response = chance.standard_normal(taps)
    piece = convolution.piece_samples(taps)
    for size in (1, piece, 2 * piece - 1, 2 * piece, 2 * piece + 1, 3 * piece - 1, 3 * piece + 777):
        wave = chance.standard_normal(size)
        np.testing.assert_array_equal(convolved(wave, response), oaconvolve(wave, response))


@pytest.mark.parametrize("scale", [0.0, 40.0, 100.0])
def test_freeverb_in_pieces_is_that_of_one_piece(monkeypatch, scale):
    wave = np.random.default_rng(1).standard_normal(30_011)
    whole = freeverb.freeverb(wave, room_scale=scale, rate_hz=RATE)
    for piece in (1, 999, 7000, 30_010):
        monkeypatch.setattr(freeverb, "PIECE_SAMPLES", piece)
        np.testing.assert_array_equal(freeverb.freeverb(wave, room_scale=scale, rate_hz=RATE), whole)


def test_a_comb_in_pieces_is_its_difference_equation(monkeypatch):
    monkeypatch.setattr(freeverb, "PIECE_SAMPLES", 500)
    wave = np.random.default_rng(2).standard_normal(4000)
    delay, feedback, damping = 37, 0.8, 0.3
    denominator = np.zeros(delay + 1)
    denominator[:2] = 1.0, -damping
    denominator[delay] -= feedback * (1.0 - damping)
    expected = np.pad(lfilter([1.0, -damping], denominator, wave), (delay, 0))[: wave.size]
    np.testing.assert_allclose(freeverb.combs(wave, [delay], feedback=feedback, damping=damping), expected, atol=1e-12)


def test_a_babble_holds_one_voice_at_a_time():
    num_samples = 1 << 18

    def voices():
        for number in range(6):
            yield np.random.default_rng(number).standard_normal(num_samples)

    tracemalloc.start()
    noise.babble(voices())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4.5 * 8 * num_samples  # the sum, the last voice, the next one or its share; not six


def test_coded_copies_that_are_too_many_for_memory_come_back_as_they_were(monkeypatch, tmp_path):
    monkeypatch.setattr("corpus_builder.encoded.HELD_BYTES", 1000)
    waves = {f"c-{n}": np.random.default_rng(n).integers(-9000, 9000, 2000, dtype=np.int16) for n in range(5)}
    with EncodedWaves("key", 2000, rate_hz=RATE, scratch=tmp_path) as encoded:
        for name, pcm in waves.items():
            encoded.add(name, pcm)
        assert [(wave.name, content) for wave, content in encoded] == [
            (name, flac(pcm, rate_hz=RATE)) for name, pcm in waves.items()
        ]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("seconds", "from_hz", "to_hz", "most_s"),
    [(600, 16_000, 16_000, None), (601, 16_000, 16_000, 600), (500, 44_100, 48_000, 200), (590, 96_000, 16_000, 300)],
)
def test_an_utterance_beyond_a_workers_memory_is_refused_with_what_to_do(seconds, from_hz, to_hz, most_s):
    utterance = Utterance("u", "u.wav", 0.0, seconds * from_hz, from_hz)
    reason = too_long(utterance, rate_hz=to_hz)
    assert (reason is None) == (most_s is None)
    if reason is not None:
        assert f"lasts {seconds} s" in reason
        assert f"max_s: {most_s}" in reason
