"""Waves that verification decodes: samples, digest, level and what is wrong with them, of files that are written here."""

from __future__ import annotations

import hashlib
import io
import math
from typing import Any

import numpy as np
import pytest
import soundfile

from corpus_builder.verify import wave_decoder
from corpus_builder.verify.wave_decoder import decoded_wave


def file_of(wave: Any, subtype: str, rate_hz: int = 8000) -> bytes:
    content = io.BytesIO()
    soundfile.write(content, wave, rate_hz, format="WAV", subtype=subtype)
    return content.getvalue()


def pcm_digest(samples: Any) -> str:
    return hashlib.sha256(np.asarray(samples, dtype="<i2").tobytes()).hexdigest()


def test_samples_of_integers_are_those_of_the_file_up_to_what_is_wanted() -> None:
    pcm = np.array([[100, -3], [32767, 5], [-32768, 7], [9, 11]], dtype=np.int16)
    content = file_of(pcm, "PCM_16", rate_hz=11_025)
    whole = decoded_wave(content, most_samples=9, keep_pcm=True)
    assert (whole.header_samples, whole.num_samples, whole.num_channels, whole.rate_hz) == (4, 4, 2, 11_025)
    assert whole.pcm_sha256 == pcm_digest(pcm)
    assert whole.pcm is not None
    assert whole.pcm.tolist() == [100, 32767, -32768, 9]
    assert whole.problem is None
    part = decoded_wave(content, most_samples=3, keep_pcm=False)
    assert (part.header_samples, part.num_samples, part.pcm) == (4, 3, None)
    assert part.pcm_sha256 == pcm_digest(pcm[:3])


def test_floats_are_rounded_to_integers_and_end_at_full_scale() -> None:
    wave = np.array([0.5, -1.0, 1.0, 0.6 / 32768, -0.6 / 32768, 0.4 / 32768, 32766.9 / 32768])
    found = decoded_wave(file_of(wave, "DOUBLE"), most_samples=99, keep_pcm=True)
    assert found.pcm is not None
    assert found.pcm.tolist() == [16384, -32768, 32767, 1, -1, 0, 32767]
    assert found.problem is None, "full scale itself is no problem"
    assert found.pcm_sha256 == pcm_digest(found.pcm)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (1.25, "has a peak of 1.25, beyond full scale (1)"), (-2.5, "has a peak of 2.5, beyond full scale (1)"),
        (math.nan, "holds NaN or infinite samples"), (-math.inf, "holds NaN or infinite samples"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", [0, 5])
def test_what_training_would_stumble_over_is_named_in_whichever_block(
    value: float, problem: str, place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wave_decoder, "BLOCK_SAMPLES", 2)
    wave = np.full(6, 0.25)
    wave[place] = value
    assert decoded_wave(file_of(wave, "FLOAT"), most_samples=6, keep_pcm=False).problem == problem


def test_the_first_problem_of_a_wave_is_the_one_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wave_decoder, "BLOCK_SAMPLES", 2)
    wave = np.array([0.0, 1.5, 0.0, 3.0])
    assert decoded_wave(file_of(wave, "FLOAT"), most_samples=4, keep_pcm=False).problem == (
        "has a peak of 1.5, beyond full scale (1)"
    )


@pytest.mark.parametrize("block", [3, 1 << 18])
def test_a_level_is_that_of_the_whole_wave_without_its_mean(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of three with means far apart, the last of them shorter; channels count alike."""
    monkeypatch.setattr(wave_decoder, "BLOCK_SAMPLES", block)
    pcm = np.random.RandomState(0).randint(-900, 900, (11, 2))
    pcm[:4] += 20_000
    content = file_of(pcm.astype(np.int16), "PCM_16")
    expected = 20 * math.log10(float(np.std(pcm)) / 32768)
    assert decoded_wave(content, most_samples=99, keep_pcm=False).level_dbfs == pytest.approx(expected, abs=1e-9)
    first = 20 * math.log10(float(np.std(pcm[:5])) / 32768)
    assert decoded_wave(content, most_samples=5, keep_pcm=False).level_dbfs == pytest.approx(first, abs=1e-9)
    constant = file_of(np.full(11, 123, dtype=np.int16), "PCM_16")
    assert decoded_wave(constant, most_samples=99, keep_pcm=False).level_dbfs == -math.inf
