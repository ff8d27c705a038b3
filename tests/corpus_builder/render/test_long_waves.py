"""Long utterances: what is done piece by piece gives what one call would, and memory is held by waves, not by copies."""

import hashlib
import io
import os
import subprocess
import sys
import tempfile
import tracemalloc

import numpy as np
import pytest
import soundfile
from scipy.signal import lfilter, oaconvolve

from corpus_builder.distortions import additive_noise, convolution, freeverb
from corpus_builder.distortions.convolution import convolved
from corpus_builder.shards.encode import EncodedWaves, flac
from corpus_builder.shards.fingerprint import fingerprint, signs
from corpus_builder.sources.utterance import Utterance, too_long
from corpus_builder.workers.pool import WORKER_SETTINGS

RATE = 16_000


@pytest.mark.parametrize("taps", [1, 2, 163, 1001, 6400])
def test_convolution_by_blocks_is_the_whole_one(monkeypatch, taps):
    monkeypatch.setattr(convolution, "AT_ONCE", 1 << 14)  # blocks together at 163 taps, one by one at 6400
    chance = np.random.default_rng(taps)
    response = chance.standard_normal(taps)
    block = convolution.block_samples(taps)
    step = block - taps + 1
    for size in (1, step, step + 1, block, 2 * step, 4 * step - taps + 1, 4 * step + 1, 9 * step + 777):
        wave = chance.standard_normal(size)
        found, expected = convolved(wave, response), oaconvolve(wave, response)
        assert found.shape == expected.shape
        np.testing.assert_allclose(
            found, expected, rtol=0, atol=1e-13 * np.linalg.norm(response) * np.abs(wave).max() * 16
        )


def test_convolution_of_a_long_wave_holds_little_beside_its_result():
    wave, response = np.random.default_rng(0).standard_normal(1 << 21), np.ones(6400)
    tracemalloc.start()
    found = convolved(wave, response)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < found.nbytes + 12 * 8 * convolution.AT_ONCE  # oaconvolve: five waves


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


def test_coloured_noise_of_many_lengths_leaves_nothing_behind():
    program = """
from corpus_builder.distortions.additive_noise import coloured
def resident() -> int:
    return int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmRSS"))) << 10
coloured("pink", seed=1, num_samples=1_000_000, rate_hz=16_000)
before = resident()
for num_samples in range(1_000_000, 1_100_000, 10_000):
    coloured("pink", seed=1, num_samples=num_samples, rate_hz=16_000)
print((resident() - before) / 8e6)
"""
    settings = {**os.environ, **WORKER_SETTINGS}
    said = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, env=settings)
    assert float(said.stdout) < 2.0  # waves; scipy.fft keeps what it has worked out for each of the last 16 lengths


def test_a_babble_holds_one_talker_at_a_time():
    num_samples = 1 << 18

    def talkers():
        for number in range(6):
            yield np.random.default_rng(number).standard_normal(num_samples)

    tracemalloc.start()
    additive_noise.babble(talkers())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4.5 * 8 * num_samples  # the sum, the last talker, the next one or its share; not six


def test_each_coded_wave_has_its_own_name_rate_digest_and_fingerprint(monkeypatch, tmp_path):
    made = []

    class Noted(tempfile.SpooledTemporaryFile):
        def __init__(self, *arguments, **options):
            made.append((arguments, options))
            super().__init__(*arguments, **options)

    monkeypatch.setattr(tempfile, "SpooledTemporaryFile", Noted)
    pcm = np.random.default_rng(1).integers(-9000, 9000, 2000, dtype=np.int16)
    before = np.random.default_rng(2).standard_normal(2000) * 0.1
    with EncodedWaves("key", 2000, rate_hz=22_050, scratch=tmp_path) as encoded:
        encoded.add("clean", pcm)
        encoded.add("phone-0", pcm // 2, uncoded=before)
        for _ in range(2):  # as often as wanted
            (clean, content), (phone, other) = encoded
            assert soundfile.info(io.BytesIO(content)).samplerate == 22_050
            np.testing.assert_array_equal(soundfile.read(io.BytesIO(other), dtype="int16")[0], pcm // 2)
    assert (clean.name, phone.name) == ("clean", "phone-0")
    assert [clean.pcm_sha256, phone.pcm_sha256] == [
        hashlib.sha256(wave.tobytes()).hexdigest() for wave in (pcm, pcm // 2)
    ]
    sign = signs("key", 2000)
    assert clean.fingerprint == fingerprint(pcm, sign)
    assert phone.fingerprint == fingerprint(pcm // 2, sign, uncoded=before)
    assert [options["dir"] for _, options in made] == [str(tmp_path)]


def test_coded_copies_that_are_too_many_for_memory_come_back_as_they_were(monkeypatch, tmp_path):
    monkeypatch.setattr("corpus_builder.shards.encode.MEMORY_BYTES", 1000)
    waves = {f"c-{n}": np.random.default_rng(n).integers(-9000, 9000, 2000, dtype=np.int16) for n in range(5)}
    with EncodedWaves("key", 2000, rate_hz=RATE, scratch=tmp_path) as encoded:
        for name, pcm in waves.items():
            encoded.add(name, pcm)
        assert [(wave.name, content) for wave, content in encoded] == [
            (name, flac(pcm, rate_hz=RATE)) for name, pcm in waves.items()
        ]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("num_frames", "from_hz", "most_s"),
    [
        (120 * 16_000, 16_000, None),
        (120 * 16_000 + 1, 16_000, "120"),
        (120 * 44_100, 44_100, None),
        (601 * 8_000, 8_000, "120"),
        (120 * 192_000, 192_000, None),
        (29_000_000, 500_000, "57.6"),
    ],
)
def test_an_utterance_beyond_a_workers_memory_is_refused_with_what_to_do(num_frames, from_hz, most_s):
    utterance = Utterance("u", "u.wav", 0.0, num_frames, from_hz)
    reason, in_manifest = too_long(utterance, in_manifest=False), too_long(utterance, in_manifest=True)
    if most_s is None:
        assert reason is None
        assert in_manifest is None
    else:
        assert reason.startswith(f"lasts {num_frames / from_hz:g} s; ")
        assert reason.endswith(f"max_s: {most_s}")
        assert f"cut_into_windows({most_s})" in in_manifest
        assert in_manifest.endswith(f"max_s: {most_s}")
