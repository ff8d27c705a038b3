"""Audio in memory is decoded no further than it should be, and said to be exact only where every decoder agrees."""

import hashlib
import io

import numpy as np
import pytest
import soundfile

from corpus_builder.audio import decode_bytes as module
from corpus_builder.audio.decode_bytes import DECODING_ERRORS, decode_bytes

PCM = np.random.default_rng(0).integers(-9000, 9000, (5000, 2), dtype=np.int16)


def coded(samples, *, form="FLAC", subtype="PCM_16", rate_hz=16_000):
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate_hz, format=form, subtype=subtype)
    return stream.getvalue()


@pytest.mark.parametrize("most", [1, 999, 1000, 4999, 5000, 5001, 10**9])
def test_no_more_samples_are_decoded_than_requested(monkeypatch, most):
    monkeypatch.setattr(module, "BLOCK_SAMPLES", 1000)
    wave = decode_bytes(coded(PCM), most_samples=most)
    expected = PCM[:most]
    assert (wave.num_samples, wave.num_channels, wave.rate_hz) == (len(expected), 2, 16_000)
    np.testing.assert_array_equal(wave.pcm, expected[:, 0])
    assert wave.pcm_sha256 == hashlib.sha256(expected.astype("<i2").tobytes()).hexdigest()
    assert wave.is_silent == (most == 1)  # one sample is a constant


def test_samples_that_are_not_kept_are_still_counted_and_digested():
    kept, dropped = (decode_bytes(coded(PCM), most_samples=9999, keep_pcm=keep) for keep in (True, False))
    assert dropped.pcm.size == 0
    assert (dropped.num_samples, dropped.pcm_sha256) == (kept.num_samples, kept.pcm_sha256)


@pytest.mark.parametrize(
    ("step", "mean", "is_silent"),
    [
        (0, 0, True),
        (0, -9000, True),
        (3, 0, True),
        (3, -9000, True),
        (4, 0, False),
        (4, -9000, False),
        (4, 30_000, False),
    ],
)
def test_a_wave_is_silent_under_minus_80_dbfs_without_its_mean(monkeypatch, step, mean, is_silent):
    """A square wave of 3 steps has -80.8 dBFS, one of 4 has -78.3."""
    monkeypatch.setattr(module, "BLOCK_SAMPLES", 1001)
    samples = np.tile([mean - step, mean + step], 2500).astype(np.int16)
    assert decode_bytes(coded(samples), most_samples=9999).is_silent == is_silent


@pytest.mark.parametrize(
    ("form", "subtype", "is_exact"),
    [("FLAC", "PCM_16", True), ("WAV", "PCM_24", True), ("WAV", "FLOAT", False), ("OGG", "VORBIS", False), ("WAV", "ULAW", False)],
)  # fmt: skip
def test_only_integer_samples_are_exact(form, subtype, is_exact):
    content = coded(PCM[:, 0], form=form, subtype=subtype)
    assert decode_bytes(content, most_samples=9999).is_exact == is_exact


@pytest.mark.parametrize("content", [b"", b"fLaC and no more", coded(PCM)[:60]])
def test_bytes_that_are_no_audio_raise_a_decoding_error(content):
    with pytest.raises(DECODING_ERRORS):
        decode_bytes(content, most_samples=9999)


def test_the_largest_sample_and_whether_all_are_finite_are_of_all_blocks_and_channels(monkeypatch):
    monkeypatch.setattr(module, "BLOCK_SAMPLES", 100)
    wave = np.full((350, 2), 0.25)
    wave[3, 1] = -1.75
    found = decode_bytes(coded(wave, form="WAV", subtype="FLOAT", rate_hz=8_000), most_samples=340)
    assert (found.peak, found.is_finite, found.header_samples, found.num_samples) == (1.75, True, 350, 340)
    wave[3, 1] = np.inf
    assert not decode_bytes(coded(wave, form="WAV", subtype="DOUBLE"), most_samples=340).is_finite


@pytest.mark.parametrize(
    ("subtype", "dtype", "shift"),
    [("PCM_U8", "int16", 0), ("PCM_24", "int32", 16), ("PCM_32", "int32", 16), ("ULAW", "int16", 0)],
)
def test_integer_samples_are_their_upper_16_bits(subtype, dtype, shift):
    content = coded(np.random.default_rng(4).uniform(-0.9, 0.9, (500, 2)), form="WAV", subtype=subtype)
    expected = soundfile.read(io.BytesIO(content), dtype=dtype)[0] >> shift
    found = decode_bytes(content, most_samples=1000)
    np.testing.assert_array_equal(found.pcm, expected[:, 0])
    assert found.pcm_sha256 == hashlib.sha256(expected.astype("<i2").tobytes()).hexdigest()
    assert found.peak == 0.0


def test_a_wave_is_silent_by_all_its_blocks(monkeypatch):
    monkeypatch.setattr(module, "BLOCK_SAMPLES", 100)
    pcm = np.zeros((300, 1), np.int16)
    pcm[:50] = 900
    assert not decode_bytes(coded(pcm), most_samples=300).is_silent
    pcm = np.repeat(np.array([9, -9, 9], np.int16), 100)  # each block is a constant
    assert not decode_bytes(coded(pcm), most_samples=300).is_silent
